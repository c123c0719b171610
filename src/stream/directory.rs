//! Which shard owns a name, and which shards have players of it: one map for the process.
//!
//! Touched when a name is claimed or released and when a shard's first player attaches or last one leaves, never by
//! media. Short locks, striped by name. A claim yields an epoch, unique in the process and rising: every message between
//! shards carries it, so what belongs to an earlier publisher is recognised as stale. Bounds: names nobody publishes are
//! at most [`WAITED_NAMES_MAX`].

use std::{
    collections::HashMap,
    hash::BuildHasher,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::timeline::Resume;
use crate::{limits::WAITED_NAMES_MAX, rtmp::key::StreamKey};

const STRIPES: usize = 64;

/// Shards by bit.
pub type ShardSet = u64;

/// Who publishes a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub shard: usize,
    pub epoch: u64,
    /// It comes from another node.
    pub pulled: bool,
}

/// A name granted to a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub epoch: u64,
    /// Shards that have players waiting, or left over from the publisher before.
    pub followers: ShardSet,
    pub resume: Option<Resume>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// Somebody else publishes it.
    #[error("the name is being published already")]
    Taken(Owner),
    #[error("too many names are waited for, at most {WAITED_NAMES_MAX}")]
    Full,
}

#[derive(Debug, Default)]
struct Name {
    owner: Option<Owner>,
    followers: ShardSet,
    resume: Option<Resume>,
    /// The next publisher comes too late to matter to anybody but the followers: `resume` goes with the last of them.
    forgotten: bool,
}

impl Name {
    /// Drops what only followers wanted to be remembered.
    fn drop_resume(&mut self) {
        if self.forgotten && self.followers == 0 {
            self.resume = None;
        }
    }

    /// Whether anything depends on remembering the name.
    fn is_idle(&self) -> bool {
        self.owner.is_none() && self.followers == 0 && self.resume.is_none()
    }
}

/// See the file's head.
#[derive(Debug)]
pub struct Directory {
    stripes: [Mutex<HashMap<StreamKey, Name>>; STRIPES],
    hasher: foldhash::fast::FixedState,
    epoch: AtomicU64,
    waited: AtomicUsize,
}

impl Default for Directory {
    fn default() -> Self {
        Self {
            stripes: std::array::from_fn(|_| Mutex::default()),
            hasher: foldhash::fast::FixedState::default(),
            epoch: AtomicU64::new(0),
            waited: AtomicUsize::new(0),
        }
    }
}

impl Directory {
    /// Grants `key` to a publisher on `shard`, unless somebody has it.
    pub fn claim(&self, key: &StreamKey, shard: usize) -> Result<Claim, DirectoryError> {
        self.claim_as(key, shard, false)
    }

    /// As [`claim`](Self::claim), for a stream that comes from another node.
    pub fn claim_pulled(&self, key: &StreamKey, shard: usize) -> Result<Claim, DirectoryError> {
        self.claim_as(key, shard, true)
    }

    fn claim_as(&self, key: &StreamKey, shard: usize, pulled: bool) -> Result<Claim, DirectoryError> {
        let mut names = self.stripe(key);
        let known = names.contains_key(key);
        let name = names.entry(key.clone()).or_default();
        if let Some(owner) = name.owner {
            return Err(DirectoryError::Taken(owner));
        }
        if known {
            self.waited.fetch_sub(1, Ordering::Relaxed);
        }
        let epoch = self.epoch.fetch_add(1, Ordering::Relaxed) + 1;
        name.owner = Some(Owner { shard, epoch, pulled });
        name.forgotten = false;
        Ok(Claim { epoch, followers: name.followers, resume: name.resume.take() })
    }

