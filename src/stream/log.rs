//! The owner's end of a log: messages in, ready-to-send chunks out, join points marked.
//!
//! Driven by `ingress`. Each message is copied once, into the newest segment, and published as a whole.

use std::sync::Arc;

use super::{
    headers::HeaderSet,
    layout::Layout,
    segment::{LogGauge, SegmentWriter},
    window::{Entry, JoinPoint, Window},
};
use crate::{
    limits,
    rtmp::{chunk::header::HEADER_BYTES_MAX, message::Kind},
    sync,
};

/// How long and how large a GOP may be for joiners to begin at its keyframe.
#[derive(Clone, Copy, Debug)]
pub struct JoinBounds {
    pub gop_bytes_max: usize,
}

/// Appends to one log.
#[derive(Debug)]
pub struct LogWriter {
    window: Window,
    writer: SegmentWriter,
    segment_bytes: usize,
    gauge: LogGauge,
}

impl LogWriter {
    /// An empty log. `segment_bytes` holds at least one chunk with its header.
    pub fn new(layout: Layout, segment_bytes: usize, gauge: &LogGauge) -> Self {
        let least = layout.chunk_bytes + HEADER_BYTES_MAX;
        let segment_bytes = segment_bytes.max(least);
        // Most of what is published for a moment never fills a large one.
        let writer = SegmentWriter::new(0, segment_bytes.min(limits::SEGMENT_BYTES_FIRST), gauge);
        let mut window = Window::new(layout, 0);
        window.push_segment(writer.segment().clone());
        Self { window, writer, segment_bytes, gauge: gauge.clone() }
    }

    pub fn window(&self) -> &Window {
        &self.window
    }

    pub fn window_mut(&mut self) -> &mut Window {
        &mut self.window
    }

    /// Appends a message and returns its offset. True if it began a new segment.
    pub fn append(&mut self, kind: Kind, timestamp: u32, arrived_ms: u32, payload: &[u8]) -> (u64, bool) {
        let offset = self.window.head();
        let (first, later) = self.window.layout().headers(kind, timestamp, payload.len());
        let chunk_bytes = self.window.layout().chunk_bytes;
        let mut rolled = self.append_chunk(first.as_slice(), &payload[..payload.len().min(chunk_bytes)]);
        for chunk in payload.chunks(chunk_bytes).skip(1) {
            rolled |= self.append_chunk(later.as_slice(), chunk);
        }
        self.writer.publish();
        let entry = Entry { offset, timestamp, arrived_ms, headers: self.window.headers().version(), kind };
        let head = self.writer.segment().end();
        self.window.push_entry(entry, head);
        (offset, rolled)
    }

    fn append_chunk(&mut self, header: &[u8], payload: &[u8]) -> bool {
        let length = header.len() + payload.len();
        let rolled = self.writer.room() < length;
        if rolled {
            self.writer.publish();
            let base = self.writer.segment().end();
            let capacity = (self.writer.capacity() * 2).max(length).min(self.segment_bytes);
            self.writer = SegmentWriter::new(base, capacity, &self.gauge);
            self.window.push_segment(sync::Arc::clone(self.writer.segment()));
        }
        let written = self.writer.write(header) && self.writer.write(payload);
        debug_assert!(written, "a chunk fits in an empty segment");
        rolled
    }

    /// Headers changed: they are in force from the head on.
    pub fn set_headers(&mut self, headers: Arc<HeaderSet>) {
        self.window.set_headers(headers);
    }

    /// Marks the message at `offset` as the newest join point.
    pub fn mark_join(&mut self, offset: u64, timestamp: u32, arrived_ms: u32, headers: Arc<HeaderSet>) {
        self.window.set_join(Some(JoinPoint { offset, timestamp, arrived_ms, headers }));
    }

    /// Keeps the message at `offset` because it may become a join point, unless more is behind it than `bounds` allow.
    pub fn hold(&mut self, offset: Option<u64>, bounds: JoinBounds) {
        let head = self.window.head();
        self.window.set_hold(offset.filter(|offset| head - offset <= bounds.gop_bytes_max as u64));
    }

    /// Gives the join point up once the messages behind it are more, or older, than `bounds` allow.
    pub fn expire_join(&mut self, arrived_ms: u32, bounds: JoinBounds) {
        let Some(join) = self.window.join() else { return };
        let bytes = self.window.head() - join.offset;
        let age_ms = arrived_ms.wrapping_sub(join.arrived_ms);
        if bytes > bounds.gop_bytes_max as u64 || u128::from(age_ms) > limits::GOP_AGE_MAX.as_millis() {
            self.window.set_join(None);
        }
    }

    /// No more messages will come.
    pub fn end(&mut self) {
        self.window.release();
        self.window.set_end();
    }
}
