//! A live stream on the shard that owns it.

use std::{sync::Arc, time::Duration};

use super::view::{LogMessage, View, ViewKey};
use crate::{
    limits::{METADATA_BYTES_MAX, SEGMENT_BYTES, VIEW_LINGER, VIEWS_MAX},
    media::{self, DataRole, Role, TagError, TrackSet},
    rtmp::message::Kind,
    stream::{
        headers::HeaderSet,
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
    /// It repeats a header in force, unchanged; players have it.
    Repeated,
}

/// See the file's head.
#[derive(Debug)]
pub struct Broadcast {
    config: BroadcastConfig,
    timeline: Timeline,
    headers: Arc<HeaderSet>,
    /// The common form first.
    views: Vec<View>,
    messages: u64,
    bytes: u64,
}

impl Broadcast {
    /// A stream that begins, or goes on where another publisher of its name ended.
    pub fn new(config: BroadcastConfig, resume: Option<Resume>) -> Self {
        let common = View::new(ViewKey::COMMON, config.chunk_bytes, config.segment_bytes, &config.gauge);
        Self {
            config,
            timeline: Timeline::new(resume),
            headers: Arc::default(),
            views: vec![common],
            messages: 0,
            bytes: 0,
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
        let tag = match kind {
            Kind::Audio => media::classify_audio(payload)?,
            Kind::Video => media::classify_video(payload)?,
            Kind::Data => return Ok(self.publish_data(timestamp, payload, arrived_ms)),
        };
        let track = tag.tracks.first();
        let changed = if is_header(tag.role) {
            let Some(headers) = self.headers.with(kind, tag.role, tag.tracks, payload) else {
                return Ok(Taken::Repeated);
            };
            Some(headers)
        } else {
            None
        };
        let timestamp = match tag.role {
            Role::Keyframe | Role::Coded => self.timeline.media(kind, track, timestamp, now),
            role if is_header(role) => self.timeline.header(kind, track, timestamp),
            _ => self.timeline.aside(kind, track, timestamp),
        };
        let message = LogMessage { kind, role: tag.role, timestamp, arrived_ms, payload };
        let rolled = self.append(message);
        if let Some(headers) = changed {
            self.set_headers(headers);
        }
        Ok(Taken::Appended { rolled })
    }

    fn publish_data(&mut self, timestamp: u32, payload: &[u8], arrived_ms: u32) -> Taken {
        let timestamp = self.timeline.data(timestamp);
        let (body, changed) = match media::classify_data(payload) {
            DataRole::Metadata { body } if body.len() > METADATA_BYTES_MAX => {
                // For the players of the moment; what was set before is void.
                (body, self.headers.without_metadata())
            }
            DataRole::Metadata { body } => {
                let Some(headers) = metadata(&self.headers, body) else {
                    return Taken::Repeated;
                };
                (body, Some(headers))
            }
            DataRole::ClearMetadata => {
                if let Some(headers) = self.headers.without_metadata() {
                    self.set_headers(headers);
                }
                return Taken::Repeated;
            }
            DataRole::Other { body } => (body, None),
        };
        let message = LogMessage { kind: Kind::Data, role: Role::Unknown, timestamp, arrived_ms, payload: body };
        let rolled = self.append(message);
        if let Some(headers) = changed {
            self.set_headers(headers);
        }
        Taken::Appended { rolled }
    }

    fn append(&mut self, message: LogMessage<'_>) -> bool {
        let bounds = self.config.bounds;
        self.views.iter_mut().fold(false, |rolled, view| view.append(message, bounds) | rolled)
    }

    fn set_headers(&mut self, headers: Arc<HeaderSet>) {
        for view in &mut self.views {
            view.set_headers(headers.clone());
        }
        self.headers = headers;
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

    /// Writes the stream in another form too, from its newest join point on. False if it has as many forms as it may.
    pub fn add_view(&mut self, key: ViewKey) -> bool {
        if self.views.iter().any(|view| view.key() == key) {
            return true;
        }
        if self.views.len() > VIEWS_MAX {
            return false;
        }
        let mut view = View::new(key, self.config.chunk_bytes, self.config.segment_bytes, &self.config.gauge);
        replay(self.views[0].log().window(), &mut view, self.config.bounds);
        view.set_headers(self.headers.clone());
        view.log_mut().window_mut().release();
        if self.views[0].log().window().ended() {
            view.log_mut().end();
        }
        self.views.push(view);
        true
    }

    /// Which of the forms in `idle` nobody has needed for a linger. `now` is the shard's time.
    pub fn note_idle(&mut self, idle: &[ViewKey], now: Duration) -> Vec<ViewKey> {
        let expired = self.views.iter_mut().filter_map(|view| {
            let is_idle = view.key() != ViewKey::COMMON && idle.contains(&view.key());
            view.idle_for(is_idle, now).filter(|idle| *idle >= VIEW_LINGER).map(|_| view.key())
        });
        expired.collect()
    }

    /// Drops a form nobody receives. The common one stays.
    pub fn drop_view(&mut self, key: ViewKey) {
        self.views.retain(|view| view.key() == ViewKey::COMMON || view.key() != key);
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

/// Copies the common form's messages since its newest join point into a view that begins.
fn replay(common: &Window, view: &mut View, bounds: JoinBounds) {
    let Some(join) = common.join() else { return };
    let mut headers = join.headers.clone();
    view.set_headers(headers.clone());
    let sequences = common.first_sequence()..common.next_sequence();
    for (entry, payload) in sequences.filter_map(|sequence| common.payload(sequence)) {
        if entry.offset < join.offset {
            continue;
        }
        let tag = match entry.kind {
            Kind::Audio => media::classify_audio(&payload).ok(),
            Kind::Video => media::classify_video(&payload).ok(),
            Kind::Data => None,
        };
        let role = tag.map_or(Role::Unknown, |tag| tag.role);
        let message = LogMessage {
            kind: entry.kind,
            role,
            timestamp: entry.timestamp,
            arrived_ms: entry.arrived_ms,
            payload: &payload,
        };
        view.append(message, bounds);
        // Audio further on is joined with what is in force there.
        let changed = match (tag, media::classify_data(&payload)) {
            (Some(tag), _) if is_header(role) => headers.with(entry.kind, role, tag.tracks, &payload),
            (None, DataRole::Metadata { body }) if entry.kind == Kind::Data && body.len() > METADATA_BYTES_MAX => {
                headers.without_metadata()
            }
            (None, DataRole::Metadata { body }) if entry.kind == Kind::Data => metadata(&headers, body),
            _ => None,
        };
        if let Some(changed) = changed {
            headers = changed;
            view.set_headers(headers.clone());
        }
    }
}

/// Whether players that join later need the message, too.
fn is_header(role: Role) -> bool {
    matches!(role, Role::SequenceHeader | Role::ChannelConfig | Role::ColorInfo)
}

/// `headers` with other metadata; `None` if it is the same.
fn metadata(headers: &Arc<HeaderSet>, body: &[u8]) -> Option<Arc<HeaderSet>> {
    headers.with(Kind::Data, Role::Unknown, TrackSet::single(0), body)
}
