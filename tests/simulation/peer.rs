//! A client: a real session, a tap that sees each message with its message stream, and a script for its behaviour.

use std::{collections::VecDeque, time::Duration};

use bytes::BytesMut;
use shardcast::rtmp::{
    amf0::{Decoder, Encoder, Value},
    chunk::{ChunkReader, ChunkWriter},
    client::{ClientConfig, ClientEvent, ClientRole, ClientSession, SessionError},
    message::{Header, Kind, type_id},
};

use crate::{
    link::Link,
    model::{Model, Play, Role, Session},
    rng::Rng,
    source::{Recipe, Source},
    strict::Grammar,
};

/// S0, S1 and S2.
const HANDSHAKE_BYTES: usize = 3_073;
/// The chunk stream of commands that the session itself does not know.
const EXTRA_CSID: u32 = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    Fin,
    Reset,
    /// FCUnpublish and deleteStream, then FIN.
    Delete,
}

/// How a client takes what it is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    Fast,
    BytesPerMs(u64),
    /// Reads until then, and never again.
    Until(u64),
}

/// What a client asks for beyond its session's own stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extra {
    Nothing,
    /// Another play, of this stream, on message stream 2.
    Play(usize),
}

pub(crate) struct Publishing {
    pub(crate) stream: usize,
    recipe: Recipe,
    source: Option<Source>,
    pub(crate) session: Option<usize>,
    sent: usize,
    /// Ends of messages in the bytes to the server.
    marks: VecDeque<(u64, usize)>,
    /// Sends nothing in between.
    silent: Option<(u64, u64)>,
    /// Messages are sent in bursts this far apart.
    burst_ms: u64,
    next_burst: u64,
}

pub(crate) struct Script {
    pub(crate) role: ClientRole,
    pub(crate) stream: usize,
    pub(crate) extra: Extra,
    pub(crate) leave_at: u64,
    pub(crate) leave: Leave,
    pub(crate) pace: Pace,
    /// Times at which it switches audio off or on, or pauses.
    pub(crate) whims: Vec<u64>,
    pub(crate) chunk_bytes: usize,
    pub(crate) recipe: Recipe,
    pub(crate) silent: Option<(u64, u64)>,
    pub(crate) burst_ms: u64,
}

pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) script: Script,
    pub(crate) link: usize,
    session: ClientSession,
    handshake_left: usize,
    tap: ChunkReader,
    grammar: Grammar,
    extra: ChunkWriter,
    pub(crate) plays: Vec<Play>,
    pub(crate) publishing: Option<Publishing>,
    written: u64,
    asked_extra: bool,
    whim: usize,
    credit: u64,
    tapped: u64,
    told: u64,
    /// It has said goodbye and closes at this time.
    closes_at: Option<u64>,
    pub(crate) gone: bool,
    pub(crate) refused: Option<String>,
    /// Another publisher has taken its name over.
    replaced: bool,
}

pub(crate) fn stream_name(stream: usize) -> String {
    format!("stream{stream}")
}

impl Peer {
    pub(crate) fn new(
        name: String,
        script: Script,
        link: usize,
        play: impl Fn(&str, usize, u32) -> Play,
        now: u64,
        rng: &mut Rng,
    ) -> Self {
        let config = ClientConfig {
            chunk_bytes: script.chunk_bytes,
            digest: rng.chance(50),
            ..ClientConfig::new(script.role, "rtmp://node/live", "live", stream_name(script.stream))
        };
        let mut plays = Vec::new();
        let mut publishing = None;
        match script.role {
            ClientRole::Play => plays.push(play(&name, script.stream, 1)),
            ClientRole::Publish => {
                publishing = Some(Publishing {
                    stream: script.stream,
                    recipe: script.recipe,
                    source: None,
                    session: None,
                    sent: 0,
                    marks: VecDeque::new(),
                    silent: script.silent,
                    burst_ms: script.burst_ms,
                    next_burst: 0,
                });
            }
        }
        if let Extra::Play(stream) = script.extra {
            plays.push(play(&name, stream, 2));
        }
        Self {
            name,
            link,
            session: ClientSession::new(config, rng.next(), Duration::from_millis(now)),
            handshake_left: HANDSHAKE_BYTES,
            tap: ChunkReader::starting_at(HANDSHAKE_BYTES as u64),
            grammar: Grammar::new(),
            extra: ChunkWriter::new(),
            plays,
            publishing,
            written: 0,
            asked_extra: false,
            whim: 0,
            credit: 0,
            tapped: 0,
            told: 0,
            closes_at: None,
            gone: false,
            refused: None,
            replaced: false,
            script,
        }
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.gone || self.closes_at.is_some()
    }

