//! What one shard holds of a log: the segments, the index of messages, the newest join point.
//!
//! The owner's window is fed by [`super::log::LogWriter`], a follower's by [`super::feed::Feed`]s; players read both in
//! the same way. All offsets are log offsets. `start <= released <= head`; `head` and `released` lie between messages.
//! Bounds: the index by [`INDEX_ENTRIES_MAX`], the bytes by what [`Window::prune`] is told to keep.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use bytes::Bytes;

use super::{headers::HeaderSet, layout::Layout, segment::Segment};
use crate::{
    limits::{FLUSH_BYTES_MAX, HEADER_ENTRIES_MAX, INDEX_ENTRIES_MAX},
    rtmp::message::Kind,
    sync,
};

/// One message of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Of its first chunk's header.
    pub offset: u64,
    /// Milliseconds modulo 2^32, as players see it.
    pub timestamp: u32,
    /// When the owner got it: milliseconds of the owner's time, modulo 2^32.
    pub arrived_ms: u32,
    /// Version of the headers in force before it.
    pub headers: u32,
    pub kind: Kind,
}

/// Where players may begin.
#[derive(Clone, Debug)]
pub struct JoinPoint {
    pub offset: u64,
    pub timestamp: u32,
    pub arrived_ms: u32,
    /// In force at `offset`.
    pub headers: Arc<HeaderSet>,
}

/// Timestamps of the last audio and the last video message before a window.
#[derive(Clone, Copy, Debug, Default)]
pub struct Passed {
    audio: Option<u32>,
    video: Option<u32>,
}

impl Passed {
    pub(super) fn note(&mut self, entry: &Entry) {
        match entry.kind {
            Kind::Audio => self.audio = Some(entry.timestamp),
            Kind::Video => self.video = Some(entry.timestamp),
            Kind::Data => {}
        }
    }

    fn last(self, kind: Kind) -> Option<u32> {
        match kind {
            Kind::Audio => self.audio,
            Kind::Video => self.video,
            Kind::Data => None,
        }
    }
}

/// Bytes of a segment to send.
#[derive(Clone, Debug)]
pub struct LogSlice {
    pub segment: sync::Arc<Segment>,
    pub range: Range<u64>,
}

/// See the file's head.
#[derive(Debug)]
pub struct Window {
    layout: Layout,
    segments: VecDeque<sync::Arc<Segment>>,
    entries: VecDeque<Entry>,
    /// Messages ever dropped from the front of `entries`.
    dropped: u64,
    passed: Passed,
    join: Option<JoinPoint>,
    /// The log's first one, for players that waited for the log.
    first: Option<JoinPoint>,
    /// A message that may yet become a join point is held.
    hold: Option<u64>,
    headers: Arc<HeaderSet>,
    head: u64,
    released: u64,
    start: u64,
    ended: bool,
    /// The last slice cut: players in step ask for the same one.
    cut: Option<(u64, u64, LogSlice)>,
    /// The prologue of the newest join point, once a player asked for it.
    prologue: Option<((u64, u32, u32), Bytes)>,
}

impl Window {
    pub fn new(layout: Layout, start: u64) -> Self {
        Self {
            layout,
            segments: VecDeque::new(),
            entries: VecDeque::new(),
            dropped: 0,
            passed: Passed::default(),
            join: None,
            first: None,
            hold: None,
            headers: Arc::default(),
            head: start,
            released: start,
            start,
            ended: false,
            cut: None,
            prologue: None,
        }
    }

    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// After the last message.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// Up to here players in step are sent; messages above are being merged.
    pub fn released(&self) -> u64 {
        self.released
    }

    /// The oldest offset that can still be read.
    pub fn start(&self) -> u64 {
        self.start
    }

    pub fn ended(&self) -> bool {
        self.ended
    }

    pub fn join(&self) -> Option<&JoinPoint> {
        self.join.as_ref()
    }

