//! One form of a stream: its log, what of the stream goes into it, and where players may join.
//!
//! The common form is message stream id 1 with the default tracks in it. Other forms are written from the same messages
//! once somebody asks for them.

use std::{borrow::Cow, sync::Arc, time::Duration};

use crate::{
    limits::{AUDIO_JOIN_INTERVAL, MESSAGE_STREAMS_MAX, VIDEO_QUIET},
    media::{DataRole, Role, SET_DATA_FRAME, Tracks, announces_video, classify_data},
    rtmp::message::Kind,
    stream::{
        headers::HeaderSet,
        layout::Layout,
        log::{JoinBounds, LogWriter},
        segment::LogGauge,
    },
};

/// Which form of a stream a player receives. Players are many: it has eleven bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ViewKey {
    /// The message stream id written, 1..=[`MESSAGE_STREAMS_MAX`].
    pub stream_id: u8,
    /// Whether the player wants audio, and video, at the moment.
    pub audio: bool,
    pub video: bool,
    pub tracks: Tracks,
    /// As a publisher sends it, for another node: see [`Layout::published`].
    pub published: bool,
}

const _: () = assert!(MESSAGE_STREAMS_MAX <= u8::MAX as usize);

impl ViewKey {
    /// The form that every stream has: what any player can take.
    pub const COMMON: Self = Self::plain(1);
    /// Every message as it came. A stream has this form from its first Multitrack message on.
    pub const EVERYTHING: Self = Self::new(1, Tracks::ALL);

    /// These tracks, on message stream `stream_id`.
    pub const fn new(stream_id: u32, tracks: Tracks) -> Self {
        Self { stream_id: stream_id as u8, audio: true, video: true, tracks, published: false }
    }

    /// The default tracks, on message stream `stream_id`.
    pub const fn plain(stream_id: u32) -> Self {
        Self::new(stream_id, Tracks::DEFAULT)
    }

    /// These tracks, on message stream `stream_id`, for a node they are pushed to.
    pub const fn pushed(stream_id: u32, tracks: Tracks) -> Self {
        Self { published: true, ..Self::new(stream_id, tracks) }
    }

    /// Whether messages of `kind` are part of the view.
    pub fn wants(&self, kind: Kind) -> bool {
        let wanted = match kind {
            Kind::Audio => self.audio,
            Kind::Video => self.video,
            Kind::Data => return true,
        };
        wanted && self.tracks.wants(kind)
    }
}

/// A message on its way into the logs.
#[derive(Clone, Copy, Debug)]
pub struct LogMessage<'a> {
    pub kind: Kind,
    /// In the view: a keyframe is one of its first video track.
    pub role: Role,
    /// As players see it.
    pub timestamp: u32,
    pub arrived_ms: u32,
    pub payload: &'a [u8],
}

/// Where a place in the log is, for a join point set after the fact.
#[derive(Clone, Debug)]
struct Place {
    offset: u64,
    timestamp: u32,
    arrived_ms: u32,
    headers: Arc<HeaderSet>,
}

/// See the file's head.
#[derive(Debug)]
pub struct View {
    key: ViewKey,
    log: LogWriter,
    /// Video has been announced or seen, so join points are keyframes.
    has_video: bool,
    coded_video_seen: bool,
    /// When the last video message came.
    video_ms: Option<u32>,
    /// The first coded audio of the epoch.
    first_audio: Option<Place>,
    audio_join_ms: Option<u32>,
    idle_since: Option<Duration>,
}

impl View {
    pub fn new(key: ViewKey, chunk_bytes: usize, segment_bytes: usize, gauge: &LogGauge) -> Self {
        let layout = Layout { stream_id: key.stream_id.into(), chunk_bytes, published: key.published };
        Self {
            key,
            log: LogWriter::new(layout, segment_bytes, gauge),
            has_video: false,
            coded_video_seen: false,
            video_ms: None,
            first_audio: None,
            audio_join_ms: None,
            idle_since: None,
        }
    }

    pub fn key(&self) -> ViewKey {
        self.key
    }

    pub fn log(&self) -> &LogWriter {
        &self.log
    }

    pub fn log_mut(&mut self) -> &mut LogWriter {
        &mut self.log
    }

    /// For how long nobody has received it. `now` is the shard's time.
    pub fn idle_for(&mut self, idle: bool, now: Duration) -> Option<Duration> {
        if !idle {
            self.idle_since = None;
            return None;
        }
        Some(now.saturating_sub(*self.idle_since.get_or_insert(now)))
    }

