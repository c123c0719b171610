//! The layout of chunk headers (RTMP 1.0, sections 5.3.1.1 to 5.3.1.3): basic header, message header, extended timestamp.
//!
//! Pure functions over bytes. Which header a message gets is the writer's business, what a header means to a csid the
//! reader's.

use crate::rtmp::message::Header;

/// Longest chunk header: 3 bytes of basic header, 11 of message header, 4 of extended timestamp.
pub const HEADER_BYTES_MAX: usize = 18;

/// Smallest and largest chunk stream id (5.3.1.1).
pub const CSID_MIN: u32 = 2;
pub const CSID_MAX: u32 = 65_599;

/// A timestamp field of this value says that the timestamp follows in four bytes of its own.
pub(super) const EXTENDED: u32 = 0xFF_FFFF;

/// The four forms of a chunk header, by what they leave out (5.3.1.2).
pub(super) mod fmt {
    pub(crate) const FULL: u8 = 0;
    pub(crate) const SAME_STREAM: u8 = 1;
    pub(crate) const SAME_LENGTH: u8 = 2;
    pub(crate) const NOTHING: u8 = 3;
}

/// A parsed basic header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Basic {
    pub(super) fmt: u8,
    pub(super) csid: u32,
    /// Bytes it took: 1 to 3, whether minimal or not.
    pub(super) len: usize,
}

impl Basic {
    /// `None` if `bytes` ends inside it.
    #[inline]
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (&first, rest) = bytes.split_first()?;
        let fmt = first >> 6;
        Some(match first & 0x3F {
            0 => Self { fmt, csid: 64 + u32::from(*rest.first()?), len: 2 },
            1 => {
                let &[low, high, ..] = rest else { return None };
                Self { fmt, csid: 64 + u32::from(u16::from_le_bytes([low, high])), len: 3 }
            }
            csid => Self { fmt, csid: u32::from(csid), len: 1 },
        })
    }

    /// The basic header of a csid that has one of a single byte: 2 to 63.
    pub(super) fn one_byte(fmt: u8, csid: u32) -> Option<u8> {
        (CSID_MIN..64).contains(&csid).then_some(fmt << 6 | csid as u8)
    }
}

/// A parsed message header of fmt 0, 1 or 2, its extended timestamp included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MessageHeader {
    /// Absolute for fmt 0, a delta for fmt 1 and 2.
    pub(super) time: u32,
    /// `time` came as an extended timestamp.
    pub(super) extended: bool,
    /// Length and type, absent from fmt 2.
    pub(super) shape: Option<(u32, u8)>,
    /// Message stream id, fmt 0 only.
    pub(super) stream_id: Option<u32>,
    /// Bytes it took.
    pub(super) len: usize,
}

impl MessageHeader {
    /// Parses what follows the basic header of a fmt 0, 1 or 2 chunk; `None` if `bytes` ends inside it.
    pub(super) fn parse(fmt: u8, bytes: &[u8]) -> Option<Self> {
        let field = u24(bytes.get(..3)?)?;
        let shape = match fmt {
            fmt::FULL | fmt::SAME_STREAM => Some((u24(bytes.get(3..6)?)?, *bytes.get(6)?)),
            _ => None,
        };
        let stream_id = match fmt {
            fmt::FULL => Some(u32::from_le_bytes(*bytes.get(7..)?.first_chunk()?)),
            _ => None,
        };
        let len = match fmt {
            fmt::FULL => 11,
            fmt::SAME_STREAM => 7,
            _ => 3,
        };
        if field < EXTENDED {
            return Some(Self { time: field, extended: false, shape, stream_id, len });
        }
        let time = u32::from_be_bytes(*bytes.get(len..)?.first_chunk()?);
        Some(Self { time, extended: true, shape, stream_id, len: len + 4 })
    }
}

fn u24(bytes: &[u8]) -> Option<u32> {
    let &[a, b, c] = bytes else { return None };
    Some(u32::from_be_bytes([0, a, b, c]))
}

/// An encoded chunk header.
#[derive(Clone, Copy, Debug)]
pub struct EncodedHeader {
    bytes: [u8; HEADER_BYTES_MAX],
    len: u8,
}

