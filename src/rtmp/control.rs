//! What both sessions say and count besides media: protocol control, commands, acknowledgements.
//!
//! [`Outbox`] writes control on csid 2 and everything else of the session's own on csid 3, always whole chunks.
//! [`Received`] counts bytes and says when an Acknowledgement is due. Neither knows what a message means.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    amf0::Encoder,
    chunk::write_standing_alone,
    error::SessionError,
    message::{Header, Message, csid, type_id},
};
use crate::limits::{ACK_WINDOW_BYTES_DEFAULT, ACK_WINDOW_BYTES_MIN, CHUNK_BYTES_DEFAULT, CHUNK_BYTES_IN_MAX};

/// User Control event types (RTMP 1.0, 7.1.7).
pub(super) mod event {
    pub(in crate::rtmp) const STREAM_BEGIN: u16 = 0;
    pub(in crate::rtmp) const STREAM_EOF: u16 = 1;
    pub(in crate::rtmp) const SET_BUFFER_LENGTH: u16 = 3;
    pub(in crate::rtmp) const PING_REQUEST: u16 = 6;
    pub(in crate::rtmp) const PING_RESPONSE: u16 = 7;
    pub(in crate::rtmp) const SWF_VERIFICATION_REQUEST: u16 = 26;
}

/// What a session has to send. Most players are quiet for hours, so it remembers nothing of what was sent, and holds no
/// memory while there is nothing: every message has a full header.
#[derive(Debug)]
pub(super) struct Outbox {
    waiting: Option<Box<BytesMut>>,
    chunk_bytes: u32,
}

impl Default for Outbox {
    fn default() -> Self {
        Self { waiting: None, chunk_bytes: CHUNK_BYTES_DEFAULT as u32 }
    }
}

impl Outbox {
    /// For those who take some of the bytes, or add whole chunks of their own.
    pub(super) fn bytes(&mut self) -> &mut BytesMut {
        self.waiting.get_or_insert_default()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.as_ref().map_or(0, |bytes| bytes.len())
    }

    /// All that is waiting; keeps no memory.
    pub(super) fn take(&mut self) -> Bytes {
        self.waiting.take().map_or_else(Bytes::new, |bytes| bytes.freeze())
    }

    /// Lets go of the memory once its content was taken.
    pub(super) fn release(&mut self) {
        self.waiting.take_if(|bytes| bytes.is_empty());
    }

    #[cfg(test)]
    pub(super) fn holds_memory(&self) -> bool {
        self.waiting.is_some()
    }

    /// Of later messages.
    pub(super) fn chunk_bytes(&self) -> usize {
        self.chunk_bytes as usize
    }

    /// Switches later messages to chunks of `bytes`; says so to the peer.
    pub(super) fn set_chunk_bytes(&mut self, bytes: usize) {
        let bytes = bytes.clamp(1, CHUNK_BYTES_IN_MAX) as u32;
        self.control(type_id::SET_CHUNK_SIZE, &bytes.to_be_bytes());
        self.chunk_bytes = bytes;
    }

    /// A protocol control message.
    pub(super) fn control(&mut self, type_id: u8, payload: &[u8]) {
        self.message(Header { csid: csid::CONTROL, timestamp: 0, length: 0, type_id, stream_id: 0 }, payload);
    }

    pub(super) fn acknowledge(&mut self, bytes: u32) {
        self.control(type_id::ACKNOWLEDGEMENT, &bytes.to_be_bytes());
    }

    pub(super) fn window_ack_size(&mut self, bytes: u32) {
        self.control(type_id::WINDOW_ACK_SIZE, &bytes.to_be_bytes());
    }

    /// Limit type 2, dynamic (RTMP 1.0, 5.4.5).
    pub(super) fn set_peer_bandwidth(&mut self, bytes: u32) {
        let [a, b, c, d] = bytes.to_be_bytes();
        self.control(type_id::SET_PEER_BANDWIDTH, &[a, b, c, d, 2]);
    }

    pub(super) fn user_control(&mut self, event: u16, values: &[u32]) {
        let mut payload = BytesMut::new();
        payload.put_u16(event);
        for value in values {
            payload.put_u32(*value);
        }
        self.control(type_id::USER_CONTROL, &payload);
    }