    /// The log's first join point, while it is held.
    pub fn first_join(&self) -> Option<&JoinPoint> {
        self.first.as_ref().filter(|join| join.offset >= self.start)
    }

    pub(super) fn set_first(&mut self, first: Option<JoinPoint>) {
        self.first = self.first.take().or(first);
    }

    /// The headers in force at the head.
    pub fn headers(&self) -> &Arc<HeaderSet> {
        &self.headers
    }

    /// Sequence number of the next message.
    pub fn next_sequence(&self) -> u64 {
        self.dropped + self.entries.len() as u64
    }

    /// Sequence number of the oldest message indexed.
    pub fn first_sequence(&self) -> u64 {
        self.dropped
    }

    pub fn entries_from(&self, sequence: u64) -> impl Iterator<Item = &Entry> {
        let skip = usize::try_from(sequence.saturating_sub(self.dropped)).unwrap_or(usize::MAX);
        self.entries.range(skip.min(self.entries.len())..)
    }

    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &sync::Arc<Segment>> {
        self.segments.iter()
    }

    pub fn newest_entry(&self) -> Option<&Entry> {
        self.entries.back()
    }

    pub(super) fn push_segment(&mut self, segment: sync::Arc<Segment>) {
        self.segments.push_back(segment);
    }

    /// Adds a message that ends at `head`.
    pub(super) fn push_entry(&mut self, entry: Entry, head: u64) {
        debug_assert!(entry.offset == self.head && head > entry.offset);
        self.entries.push_back(entry);
        self.head = head;
        while self.entries.len() > INDEX_ENTRIES_MAX {
            self.drop_entry();
            self.start = self.entries.front().map_or(self.head, |entry| entry.offset);
        }
        self.join.take_if(|join| join.offset < self.start);
        self.hold.take_if(|hold| *hold < self.start);
    }

    pub(super) fn set_join(&mut self, join: Option<JoinPoint>) {
        self.first = self.first.take().or_else(|| join.clone());
        self.join = join;
    }

    /// Messages from `offset` on are kept as if a join point were there.
    pub(super) fn set_hold(&mut self, offset: Option<u64>) {
        self.hold = offset.filter(|offset| *offset >= self.start);
    }

    pub(super) fn hold(&self) -> Option<u64> {
        self.hold
    }

    pub(super) fn set_headers(&mut self, headers: Arc<HeaderSet>) {
        self.headers = headers;
    }

    /// Nothing more will come.
    pub fn set_end(&mut self) {
        self.ended = true;
    }

    /// Lets players in step have everything.
    pub fn release(&mut self) {
        self.released = self.head;
    }

    /// Whether what is not released yet is audio and nothing else.
    pub fn gathers_audio_only(&self) -> bool {
        let gathered = self.entries.iter().rev().take_while(|entry| entry.offset >= self.released);
        self.released < self.head && gathered.into_iter().all(|entry| entry.kind == Kind::Audio)
    }

    /// Lets players in step have whole flushes only, so that merging by size leaves no small tail to send. True if that
    /// was anything.
    pub fn release_whole_flushes(&mut self) -> bool {
        let before = self.released;
        while self.head - self.released >= FLUSH_BYTES_MAX as u64 {
            let next = self.boundary(self.released, self.released + FLUSH_BYTES_MAX as u64);
            // A message longer than a flush is let go whole: `released` stays between messages.
            self.released = if self.is_message_boundary(next) { next } else { self.message_end(self.released) };
        }
        self.released != before
    }

    /// The bytes from `cursor` to send next, at most one flush and at most up to `upto`: they end between messages, or
    /// between chunks of a message that is longer. `None` if there are none, or `cursor` is no longer held.
    pub fn slice(&mut self, cursor: u64, upto: u64) -> Option<LogSlice> {
        if let Some((from, to, slice)) = &self.cut
            && (*from, *to) == (cursor, upto)
        {
            return Some(slice.clone());
        }
        let slice = self.cut_slice(cursor, upto)?;
        self.cut = Some((cursor, upto, slice.clone()));
        Some(slice)
    }