    /// The play on message stream `id`: a player's first is on 1, the extra one on 2.
    fn play_on(&mut self, id: u32) -> Option<&mut Play> {
        let first = if self.script.role == ClientRole::Play { 1 } else { 2 };
        self.plays.get_mut(id.checked_sub(first)? as usize)
    }

    /// Reads, acts and writes as the script has it.
    pub(crate) fn step(&mut self, now: u64, link: &mut Link, model: &mut Model, rng: &mut Rng) {
        if self.gone {
            return;
        }
        self.note_taken(now, link, model);
        self.read(now, link, model);
        if self.gone {
            return;
        }
        if link.to_client.ended(now) {
            self.server_closed(now, link, model, rng);
            return;
        }
        self.produce(now, model, rng);
        self.act_on_whim(now, rng);
        if self.closes_at.is_none() && now >= self.script.leave_at {
            self.leave(now, link, model, rng);
        }
        self.flush(now, link, rng);
        if self.closes_at.is_some_and(|at| now >= at) && !self.gone {
            link.close(now, rng);
            self.gone = true;
        }
    }

    /// Notes what of its session the server has read by now.
    pub(crate) fn note_taken(&mut self, now: u64, link: &Link, model: &mut Model) {
        let Some(publishing) = &mut self.publishing else { return };
        let Some(session) = publishing.session else { return };
        let replaces = model.replaces;
        let session = &mut model.sessions[session];
        if let Some(at) = link.unpublished_at.filter(|_| replaces) {
            session.left_at.get_or_insert(at);
        }
        while let Some((end, index)) = publishing.marks.front().copied().filter(|(end, _)| *end <= link.delivered) {
            let _ = end;
            publishing.marks.pop_front();
            session.messages[index].taken_at = Some(now);
            session.taken = index + 1;
        }
    }

    fn read(&mut self, now: u64, link: &mut Link, model: &mut Model) {
        let mut allowed = match self.script.pace {
            Pace::Fast => usize::MAX,
            Pace::Until(at) => {
                if now < at {
                    usize::MAX
                } else {
                    0
                }
            }
            Pace::BytesPerMs(rate) => {
                self.credit = (self.credit + rate).min(rate * 200);
                self.credit as usize
            }
        };
        while let Some(bytes) = link.to_client.read(now, allowed) {
            allowed -= bytes.len();
            if let Pace::BytesPerMs(_) = self.script.pace {
                self.credit -= bytes.len() as u64;
            }
            self.tap(&bytes, now, model);
            self.converse(&bytes, now, link.publishes, model);
            assert_eq!(self.tapped, self.told, "{}: the session tells other media than came", self.name);
            if self.refused.is_some() {
                return;
            }
        }
    }

    /// What came, message by message, on which message stream.
    fn tap(&mut self, bytes: &[u8], now: u64, model: &mut Model) {
        let skip = self.handshake_left.min(bytes.len());
        self.handshake_left -= skip;
        let mut input = &bytes[skip..];
        if let Err(fault) = self.grammar.feed(input) {
            panic!("{} at {now} ms: {fault}", self.name);
        }
        let mut tap = std::mem::take(&mut self.tap);
        loop {
            let message = match tap.read(&mut input) {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(error) => panic!("{} at {now} ms: the server's chunks are broken: {error}", self.name),
            };
            let stream = message.header.stream_id;
            let kind = match message.header.type_id {
                type_id::AUDIO => Kind::Audio,
                type_id::VIDEO => Kind::Video,
                type_id::DATA_AMF0 => Kind::Data,
                type_id::COMMAND_AMF0 => {
                    self.command(stream, message.payload, now, model);
                    continue;
                }
                2..=6 => continue,
                other => panic!("{} at {now} ms: a message of type {other}", self.name),
            };
            let own = message.payload.starts_with(b"\x02\x00\x11|RtmpSampleAccess")
                || message.payload.starts_with(b"\x02\x00\x08onStatus");
            if kind == Kind::Data && own {
                continue;
            }
            self.tapped += 1;
            let name = self.name.clone();
            let play = self.play_on(stream).unwrap_or_else(|| panic!("{name}: media on message stream {stream}"));
            play.media(kind, message.header.timestamp, message.payload, now, model);
        }
        self.tap = tap;
    }