    /// A command: its name, transaction, and what `arguments` writes behind them.
    pub(super) fn command(
        &mut self,
        stream_id: u32,
        name: &str,
        transaction: f64,
        arguments: impl FnOnce(&mut Encoder<'_>),
    ) {
        let mut payload = BytesMut::new();
        let mut encoder = Encoder::new(&mut payload);
        encoder.string(name).number(transaction);
        arguments(&mut encoder);
        self.own(stream_id, type_id::COMMAND_AMF0, &payload);
    }

    /// A data message of the session's own (not a stream's).
    pub(super) fn data(&mut self, stream_id: u32, values: impl FnOnce(&mut Encoder<'_>)) {
        let mut payload = BytesMut::new();
        values(&mut Encoder::new(&mut payload));
        self.own(stream_id, type_id::DATA_AMF0, &payload);
    }

    /// An `onStatus` command on a message stream (RTMP 1.0, 7.2.2).
    pub(super) fn status(&mut self, stream_id: u32, level: &str, code: &str, description: &str) {
        self.command(stream_id, "onStatus", 0.0, |out| {
            out.null();
            status_object(out, level, code, description);
        });
    }

    fn own(&mut self, stream_id: u32, type_id: u8, payload: &[u8]) {
        self.message(Header { csid: csid::COMMAND, timestamp: 0, length: 0, type_id, stream_id }, payload);
    }

    pub(super) fn message(&mut self, header: Header, payload: &[u8]) {
        let chunk_bytes = self.chunk_bytes as usize;
        write_standing_alone(header, payload, chunk_bytes, self.bytes());
    }
}

/// The object of an `onStatus`, an `_error` and the like.
pub(super) fn status_object(out: &mut Encoder<'_>, level: &str, code: &str, description: &str) {
    out.object().key("level").string(level).key("code").string(code);
    out.key("description").string(description).end();
}

/// Bytes received since the handshake, and how many of them were acknowledged.
#[derive(Debug)]
pub(super) struct Received {
    /// All of them, modulo 2^32: the sequence number of acknowledgements.
    total: u32,
    unacknowledged: u32,
    /// 0: nothing is due.
    window: u32,
}

impl Received {
    pub(super) fn new() -> Self {
        Self { total: 0, unacknowledged: 0, window: ACK_WINDOW_BYTES_DEFAULT }
    }

    /// Nothing is due before the peer announces a window.
    pub(super) fn wait_for_window(&mut self) {
        self.window = 0;
    }

    /// Modulo 2^32.
    pub(super) fn total(&self) -> u32 {
        self.total
    }

    pub(super) fn add(&mut self, bytes: usize) {
        self.total = self.total.wrapping_add(bytes as u32);
        self.unacknowledged = self.unacknowledged.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// The peer's Window Acknowledgement Size, raised to [`ACK_WINDOW_BYTES_MIN`].
    pub(super) fn set_window(&mut self, bytes: u32) {
        self.window = bytes.max(ACK_WINDOW_BYTES_MIN);
    }

    /// The sequence number to acknowledge now, if a window was received since the last.
    pub(super) fn due(&mut self) -> Option<u32> {
        if self.window == 0 || self.unacknowledged < self.window {
            return None;
        }
        self.unacknowledged = 0;
        Some(self.total)
    }
}

/// What a control message asks of the session that received it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Control {
    WindowAckSize(u32),
    /// Answer with a PingResponse of the same value.
    Ping(u32),
    /// The server has nothing more on this message stream.
    StreamEof,
    /// Nothing: acknowledgements, bandwidth limits, buffer lengths, events without meaning here.
    Ignored,
}

impl Control {
    /// Reads types 3 to 6 (RTMP 1.0, 5.4 and 7.1.7). A body too short for its fields is an error.
    pub(super) fn parse(message: &Message<'_>) -> Result<Self, SessionError> {
        let Header { type_id, csid, .. } = message.header;
        if type_id == type_id::USER_CONTROL && is_flash_media_servers_swf_request(message.payload) {
            return Ok(Control::Ignored);
        }
        let short = SessionError::ControlLength { type_id, csid, length: message.payload.len() };
        let Some((head, rest)) = message.payload.split_first_chunk::<4>() else { return Err(short) };
        match type_id {
            type_id::WINDOW_ACK_SIZE => Ok(Control::WindowAckSize(u32::from_be_bytes(*head))),
            type_id::USER_CONTROL => {
                let [a, b, c, d] = *head;
                match u16::from_be_bytes([a, b]) {
                    event::STREAM_EOF => Ok(Control::StreamEof),
                    event::PING_REQUEST => match rest {
                        [e, f, ..] => Ok(Control::Ping(u32::from_be_bytes([c, d, *e, *f]))),
                        _ => Err(short),
                    },
                    _ => Ok(Control::Ignored),
                }
            }
            _ => Ok(Control::Ignored),
        }
    }
}

/// Flash Media Server asks for the hash of the player's SWF file by an event that is nothing but its number.
fn is_flash_media_servers_swf_request(payload: &[u8]) -> bool {
    payload == event::SWF_VERIFICATION_REQUEST.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tiny_window_is_raised_and_acknowledged_once() {
        let mut received = Received::new();
        received.set_window(0);
        received.add(ACK_WINDOW_BYTES_MIN as usize - 1);
        assert_eq!(received.due(), None);
        received.add(10 * ACK_WINDOW_BYTES_MIN as usize);
        assert_eq!(received.due(), Some(11 * ACK_WINDOW_BYTES_MIN - 1));
        assert_eq!(received.due(), None);
    }

    #[test]
    fn acknowledgements_wrap_at_two_to_the_32() {
        let mut received = Received { total: u32::MAX, unacknowledged: u32::MAX, window: ACK_WINDOW_BYTES_MIN };
        received.add(6);
        assert_eq!(received.due(), Some(5));
        assert_eq!(received.due(), None);
        received.add(ACK_WINDOW_BYTES_MIN as usize);
        assert_eq!(received.due(), Some(5 + ACK_WINDOW_BYTES_MIN));
    }
}
