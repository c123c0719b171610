//! When messages are let go to players in step: at once, after a fixed window, or after one that follows the load.
//!
//! What a send costs is mostly per send, not per byte, so a window makes players cheaper and later. An idle shard needs
//! neither: [`Merging::Auto`] lets messages go at once while there is slack and widens the window as sends fill the shard. What
//! else keeps it busy, a flood for one, is not spared by a window, and is not paid for by players with delay.
//! Driven by the streams (`release`) with every message and by the coarse timer with the load. Bounds: a
//! release that was moved stays queued until it was due, at most [`MERGE_MS_MAX`](crate::limits::MERGE_MS_MAX).

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use crate::{
    ingress::View,
    limits::{
        MERGE_LOAD_FULL, MERGE_LOAD_START, MERGE_LOAD_TIME, MERGE_SEND_COST, READ_PAUSE_DIVISOR, READ_PAUSE_MAX,
        SHARDS_MAX,
    },
};

/// How long messages are gathered before they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merging {
    /// Not at all while the shards have slack, then as their load asks.
    Auto,
    /// Always so long; zero sends at once.
    Fixed(Duration),
}

/// The windows the shards of a process have chosen. A stream's owner goes by the widest among the shards it feeds, so
/// that a busy shard is relieved although an idle one writes the log.
#[derive(Clone, Debug)]
pub struct MergeWindows(Arc<[AtomicU32; SHARDS_MAX]>);

impl Default for MergeWindows {
    fn default() -> Self {
        Self(Arc::new(std::array::from_fn(|_| AtomicU32::new(0))))
    }
}

impl MergeWindows {
    // Relaxed: a window that is seen a moment later does no harm.
    fn set(&self, shard: usize, window: Duration) {
        if let Some(slot) = self.0.get(shard) {
            slot.store(u32::try_from(window.as_micros()).unwrap_or(u32::MAX), Ordering::Relaxed);
        }
    }

    fn get(&self, shard: usize) -> Duration {
        self.0.get(shard).map_or(Duration::ZERO, |slot| Duration::from_micros(slot.load(Ordering::Relaxed).into()))
    }
}

/// The messages one log has gathered are to be let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Release {
    /// Process time.
    pub(super) due: Duration,
    pub(super) local: usize,
    pub(super) epoch: u64,
}

/// See the file's head.
#[derive(Debug)]
pub(super) struct Merger {
    merging: Merging,
    delay_target: Duration,
    hold_audio: Duration,
    shard: usize,
    windows: MergeWindows,
    /// Share of its time the shard was busy, and that which sends cost of it, averaged over
    /// [`MERGE_LOAD_TIME`].
    load: f64,
    sends_load: f64,
    /// To players, since it was sampled last.
    sends: u32,
    releases: BinaryHeap<Reverse<Release>>,
    /// Due time of the release queued last.
    newest_due: Duration,
}

impl Merger {
    pub(super) fn new(
        merging: Merging,
        delay_target: Duration,
        hold_audio: Duration,
        shard: usize,
        windows: MergeWindows,
    ) -> Self {
        if let Merging::Fixed(window) = merging {
            windows.set(shard, window);
        }
        Self {
            merging,
            delay_target,
            hold_audio,
            shard,
            windows,
            load: 0.0,
            sends_load: 0.0,
            sends: 0,
            releases: BinaryHeap::new(),
            newest_due: Duration::ZERO,
        }
    }

    /// A player is sent what it has to get.
    pub(super) fn note_send(&mut self) {
        self.sends = self.sends.saturating_add(1);
    }

    /// The shard was busy for `busy` of the last `elapsed`. One sample may be anything, a pass can outlast it: the average
    /// counts.
    pub(super) fn sample(&mut self, busy: Duration, elapsed: Duration) {
        let sends = std::mem::take(&mut self.sends);
        if elapsed.is_zero() {
            return;
        }
        let weight = elapsed.as_secs_f64() / (elapsed + MERGE_LOAD_TIME).as_secs_f64();
        let share = |spent: f64| (spent / elapsed.as_secs_f64()).min(1.0);
        self.load += (share(busy.as_secs_f64()) - self.load) * weight;
        self.sends_load += (share(f64::from(sends) * MERGE_SEND_COST.as_secs_f64()) - self.sends_load) * weight;
        if self.merging == Merging::Auto {
            self.windows.set(self.shard, window_at(self.load.min(self.sends_load), self.load, self.delay_target));
        }
    }

