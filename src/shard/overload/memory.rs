//! The process's memory: what is used of it, how pressing that is, and how long the GOPs are that players may join at.
//!
//! The control thread weighs it a few times a second; shards read a few atomics at their ticks. What is used is the larger of what
//! the node accounts for itself (logs, messages that are not whole, connections) and what the kernel says is resident. What can
//! be given up without anybody losing anything goes first: threads give back what is free of theirs, and GOPs kept for players
//! to come are halved while memory is short, and grow again slowly once it is not.

use std::{
    sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use super::{
    allocator,
    ladder::{Level, memory_level},
};
use crate::limits::{
    GOP_BYTES_MAX_MIN, GOP_STEP, MEMORY_GIVE_BACK_PERCENT, MEMORY_GOPS_CUT_PERCENT, MEMORY_GOPS_GROW_PERCENT,
};

/// See the file's head.
#[derive(Debug)]
pub struct Memory {
    /// 0 for no limit.
    most: u64,
    /// Whether anything is done about it; else it is only shown.
    sheds: bool,
    used: AtomicU64,
    level: AtomicU8,
    /// In force, at most `gop_bytes_max`.
    gop_bytes: AtomicUsize,
    gop_bytes_max: usize,
    /// Milliseconds at which it was changed last.
    gop_changed_ms: AtomicU64,
    /// How often it was weighed: shards shed once for each time.
    weighed: AtomicU64,
    /// How often threads were to give back what is free: each does so once for each time.
    wanted: AtomicU64,
    /// The least that was resident and not accounted for, since that was last to be given back.
    unaccounted_least: AtomicU64,
}

/// What was found when the memory was weighed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weighed {
    pub before: Level,
    pub level: Level,
    pub used: u64,
    pub most: u64,
}

impl Memory {
    pub fn new(most: u64, gop_bytes_max: usize, sheds: bool) -> Self {
        Self {
            most,
            sheds,
            used: AtomicU64::new(0),
            level: AtomicU8::new(0),
            gop_bytes: AtomicUsize::new(gop_bytes_max),
            gop_bytes_max,
            gop_changed_ms: AtomicU64::new(0),
            weighed: AtomicU64::new(0),
            wanted: AtomicU64::new(0),
            unaccounted_least: AtomicU64::new(0),
        }
    }

    /// Of a node with this much of memory, 0 for no limit.
    pub fn most(&self) -> u64 {
        self.most
    }

