//! Chunks into messages (RTMP 1.0, section 5.3).
//!
//! Owns what a peer's csids have in common with their last message, and the payloads of messages not yet whole. Driven by
//! a session with whatever bytes arrived, split anywhere. Refuses (with [`ChunkError`], after which the connection is
//! closed) more than [`CHUNK_STREAMS_MAX`] csids, more than [`IN_FLIGHT_BYTES_MAX`] bytes of unfinished messages, chunk
//! sizes of zero or above 31 bits, and headers that lean on a message that never was.
//!
//! Memory follows the bytes received, never the length announced; work is linear in them at any chunk size.

use crate::limits::{
    ASSEMBLY_BYTES_MIN, ASSEMBLY_SPARE_BYTES_MAX, CHUNK_BYTES_DEFAULT, CHUNK_BYTES_IN_MAX, CHUNK_STREAMS_MAX,
    IN_FLIGHT_BYTES_MAX, MESSAGE_STEP_BYTES, MESSAGE_STEPS_MAX,
};
use crate::rtmp::chunk::carry::Carry;
use crate::rtmp::chunk::error::ChunkError;
use crate::rtmp::chunk::header::{Basic, MessageHeader, fmt};
use crate::rtmp::message::{Header, Message, type_id};

/// Players use two csids for as long as they stay: up to this many, room is made for one at a time.
const FEW_CHUNK_STREAMS: usize = 4;

/// Reassembles messages from chunks. Applies Set Chunk Size and Abort itself; both are consumed, not delivered.
#[derive(Debug)]
pub struct ChunkReader {
    /// Position of the next byte to interpret, those in `carry` included.
    offset: u64,
    chunk_bytes: u32,
    /// In order of appearance, at most [`CHUNK_STREAMS_MAX`].
    streams: Vec<ChunkStream>,
    /// Index of the stream of the last header: most chunks follow one of their own stream.
    recent: u32,
    /// The chunk whose payload is being read.
    open: Option<OpenChunk>,
    carry: Carry,
    /// The payload of the message delivered last, then (cleared) the next message's assembly buffer.
    delivered: Vec<u8>,
    /// Longest message taken, in steps of [`MESSAGE_STEP_BYTES`]: a byte costs a player nothing. 0 for any.
    message_steps_max: u8,
    /// Whether `delivered` is worth keeping. Only senders of media get to keep a buffer.
    keep_delivered: bool,
    /// At most [`IN_FLIGHT_BYTES_MAX`].
    in_flight_bytes: u32,
}

/// What a csid's later headers may leave out, and its unfinished message.
///
/// The fields of a [`Header`] lie open: with its padding two of these would take 32 bytes more from every player.
#[derive(Debug)]
struct ChunkStream {
    csid: u32,
    timestamp: u32,
    length: u32,
    stream_id: u32,
    /// The timestamp or delta of the last fmt 0, 1 or 2 header: what a fmt 3 header that begins a message adds.
    delta: u32,
    type_id: u8,
    /// That header had an extended timestamp: fmt 3 headers repeat it.
    extended: bool,
    /// A message has begun and is not whole.
    unfinished: bool,
    assembly: Vec<u8>,
}

impl ChunkStream {
    /// Of the message that has begun, or the last.
    #[inline]
    fn header(&self) -> Header {
        let Self { csid, timestamp, length, type_id, stream_id, .. } = *self;
        Header { csid, timestamp, length, type_id, stream_id }
    }
}

#[derive(Clone, Copy, Debug)]
struct OpenChunk {
    stream: u32,
    /// Payload bytes of the chunk not read yet.
    remaining: u32,
}

/// A whole message; its payload is `borrowed` from the input, or lies in `delivered`.
#[derive(Clone, Copy, Debug)]
pub struct Delivered<'a> {
    header: Header,
    borrowed: Option<&'a [u8]>,
}

impl Default for ChunkReader {
    fn default() -> Self {
        Self::new()
    }
}

impl ChunkReader {
    pub fn new() -> Self {
        Self::starting_at(0)
    }

