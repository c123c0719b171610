//! Timestamps as players see them: never a step back per (kind, track), whatever the encoder does.
//!
//! Within a session small steps back are reordering and held at the last value; a larger one, or a leap of more than a
//! day, means the encoder set its clock anew. A new session (republish, take-over) starts a clock anew by definition. A
//! new clock gets one offset for all tracks, so audio and video keep their distance:
//! `max(last sent) + max(one frame, elapsed gap) - first new`. Tracks go over to it one by one, each when it steps or
//! leaps itself; one that only stumbled goes back to the clock of the others. All arithmetic is modulo 2^32, so streams
//! live through the wrap at 49.7 days. Bounds: one small record per (kind, track) seen, at most 2 * 256.

use std::time::Duration;

use crate::{
    limits::{TIMESTAMP_LEAP_MAX_MS, TIMESTAMP_NEAR_MS, TIMESTAMP_REORDER_MAX_MS},
    media::TrackSet,
    rtmp::message::Kind,
};

/// A frame's distance where none is known.
const FRAME_MS: u32 = 40;
/// What was sent longer ago than this does not hold anything back: half of what can be told from a step back.
const MEMORY_MS: u32 = 1 << 30;

/// Whether `a` is later than `b` on a clock that wraps.
fn is_after(a: u32, b: u32) -> bool {
    a != b && a.wrapping_sub(b) < 1 << 31
}

/// How far `a` is ahead of `b`; 0 if it is behind. Half the range is ahead.
fn ahead(a: u32, b: u32) -> u32 {
    if is_after(b, a) { 0 } else { a.wrapping_sub(b) }
}

#[derive(Clone, Copy, Debug)]
struct Track {
    kind: Kind,
    track: u8,
    clock: Clock,
    /// Last timestamp of media from the publisher; `None` while there were only headers.
    raw: Option<u32>,
    /// Last timestamp written.
    sent: u32,
}

/// A clock of the publisher's, and what is added to its timestamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Clock {
    generation: u32,
    offset: u32,
}

impl Clock {
    fn at(self, raw: u32) -> u32 {
        raw.wrapping_add(self.offset)
    }
}

/// What outlives a publisher, for the next one of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The greatest timestamp players have seen.
    pub sent: u32,
    /// When the stream ended, in the process's time.
    pub ended_at: Duration,
}

/// See the file's head.
#[derive(Debug, Default)]
pub struct Timeline {
    tracks: Vec<Track>,
    /// The newest, or the one that tracks went back to.
    clock: Clock,
    generations: u32,
    /// Greatest timestamp of media written, or sent by the session before.
    newest: Option<u32>,
    written_at: Duration,
    /// Last timestamp of a data message.
    data: Option<u32>,
    /// The session before, until this one's first media.
    resume: Option<Resume>,
    /// Nothing is written below this.
    floor: Option<u32>,
}

impl Timeline {
    /// A first session, or one that goes on from where another ended.
    pub fn new(resume: Option<Resume>) -> Self {
        let sent = resume.map(|resume| resume.sent);
        Self { resume, newest: sent, floor: sent, ..Self::default() }
    }

    /// A session that goes on from where another ended, with times that whoever sends it has already made to go on from there.
    pub fn continued(resume: Option<Resume>) -> Self {
        Self { resume: None, ..Self::new(resume) }
    }

    /// What the next publisher of the name needs; `None` if players never saw a timestamp.
    pub fn resume(&self, now: Duration) -> Option<Resume> {
        let newest = self.newest?;
        // Data and silence may be a little ahead of media; a header far ahead of it does not count.
        let others = self.tracks.iter().map(|track| track.sent).chain(self.data);
        let near = others.filter(|sent| ahead(*sent, newest) <= TIMESTAMP_NEAR_MS);
        Some(Resume { sent: near.fold(newest, |sent, other| not_before(Some(other), sent)), ended_at: now })
    }

    /// The timestamp to write for coded media of `kind` and `track`. `now` is the process's time.
    pub fn media(&mut self, kind: Kind, track: u8, raw: u32, now: Duration) -> u32 {
        if let Some(resume) = self.resume.take() {
            let gap = gap_ms(now.saturating_sub(resume.ended_at));
            self.clock.offset = resume.sent.wrapping_add(gap).wrapping_sub(raw);
        }
        let position = self.position(kind, track);
        let known = position.and_then(|index| self.tracks.get(index)).copied();
        let floor = match known {
            // A header that was far ahead of all media holds nothing back.
            Some(Track { raw: None, sent, .. }) if self.is_far_ahead(sent, raw) => self.floor,
            Some(known) => Some(known.sent),
            None => self.floor,
        };
        let clock = match known {
            Some(Track { raw: Some(last), clock, sent, .. }) => self.clock_of(clock, last, sent, raw, now),
            _ => self.clock_of_first(floor, raw, now),
        };
        let sent = self.not_before(floor, clock.at(raw));
        self.note(position, Track { kind, track, clock, raw: Some(raw), sent });
        self.newest = Some(not_before(self.newest, sent));
        self.written_at = now;
        sent
    }

