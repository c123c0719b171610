//! Weighs the process's memory a few times a second, where it has a limit: shards go by what is found. While it is short,
//! what is free is given back to the kernel first.

use std::sync::Arc;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{admin::Node, allocator, process};
use crate::{
    limits::{MEMORY_GIVE_BACK_PAUSE, MEMORY_GOPS_CUT_PERCENT, MEMORY_WEIGH_PAUSE},
    shard::overload::Level,
};

/// Begins, if there is anything to watch. It ends with the runtime.
pub(super) fn spawn(node: &Arc<Node>) {
    if node.fleet.memory().most() == 0 {
        return;
    }
    let node = Arc::clone(node);
    tokio::spawn(async move {
        let mut ticks = interval(MEMORY_WEIGH_PAUSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut given_back = None;
        loop {
            let now = ticks.tick().await;
            let found = node.fleet.weigh_memory(resident_bytes(node.fleet.memory().most(), now, &mut given_back));
            let (before, level) = (found.before, found.level);
            if level == before {
                continue;
            }
            let (used_mib, most_mib) = (found.used >> 20, found.most >> 20);
            match level > before {
                true => tracing::warn!(
                    used_mib,
                    most_mib,
                    "memory takes overload from {before:?} to {level:?} (docs/limits.md)"
                ),
                false if level == Level::None => tracing::info!(used_mib, most_mib, "memory suffices again"),
                false => tracing::info!(used_mib, most_mib, "memory takes overload from {before:?} to {level:?}"),
            }
        }
    });
}

/// What is resident of a process that may have `most`, once it has given back what it can, if that is due.
fn resident_bytes(most: u64, now: Instant, given_back: &mut Option<Instant>) -> u64 {
    let resident = process::resident_bytes();
    let is_short = resident.saturating_mul(100) >= most.saturating_mul(MEMORY_GOPS_CUT_PERCENT);
    if !is_short || given_back.is_some_and(|at| now < at + MEMORY_GIVE_BACK_PAUSE) {
        return resident;
    }
    *given_back = Some(now);
    allocator::give_back();
    process::resident_bytes()
}
