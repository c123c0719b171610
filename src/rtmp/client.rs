//! The client's side of one RTMP connection, to publish or to play one stream.
//!
//! [`ClientSession`] speaks as librtmp and OBS do: Set Chunk Size and connect; then releaseStream, FCPublish and
//! createStream (or createStream alone); then publish, or play and a buffer length. It knows one message stream. A
//! hostile server meets the bounds of the server's session: chunk and AMF0 bounds, deadlines, bytes before connect is
//! answered, media before Play.Start, unassigned message types; and no reply is written while
//! [`REPLY_BYTES_MAX`](crate::limits::REPLY_BYTES_MAX) bytes wait. A server without a digest is one, even if it was asked.
//!
//! It announces that it takes ReconnectRequests: a host moves when it gets [`ClientEvent::Reconnect`]. What goes on over
//! several connections is an [`approach::Approach`].
//!
//! The host feeds `receive` until it returns `None`, sends what `output` holds, and calls `timeout` at `deadline`.

pub mod approach;
mod authentication;
mod conversation;
#[cfg(test)]
mod tests;

use std::{fmt, time::Duration};

use bytes::{Bytes, BytesMut};

pub use self::authentication::Credentials;
pub use super::error::SessionError;
use super::{
    aggregate::{Aggregate, Next, Part},
    amf0::Encoder,
    capabilities::Capabilities,
    chunk::ChunkReader,
    command::amf0_body,
    handshake::{ClientHandshake, HANDSHAKE_BYTES},
    message::{Header, Kind, media_csid},
};
use crate::limits::CHUNK_BYTES_OUT_DEFAULT;
use conversation::{Conversation, Verdict};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientRole {
    Publish,
    Play,
}

/// Where to connect and what to ask for.
#[derive(Clone)]
pub struct ClientConfig {
    /// `rtmp://host/app`, as the server shall see it.
    pub tc_url: String,
    pub app: String,
    /// The stream's name, with its query if it has one.
    pub name: String,
    pub role: ClientRole,
    /// Chunk size for what the client sends, announced before connect.
    pub chunk_bytes: usize,
    /// Whether C1 carries a digest.
    pub digest: bool,
    /// Announces all that this program passes on, so that the server sends everything.
    pub relay: bool,
    /// The nodes the stream has passed, this one last: at most [`HOPS_MAX`](crate::limits::HOPS_MAX), without commas.
    pub hops: Vec<String>,
}

impl ClientConfig {
    /// Of a client without a digest that is no relay.
    pub fn new(role: ClientRole, tc_url: impl Into<String>, app: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            tc_url: tc_url.into(),
            app: app.into(),
            name: name.into(),
            role,
            chunk_bytes: CHUNK_BYTES_OUT_DEFAULT,
            digest: false,
            relay: false,
            hops: Vec::new(),
        }
    }
}

/// Names and queries are secrets of push targets.
impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig").field("role", &self.role).field("hops", &self.hops).finish_non_exhaustive()
    }
}

/// What the server said or sent.
#[derive(Debug, PartialEq)]
pub enum ClientEvent<'a> {
    /// NetStream.Publish.Start: media may be sent.
    Publishing,
    /// NetStream.Play.Start: media follows.
    Playing,
    /// Audio, video and data of the stream played; the server's own data messages are not among them.
    Media { kind: Kind, timestamp: u32, payload: &'a [u8] },
    /// Any other onStatus. A player may still be told that its stream is not found.
    Status { code: String, description: String, level: String },
    /// UnpublishNotify, Play.Stop, Play.Complete, Unpublish.Success, Connect.Closed or StreamEOF, once until the next
    /// `Playing`.
    Ended,
    /// The server asks to go on at another server, at a media boundary, and serves until then (Enhanced RTMP v2, "Reconnect
    /// Request"). Where that is, [`RtmpUrl::resolve`](super::url::RtmpUrl::resolve) says from the session's own tcUrl.
    Reconnect { tc_url: Option<String>, description: String },
}

/// The client's side of one RTMP connection.
pub struct ClientSession {
    handshake: Option<Box<ClientHandshake>>,
    reader: ChunkReader,
    /// The aggregate message whose parts are being delivered.
    aggregate: Option<Box<Aggregate>>,
    conversation: Conversation,
}

/// What waits to be sent may hold secrets, too.
impl fmt::Debug for ClientSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSession").finish_non_exhaustive()
    }
}

impl ClientSession {
    /// `nonce` seeds the handshake's random bytes; `now` starts the deadlines. C0 and C1 are in the output at once.
    pub fn new(config: ClientConfig, nonce: u64, now: Duration) -> Self {
        let mut handshake = Box::new(ClientHandshake::new(nonce, config.digest));
        let announced = config.relay.then(Capabilities::of_relay);
        let mut conversation = Conversation::new(config, now);
        conversation.announced = announced.map(Box::new);
        handshake.start(0, conversation.outbox.bytes());
        Self {
            handshake: Some(handshake),
            reader: ChunkReader::starting_at(HANDSHAKE_BYTES),
            aggregate: None,
            conversation,
        }
    }

