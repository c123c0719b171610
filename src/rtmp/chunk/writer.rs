//! Messages into chunks (RTMP 1.0, section 5.3): a session's own control and command messages, and a client's media.
//!
//! [`ChunkWriter`] owns what the peer remembers of each csid, so that each message gets the shortest header that says the
//! same; `write_standing_alone` needs no memory. Their callers choose csids and payloads; they use a handful of csids,
//! and no peer's bytes reach them unbounded.

use bytes::BytesMut;

use super::header::{CSID_MAX, EncodedHeader, HEADER_BYTES_MAX};
use crate::limits::{CHUNK_BYTES_DEFAULT, CHUNK_BYTES_IN_MAX};
use crate::rtmp::message::{Header, csid, type_id};

/// Writes messages as chunks with the shortest header the previous message on the csid allows.
#[derive(Debug)]
pub struct ChunkWriter {
    chunk_bytes: usize,
    streams: Vec<Previous>,
}

/// The last message on a csid.
#[derive(Debug)]
struct Previous {
    header: Header,
    /// What a fmt 3 header would add to the timestamp. After a fmt 0 header this is the timestamp itself (5.3.1.2.4).
    delta: u32,
}

impl Default for ChunkWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl ChunkWriter {
    /// Starts with the protocol's chunk size, 128.
    pub fn new() -> Self {
        Self::of_chunks(CHUNK_BYTES_DEFAULT)
    }

    /// For a peer that was told to expect chunks of `chunk_bytes`.
    pub(in crate::rtmp) fn of_chunks(chunk_bytes: usize) -> Self {
        Self { chunk_bytes, streams: Vec::new() }
    }

    /// Writes Set Chunk Size for later messages and uses `bytes` (held within 1 and 0xFFFFFF) from the next message on.
    pub fn set_chunk_bytes(&mut self, bytes: usize, out: &mut BytesMut) {
        let bytes = bytes.clamp(1, CHUNK_BYTES_IN_MAX);
        let header =
            Header { csid: csid::CONTROL, timestamp: 0, length: 4, type_id: type_id::SET_CHUNK_SIZE, stream_id: 0 };
        self.write(header, &(bytes as u32).to_be_bytes(), out);
        self.chunk_bytes = bytes;
    }

    pub fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }

    /// Appends one message; `header.length` is taken from `payload` (at most 0xFFFFFF bytes), `header.csid` is 2 to
    /// 65,599.
    pub fn write(&mut self, mut header: Header, payload: &[u8], out: &mut BytesMut) {
        debug_assert!(payload.len() <= CHUNK_BYTES_IN_MAX && header.csid <= CSID_MAX);
        header.length = payload.len() as u32;
        let (encoded, time) = self.encode(header);
        let continuation = EncodedHeader::continuation(header.csid, time);
        write_chunks(&encoded, &continuation, payload, self.chunk_bytes, out);
    }

    /// The first header of a message, and the timestamp or delta in it. A timestamp that went back is written as fmt 0,
    /// never as a wrapped delta.
    fn encode(&mut self, header: Header) -> (EncodedHeader, u32) {
        let Some(previous) = self.streams.iter_mut().find(|previous| previous.header.csid == header.csid) else {
            self.streams.push(Previous { header, delta: header.timestamp });
            return (EncodedHeader::full(&header), header.timestamp);
        };
        let last = std::mem::replace(&mut previous.header, header);
        let delta = match header.timestamp.checked_sub(last.timestamp) {
            Some(delta) if header.stream_id == last.stream_id => delta,
            _ => {
                previous.delta = header.timestamp;
                return (EncodedHeader::full(&header), header.timestamp);
            }
        };
        let last_delta = std::mem::replace(&mut previous.delta, delta);
        let encoded = if (header.length, header.type_id) != (last.length, last.type_id) {
            EncodedHeader::same_stream(&header, delta)
        } else if delta != last_delta {
            EncodedHeader::same_length(header.csid, delta)
        } else {
            EncodedHeader::continuation(header.csid, delta)
        };
        (encoded, delta)
    }
}

/// Appends one message with a full header, which means the same whatever came before it. As for
/// [`ChunkWriter::write`]; `chunk_bytes` is at least 1.
pub(in crate::rtmp) fn write_standing_alone(
    mut header: Header,
    payload: &[u8],
    chunk_bytes: usize,
    out: &mut BytesMut,
) {
    debug_assert!(payload.len() <= CHUNK_BYTES_IN_MAX && header.csid <= CSID_MAX);
    header.length = payload.len() as u32;
    let continuation = EncodedHeader::continuation(header.csid, header.timestamp);
    write_chunks(&EncodedHeader::full(&header), &continuation, payload, chunk_bytes, out);
}

fn write_chunks(
    header: &EncodedHeader,
    continuation: &EncodedHeader,
    payload: &[u8],
    chunk_bytes: usize,
    out: &mut BytesMut,
) {
    let chunks = payload.len().div_ceil(chunk_bytes);
    out.reserve(HEADER_BYTES_MAX + payload.len() + chunks * continuation.as_slice().len());
    out.extend_from_slice(header.as_slice());
    let (first, rest) = payload.split_at(payload.len().min(chunk_bytes));
    out.extend_from_slice(first);
    for chunk in rest.chunks(chunk_bytes) {
        out.extend_from_slice(continuation.as_slice());
        out.extend_from_slice(chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(timestamp: u32, stream_id: u32) -> Header {
        Header { csid: 5, timestamp, length: 0, type_id: type_id::AUDIO, stream_id }
    }

    #[test]
    fn each_message_gets_the_shortest_header() {
        let cases: [(u32, u32, &[u8], u8, usize); 9] = [
            (1_000, 1, b"ab", 0, 12),
            (1_020, 1, b"abc", 1, 8),
            (1_041, 1, b"abc", 2, 4),
            (1_062, 1, b"abc", 3, 1),
            (1_062, 1, b"abc", 2, 4),
            (1_061, 1, b"abc", 0, 12),
            (2_122, 1, b"abc", 3, 1),
            (2_200, 2, b"abc", 0, 12),
            (0x0200_0000, 2, b"abc", 2, 8),
        ];
        let mut writer = ChunkWriter::new();
        for (timestamp, stream_id, payload, fmt, header_bytes) in cases {
            let mut out = BytesMut::new();
            writer.write(header(timestamp, stream_id), payload, &mut out);
            assert_eq!((out[0] >> 6, out.len() - payload.len()), (fmt, header_bytes), "at {timestamp}");
        }
    }

    #[test]
    fn extended_timestamps_are_repeated_on_every_chunk() {
        let mut writer = ChunkWriter::new();
        let mut out = BytesMut::new();
        writer.set_chunk_bytes(2, &mut out);
        out.clear();
        writer.write(header(0x0100_0000, 1), b"abcd", &mut out);
        assert_eq!(&out[12..], b"\x01\0\0\0ab\xC5\x01\0\0\0cd");
    }

    #[test]
    fn a_new_chunk_size_is_announced_in_the_old_one() {
        let mut writer = ChunkWriter::new();
        let mut out = BytesMut::new();
        writer.set_chunk_bytes(60_000, &mut out);
        assert_eq!(&out[..], b"\x02\0\0\0\0\0\x04\x01\0\0\0\0\0\0\xEA\x60");
        assert_eq!(writer.chunk_bytes(), 60_000);
    }
}
