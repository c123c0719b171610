//! One continuous stream of several sources' messages: what to drop after a switch, and what time to give the rest.
//!
//! Until the first switch everything passes as it is and is hardly looked at. After a switch, metadata and sequence headers
//! pass at once, at the time last sent; media waits for a keyframe. A source whose clock is near what was sent last shares
//! the timeline: what has been sent is dropped, by kind, and media goes on at the next keyframe. Any other gets one offset
//! for all kinds: last sent + max(one frame, elapsed gap) - first new. Where nothing tells that a keyframe will come,
//! sound does not wait for one. Arithmetic is modulo 2^32.
//!
//! Bounds: nothing is kept of a message but its time. Driven by whoever publishes what sources send; what a source's own
//! clock does once it is spliced in, is [`Timeline`](crate::stream::timeline::Timeline)'s to smooth.

use std::time::Duration;

use crate::{
    limits::{JOIN_WAIT_DEFAULT, SPLICE_VIDEO_WAIT, TIMESTAMP_NEAR_MS, TIMESTAMP_REORDER_MAX_MS},
    media::{self, DataRole, Role, Tag},
    rtmp::message::Kind,
};

/// A frame's distance where none is known.
const FRAME_MS: u32 = 40;

/// See the file's head.
#[derive(Debug, Default)]
pub struct Splice {
    audio: Sent,
    video: Sent,
    data: Sent,
    /// Time of the latest audio or video, and when it was sent.
    newest: Option<u32>,
    sent_at: Duration,
    /// Added to the timestamps of the source.
    offset: u32,
    switched: bool,
    /// The source's clock is not placed yet.
    joining: Option<Joining>,
    /// Video of the source has not begun.
    video_waits: bool,
}

/// Of one kind.
#[derive(Debug, Default)]
struct Sent {
    /// Last timestamp sent.
    last: Option<u32>,
    /// What the source before sent up to: nothing of this one is sent up to there.
    floor: Option<u32>,
}

/// A source that was switched to, until it is known when its media begins.
#[derive(Debug, Default)]
struct Joining {
    /// Time of its first media, and when that came.
    first: Option<(u32, Duration)>,
    /// The offset at which it goes on where the source before stopped, if it does.
    shared: Option<u32>,
    has_video: bool,
}

/// What a message is to a splice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Header,
    /// A place to begin at.
    Keyframe,
    Media,
}

impl Splice {
    pub fn new() -> Self {
        Self::default()
    }

    /// What follows is spliced to a stream that ended at `sent`, at the time `sent_at`.
    pub fn resumed(sent: u32, sent_at: Duration) -> Self {
        let ended = || Sent { last: None, floor: Some(sent) };
        Self {
            audio: ended(),
            video: ended(),
            data: ended(),
            newest: Some(sent),
            sent_at,
            switched: true,
            joining: Some(Joining::default()),
            video_waits: true,
            ..Self::default()
        }
    }

    /// The messages from here on are another source's, or those of the same one connected anew.
    pub fn switch(&mut self) {
        if self.newest.is_none() {
            return;
        }
        self.switched = true;
        self.video_waits = true;
        self.joining = Some(Joining::default());
        for sent in [&mut self.audio, &mut self.video, &mut self.data] {
            sent.floor = sent.last;
        }
    }

    /// The timestamp to publish a message of the current source with; `None` to drop it. `now` never goes back.
    pub fn take(&mut self, kind: Kind, timestamp: u32, payload: &[u8], now: Duration) -> Option<u32> {
        let waits = self.joining.is_some() || (kind == Kind::Video && self.video_waits);
        if !waits && self.sent(kind).floor.is_none() {
            return Some(self.pass(kind, timestamp.wrapping_add(self.offset), payload, now));
        }
        let part = Part::of(kind, payload)?;
        if part == Part::Header {
            return Some(self.header(kind));
        }
        if !self.is_placed(kind, part, timestamp, now) {
            return None;
        }
        let timestamp = timestamp.wrapping_add(self.offset);
        let waits = kind == Kind::Video && self.video_waits && part != Part::Keyframe;
        if waits || self.was_sent(kind, timestamp) {
            return None;
        }
        if kind == Kind::Video {
            self.video_waits = false;
        }
        Some(self.pass(kind, timestamp, payload, now))
    }

