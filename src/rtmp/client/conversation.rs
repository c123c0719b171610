//! The commands between a client and its server, from connect to the end of its stream.

use std::time::Duration;

use super::super::{
    HOPS, RECONNECT_REQUEST, STREAM_NOT_FOUND,
    amf0::{AmfError, Value},
    capabilities::{Capabilities, caps_ex},
    chunk::ChunkWriter,
    command::{Command, amf0_body},
    control::{Control, Outbox, Received, event},
    error::SessionError,
    message::{Header, Kind, Message, type_id},
};
use super::{ClientConfig, ClientEvent, ClientRole};
use crate::limits::{
    ACK_WINDOW_BYTES_DEFAULT, CONNECT_DEADLINE, HANDSHAKE_DEADLINE, PRE_CONNECT_BYTES_MAX, REPLY_BYTES_MAX,
    REQUEST_DEADLINE, STRAY_MEDIA_MESSAGES_MAX, UNKNOWN_MESSAGES_MAX,
};

/// What players say they buffer (SetBufferLength), in milliseconds.
const BUFFER_LENGTH_MS: u32 = 3_000;
/// Transactions, in the order of the commands. No reply is waited for but those to connect and createStream.
const CONNECT: f64 = 1.0;
const RELEASE_STREAM: f64 = 2.0;
const FC_PUBLISH: f64 = 3.0;
const CREATE_STREAM: f64 = 4.0;
const REQUEST: f64 = 5.0;
const CLOSE: f64 = 6.0;

/// What a request is refused with, whatever level servers say it on.
const REFUSALS: [&str; 9] = [
    "NetConnection.Connect.Failed",
    "NetConnection.Connect.InvalidApp",
    "NetConnection.Connect.Rejected",
    "NetStream.Failed",
    "NetStream.Play.Failed",
    "NetStream.Publish.BadName",
    "NetStream.Publish.Denied",
    "NetStream.Publish.Rejected",
    STREAM_NOT_FOUND,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Handshake,
    Connecting,
    CreatingStream,
    Requesting,
    Live,
    Ended,
}

/// Everything but the reader, so that a message borrowed from it can be acted on.
pub(super) struct Conversation {
    config: ClientConfig,
    phase: Phase,
    pub(super) outbox: Outbox,
    /// Of what is published.
    pub(super) media: ChunkWriter,
    received: Received,
    pub(super) started: Duration,
    /// The message stream createStream made; 0 before.
    pub(super) stream: u32,
    unknown_messages: u32,
    stray_media: u32,
    pub(super) announced: Option<Box<Capabilities>>,
    pub(super) answered: Option<Box<Capabilities>>,
}

/// What a message means to the host.
pub(super) enum Verdict {
    Nothing,
    Event(ClientEvent<'static>),
    Media(Kind),
    /// The message holds media.
    Aggregate,
}

impl Conversation {
    pub(super) fn new(config: ClientConfig, now: Duration) -> Self {
        Self {
            config,
            phase: Phase::Handshake,
            outbox: Outbox::default(),
            media: ChunkWriter::new(),
            received: Received::new(),
            started: now,
            stream: 0,
            unknown_messages: 0,
            stray_media: 0,
            announced: None,
            answered: None,
        }
    }

    /// When which deadline passes.
    pub(super) fn deadline(&self) -> Option<(Duration, SessionError)> {
        let (after, error) = match (self.phase, self.config.role) {
            (Phase::Handshake, _) => (HANDSHAKE_DEADLINE, SessionError::HandshakeTimeout),
            (Phase::Connecting, _) => (CONNECT_DEADLINE, SessionError::ConnectTimeout),
            (Phase::CreatingStream, _) | (Phase::Requesting, ClientRole::Publish) => {
                (REQUEST_DEADLINE, SessionError::RequestTimeout)
            }
            _ => return None,
        };
        Some((self.started + after, error))
    }

    /// Whether there is room for replies, which a server may provoke without end.
    fn may_reply(&self) -> bool {
        self.outbox.len() < REPLY_BYTES_MAX
    }

    /// Counts bytes taken from the chunk stream and acknowledges them when it is time.
    pub(super) fn count(&mut self, bytes: usize) -> Result<(), SessionError> {
        self.received.add(bytes);
        let bytes = u64::from(self.received.total());
        if self.phase == Phase::Connecting && bytes > PRE_CONNECT_BYTES_MAX {
            return Err(SessionError::PreConnectBytes { bytes });
        }
        if self.may_reply()
            && let Some(total) = self.received.due()
        {
            self.outbox.acknowledge(total);
        }
        Ok(())
    }