    /// As [`media`](Self::media), for a message of several tracks: no earlier than any of them allows.
    pub fn media_of(&mut self, kind: Kind, tracks: &TrackSet, raw: u32, now: Duration) -> u32 {
        let mut sent = None;
        for track in tracks.iter() {
            sent = Some(not_before(sent, self.media(kind, track, raw, now)));
        }
        let sent = sent.unwrap_or_else(|| self.aside(kind, 0, raw));
        for known in self.tracks.iter_mut().filter(|known| known.kind == kind && tracks.contains(known.track)) {
            known.sent = sent;
        }
        sent
    }

    /// The timestamp to write for a header: its own, but not before its track's last nor after the newest of all, because
    /// encoders send headers with timestamp 0 whatever their media's is, or with that of a frame to come. It starts no
    /// clock.
    pub fn header(&mut self, kind: Kind, track: u8, raw: u32) -> u32 {
        let position = self.position(kind, track);
        if let Some(known) = position.and_then(|index| self.tracks.get(index)).copied() {
            let clock = if known.raw.is_some() { known.clock } else { self.clock };
            let timestamp = clock.at(raw);
            let sent = match self.newest {
                Some(newest) if ahead(timestamp, newest) <= TIMESTAMP_NEAR_MS => {
                    not_before(Some(known.sent), if is_after(timestamp, newest) { newest } else { timestamp })
                }
                _ => known.sent,
            };
            self.note(position, Track { sent, ..known });
            return sent;
        }
        let timestamp = self.clock.at(raw);
        let sent = match self.newest {
            Some(newest) if is_after(timestamp, newest) => newest,
            _ => not_before(self.floor, timestamp),
        };
        self.note(None, Track { kind, track, clock: self.clock, raw: None, sent });
        sent
    }

    /// The timestamp to write for what is neither coded media nor a header: silence, commands, packets of a later standard.
    /// Its own where it goes on from its track's and is near media, else its track's last. It starts no clock.
    pub fn aside(&mut self, kind: Kind, track: u8, raw: u32) -> u32 {
        let position = self.position(kind, track);
        let known = position.and_then(|index| self.tracks.get(index)).copied();
        let Some(known) = known else { return self.header(kind, track, raw) };
        let clock = if known.raw.is_some() { known.clock } else { self.clock };
        let timestamp = clock.at(raw);
        let is_near = self.newest.is_none_or(|newest| ahead(timestamp, newest) <= TIMESTAMP_NEAR_MS);
        let sent = if is_near { not_before(Some(known.sent), timestamp) } else { known.sent };
        self.note(position, Track { sent, ..known });
        sent
    }

    /// The timestamp to write for a data message: its own where media is near that, else the newest of media.
    pub fn data(&mut self, raw: u32) -> u32 {
        let timestamp = self.clock.at(raw);
        let far = |newest: &u32| {
            ahead(timestamp, *newest) > TIMESTAMP_NEAR_MS || ahead(*newest, timestamp) > TIMESTAMP_REORDER_MAX_MS
        };
        // Before the first media of a session that goes on, its clock is not known.
        let newest = self.newest.filter(|newest| self.resume.is_some() || far(newest));
        let sent = self.not_before(self.data.or(self.floor), newest.unwrap_or(timestamp));
        self.data = Some(sent);
        sent
    }

    fn position(&self, kind: Kind, track: u8) -> Option<usize> {
        self.tracks.iter().position(|known| (known.kind, known.track) == (kind, track))
    }

    fn note(&mut self, position: Option<usize>, track: Track) {
        match position.and_then(|index| self.tracks.get_mut(index)) {
            Some(slot) => *slot = track,
            None => self.tracks.push(track),
        }
    }

    /// `timestamp`, or `floor` if that is later and not long past.
    fn not_before(&self, floor: Option<u32>, timestamp: u32) -> u32 {
        let apart = |newest: u32, floor: u32| newest.wrapping_sub(floor).min(floor.wrapping_sub(newest));
        let recent = |floor: &u32| self.newest.is_none_or(|newest| apart(newest, *floor) < MEMORY_MS);
        not_before(floor.filter(recent), timestamp)
    }

    /// Whether a header written at `sent` is beyond the newest media, and the first of its track, which is at `raw`.
    fn is_far_ahead(&self, sent: u32, raw: u32) -> bool {
        let beyond = |media: u32| ahead(sent, media) > TIMESTAMP_REORDER_MAX_MS;
        self.newest.is_none_or(beyond) && beyond(self.clock.at(raw))
    }

