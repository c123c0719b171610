//! What one worker has measured; the tallies of all workers add up to the run's.

use crate::stats::Times;
use crate::verify::Findings;

/// Different reasons kept for the report; further ones are only counted.
const REASONS_MAX: usize = 5;

pub struct Tally {
    /// From when a frame was due to when a verified player had all of it.
    pub delay: Times,
    /// The same, by the window's part in which the frame arrived.
    pub parts: Vec<Times>,
    /// From when a frame was due to when its publisher handed it to the kernel or queued it behind earlier ones.
    pub late: Times,
    /// From connect to the answer to `play`.
    pub play: Times,
    /// From connect to the first keyframe.
    pub keyframe: Times,
    pub findings: Findings,
    pub players_failed: u64,
    pub publishers_failed: u64,
    pub frames_sent: u64,
    /// Most bytes a publisher had waiting because the server did not read.
    pub publisher_backlog_max: usize,
    /// Players that never got a keyframe, or never began to connect.
    pub players_unjoined: u64,
    /// Per player: its stream, and the bytes it received from the window's start on.
    pub window_bytes: Vec<(usize, u64)>,
    pub reasons: Vec<String>,
    /// From when players stopped reading to when the server let them go.
    pub stalled_closed: Times,
    /// Players that stopped reading and were never let go.
    pub stalled_open: u64,
    /// Counted by the verified players in the window.
    pub chunks: Counted,
    /// Verified players whose chunks could not be followed.
    pub chunks_lost: u64,
}

/// What verified players counted by parsing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    pub chunks: u64,
    pub bytes: u64,
    pub messages: u64,
    /// Chunk sizes the server used, over all players: smallest and largest; 0 without any.
    pub chunk_bytes_min: u64,
    pub chunk_bytes_max: u64,
}

impl Counted {
    pub fn add(&mut self, other: &Counted) {
        self.chunks += other.chunks;
        self.bytes += other.bytes;
        self.messages += other.messages;
        self.chunk_bytes_max = self.chunk_bytes_max.max(other.chunk_bytes_max);
        let mins = [self.chunk_bytes_min, other.chunk_bytes_min];
        self.chunk_bytes_min = mins.into_iter().filter(|bytes| *bytes > 0).min().unwrap_or(0);
    }
}

impl Tally {
    pub fn new() -> Self {
        Self {
            delay: Times::new(),
            parts: Vec::new(),
            late: Times::new(),
            play: Times::new(),
            keyframe: Times::new(),
            findings: Findings::default(),
            players_failed: 0,
            publishers_failed: 0,
            frames_sent: 0,
            publisher_backlog_max: 0,
            players_unjoined: 0,
            window_bytes: Vec::new(),
            reasons: Vec::new(),
            stalled_closed: Times::new(),
            stalled_open: 0,
            chunks: Counted::default(),
            chunks_lost: 0,
        }
    }

    /// With room for the delays of `parts` parts of the window.
    pub fn with_parts(parts: usize) -> Self {
        Self { parts: (0..parts).map(|_| Times::new()).collect(), ..Self::new() }
    }

    /// A frame due `ns` ago arrived, in this part of the window if it has parts.
    pub fn record_delay(&mut self, ns: u64, part: usize) {
        self.delay.record_ns(ns);
        if let Some(times) = self.parts.get_mut(part) {
            times.record_ns(ns);
        }
    }

    pub fn reason(&mut self, reason: String) {
        if self.reasons.len() < REASONS_MAX && !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }

    pub fn add(&mut self, other: Tally) {
        self.delay.merge(&other.delay);
        self.parts.resize_with(self.parts.len().max(other.parts.len()), Times::new);
        self.parts.iter_mut().zip(&other.parts).for_each(|(mine, other)| mine.merge(other));
        self.late.merge(&other.late);
        self.play.merge(&other.play);
        self.keyframe.merge(&other.keyframe);
        self.findings.add(&other.findings);
        self.players_failed += other.players_failed;
        self.publishers_failed += other.publishers_failed;
        self.frames_sent += other.frames_sent;
        self.publisher_backlog_max = self.publisher_backlog_max.max(other.publisher_backlog_max);
        self.players_unjoined += other.players_unjoined;
        self.stalled_closed.merge(&other.stalled_closed);
        self.stalled_open += other.stalled_open;
        self.chunks.add(&other.chunks);
        self.chunks_lost += other.chunks_lost;
        self.window_bytes.extend(other.window_bytes);
        other.reasons.into_iter().for_each(|reason| self.reason(reason));
    }

    /// Players that received under nine tenths of what the median player of their stream did.
    pub fn starved(&self) -> u64 {
        let streams = self.window_bytes.iter().map(|(stream, _)| stream + 1).max().unwrap_or(0);
        let mut by_stream = vec![Vec::new(); streams];
        self.window_bytes.iter().for_each(|(stream, bytes)| by_stream[*stream].push(*bytes));
        let starved = |players: &mut Vec<u64>| {
            players.sort_unstable();
            let median = players.get(players.len() / 2).copied().unwrap_or(0);
            players.iter().filter(|bytes| **bytes * 10 < median * 9).count() as u64
        };
        by_stream.iter_mut().map(starved).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starved_players_are_judged_within_their_stream() {
        let mut tally = Tally::new();
        tally.window_bytes = vec![(0, 100), (0, 99), (0, 89), (2, 10), (2, 10), (2, 0)];
        assert_eq!(tally.starved(), 2);
    }

    #[test]
    fn delays_are_kept_by_part_of_the_window() {
        let mut tally = Tally::with_parts(2);
        tally.record_delay(1_000_000, 1);
        tally.record_delay(5_000_000, crate::shared::NO_PART);
        let mut all = Tally::new();
        all.add(tally);
        assert_eq!(all.delay.percentiles().count, 2);
        assert_eq!(all.parts.iter().map(|part| part.percentiles().count).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn reasons_are_kept_once_and_bounded() {
        let mut tally = Tally::new();
        (0..20).for_each(|at| tally.reason(format!("reason {}", at / 2)));
        assert_eq!(tally.reasons.len(), REASONS_MAX);
    }
}
