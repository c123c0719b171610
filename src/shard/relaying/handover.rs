//! A planned change of source that leaves no gap.
//!
//! Two sources of one timeline are seldom in step. One that is ahead is gone over to once the other has come to the keyframe
//! that it has sent. One that is behind would have to be waited for a whole GOP, as its keyframe has been sent when it comes:
//! the stream of the source that serves is held back from its next keyframe on until the other one sends the same. What is
//! held is sent after all if that takes too long, or if the other one is not gone over to there. Bounds: [`HANDOVER_MAX`] in
//! time, [`HANDOVER_BYTES_MAX`].

use std::time::Duration;

use super::prelude::Held;
use crate::{
    limits::{HANDOVER_BYTES_MAX, HANDOVER_MAX},
    media::{self, Role},
    rtmp::message::Kind,
};

/// See the file's head.
#[derive(Debug, Default)]
pub(super) enum Handover {
    #[default]
    None,
    /// The other source has sent a keyframe that is to come at that time of the stream.
    Ahead {
        place: u32,
    },
    /// The other source is behind. From the next keyframe on, nothing is sent.
    Due,
    Holding {
        held: Vec<Held>,
        bytes: usize,
        since: Duration,
    },
}

/// What becomes of a message of the source that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    No,
    Yes,
    /// All that is held is to be sent, this message the last of it.
    TooLong,
}

impl Handover {
    /// The other source's keyframe is to be at `place` in the stream, `lead_ms` ahead of what was sent. True if that is to be
    /// bridged: not for sources further apart, nor if this is what the stream is held back for.
    pub(super) fn arm(&mut self, place: u32, lead_ms: i64) -> bool {
        let bridges = is_near(lead_ms);
        match self {
            Self::Holding { .. } => bridges && lead_ms <= 0,
            _ => {
                if bridges {
                    *self = if lead_ms > 0 { Self::Ahead { place } } else { Self::Due };
                }
                bridges
            }
        }
    }

    /// Where in the stream the other source waits.
    pub(super) fn place(&self) -> Option<u32> {
        match self {
            Self::Ahead { place } => Some(*place),
            _ => None,
        }
    }

    pub(super) fn take(&mut self, kind: Kind, timestamp: u32, payload: &[u8], now: Duration) -> Holds {
        if matches!(self, Self::Due) && is_keyframe(kind, payload) {
            *self = Self::Holding { held: Vec::new(), bytes: 0, since: now };
        }
        let Self::Holding { held, bytes, since } = self else { return Holds::No };
        *bytes += payload.len();
        held.push(Held { kind, timestamp, payload: payload.into() });
        let is_over = *bytes > HANDOVER_BYTES_MAX || now.saturating_sub(*since) >= HANDOVER_MAX;
        if is_over { Holds::TooLong } else { Holds::Yes }
    }

    /// Whether it has held what it holds for too long.
    pub(super) fn is_over(&self, now: Duration) -> bool {
        matches!(self, Self::Holding { since, .. } if now.saturating_sub(*since) >= HANDOVER_MAX)
    }

    /// Gives up: what was held is to be sent.
    pub(super) fn end(&mut self) -> Vec<Held> {
        match std::mem::take(self) {
            Self::Holding { held, .. } => held,
            _ => Vec::new(),
        }
    }

    /// The other source is gone over to. Gives what was held up to the keyframe that it begins with: by its clock, if that is
    /// in step, else up to the newest. `lead_ms` says how far that keyframe is ahead of held video at a timestamp; `None` if
    /// the source is on a clock of its own.
    pub(super) fn end_before(&mut self, lead_ms: impl Fn(u32) -> Option<i64>) -> Vec<Held> {
        let mut held = self.end();
        let lead = |held: &Held| lead_ms(held.timestamp).filter(|_| held.kind == Kind::Video);
        let its = held.iter().position(|held| lead(held).is_some_and(|lead_ms| lead_ms <= 0));
        let newest = || held.iter().rposition(|held| is_keyframe(held.kind, &held.payload)).unwrap_or(0);
        let is_in_step = || held.iter().filter_map(lead).any(is_near);
        let cut = its.unwrap_or_else(|| if is_in_step() { held.len() } else { newest() });
        held.truncate(cut);
        held
    }
}