    fn cut_slice(&self, cursor: u64, upto: u64) -> Option<LogSlice> {
        let upto = upto.min(self.head);
        if cursor < self.start || cursor >= upto {
            return None;
        }
        let index = self.segments.partition_point(|segment| segment.base() <= cursor).checked_sub(1)?;
        let segment = self.segments.get(index)?;
        let segment_end = self.segments.get(index + 1).map_or(self.head, |next| next.base());
        let flush_end = cursor + FLUSH_BYTES_MAX as u64;
        let end =
            if upto.min(segment_end) <= flush_end { upto.min(segment_end) } else { self.boundary(cursor, flush_end) };
        Some(LogSlice { segment: segment.clone(), range: cursor..end })
    }

    /// The exact bytes of `range`, which must lie in one segment.
    pub fn exact(&self, range: Range<u64>) -> Option<LogSlice> {
        let index = self.segments.partition_point(|segment| segment.base() <= range.start).checked_sub(1)?;
        let segment = self.segments.get(index)?;
        (range.end <= segment.end()).then(|| LogSlice { segment: segment.clone(), range })
    }

    /// The last message boundary in `(cursor, limit]`, else the last chunk boundary there.
    fn boundary(&self, cursor: u64, limit: u64) -> u64 {
        let after = self.entries.partition_point(|entry| entry.offset <= limit);
        let Some(entry) = after.checked_sub(1).and_then(|index| self.entries.get(index)) else { return limit };
        if entry.offset > cursor {
            return entry.offset;
        }
        self.layout
            .chunk_boundary(entry.offset, entry.timestamp, limit)
            .filter(|boundary| *boundary > cursor)
            .unwrap_or(limit)
    }

    fn containing(&self, offset: u64) -> Option<&Entry> {
        if offset >= self.head {
            return None;
        }
        self.entries.get(self.entries.partition_point(|entry| entry.offset <= offset).checked_sub(1)?)
    }

    /// Whether a message begins at `offset`, or will.
    pub fn is_message_boundary(&self, offset: u64) -> bool {
        offset == self.head || self.containing(offset).is_some_and(|entry| entry.offset == offset)
    }

    /// The end of the message that `offset` lies in.
    pub fn message_end(&self, offset: u64) -> u64 {
        let next = self.entries.partition_point(|entry| entry.offset <= offset);
        self.entries.get(next).map_or(self.head, |entry| entry.offset)
    }

    /// Version of the headers a player at `offset` last received.
    pub fn headers_at(&self, offset: u64) -> u32 {
        self.containing(offset).map_or(self.headers.version(), |entry| entry.headers)
    }

    /// How far `cursor` is behind, in milliseconds of arrival. Zero at the head.
    pub fn lag_ms(&self, cursor: u64) -> u32 {
        let Some(newest) = self.entries.back() else { return 0 };
        if cursor < self.start {
            return u32::MAX;
        }
        self.containing(cursor).map_or(0, |entry| newest.arrived_ms.wrapping_sub(entry.arrived_ms))
    }

    /// The first offset whose message arrived within `age_ms` of the newest.
    pub fn arrived_within(&self, age_ms: u32) -> u64 {
        let Some(newest) = self.entries.back() else { return self.head };
        let old = |entry: &Entry| newest.arrived_ms.wrapping_sub(entry.arrived_ms) > age_ms;
        self.entries.get(self.entries.partition_point(old)).map_or(self.head, |entry| entry.offset)
    }

    /// The metadata and sequence headers for a player that begins at `offset`, encoded once for all that begin there.
    pub fn prologue(
        &mut self,
        offset: u64,
        timestamp: u32,
        headers: &HeaderSet,
        wanted: impl Fn(Kind) -> bool,
    ) -> Bytes {
        let place = (offset, timestamp, headers.version());
        if let Some((at, bytes)) = &self.prologue
            && *at == place
        {
            return bytes.clone();
        }
        let bytes = self.layout.prologue(headers, |kind| self.header_timestamp(kind, offset, timestamp), wanted);
        self.prologue = Some((place, bytes.clone()));
        bytes
    }