    /// A reader whose errors count bytes from `offset`, the length of the handshake before it.
    pub fn starting_at(offset: u64) -> Self {
        Self {
            offset,
            chunk_bytes: CHUNK_BYTES_DEFAULT as u32,
            streams: Vec::new(),
            recent: 0,
            open: None,
            carry: Carry::default(),
            delivered: Vec::new(),
            message_steps_max: 0,
            keep_delivered: false,
            in_flight_bytes: 0,
        }
    }

    /// Refuses messages longer than `bytes`, rounded up to a whole [`MESSAGE_STEP_BYTES`]; 0 takes any.
    pub fn limit_messages(&mut self, bytes: usize) {
        self.message_steps_max = bytes.div_ceil(MESSAGE_STEP_BYTES).min(MESSAGE_STEPS_MAX) as u8;
    }

    /// Consumes bytes from the front of `input` until one message is whole, or all of `input` is consumed (`None`).
    /// A payload that lies whole inside one chunk of `input` is borrowed from it, without a copy.
    pub fn read<'r, 'i: 'r>(&'r mut self, input: &mut &'i [u8]) -> Result<Option<Message<'r>>, ChunkError> {
        let delivered = self.deliver(input)?;
        Ok(delivered.map(|delivered| self.message(delivered)))
    }

