//! What was published, remembered apart from the code under test, and what may be received of it.
//!
//! Every payload names the session that published it and its place in that session, and the rest of it follows from
//! these, so a player's message is looked up, compared byte by byte and judged on its own.

use bytes::BytesMut;
use shardcast::{
    limits::TAKEOVER_WAIT,
    rtmp::{
        amf0::{Decoder, Encoder, Value},
        message::Kind,
    },
};

use crate::tracks;

/// What a message is to a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Metadata,
    SequenceHeader,
    Keyframe,
    Coded,
    /// A data message other than metadata.
    Cue,
}

impl Role {
    pub(crate) fn is_coded(self) -> bool {
        matches!(self, Role::Keyframe | Role::Coded)
    }
}

/// Metadata, audio and video headers in force: the places in their session of the messages that set them.
pub(crate) type Headers = [Option<u32>; 3];

pub(crate) fn slot(kind: Kind) -> usize {
    match kind {
        Kind::Data => 0,
        Kind::Audio => 1,
        Kind::Video => 2,
    }
}

/// One published message.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) role: Role,
    pub(crate) raw: u32,
    /// Rises when the encoder starts its clock anew.
    pub(crate) clock: u32,
    pub(crate) size: usize,
    /// The headers in force at a coded message.
    pub(crate) headers: Headers,
    /// A header sent again unchanged: the first message with these bytes.
    pub(crate) repeats: Option<u32>,
    /// When the server had all of it.
    pub(crate) taken_at: Option<u64>,
    /// Its timestamp as the first player to receive it saw it.
    pub(crate) sent: Option<u32>,
}

/// One publisher's stay.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) stream: usize,
    pub(crate) messages: Vec<Message>,
    pub(crate) began_at: u64,
    /// When the publisher left.
    pub(crate) left_at: Option<u64>,
    /// Its metadata speaks of video.
    pub(crate) announces_video: bool,
    /// Its video is sent in Multitrack messages; players get its track 0.
    pub(crate) tracked: bool,
    /// Messages the server had before the publisher left or its link broke.
    pub(crate) taken: usize,
}

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) sessions: Vec<Session>,
    /// Sessions of each stream, in order.
    pub(crate) streams: Vec<Vec<usize>>,
    /// What happened, in one number.
    pub(crate) trace: u64,
    pub(crate) loud: bool,
    /// A second publisher of a name replaces the first.
    pub(crate) replaces: bool,
}

const MAGIC: u32 = 0x51AD_CA57;

fn fill(session: u32, index: u32, size: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&MAGIC.to_be_bytes());
    out.extend_from_slice(&session.to_be_bytes());
    out.extend_from_slice(&index.to_be_bytes());
    let mut state = (u64::from(session) << 32 | u64::from(index)).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let end = out.len() + size;
    while out.len() < end {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        out.extend_from_slice(&state.to_be_bytes());
    }
    out.truncate(end);
}

impl Model {
    pub(crate) fn trace(&mut self, what: &[u64]) {
        for word in what {
            self.trace = (self.trace ^ word).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(23);
        }
    }

    /// A line for whoever replays the seed.
    pub(crate) fn tell(&self, line: impl FnOnce() -> String) {
        if self.loud {
            println!("{}", line());
        }
    }

