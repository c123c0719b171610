//! One connection after its handshake: what each message is, and whether the peer keeps within its bounds.
//!
//! [`NetConnection`] sorts each message into a [`Verdict`]. It answers control messages and `connect` itself and leaves
//! later commands to [`requests`](super::requests). It is bounded by [`MessageStreams`], by deadlines, and by counters
//! of what a sound peer does not send.

use std::time::Duration;

use super::super::{
    amf0::AmfError,
    command::Command,
    control::{Control, Outbox, Received, event},
    error::SessionError,
    message::{Header, Kind, Message, type_id},
};
use super::{
    Refused, ServerConfig, ServerEvent,
    connect::{Connect, Dialect, reject},
    streams::{MessageStreams, Use},
};
use crate::limits::{
    ASIDES_PER_SECOND_MAX, CHUNK_BYTES_OUT_MAX, CONNECT_ATTEMPTS_MAX, CONNECT_DEADLINE, HANDSHAKE_DEADLINE,
    PRE_CONNECT_BYTES_MAX, REPLY_BYTES_MAX, REQUEST_DEADLINE, STRAY_MEDIA_MESSAGES_MAX, UNKNOWN_MESSAGES_MAX,
};

// Their counters are small, and stop at their largest value.
const _: () = assert!(UNKNOWN_MESSAGES_MAX < u8::MAX as u32);
const _: () = assert!(CHUNK_BYTES_OUT_MAX <= u16::MAX as usize);
const _: () = assert!(CONNECT_ATTEMPTS_MAX < u8::MAX as u32);
const _: () = assert!(STRAY_MEDIA_MESSAGES_MAX < u16::MAX as u32);

/// What a message means to the host.
#[derive(Debug)]
pub(super) enum Verdict {
    Nothing,
    Event(ServerEvent<'static>),
    /// A sound connect that the host decides on.
    Connect(f64, Dialect),
    /// The message is media of a publishing stream.
    Media {
        stream: u32,
        kind: Kind,
    },
    /// The message holds media of a publishing stream.
    Aggregate {
        stream: u32,
    },
}

/// One connection and its message streams, after the handshake.
#[derive(Debug)]
pub(super) struct NetConnection {
    pub(super) outbox: Outbox,
    pub(super) connect: Option<Connect>,
    pub(super) streams: MessageStreams,
    received: Received,
    /// An Acknowledgement was written in this turn.
    acknowledged: bool,
    chunk_bytes: u16,
    asks_connect: bool,
    keeps_client: bool,
    connects_rejected: u8,
    unknown_messages: u8,
    /// The second of the last turn, modulo 2^8, and messages in it that were no media.
    second: u8,
    asides: u16,
    stray_media: u16,
    /// Since when no stream has published or played, at first since the connection began; while one does, the time of
    /// the last turn. Nanoseconds: half the size of a `Duration`.
    idle_since_ns: u64,
}

impl NetConnection {
    pub(super) fn new(config: &ServerConfig, now: Duration) -> Self {
        Self {
            outbox: Outbox::default(),
            connect: None,
            streams: MessageStreams::default(),
            received: Received::new(),
            acknowledged: false,
            chunk_bytes: u16::try_from(config.chunk_bytes).unwrap_or(u16::MAX),
            asks_connect: config.asks_connect,
            keeps_client: config.keeps_client,
            connects_rejected: 0,
            unknown_messages: 0,
            second: 0,
            asides: 0,
            stray_media: 0,
            idle_since_ns: nanoseconds(now),
        }
    }

    /// A new call of the host's: time may have passed, its last output may have been taken.
    pub(super) fn begin_turn(&mut self, now: Duration) {
        self.note_turn(now);
        // Its low bits tell one second from the next.
        let second = now.as_secs() as u8;
        if std::mem::replace(&mut self.second, second) != second {
            self.asides = 0;
        }
        self.acknowledged = false;
        self.outbox.release();
    }

    /// To be called as a turn begins and when a stream may have become busy in it.
    pub(super) fn note_turn(&mut self, now: Duration) {
        if self.streams.any_busy() {
            self.idle_since_ns = nanoseconds(now);
        }
    }

    fn idle_since(&self) -> Duration {
        Duration::from_nanos(self.idle_since_ns)
    }

    /// Milliseconds since the connection began, for the handshake.
    pub(super) fn uptime_ms(&self, now: Duration) -> u32 {
        now.saturating_sub(self.idle_since()).as_millis() as u32
    }

    /// Counts bytes taken from the chunk stream and acknowledges them when it is time, once a turn.
    pub(super) fn count(&mut self, bytes: usize) -> Result<(), SessionError> {
        self.received.add(bytes);
        let bytes = u64::from(self.received.total());
        if self.connect.is_none() && bytes > PRE_CONNECT_BYTES_MAX {
            return Err(SessionError::PreConnectBytes { bytes });
        }
        if !self.acknowledged
            && let Some(total) = self.received.due()
        {
            self.acknowledged = true;
            self.outbox.acknowledge(total);
        }
        Ok(())
    }

    /// When which deadline passes.
    pub(super) fn deadline(&self, shaking_hands: bool) -> Option<(Duration, SessionError)> {
        if shaking_hands {
            Some((self.idle_since() + HANDSHAKE_DEADLINE, SessionError::HandshakeTimeout))
        } else if self.connect.is_none() {
            Some((self.idle_since() + CONNECT_DEADLINE, SessionError::ConnectTimeout))
        } else {
            let idle = !self.streams.any_busy();
            idle.then(|| (self.idle_since() + REQUEST_DEADLINE, SessionError::RequestTimeout))
        }
    }

