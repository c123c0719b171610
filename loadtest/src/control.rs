//! The controlling thread's waits: each looks out for a worker that failed, a server that is gone, and draws the line of
//! progress.

use crate::cli::LoadArgs;
use crate::process::Tree;
use crate::progress::{Progress, Style};
use crate::shared::Shared;
use crate::sys::monotonic_ns;
use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

/// How long publishers may take to be allowed to publish, and players to get a keyframe after the last one connected.
pub const BEGIN_DEADLINE: Duration = Duration::from_secs(15);
/// Pause between two looks at what workers have reached.
const LOOK: Duration = Duration::from_millis(5);
/// Between two looks while only time has to pass.
const SLEEP_MAX: Duration = Duration::from_millis(250);

pub struct Control<'a> {
    pub shared: &'a Shared,
    pub server: Option<&'a Tree>,
    load: &'a LoadArgs,
    /// Names of the parts of the window, for the line of progress.
    parts: &'a [String],
    progress: RefCell<Progress>,
}

impl<'a> Control<'a> {
    /// `label` says which of several runs this is.
    pub fn new(shared: &'a Shared, server: Option<&'a Tree>, load: &'a LoadArgs, players: usize, label: &str) -> Self {
        let progress = RefCell::new(Progress::new(Style::of_stderr(load.progress), label, players));
        Self { shared, server, load, parts: &[], progress }
    }

    pub fn with_parts(self, parts: &'a [String]) -> Self {
        Self { parts, ..self }
    }

    /// What is done from now on, until `until_ns` if that is known.
    pub fn doing(&self, name: &str, until_ns: Option<u64>) {
        self.progress.borrow_mut().enter(name, until_ns);
    }

    /// Waits until all publishers may publish.
    ///
    /// # Errors
    /// They were not allowed to in time, or the run failed.
    pub fn await_publishers(&self, count: usize) -> Result<(), String> {
        self.doing("publishing", None);
        let deadline = self.connecting(count) + BEGIN_DEADLINE;
        self.await_all(deadline, || self.shared.publishing.load(Ordering::Acquire) == count)?.then_some(()).ok_or(
            "not all publishers were allowed to publish in time; is the URL's app one the server accepts?".into(),
        )
    }

    /// Waits until `count` players have joined or failed; false if they took too long.
    ///
    /// # Errors
    /// The run failed.
    pub fn await_players(&self, count: usize) -> Result<bool, String> {
        self.doing("joining", None);
        let deadline = self.connecting(count) + self.load.gop * 2 + BEGIN_DEADLINE;
        self.await_all(deadline, || self.shared.joined.load(Ordering::Acquire) >= count)
    }

    fn connecting(&self, count: usize) -> Duration {
        Duration::from_secs_f64(count as f64 / f64::from(self.load.connect_rate))
    }

    /// Waits until `done`; false if `deadline` came first.
    ///
    /// # Errors
    /// The run failed.
    pub fn await_all(&self, deadline: Duration, done: impl Fn() -> bool) -> Result<bool, String> {
        let until_ns = monotonic_ns().saturating_add(u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX));
        while !done() {
            self.check()?;
            if monotonic_ns() >= until_ns {
                return Ok(false);
            }
            thread::sleep(LOOK);
        }
        Ok(true)
    }

    /// # Errors
    /// The run failed.
    pub fn sleep(&self, duration: Duration) -> Result<(), String> {
        self.sleep_until(monotonic_ns().saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// # Errors
    /// The run failed.
    pub fn sleep_until(&self, at_ns: u64) -> Result<(), String> {
        loop {
            let left = Duration::from_nanos(at_ns.saturating_sub(monotonic_ns()));
            if left.is_zero() {
                return Ok(());
            }
            self.check()?;
            thread::sleep(left.min(SLEEP_MAX));
        }
    }

    fn check(&self) -> Result<(), String> {
        if let Some(reason) = self.shared.failure() {
            return Err(reason);
        }
        if self.server.is_some_and(|tree| !tree.alive()) {
            return Err("the server's process ended during the run".into());
        }
        let mut progress = self.progress.borrow_mut();
        if let Some(name) = self.parts.get(self.shared.part()) {
            progress.rename(name);
        }
        progress.tick(self.shared, self.server);
        Ok(())
    }
}