    /// The payload of a message; players get metadata without `@setDataFrame`.
    pub(crate) fn payload(&self, session: usize, index: u32) -> Vec<u8> {
        let published = &self.sessions[session];
        let message = &published.messages[index as usize];
        let index = message.repeats.unwrap_or(index);
        let mut out = Vec::with_capacity(message.size + 24);
        match (message.kind, message.role) {
            (Kind::Data, role) => {
                let mut body = BytesMut::new();
                let mut encoder = Encoder::new(&mut body);
                encoder.string(if role == Role::Metadata { "onMetaData" } else { "onCuePoint" });
                encoder.object().key("session").number(session as f64).key("index").number(f64::from(index));
                if published.announces_video && role == Role::Metadata {
                    encoder.key("videocodecid").number(7.0).key("width").number(1280.0);
                }
                encoder.end();
                return body.to_vec();
            }
            (Kind::Video, role) if published.tracked => out.extend_from_slice(&tracks::tag(role)),
            (Kind::Video, Role::SequenceHeader) => out.extend_from_slice(&[0x17, 0, 0, 0, 0]),
            (Kind::Video, Role::Keyframe) => out.extend_from_slice(&[0x17, 1, 0, 0, 0]),
            (Kind::Video, _) => out.extend_from_slice(&[0x27, 1, 0, 0, 0]),
            (Kind::Audio, Role::SequenceHeader) => out.extend_from_slice(&[0xAF, 0]),
            (Kind::Audio, _) => out.extend_from_slice(&[0xAF, 1]),
        }
        fill(session as u32, index, message.size, &mut out);
        out
    }

    /// What its publisher sends of a message.
    pub(crate) fn wire(&self, session: usize, index: u32) -> Vec<u8> {
        let (published, payload) = (&self.sessions[session], self.payload(session, index));
        let wraps = published.tracked && published.messages[index as usize].kind == Kind::Video;
        if wraps { tracks::wrap(&payload, index) } else { payload }
    }

    /// Whose message `payload` is.
    fn identify(kind: Kind, payload: &[u8]) -> Option<(usize, u32)> {
        if kind == Kind::Data {
            let mut decoder = Decoder::new(payload);
            decoder.next_value().ok()??;
            let object = decoder.next_value().ok()??;
            let number = |name| object.get(name).and_then(Value::as_finite);
            return Some((number("session")? as usize, number("index")? as u32));
        }
        let body = payload.get(if kind == Kind::Video { 5 } else { 2 }..)?;
        let word = |at: usize| body.get(at..at + 4).map(|word| u32::from_be_bytes(word.try_into().expect("four")));
        (word(0)? == MAGIC).then_some(())?;
        Some((word(4)? as usize, word(8)?))
    }

    /// Whether anybody publishes the stream, as far as its publishers know.
    pub(crate) fn live(&self, stream: usize) -> Option<usize> {
        self.streams[stream].last().copied().filter(|session| self.sessions[*session].left_at.is_none())
    }

    /// The last coded message of `session` at or before `end` that the play wants.
    fn last_wanted(&self, session: usize, before: u64) -> Option<u32> {
        let session = &self.sessions[session];
        let wanted = |message: &Message| message.role.is_coded() && message.taken_at.is_some_and(|at| at <= before);
        session.messages[..session.taken].iter().rposition(wanted).map(|index| index as u32)
    }

    /// Within a clock, timestamps are shifted by one offset for both tracks, but for a beginning held at what was sent
    /// before.
    pub(crate) fn check_offsets(&self) {
        for (id, session) in self.sessions.iter().enumerate() {
            let seen: Vec<&Message> =
                session.messages.iter().filter(|message| message.role.is_coded() && message.sent.is_some()).collect();
            for group in seen.chunk_by(|a, b| a.clock == b.clock) {
                let offset = |message: &Message| message.sent.unwrap_or(0).wrapping_sub(message.raw);
                let last = offset(group.last().expect("groups are not empty"));
                let mut settled = [false; 3];
                for message in group {
                    let off = offset(message).wrapping_sub(last) as i32;
                    let settled = &mut settled[slot(message.kind)];
                    assert!(
                        off == 0 || (!*settled && (0..2_000).contains(&off)),
                        "session {id}: {:?} at raw {} was sent at {:?}, {off} ms from where its clock is",
                        message.kind,
                        message.raw,
                        message.sent
                    );
                    *settled |= off == 0;
                }
            }
        }
    }
}