    pub(super) fn load(&self) -> f64 {
        self.load
    }

    /// The shard's own window.
    pub(super) fn window(&self) -> Duration {
        self.windows.get(self.shard)
    }

    /// How long publishers need not be read from: what they sent meanwhile would only be gathered. Many streams are then
    /// read in one turn. In whole milliseconds, which is what the driver's timers know.
    pub(super) fn read_pause(&self) -> Duration {
        let pause = (self.window() / READ_PAUSE_DIVISOR).min(READ_PAUSE_MAX);
        Duration::from_millis(pause.as_millis() as u64)
    }

    /// The window of a log that is fed to `followers` too.
    pub(super) fn window_for(&self, followers: impl Iterator<Item = usize>) -> Duration {
        followers.map(|shard| self.windows.get(shard)).fold(self.window(), Duration::max)
    }

    /// How long what `view` has gathered may wait; it may have waited to be read before. Audio alone may wait for the video
    /// message it is sent with.
    pub(super) fn patience(&self, window: Duration, view: &View, now_ms: u32) -> Duration {
        let holds = self.hold_audio > window && view.video_flows(now_ms) && view.log().window().gathers_audio_only();
        if holds { self.hold_audio } else { window.saturating_sub(self.read_pause()) }
    }

    /// Queues a release within `wait` of `now` and says when it is due: together with the one before if that is not much
    /// sooner, so that streams are flushed in one pass.
    pub(super) fn schedule(&mut self, now: Duration, wait: Duration, local: usize, epoch: u64) -> Duration {
        let latest = now + wait;
        if !(latest - wait / 4..=latest).contains(&self.newest_due) {
            self.newest_due = latest;
        }
        self.releases.push(Reverse(Release { due: self.newest_due, local, epoch }));
        self.newest_due
    }

    pub(super) fn next_due(&self) -> Option<Duration> {
        self.releases.peek().map(|Reverse(release)| release.due)
    }

    /// The next release that is due by `now`. It counts only if its log still expects it then.
    pub(super) fn take_due(&mut self, now: Duration) -> Option<Release> {
        let due = self.next_due().is_some_and(|due| due <= now);
        if due { self.releases.pop().map(|Reverse(release)| release) } else { None }
    }
}