    /// The client as one that says so much of Enhanced RTMP v2 in its connect. To be called before the first `receive`.
    pub fn announcing(mut self, capabilities: Capabilities) -> Self {
        self.conversation.announced = Some(Box::new(capabilities));
        self
    }

    /// What the server said of Enhanced RTMP v2 in its reply to connect, if it did.
    pub fn server_capabilities(&self) -> Option<&Capabilities> {
        self.conversation.answered.as_deref()
    }

    /// Consumes from the front of `input` up to the next event, or all of it (`None`).
    pub fn receive<'s, 'i: 's>(
        &'s mut self,
        input: &mut &'i [u8],
        now: Duration,
    ) -> Result<Option<ClientEvent<'s>>, SessionError> {
        self.conversation.outbox.release();
        if !self.shake_hands(input, now)? {
            return Ok(None);
        }
        let (delivered, kind) = loop {
            if let Some(Part { kind, timestamp }) = self.next_part()? {
                let payload = self.aggregate.as_deref().map_or(&[][..], Aggregate::payload);
                return Ok(Some(ClientEvent::Media { kind, timestamp, payload }));
            }
            let before = input.len();
            let delivered = self.reader.deliver(input)?;
            self.conversation.count(before.saturating_sub(input.len()))?;
            let Some(delivered) = delivered else { return Ok(None) };
            let message = self.reader.message(delivered);
            match self.conversation.message(&message)? {
                Verdict::Nothing => {}
                Verdict::Event(event) => return Ok(Some(event)),
                Verdict::Media(kind) => break (delivered, kind),
                Verdict::Aggregate => {
                    self.aggregate = Some(Box::new(Aggregate::new(message.header.stream_id, &message)));
                }
            }
        };
        let message = self.reader.message(delivered);
        let payload = if kind == Kind::Data { amf0_body(&message) } else { message.payload };
        Ok(Some(ClientEvent::Media { kind, timestamp: message.header.timestamp, payload }))
    }

    /// The next part of the aggregate at hand; what is no media in it is left out.
    fn next_part(&mut self) -> Result<Option<Part>, SessionError> {
        while let Some(aggregate) = &mut self.aggregate {
            match aggregate.next() {
                Next::Part(part) => return Ok(Some(part)),
                Next::Skipped => self.conversation.stray(aggregate.stream)?,
                Next::End => self.aggregate = None,
            }
        }
        Ok(None)
    }

    /// Whether the handshake is done; connect is sent when it is.
    fn shake_hands(&mut self, input: &mut &[u8], now: Duration) -> Result<bool, SessionError> {
        let Some(handshake) = &mut self.handshake else { return Ok(true) };
        let uptime_ms = now.saturating_sub(self.conversation.started).as_millis() as u32;
        if !handshake.receive(input, uptime_ms, self.conversation.outbox.bytes())? {
            return Ok(false);
        }
        self.handshake = None;
        self.conversation.connect();
        Ok(true)
    }

    /// Whether the handshake is done: the server speaks RTMP.
    pub fn has_shaken_hands(&self) -> bool {
        self.handshake.is_none()
    }

    /// The message stream that media goes out on, once createStream was answered; 0 before.
    pub fn stream_id(&self) -> u32 {
        self.conversation.stream
    }

    /// Bytes to send; the host takes from it (`split().freeze()`).
    pub fn output(&mut self) -> &mut BytesMut {
        self.conversation.outbox.bytes()
    }

    pub fn has_output(&self) -> bool {
        self.conversation.outbox.len() > 0
    }

    /// All of the output. Unlike `output().split()` it leaves no buffer behind.
    pub fn take_output(&mut self) -> Bytes {
        self.conversation.outbox.take()
    }

    /// Appends a message of the stream published. The host sends none before [`ClientEvent::Publishing`], bounds what
    /// waits in `output`, and keeps `payload` within 0xFFFFFF bytes.
    pub fn send_media(&mut self, kind: Kind, timestamp: u32, payload: &[u8]) {
        let stream_id = self.conversation.stream;
        let header =
            Header { csid: media_csid(kind, stream_id), timestamp, length: 0, type_id: kind.type_id(), stream_id };
        let Conversation { media, outbox, .. } = &mut self.conversation;
        media.write(header, payload, outbox.bytes());
    }

    /// Appends metadata: `body` is AMF0 from "onMetaData" on, "@setDataFrame" is put before it.
    pub fn send_metadata(&mut self, body: &[u8]) {
        let mut payload = BytesMut::new();
        Encoder::new(&mut payload).string("@setDataFrame");
        payload.extend_from_slice(body);
        self.send_media(Kind::Data, 0, &payload);
    }

    /// Says the orderly end: FCUnpublish and deleteStream, or deleteStream. The host sends the output and closes.
    pub fn close(&mut self) {
        self.conversation.close();
    }

    /// When `timeout` is to be called, if nothing else happens. A server may let a player wait for its stream, so for a
    /// player the last deadline ends with the reply to createStream.
    pub fn deadline(&self) -> Option<Duration> {
        self.conversation.deadline().map(|(at, _)| at)
    }

    /// Err if a deadline has passed.
    pub fn timeout(&self, now: Duration) -> Result<(), SessionError> {
        match self.conversation.deadline() {
            Some((at, error)) if now >= at => Err(error),
            _ => Ok(()),
        }
    }
}