    pub(super) fn message(&mut self, message: &Message<'_>) -> Result<Verdict, SessionError> {
        let Header { type_id, csid, stream_id, .. } = message.header;
        Ok(match type_id {
            type_id::AUDIO => self.media(stream_id, Verdict::Media(Kind::Audio))?,
            type_id::VIDEO => self.media(stream_id, Verdict::Media(Kind::Video))?,
            type_id::DATA_AMF0 | type_id::DATA_AMF3 if is_servers_own(amf0_body(message)) => Verdict::Nothing,
            type_id::DATA_AMF0 | type_id::DATA_AMF3 => self.media(stream_id, Verdict::Media(Kind::Data))?,
            type_id::COMMAND_AMF0 | type_id::COMMAND_AMF3 => {
                self.command(message)?.map_or(Verdict::Nothing, Verdict::Event)
            }
            type_id::ACKNOWLEDGEMENT..=type_id::SET_PEER_BANDWIDTH => self.control(Control::parse(message)?),
            type_id::AGGREGATE => self.media(stream_id, Verdict::Aggregate)?,
            type_id::SHARED_OBJECT_AMF0 | type_id::SHARED_OBJECT_AMF3 => Verdict::Nothing,
            _ => {
                self.unknown_messages += 1;
                if self.unknown_messages > UNKNOWN_MESSAGES_MAX {
                    return Err(SessionError::UnknownMessages { type_id, csid });
                }
                Verdict::Nothing
            }
        })
    }

    /// Media is a player's, from the first Play.Start on; librtmp passes over what comes before, too. A publisher's host may
    /// have asked for other message streams by itself.
    fn media(&mut self, stream: u32, verdict: Verdict) -> Result<Verdict, SessionError> {
        let is_asked_for = match self.config.role {
            ClientRole::Play => matches!(self.phase, Phase::Live | Phase::Ended),
            ClientRole::Publish => self.stream != 0 && self.stream != stream,
        };
        if is_asked_for {
            return Ok(verdict);
        }
        self.stray(stream)?;
        Ok(Verdict::Nothing)
    }

    /// Counts media that belongs nowhere.
    pub(super) fn stray(&mut self, stream: u32) -> Result<(), SessionError> {
        self.stray_media += 1;
        if self.stray_media > STRAY_MEDIA_MESSAGES_MAX {
            return Err(SessionError::StrayMedia { stream });
        }
        Ok(())
    }

    fn control(&mut self, control: Control) -> Verdict {
        match control {
            Control::WindowAckSize(bytes) => self.received.set_window(bytes),
            Control::Ping(value) if self.may_reply() => self.outbox.user_control(event::PING_RESPONSE, &[value]),
            Control::StreamEof => return self.end().map_or(Verdict::Nothing, Verdict::Event),
            Control::Ping(_) | Control::Ignored => {}
        }
        Verdict::Nothing
    }