    /// Like [`read`](Self::read), but the reader is not borrowed until somebody looks at the [`message`](Self::message):
    /// what a loop needs that passes some messages on and handles others itself.
    pub fn deliver<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<Delivered<'i>>, ChunkError> {
        self.recycle_delivered();
        while let Some(delivered) = self.next_whole(input)? {
            let Delivered { header, borrowed } = delivered;
            if !matches!(header.type_id, type_id::SET_CHUNK_SIZE | type_id::ABORT) {
                return Ok(Some(delivered));
            }
            self.apply_control(header, borrowed)?;
            self.recycle_delivered();
        }
        Ok(None)
    }

    /// The message that [`deliver`](Self::deliver) gave last.
    pub fn message<'r, 'i: 'r>(&'r self, delivered: Delivered<'i>) -> Message<'r> {
        Message { header: delivered.header, payload: delivered.borrowed.unwrap_or(&self.delivered) }
    }

    /// Bytes held for partly received messages (allocated, not announced).
    pub fn in_flight_bytes(&self) -> usize {
        self.in_flight_bytes as usize
    }

    /// Lets go of all messages that are not whole: nothing more will be read.
    pub fn discard_all(&mut self) {
        for index in 0..self.streams.len() {
            self.discard_unfinished(index);
        }
        self.open = None;
    }

    /// The peer's current chunk size.
    pub fn chunk_bytes(&self) -> usize {
        self.chunk_bytes as usize
    }

    fn next_whole<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Delivered<'a>>, ChunkError> {
        loop {
            let open = match self.open {
                Some(open) => open,
                None => match self.next_header(input)? {
                    Some(open) => open,
                    None => return Ok(None),
                },
            };
            if let Some(whole) = self.take_payload(open, input)? {
                return Ok(Some(whole));
            }
            if self.open.is_some() {
                return Ok(None);
            }
        }
    }

    /// Reads a chunk header; `None`, with all of `input` in the carry, if `input` ends inside it.
    #[inline]
    fn next_header(&mut self, input: &mut &[u8]) -> Result<Option<OpenChunk>, ChunkError> {
        if self.carry.is_empty() {
            if let Some((len, open)) = self.parse(input)? {
                *input = &input[len..];
                self.offset += len as u64;
                self.open = Some(open);
                return Ok(Some(open));
            }
            for &byte in std::mem::take(input) {
                self.carry.push(byte);
            }
            return Ok(None);
        }
        loop {
            let carry = self.carry;
            if let Some((len, open)) = self.parse(carry.as_slice())? {
                self.carry.discard(len);
                self.offset += len as u64;
                self.open = Some(open);
                return Ok(Some(open));
            }
            let Some((&byte, rest)) = input.split_first() else { return Ok(None) };
            self.carry.push(byte);
            *input = rest;
        }
    }

    /// Interprets the chunk header at the front of `bytes` and says how long it is. Changes nothing if it is not whole.
    #[inline]
    fn parse(&mut self, bytes: &[u8]) -> Result<Option<(usize, OpenChunk)>, ChunkError> {
        let Some(basic) = Basic::parse(bytes) else { return Ok(None) };
        let rest = &bytes[basic.len..];
        let known = self.find(basic.csid);
        if basic.fmt == fmt::NOTHING {
            let Some(stream) = known else { return Err(self.unseen(basic)) };
            return Ok(self.follow(stream, rest).map(|(len, open)| (basic.len + len, open)));
        }
        if known.is_none() {
            self.check_fresh(basic)?;
        }
        let Some(parsed) = MessageHeader::parse(basic.fmt, rest) else { return Ok(None) };
        if let Some((length, _)) = parsed.shape {
            self.check_length(basic.csid, length as usize)?;
        }
        let stream = known.unwrap_or_else(|| self.add(basic.csid));
        self.restart_unfinished(stream);
        Ok(Some((basic.len + parsed.len, self.begin(stream, parsed))))
    }

    #[inline]
    fn find(&mut self, csid: u32) -> Option<usize> {
        let recent = self.recent as usize;
        if self.streams.get(recent).is_some_and(|stream| stream.csid == csid) {
            return Some(recent);
        }
        let found = self.streams.iter().position(|stream| stream.csid == csid)?;
        self.recent = found as u32;
        Some(found)
    }

    /// Whether a csid may begin with this header.
    fn check_fresh(&self, basic: Basic) -> Result<(), ChunkError> {
        if basic.fmt != fmt::FULL && !begins_like_librtmp(basic) {
            return Err(self.unseen(basic));
        }
        if self.streams.len() >= CHUNK_STREAMS_MAX {
            return Err(ChunkError::ChunkStreams { offset: self.offset, csid: basic.csid, limit: CHUNK_STREAMS_MAX });
        }
        Ok(())
    }

    #[inline]
    fn check_length(&self, csid: u32, length: usize) -> Result<(), ChunkError> {
        let limit = usize::from(self.message_steps_max) * MESSAGE_STEP_BYTES;
        if limit > 0 && length > limit {
            return Err(ChunkError::MessageBytes { offset: self.offset, csid, length, limit });
        }
        Ok(())
    }

    fn unseen(&self, basic: Basic) -> ChunkError {
        ChunkError::Format { offset: self.offset, csid: basic.csid, fmt: basic.fmt }
    }

    fn add(&mut self, csid: u32) -> usize {
        if self.streams.len() < FEW_CHUNK_STREAMS {
            self.streams.reserve_exact(1);
        }
        self.streams.push(ChunkStream {
            csid,
            timestamp: 0,
            length: 0,
            stream_id: 0,
            delta: 0,
            type_id: 0,
            extended: false,
            unfinished: false,
            assembly: Vec::new(),
        });
        self.streams.len() - 1
    }

    /// A fmt 0, 1 or 2 header: a message begins.
    fn begin(&mut self, index: usize, parsed: MessageHeader) -> OpenChunk {
        let stream = &mut self.streams[index];
        stream.delta = parsed.time;
        stream.extended = parsed.extended;
        if let Some((length, type_id)) = parsed.shape {
            stream.length = length;
            stream.type_id = type_id;
        }
        stream.timestamp = match parsed.stream_id {
            Some(stream_id) => {
                stream.stream_id = stream_id;
                parsed.time
            }
            None => stream.timestamp.wrapping_add(parsed.time),
        };
        stream.unfinished = true;
        self.open_chunk(index)
    }

    /// A fmt 3 header: a message goes on, or one begins like the last. `None` if it takes more of `rest` to tell.
    #[inline]
    fn follow(&mut self, index: usize, rest: &[u8]) -> Option<(usize, OpenChunk)> {
        let stream = &mut self.streams[index];
        let len = if stream.extended { extended_or_omitted(rest, stream.delta)? } else { 0 };
        if !stream.unfinished {
            stream.timestamp = stream.timestamp.wrapping_add(stream.delta);
            stream.unfinished = true;
        }
        Some((len, self.open_chunk(index)))
    }

    #[inline]
    fn open_chunk(&self, index: usize) -> OpenChunk {
        let stream = &self.streams[index];
        // Neither is longer than the 24 bits of a message's length.
        let missing = stream.length.saturating_sub(stream.assembly.len() as u32);
        OpenChunk { stream: index as u32, remaining: missing.min(self.chunk_bytes) }
    }

    /// Reads payload of the open chunk; a message if that was its last byte. The chunk stays open if `input` ended.
    #[inline]
    fn take_payload<'a>(&mut self, open: OpenChunk, input: &mut &'a [u8]) -> Result<Option<Delivered<'a>>, ChunkError> {
        let (index, mut remaining) = (open.stream as usize, open.remaining as usize);
        let stream = &self.streams[index];
        let length = stream.length as usize;
        if remaining == length && input.len() >= length && stream.assembly.is_empty() && self.carry.is_empty() {
            let (payload, rest) = input.split_at(length);
            *input = rest;
            self.offset += length as u64;
            self.open = None;
            let stream = &mut self.streams[index];
            stream.unfinished = false;
            return Ok(Some(Delivered { header: stream.header(), borrowed: Some(payload) }));
        }
        if !self.carry.is_empty() {
            let carry = self.carry;
            let payload = &carry.as_slice()[..remaining.min(carry.as_slice().len())];
            self.append(index, payload)?;
            self.carry.discard(payload.len());
            remaining -= payload.len();
        }
        let (payload, rest) = input.split_at(remaining.min(input.len()));
        self.append(index, payload)?;
        *input = rest;
        remaining -= payload.len();
        if remaining > 0 {
            self.open = Some(OpenChunk { remaining: remaining as u32, ..open });
            return Ok(None);
        }
        self.open = None;
        self.take_continuations(index, input);
        let whole = self.streams[index].assembly.len() == length;
        Ok(whole.then(|| Delivered { header: self.finish(index), borrowed: None }))
    }

    /// Takes the chunks that lie whole in `input` and only go on with the stream's unfinished message: nearly all of what a
    /// publisher with small chunks sends. Their header is one known byte. Stops at any other, and where the buffer must
    /// grow.
    #[inline]
    fn take_continuations(&mut self, index: usize, input: &mut &[u8]) {
        let stream = &mut self.streams[index];
        let Some(header) = Basic::one_byte(fmt::NOTHING, stream.csid) else { return };
        // Where a timestamp was omitted, on whatever csid, the next header may lie in `carry`.
        if stream.extended || !self.carry.is_empty() {
            return;
        }
        let before = input.len();
        let chunk_bytes = self.chunk_bytes as usize;
        let mut missing = (stream.length as usize).saturating_sub(stream.assembly.len());
        while let Some((&first, rest)) = input.split_first() {
            let bytes = missing.min(chunk_bytes);
            let room = stream.assembly.capacity() - stream.assembly.len();
            if first != header || bytes == 0 || bytes > rest.len() || bytes > room {
                break;
            }
            let (payload, rest) = rest.split_at(bytes);
            stream.assembly.extend_from_slice(payload);
            missing -= bytes;
            *input = rest;
        }
        self.offset += (before - input.len()) as u64;
    }

    /// Adds payload to a stream's unfinished message. The buffer doubles up to the message's length, so a message costs
    /// at most twice what arrived of it, and linear time.
    #[inline]
    fn append(&mut self, index: usize, payload: &[u8]) -> Result<(), ChunkError> {
        let stream = &mut self.streams[index];
        if payload.len() > stream.assembly.capacity() - stream.assembly.len() {
            self.grow(index, payload.len())?;
        }
        self.streams[index].assembly.extend_from_slice(payload);
        self.offset += payload.len() as u64;
        Ok(())
    }

    fn grow(&mut self, index: usize, more: usize) -> Result<(), ChunkError> {
        let stream = &mut self.streams[index];
        if stream.assembly.capacity() == 0 {
            stream.assembly = std::mem::take(&mut self.delivered);
            self.in_flight_bytes += stream.assembly.capacity() as u32;
        }
        let (held, capacity) = (stream.assembly.len(), stream.assembly.capacity());
        let needed = held + more;
        let target = if needed <= capacity {
            capacity
        } else {
            (capacity * 2).max(ASSEMBLY_BYTES_MIN).min(stream.length as usize).max(needed)
        };
        let others = self.in_flight_bytes as usize - capacity;
        let bytes = others + target;
        if bytes > IN_FLIGHT_BYTES_MAX {
            let csid = stream.csid;
            return Err(ChunkError::InFlightBytes { offset: self.offset, csid, bytes, limit: IN_FLIGHT_BYTES_MAX });
        }
        stream.assembly.reserve_exact(target - held);
        self.in_flight_bytes = (others + stream.assembly.capacity()) as u32;
        Ok(())
    }

    /// Moves a whole message from its stream to `delivered`.
    fn finish(&mut self, index: usize) -> Header {
        let stream = &mut self.streams[index];
        stream.unfinished = false;
        self.in_flight_bytes -= stream.assembly.capacity() as u32;
        self.delivered = std::mem::take(&mut stream.assembly);
        self.keep_delivered = self.delivered.capacity() <= ASSEMBLY_SPARE_BYTES_MAX
            && matches!(stream.type_id, type_id::AUDIO | type_id::VIDEO | type_id::AGGREGATE);
        stream.header()
    }

    #[inline]
    fn recycle_delivered(&mut self) {
        if self.keep_delivered {
            self.delivered.clear();
        } else if self.delivered.capacity() > 0 {
            self.delivered = Vec::new();
        }
    }

    /// Set Chunk Size and Abort (5.4.1, 5.4.2). The size governs the chunks after it, those of unfinished messages too.
    fn apply_control(&mut self, header: Header, borrowed: Option<&[u8]>) -> Result<(), ChunkError> {
        let (offset, csid) = (self.offset, header.csid);
        let body = borrowed.unwrap_or(&self.delivered);
        let Some(&word) = body.first_chunk() else {
            return Err(ChunkError::ControlLength { offset, csid, type_id: header.type_id, length: body.len() });
        };
        let value = u32::from_be_bytes(word);
        if header.type_id == type_id::ABORT {
            if let Some(index) = self.streams.iter().position(|stream| stream.csid == value) {
                self.discard_unfinished(index);
            }
            return Ok(());
        }
        if value == 0 || value > i32::MAX as u32 {
            return Err(ChunkError::ChunkSize { offset, csid, value });
        }
        self.chunk_bytes = value.min(CHUNK_BYTES_IN_MAX as u32);
        Ok(())
    }

    fn discard_unfinished(&mut self, index: usize) {
        let stream = &mut self.streams[index];
        self.in_flight_bytes -= stream.assembly.capacity() as u32;
        stream.assembly = Vec::new();
        stream.unfinished = false;
    }

    /// OBS has been seen to begin a message in the middle of another on the same csid, with another length: what was
    /// begun is dropped.
    fn restart_unfinished(&mut self, index: usize) {
        if self.streams[index].unfinished {
            self.discard_unfinished(index);
        }
    }
}

/// librtmp begins a csid with a fmt 1 header when it pings: its delta counts from zero, its message stream is 0.
fn begins_like_librtmp(basic: Basic) -> bool {
    basic.fmt == fmt::SAME_STREAM
}

/// How many bytes of extended timestamp follow a fmt 3 basic header: 4, or 0 for encoders (versions of FFmpeg and librtmp
/// among them) that omit it there, which shows in the bytes not being `value`. `None` if too few are there to differ.
fn extended_or_omitted(rest: &[u8], value: u32) -> Option<usize> {
    let expected = value.to_be_bytes();
    let seen = &rest[..rest.len().min(4)];
    if *seen != expected[..seen.len()] {
        return Some(0);
    }
    (seen.len() == 4).then_some(4)
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