    /// Sorts one message, and answers it where the host has no say.
    pub(super) fn message(&mut self, message: &Message<'_>) -> Result<Verdict, SessionError> {
        let Header { type_id, csid, stream_id, .. } = message.header;
        // Before that, bytes are bounded. Acknowledgements cost next to nothing, and players send many.
        if self.connect.is_some() && type_id != type_id::ACKNOWLEDGEMENT && !type_id::is_media(type_id) {
            self.asides = self.asides.saturating_add(1);
            if self.asides > ASIDES_PER_SECOND_MAX {
                return Err(SessionError::Flood { type_id });
            }
        }
        let verdict = match type_id {
            type_id::AUDIO => self.media(stream_id, Kind::Audio)?,
            type_id::VIDEO => self.media(stream_id, Kind::Video)?,
            type_id::DATA_AMF0 | type_id::DATA_AMF3 => self.media(stream_id, Kind::Data)?,
            type_id::COMMAND_AMF0 | type_id::COMMAND_AMF3 => self.command(message)?,
            type_id::AGGREGATE => match self.media(stream_id, Kind::Data)? {
                Verdict::Media { stream, .. } => Verdict::Aggregate { stream },
                other => other,
            },
            type_id::ACKNOWLEDGEMENT..=type_id::SET_PEER_BANDWIDTH => {
                self.control(Control::parse(message)?);
                Verdict::Nothing
            }
            type_id::SHARED_OBJECT_AMF0 | type_id::SHARED_OBJECT_AMF3 => Verdict::Nothing,
            _ => {
                self.unknown_messages = self.unknown_messages.saturating_add(1);
                if u32::from(self.unknown_messages) > UNKNOWN_MESSAGES_MAX {
                    return Err(SessionError::UnknownMessages { type_id, csid });
                }
                Verdict::Nothing
            }
        };
        let bytes = self.outbox.len();
        if bytes > REPLY_BYTES_MAX {
            return Err(SessionError::ReplyBacklog { bytes });
        }
        Ok(verdict)
    }

    fn media(&mut self, stream: u32, kind: Kind) -> Result<Verdict, SessionError> {
        if self.is_publishing(stream) {
            return Ok(Verdict::Media { stream, kind });
        }
        self.stray(stream)?;
        Ok(Verdict::Nothing)
    }

    pub(super) fn is_publishing(&self, stream: u32) -> bool {
        self.streams.get(stream) == Use::Publishing
    }

    /// Counts media that belongs nowhere.
    pub(super) fn stray(&mut self, stream: u32) -> Result<(), SessionError> {
        self.stray_media = self.stray_media.saturating_add(1);
        if u32::from(self.stray_media) > STRAY_MEDIA_MESSAGES_MAX {
            return Err(SessionError::StrayMedia { stream });
        }
        Ok(())
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::WindowAckSize(bytes) => self.received.set_window(bytes),
            Control::Ping(value) => self.outbox.user_control(event::PING_RESPONSE, &[value]),
            Control::StreamEof | Control::Ignored => {}
        }
    }

    fn command(&mut self, message: &Message<'_>) -> Result<Verdict, SessionError> {
        let header = &message.header;
        let mut command = Command::parse(message).map_err(|source| amf_error(header, source))?;
        if command.name == "connect" {
            return self.connect(&mut command, header);
        }
        if self.connect.is_none() {
            return Ok(self.refuse_before_connect(&command, header.stream_id));
        }
        self.request(&mut command, header.stream_id).map_err(|source| amf_error(header, source))
    }

    fn connect(&mut self, command: &mut Command<'_>, header: &Header) -> Result<Verdict, SessionError> {
        let refused = Verdict::Event(ServerEvent::Refused { stream: header.stream_id, reason: Refused::Connect });
        if self.connect.is_some() {
            let code = "NetConnection.Connect.Rejected";
            reject(command.transaction, code, "This connection is connected already.", &mut self.outbox);
            return Ok(refused);
        }
        match Connect::parse(command, header, self.keeps_client)? {
            Ok((connect, dialect)) => {
                self.connect = Some(connect);
                if self.asks_connect {
                    return Ok(Verdict::Connect(command.transaction, dialect));
                }
                self.accept_connect(command.transaction, dialect);
                Ok(Verdict::Nothing)
            }
            Err(description) => {
                reject(command.transaction, "NetConnection.Connect.InvalidApp", description, &mut self.outbox);
                self.connects_rejected = self.connects_rejected.saturating_add(1);
                if u32::from(self.connects_rejected) >= CONNECT_ATTEMPTS_MAX {
                    return Err(SessionError::ConnectRejected);
                }
                Ok(refused)
            }
        }
    }

    pub(super) fn accept_connect(&mut self, transaction: f64, dialect: Dialect) {
        dialect.accept(transaction, self.chunk_bytes as usize, &mut self.outbox);
        if dialect.acknowledges_on_request() {
            self.received.wait_for_window();
        }
    }

    fn refuse_before_connect(&mut self, command: &Command<'_>, stream: u32) -> Verdict {
        const DESCRIPTION: &str = "Send connect first.";
        match command.name.as_str() {
            "publish" => self.outbox.status(stream, "error", "NetStream.Publish.Denied", DESCRIPTION),
            "play" | "play2" => self.outbox.status(stream, "error", "NetStream.Play.Failed", DESCRIPTION),
            "_result" | "_error" => {}
            _ => self.call_failed(stream, command.transaction, DESCRIPTION),
        }
        Verdict::Event(ServerEvent::Refused { stream, reason: Refused::BeforeConnect })
    }
}

/// Of 584 years at most.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn amf_error(header: &Header, source: AmfError) -> SessionError {
    SessionError::Amf { csid: header.csid, stream: header.stream_id, source }
}