/// What a play is measured by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Its link is never the bottleneck and it asks for everything: it must miss nothing.
    pub(crate) fast: bool,
    /// It switches kinds off and on, or pauses.
    pub(crate) fickle: bool,
    /// Bound from the server having a message to the player having it.
    pub(crate) latency_ms: Option<u64>,
    pub(crate) join_wait_ms: u64,
    pub(crate) grace_ms: u64,
    /// How long a healthy shard may leave things undone.
    pub(crate) slack_ms: u64,
    /// Join points are not given up.
    pub(crate) joins_last: bool,
}

/// One play: what a player has received on one message stream.
#[derive(Debug)]
pub(crate) struct Play {
    pub(crate) name: String,
    pub(crate) stream: usize,
    message_stream: u32,
    pub(crate) terms: Terms,
    pub(crate) started_at: Option<u64>,
    /// When it connected.
    came_at: u64,
    last_at: u64,
    /// The last Play.Start.
    begun_at: u64,
    pub(crate) told_end: Option<u64>,
    pub(crate) refused: bool,
    session: Option<usize>,
    /// When the first coded message of the session came.
    joined_at: Option<u64>,
    /// The last coded message of the session, and per kind.
    last: Option<u32>,
    last_data: Option<u32>,
    headers: Headers,
    timestamps: Headers,
    /// The next video message must be a keyframe.
    awaits_keyframe: bool,
    pub(crate) received: u64,
    pub(crate) gaps: u64,
    pub(crate) sessions_seen: u64,
}

impl Play {
    pub(crate) fn new(name: &str, stream: usize, message_stream: u32, terms: Terms, came_at: u64) -> Self {
        Self {
            name: format!("{name}/{message_stream}"),
            stream,
            message_stream,
            terms,
            started_at: None,
            came_at,
            last_at: 0,
            begun_at: 0,
            told_end: None,
            refused: false,
            session: None,
            joined_at: None,
            last: None,
            last_data: None,
            headers: [None; 3],
            timestamps: [None; 3],
            awaits_keyframe: false,
            received: 0,
            gaps: 0,
            sessions_seen: 0,
        }
    }

    pub(crate) fn media(&mut self, kind: Kind, timestamp: u32, payload: &[u8], now: u64, model: &mut Model) {
        let who = format!("{} at {now} ms", self.name);
        assert!(self.started_at.is_some(), "{who}: media before Play.Start");
        assert!(self.told_end.is_none(), "{who}: media after the end of the stream");
        let Some((session, index)) = Model::identify(kind, payload) else {
            panic!("{who}: {kind:?} of {} bytes nobody published", payload.len())
        };
        model.trace(&[now, session as u64, u64::from(index), u64::from(timestamp), slot(kind) as u64]);
        let published = model.sessions.get(session).unwrap_or_else(|| panic!("{who}: of no session"));
        assert_eq!(published.stream, self.stream, "{who}: a message of another stream");
        let message = published.messages.get(index as usize).unwrap_or_else(|| panic!("{who}: of no message"));
        assert_eq!(message.kind, kind, "{who}: session {session} message {index}");
        assert!(message.taken_at.is_some(), "{who}: session {session} message {index} before the server had it");
        assert!(payload == model.payload(session, index), "{who}: session {session} message {index} was altered");
        self.enter(session, now, &who, model);
        self.received += 1;
        let message = model.sessions[session].messages[index as usize].clone();
        match message.role {
            Role::Metadata | Role::SequenceHeader => self.headers[slot(kind)] = Some(index),
            Role::Cue => {
                assert!(self.last_data.is_none_or(|last| last < index), "{who}: cue {index} again");
                self.last_data = Some(index);
            }
            Role::Keyframe | Role::Coded => {
                self.coded(session, index, &message, timestamp, now, &who, model);
            }
        }
    }