    /// Gives the name back, if `epoch` still has it. `resume` is kept for the next publisher until
    /// [`forget`](Self::forget).
    pub fn release(&self, key: &StreamKey, epoch: u64, resume: Option<Resume>) {
        let mut names = self.stripe(key);
        let Some(name) = names.get_mut(key) else { return };
        if name.owner.is_none_or(|owner| owner.epoch != epoch) {
            return;
        }
        name.owner = None;
        name.resume = resume;
        if name.is_idle() {
            names.remove(key);
        } else {
            self.waited.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Forgets where a stream ended at `ended_at`, unless players are still there to see it go on.
    pub fn forget(&self, key: &StreamKey, ended_at: Duration) {
        self.update(key, |name| {
            if name.owner.is_none() && name.resume.is_none_or(|resume| resume.ended_at <= ended_at) {
                name.forgotten = true;
                name.drop_resume();
            }
        });
    }

    /// Who publishes `key`.
    pub fn owner(&self, key: &StreamKey) -> Option<Owner> {
        self.stripe(key).get(key).and_then(|name| name.owner)
    }

    /// `shard` has players of `key`. The owner, if there is one; else it will be announced to the shard.
    pub fn follow(&self, key: &StreamKey, shard: usize) -> Result<Option<Owner>, DirectoryError> {
        let mut names = self.stripe(key);
        if !names.contains_key(key) {
            if self.waited.load(Ordering::Relaxed) >= WAITED_NAMES_MAX {
                return Err(DirectoryError::Full);
            }
            self.waited.fetch_add(1, Ordering::Relaxed);
        }
        let name = names.entry(key.clone()).or_default();
        name.followers |= 1 << shard;
        Ok(name.owner)
    }

    /// `shard` has no more players of `key`.
    pub fn unfollow(&self, key: &StreamKey, shard: usize) {
        self.update(key, |name| {
            name.followers &= !(1 << shard);
            name.drop_resume();
        });
    }

    fn update(&self, key: &StreamKey, change: impl FnOnce(&mut Name)) {
        let mut names = self.stripe(key);
        let Some(name) = names.get_mut(key) else { return };
        change(name);
        if name.is_idle() {
            names.remove(key);
            self.waited.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Names known that nobody publishes.
    pub fn waited_names(&self) -> usize {
        self.waited.load(Ordering::Relaxed)
    }

    fn stripe(&self, key: &StreamKey) -> MutexGuard<'_, HashMap<StreamKey, Name>> {
        let stripe = self.hasher.hash_one(key) as usize % STRIPES;
        // A panic with the lock held ends the process; the map is sound in any case.
        self.stripes[stripe].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> StreamKey {
        StreamKey::new("", "live", name).expect("valid")
    }

    #[test]
    fn a_name_has_one_owner() {
        let directory = Directory::default();
        let claim = directory.claim(&key("a"), 0).expect("free");
        assert!(matches!(directory.claim(&key("a"), 1), Err(DirectoryError::Taken(owner)) if owner.shard == 0));
        directory.release(&key("a"), claim.epoch + 1, None);
        assert!(directory.claim(&key("a"), 1).is_err(), "a stale epoch releases nothing");
        directory.release(&key("a"), claim.epoch, None);
        let again = directory.claim(&key("a"), 1).expect("free again");
        assert!(again.epoch > claim.epoch);
    }

    #[test]
    fn whoever_waits_is_known_to_the_claimer() {
        let directory = Directory::default();
        assert_eq!(directory.follow(&key("a"), 3), Ok(None));
        assert_eq!(directory.follow(&key("a"), 5), Ok(None));
        directory.unfollow(&key("a"), 5);
        let claim = directory.claim(&key("a"), 0).expect("free");
        assert_eq!(claim.followers, 1 << 3);
        assert_eq!(directory.follow(&key("a"), 1), Ok(Some(Owner { shard: 0, epoch: claim.epoch, pulled: false })));
    }

    #[test]
    fn nothing_is_remembered_for_ever() {
        let directory = Directory::default();
        let resume = Some(Resume { sent: 9, ended_at: Duration::from_secs(5) });
        for name in 0..1_000 {
            let key = key(&name.to_string());
            directory.follow(&key, 0).expect("room");
            let claim = directory.claim(&key, 1).expect("free");
            directory.release(&key, claim.epoch, resume);
            directory.forget(&key, Duration::from_secs(5));
            assert_eq!(directory.waited_names(), 1, "its player still watches");
            directory.unfollow(&key, 0);
            assert_eq!(directory.waited_names(), 0);
        }
        assert!(directory.stripes.iter().all(|stripe| stripe.lock().unwrap().is_empty()));
    }

    #[test]
    fn the_last_to_know_of_a_name_takes_it_along_in_any_order() {
        let resume = Some(Resume { sent: 9, ended_at: Duration::from_secs(5) });
        for follower_last in [false, true] {
            let directory = Directory::default();
            let key = key("a");
            directory.follow(&key, 0).expect("room");
            let claim = directory.claim(&key, 1).expect("free");
            directory.release(&key, claim.epoch, resume);
            if follower_last {
                directory.forget(&key, Duration::from_secs(5));
                directory.unfollow(&key, 0);
            } else {
                directory.unfollow(&key, 0);
                assert_eq!(directory.waited_names(), 1, "its publisher may come back");
                directory.forget(&key, Duration::from_secs(5));
            }
            assert_eq!(directory.waited_names(), 0);
        }
    }

    #[test]
    fn a_publisher_that_left_later_is_not_forgotten_with_the_one_before() {
        let directory = Directory::default();
        let resume = Some(Resume { sent: 9, ended_at: Duration::from_secs(9) });
        let claim = directory.claim(&key("a"), 1).expect("free");
        directory.forget(&key("a"), Duration::from_secs(5));
        directory.release(&key("a"), claim.epoch, resume);
        directory.forget(&key("a"), Duration::from_secs(5));
        assert_eq!(directory.claim(&key("a"), 0).expect("free").resume, resume);
    }

    #[test]
    fn waited_names_are_bounded() {
        let directory = Directory::default();
        for name in 0..WAITED_NAMES_MAX {
            directory.follow(&key(&name.to_string()), 0).expect("room");
        }
        assert_eq!(directory.follow(&key("one more"), 0), Err(DirectoryError::Full));
        assert!(directory.claim(&key("one more"), 0).is_ok(), "publishing is another matter");
    }
}
