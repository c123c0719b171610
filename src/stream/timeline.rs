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

    /// Whether a track on an older clock has fallen behind the others and would be among them on theirs: one of them
    /// leapt and came back.
    fn was_left_behind(&self, own: Clock, sent: u32, raw: u32) -> bool {
        let newest = self.newest.unwrap_or(sent);
        let theirs = self.clock.at(raw);
        let is_near = ahead(theirs, newest).max(ahead(newest, theirs)) <= TIMESTAMP_NEAR_MS;
        is_near && ahead(newest, own.at(raw)) > TIMESTAMP_REORDER_MAX_MS && ahead(sent, theirs) == 0
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

fn not_before(floor: Option<u32>, timestamp: u32) -> u32 {
    floor.filter(|floor| is_after(*floor, timestamp)).unwrap_or(timestamp)
}

fn gap_ms(elapsed: Duration) -> u32 {
    u32::try_from(elapsed.as_millis()).unwrap_or(u32::MAX / 4).clamp(FRAME_MS, u32::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn an_ordinary_stream_passes_untouched() {
        let mut timeline = Timeline::new(None);
        for raw in [0, 40, 80, 5_000, 0x00FF_FFFF, 0x0100_0000] {
            assert_eq!(timeline.media(Kind::Video, 0, raw, at(0)), raw);
        }
    }

    #[test]
    fn the_wrap_is_no_step_back() {
        let mut timeline = Timeline::new(None);
        for raw in [u32::MAX - 40, u32::MAX, 39, 79] {
            assert_eq!(timeline.media(Kind::Video, 0, raw, at(0)), raw);
        }
    }

    #[test]
    fn a_clock_of_31_bits_goes_on_across_its_wrap() {
        const WRAP: u32 = 1 << 31;
        let mut timeline = Timeline::new(None);
        timeline.media(Kind::Video, 0, WRAP - 40, at(0));
        timeline.media(Kind::Audio, 0, WRAP - 20, at(0));
        // Late, as on a network: the distances are the encoder's nevertheless.
        assert_eq!(timeline.media(Kind::Video, 0, 0, at(900)), WRAP);
        assert_eq!(timeline.media(Kind::Audio, 0, 3, at(900)), WRAP + 3);
        assert_eq!(timeline.media(Kind::Video, 0, 40, at(900)), WRAP + 40);
        // Again after as long, now at 2^32.
        let days = u64::from(WRAP);
        timeline.media(Kind::Video, 0, WRAP / 2, at(days / 2));
        timeline.media(Kind::Video, 0, WRAP - 60, at(days));
        assert_eq!(timeline.media(Kind::Video, 0, WRAP - 1, at(days)), u32::MAX);
        assert_eq!(timeline.media(Kind::Video, 0, 39, at(days)), 39);
        // A restart is none: it is not so near.
        let mut timeline = Timeline::new(None);
        timeline.media(Kind::Video, 0, WRAP - 1_200, at(0));
        let restarted = timeline.media(Kind::Video, 0, 0, at(100));
        assert_eq!(restarted, WRAP - 1_100);
    }

    #[test]
    fn reordering_is_held_at_the_last_value() {
        let mut timeline = Timeline::new(None);
        assert_eq!(timeline.media(Kind::Audio, 0, 1_000, at(0)), 1_000);
        assert_eq!(timeline.media(Kind::Audio, 0, 990, at(0)), 1_000);
        assert_eq!(timeline.media(Kind::Audio, 0, 1_010, at(0)), 1_010);
    }

    #[test]
    fn an_encoder_restart_moves_all_tracks_by_one_offset() {
        let mut timeline = Timeline::new(None);
        timeline.media(Kind::Video, 0, 500_000, at(0));
        timeline.media(Kind::Audio, 0, 500_010, at(10));
        let video = timeline.media(Kind::Video, 0, 0, at(110));
        assert_eq!(video, 500_110);
        // Audio still drains its old clock, then starts anew too.
        assert_eq!(timeline.media(Kind::Audio, 0, 500_031, at(111)), 500_031);
        assert_eq!(timeline.media(Kind::Audio, 0, 23, at(112)), video + 23);
        assert_eq!(timeline.media(Kind::Video, 0, 40, at(150)), video + 40);
    }

    #[test]
    fn a_publisher_that_comes_back_goes_on_where_the_first_ended() {
        let mut first = Timeline::new(None);
        first.media(Kind::Video, 0, 10_000, at(10_000));
        first.media(Kind::Audio, 0, 10_020, at(10_020));
        let resume = first.resume(at(10_050)).expect("media was sent");
        let mut second = Timeline::new(Some(resume));
        assert_eq!(second.header(Kind::Video, 0, 0), 10_020);
        assert_eq!(second.media(Kind::Video, 0, 7, at(12_050)), 12_020);
        assert_eq!(second.media(Kind::Audio, 0, 0, at(12_050)), 12_013);
        assert_eq!(second.media(Kind::Audio, 0, 30, at(12_050)), 12_043);
    }

    #[test]
    fn a_quick_return_never_steps_back_on_any_track() {
        let mut second = Timeline::new(Some(Resume { sent: 1_000, ended_at: at(0) }));
        assert_eq!(second.media(Kind::Video, 0, 500, at(1)), 1_040);
        assert_eq!(second.media(Kind::Audio, 0, 400, at(1)), 1_000);
    }

    #[test]
    fn a_message_of_several_tracks_steps_back_on_none_of_them() {
        let mut timeline = Timeline::new(None);
        let both: TrackSet = [0, 1].into_iter().collect();
        assert_eq!(timeline.media(Kind::Video, 1, 110, at(0)), 110);
        assert_eq!(timeline.media_of(Kind::Video, &both, 100, at(0)), 110);
        assert_eq!(timeline.media(Kind::Video, 0, 105, at(0)), 110);
        assert_eq!(timeline.media_of(Kind::Video, &both, 140, at(40)), 140);
        assert_eq!(timeline.media(Kind::Video, 1, 130, at(40)), 140);
        assert_eq!(timeline.media_of(Kind::Video, &TrackSet::EMPTY, 150, at(40)), 150);
    }

    #[test]
    fn a_leap_of_an_hour_passes_and_one_of_weeks_does_not() {
        let mut timeline = Timeline::new(None);
        timeline.media(Kind::Video, 0, 1_000, at(0));
        timeline.media(Kind::Audio, 0, 1_010, at(10));
        let hour = 3_600_000;
        assert_eq!(timeline.media(Kind::Video, 0, 1_040 + hour, at(40)), 1_040 + hour);
        assert_eq!(timeline.media(Kind::Audio, 0, 1_050 + hour, at(50)), 1_050 + hour);
        for leap in [1_u32 << 31, (1 << 31) - 1, 25 * 24 * hour / 10] {
            let before = timeline.media(Kind::Video, 0, 1_080 + hour, at(80));
            assert_eq!(timeline.media(Kind::Video, 0, (1_120 + hour).wrapping_add(leap), at(180)), before + 100);
            let audio = timeline.media(Kind::Audio, 0, (1_130 + hour).wrapping_add(leap), at(190));
            assert_eq!(audio, before + 110);
            timeline = Timeline::new(None);
            timeline.media(Kind::Video, 0, 1_040 + hour, at(40));
            timeline.media(Kind::Audio, 0, 1_050 + hour, at(50));
        }
    }

    #[test]
    fn a_track_that_stumbles_once_keeps_its_distance_to_the_others() {
        for stumble in [5_000_u32, 300_000, 3_600_000, 1 << 30, 1 << 31, u32::MAX - 5_000, u32::MAX - (1 << 30)] {
            let mut timeline = Timeline::new(None);
            let distance = (0..200_u32).map(|frame| {
                let (time, now) = (100_000 + frame * 40, at(u64::from(frame) * 40));
                let raw = if frame == 100 { time.wrapping_add(stumble) } else { time };
                let video = timeline.media(Kind::Video, 0, raw, now);
                let audio = timeline.media(Kind::Audio, 0, time + 10, now);
                audio.wrapping_sub(video) as i32
            });
            let last = distance.last().expect("200 frames");
            assert!((10 - 80..=10 + 80).contains(&last), "{stumble}: audio is {last} ms after video");
        }
    }

    #[test]
    fn tracks_that_restart_seconds_apart_end_up_on_one_clock() {
        let mut timeline = Timeline::new(None);
        timeline.media(Kind::Video, 0, 500_000, at(0));
        timeline.media(Kind::Audio, 0, 500_010, at(10));
        let video = timeline.media(Kind::Video, 0, 0, at(40));
        for late in 1..75 {
            timeline.media(Kind::Video, 0, late * 40, at(40 + u64::from(late) * 40));
            timeline.media(Kind::Audio, 0, 500_010 + late * 40, at(50 + u64::from(late) * 40));
        }
        assert_eq!(timeline.media(Kind::Audio, 0, 3_000, at(3_050)), video + 3_000);
        assert_eq!(timeline.media(Kind::Video, 0, 3_000, at(3_060)), video + 3_000);
    }

    #[test]
    fn a_header_takes_its_tracks_place_whatever_its_own_timestamp_is() {
        let mut timeline = Timeline::new(None);
        assert_eq!(timeline.header(Kind::Video, 0, 0), 0);
        assert_eq!(timeline.media(Kind::Video, 0, 1_000, at(0)), 1_000);
        for raw in [0, 1_000, 1_040, 900_000, u32::MAX] {
            assert_eq!(timeline.header(Kind::Video, 0, raw), 1_000);
        }
        assert_eq!(timeline.header(Kind::Audio, 0, 7_000), 1_000);
        assert_eq!(timeline.media(Kind::Audio, 0, 990, at(0)), 1_000);
        assert_eq!(timeline.media(Kind::Video, 0, 1_040, at(40)), 1_040);
    }

    #[test]
    fn silence_has_its_own_time_and_starts_no_clock() {
        let mut timeline = Timeline::new(None);
        timeline.header(Kind::Audio, 0, 0);
        timeline.media(Kind::Video, 0, 5_000, at(0));
        for (raw, seen) in [(4_990, 4_990), (5_010, 5_010), (4_000, 5_010), (0, 5_010), (90_000, 5_010)] {
            assert_eq!(timeline.aside(Kind::Audio, 0, raw), seen, "{raw}");
        }
        assert_eq!(timeline.media(Kind::Audio, 0, 5_033, at(33)), 5_033);
    }

    #[test]
    fn a_header_far_ahead_of_its_media_holds_nothing_back() {
        let mut timeline = Timeline::new(None);
        assert_eq!(timeline.header(Kind::Video, 0, 90_000), 90_000);
        assert_eq!(timeline.media(Kind::Video, 0, 20, at(0)), 20);
    }

    #[test]
    fn data_keeps_its_own_time_near_media() {
        let mut timeline = Timeline::new(None);
        assert_eq!(timeline.data(0), 0);
        timeline.media(Kind::Video, 0, 20_000, at(0));
        for (raw, seen) in [(19_900, 19_900), (20_500, 20_500), (20_400, 20_500), (90_000, 20_500), (0, 20_500)] {
            assert_eq!(timeline.data(raw), seen, "{raw}");
        }
        timeline.media(Kind::Video, 0, 30_000, at(10_000));
        assert_eq!(timeline.data(0), 30_000);
    }

    #[test]
    fn a_track_that_was_silent_for_weeks_goes_on_at_once() {
        let mut timeline = Timeline::new(None);
        timeline.media(Kind::Video, 0, 0, at(0));
        let day = 24 * 3_600_000;
        for days in 1..30 {
            assert_eq!(timeline.media(Kind::Audio, 0, days * day, at(u64::from(days * day))), days * day);
        }
        let video = timeline.media(Kind::Video, 0, 29 * day + 40, at(u64::from(29 * day + 40)));
        assert_eq!(video, 29 * day + 40);
        assert_eq!(timeline.media(Kind::Video, 0, 29 * day + 80, at(u64::from(29 * day + 80))), video + 40);
    }

    #[test]
    fn any_order_of_timestamps_gives_an_order_that_never_falls() {
        let mut state = 7_u64;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 32) as u32
        };
        let mut timeline = Timeline::new(None);
        let mut last = [None; 4];
        for step in 0..20_000 {
            let track = random() as u8 % 4;
            let raw = if random() % 50 == 0 { random() } else { step * 20 };
            let sent = timeline.media(Kind::Audio, track, raw, at(u64::from(step)));
            let before: &mut Option<u32> = &mut last[usize::from(track)];
            assert!(before.is_none_or(|before| !is_after(before, sent)), "step {step}");
            *before = Some(sent);
        }
    }
}
