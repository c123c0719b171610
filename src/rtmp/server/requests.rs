//! What a connected peer asks for (RTMP 1.0, 7.2): message streams, publish and play, and their ends.
//!
//! Whatever needs no decision of the host's is answered here; publish and play of a sound name become events. Each
//! command writes at most two replies, and what it leaves behind is bounded by the message streams.

use super::super::{
    amf0::{AmfError, Value},
    command::Command,
    control::status_object,
    key::{KeyError, StreamKey, split_query},
    message::Kind,
};
use super::{
    Refused, ServerEvent,
    connection::{NetConnection, Verdict},
    streams::Use,
};
use crate::limits::REQUEST_TEXT_BYTES_MAX;

impl NetConnection {
    /// A command on an accepted connection. Those that ask for no reply get none.
    pub(super) fn request(&mut self, command: &mut Command<'_>, stream: u32) -> Result<Verdict, AmfError> {
        let transaction = command.transaction;
        match command.name.as_str() {
            "createStream" => return Ok(self.create_stream(stream, transaction)),
            "publish" | "play" => {
                let name = command.own_argument()?;
                if is_flashs_stop(&name) {
                    return Ok(self.end(stream, Use::Idle));
                }
                let name = name.as_str().unwrap_or_default();
                let publishes = command.name == "publish";
                return Ok(if publishes { self.publish(stream, name) } else { self.play(stream, name, false) });
            }
            "play2" => {
                let parameters = command.own_argument()?;
                let name = parameters.get("streamName").and_then(Value::as_str);
                return Ok(self.play(stream, name.unwrap_or_default(), true));
            }
            "deleteStream" => {
                let id = command.own_argument()?.as_finite();
                // A saturating cast: what is no id saturates to one that is no stream's.
                return Ok(self.end(id.map_or(0, |id| id as u32), Use::None));
            }
            "closeStream" => return Ok(self.end(stream, Use::Idle)),
            "FCUnpublish" => {
                let name = command.own_argument()?;
                return Ok(self.unpublish(name.as_str().unwrap_or_default()));
            }
            "pause" | "pauseRaw" => {
                let on = command.own_argument()?.as_bool().unwrap_or(true);
                return Ok(self.pause(stream, on));
            }
            "receiveAudio" | "receiveVideo" => {
                let kind = if command.name == "receiveAudio" { Kind::Audio } else { Kind::Video };
                let on = command.own_argument()?.as_bool().unwrap_or(true);
                return Ok(self.receive(stream, kind, on));
            }
            "seek" => self.seek(stream),
            "FCSubscribe" => self.fc_status(0, "onFCSubscribe", "NetStream.Play.Start"),
            "FCUnsubscribe" => self.fc_status(0, "onFCUnsubscribe", "NetStream.Play.Stop"),
            "getStreamLength" => self.result(transaction, Some(0.0)),
            "releaseStream" | "FCPublish" | "initStream" | "_checkbw" => self.result(transaction, None),
            "checkBandwidth" => {
                self.result(transaction, None);
                self.bandwidth_not_measured();
            }
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
                self.streams.ask_publish(stream, key.clone());
                Verdict::Event(ServerEvent::Publish { stream, key, query: split_query(name).1.to_owned() })
            }
            Err(reason) => {
                let bad_name = matches!(reason, Refused::BadName(_));
                let code = if bad_name { "NetStream.Publish.BadName" } else { "NetStream.Publish.Denied" };
                self.refuse(stream, code, reason)
            }
        }
    }

    /// `switches`: a stream that plays already goes over to `name`, which is what play2 is for.
    fn play(&mut self, stream: u32, name: &str, switches: bool) -> Verdict {
        let key = if switches && self.is_playing(stream) {
            self.key(name).map_err(Refused::BadName)
        } else {
            self.key_for(stream, name)
        };
        match key {
            Ok(key) => {
                self.streams.set(stream, Use::PlayAsked);
                Verdict::Event(ServerEvent::Play { stream, key, query: split_query(name).1.to_owned() })
            }
            Err(reason) => {
                let bad_name = matches!(reason, Refused::BadName(_));
                let code = if bad_name { "NetStream.Play.StreamNotFound" } else { "NetStream.Play.Failed" };
                self.refuse(stream, code, reason)
            }
        }
    }

    /// The identity of `name`, if `stream` is idle.
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
        let (tc_url, app) = self.connect.as_ref().map_or(("", ""), |connect| (connect.tc_url(), connect.app()));
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
        if publishing {
            self.unpublished(stream, "The client ended it.");
        }
        if ended { Verdict::Event(ServerEvent::Ended { stream }) } else { Verdict::Nothing }
    }

    /// FCUnpublish comes on message stream 0 and names what to end.
    fn unpublish(&mut self, name: &str) -> Verdict {
        match self.key(name).ok().and_then(|key| self.streams.publishing(&key)) {
            Some(stream) => self.end(stream, Use::Idle),
            None => Verdict::Nothing,
        }
    }

    /// Tells a publisher that its publish is over.
    pub(super) fn unpublished(&mut self, stream: u32, description: &str) {
        self.fc_status(stream, "onFCUnpublish", "NetStream.Unpublish.Success");
        self.outbox.status(stream, "status", "NetStream.Unpublish.Success", description);
    }

    fn is_playing(&self, stream: u32) -> bool {
        self.streams.get(stream) == Use::Playing
    }

    /// It holds for plays to come, too. Switching on is answered, switching off is not (RTMP 1.0, 7.2.2.4 and 7.2.2.5).
    fn receive(&mut self, stream: u32, kind: Kind, on: bool) -> Verdict {
        let changed = self.streams.choose(stream, kind, on);
        if !self.is_playing(stream) {
            return Verdict::Nothing;
        }
        if on {
            self.seek(stream);
            self.outbox.status(stream, "status", "NetStream.Play.Start", "Playing.");
        }
        if changed { Verdict::Event(ServerEvent::Receive { stream, kind, on }) } else { Verdict::Nothing }
    }

    fn pause(&mut self, stream: u32, on: bool) -> Verdict {
        if !self.is_playing(stream) {
            return Verdict::Nothing;
        }
        let code = if on { "NetStream.Pause.Notify" } else { "NetStream.Unpause.Notify" };
        self.outbox.status(stream, "status", code, "");
        Verdict::Event(ServerEvent::Pause { stream, on })
    }

    /// A live stream has nowhere to seek to, but a player that gets no notice waits for one (librtmp drops media until
    /// it comes).
    fn seek(&mut self, stream: u32) {
        if self.is_playing(stream) {
            self.outbox.status(stream, "status", "NetStream.Seek.Notify", "The stream is live and goes on.");
        }
    }

    /// Flash's old bandwidth check: players that asked for it wait for the call that ends it. Without numbers it says that
    /// nothing was measured.
    fn bandwidth_not_measured(&mut self) {
        self.outbox.command(0, "onBWDone", 0.0, |out| {
            out.null();
        });
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
    pub(super) fn call_failed(&mut self, stream: u32, transaction: f64, description: &str) {
        if transaction == 0.0 {
            return;
        }
        self.outbox.command(stream, "_error", transaction, |out| {
            out.null();
            status_object(out, "error", "NetConnection.Call.Failed", description);
        });
    }
}

/// Flash and FMLE end what a stream does with `play(false)` and `publish(false)`.
fn is_flashs_stop(name: &Value) -> bool {
    *name == Value::Boolean(false)
}
