//! What a connected peer asks for: commands, control messages, and where its media belongs.
//!
//! [`NetConnection`] sorts each message into a [`Verdict`] and answers what can be answered without the host. It is
//! bounded by [`MessageStreams`] and by counters of what a sound peer does not send.

use std::time::Duration;

use super::super::{
    amf0::{AmfError, Value},
    command::Command,
    control::{Control, Outbox, Received, event, status_object},
    error::SessionError,
    key::{KeyError, StreamKey, split_query},
    message::{Header, Kind, Message, type_id},
};
use super::{
    Refused, ServerEvent,
    connect::{Connect, reject},
    streams::{MessageStreams, Use},
};
use crate::limits::{
    CONNECT_ATTEMPTS_MAX, CONNECT_DEADLINE, HANDSHAKE_DEADLINE, PRE_CONNECT_BYTES_MAX, REPLY_BYTES_MAX,
    REQUEST_DEADLINE, REQUEST_TEXT_BYTES_MAX, STRAY_MEDIA_MESSAGES_MAX, UNKNOWN_MESSAGES_MAX,
};

/// What a message means to the host.
#[derive(Debug)]
pub(super) enum Verdict {
    Nothing,
    Event(ServerEvent<'static>),
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
    pub(super) connect: Option<Box<Connect>>,
    pub(super) streams: MessageStreams,
    received: Received,
    /// An Acknowledgement was written in this turn.
    acknowledged: bool,
    chunk_bytes: usize,
    started: Duration,
    now: Duration,
    /// Since when no stream has published or played.
    idle_since: Option<Duration>,
    connects_rejected: u32,
    unknown_messages: u32,
    stray_media: u32,
}

impl NetConnection {
    pub(super) fn new(chunk_bytes: usize, now: Duration) -> Self {
        Self {
            outbox: Outbox::default(),
            connect: None,
            streams: MessageStreams::default(),
            received: Received::new(),
            acknowledged: false,
            chunk_bytes,
            started: now,
            now,
            idle_since: Some(now),
            connects_rejected: 0,
            unknown_messages: 0,
            stray_media: 0,
        }
    }

    /// A new call of the host's: time may have passed, its last output may have been taken.
    pub(super) fn begin_turn(&mut self, now: Duration) {
        self.now = now;
        self.acknowledged = false;
        self.outbox.release();
    }

    /// Milliseconds since the connection began, for the handshake.
    pub(super) fn uptime_ms(&self) -> u32 {
        self.now.saturating_sub(self.started).as_millis() as u32
    }

    /// Counts bytes taken from the chunk stream and acknowledges them when it is time, once a turn.
    pub(super) fn count(&mut self, bytes: usize) -> Result<(), SessionError> {
        self.received.add(bytes);
        let bytes = self.received.total();
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
            Some((self.started + HANDSHAKE_DEADLINE, SessionError::HandshakeTimeout))
        } else if self.connect.is_none() {
            Some((self.started + CONNECT_DEADLINE, SessionError::ConnectTimeout))
        } else {
            self.idle_since.map(|since| (since + REQUEST_DEADLINE, SessionError::RequestTimeout))
        }
    }

    /// To be called after a stream's use changed.
    pub(super) fn note_use(&mut self) {
        self.idle_since = if self.streams.any_busy() { None } else { Some(self.idle_since.unwrap_or(self.now)) };
    }

