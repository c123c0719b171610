//! A live stream on the shard that owns it.

use std::time::Duration;

use super::{
    form::{Effect, Form, Part, Published, headers_of},
    view::{LogMessage, View, ViewKey},
};
use crate::{
    limits::{ASSEMBLY_SPARE_BYTES_MAX, SEGMENT_BYTES, VIEW_LINGER, VIEWS_MAX},
    media::{self, Role, TagError, Tracks},
    rtmp::message::Kind,
    stream::{
        log::JoinBounds,
        segment::LogGauge,
        timeline::{Resume, Timeline},
        window::Window,
    },
};

/// What a stream is written with.
#[derive(Clone, Debug)]
pub struct BroadcastConfig {
    pub chunk_bytes: usize,
    pub segment_bytes: usize,
    pub bounds: JoinBounds,
    pub gauge: LogGauge,
}

impl BroadcastConfig {
    pub fn new(chunk_bytes: usize, gop_bytes_max: usize, gauge: LogGauge) -> Self {
        Self { chunk_bytes, segment_bytes: SEGMENT_BYTES, bounds: JoinBounds { gop_bytes_max }, gauge }
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is in the logs. `rolled`: one of them began a new segment.
    Appended { rolled: bool },
    /// It repeats a header in force, unchanged, which players have; or no form in which the stream is written holds it.
    Repeated,
}

/// See the file's head.
#[derive(Debug)]
pub struct Broadcast {
    config: BroadcastConfig,
    timeline: Timeline,
    /// The common form first.
    views: Vec<View>,
    /// One for each choice of tracks among the views.
    forms: Vec<Form>,
    /// A Multitrack message came.
    multitrack: bool,
    /// Where messages are taken apart.
    scratch: Vec<u8>,
    messages: u64,
    bytes: u64,
}

impl Broadcast {
    /// A stream that begins, or goes on where another publisher of its name ended.
    pub fn new(config: BroadcastConfig, resume: Option<Resume>) -> Self {
        Self::on(config, Timeline::new(resume))
    }

    /// As `new`, of what is spliced to the end of the stream before: its times are right.
    pub fn spliced(config: BroadcastConfig, resume: Option<Resume>) -> Self {
        Self::on(config, Timeline::continued(resume))
    }

    fn on(config: BroadcastConfig, timeline: Timeline) -> Self {
        let common = View::new(ViewKey::COMMON, config.chunk_bytes, config.segment_bytes, &config.gauge);
        Self {
            config,
            timeline,
            views: vec![common],
            forms: vec![Form::new(Tracks::DEFAULT)],
            multitrack: false,
            scratch: Vec::new(),
            messages: 0,
            bytes: 0,
        }
    }

    /// Keeps what is further back than `bounds` allow no longer for players to come. `arrived_ms` is the shard's time.
    pub fn set_bounds(&mut self, bounds: JoinBounds, arrived_ms: u32) {
        self.config.bounds = bounds;
        for view in &mut self.views {
            view.log_mut().expire_join(arrived_ms, bounds);
        }
    }

    /// Takes one message, with the publisher's `timestamp`. `now` is the process's time, `arrived_ms` the shard's.
    /// Errors: the tag is malformed and was dropped.
    pub fn publish(
        &mut self,
        kind: Kind,
        timestamp: u32,
        payload: &[u8],
        now: Duration,
        arrived_ms: u32,
    ) -> Result<Taken, TagError> {
        self.messages += 1;
        self.bytes += payload.len() as u64;
        let in_amf0 = if kind == Kind::Data { media::amf3_data::in_amf0(payload) } else { None };
        let Some(message) = Published::read(kind, in_amf0.as_deref().unwrap_or(payload))? else {
            self.clear_metadata();
            return Ok(Taken::Repeated);
        };
        if message.tag.multitrack && !self.multitrack {
            self.multitrack = true;
            self.add_view(ViewKey::EVERYTHING);
        }
        let timestamp = self.timestamp(&message, timestamp, now);
        Ok(self.spread(&message, timestamp, arrived_ms))
    }

    /// What players see in place of the publisher's `timestamp`.
    fn timestamp(&mut self, message: &Published<'_>, timestamp: u32, now: Duration) -> u32 {
        let (kind, tag) = (message.kind, &message.tag);
        match tag.role {
            Role::Keyframe | Role::Coded if tag.multitrack => self.timeline.media_of(kind, &tag.tracks, timestamp, now),
            Role::Keyframe | Role::Coded => self.timeline.media(kind, 0, timestamp, now),
            _ if kind == Kind::Data => self.timeline.data(timestamp),
            _ if message.is_header => self.timeline.header(kind, tag.tracks.first(), timestamp),
            _ => self.timeline.aside(kind, tag.tracks.first(), timestamp),
        }
    }

    /// Writes a message in every form that has a part of it.
    fn spread(&mut self, message: &Published<'_>, timestamp: u32, arrived_ms: u32) -> Taken {
        let bounds = self.config.bounds;
        let mut taken = Taken::Repeated;
        for form in &mut self.forms {
            let Some(part) = message.part(&form.tracks, &mut self.scratch) else { continue };
            let changed = match part.effect(&form.headers) {
                Effect::Repeats => continue,
                Effect::None => None,
                Effect::Changes(headers) => Some(headers),
            };
            let mut rolled = taken == Taken::Appended { rolled: true };
            for view in self.views.iter_mut().filter(|view| view.key().tracks == form.tracks) {
                rolled |= view.append(log_message(&part, timestamp, arrived_ms), bounds);
                if let Some(headers) = &changed {
                    view.set_headers(headers.clone());
                }
            }
            taken = Taken::Appended { rolled };
            if let Some(headers) = changed {
                form.headers = headers;
            }
        }
        if self.scratch.capacity() > ASSEMBLY_SPARE_BYTES_MAX {
            self.scratch = Vec::new();
        }
        taken
    }

