//! How overloaded a node is, in steps that it does not climb up and down all the time. Pure: time and measures come from outside.

use std::time::Duration;

use crate::limits::{
    CPU_FULL, CPU_RELIEF, CPU_STEP, MEMORY_LAGGARDS_PERCENT, MEMORY_PLAYERS_PERCENT, MEMORY_PUBLISHERS_PERCENT,
    MEMORY_RELIEF_PERCENT,
};

/// What is done about it. Each level does what those below it do, too; none ends a live publisher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    #[default]
    None,
    /// New players are refused.
    Players,
    /// Players are closed, those that are furthest behind first.
    Laggards,
    /// New publishers are refused.
    Publishers,
}

impl Level {
    const ALL: [Self; 4] = [Self::None, Self::Players, Self::Laggards, Self::Publishers];

    pub(super) fn from_number(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Publishers)
    }

    fn above(self) -> Self {
        Self::from_number(self as u8 + 1)
    }

    fn below(self) -> Self {
        Self::from_number((self as u8).saturating_sub(1))
    }
}

/// By a shard's load: a step up for each [`CPU_STEP`] it was full throughout, a step down for each it had slack.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CpuLadder {
    level: Level,
    full_since: Option<Duration>,
    slack_since: Option<Duration>,
}

impl CpuLadder {
    /// `load` is the share of its time that the shard was busy lately.
    pub(super) fn step(&mut self, load: f64, now: Duration) -> Level {
        let lasts = |since: &mut Option<Duration>, holds: bool| {
            if !holds {
                *since = None;
                return false;
            }
            let lasts = now.saturating_sub(*since.get_or_insert(now)) >= CPU_STEP;
            if lasts {
                *since = Some(now);
            }
            lasts
        };
        if lasts(&mut self.full_since, load >= CPU_FULL) {
            self.level = self.level.above();
        }
        if lasts(&mut self.slack_since, load < CPU_RELIEF) {
            self.level = self.level.below();
        }
        self.level
    }
}

/// By the memory used of a budget: each level has its share, and is left a little below it.
pub(super) fn memory_level(used: u64, most: u64, before: Level) -> Level {
    let percent = used.saturating_mul(100) / most.max(1);
    let reached = [
        (Level::Publishers, MEMORY_PUBLISHERS_PERCENT),
        (Level::Laggards, MEMORY_LAGGARDS_PERCENT),
        (Level::Players, MEMORY_PLAYERS_PERCENT),
    ]
    .into_iter()
    .find(|(level, from)| percent >= if before >= *level { from - MEMORY_RELIEF_PERCENT } else { *from });
    reached.map_or(Level::None, |(level, _)| level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_stays_full_climbs_step_by_step_and_comes_down_the_same_way() {
        let mut ladder = CpuLadder::default();
        let at = |ladder: &mut CpuLadder, load, steps: u32| {
            let mut level = Level::None;
            for quarter in 0..steps * 4 {
                level = ladder.step(load, CPU_STEP * 1_000 + CPU_STEP / 4 * quarter);
            }
            level
        };
        assert_eq!(at(&mut ladder, 1.0, 1), Level::None, "not yet");
        ladder = CpuLadder::default();
        let mut now = Duration::ZERO;
        let mut hold = |ladder: &mut CpuLadder, load, time: Duration| {
            let end = now + time;
            let mut level = Level::None;
            while now <= end {
                level = ladder.step(load, now);
                now += Duration::from_millis(100);
            }
            level
        };
        assert_eq!(hold(&mut ladder, 0.97, CPU_STEP), Level::Players);
        assert_eq!(hold(&mut ladder, 0.97, CPU_STEP), Level::Laggards);
        assert_eq!(hold(&mut ladder, 0.9, CPU_STEP * 10), Level::Laggards, "between the two it stays");
        assert_eq!(hold(&mut ladder, 0.97, CPU_STEP * 10), Level::Publishers, "there is nothing above");
        assert_eq!(hold(&mut ladder, 0.1, CPU_STEP), Level::Laggards);
        assert_eq!(hold(&mut ladder, 0.1, CPU_STEP * 4), Level::None);
    }

    #[test]
    fn a_moment_of_slack_begins_the_count_anew() {
        let mut ladder = CpuLadder::default();
        for tick in 0..1_000_u32 {
            let load = if tick % 40 == 0 { 0.9 } else { 1.0 };
            assert_eq!(ladder.step(load, Duration::from_millis(100) * tick), Level::None);
        }
    }

    #[test]
    fn memory_has_a_share_for_each_level_and_a_gap_below_it() {
        let percent = |percent: u64, before| memory_level(percent * 10, 1_000, before);
        assert_eq!(percent(79, Level::None), Level::None);
        assert_eq!(percent(80, Level::None), Level::Players);
        assert_eq!(percent(90, Level::None), Level::Laggards);
        assert_eq!(percent(95, Level::None), Level::Publishers);
        assert_eq!(percent(200, Level::None), Level::Publishers);
        assert_eq!(percent(91, Level::Publishers), Level::Publishers);
        assert_eq!(percent(89, Level::Publishers), Level::Laggards);
        assert_eq!(percent(76, Level::Laggards), Level::Players);
        assert_eq!(percent(74, Level::Players), Level::None);
        assert_eq!(memory_level(1, 0, Level::None), Level::Publishers);
    }
}
