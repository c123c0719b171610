//! Files that are read again while the node runs: when one has changed, and on SIGHUP.
//!
//! A [`Reload`] knows no more of them than when they last changed; its owner's closure reads them and puts what they say in
//! force, or refuses and leaves what was. Files that are being replaced one after the other are waited for: they are read once
//! nothing has changed from one look to the next. A refusal is one line in the log, and the files are not read again until one
//! of them changes. Driven by [`start`] on a thread of their own, as a file system may hang.

use std::{fmt, os::unix::fs::MetadataExt, path::PathBuf};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use super::small_file;
use crate::limits::RELOAD_POLL;

/// Why files are read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// One of them has changed.
    Changed,
    /// The operator asks for it.
    Hangup,
}

/// The files that count from now on, if they are others than before.
pub(super) type Others = Option<Vec<PathBuf>>;

type Apply = Box<dyn FnMut(Cause) -> Result<Others, String> + Send>;

/// See the file's head.
pub(super) struct Reload {
    /// For the log.
    what: &'static str,
    paths: Vec<PathBuf>,
    /// As they were read last, and as they were at the last look.
    read: Vec<Option<Stamp>>,
    seen: Vec<Option<Stamp>>,
    apply: Apply,
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reload").field("what", &self.what).field("paths", &self.paths).finish_non_exhaustive()
    }
}

