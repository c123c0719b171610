//! How much of callbacks is said in the log: a few lines a second; the others are counted.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// See the file's head.
#[derive(Default)]
pub(super) struct Budget(Mutex<(Option<Instant>, u32, u64)>);

impl Budget {
    /// Whether a line may be written, and how many were not before it, if any.
    pub(super) fn take(&self, lines_per_second: u32) -> Option<Option<u64>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (second, lines, suppressed) = &mut *state;
        let now = Instant::now();
        if second.is_none_or(|second| now.duration_since(second) >= Duration::from_secs(1)) {
            (*second, *lines) = (Some(now), 0);
        }
        if *lines >= lines_per_second {
            *suppressed += 1;
            return None;
        }
        *lines += 1;
        let suppressed = std::mem::take(suppressed);
        Some((suppressed > 0).then_some(suppressed))
    }
}