    /// What headers of `kind` are sent with before `offset`: not later than the kind's next message, which may be a little
    /// earlier than the keyframe joined at.
    fn header_timestamp(&self, kind: Kind, offset: u64, timestamp: u32) -> u32 {
        let from = self.entries.partition_point(|entry| entry.offset < offset);
        let until = self.entries.len().min(from + HEADER_ENTRIES_MAX);
        let before = self.entries.range(from.saturating_sub(HEADER_ENTRIES_MAX)..from).rev();
        let nearest = self.entries.range(from..until).chain(before).find(|entry| entry.kind == kind);
        let nearest = nearest.map(|entry| entry.timestamp).or(self.passed.last(kind));
        nearest.filter(|nearest| timestamp.wrapping_sub(*nearest) < 1 << 31).unwrap_or(timestamp)
    }

    /// Forgets what lies before `keep_from`, except the messages of the newest join point and of one that may come.
    pub fn prune(&mut self, keep_from: u64) {
        let kept = self.join.as_ref().map(|join| join.offset).into_iter().chain(self.hold);
        let keep_from = kept.fold(keep_from.min(self.head), u64::min);
        if keep_from <= self.start {
            return;
        }
        while self.entries.get(1).is_some_and(|second| second.offset <= keep_from) {
            self.drop_entry();
        }
        while self.segments.get(1).is_some_and(|second| second.base() <= keep_from) {
            self.segments.pop_front();
        }
        let oldest_message = self.entries.front().map_or(self.head, |entry| entry.offset);
        let oldest_byte = self.segments.front().map_or(self.head, |segment| segment.base());
        self.start = oldest_message.max(oldest_byte).max(self.start);
        self.cut = None;
    }

    fn drop_entry(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.passed.note(&entry);
            self.dropped += 1;
        }
    }

    /// What was before `offset`.
    pub(super) fn passed_before(&self, offset: u64) -> Passed {
        let mut passed = self.passed;
        self.entries.iter().take_while(|entry| entry.offset < offset).for_each(|entry| passed.note(entry));
        passed
    }

    /// Copies the payload of the message at `sequence` out of its chunks, for a view that begins later.
    pub fn payload(&self, sequence: u64) -> Option<(Entry, Vec<u8>)> {
        let index = usize::try_from(sequence.checked_sub(self.dropped)?).ok()?;
        let entry = *self.entries.get(index)?;
        let end = self.entries.get(index + 1).map_or(self.head, |next| next.offset);
        let (first, later) = self.layout.headers(entry.kind, entry.timestamp, 0);
        let mut payload = Vec::new();
        let mut at = entry.offset;
        let mut header = first.as_slice().len() as u64;
        while at + header <= end {
            at += header;
            let chunk_end = end.min(at + self.layout.chunk_bytes as u64);
            self.copy(at..chunk_end, &mut payload)?;
            at = chunk_end;
            header = later.as_slice().len() as u64;
            if at == end {
                break;
            }
        }
        Some((entry, payload))
    }

    fn copy(&self, range: Range<u64>, out: &mut Vec<u8>) -> Option<()> {
        if range.is_empty() {
            return Some(());
        }
        let slice = self.exact(range)?;
        out.extend(slice.segment.get(slice.range)?);
        Some(())
    }

    /// Bytes of the segments held.
    pub fn held_bytes(&self) -> u64 {
        self.segments.front().map_or(0, |first| self.head.saturating_sub(first.base()))
    }

    pub(super) fn restart(&mut self, start: u64, passed: Passed) {
        self.passed = passed;
        self.first = None;
        self.segments.clear();
        self.entries.clear();
        self.dropped = 0;
        self.join = None;
        self.hold = None;
        self.start = start;
        self.head = start;
        self.cut = None;
    }
}