    /// Sorts one message, and answers it where the host has no say.
    pub(super) fn message(&mut self, message: &Message<'_>) -> Result<Verdict, SessionError> {
        let Header { type_id, csid, stream_id, .. } = message.header;
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
                self.unknown_messages += 1;
                if self.unknown_messages > UNKNOWN_MESSAGES_MAX {
                    return Err(SessionError::UnknownMessages { type_id, csid });
                }
                Verdict::Nothing
            }
        };
        let bytes = self.outbox.bytes.len();
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
        matches!(self.streams.get(stream), Use::Publishing(_))
    }

    /// Counts media that belongs nowhere.
    pub(super) fn stray(&mut self, stream: u32) -> Result<(), SessionError> {
        self.stray_media += 1;
        if self.stray_media > STRAY_MEDIA_MESSAGES_MAX {
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
        match Connect::parse(command, header)? {
            Ok(connect) => {
                connect.accept(command.transaction, self.chunk_bytes, &mut self.outbox);
                self.connect = Some(Box::new(connect));
                Ok(Verdict::Nothing)
            }
            Err(description) => {
                reject(command.transaction, "NetConnection.Connect.InvalidApp", description, &mut self.outbox);
                self.connects_rejected += 1;
                if self.connects_rejected >= CONNECT_ATTEMPTS_MAX {
                    return Err(SessionError::ConnectRejected);
                }
                Ok(refused)
            }
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

    /// A command on an accepted connection. Those that ask for no reply get none.
    fn request(&mut self, command: &mut Command<'_>, stream: u32) -> Result<Verdict, AmfError> {
        let transaction = command.transaction;
        match command.name.as_str() {
            "createStream" => return Ok(self.create_stream(stream, transaction)),
            "publish" => {
                let name = command.own_argument()?;
                return Ok(self.publish(stream, name.as_str().unwrap_or_default()));
            }
            "play" => {
                let name = command.own_argument()?;
                return Ok(self.play(stream, name.as_str().unwrap_or_default()));
            }
            "play2" => {
                let parameters = command.own_argument()?;
                let name = parameters.get("streamName").and_then(Value::as_str);
                return Ok(self.play(stream, name.unwrap_or_default()));
            }
            "deleteStream" => {
                let id = command.own_argument()?.as_finite();
                // A saturating cast: what is no id saturates to one that is no stream's.
                return Ok(self.end(id.map_or(0, |id| id as u32), Use::None));
            }
            "closeStream" => return Ok(self.end(stream, Use::Idle)),
            "FCUnpublish" => {
                let name = command.own_argument()?;
                return Ok(self.unpublish(name.as_str()));
            }
            "pause" | "pauseRaw" => {
                let on = command.own_argument()?.as_bool().unwrap_or(true);
                return Ok(self.pause(stream, on));
            }
            "receiveAudio" | "receiveVideo" => {
                let kind = if command.name == "receiveAudio" { Kind::Audio } else { Kind::Video };
                let on = command.own_argument()?.as_bool().unwrap_or(true);
                return Ok(self.when_playing(stream, ServerEvent::Receive { stream, kind, on }));
            }
            "seek" => self.seek(stream),
            "FCSubscribe" => self.fc_status(0, "onFCSubscribe", "NetStream.Play.Start"),
            "getStreamLength" => self.result(transaction, Some(0.0)),
            "releaseStream" | "FCPublish" | "_checkbw" => self.result(transaction, None),
            "_result" | "_error" | "onStatus" => {}
            _ => self.call_failed(0, transaction, "This server does not know the command."),
        }
        Ok(Verdict::Nothing)
    }

    fn create_stream(&mut self, stream: u32, transaction: f64) -> Verdict {
        match self.streams.create() {
            Some(id) => {
                self.result(transaction, Some(id.into()));
                Verdict::Nothing
            }
            None => {
                self.call_failed(0, transaction, "This connection has too many message streams.");
                Verdict::Event(ServerEvent::Refused { stream, reason: Refused::MessageStreams })
            }
        }
    }

    fn publish(&mut self, stream: u32, name: &str) -> Verdict {
        match self.key_for(stream, name) {
            Ok(key) => {
                self.streams.set(stream, Use::PublishAsked(key.clone()));
                self.note_use();
                Verdict::Event(ServerEvent::Publish { stream, key, query: split_query(name).1.to_owned() })
            }
            Err(reason) => {
                let bad_name = matches!(reason, Refused::BadName(_));
                let code = if bad_name { "NetStream.Publish.BadName" } else { "NetStream.Publish.Denied" };
                self.refuse(stream, code, reason)
            }
        }
    }

    fn play(&mut self, stream: u32, name: &str) -> Verdict {
        match self.key_for(stream, name) {
            Ok(key) => {
                self.streams.set(stream, Use::PlayAsked);
                self.note_use();
                Verdict::Event(ServerEvent::Play { stream, key, query: split_query(name).1.to_owned() })
            }
            Err(reason) => {
                let bad_name = matches!(reason, Refused::BadName(_));
                let code = if bad_name { "NetStream.Play.StreamNotFound" } else { "NetStream.Play.Failed" };
                self.refuse(stream, code, reason)
            }
        }
    }

    /// The identity of `name`, if `stream` may publish or play it.
    fn key_for(&self, stream: u32, name: &str) -> Result<StreamKey, Refused> {
        match self.streams.get(stream) {
            Use::None => return Err(Refused::NoSuchMessageStream),
            Use::Idle => {}
            _ => return Err(Refused::StreamBusy),
        }
        self.key(name).map_err(Refused::BadName)
    }

    fn key(&self, name: &str) -> Result<StreamKey, KeyError> {
        if name.len() > REQUEST_TEXT_BYTES_MAX {
            return Err(KeyError::TooLong(name.len()));
        }
        let (tc_url, app) = self.connect.as_deref().map_or(("", ""), |connect| (&connect.tc_url, &connect.app));
        StreamKey::new(tc_url, app, name)
    }

    fn refuse(&mut self, stream: u32, code: &str, reason: Refused) -> Verdict {
        let description = match reason {
            Refused::BadName(error) => error.to_string(),
            Refused::StreamBusy => "This message stream publishes or plays already.".to_owned(),
            _ => "There is no such message stream, send createStream first.".to_owned(),
        };
        self.outbox.status(stream, "error", code, &description);
        Verdict::Event(ServerEvent::Refused { stream, reason })
    }

    /// deleteStream and closeStream; of a stream that does not exist or is idle nobody need know.
    fn end(&mut self, stream: u32, to: Use) -> Verdict {
        let publishing = self.is_publishing(stream);
        let ended = self.streams.end(stream, to);
        self.note_use();
        if publishing {
            self.unpublished(stream, "The client ended it.");
        }
        if ended { Verdict::Event(ServerEvent::Ended { stream }) } else { Verdict::Nothing }
    }

    /// FCUnpublish comes on message stream 0 and names what to end; without a name, the only one publishing.
    fn unpublish(&mut self, name: Option<&str>) -> Verdict {
        let key = match name.map(|name| self.key(name)) {
            Some(Ok(key)) => Some(key),
            Some(Err(_)) => return Verdict::Nothing,
            None => None,
        };
        match self.streams.publishing(key.as_ref()) {
            Some(stream) => self.end(stream, Use::Idle),
            None => Verdict::Nothing,
        }
    }

    /// Tells a publisher that its publish is over.
    pub(super) fn unpublished(&mut self, stream: u32, description: &str) {
        self.fc_status(stream, "onFCUnpublish", "NetStream.Unpublish.Success");
        self.outbox.status(stream, "status", "NetStream.Unpublish.Success", description);
    }

    fn when_playing(&self, stream: u32, event: ServerEvent<'static>) -> Verdict {
        match self.streams.get(stream) {
            Use::Playing => Verdict::Event(event),
            _ => Verdict::Nothing,
        }
    }

    fn pause(&mut self, stream: u32, on: bool) -> Verdict {
        let code = if on { "NetStream.Pause.Notify" } else { "NetStream.Unpause.Notify" };
        let verdict = self.when_playing(stream, ServerEvent::Pause { stream, on });
        if matches!(verdict, Verdict::Event(_)) {
            self.outbox.status(stream, "status", code, "");
        }
        verdict
    }

    /// A live stream has nowhere to seek to, but a player that gets no notice waits for one (librtmp drops media until
    /// it comes).
    fn seek(&mut self, stream: u32) {
        if matches!(self.streams.get(stream), Use::Playing) {
            self.outbox.status(stream, "status", "NetStream.Seek.Notify", "The stream is live and goes on.");
        }
    }

    /// onFCPublish and its kin: a command like onStatus, named after what it answers.
    pub(super) fn fc_status(&mut self, stream: u32, name: &str, code: &str) {
        self.outbox.command(stream, name, 0.0, |out| {
            out.null();
            status_object(out, "status", code, "");
        });
    }

    /// `_result` with a number or null, if a reply was asked for.
    fn result(&mut self, transaction: f64, number: Option<f64>) {
        if transaction == 0.0 {
            return;
        }
        self.outbox.command(0, "_result", transaction, |out| {
            out.null();
            match number {
                Some(number) => out.number(number),
                None => out.null(),
            };
        });
    }

    /// `_error`, if a reply was asked for.
    fn call_failed(&mut self, stream: u32, transaction: f64, description: &str) {
        if transaction == 0.0 {
            return;
        }
        self.outbox.command(stream, "_error", transaction, |out| {
            out.null();
            status_object(out, "error", "NetConnection.Call.Failed", description);
        });
    }
}

pub(super) fn amf_error(header: &Header, source: AmfError) -> SessionError {
    SessionError::Amf { csid: header.csid, stream: header.stream_id, source }
}
