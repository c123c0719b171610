//! What a shard does when it, or the process, has too much to do: see [`Level`].
//!
//! Its own load and the process's memory each have a level; the higher one counts. Both are looked at once a tick. Besides, each
//! shard has its part of the memory that messages may take before they are whole, and sheds whoever holds most of it.

mod assembly;
mod ladder;
pub mod memory;

use std::time::Duration;

pub(super) use self::assembly::Assembly;
use self::ladder::CpuLadder;
pub use self::ladder::Level;
use super::{close::CloseReason, conn::ConnId, core::Core};
use crate::{egress::Player, limits};

/// What a shard remembers of it.
#[derive(Debug, Default)]
pub(super) struct Overload {
    cpu: CpuLadder,
    cpu_level: Level,
    level: Level,
    /// What the memory had been weighed for when players were last shed for it, and when they were for load.
    shed_for_memory: u64,
    shed_for_cpu_at: Duration,
    /// The length of GOPs that the logs have.
    gop_bytes: Option<usize>,
}

impl Core {
    /// Says how busy the shard was lately, about once a tick.
    pub(super) fn note_cpu(&mut self, load: f64) {
        if !self.config.ceilings.sheds {
            return;
        }
        let before = self.overload.cpu_level;
        let level = self.overload.cpu.step(load, self.time.now());
        self.overload.cpu_level = level;
        if level != before {
            let shard = self.port.shard();
            tracing::warn!(
                shard,
                load,
                "the shard's load takes overload from {before:?} to {level:?} (docs/limits.md)"
            );
        }
    }

    /// The level in force.
    pub(super) fn overload(&self) -> Level {
        self.overload.level
    }

    pub(super) fn tick_overload(&mut self) {
        let (cpu, memory) = (self.overload.cpu_level, self.memory.level());
        self.overload.level = cpu.max(memory);
        self.metrics.overload_level.set(i64::from(self.overload.level as u8));
        self.fit_gops();
        let now = self.time.now();
        let weighed = self.memory.weighed();
        if memory >= Level::Laggards && weighed != self.overload.shed_for_memory {
            self.overload.shed_for_memory = weighed;
            self.shed_laggards(|bytes, _| bytes >= limits::SHED_LAG_BYTES_MIN);
        } else if cpu >= Level::Laggards && now >= self.overload.shed_for_cpu_at + limits::SHED_PAUSE {
            self.overload.shed_for_cpu_at = now;
            let late_ms = self.config.lag_max.as_millis() / 2;
            self.shed_laggards(|_, ms| u128::from(ms) >= late_ms);
        }
        self.assembly.relax();
    }

    /// Lets logs have the GOPs that there is memory for.
    fn fit_gops(&mut self) {
        let bytes = self.memory.gop_bytes();
        if self.overload.gop_bytes.replace(bytes).unwrap_or(self.config.gop_bytes_max) == bytes {
            return;
        }
        self.streams.set_gop_bytes(bytes, self.time.now_ms());
    }

    /// Closes some of the players that are `late` by so many bytes and milliseconds, the last ones first.
    fn shed_laggards(&mut self, late: impl Fn(u64, u32) -> bool) {
        let mut found: Vec<(u64, ConnId)> = Vec::new();
        for (_, stream) in &self.streams.slab {
            for (_, watcher) in &stream.watchers {
                // What is pushed is somebody's live stream elsewhere; what a successor plays is its players'.
                if watcher.view.published || self.conns.get(watcher.conn).is_some_and(|conn| conn.is_successor()) {
                    continue;
                }
                let log = stream.logs.iter().find(|log| log.epoch == watcher.epoch);
                let Some(window) = log.and_then(|log| log.window(watcher.view)) else { continue };
                let Some(player) = &watcher.player else { continue };
                let Some(cursor) = Player::needs_from(player) else { continue };
                let bytes = window.head().saturating_sub(cursor);
                if late(bytes, player.lag_ms(window)) {
                    found.push((bytes, watcher.conn));
                }
            }
        }
        found.sort_unstable_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        let some = found.len().div_ceil(limits::SHED_SHARE_DIVISOR);
        for (bytes, id) in found.into_iter().take(some) {
            let what = format!("the node is overloaded, and it was {bytes} bytes behind, further than others");
            self.log_close(id, CloseReason::Overload, &what);
            self.close(id, CloseReason::Overload, true);
        }
    }
}