/// What differs when a file has been written or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Reload {
    /// `apply` reads the files at `paths`, which have been read already, puts them in force and says so in the log; an error, for
    /// people, says that they cannot be.
    pub(super) fn new(
        what: &'static str,
        paths: Vec<PathBuf>,
        apply: impl FnMut(Cause) -> Result<Others, String> + Send + 'static,
    ) -> Self {
        let read = stamps(&paths);
        Self { what, paths, seen: read.clone(), read, apply: Box::new(apply) }
    }

    /// What has to stay within reach.
    pub(super) fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Looks at the files, and reads them if they have changed, but not since the last look. What came of it, if they were read.
    pub(super) fn poll(&mut self) -> Option<Result<(), String>> {
        let now = stamps(&self.paths);
        let is_still = now == self.seen;
        self.seen = now;
        (is_still && self.seen != self.read).then(|| self.reload(Cause::Changed))
    }

    /// Reads the files, changed or not.
    pub(super) fn reload(&mut self, cause: Cause) -> Result<(), String> {
        // Before they are read: a change after that is one more.
        self.read = stamps(&self.paths);
        let applied = (self.apply)(cause).map(|others| {
            if let Some(paths) = others.filter(|paths| *paths != self.paths) {
                // They were read before anyone looked at them: they are read once more.
                self.read = vec![None; paths.len()];
                self.paths = paths;
            }
        });
        self.seen.clone_from(&self.read);
        applied
    }

    /// As the operator hears of it.
    fn say(&self, outcome: &Result<(), String>) {
        if let Err(why) = outcome {
            tracing::error!("{} stay as they were: {why}", self.what);
        }
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Option<Stamp>> {
    let stamp = |path: &PathBuf| {
        let found = std::fs::metadata(path).ok()?;
        Some(Stamp {
            device: found.dev(),
            inode: found.ino(),
            bytes: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    };
    paths.iter().map(stamp).collect()
}

/// Keeps looking at all of them; a look that hangs holds up the next, and SIGHUP. Where there are none, SIGHUP ends the process as it always did.
pub(super) fn start(reloads: Vec<Reload>) -> std::io::Result<()> {
    if !reloads.is_empty() {
        for path in reloads.iter().flat_map(Reload::paths) {
            // They were read before the process gave up the rights it began with.
            if let Err(error) = small_file::open(path) {
                tracing::warn!("{} cannot be read again when it changes: {error}", path.display());
            }
        }
        tokio::spawn(watch(reloads, signal(SignalKind::hangup())?));
    }
    Ok(())
}

async fn watch(mut reloads: Vec<Reload>, mut hangups: Signal) {
    let mut looks = interval(RELOAD_POLL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let asked = tokio::select! {
            Some(()) = hangups.recv() => true,
            _ = looks.tick() => false,
        };
        let look = move || {
            look_at(&mut reloads, asked);
            reloads
        };
        // It panics with a bug only: nothing is read again then, and the log has it.
        let Ok(looked) = tokio::task::spawn_blocking(look).await else { return };
        reloads = looked;
    }
}

fn look_at(reloads: &mut [Reload], asked: bool) {
    for reload in reloads {
        let outcome = if asked { Some(reload.reload(Cause::Hangup)) } else { reload.poll() };
        if let Some(outcome) = &outcome {
            reload.say(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("shardcast-reload-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    #[test]
    fn files_are_read_once_they_have_changed_and_come_to_rest() {
        let folder = scratch("rest");
        let (a, b) = (folder.join("a"), folder.join("b"));
        std::fs::write(&a, "1").expect("a file");
        let reads = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&reads);
        let mut reload = Reload::new("files", vec![a.clone(), b.clone()], move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(None)
        });
        assert_eq!(reload.poll(), None, "nothing has changed");
        // One after the other, as renewals do.
        std::fs::write(&a, "22").expect("a file");
        assert_eq!(reload.poll(), None, "it may go on changing");
        std::fs::write(&b, "333").expect("a file");
        assert_eq!(reload.poll(), None, "it did");
        assert_eq!(reload.poll(), Some(Ok(())));
        assert_eq!(reload.poll(), None, "they were read");
        // Replaced by one of the same size, and removed.
        std::fs::write(folder.join("c"), "44").expect("a file");
        std::fs::rename(folder.join("c"), &a).expect("it is there");
        assert_eq!((reload.poll(), reload.poll()), (None, Some(Ok(()))));
        std::fs::remove_file(&b).expect("it is there");
        assert_eq!((reload.poll(), reload.poll()), (None, Some(Ok(()))));
        assert_eq!(reads.load(Ordering::Relaxed), 3);
        let _ = std::fs::remove_dir_all(folder);
    }

    #[test]
    fn a_refusal_is_said_once() {
        let folder = scratch("refusal");
        let path = folder.join("file");
        std::fs::write(&path, "good").expect("a file");
        let mut reload = Reload::new("files", vec![path.clone()], |_| Err("bad".to_owned()));
        std::fs::write(&path, "not so").expect("a file");
        let looks = std::array::from_fn(|_| reload.poll());
        assert_eq!(looks, [None, Some(Err("bad".to_owned())), None, None]);
        assert_eq!(reload.reload(Cause::Hangup), Err("bad".to_owned()), "it was asked for");
        let _ = std::fs::remove_dir_all(folder);
    }

    #[test]
    fn other_files_may_count_from_then_on() {
        let folder = scratch("others");
        let (a, b) = (folder.join("a"), folder.join("b"));
        [&a, &b].iter().for_each(|path| std::fs::write(path, "1").expect("a file"));
        let next = b.clone();
        let mut reload =
            Reload::new(
                "files",
                vec![a.clone()],
                move |cause| Ok((cause == Cause::Hangup).then(|| vec![next.clone()])),
            );
        std::fs::write(&b, "22").expect("a file");
        assert_eq!((reload.poll(), reload.poll()), (None, None), "that one does not count");
        assert_eq!(reload.reload(Cause::Hangup), Ok(()));
        assert_eq!(reload.paths(), std::slice::from_ref(&b));
        assert_eq!((reload.poll(), reload.poll()), (None, Some(Ok(()))), "it may have changed while it was read");
        std::fs::write(&a, "22").expect("a file");
        assert_eq!((reload.poll(), reload.poll()), (None, None), "it no longer does");
        std::fs::write(&b, "333").expect("a file");
        assert_eq!((reload.poll(), reload.poll()), (None, Some(Ok(()))));
        let _ = std::fs::remove_dir_all(folder);
    }
}