    fn command(&mut self, stream: u32, payload: &[u8], now: u64, model: &mut Model) {
        let mut decoder = Decoder::new(payload);
        let mut next = || decoder.next_value().expect("the server's AMF0 is sound");
        let Some(Value::String(name)) = next() else { return };
        if name != "onStatus" {
            return;
        }
        next();
        next();
        let status = next();
        let code = status.as_ref().and_then(|status| status.get("code")).and_then(Value::as_str).unwrap_or_default();
        let who = self.name.clone();
        let Some(play) = self.play_on(stream) else { return };
        match code {
            "NetStream.Play.Start" => play.begin(now, model),
            "NetStream.Play.UnpublishNotify" => play.end(now, model),
            "NetStream.Play.StreamNotFound" | "NetStream.Play.Failed" => play.refused = true,
            "NetStream.Play.Stop" | "NetStream.Play.Reset" | "NetStream.Pause.Notify" | "NetStream.Unpause.Notify" => {}
            // Audio was switched on again.
            "NetStream.Seek.Notify" => {}
            other => panic!("{who} at {now} ms: {other} for a player"),
        }
    }

    /// `publishes`: the server takes its media.
    fn converse(&mut self, bytes: &[u8], now: u64, publishes: bool, model: &mut Model) {
        let mut input = bytes;
        loop {
            match self.session.receive(&mut input, Duration::from_millis(now)) {
                Ok(None) => break,
                Ok(Some(ClientEvent::Media { .. })) => self.told += 1,
                Ok(Some(ClientEvent::Publishing)) => {
                    if let Some(publishing) = self.publishing.as_mut() {
                        let session = publishing.begin(now, publishes, model, &self.name);
                        if self.closes_at.is_some() {
                            model.sessions[session].left_at = Some(now);
                        }
                    }
                }
                Ok(Some(ClientEvent::Status { code, .. })) if code == "NetStream.Publish.BadName" => {
                    assert!(model.replaces, "{} at {now} ms: replaced", self.name);
                    self.replaced = true;
                    self.left(now, model);
                }
                Ok(Some(ClientEvent::Playing | ClientEvent::Status { .. } | ClientEvent::Ended)) => {}
                Ok(Some(request @ ClientEvent::Reconnect { .. })) => {
                    panic!("{}: nobody asked for {request:?}", self.name)
                }
                Err(SessionError::Refused { code, .. }) => {
                    model.trace(&[now, code.len() as u64]);
                    self.refused = Some(code.into());
                    if let Some(session) = self.publishing.as_ref().and_then(|publishing| publishing.session) {
                        model.sessions[session].left_at.get_or_insert(now);
                    }
                    self.closes_at = Some(now);
                    break;
                }
                Err(error) => panic!("{} at {now} ms: {error}", self.name),
            }
        }
    }