    /// Where video of another source at its `timestamp` would be in the stream, and how many milliseconds it is ahead of
    /// what was sent; 0 or less: its like was sent. `None` if that source is on a clock of its own.
    pub fn lead(&self, timestamp: u32) -> Option<(u32, i64)> {
        let (newest, last) = self.newest.zip(self.video.last)?;
        let place = timestamp.wrapping_add(self.shared_offset(newest, timestamp)?);
        Some((place, lead_ms(place, last)))
    }

    /// How many milliseconds `place` in the stream is ahead of video of the source at hand, at its `timestamp`; 0 or less: it
    /// has come there.
    pub fn lead_over(&self, place: u32, timestamp: u32) -> i64 {
        lead_ms(place, timestamp.wrapping_add(self.offset))
    }

    /// Whether the source's clock is, or can now be, placed on the timeline.
    fn is_placed(&mut self, kind: Kind, part: Part, timestamp: u32, now: Duration) -> bool {
        let Some(mut joining) = self.joining.take() else { return true };
        let newest = self.newest.unwrap_or(timestamp);
        if kind != Kind::Data && joining.first.is_none() {
            joining.first = Some((timestamp, now));
            joining.shared = self.shared_offset(newest, timestamp);
        }
        joining.has_video |= kind == Kind::Video;
        let begins = match kind {
            Kind::Video => {
                let place = joining.shared.map(|offset| timestamp.wrapping_add(offset));
                part == Part::Keyframe && !place.is_some_and(|place| self.was_sent(kind, place))
            }
            Kind::Audio => self.waited_enough(&joining, timestamp, now),
            Kind::Data => false,
        };
        if begins {
            let gap = gap_ms(now.saturating_sub(self.sent_at));
            let foreign = newest.wrapping_add(gap).wrapping_sub(timestamp);
            self.offset = joining.shared.unwrap_or(foreign);
        } else {
            self.joining = Some(joining);
        }
        begins
    }

    /// Of the clocks a source may share, the first one's and the last one's, the nearer one, if it is near.
    fn shared_offset(&self, newest: u32, timestamp: u32) -> Option<u32> {
        let distance = |offset: &u32| apart(timestamp.wrapping_add(*offset), newest);
        [0, self.offset].into_iter().min_by_key(distance).filter(|offset| distance(offset) < TIMESTAMP_NEAR_MS)
    }

    /// Whether sound has waited for a keyframe as long as it should.
    fn waited_enough(&self, joining: &Joining, timestamp: u32, now: Duration) -> bool {
        let Some((first, first_at)) = joining.first else { return false };
        let patience = match (joining.has_video, self.video.last) {
            (true, _) => JOIN_WAIT_DEFAULT,
            (false, Some(_)) => SPLICE_VIDEO_WAIT,
            (false, None) => Duration::ZERO,
        };
        let media = Duration::from_millis(ahead(timestamp, first).into());
        media.max(now.saturating_sub(first_at)) >= patience
    }

    /// Whether the source before sent what is to be at `timestamp`. A clock that is nowhere near was set anew.
    fn was_sent(&mut self, kind: Kind, timestamp: u32) -> bool {
        // Kinds are not in step: one may begin further back than the other that showed the clocks to be near.
        const REACH_MS: u32 = 2 * TIMESTAMP_NEAR_MS;
        let sent = self.sent_mut(kind);
        let Some(floor) = sent.floor else { return false };
        if apart(timestamp, floor) > REACH_MS {
            sent.floor = None;
            return false;
        }
        timestamp == floor || is_after(floor, timestamp)
    }

