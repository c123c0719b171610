//! How shards end, and who waits for it: the first failure ends all of them.
//!
//! A shard's thread holds a [`PanicWatch`] and the watchdog an [`Ends`]; [`Ends::wait`] blocks whoever owns the fleet. The wait
//! for those that are left after a failure is bounded by [`limits::PANIC_GRACE`].

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Instant,
};

use super::lock;
use crate::{limits, stream::directory::ShardSet};

/// How the fleet ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FleetEnd {
    /// All shards ended in order.
    Orderly,
    /// This shard panicked; the others had [`limits::PANIC_GRACE`] to end their streams.
    Panicked { shard: usize },
    /// This shard hung; the same.
    Hung { shard: usize },
}

/// Which shards have ended, and how.
#[derive(Debug, Default)]
pub(super) struct Ends {
    ended: Mutex<EndsState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct EndsState {
    /// Shards that have ended in order, by bit.
    orderly: ShardSet,
    failed: Option<FleetEnd>,
}

impl EndsState {
    fn orderly(&self) -> usize {
        self.orderly.count_ones() as usize
    }
}

impl Ends {
    /// The first failure counts.
    pub(super) fn fail(&self, end: FleetEnd) {
        lock(&self.ended).failed.get_or_insert(end);
        self.changed.notify_all();
    }

    pub(super) fn has_ended(&self, shard: usize) -> bool {
        lock(&self.ended).orderly & (1 << shard) != 0
    }

    /// How many ended in order.
    #[cfg(test)]
    pub(super) fn orderly(&self) -> usize {
        lock(&self.ended).orderly()
    }

    /// Blocks until all `shards` have ended, or one has panicked or hung.
    pub(super) fn wait(&self, shards: usize) -> FleetEnd {
        let mut state = lock(&self.ended);
        loop {
            if let Some(end) = state.failed {
                return end;
            }
            if state.orderly() == shards {
                return FleetEnd::Orderly;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Blocks until all but the one that failed have ended, but not for long.
    pub(super) fn wait_for_survivors(&self, shards: usize) {
        let by = Instant::now() + limits::PANIC_GRACE;
        let mut state = lock(&self.ended);
        while state.orderly() + 1 < shards {
            let left = by.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
        }
    }
}

/// Tells the fleet how the shard's thread ended.
pub(super) struct PanicWatch {
    pub(super) shard: usize,
    pub(super) ends: Arc<Ends>,
}

impl PanicWatch {
    pub(super) fn ended(self) {
        lock(&self.ends.ended).orderly |= 1 << self.shard;
        self.ends.changed.notify_all();
        std::mem::forget(self);
    }
}

impl Drop for PanicWatch {
    /// Only while the thread unwinds, or if the shard could not start.
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        self.ends.fail(FleetEnd::Panicked { shard: self.shard });
    }
}
