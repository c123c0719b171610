//! Weighs the process's memory a few times a second, where it has a limit: shards go by what is found.

use std::sync::Arc;

use tokio::time::{MissedTickBehavior, interval};

use super::{admin::Node, process};
use crate::{limits::MEMORY_WEIGH_PAUSE, shard::overload::Level};

/// Begins, if there is anything to watch. It ends with the runtime.
pub(super) fn spawn(node: &Arc<Node>) {
    if node.fleet.memory().most() == 0 {
        return;
    }
    let node = Arc::clone(node);
    tokio::spawn(async move {
        let mut ticks = interval(MEMORY_WEIGH_PAUSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let found = node.fleet.weigh_memory(process::resident_bytes());
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