/// The window at `load`, a share of one core, of which `sends` is what sends cost. A message waits for the window, the time until it is read included, and then
/// for the pass that sends it, which takes `load` windows: both together stay within `target`. The root rises at once,
/// because a short window already spares most sends.
fn window_at(sends: f64, load: f64, target: Duration) -> Duration {
    let filled = (sends - MERGE_LOAD_START) / (MERGE_LOAD_FULL - MERGE_LOAD_START);
    target.mul_f64(filled.clamp(0.0, 1.0).sqrt() / (1.0 + load))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_millis(100);
    const TICK: Duration = Duration::from_millis(100);

    fn merger(merging: Merging) -> Merger {
        Merger::new(merging, TARGET, Duration::ZERO, 0, MergeWindows::default())
    }

    /// It may all have been sends.
    fn busy(merger: &mut Merger, busy: Duration, elapsed: Duration) {
        merger.sends = u32::MAX;
        merger.sample(busy, elapsed);
    }

    #[test]
    fn a_fixed_window_does_not_care_for_load() {
        let mut merger = merger(Merging::Fixed(Duration::from_millis(40)));
        (0..100).for_each(|_| busy(&mut merger, TICK, TICK));
        assert_eq!(merger.window(), Duration::from_millis(40));
        assert!(merger.load() > 0.99);
    }

    #[test]
    fn there_is_no_window_while_there_is_slack_and_window_and_pass_stay_within_the_target() {
        for percent in 0..=100 {
            let load = f64::from(percent) / 100.0;
            let window = window_at(load, load, TARGET);
            assert_eq!(window.is_zero(), load <= MERGE_LOAD_START, "{load}");
            assert!(window.mul_f64(1.0 + load) <= TARGET + Duration::from_micros(1), "{load}");
        }
        assert!(window_at(MERGE_LOAD_FULL, MERGE_LOAD_FULL, TARGET) > Duration::from_millis(50));
    }

    #[test]
    fn one_busy_sample_widens_little_and_a_busy_second_much() {
        let mut merger = merger(Merging::Auto);
        (0..50).for_each(|_| busy(&mut merger, TICK / 10, TICK));
        busy(&mut merger, TICK, TICK);
        assert_eq!(merger.window(), Duration::ZERO);
        (0..20).for_each(|_| busy(&mut merger, TICK, TICK));
        assert!(merger.window() > Duration::from_millis(40));
        (0..50).for_each(|_| busy(&mut merger, Duration::ZERO, TICK));
        assert_eq!(merger.window(), Duration::ZERO);
        // A sample may be as long as a stopped process slept.
        busy(&mut merger, Duration::from_secs(60), Duration::from_secs(60));
        assert!(merger.load() > 0.95);
    }

    #[test]
    fn players_do_not_wait_for_what_no_window_spares() {
        let mut merger = merger(Merging::Auto);
        let sample = |merger: &mut Merger, sends_load: f64| {
            let sends = TICK.mul_f64(sends_load).as_micros() / MERGE_SEND_COST.as_micros();
            (0..sends).for_each(|_| merger.note_send());
            merger.sample(TICK, TICK);
        };
        (0..100).for_each(|_| sample(&mut merger, 0.2));
        assert_eq!(merger.window(), Duration::ZERO);
        assert!(merger.load() > 0.99, "it is busy all the same");
        (0..20).for_each(|_| sample(&mut merger, 0.6));
        assert!(merger.window() > Duration::from_millis(20));
    }

    /// A shard whose load falls as the window widens finds its balance and stays there.
    #[test]
    fn the_window_settles() {
        let mut merger = merger(Merging::Auto);
        let mut windows = Vec::new();
        for _ in 0..300 {
            let window_ms = merger.window().as_secs_f64() * 1e3;
            let load = 0.1 + 0.5 / (1.0 + window_ms / 14.0);
            busy(&mut merger, TICK.mul_f64(load), TICK);
            windows.push(window_ms);
        }
        let last = &windows[250..];
        let (low, high) = last.iter().fold((f64::MAX, 0.0_f64), |(low, high), at| (low.min(*at), high.max(*at)));
        assert!(high - low < 2.0 && low > 10.0 && high < 60.0, "{low}..{high} ms");
    }

    #[test]
    fn the_widest_window_of_those_fed_counts() {
        let windows = MergeWindows::default();
        let of = |shard| Merger::new(Merging::Auto, TARGET, Duration::ZERO, shard, windows.clone());
        let (owner, mut follower) = (of(0), of(1));
        (0..50).for_each(|_| busy(&mut follower, TICK, TICK));
        assert_eq!(owner.window_for([2].into_iter()), Duration::ZERO);
        assert_eq!(owner.window_for([2, 1].into_iter()), follower.window());
        assert!(!follower.window().is_zero());
    }

    #[test]
    fn releases_come_in_the_order_they_are_due_and_near_ones_together() {
        let ms = Duration::from_millis;
        let mut merger = merger(Merging::Fixed(ms(40)));
        assert_eq!(merger.schedule(ms(0), ms(40), 0, 1), ms(40));
        assert_eq!(merger.schedule(ms(9), ms(40), 1, 2), ms(40), "at most a quarter sooner");
        assert_eq!(merger.schedule(ms(12), ms(40), 2, 3), ms(52));
        assert_eq!(merger.schedule(ms(13), ms(5), 3, 4), ms(18), "never later than asked");
        assert_eq!(merger.next_due(), Some(ms(18)));
        assert_eq!(merger.take_due(ms(17)), None);
        let order: Vec<usize> = std::iter::from_fn(|| merger.take_due(ms(100))).map(|release| release.local).collect();
        assert_eq!(order, [3, 0, 1, 2]);
    }
}
