//! How messages lie in a log: chunk size and message stream id, and the arithmetic of chunk boundaries.
//!
//! Every message is written with a fmt 0 header, so a player can begin at any of them. Offsets count bytes since the
//! log's beginning, headers included; segments do not interrupt them.

use bytes::{BufMut, Bytes, BytesMut};

use super::headers::HeaderSet;
use crate::{
    media::SET_DATA_FRAME,
    rtmp::{
        chunk::header::EncodedHeader,
        message::{Header, Kind, media_csid},
    },
};

/// The form of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The message stream id written; 1 in the common form. At most [`crate::limits::MESSAGE_STREAMS_MAX`].
    pub stream_id: u32,
    /// Payload bytes per chunk.
    pub chunk_bytes: usize,
    /// As a publisher sends it: `@setDataFrame` stands before metadata.
    pub published: bool,
}

/// Timestamps from here on are written in 4 more bytes of every chunk header (RTMP 1.0, 5.3.1.3).
const EXTENDED_TIMESTAMP: u32 = 0xFF_FFFF;

impl Layout {
    /// The headers of a message's first and of its later chunks.
    pub fn headers(self, kind: Kind, timestamp: u32, length: usize) -> (EncodedHeader, EncodedHeader) {
        let csid = media_csid(kind, self.stream_id);
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let header = Header { csid, timestamp, length, type_id: kind.type_id(), stream_id: self.stream_id };
        (EncodedHeader::full(&header), EncodedHeader::continuation(csid, timestamp))
    }

    /// The last chunk boundary at or below `limit` of a message that begins at `message`. Boundaries lie behind each of
    /// its chunks; `None` if not even the first chunk ends by `limit`.
    pub fn chunk_boundary(self, message: u64, timestamp: u32, limit: u64) -> Option<u64> {
        let extended = if timestamp >= EXTENDED_TIMESTAMP { 4 } else { 0 };
        let chunk = self.chunk_bytes as u64;
        let first_end = message + 12 + extended + chunk;
        let rest = limit.checked_sub(first_end)?;
        let later = 1 + extended + chunk;
        Some(first_end + rest / later * later)
    }

    /// What a player receives before the first message: metadata at timestamp 0 (with another one FFmpeg invents a data
    /// stream and probes for seconds), then the sequence headers, each kind's at its `timestamp`.
    pub fn prologue(
        self,
        headers: &HeaderSet,
        timestamp: impl Fn(Kind) -> u32,
        wanted: impl Fn(Kind) -> bool,
    ) -> Bytes {
        let mut out = BytesMut::new();
        for header in headers.in_order().filter(|header| wanted(header.kind)) {
            match header.kind {
                Kind::Data if self.published => {
                    self.encode(Kind::Data, 0, &[SET_DATA_FRAME, &header.payload].concat(), &mut out);
                }
                Kind::Data => self.encode(Kind::Data, 0, &header.payload, &mut out),
                kind => self.encode(kind, timestamp(kind), &header.payload, &mut out),
            }
        }
        out.freeze()
    }

    fn encode(self, kind: Kind, timestamp: u32, payload: &[u8], out: &mut BytesMut) {
        let (first, later) = self.headers(kind, timestamp, payload.len());
        out.put_slice(first.as_slice());
        for (index, chunk) in payload.chunks(self.chunk_bytes).enumerate() {
            if index > 0 {
                out.put_slice(later.as_slice());
            }
            out.put_slice(chunk);
        }
    }
}
