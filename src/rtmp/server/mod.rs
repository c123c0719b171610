//! The server's side of one RTMP connection: handshake, commands, and the media of its publishers.
//!
//! [`ServerSession`] turns a peer's bytes into [`ServerEvent`]s and the host's decisions into replies. It owns the
//! handshake, the chunk reader, what the connection negotiated and its message streams; it
//! knows no other connection, and writes no media: a player's media is the stream log's, on other csids.
//!
//! Bounds: silence by three deadlines, bytes before `connect`, message streams, unassigned message types, media nobody
//! asked for, and replies the peer does not read. At a bound `receive` or `timeout` returns a [`SessionError`] and the
//! host closes the connection; requests that are merely refused leave it alive and show as [`ServerEvent::Refused`].
//!
//! The host feeds `receive` until it returns `None`, sends what `output` holds, and calls `timeout` at `deadline`.

mod connect;
mod connection;
mod requests;
mod streams;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::{Bytes, BytesMut};

pub use super::error::SessionError;
use super::{
    RECONNECT_REQUEST, STREAM_NOT_FOUND,
    aggregate::{Aggregate, Next, Part},
    capabilities::{Capabilities, caps_ex},
    chunk::{ChunkReader, Delivered},
    command::amf0_body,
    control::event,
    handshake::{HANDSHAKE_BYTES, ServerHandshake},
    key::{KeyError, StreamKey},
    message::Kind,
};
use connect::{Connect, Dialect};
use connection::{NetConnection, Verdict};
use streams::Use;

/// What the host of a session sets.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Chunk size announced (once, in the reply to connect) and used for everything the session and the log write.
    pub chunk_bytes: usize,
    /// Whether the host decides on connects, too: each sound one is a [`ServerEvent::Connect`].
    pub asks_connect: bool,
    /// Whether [`ServerSession::client`] is kept.
    pub keeps_client: bool,
}

impl ServerConfig {
    /// For a host that has no say in connects.
    pub fn new(chunk_bytes: usize) -> Self {
        Self { chunk_bytes, asks_connect: false, keeps_client: false }
    }
}

/// What a client calls itself and where it says that it comes from; nobody checks it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientWords {
    pub flash_version: String,
    pub swf_url: String,
    pub page_url: String,
}

/// What a peer asked for or sent. A `Connect`, `Publish` or `Play` is answered with one of the session's methods; until it
/// is, the host does not call `receive` (while a decision is pending the connection is not read).
#[derive(Debug, PartialEq)]
pub enum ServerEvent<'a> {
    /// `connect` with a usable app and tcUrl, which [`ServerSession::app`] and its kin have from here on. Only with
    /// [`ServerConfig::asks_connect`].
    Connect,
    /// `publish` with a valid name on message stream `stream`, which was idle. `query` is what followed `?` in the name.
    Publish { stream: u32, key: StreamKey, query: String },
    /// `play` with a valid name on a message stream that was idle, or `play2` on one that may have played and does so no more.
    /// What it is to receive says [`ServerSession::receives`].
    Play { stream: u32, key: StreamKey, query: String },
    /// An audio, video or data message on a stream whose publish was accepted. AMF3 data (type 15) arrives as
    /// `Kind::Data` without its leading zero byte, parts of an aggregate one by one.
    Media { stream: u32, kind: Kind, timestamp: u32, payload: &'a [u8] },
    /// A publish or play was ended by deleteStream, closeStream, FCUnpublish, or by publish or play of `false`.
    Ended { stream: u32 },
    /// The player's receiveAudio / receiveVideo, and a change.
    Receive { stream: u32, kind: Kind, on: bool },
    /// The player's pause / pauseRaw.
    Pause { stream: u32, on: bool },
    /// A request was answered with an error; the connection lives on. `stream` is the message stream it came on.
    Refused { stream: u32, reason: Refused },
}

