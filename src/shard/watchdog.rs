//! The watchdog: a thread that sees whether shards still turn.
//!
//! Each shard counts the ticks of its clock. One that has not counted while the watchdog itself looked
//! [`WATCHDOG_TICKS_MAX`] times is hung. The time of day does not matter: a process or a machine that is stopped stops the
//! watchdog too, and nobody is blamed for that.

use std::{
    io,
    sync::{Arc, mpsc::RecvTimeoutError},
    thread,
};

use super::metrics::ShardMetrics;
use crate::limits::{WATCHDOG_TICK, WATCHDOG_TICKS_MAX};

/// What the watchdog knows of one shard.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    turns: u64,
    /// Looks since then.
    in_vain: u32,
}

impl Seen {
    /// True if the shard is hung.
    fn look(&mut self, turns: u64) -> bool {
        if turns != self.turns {
            *self = Self { turns, in_vain: 0 };
            return false;
        }
        self.in_vain = self.in_vain.saturating_add(1);
        self.in_vain >= WATCHDOG_TICKS_MAX
    }
}

/// Ends the watchdog when it is dropped.
#[derive(Debug)]
pub(super) struct Watchdog {
    _end: std::sync::mpsc::Sender<()>,
}

impl Watchdog {
    /// `has_ended` says whether a shard has nothing left to turn for; `bite` is told the first that is hung, once.
    pub(super) fn start(
        shards: Vec<Arc<ShardMetrics>>,
        has_ended: impl Fn(usize) -> bool + Send + 'static,
        bite: impl FnOnce(usize) + Send + 'static,
    ) -> io::Result<Self> {
        let (end, ended) = std::sync::mpsc::channel::<()>();
        thread::Builder::new().name("watchdog".into()).spawn(move || {
            let mut seen = vec![Seen::default(); shards.len()];
            while ended.recv_timeout(WATCHDOG_TICK) == Err(RecvTimeoutError::Timeout) {
                let looks = seen.iter_mut().zip(&shards).map(|(seen, shard)| seen.look(shard.turns.get()));
                // All are looked at, also behind one that is hung.
                let hung: Vec<bool> = looks.collect();
                if let Some(shard) = (0..hung.len()).find(|shard| hung[*shard] && !has_ended(*shard)) {
                    bite(shard);
                    return;
                }
            }
        })?;
        Ok(Self { _end: end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_hung_after_as_many_looks_in_vain_and_not_before() {
        let mut seen = Seen::default();
        for round in 1..4 {
            assert!(!seen.look(round), "it turned");
            for _ in 1..WATCHDOG_TICKS_MAX {
                assert!(!seen.look(round));
            }
        }
        assert!(seen.look(3));
    }
}
