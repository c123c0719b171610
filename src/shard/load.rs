//! How busy a shard's thread is: the time it ran, and the time it wanted to run but another had its CPU.
//!
//! Read by the driver with each tick; the kernel's account costs one read of a file that stays open.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

/// Reads the account of the thread it was made on.
#[derive(Debug)]
pub(super) struct LoadMeter {
    /// `None` where the kernel keeps none: then waiting is not seen.
    schedstat: Option<File>,
    /// As of the last reading.
    busy: Duration,
    at: Instant,
}

impl LoadMeter {
    pub(super) fn new() -> Self {
        let schedstat = File::open("/proc/thread-self/schedstat").ok();
        let mut meter = Self { schedstat, busy: Duration::ZERO, at: Instant::now() };
        meter.busy = meter.read();
        meter
    }

    /// How long the thread was busy since the last call, and how long ago that was.
    pub(super) fn sample(&mut self) -> (Duration, Duration) {
        let (busy, now) = (self.read(), Instant::now());
        let sample = (busy.saturating_sub(self.busy), now.duration_since(self.at));
        (self.busy, self.at) = (busy, now);
        sample
    }

    fn read(&self) -> Duration {
        self.schedstat.as_ref().and_then(account).unwrap_or_else(|| {
            let time = clock_gettime(ClockId::ThreadCPUTime);
            Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
        })
    }
}

/// "ran waited slices", in nanoseconds (Documentation/scheduler/sched-stats.rst). `ran` is 0 where it is not kept.
fn account(schedstat: &File) -> Option<Duration> {
    let mut text = [0; 80];
    let length = schedstat.read_at(&mut text, 0).ok()?;
    let mut numbers = std::str::from_utf8(text.get(..length)?).ok()?.split(' ').map(str::parse::<u64>);
    let (ran, waited) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (ran > 0).then(|| Duration::from_nanos(ran.saturating_add(waited)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_works_is_busy_and_one_that_sleeps_is_not() {
        for schedstat in [true, false] {
            let mut meter = LoadMeter::new();
            if !schedstat {
                meter.schedstat = None;
                meter.busy = meter.read();
            }
            std::thread::sleep(Duration::from_millis(100));
            let (busy, elapsed) = meter.sample();
            assert!(busy < elapsed / 2, "asleep: {busy:?} of {elapsed:?}, schedstat {schedstat}");
            let end = Instant::now() + Duration::from_millis(100);
            while Instant::now() < end {
                std::hint::spin_loop();
            }
            let (busy, elapsed) = meter.sample();
            // Without the account, time for which another had the CPU is missing.
            let least = if meter.schedstat.is_some() { elapsed.mul_f64(0.7) } else { Duration::from_millis(5) };
            assert!(busy >= least, "at work: {busy:?} of {elapsed:?}, schedstat {schedstat}");
        }
    }
}