    /// Another command on a message stream of its own.
    fn say(&mut self, stream_id: u32, name: &str, transaction: f64, arguments: impl FnOnce(&mut Encoder<'_>)) {
        let mut payload = BytesMut::new();
        let mut encoder = Encoder::new(&mut payload);
        encoder.string(name).number(transaction).null();
        arguments(&mut encoder);
        let header = Header { csid: EXTRA_CSID, timestamp: 0, length: 0, type_id: type_id::COMMAND_AMF0, stream_id };
        if self.extra.chunk_bytes() != self.script.chunk_bytes {
            let mut unheard = BytesMut::new();
            self.extra.set_chunk_bytes(self.script.chunk_bytes, &mut unheard);
        }
        self.extra.write(header, &payload, self.session.output());
    }

    fn ready(&self) -> bool {
        match &self.publishing {
            Some(publishing) => publishing.session.is_some(),
            None => self.plays[0].started_at.is_some(),
        }
    }

    fn produce(&mut self, now: u64, model: &mut Model, rng: &mut Rng) {
        if self.closes_at.is_some() || !self.ready() {
            return;
        }
        if let (Extra::Play(stream), false) = (self.script.extra, self.asked_extra) {
            self.asked_extra = true;
            self.say(0, "createStream", 9.0, |_| {});
            self.say(2, "play", 0.0, |out| {
                out.string(&stream_name(stream));
            });
        }
        let Some(publishing) = self.publishing.as_mut().filter(|_| !self.replaced) else { return };
        let (Some(source), Some(id)) = (&mut publishing.source, publishing.session) else { return };
        if publishing.silent.is_some_and(|(from, to)| (from..to).contains(&now)) || now < publishing.next_burst {
            return;
        }
        publishing.next_burst = now + rng.below(publishing.burst_ms + 1);
        let mut messages = std::mem::take(&mut model.sessions[id].messages);
        source.produce(now, rng, &mut messages);
        model.sessions[id].messages = messages;
        while publishing.sent < model.sessions[id].messages.len() {
            let index = publishing.sent;
            publishing.sent += 1;
            let payload = model.wire(id, index as u32);
            let message = &model.sessions[id].messages[index];
            if message.role == Role::Metadata && rng.chance(80) {
                self.session.send_metadata(&payload);
            } else {
                self.session.send_media(message.kind, message.raw, &payload);
            }
            publishing.marks.push_back((self.written + self.session.output().len() as u64, index));
        }
    }

    fn act_on_whim(&mut self, now: u64, rng: &mut Rng) {
        if !self.ready() || self.closes_at.is_some() || self.script.whims.get(self.whim).is_none_or(|at| now < *at) {
            return;
        }
        self.whim += 1;
        let on = self.whim.is_multiple_of(2);
        let stream = self.plays.len() as u32;
        match rng.below(3) {
            0 => self.say(stream, "pause", 0.0, |out| {
                out.boolean(!on).number(0.0);
            }),
            1 => self.say(stream, "receiveVideo", 0.0, |out| {
                out.boolean(true);
            }),
            _ => self.say(stream, "receiveAudio", 0.0, |out| {
                out.boolean(on);
            }),
        }
    }

    fn leave(&mut self, now: u64, link: &mut Link, model: &mut Model, rng: &mut Rng) {
        self.left(now, model);
        match self.script.leave {
            Leave::Fin => self.closes_at = Some(now),
            Leave::Delete => {
                self.session.close();
                self.closes_at = Some(now + rng.below(800));
            }
            Leave::Reset => {
                link.abort();
                self.gone = true;
            }
        }
    }

    fn left(&mut self, now: u64, model: &mut Model) {
        model.tell(|| format!("{now} ms: {}: leaves", self.name));
        if let Some(session) = self.publishing.as_ref().and_then(|publishing| publishing.session) {
            model.sessions[session].left_at.get_or_insert(now);
        }
    }

    fn flush(&mut self, now: u64, link: &mut Link, rng: &mut Rng) {
        if self.gone {
            return;
        }
        let output = self.session.take_output();
        self.written += output.len() as u64;
        if !output.is_empty() {
            link.to_server.write(now, output, rng);
        }
    }

    /// The server ended the connection: was it allowed to?
    fn server_closed(&mut self, now: u64, link: &mut Link, model: &mut Model, rng: &mut Rng) {
        let refused = self.refused.is_some() || self.replaced || self.plays.iter().any(|play| play.refused);
        let slow = !matches!(self.script.pace, Pace::Fast);
        let silent = self.script.silent.is_some();
        let leaving = self.closes_at.is_some();
        model.trace(&[now, 0xC105ED]);
        assert!(refused || slow || silent || leaving, "{} at {now} ms: closed by the server", self.name);
        self.left(now, model);
        link.close(now, rng);
        self.gone = true;
    }
}

impl Publishing {
    /// `publishes`: the server still takes its media when it hears that it may send some.
    fn begin(&mut self, now: u64, publishes: bool, model: &mut Model, who: &str) -> usize {
        let other = model.live(self.stream);
        if let Some(other) = other {
            assert!(model.replaces, "{who} at {now} ms: may publish what session {other} publishes");
            if publishes {
                model.sessions[other].left_at = Some(now);
            }
        }
        let source = Source::new(self.recipe, now);
        let (announces_video, tracked) = (source.announces_video(), source.is_tracked());
        self.source = Some(source);
        let id = model.sessions.len();
        model.sessions.push(Session {
            stream: self.stream,
            messages: Vec::new(),
            began_at: now,
            left_at: (!publishes).then_some(now),
            announces_video,
            tracked,
            taken: 0,
        });
        // One that was replaced before it heard of its begin comes before the one that replaced it.
        let sessions = &mut model.streams[self.stream];
        let place = if other.is_some() && !publishes { sessions.len() - 1 } else { sessions.len() };
        sessions.insert(place, id);
        model.tell(|| format!("{now} ms: {who}: session {id}"));
        self.session = Some(id);
        id
    }
}