    /// Appends a message if it belongs here. True if the log began a new segment.
    pub fn append(&mut self, message: LogMessage<'_>, bounds: JoinBounds) -> bool {
        if !self.key.wants(message.kind) {
            return false;
        }
        let headers = self.log.window().headers().clone();
        let payload = self.written(&message);
        let (offset, rolled) = self.log.append(message.kind, message.timestamp, message.arrived_ms, &payload);
        let place = Place { offset, timestamp: message.timestamp, arrived_ms: message.arrived_ms, headers };
        match (message.kind, message.role) {
            (Kind::Video, Role::Keyframe) => self.join_at_keyframe(place),
            (Kind::Audio, Role::Coded) => self.join_at_audio(place),
            // Without audio and video nothing has to come first.
            (Kind::Data, _) if !self.key.audio && !self.key.video => self.mark(place),
            _ => {}
        }
        if message.kind == Kind::Video {
            self.has_video = true;
            self.video_ms = Some(message.arrived_ms);
            self.coded_video_seen |= matches!(message.role, Role::Keyframe | Role::Coded);
        }
        self.log.expire_join(message.arrived_ms, bounds);
        self.log.hold(self.may_be_joined(message.arrived_ms), bounds);
        rolled
    }

    /// The payload as this form has it.
    fn written<'a>(&self, message: &LogMessage<'a>) -> Cow<'a, [u8]> {
        let payload = message.payload;
        let is_metadata = || matches!(classify_data(payload), DataRole::Metadata { .. });
        if self.key.published && message.kind == Kind::Data && is_metadata() {
            return [SET_DATA_FRAME, payload].concat().into();
        }
        payload.into()
    }

    /// Whether video messages have come lately.
    pub fn video_flows(&self, now_ms: u32) -> bool {
        self.video_ms.is_some_and(|at| u128::from(now_ms.wrapping_sub(at)) < VIDEO_QUIET.as_millis())
    }

    /// The first audio, while what comes may still make it a join point.
    fn may_be_joined(&self, arrived_ms: u32) -> Option<u64> {
        let undecided = !self.coded_video_seen && self.audio_join_ms.is_none();
        let recent = |audio: &&Place| is_within_interval(audio.arrived_ms, arrived_ms);
        self.first_audio.as_ref().filter(|_| undecided).filter(recent).map(|audio| audio.offset)
    }

    /// New headers are in force for the messages to come.
    pub fn set_headers(&mut self, headers: Arc<HeaderSet>) {
        if headers.metadata().is_some_and(|metadata| announces_video(metadata)) {
            self.has_video |= self.key.wants(Kind::Video);
        }
        self.log.set_headers(headers);
    }

    /// The first keyframe takes along the audio that came before it: nothing precedes it that a decoder could not use.
    fn join_at_keyframe(&mut self, keyframe: Place) {
        let first = self.first_audio.take().filter(|audio| {
            !self.coded_video_seen
                && is_within_interval(audio.arrived_ms, keyframe.arrived_ms)
                && audio.offset >= self.log.window().start()
        });
        self.mark(first.unwrap_or(keyframe));
    }

    /// Without video, audio is joined at its first message, once it is clear that no video comes, and then at least
    /// each second.
    fn join_at_audio(&mut self, audio: Place) {
        let first = self.first_audio.get_or_insert_with(|| audio.clone()).clone();
        let interval_ms = AUDIO_JOIN_INTERVAL.as_millis();
        let since = |place_ms: u32| u128::from(audio.arrived_ms.wrapping_sub(place_ms));
        let video_ms = self.video_ms.unwrap_or(first.arrived_ms);
        if self.has_video && since(video_ms) < VIDEO_QUIET.as_millis() {
            return;
        }
        match self.audio_join_ms {
            Some(last_ms) if since(last_ms) < interval_ms => {}
            Some(_) => {
                self.audio_join_ms = Some(audio.arrived_ms);
                self.mark(audio);
            }
            None if !self.key.wants(Kind::Video)
                || self.log.window().headers().metadata().is_some()
                || since(first.arrived_ms) >= interval_ms =>
            {
                self.audio_join_ms = Some(audio.arrived_ms);
                let held = first.offset >= self.log.window().start();
                self.mark(if held { first } else { audio });
            }
            None => {}
        }
    }

    fn mark(&mut self, place: Place) {
        self.log.mark_join(place.offset, place.timestamp, place.arrived_ms, place.headers);
    }
}

/// Whether what arrived at `now_ms` came at most one [`AUDIO_JOIN_INTERVAL`] after `then_ms`.
fn is_within_interval(then_ms: u32, now_ms: u32) -> bool {
    u128::from(now_ms.wrapping_sub(then_ms)) <= AUDIO_JOIN_INTERVAL.as_millis()
}
