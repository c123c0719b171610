//! Timestamps as players see them: never a step back per (kind, track), whatever the encoder does.
//!
//! Within a session small steps back are reordering and held at the last value; a larger one means the encoder started
//! its clock anew. A new session (republish, take-over) starts a clock anew by definition. A new clock gets one offset
//! for all tracks, so audio and video keep their distance:
//! `max(last sent) + max(one frame, elapsed gap) - first new`. All arithmetic is modulo 2^32, so streams live through
//! the wrap at 49.7 days. Bounds: one small record per (kind, track) seen, at most 2 * 256 + 1.

use std::time::Duration;

use crate::{limits::TIMESTAMP_REORDER_MAX_MS, rtmp::message::Kind};

/// A frame's distance where none is known.
const FRAME_MS: u32 = 40;

/// Whether `a` is later than `b` on a clock that wraps.
fn is_after(a: u32, b: u32) -> bool {
    a != b && a.wrapping_sub(b) < 1 << 31
}

#[derive(Clone, Copy, Debug)]
struct Track {
    kind: Kind,
    track: u8,
    clock: Clock,
    /// Last timestamp from the publisher.
    raw: u32,
    /// Last timestamp written.
    sent: u32,
}

/// A clock of the publisher's, and what is added to its timestamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Clock {
    generation: u32,
    offset: u32,
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
    clock: Clock,
    /// Greatest timestamp written, or sent by the session before.
    newest: Option<u32>,
    written_at: Duration,
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
        self.newest.map(|sent| Resume { sent, ended_at: now })
    }

    /// The timestamp to write for coded media of `kind` and `track`.
    pub fn media(&mut self, kind: Kind, track: u8, raw: u32, now: Duration) -> u32 {
        if let Some(resume) = self.resume.take() {
            let gap = gap_ms(now.saturating_sub(resume.ended_at));
            self.clock.offset = resume.sent.wrapping_add(gap).wrapping_sub(raw);
        }
        let position = self.tracks.iter().position(|known| (known.kind, known.track) == (kind, track));
        let known = position.and_then(|index| self.tracks.get(index)).copied();
        let clock = known.map_or(self.clock, |known| self.clock_of(known, raw, now));
        let floor = known.map(|known| known.sent).or(self.floor);
        let sent = not_before(floor, raw.wrapping_add(clock.offset));
        let track = Track { kind, track, clock, raw, sent };
        match position.and_then(|index| self.tracks.get_mut(index)) {
            Some(slot) => *slot = track,
            None => self.tracks.push(track),
        }
        self.newest = Some(not_before(self.newest, sent));
        self.written_at = now;
        sent
    }

    /// The timestamp to write for a header or data message. These start no clock: encoders send them with timestamp 0
    /// whatever their media's is.
    pub fn header(&self, kind: Kind, track: u8, raw: u32) -> u32 {
        let sent = |known: &Track| known.sent;
        let floor = match kind {
            Kind::Data => self.newest,
            _ => self.tracks.iter().find(|known| (known.kind, known.track) == (kind, track)).map(sent),
        };
        not_before(floor.or(self.floor), raw.wrapping_add(self.clock.offset))
    }

    /// The clock `raw` is on: the track's, unless it stepped back too far for that.
    fn clock_of(&mut self, known: Track, raw: u32, now: Duration) -> Clock {
        if !is_after(known.raw, raw) || known.raw.wrapping_sub(raw) <= TIMESTAMP_REORDER_MAX_MS {
            return known.clock;
        }
        if known.clock == self.clock {
            let gap = gap_ms(now.saturating_sub(self.written_at));
            let newest = self.newest.unwrap_or(known.sent);
            let restarted = newest.wrapping_add(gap).wrapping_sub(raw);
            let offset = wrapped_at_31_bits(known, raw).unwrap_or(restarted);
            self.clock = Clock { generation: self.clock.generation.wrapping_add(1), offset };
        }
        self.clock
    }
}

/// FFmpeg's FLV muxer, and so each of its publishers, writes 31 bits of a timestamp: its clock wraps after 24.9 days. The
/// offset with which it then goes on as if it had not.
fn wrapped_at_31_bits(last: Track, raw: u32) -> Option<u32> {
    const WRAP: u32 = 1 << 31;
    let distance = raw.wrapping_add(WRAP).wrapping_sub(last.raw);
    (last.raw < WRAP && distance <= TIMESTAMP_REORDER_MAX_MS).then(|| last.clock.offset.wrapping_add(WRAP))
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
        timeline.media(Kind::Video, 0, WRAP - 60, at(1_000));
        assert_eq!(timeline.media(Kind::Video, 0, WRAP - 1, at(1_000)), u32::MAX);
        assert_eq!(timeline.media(Kind::Video, 0, 39, at(1_000)), 39);
        // A restart is none: it is not so near.
        timeline.media(Kind::Video, 0, WRAP - 1_200, at(1_100));
        let restarted = timeline.media(Kind::Video, 0, 0, at(1_200));
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