    fn command(&mut self, message: &Message<'_>) -> Result<Option<ClientEvent<'static>>, SessionError> {
        let Header { csid, stream_id, .. } = message.header;
        let amf = |source: AmfError| SessionError::Amf { csid, stream: stream_id, source };
        let mut command = Command::parse(message).map_err(amf)?;
        match command.name.as_str() {
            "_result" => {
                let value = command.own_argument().map_err(amf)?;
                self.result(command.transaction, &value);
                Ok(None)
            }
            // Servers answer releaseStream and FCPublish with _error; that is no refusal.
            "_error"
                if self.phase != Phase::Live
                    && (command.transaction == CONNECT || command.transaction == CREATE_STREAM) =>
            {
                Err(refused(&command.own_argument().map_err(amf)?))
            }
            "onStatus" => {
                let status = command.own_argument().map_err(amf)?;
                self.status(&status)
            }
            _ => Ok(None),
        }
    }

    pub(super) fn connect(&mut self) {
        self.phase = Phase::Connecting;
        let ClientConfig { tc_url, app, role, chunk_bytes, hops, .. } = &self.config;
        let announced = self.announced.as_deref();
        self.outbox.set_chunk_bytes(*chunk_bytes);
        self.media = ChunkWriter::of_chunks(self.outbox.chunk_bytes());
        self.outbox.command(0, "connect", CONNECT, |out| {
            out.object().key("app").string(app);
            if *role == ClientRole::Publish {
                out.key("type").string("nonprivate");
            }
            out.key("flashVer").string("FMLE/3.0 (compatible; Shardcast)").key("tcUrl").string(tc_url);
            out.key("fpad").boolean(false).key("capabilities").number(15.0);
            out.key("audioCodecs").number(4_071.0).key("videoCodecs").number(252.0);
            match announced {
                Some(capabilities) => capabilities.write(out),
                None => drop(out.key("videoFunction").number(1.0).key("capsEx").number(caps_ex::RECONNECT.into())),
            }
            if !hops.is_empty() {
                out.key(HOPS).string(&hops.join(","));
            }
            out.key("objectEncoding").number(0.0).end();
        });
    }

    /// `_result` of connect or createStream moves the conversation on; others mean nothing.
    fn result(&mut self, transaction: f64, value: &Value) {
        if self.phase == Phase::Connecting && transaction == CONNECT {
            self.phase = Phase::CreatingStream;
            self.answered = Capabilities::read(value).map(Box::new);
            self.outbox.window_ack_size(ACK_WINDOW_BYTES_DEFAULT);
            if self.config.role == ClientRole::Publish {
                let name = &self.config.name;
                for (command, transaction) in [("releaseStream", RELEASE_STREAM), ("FCPublish", FC_PUBLISH)] {
                    self.outbox.command(0, command, transaction, |out| {
                        out.null().string(name);
                    });
                }
            }
            self.outbox.command(0, "createStream", CREATE_STREAM, |out| {
                out.null();
            });
        } else if self.phase == Phase::CreatingStream && transaction == CREATE_STREAM {
            // A saturating cast; ids above what csids can be made of are not used by any server.
            self.stream = value.as_finite().map_or(1, |id| (id as u32).clamp(1, u32::from(u16::MAX) / 4));
            self.phase = Phase::Requesting;
            self.ask();
        }
    }

    fn ask(&mut self) {
        let Self { config: ClientConfig { name, role, .. }, outbox, stream, .. } = self;
        match role {
            ClientRole::Publish => outbox.command(*stream, "publish", REQUEST, |out| {
                out.null().string(name).string("live");
            }),
            ClientRole::Play => {
                // -2000: the live stream of that name, or a recording if there is none.
                outbox.command(*stream, "play", REQUEST, |out| {
                    out.null().string(name).number(-2_000.0);
                });
                outbox.user_control(event::SET_BUFFER_LENGTH, &[*stream, BUFFER_LENGTH_MS]);
            }
        }
    }

    fn status(&mut self, status: &Value) -> Result<Option<ClientEvent<'static>>, SessionError> {
        let text = |name| status.get(name).and_then(Value::as_str).unwrap_or_default();
        match text("code") {
            "NetStream.Publish.Start" if self.config.role == ClientRole::Publish => {
                self.phase = Phase::Live;
                Ok(Some(ClientEvent::Publishing))
            }
            "NetStream.Play.Start" if self.config.role == ClientRole::Play => {
                self.phase = Phase::Live;
                Ok(Some(ClientEvent::Playing))
            }
            // nginx-rtmp starts a stream that comes back with no more than this.
            "NetStream.Play.PublishNotify" if self.config.role == ClientRole::Play && self.phase == Phase::Ended => {
                self.phase = Phase::Live;
                Ok(Some(ClientEvent::Playing))
            }
            "NetStream.Play.UnpublishNotify"
            | "NetStream.Play.Stop"
            | "NetStream.Play.Complete"
            | "NetStream.Unpublish.Success"
            | "NetConnection.Connect.Closed" => Ok(self.end()),
            RECONNECT_REQUEST => Ok(Some(ClientEvent::Reconnect {
                tc_url: status.get("tcUrl").and_then(Value::as_str).map(ToOwned::to_owned),
                description: text("description").to_owned(),
            })),
            code if self.phase != Phase::Live && (text("level") == "error" || REFUSALS.contains(&code)) => {
                Err(refused(status))
            }
            code => Ok(Some(ClientEvent::Status {
                code: code.to_owned(),
                description: text("description").to_owned(),
                level: text("level").to_owned(),
            })),
        }
    }

    /// Says the orderly end, if there is a message stream to end.
    pub(super) fn close(&mut self) {
        let Conversation { config, outbox, stream, phase, .. } = self;
        if *stream == 0 {
            return;
        }
        if config.role == ClientRole::Publish {
            outbox.command(0, "FCUnpublish", CLOSE, |out| {
                out.null().string(&config.name);
            });
        }
        outbox.command(0, "deleteStream", 0.0, |out| {
            out.null().number((*stream).into());
        });
        *phase = Phase::Ended;
    }

    fn end(&mut self) -> Option<ClientEvent<'static>> {
        if self.phase != Phase::Live {
            return None;
        }
        self.phase = Phase::Ended;
        Some(ClientEvent::Ended)
    }
}

/// Why, and where to go instead: `ex.redirect`, as Flash Media Server, SRS and others say it.
fn refused(status: &Value) -> SessionError {
    let text = |name| status.get(name).and_then(Value::as_str).unwrap_or_default().into();
    let redirect = status.get("ex").and_then(|ex| ex.get("redirect")).and_then(Value::as_str);
    SessionError::Refused { code: text("code"), description: text("description"), redirect: redirect.map(Into::into) }
}

/// |RtmpSampleAccess and onStatus are said by a server to its player, not by a publisher to all.
fn is_servers_own(body: &[u8]) -> bool {
    body.starts_with(b"\x02\x00\x11|RtmpSampleAccess") || body.starts_with(b"\x02\x00\x08onStatus")
}