/// Why the session itself refused a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A command other than `connect` before `connect` was accepted.
    BeforeConnect,
    /// `connect` without an app or tcUrl, or with unusable ones, or a second one.
    Connect,
    /// publish or play on a message stream that publishes or plays already.
    StreamBusy,
    /// publish or play on a message stream that createStream did not make.
    NoSuchMessageStream,
    /// createStream beyond [`MESSAGE_STREAMS_MAX`](crate::limits::MESSAGE_STREAMS_MAX).
    MessageStreams,
    /// publish or play of a name that cannot be a stream's.
    BadName(KeyError),
}

/// Why a publish is refused, as the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishRefusal {
    /// NetStream.Publish.BadName: somebody else publishes it.
    NameTaken,
    /// NetStream.Publish.Denied.
    Denied,
}

/// Why a play is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlayRefusal {
    /// NetStream.Play.StreamNotFound.
    NotFound,
    /// NetStream.Play.Failed.
    Failed,
}

/// The server's side of one RTMP connection.
#[derive(Debug)]
pub struct ServerSession {
    stage: Option<Box<Stage>>,
    reader: ChunkReader,
    connection: NetConnection,
}

/// What messages wait for. They never meet, so they share a place.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one at a time, and not for long")]
enum Stage {
    Handshake(ServerHandshake),
    /// A connect that the host decides on: its transaction, and how its client wants to be answered.
    Connect(f64, Dialect),
    /// A message whose parts are being delivered.
    Aggregate(Aggregate),
}

impl ServerSession {
    /// `nonce` seeds the handshake's random bytes; `now` starts the deadlines.
    pub fn new(config: ServerConfig, nonce: u64, now: Duration) -> Self {
        Self {
            stage: Some(Box::new(Stage::Handshake(ServerHandshake::new(nonce)))),
            reader: ChunkReader::starting_at(HANDSHAKE_BYTES),
            connection: NetConnection::new(&config, now),
        }
    }

    /// Closes on messages longer than `bytes`: see [`ChunkReader::limit_messages`].
    pub fn limiting_messages(mut self, bytes: usize) -> Self {
        self.reader.limit_messages(bytes);
        self
    }

    /// Bytes held for messages that are not whole.
    pub fn in_flight_bytes(&self) -> usize {
        self.reader.in_flight_bytes()
    }

    /// Lets go of them: nothing more will be received.
    pub fn discard_in_flight(&mut self) {
        self.reader.discard_all();
    }