    /// As of the last time it was weighed.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub fn level(&self) -> Level {
        Level::from_number(self.level.load(Ordering::Relaxed))
    }

    /// Bytes behind a keyframe up to which players may begin at it.
    pub fn gop_bytes(&self) -> usize {
        self.gop_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn weighed(&self) -> u64 {
        self.weighed.load(Ordering::Relaxed)
    }

    pub(super) fn wanted(&self) -> u64 {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Takes in what is used by the node's own account and by the kernel's. One thread calls it, with a time that rises.
    pub fn weigh(&self, accounted: u64, resident: u64, now: Duration) -> Weighed {
        let used = accounted.max(resident);
        let before = self.level();
        let level = if self.most == 0 || !self.sheds { Level::None } else { memory_level(used, self.most, before) };
        self.used.store(used, Ordering::Relaxed);
        self.level.store(level as u8, Ordering::Relaxed);
        if let Some(percent) = used.saturating_mul(100).checked_div(self.most).filter(|_| self.sheds) {
            self.size_gops(percent, now);
            self.want(percent, resident.saturating_sub(accounted));
        }
        self.weighed.fetch_add(1, Ordering::Relaxed);
        Weighed { before, level, used, most: self.most }
    }

    /// Has free memory given back if there may be more of it than the last time: of the rest it is not known what it is.
    fn want(&self, used_percent: u64, unaccounted: u64) {
        let least = self.unaccounted_least.load(Ordering::Relaxed).min(unaccounted);
        let step = self.most.saturating_mul(MEMORY_GIVE_BACK_PERCENT) / 100;
        let is_due = used_percent >= MEMORY_GOPS_CUT_PERCENT && unaccounted > least.saturating_add(step);
        self.unaccounted_least.store(if is_due { unaccounted } else { least }, Ordering::Relaxed);
        if is_due {
            self.wanted.fetch_add(1, Ordering::Relaxed);
            allocator::give_back();
        }
    }

    fn size_gops(&self, used_percent: u64, now: Duration) {
        let now_ms = now.as_millis() as u64;
        let since_ms = now_ms.saturating_sub(self.gop_changed_ms.load(Ordering::Relaxed));
        let bytes = self.gop_bytes();
        let least = GOP_BYTES_MAX_MIN.min(self.gop_bytes_max);
        let next = if used_percent >= MEMORY_GOPS_CUT_PERCENT {
            (bytes / 2).max(least)
        } else if used_percent < MEMORY_GOPS_GROW_PERCENT && since_ms >= GOP_STEP.as_millis() as u64 {
            (bytes + bytes / 8).min(self.gop_bytes_max)
        } else {
            bytes
        };
        if next != bytes {
            self.gop_bytes.store(next, Ordering::Relaxed);
            self.gop_changed_ms.store(now_ms, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gops_shrink_while_memory_is_short_and_grow_when_it_is_not() {
        let memory = Memory::new(1_000, 1 << 20, true);
        let mut now = Duration::ZERO;
        let mut weigh = |used: u64| {
            now += GOP_STEP;
            memory.weigh(used, 0, now).level
        };
        assert_eq!((weigh(700), memory.gop_bytes()), (Level::None, 1 << 20));
        assert_eq!((weigh(780), memory.gop_bytes()), (Level::None, 1 << 19), "nobody is refused for it yet");
        assert_eq!((weigh(760), memory.gop_bytes()), (Level::None, 1 << 18));
        for _ in 0..20 {
            weigh(990);
        }
        assert_eq!(memory.gop_bytes(), GOP_BYTES_MAX_MIN, "the least there can be");
        let least = memory.gop_bytes();
        weigh(700);
        assert_eq!(memory.gop_bytes(), least, "in between it stays");
        weigh(100);
        assert_eq!(memory.gop_bytes(), least * 9 / 8);
        for _ in 0..100 {
            weigh(100);
        }
        assert_eq!(memory.gop_bytes(), 1 << 20);
    }

    #[test]
    fn the_larger_account_counts() {
        let memory = Memory::new(1_000, 1 << 20, true);
        assert_eq!(memory.weigh(100, 850, Duration::ZERO).level, Level::Players);
        assert_eq!(memory.weigh(920, 850, Duration::ZERO).level, Level::Laggards);
        assert_eq!((memory.used(), memory.weighed()), (920, 2));
    }

    #[test]
    fn free_memory_is_given_back_when_there_may_be_more_of_it() {
        let memory = Memory::new(1_000, 1 << 20, true);
        let wanted = |accounted, resident| {
            let before = memory.wanted();
            memory.weigh(accounted, resident, Duration::ZERO);
            memory.wanted() != before
        };
        assert!(!wanted(0, 700), "it suffices");
        assert!(wanted(600, 780) && !wanted(600, 780), "that was in vain");
        assert!(!wanted(700, 895), "all is in use");
        assert!(wanted(500, 900) && wanted(400, 900), "as more is freed");
        assert!(!wanted(400, 500) && wanted(400, 790), "it has been less since");
    }

    #[test]
    fn without_a_limit_nothing_is_pressing() {
        let memory = Memory::new(0, 1 << 20, true);
        let weighed = memory.weigh(u64::MAX, u64::MAX, GOP_STEP);
        assert_eq!((weighed.level, memory.gop_bytes()), (Level::None, 1 << 20));
    }
}
