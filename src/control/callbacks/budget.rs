//! How much of callbacks is said in the log: a few lines a second; the others are counted.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use crate::shard::LineBudget;

/// One that several threads share.
pub(super) struct Budget {
    began: Instant,
    lines: Mutex<LineBudget>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { began: Instant::now(), lines: Mutex::default() }
    }
}

impl Budget {
    /// See [`LineBudget::take`].
    pub(super) fn take(&self, lines_per_second: u32) -> Option<Option<u64>> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.take(lines_per_second, self.began.elapsed())
    }
}