    /// The clock of a track whose first media this is; nothing of it may be before `floor`.
    fn clock_of_first(&mut self, floor: Option<u32>, raw: u32, now: Duration) -> Clock {
        let timestamp = self.clock.at(raw);
        let is_held = floor.is_some_and(|floor| ahead(floor, timestamp) > TIMESTAMP_NEAR_MS);
        if is_held || self.leaps(timestamp, now) { self.new_clock(raw, now) } else { self.clock }
    }

    /// The clock `raw` is on: the track's own, unless it stepped back or leapt too far for that, or the others have gone
    /// where it now belongs.
    fn clock_of(&mut self, own: Clock, last: u32, sent: u32, raw: u32, now: Duration) -> Clock {
        let is_held = ahead(sent, own.at(raw)) > TIMESTAMP_NEAR_MS;
        let steps_back = ahead(last, raw) > TIMESTAMP_REORDER_MAX_MS;
        let goes_on = !(steps_back || is_held || self.leaps(own.at(raw), now));
        if goes_on && (own == self.clock || !self.was_left_behind(own, sent, raw)) {
            return own;
        }
        if own != self.clock && (goes_on || self.fits(self.clock, sent, raw, now)) {
            return self.clock;
        }
        let others = self.tracks.iter().filter(|other| other.raw.is_some()).map(|other| other.clock);
        let shared = others.filter(|clock| *clock != own).find(|clock| self.fits(*clock, sent, raw, now));
        match shared {
            Some(clock) => {
                self.clock = clock;
                clock
            }
            None => match wrapped_at_31_bits(own, last, raw) {
                Some(offset) => self.begin_clock(offset),
                None => self.new_clock(raw, now),
            },
        }
    }

    /// Whether a track that was `sent` up to there could go on at `raw` of `clock`.
    fn fits(&self, clock: Clock, sent: u32, raw: u32, now: Duration) -> bool {
        let timestamp = clock.at(raw);
        let near = TIMESTAMP_NEAR_MS.saturating_add(gap_ms(now.saturating_sub(self.written_at)));
        let newest = self.newest.unwrap_or(sent);
        ahead(sent, timestamp) <= TIMESTAMP_REORDER_MAX_MS && ahead(timestamp, newest) <= near
    }

    /// Whether a track on an older clock has fallen behind one on the newest and would be beside it there: one of the two
    /// leapt and came back.
    fn was_left_behind(&self, own: Clock, sent: u32, raw: u32) -> bool {
        let theirs = self.clock.at(raw);
        let mut others = self.tracks.iter().filter(|other| other.raw.is_some() && other.clock == self.clock);
        let is_beside = |other: u32| ahead(theirs, other).max(ahead(other, theirs)) <= TIMESTAMP_NEAR_MS;
        ahead(sent, theirs) == 0
            && others.any(|other| is_beside(other.sent) && ahead(other.sent, own.at(raw)) > TIMESTAMP_REORDER_MAX_MS)
    }

    /// Whether `timestamp` is further ahead than a stream runs: of all that was sent and the time since.
    fn leaps(&self, timestamp: u32, now: Duration) -> bool {
        let since = gap_ms(now.saturating_sub(self.written_at));
        self.newest.is_some_and(|newest| ahead(timestamp, newest) > TIMESTAMP_LEAP_MAX_MS.saturating_add(since))
    }

    fn new_clock(&mut self, raw: u32, now: Duration) -> Clock {
        let gap = gap_ms(now.saturating_sub(self.written_at));
        let newest = self.newest.unwrap_or(raw);
        self.begin_clock(newest.wrapping_add(gap).wrapping_sub(raw))
    }

    fn begin_clock(&mut self, offset: u32) -> Clock {
        self.generations = self.generations.wrapping_add(1);
        self.clock = Clock { generation: self.generations, offset };
        self.clock
    }
}

/// FFmpeg's FLV muxer, and so each of its publishers, writes 31 bits of a timestamp: its clock wraps after 24.9 days. The
/// offset with which it then goes on as if it had not.
fn wrapped_at_31_bits(clock: Clock, last: u32, raw: u32) -> Option<u32> {
    const WRAP: u32 = 1 << 31;
    let distance = raw.wrapping_add(WRAP).wrapping_sub(last);
    (last.max(raw) < WRAP && distance <= TIMESTAMP_REORDER_MAX_MS).then(|| clock.offset.wrapping_add(WRAP))
}

/// Half the range is behind.
fn not_before(floor: Option<u32>, timestamp: u32) -> u32 {
    floor.filter(|floor| timestamp.wrapping_sub(*floor) >= 1 << 31).unwrap_or(timestamp)
}

fn gap_ms(elapsed: Duration) -> u32 {
    u32::try_from(elapsed.as_millis()).unwrap_or(u32::MAX / 4).clamp(FRAME_MS, u32::MAX / 4)
}

#[cfg(test)]
#[path = "timeline_tests.rs"]
mod tests;
