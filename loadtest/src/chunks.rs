//! Counts the chunks a server really sent, by their headers alone (RTMP 1.0, 5.3.1), apart from the session that reads
//! the messages. It skips the handshake and follows Set Chunk Size; it stops counting at what it cannot follow.

use crate::tally::Counted;
use std::collections::HashMap;

/// S0, S1 and S2 (5.2).
const HANDSHAKE_BYTES: usize = 1 + 2 * 1_536;
const CHUNK_BYTES_FIRST: usize = 128;
const SET_CHUNK_SIZE: u8 = 1;
const EXTENDED: u32 = 0xFF_FFFF;
/// A basic header, a message header and an extended timestamp.
const HEADER_BYTES_MAX: usize = 3 + 11 + 4;
/// Chunk streams of a connection; the format allows 65,597, no server uses that many.
const CSIDS_MAX: usize = 1_024;

/// One chunk stream's last message.
#[derive(Clone, Copy, Default)]
struct Stream {
    length: usize,
    left: usize,
    type_id: u8,
    extended: bool,
}

pub struct ChunkCounter {
    handshake_left: usize,
    chunk_bytes: usize,
    streams: HashMap<u32, Stream>,
    header: Vec<u8>,
    /// Payload of the current chunk still to come, and the csid it belongs to.
    payload_left: usize,
    csid: u32,
    control: Vec<u8>,
    lost: bool,
    pub counted: Counted,
}

impl ChunkCounter {
    pub fn new() -> Self {
        Self {
            handshake_left: HANDSHAKE_BYTES,
            chunk_bytes: CHUNK_BYTES_FIRST,
            streams: HashMap::new(),
            header: Vec::with_capacity(HEADER_BYTES_MAX),
            payload_left: 0,
            csid: 0,
            control: Vec::new(),
            lost: false,
            counted: Counted::default(),
        }
    }

    /// Whether it has understood everything so far.
    pub fn follows(&self) -> bool {
        !self.lost
    }

    /// Takes the next bytes of the connection. They count if `counts`.
    pub fn receive(&mut self, mut input: &[u8], counts: bool) {
        self.counted.bytes += if counts { input.len() as u64 } else { 0 };
        let skipped = self.handshake_left.min(input.len());
        self.handshake_left -= skipped;
        input = &input[skipped..];
        while !input.is_empty() && !self.lost {
            if self.payload_left > 0 {
                input = self.payload(input, counts);
            } else {
                self.header.push(input[0]);
                input = &input[1..];
                self.header_byte(counts);
            }
        }
    }