    fn clear_metadata(&mut self) {
        for form in &mut self.forms {
            let Some(headers) = form.headers.without_metadata() else { continue };
            for view in self.views.iter_mut().filter(|view| view.key().tracks == form.tracks) {
                view.set_headers(headers.clone());
            }
            form.headers = headers;
        }
    }

    pub fn views(&self) -> &[View] {
        &self.views
    }

    pub fn views_mut(&mut self) -> &mut [View] {
        &mut self.views
    }

    pub fn view_mut(&mut self, key: ViewKey) -> Option<&mut View> {
        self.views.iter_mut().find(|view| view.key() == key)
    }

    /// Writes the stream in another form too, from its first join point on if that is held, else from the newest. False if
    /// it has as many forms as it may ([`VIEWS_MAX`], not counting the common one, everything and what is pushed).
    pub fn add_view(&mut self, key: ViewKey) -> bool {
        if self.views.iter().any(|view| view.key() == key) {
            return true;
        }
        let asked_for = self.views.iter().filter(|view| !is_streams_own(view.key())).count();
        if asked_for >= VIEWS_MAX && !is_streams_own(key) {
            return false;
        }
        let mut view = View::new(key, self.config.chunk_bytes, self.config.segment_bytes, &self.config.gauge);
        // Until a Multitrack message comes, the common form holds everything.
        let source = self.views.iter().find(|view| view.key() == ViewKey::EVERYTHING).unwrap_or(&self.views[0]);
        replay(source.log().window(), &mut view, self.config.bounds);
        let headers = match self.forms.iter().find(|form| form.tracks == key.tracks) {
            Some(form) => form.headers.clone(),
            None => {
                let headers = headers_of(&key.tracks, source.log().window().headers());
                self.forms.push(Form { tracks: key.tracks, headers: headers.clone() });
                headers
            }
        };
        view.set_headers(headers);
        view.log_mut().window_mut().release();
        if self.views[0].log().window().ended() {
            view.log_mut().end();
        }
        self.views.push(view);
        true
    }

    /// Which of the forms in `idle` nobody has needed for a linger. `now` is the shard's time.
    pub fn note_idle(&mut self, idle: &[ViewKey], now: Duration) -> Vec<ViewKey> {
        let multitrack = self.multitrack;
        let expired = self.views.iter_mut().filter_map(|view| {
            let is_idle = !is_kept(view.key(), multitrack) && idle.contains(&view.key());
            view.idle_for(is_idle, now).filter(|idle| *idle >= VIEW_LINGER).map(|_| view.key())
        });
        expired.collect()
    }

    /// Drops a form nobody receives. The common one stays, and everything once there is more than the common one holds.
    pub fn drop_view(&mut self, key: ViewKey) {
        let multitrack = self.multitrack;
        self.views.retain(|view| is_kept(view.key(), multitrack) || view.key() != key);
        let views = &self.views;
        self.forms.retain(|form| views.iter().any(|view| view.key().tracks == form.tracks));
    }

    /// No more messages come; what is in the logs stays readable.
    pub fn end(&mut self) {
        for view in &mut self.views {
            view.log_mut().end();
        }
    }

    /// What the next publisher of the name needs.
    pub fn resume(&self, now: Duration) -> Option<Resume> {
        self.timeline.resume(now)
    }

    /// Messages and payload bytes taken.
    pub fn counts(&self) -> (u64, u64) {
        (self.messages, self.bytes)
    }
}

/// Forms that are there for the stream's sake, or because the operator has it pushed somewhere: players do not use them up.
fn is_streams_own(key: ViewKey) -> bool {
    key == ViewKey::COMMON || key == ViewKey::EVERYTHING || key.published
}

fn is_kept(key: ViewKey, multitrack: bool) -> bool {
    key == ViewKey::COMMON || (key == ViewKey::EVERYTHING && multitrack)
}

fn log_message<'a>(part: &Part<'a>, timestamp: u32, arrived_ms: u32) -> LogMessage<'a> {
    LogMessage { kind: part.kind, role: part.role, timestamp, arrived_ms, payload: part.payload }
}

/// Copies the messages of a form that holds all of them, since its first join point if it is held, else since
/// the newest, into a view that begins.
fn replay(source: &Window, view: &mut View, bounds: JoinBounds) {
    let Some(join) = source.first_join().or(source.join()) else { return };
    let tracks = view.key().tracks;
    let mut headers = headers_of(&tracks, &join.headers);
    view.set_headers(headers.clone());
    let mut scratch = Vec::new();
    let sequences = source.first_sequence()..source.next_sequence();
    for (entry, payload) in sequences.filter_map(|sequence| source.payload(sequence)) {
        if entry.offset < join.offset {
            continue;
        }
        let Ok(Some(message)) = Published::read(entry.kind, &payload) else { continue };
        let Some(part) = message.part(&tracks, &mut scratch) else { continue };
        let changed = match part.effect(&headers) {
            Effect::Repeats => continue,
            Effect::None => None,
            Effect::Changes(changed) => Some(changed),
        };
        view.append(log_message(&part, entry.timestamp, entry.arrived_ms), bounds);
        // Audio further on is joined with what is in force there.
        if let Some(changed) = changed {
            headers = changed;
            view.set_headers(headers.clone());
        }
    }
}
