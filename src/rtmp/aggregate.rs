//! Aggregate messages (RTMP 1.0, 7.1.6): FLV tags in one message, delivered one by one.
//!
//! The message's bytes (at most 0xFFFFFF) are copied and kept until its last part was delivered. Parts that are not audio,
//! video or data (an aggregate in an aggregate among them) are left out; a part that overruns the message ends it, and so
//! does one beyond [`AGGREGATE_PARTS_MAX`].

use std::ops::Range;

use super::message::{Kind, Message, type_id};
use crate::limits::AGGREGATE_PARTS_MAX;

/// Bytes before a part's payload: type, size (24 bits), timestamp (24 + 8 bits), message stream id (24 bits).
const PART_HEADER_BYTES: usize = 11;
/// The previous-tag size behind a part's payload.
const BACK_POINTER_BYTES: usize = 4;

/// An aggregate message and how far it was delivered.
#[derive(Debug)]
pub(super) struct Aggregate {
    pub(super) stream: u32,
    bytes: Vec<u8>,
    at: usize,
    /// Parts so far, those left out among them.
    parts: u32,
    timestamp: u32,
    /// The first part's own timestamp: the message's timestamp stands for it.
    first: Option<u32>,
    /// Where the payload of the last part is.
    payload: Range<usize>,
}

/// One part's header; its payload is [`Aggregate::payload`] until the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) kind: Kind,
    pub(super) timestamp: u32,
}

/// What the next bytes of an aggregate are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Part(Part),
    /// Something that is not delivered: another type, or an overrun.
    Skipped,
    End,
}

impl Aggregate {
    pub(super) fn new(stream: u32, message: &Message<'_>) -> Self {
        let timestamp = message.header.timestamp;
        Self { stream, bytes: message.payload.to_vec(), at: 0, parts: 0, timestamp, first: None, payload: 0..0 }
    }

    pub(super) fn next(&mut self) -> Next {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return Next::End;
        }
        let Some((&[kind, a, b, c, t1, t2, t3, t0, ..], body)) = rest.split_first_chunk::<PART_HEADER_BYTES>() else {
            return self.overrun();
        };
        let size = u32::from_be_bytes([0, a, b, c]) as usize;
        self.parts += 1;
        if size > body.len() || self.parts > AGGREGATE_PARTS_MAX {
            return self.overrun();
        }
        let own = u32::from_be_bytes([t0, t1, t2, t3]);
        let start = self.at + PART_HEADER_BYTES;
        self.payload = start..start + size;
        self.at = self.bytes.len().min(self.payload.end + BACK_POINTER_BYTES);
        let first = *self.first.get_or_insert(own);
        let timestamp = self.timestamp.wrapping_add(own.wrapping_sub(first));
        let kind = match kind {
            type_id::AUDIO => Kind::Audio,
            type_id::VIDEO => Kind::Video,
            type_id::DATA_AMF0 => Kind::Data,
            _ => return Next::Skipped,
        };
        Next::Part(Part { kind, timestamp })
    }

    /// What is left is not looked at.
    fn overrun(&mut self) -> Next {
        self.at = self.bytes.len();
        Next::Skipped
    }

    /// The payload of the part that [`next`](Self::next) gave last.
    pub(super) fn payload(&self) -> &[u8] {
        self.bytes.get(self.payload.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtmp::message::Header;

    fn tag(kind: u8, timestamp: u32, payload: &[u8]) -> Vec<u8> {
        let [t0, t1, t2, t3] = timestamp.to_be_bytes();
        let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
        let mut tag = vec![kind, a, b, c, t1, t2, t3, t0, 0, 0, 0];
        tag.extend_from_slice(payload);
        tag.extend_from_slice(&(payload.len() as u32 + 11).to_be_bytes());
        tag
    }

    fn parts(payload: &[u8]) -> (Vec<(Kind, u32, Vec<u8>)>, usize) {
        let header = Header { csid: 4, timestamp: 5_000, length: 0, type_id: type_id::AGGREGATE, stream_id: 1 };
        let mut aggregate = Aggregate::new(1, &Message { header, payload });
        let (mut parts, mut skipped) = (Vec::new(), 0);
        loop {
            match aggregate.next() {
                Next::Part(part) => parts.push((part.kind, part.timestamp, aggregate.payload().to_vec())),
                Next::Skipped => skipped += 1,
                Next::End => return (parts, skipped),
            }
        }
    }

    #[test]
    fn parts_are_rebased_onto_the_messages_timestamp() {
        let bytes = [tag(8, 0xFF00_0001, b"a"), tag(9, 0xFF00_0011, b""), tag(18, 0xFF00_0000, b"d")].concat();
        let expected =
            vec![(Kind::Audio, 5_000, b"a".to_vec()), (Kind::Video, 5_016, vec![]), (Kind::Data, 4_999, b"d".to_vec())];
        assert_eq!(parts(&bytes), (expected, 0));
    }

    #[test]
    fn a_million_empty_parts_are_not_delivered() {
        let (delivered, skipped) = parts(&tag(8, 0, b"").repeat(100_000));
        assert_eq!((delivered.len(), skipped), (AGGREGATE_PARTS_MAX as usize, 1));
    }

    #[test]
    fn nested_aggregates_and_overruns_are_left_out() {
        let nested = tag(22, 0, &tag(8, 0, b"a"));
        assert_eq!(parts(&[nested, tag(9, 7, b"v")].concat()), (vec![(Kind::Video, 5_007, b"v".to_vec())], 1));
        let mut overrun = tag(8, 0, b"abc");
        overrun[3] = 200;
        assert_eq!(parts(&overrun), (vec![], 1));
    }

    #[test]
    fn an_aggregate_cut_at_any_byte_delivers_whole_parts_only() {
        let bytes = [tag(8, 1, b"abc"), tag(9, 2, b"def")].concat();
        for end in 0..bytes.len() {
            let (parts, _) = parts(&bytes[..end]);
            assert_eq!(parts.len(), usize::from(end >= 14) + usize::from(end >= 32), "{end}");
        }
    }
}