/// Whether sources so far apart are in step.
fn is_near(lead_ms: i64) -> bool {
    Duration::from_millis(lead_ms.unsigned_abs()) < HANDOVER_MAX / 2
}

fn is_keyframe(kind: Kind, payload: &[u8]) -> bool {
    kind == Kind::Video && media::classify_video(payload).is_ok_and(|tag| tag.role == Role::Keyframe)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"\x17\x01\x00\x00\x00key";
    const INTER: &[u8] = b"\x27\x01\x00\x00\x00inter";
    const SOUND: &[u8] = b"\xAF\x01sound";

    #[test]
    fn a_stream_is_held_from_a_keyframe_on_and_given_back_whole() {
        let mut handover = Handover::default();
        let now = Duration::from_secs(9);
        assert_eq!(handover.take(Kind::Video, 0, KEY, now), Holds::No);
        assert!(handover.arm(0, -80));
        assert_eq!(handover.take(Kind::Video, 40, INTER, now), Holds::No);
        assert_eq!(handover.take(Kind::Video, 80, KEY, now), Holds::Yes);
        assert!(handover.arm(0, -80) && !handover.arm(80, 40), "it is what is waited for");
        assert_eq!(handover.take(Kind::Audio, 90, SOUND, now), Holds::Yes);
        assert!(!handover.is_over(now) && handover.is_over(now + HANDOVER_MAX));
        assert_eq!(handover.take(Kind::Video, 120, INTER, now + HANDOVER_MAX), Holds::TooLong);
        let held: Vec<_> = handover.end().into_iter().map(|held| held.timestamp).collect();
        assert_eq!(held, [80, 90, 120]);
        assert_eq!(handover.take(Kind::Video, 160, KEY, now), Holds::No);
    }

    #[test]
    fn a_source_that_is_ahead_waits_at_its_keyframe() {
        let mut handover = Handover::default();
        assert!(handover.arm(9_000, 120));
        assert_eq!(handover.place(), Some(9_000));
        assert_eq!(handover.take(Kind::Video, 0, KEY, Duration::ZERO), Holds::No);
        assert!(handover.end().is_empty() && handover.place().is_none());
    }

    #[test]
    fn what_the_other_source_does_not_send_is_given_back() {
        let ended = |keyframe_at: Option<i64>| {
            let mut handover = Handover::Due;
            for (timestamp, payload) in [(80, KEY), (120, INTER), (160, KEY), (200, INTER)] {
                assert_eq!(handover.take(Kind::Video, timestamp, payload, Duration::ZERO), Holds::Yes);
                assert_eq!(handover.take(Kind::Audio, timestamp + 5, SOUND, Duration::ZERO), Holds::Yes);
            }
            let held = handover.end_before(|timestamp| keyframe_at.map(|at| at - i64::from(timestamp)));
            assert!(handover.end().is_empty());
            held.last().map(|held| held.timestamp)
        };
        assert_eq!(ended(Some(80)), None, "it has all of it");
        assert_eq!((ended(Some(160)), ended(Some(240))), (Some(125), Some(205)), "it has missed some of it");
        assert_eq!((ended(Some(900)), ended(None)), (Some(125), Some(125)), "it may begin with the newest keyframe");
        assert!(Handover::Due.end_before(|_| None).is_empty());
    }

    #[test]
    fn what_is_held_is_bounded_and_a_source_far_behind_is_not_waited_for() {
        let mut handover = Handover::default();
        let far = HANDOVER_MAX.as_millis() as i64;
        assert!(!handover.arm(0, -far) && !handover.arm(0, far));
        assert_eq!(handover.take(Kind::Video, 0, KEY, Duration::ZERO), Holds::No);
        assert!(handover.arm(0, 0));
        let large = [KEY, &vec![0; HANDOVER_BYTES_MAX]].concat();
        assert_eq!(handover.take(Kind::Video, 0, &large, Duration::ZERO), Holds::TooLong);
    }
}