impl EncodedHeader {
    /// A fmt 0 header, which stands on its own: absolute timestamp (extended from 0xFFFFFF on).
    pub fn full(header: &Header) -> Self {
        let mut encoded = Self::basic(fmt::FULL, header.csid);
        encoded.push_u24(header.timestamp.min(EXTENDED));
        encoded.push_shape(header);
        encoded.push(&header.stream_id.to_le_bytes());
        encoded.push_extended(header.timestamp);
        encoded
    }

    /// A fmt 1 header: `delta` milliseconds after the last message on the csid, same message stream.
    pub(super) fn same_stream(header: &Header, delta: u32) -> Self {
        let mut encoded = Self::basic(fmt::SAME_STREAM, header.csid);
        encoded.push_u24(delta.min(EXTENDED));
        encoded.push_shape(header);
        encoded.push_extended(delta);
        encoded
    }

    /// A fmt 2 header: `delta` milliseconds after the last message on the csid, same stream, length and type.
    pub(super) fn same_length(csid: u32, delta: u32) -> Self {
        let mut encoded = Self::basic(fmt::SAME_LENGTH, csid);
        encoded.push_u24(delta.min(EXTENDED));
        encoded.push_extended(delta);
        encoded
    }

    /// The fmt 3 header of the later chunks of a message begun with `timestamp` in a fmt 0 header (or with it as the
    /// delta of a fmt 1 or 2 header).
    pub fn continuation(csid: u32, timestamp: u32) -> Self {
        let mut encoded = Self::basic(fmt::NOTHING, csid);
        encoded.push_extended(timestamp);
        encoded
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The shortest basic header for `csid`, which is one of ours: 2 to 65,599.
    fn basic(fmt: u8, csid: u32) -> Self {
        debug_assert!((CSID_MIN..=CSID_MAX).contains(&csid), "csid {csid} is outside 2..=65599");
        let mut encoded = Self { bytes: [0; HEADER_BYTES_MAX], len: 0 };
        let beyond = csid.saturating_sub(64);
        let [low, high, ..] = beyond.to_le_bytes();
        match csid {
            0..64 => encoded.push(&[fmt << 6 | (csid as u8 & 0x3F)]),
            64..320 => encoded.push(&[fmt << 6, low]),
            _ => encoded.push(&[fmt << 6 | 1, low, high]),
        }
        encoded
    }

    fn push_shape(&mut self, header: &Header) {
        self.push_u24(header.length);
        self.push(&[header.type_id]);
    }

    fn push_u24(&mut self, value: u32) {
        let [_, bytes @ ..] = value.to_be_bytes();
        self.push(&bytes);
    }

    fn push_extended(&mut self, time: u32) {
        if time >= EXTENDED {
            self.push(&time.to_be_bytes());
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        let start = usize::from(self.len);
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len() as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_headers_are_minimal_and_read_back() {
        for (csid, len) in [(2, 1), (63, 1), (64, 2), (319, 2), (320, 3), (65_599, 3)] {
            for fmt in 0..4 {
                let encoded = EncodedHeader::basic(fmt, csid);
                assert_eq!(Basic::parse(encoded.as_slice()), Some(Basic { fmt, csid, len }));
                assert_eq!(Basic::parse(&encoded.as_slice()[..len - 1]), None);
            }
        }
    }

    #[test]
    fn non_minimal_basic_headers_name_the_same_csid() {
        assert_eq!(Basic::parse(&[0x01, 0x05, 0x00]).map(|b| b.csid), Basic::parse(&[0x00, 0x05]).map(|b| b.csid));
        assert_eq!(Basic::parse(&[0xC1, 0x05, 0x00]).map(|b| b.len), Some(3));
    }

    #[test]
    fn the_full_header_has_the_bytes_of_the_specification() {
        let header = Header { csid: 4, timestamp: 0x0102_0304, length: 0x05_0607, type_id: 9, stream_id: 1 };
        let expected = [4, 0xFF, 0xFF, 0xFF, 5, 6, 7, 9, 1, 0, 0, 0, 1, 2, 3, 4];
        assert_eq!(EncodedHeader::full(&header).as_slice(), expected);
        assert_eq!(EncodedHeader::continuation(4, 0x0102_0304).as_slice(), [0xC4, 1, 2, 3, 4]);
        assert_eq!(EncodedHeader::continuation(4, 0xFF_FFFE).as_slice(), [0xC4]);
        let longest = EncodedHeader::full(&Header { csid: CSID_MAX, timestamp: u32::MAX, ..header });
        assert_eq!(longest.as_slice().len(), HEADER_BYTES_MAX);
    }
}