    fn payload<'i>(&mut self, input: &'i [u8], counts: bool) -> &'i [u8] {
        let (taken, rest) = input.split_at(self.payload_left.min(input.len()));
        self.payload_left -= taken.len();
        let Some(stream) = self.streams.get_mut(&self.csid) else { return rest };
        stream.left -= taken.len();
        if stream.type_id == SET_CHUNK_SIZE && self.control.len() < 4 {
            self.control.extend_from_slice(taken);
        }
        if stream.left == 0 {
            let type_id = stream.type_id;
            self.message(type_id, counts);
        }
        rest
    }

    fn message(&mut self, type_id: u8, counts: bool) {
        self.counted.messages += u64::from(counts);
        if let (SET_CHUNK_SIZE, Some(size)) = (type_id, self.control.first_chunk::<4>()) {
            self.chunk_bytes = usize::try_from(u32::from_be_bytes(*size) & 0x7FFF_FFFF).unwrap_or(0);
            self.lost |= self.chunk_bytes == 0;
        }
        self.control.clear();
    }

    /// Takes note of a chunk once its header is whole.
    fn header_byte(&mut self, counts: bool) {
        let Some((csid, stream)) = self.parse() else { return };
        if self.streams.len() >= CSIDS_MAX && !self.streams.contains_key(&csid) {
            self.lost = true;
            return;
        }
        self.header.clear();
        self.csid = csid;
        self.payload_left = stream.left.min(self.chunk_bytes);
        self.streams.insert(csid, stream);
        if counts {
            self.counted.chunks += 1;
            let bytes = self.chunk_bytes as u64;
            self.counted.add(&Counted { chunk_bytes_min: bytes, chunk_bytes_max: bytes, ..Counted::default() });
        }
        if stream.left == 0 {
            self.message(stream.type_id, counts);
        }
    }

    /// The chunk stream and its state at this chunk's payload; `None` while bytes are missing.
    fn parse(&mut self) -> Option<(u32, Stream)> {
        let bytes = &self.header[..];
        let first = *bytes.first()?;
        let (csid, basic) = match first & 0x3F {
            0 => (64 + u32::from(*bytes.get(1)?), 2),
            1 => (64 + u32::from(*bytes.get(1)?) + 256 * u32::from(*bytes.get(2)?), 3),
            csid => (u32::from(csid), 1),
        };
        let format = first >> 6;
        let fields = [11, 7, 3, 0][usize::from(format)];
        let header = bytes.get(basic..basic + fields)?;
        let mut stream = match self.streams.get(&csid) {
            Some(stream) => *stream,
            None if format == 0 => Stream::default(),
            None => {
                self.lost = true;
                return None;
            }
        };
        if let [t0, t1, t2, ..] = *header {
            stream.extended = u32::from_be_bytes([0, t0, t1, t2]) == EXTENDED;
        }
        if let [_, _, _, l0, l1, l2, type_id, ..] = *header {
            stream.length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
            stream.type_id = type_id;
        }
        bytes.get(..basic + fields + if stream.extended { 4 } else { 0 })?;
        if stream.left == 0 {
            stream.left = stream.length;
        }
        Some((csid, stream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use shardcast::rtmp::chunk::ChunkWriter;
    use shardcast::rtmp::message::{Header, Kind, media_csid};

    /// A handshake, five messages at 128 bytes, Set Chunk Size, and one more; and the chunks there are.
    fn stream() -> (Vec<u8>, u64) {
        let mut out = BytesMut::from(&[0; HANDSHAKE_BYTES][..]);
        let mut writer = ChunkWriter::new();
        let mut chunks = 0;
        let mut write =
            |writer: &mut ChunkWriter, out: &mut BytesMut, kind: Kind, timestamp, bytes: usize, size: usize| {
                let length = u32::try_from(bytes).unwrap();
                let csid = media_csid(kind, 1);
                writer.write(
                    Header { csid, timestamp, length, type_id: kind.type_id(), stream_id: 1 },
                    &vec![0x41; bytes],
                    out,
                );
                chunks += bytes.div_ceil(size) as u64;
            };
        for (timestamp, kind, bytes) in [
            (0, Kind::Video, 1),
            (10, Kind::Audio, 128),
            (20, Kind::Video, 129),
            (0x100_0000, Kind::Video, 1_000),
            (0x100_0001, Kind::Audio, 300),
        ] {
            write(&mut writer, &mut out, kind, timestamp, bytes, 128);
        }
        writer.set_chunk_bytes(4_096, &mut out);
        write(&mut writer, &mut out, Kind::Video, 0x100_0002, 5_000, 4_096);
        (out.to_vec(), chunks + 1)
    }

    #[test]
    fn chunks_are_counted_whatever_the_splits() {
        let (bytes, chunks) = stream();
        for step in [1, 2, 3, 7, 100, bytes.len()] {
            let mut counter = ChunkCounter::new();
            bytes.chunks(step).for_each(|part| counter.receive(part, true));
            assert!(counter.follows());
            let counted = counter.counted;
            assert_eq!((counted.chunks, counted.messages, counted.bytes), (chunks, 7, bytes.len() as u64), "{step}");
            assert_eq!((counted.chunk_bytes_min, counted.chunk_bytes_max), (128, 4_096));
        }
    }

    #[test]
    fn what_does_not_count_is_followed_all_the_same() {
        let (bytes, chunks) = stream();
        for at in 0..bytes.len() {
            let mut counter = ChunkCounter::new();
            counter.receive(&bytes[..at], false);
            let mut other = ChunkCounter::new();
            other.receive(&bytes[..at], true);
            counter.receive(&bytes[at..], true);
            assert_eq!(counter.counted.chunks + other.counted.chunks, chunks, "at {at}");
        }
    }

    #[test]
    fn it_stops_at_a_chunk_of_an_unknown_stream() {
        let mut counter = ChunkCounter::new();
        counter.receive(&[0; HANDSHAKE_BYTES], true);
        counter.receive(&[0xC5, 1, 2, 3], true);
        assert!(!counter.follows());
        assert_eq!(counter.counted.chunks, 0);
    }
}
