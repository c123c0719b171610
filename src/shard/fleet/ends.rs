//! How the shards have ended: in order, or the first that did not.

use std::{
    sync::{Arc, Condvar, Mutex},
    thread,
};

use super::{FleetEnd, lock};
use crate::stream::directory::ShardSet;

/// Which shards have ended, and how.
#[derive(Debug, Default)]
pub(super) struct Ends {
    pub(super) ended: Mutex<EndsState>,
    pub(super) changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct EndsState {
    /// Shards that have ended in order, by bit.
    pub(super) orderly: ShardSet,
    pub(super) failed: Option<FleetEnd>,
}

impl EndsState {
    pub(super) fn orderly(&self) -> usize {
        self.orderly.count_ones() as usize
    }
}

impl Ends {
    /// The first failure counts.
    pub(super) fn fail(&self, end: FleetEnd) {
        lock(&self.ended).failed.get_or_insert(end);
        self.changed.notify_all();
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