    /// Moves on to a newer session; the one before must be complete.
    fn enter(&mut self, session: usize, now: u64, who: &str, model: &Model) {
        if self.session == Some(session) {
            return;
        }
        if let Some(before) = self.session {
            assert!(before < session, "{who}: back from session {before} to {session}");
            self.must_be_complete(before, who, model);
        }
        model.tell(|| format!("{now} ms: {}: session {session}, after {:?}", self.name, self.last));
        self.session = Some(session);
        self.sessions_seen += 1;
        self.joined_at = None;
        self.last = None;
        self.last_data = None;
        self.headers = [None; 3];
        self.awaits_keyframe = false;
    }

    fn must_be_complete(&self, session: usize, who: &str, model: &Model) {
        if self.terms.fast && !self.terms.fickle && self.last.is_some() {
            let last = model.last_wanted(session, u64::MAX);
            assert_eq!(self.last, last, "{who}: the last messages of session {session} are missing");
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn coded(
        &mut self,
        session: usize,
        index: u32,
        message: &Message,
        timestamp: u32,
        now: u64,
        who: &str,
        model: &mut Model,
    ) {
        let at = format!("{who}: session {session} message {index} ({:?} {:?})", message.kind, message.role);
        let messages = &model.sessions[session].messages;
        let gap = match self.last {
            None => {
                self.check_start(session, index, now, &at, model);
                false
            }
            Some(last) => {
                assert!(index > last, "{at}: after {last}");
                let counts =
                    |missed: &Message| missed.role.is_coded() && (!self.terms.fickle || missed.kind == Kind::Video);
                messages[last as usize + 1..index as usize].iter().any(counts)
            }
        };
        if gap {
            self.gaps += 1;
            model.tell(|| format!("{at}: after {:?}", self.last));
            // A joiner of a long GOP may leave the rest of it for the next keyframe.
            let last = self.last.and_then(|last| messages[last as usize].taken_at);
            let catches_up = self.joined_at > last;
            assert!(!self.terms.fast || self.terms.fickle || catches_up, "{at}: a gap after {:?}", self.last);
            let has_video = messages[..=index as usize].iter().any(|m| m.kind == Kind::Video && m.role.is_coded());
            if self.terms.fickle {
                // After a join wait in vain it goes on anywhere.
                self.awaits_keyframe = self.terms.fast && now - self.last_at + 1_000 < self.terms.join_wait_ms;
            } else {
                assert!(!has_video || message.role == Role::Keyframe, "{at}: skipped to, after {:?}", self.last);
            }
        }
        if message.kind == Kind::Video {
            assert!(!self.awaits_keyframe || message.role == Role::Keyframe, "{at}: no keyframe after a gap");
            self.awaits_keyframe = false;
        }
        for kind in [Kind::Data, message.kind] {
            let (has, needs) = (self.headers[slot(kind)], message.headers[slot(kind)]);
            assert_eq!(has, needs, "{at}: the {kind:?} headers in force are others");
        }
        let before = &mut self.timestamps[slot(message.kind)];
        assert!(
            before.is_none_or(|before| timestamp.wrapping_sub(before) < 1 << 31),
            "{at}: {timestamp} after {before:?}"
        );
        *before = Some(timestamp);
        let sent = *model.sessions[session].messages[index as usize].sent.get_or_insert(timestamp);
        assert_eq!(sent, timestamp, "{at}: players see different timestamps");
        let joined_at = *self.joined_at.get_or_insert(now);
        if let (Some(latency), Some(taken)) = (self.terms.latency_ms, message.taken_at)
            && joined_at < taken
            && self.terms.fast
            && !self.terms.fickle
        {
            assert!(now - taken <= latency, "{at}: it came {} ms late", now - taken);
        }
        self.last = Some(index);
        self.last_at = now;
    }

    /// The first coded message of a session.
    fn check_start(&mut self, session: usize, index: u32, now: u64, at: &str, model: &Model) {
        let published = &model.sessions[session];
        let messages = &published.messages;
        // A slow player hears late of what began early.
        let asked_at = if self.terms.fast { self.started_at.unwrap_or(0) } else { self.came_at };
        let waited_since = asked_at.max(published.began_at);
        if now + 1_000 - waited_since >= self.terms.join_wait_ms {
            return;
        }
        let message = &messages[index as usize];
        if message.role == Role::Keyframe {
            return;
        }
        let coded_video = |message: &&Message| message.kind == Kind::Video && message.role.is_coded();
        assert!(message.kind == Kind::Audio, "{at}: begins with video that is no keyframe");
        // A form that is written only since somebody asked begins where it was asked for.
        let amid_video = messages[..index as usize].iter().any(|m| coded_video(&m));
        assert!(!amid_video || self.message_stream != 1, "{at}: begins with audio amid video");
        self.awaits_keyframe = true;
    }

    pub(crate) fn begin(&mut self, now: u64, model: &Model) {
        self.started_at.get_or_insert(now);
        self.begun_at = now;
        self.told_end = None;
        model.tell(|| format!("{now} ms: {}: begins", self.name));
    }

    /// The server said that the stream ended.
    pub(crate) fn end(&mut self, now: u64, model: &mut Model) {
        let who = format!("{} at {now} ms", self.name);
        model.trace(&[now, 0xE0F]);
        model.tell(|| format!("{now} ms: {}: the end, after {:?} of {:?}", self.name, self.last, self.session));
        if self.told_end.replace(now).is_some() {
            return;
        }
        let sessions = &model.streams[self.stream];
        let newest = sessions.last().unwrap_or_else(|| panic!("{who}: the end of a stream that never was"));
        let newest = &model.sessions[*newest];
        match newest.left_at {
            // What was said in time may come late.
            _ if !self.terms.fast => {}
            // It was of the one before, if this one came and went at once.
            Some(_) if model.replaces && now <= newest.began_at + self.terms.slack_ms => {}
            Some(left) => assert!(now >= left + self.terms.grace_ms, "{who}: told the end before the grace was over"),
            None => assert!(now <= newest.began_at + self.terms.slack_ms, "{who}: told the end of a live stream"),
        }
        if let Some(session) = self.session {
            self.must_be_complete(session, &who, model);
        }
    }

    /// What must have come by now, if the play's link is not to blame.
    pub(crate) fn must_be_current(&self, now: u64, model: &Model) {
        let Some(started) = self.started_at.filter(|_| self.terms.fast && !self.terms.fickle && !self.refused) else {
            return;
        };
        let who = format!("{} at {now} ms", self.name);
        let due = now.saturating_sub(self.terms.slack_ms);
        let Some(newest) = model.streams[self.stream].last().copied() else { return };
        let session = &model.sessions[newest];
        // Players wait for one that was to replace another, and may have left.
        let takeover_ms = if model.replaces { TAKEOVER_WAIT.as_millis() as u64 } else { 0 };
        if let Some(left) = session.left_at
            && left.max(self.begun_at) + self.terms.grace_ms.max(takeover_ms) < due
            && self.session == Some(newest)
        {
            assert!(self.told_end.is_some(), "{who}: not told that the stream ended at {left} ms");
        }
        if self.session == Some(newest)
            && let Some(joined) = self.joined_at
        {
            if joined > due {
                return;
            }
            let last = model.last_wanted(newest, due);
            assert!(self.last >= last, "{who}: has {:?} of session {newest}, should have {last:?} by now", self.last);
            return;
        }
        if session.left_at.is_some() {
            return;
        }
        let since = started.max(session.began_at);
        let waited = if self.terms.joins_last { 0 } else { self.terms.join_wait_ms };
        let could_begin = session.messages[..session.taken].iter().any(|message| {
            let begins = message.role == Role::Keyframe || (message.role.is_coded() && !self.terms.joins_last);
            begins && message.taken_at.is_some_and(|at| at > since + waited + 100 && at <= due)
        });
        assert!(
            !could_begin,
            "{who}: has nothing of session {newest}, began at {}, though it waits since {started} ms",
            session.began_at
        );
    }
}