    /// The timestamp of what is needed to make sense of media to come.
    fn header(&mut self, kind: Kind) -> u32 {
        let newest = self.newest.unwrap_or_default();
        let joins = self.joining.is_some();
        if let Some(joining) = &mut self.joining {
            joining.has_video |= kind == Kind::Video;
        }
        let sent = self.sent_mut(kind);
        let last = sent.last.filter(|last| apart(*last, newest) <= TIMESTAMP_NEAR_MS).unwrap_or(newest);
        sent.last = Some(last);
        if joins {
            sent.floor = Some(last);
        }
        last
    }

    /// Notes what is sent, which is looked at only where its time is none of the stream's.
    fn pass(&mut self, kind: Kind, timestamp: u32, payload: &[u8], now: Duration) -> u32 {
        let last = self.sent(kind).last;
        if let Some(last) = last.or(self.newest)
            && timestamp.wrapping_sub(last) > TIMESTAMP_NEAR_MS
            && Part::of(kind, payload) == Some(Part::Header)
        {
            // Encoders send headers with timestamp 0 whatever their media's is.
            return if self.switched { last } else { timestamp };
        }
        let later = |last: Option<u32>| last.filter(|last| ahead(*last, timestamp) <= TIMESTAMP_REORDER_MAX_MS);
        self.sent_mut(kind).last = Some(not_before(later(last), timestamp));
        if kind != Kind::Data {
            let near = self.newest.filter(|newest| ahead(*newest, timestamp) <= TIMESTAMP_NEAR_MS);
            self.newest = Some(not_before(near, timestamp));
            self.sent_at = now;
        }
        timestamp
    }

    fn sent(&self, kind: Kind) -> &Sent {
        match kind {
            Kind::Audio => &self.audio,
            Kind::Video => &self.video,
            Kind::Data => &self.data,
        }
    }

    fn sent_mut(&mut self, kind: Kind) -> &mut Sent {
        match kind {
            Kind::Audio => &mut self.audio,
            Kind::Video => &mut self.video,
            Kind::Data => &mut self.data,
        }
    }
}

impl Part {
    /// `None` if it is a damaged tag.
    fn of(kind: Kind, payload: &[u8]) -> Option<Self> {
        let tag = match kind {
            Kind::Audio => media::classify_audio(payload).ok()?,
            Kind::Video => media::classify_video(payload).ok()?,
            Kind::Data => {
                let is_other = matches!(media::classify_data(payload), DataRole::Other { .. });
                return Some(if is_other { Self::Media } else { Self::Header });
            }
        };
        Some(match tag {
            Tag { role: Role::SequenceHeader | Role::ChannelConfig | Role::ColorInfo, .. } => Self::Header,
            Tag { role: Role::Keyframe, tracks, .. } if tracks.contains(0) => Self::Keyframe,
            _ => Self::Media,
        })
    }
}

/// Whether `a` is later than `b` on a clock that wraps.
fn is_after(a: u32, b: u32) -> bool {
    a != b && a.wrapping_sub(b) < 1 << 31
}

/// How far `a` is ahead of `b`; 0 if it is behind.
fn ahead(a: u32, b: u32) -> u32 {
    if is_after(a, b) { a.wrapping_sub(b) } else { 0 }
}

fn not_before(floor: Option<u32>, timestamp: u32) -> u32 {
    floor.filter(|floor| is_after(*floor, timestamp)).unwrap_or(timestamp)
}

/// How far `a` is ahead of `b`, if not behind it.
fn lead_ms(a: u32, b: u32) -> i64 {
    i64::from(ahead(a, b)) - i64::from(ahead(b, a))
}

fn apart(a: u32, b: u32) -> u32 {
    a.wrapping_sub(b).min(b.wrapping_sub(a))
}

fn gap_ms(elapsed: Duration) -> u32 {
    u32::try_from(elapsed.as_millis()).unwrap_or(u32::MAX / 4).clamp(FRAME_MS, u32::MAX / 4)
}

#[cfg(test)]
#[path = "splice_tests.rs"]
mod tests;