    /// Consumes from the front of `input` up to the next event, or all of it (`None`). Whatever is answered meanwhile is
    /// in [`output`](Self::output), on an error too.
    pub fn receive<'s, 'i: 's>(
        &'s mut self,
        input: &mut &'i [u8],
        now: Duration,
    ) -> Result<Option<ServerEvent<'s>>, SessionError> {
        self.connection.begin_turn(now);
        if !self.shake_hands(input, now)? {
            return Ok(None);
        }
        let found = loop {
            if let Some((stream, part)) = self.next_part()? {
                break Found::Part(stream, part);
            }
            let before = input.len();
            let delivered = self.reader.deliver(input)?;
            self.connection.count(before.saturating_sub(input.len()))?;
            let Some(delivered) = delivered else { return Ok(None) };
            let message = self.reader.message(delivered);
            match self.connection.message(&message)? {
                Verdict::Nothing => {}
                Verdict::Event(event) => {
                    self.connection.note_turn(now);
                    return Ok(Some(event));
                }
                Verdict::Connect(transaction, dialect) => {
                    self.stage = Some(Box::new(Stage::Connect(transaction, dialect)));
                    return Ok(Some(ServerEvent::Connect));
                }
                Verdict::Media { stream, kind } => break Found::Message(stream, kind, delivered),
                Verdict::Aggregate { stream } => {
                    self.stage = Some(Box::new(Stage::Aggregate(Aggregate::new(stream, &message))));
                }
            }
        };
        Ok(Some(match found {
            Found::Part(stream, Part { kind, timestamp, .. }) => {
                let payload = match self.stage.as_deref() {
                    Some(Stage::Aggregate(aggregate)) => aggregate.payload(),
                    _ => &[],
                };
                ServerEvent::Media { stream, kind, timestamp, payload }
            }
            Found::Message(stream, kind, delivered) => {
                let message = self.reader.message(delivered);
                let payload = if kind == Kind::Data { amf0_body(&message) } else { message.payload };
                ServerEvent::Media { stream, kind, timestamp: message.header.timestamp, payload }
            }
        }))
    }

    /// Whether the handshake is done, and no connect waits for the host's decision.
    fn shake_hands(&mut self, input: &mut &[u8], now: Duration) -> Result<bool, SessionError> {
        let handshake = match self.stage.as_deref_mut() {
            Some(Stage::Handshake(handshake)) => handshake,
            Some(Stage::Connect(..)) => return Ok(false),
            _ => return Ok(true),
        };
        let time_ms = self.connection.uptime_ms(now);
        if !handshake.receive(input, time_ms, self.connection.outbox.bytes())? {
            return Ok(false);
        }
        self.stage = None;
        Ok(true)
    }

    fn is_shaking_hands(&self) -> bool {
        matches!(self.stage.as_deref(), Some(Stage::Handshake(_)))
    }

    /// The next part of the aggregate at hand; `None` if there is none, or its stream no longer publishes.
    fn next_part(&mut self) -> Result<Option<(u32, Part)>, SessionError> {
        while let Some(Stage::Aggregate(aggregate)) = self.stage.as_deref_mut() {
            let stream = aggregate.stream;
            if !self.connection.is_publishing(stream) {
                break;
            }
            match aggregate.next() {
                Next::Part(part) => return Ok(Some((stream, part))),
                Next::Skipped => self.connection.stray(stream)?,
                Next::End => break,
            }
        }
        self.stage = None;
        Ok(None)
    }

    /// Bytes to send, control and command messages only (whole chunks); the host takes from it (`split().freeze()`).
    pub fn output(&mut self) -> &mut BytesMut {
        self.connection.outbox.bytes()
    }

    /// All of the output. Unlike `output().split()` it leaves no buffer behind: the way to take it for connections that
    /// then stay quiet for long.
    pub fn take_output(&mut self) -> Bytes {
        self.connection.outbox.take()
    }

    pub fn has_output(&self) -> bool {
        self.connection.outbox.len() > 0
    }

    /// When `timeout` is to be called, if nothing else happens. While a stream publishes, plays or waits for the host's
    /// decision there is no deadline here; progress and idleness of media are the host's to watch.
    pub fn deadline(&self) -> Option<Duration> {
        self.connection.deadline(self.is_shaking_hands()).map(|(at, _)| at)
    }

    /// Err if a deadline has passed.
    pub fn timeout(&self, now: Duration) -> Result<(), SessionError> {
        match self.connection.deadline(self.is_shaking_hands()) {
            Some((at, error)) if now >= at => Err(error),
            _ => Ok(()),
        }
    }

    /// NetConnection.Connect.Success, to a [`ServerEvent::Connect`].
    pub fn accept_connect(&mut self) {
        if let Some((transaction, dialect)) = self.take_connect() {
            self.connection.accept_connect(transaction, dialect);
        }
    }

    /// NetConnection.Connect.Rejected. The host closes the connection.
    pub fn refuse_connect(&mut self, description: &str) {
        if let Some((transaction, _)) = self.take_connect() {
            self.connection.connect = None;
            let outbox = &mut self.connection.outbox;
            connect::reject(transaction, "NetConnection.Connect.Rejected", description, outbox);
        }
    }

    fn take_connect(&mut self) -> Option<(f64, Dialect)> {
        match self.stage.as_deref() {
            Some(Stage::Connect(transaction, dialect)) => {
                let asked = (*transaction, *dialect);
                self.stage = None;
                Some(asked)
            }
            _ => None,
        }
    }

    /// onFCPublish (hardware appliances hang without it) and NetStream.Publish.Start: media is taken from here on.
    pub fn accept_publish(&mut self, stream: u32) {
        if self.connection.streams.get(stream) != Use::PublishAsked {
            return;
        }
        self.connection.streams.set(stream, Use::Publishing);
        self.connection.fc_status(stream, "onFCPublish", "NetStream.Publish.Start");
        let description = "Publishing live; nothing is recorded here.";
        self.connection.outbox.status(stream, "status", "NetStream.Publish.Start", description);
    }

    /// The stream is idle again; the client may try another name on it.
    pub fn refuse_publish(&mut self, stream: u32, why: PublishRefusal, description: &str) {
        let code = match why {
            PublishRefusal::NameTaken => "NetStream.Publish.BadName",
            PublishRefusal::Denied => "NetStream.Publish.Denied",
        };
        if self.connection.streams.get(stream) == Use::PublishAsked {
            self.refuse(stream, code, description);
        }
    }

    /// StreamBegin, Play.Reset, Play.Start, |RtmpSampleAccess, Data.Start: from here the host sends media. May be called
    /// again after [`end_play`](Self::end_play).
    pub fn start_play(&mut self, stream: u32) {
        if !matches!(self.connection.streams.get(stream), Use::PlayAsked | Use::Playing) {
            return;
        }
        self.connection.streams.set(stream, Use::Playing);
        let outbox = &mut self.connection.outbox;
        outbox.user_control(event::STREAM_BEGIN, &[stream]);
        outbox.status(stream, "status", "NetStream.Play.Reset", "Playing and resetting.");
        outbox.status(stream, "status", "NetStream.Play.Start", "Playing.");
        outbox.data(stream, |out| {
            out.string("|RtmpSampleAccess").boolean(true).boolean(true);
        });
        outbox.data(stream, |out| {
            out.string("onStatus").object().key("code").string("NetStream.Data.Start").end();
        });
    }

    /// The stream is idle again; the client may ask for another name on it. A play that was started may be refused, too,
    /// when nobody publishes what it waits for.
    pub fn refuse_play(&mut self, stream: u32, why: PlayRefusal, description: &str) {
        let code = match why {
            PlayRefusal::NotFound => STREAM_NOT_FOUND,
            PlayRefusal::Failed => "NetStream.Play.Failed",
        };
        if matches!(self.connection.streams.get(stream), Use::PlayAsked | Use::Playing) {
            self.refuse(stream, code, description);
        }
    }

    /// The stream a player watches ended: UnpublishNotify, StreamEOF and Play.Stop, on any of which players close. For
    /// one that stays, the stream may start again ([`start_play`](Self::start_play)).
    pub fn end_play(&mut self, stream: u32) {
        if !matches!(self.connection.streams.get(stream), Use::Playing) {
            return;
        }
        let outbox = &mut self.connection.outbox;
        outbox.status(stream, "status", "NetStream.Play.UnpublishNotify", "The publisher ended the stream.");
        outbox.user_control(event::STREAM_EOF, &[stream]);
        outbox.status(stream, "status", "NetStream.Play.Stop", "Stopped playing.");
    }

    /// The server goes away or gives the publisher up: NetStream.Unpublish.Success, and the stream is idle again.
    pub fn end_publish(&mut self, stream: u32, description: &str) {
        if self.connection.is_publishing(stream) {
            self.connection.streams.set(stream, Use::Idle);
            self.connection.unpublished(stream, description);
        }
    }

    /// Another publisher has the name: NetStream.Publish.BadName says so to whoever looks for errors, and the rest is as with
    /// [`end_publish`](Self::end_publish).
    pub fn replace_publish(&mut self, stream: u32, description: &str) {
        if self.connection.is_publishing(stream) {
            self.connection.outbox.status(stream, "error", "NetStream.Publish.BadName", description);
            self.end_publish(stream, description);
        }
    }

    /// Asks the client to move to another server at a media boundary (Enhanced RTMP v2, "Reconnect Request"). `tc_url` is
    /// absolute or relative to the client's own; without it the client comes back to the same place. The session goes on
    /// until the client leaves. False: the client did not announce that it can, and was told nothing.
    pub fn request_reconnect(&mut self, tc_url: Option<&str>, description: &str) -> bool {
        let can = self.can_reconnect();
        if can {
            self.connection.outbox.command(0, "onStatus", 0.0, |out| {
                out.null().object().key("level").string("status").key("code").string(RECONNECT_REQUEST);
                if let Some(tc_url) = tc_url {
                    out.key("tcUrl").string(tc_url);
                }
                out.key("description").string(description).end();
            });
        }
        can
    }

    /// Whether the client announced that it takes ReconnectRequests, in a connect that the host may have yet to decide on.
    pub fn can_reconnect(&self) -> bool {
        self.caps_ex() & caps_ex::RECONNECT != 0
    }

    /// Whether a sound connect came. The host may have yet to decide on it ([`ServerConfig::asks_connect`]).
    pub fn has_connected(&self) -> bool {
        self.connection.connect.is_some()
    }

    /// The app of the connect, its query included; empty before.
    pub fn app(&self) -> &str {
        self.connection.connect.as_ref().map_or("", Connect::app)
    }

    /// The tcUrl of the connect, its query included; empty before.
    pub fn tc_url(&self) -> &str {
        self.connection.connect.as_ref().map_or("", Connect::tc_url)
    }

    /// What the client said of itself in its connect, with [`ServerConfig::keeps_client`].
    pub fn client(&self) -> ClientWords {
        self.connection.connect.as_ref().map(Connect::client).unwrap_or_default()
    }

    /// The nodes that the stream of the accepted connect has passed before it came here, the last
    /// [`HOPS_MAX`](crate::limits::HOPS_MAX) of them; none of a client that is no relay.
    pub fn hops(&self) -> impl Iterator<Item = &str> {
        self.connection.connect.iter().flat_map(Connect::hops)
    }

    /// Whether [`hops`](Self::hops) are not all there were, because they were too many or their names are none. Such a
    /// stream may go in circles.
    pub fn has_more_hops(&self) -> bool {
        self.connection.connect.as_ref().is_some_and(Connect::leaves_hops_out)
    }

    /// Whether a player on `stream` wants messages of `kind`: receiveAudio and receiveVideo, which may come before play.
    pub fn receives(&self, stream: u32, kind: Kind) -> bool {
        self.connection.streams.receives(stream, kind)
    }

    /// What the client said of Enhanced RTMP v2 in its connect, if it did.
    pub fn capabilities(&self) -> Option<Capabilities> {
        self.connection.connect.as_ref().and_then(Connect::capabilities)
    }

    /// The client's `capsEx`; 0 if it said nothing. See [`caps_ex`].
    pub fn caps_ex(&self) -> u8 {
        self.capabilities().map_or(0, |capabilities| capabilities.caps_ex)
    }

    /// Whether the client takes Multitrack messages.
    pub fn takes_multitrack(&self) -> bool {
        self.caps_ex() & caps_ex::MULTITRACK != 0
    }

    /// What was asked for on `stream`, or is being played there without having come.
    fn refuse(&mut self, stream: u32, code: &str, description: &str) {
        if matches!(self.connection.streams.get(stream), Use::PublishAsked | Use::PlayAsked | Use::Playing) {
            self.connection.streams.set(stream, Use::Idle);
            self.connection.outbox.status(stream, "error", code, description);
        }
    }
}

/// Media to deliver, and where its payload is.
enum Found<'i> {
    /// The last part of the aggregate.
    Part(u32, Part),
    Message(u32, Kind, Delivered<'i>),
}
