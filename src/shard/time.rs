//! A shard's time. The driver says what the process's clock shows; deadlines run on a time of the shard's own that
//! advances by at most [`TIME_STEP_MAX`] per step, so a process that was stopped does not time everybody out at once.

use std::time::Duration;

use crate::limits::TIME_STEP_MAX;

#[derive(Clone, Copy, Debug, Default)]
pub struct ShardTime {
    process: Duration,
    shard: Duration,
}

impl ShardTime {
    /// `process`: time since the process's start, never falling.
    pub fn advance(&mut self, process: Duration) {
        let step = process.saturating_sub(self.process);
        self.process = self.process.max(process);
        self.shard += step.min(TIME_STEP_MAX);
    }

    /// For deadlines.
    pub fn now(&self) -> Duration {
        self.shard
    }

    /// The same on all shards.
    pub fn process(&self) -> Duration {
        self.process
    }

    /// [`now`](Self::now) in milliseconds, modulo 2^32.
    pub fn now_ms(&self) -> u32 {
        self.shard.as_millis() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_process_loses_one_step_only() {
        let mut time = ShardTime::default();
        time.advance(Duration::from_millis(500));
        time.advance(Duration::from_secs(100));
        assert_eq!(time.now(), Duration::from_millis(1_500));
        assert_eq!(time.process(), Duration::from_secs(100));
        time.advance(Duration::from_secs(99));
        assert_eq!(time.now(), Duration::from_millis(1_500));
    }
}
