//! Which shard owns a name, and which shards have players of it: one map for the process.
//!
//! Touched when a name is claimed or released and when a shard's first player attaches or last one leaves, never by
//! media. Short locks, striped by name. A claim yields an epoch, unique in the process and rising: every message between
//! shards carries it, so what belongs to an earlier publisher is recognised as stale. A name that somebody has may be
//! promised to one other, its heir: once released it is nobody else's. Bounds: names nobody publishes are at most
//! [`WAITED_NAMES_MAX`], promised ones not counted, which are at most one for each connection that waits.

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

/// How a stream comes to have its name here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client publishes it.
    Published,
    /// It comes from another node.
    Pulled,
    /// It comes from the process that this one takes over from, until its publisher comes here.
    Inherited,
}

/// Who asks for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimant {
    pub shard: usize,
    pub origin: Origin,
    /// By whose word it may have it.
    pub credential: Option<[u8; 16]>,
}

impl Claimant {
    /// A stream that comes from another node.
    pub fn pulled(shard: usize) -> Self {
        Self { shard, origin: Origin::Pulled, credential: None }
    }
}

/// Who publishes a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub shard: usize,
    pub epoch: u64,
    pub origin: Origin,
    pub credential: Option<[u8; 16]>,
    /// When it replaced the one before, in the process's time.
    pub took_over_at: Option<Duration>,
}

/// A name granted to a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub epoch: u64,
    /// Shards that have players waiting, or left over from the publisher before.
    pub followers: ShardSet,
    pub resume: Option<Resume>,
}

/// What becomes of a name that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Granted(Claim),
    /// Whoever asked gets it by this `heir` once `owner` has released it.
    Promised {
        owner: Owner,
        heir: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// Somebody else publishes it.
    #[error("the name is being published already")]
    Taken(Owner),
    /// Somebody else is about to publish it.
    #[error("the name is being taken over")]
    Promised,
    #[error("too many names are waited for, at most {WAITED_NAMES_MAX}")]
    Full,
}

#[derive(Debug, Default)]
struct Name {
    owner: Option<Owner>,
    /// The epoch of whoever is to have it next.
    heir: Option<u64>,
    followers: ShardSet,
    /// Shards with players that a publisher must not leave: said only while the process is replaced.
    kept_for: ShardSet,
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
        self.owner.is_none() && self.heir.is_none() && self.followers == 0 && self.resume.is_none()
    }

    fn grant(&mut self, claimant: Claimant, epoch: u64, took_over_at: Option<Duration>) -> Claim {
        let Claimant { shard, origin, credential } = claimant;
        self.owner = Some(Owner { shard, epoch, origin, credential, took_over_at });
        self.heir = None;
        self.forgotten = false;
        Claim { epoch, followers: self.followers, resume: self.resume.take() }
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
    /// Grants `key` to whoever asks, unless somebody has it or is to have it.
    pub fn claim(&self, key: &StreamKey, claimant: Claimant) -> Result<Claim, DirectoryError> {
        match self.ask(key, claimant, |_| false)? {
            Answer::Granted(claim) => Ok(claim),
            Answer::Promised { owner, .. } => Err(DirectoryError::Taken(owner)),
        }
    }

    /// As [`claim`](Self::claim); a name that somebody has is promised if the owner may be replaced.
    pub fn ask(
        &self,
        key: &StreamKey,
        claimant: Claimant,
        may_replace: impl FnOnce(&Owner) -> bool,
    ) -> Result<Answer, DirectoryError> {
        let mut names = self.stripe(key);
        let known = names.contains_key(key);
        let name = names.entry(key.clone()).or_default();
        if name.heir.is_some() {
            return Err(DirectoryError::Promised);
        }
        if let Some(owner) = name.owner {
            if !may_replace(&owner) {
                return Err(DirectoryError::Taken(owner));
            }
            let heir = self.next_epoch();
            name.heir = Some(heir);
            return Ok(Answer::Promised { owner, heir });
        }
        if known {
            self.waited.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(Answer::Granted(name.grant(claimant, self.next_epoch(), None)))
    }

    /// Grants a name to whom it was promised as `heir`, at `now` of the process's time.
    pub fn redeem(
        &self,
        key: &StreamKey,
        claimant: Claimant,
        heir: u64,
        now: Duration,
    ) -> Result<Claim, DirectoryError> {
        let mut names = self.stripe(key);
        let Some(name) = names.get_mut(key).filter(|name| name.heir == Some(heir)) else {
            return Err(DirectoryError::Promised);
        };
        if let Some(owner) = name.owner {
            return Err(DirectoryError::Taken(owner));
        }
        self.waited.fetch_sub(1, Ordering::Relaxed);
        Ok(name.grant(claimant, heir, Some(now)))
    }

    /// Whom the name was promised to as `heir` does not want it any more.
    pub fn renounce(&self, key: &StreamKey, heir: u64) {
        self.update(key, |name| {
            name.heir.take_if(|known| *known == heir);
        });
    }

    fn next_epoch(&self) -> u64 {
        self.epoch.fetch_add(1, Ordering::Relaxed) + 1
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

    /// Whether somebody publishes `key`, or is about to.
    pub fn is_taken(&self, key: &StreamKey) -> bool {
        self.stripe(key).get(key).is_some_and(|name| name.owner.is_some() || name.heir.is_some())
    }

    /// Whether `key` is promised to `heir`, who has not renounced it.
    pub fn is_promised(&self, key: &StreamKey, heir: u64) -> bool {
        self.stripe(key).get(key).is_some_and(|name| name.heir == Some(heir))
    }

    /// Whether `key` goes on after the publisher with `epoch`: somebody has it since, or is about to.
    pub fn goes_on_after(&self, key: &StreamKey, epoch: u64) -> bool {
        let is_next = |name: &Name| name.heir.is_some() || name.owner.is_some_and(|owner| owner.epoch > epoch);
        self.stripe(key).get(key).is_some_and(is_next)
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
            name.kept_for &= !(1 << shard);
            name.drop_resume();
        });
    }

    /// Whether `shard` has players for whom the publisher of `key` is to stay.
    pub fn keep_for(&self, key: &StreamKey, shard: usize, keep: bool) {
        self.update(key, |name| {
            name.kept_for = name.kept_for & !(1 << shard) | u64::from(keep) << shard;
        });
    }

    /// Whether any shard has players for whom the publisher of `key` is to stay.
    pub fn is_kept(&self, key: &StreamKey) -> bool {
        self.stripe(key).get(key).is_some_and(|name| name.kept_for != 0)
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

    fn publisher(shard: usize) -> Claimant {
        Claimant { shard, origin: Origin::Published, credential: None }
    }

    #[test]
    fn a_name_has_one_owner() {
        let directory = Directory::default();
        let claim = directory.claim(&key("a"), publisher(0)).expect("free");
        assert!(
            matches!(directory.claim(&key("a"), publisher(1)), Err(DirectoryError::Taken(owner)) if owner.shard == 0)
        );
        directory.release(&key("a"), claim.epoch + 1, None);
        assert!(directory.claim(&key("a"), publisher(1)).is_err(), "a stale epoch releases nothing");
        directory.release(&key("a"), claim.epoch, None);
        let again = directory.claim(&key("a"), publisher(1)).expect("free again");
        assert!(again.epoch > claim.epoch);
    }

    #[test]
    fn whoever_waits_is_known_to_the_claimer() {
        let directory = Directory::default();
        assert_eq!(directory.follow(&key("a"), 3), Ok(None));
        assert_eq!(directory.follow(&key("a"), 5), Ok(None));
        directory.unfollow(&key("a"), 5);
        let claim = directory.claim(&key("a"), publisher(0)).expect("free");
        assert_eq!(claim.followers, 1 << 3);
        assert_eq!(directory.follow(&key("a"), 1), Ok(directory.owner(&key("a"))));
    }

    #[test]
    fn a_publisher_is_kept_for_nobody_who_has_gone() {
        let directory = Directory::default();
        directory.claim(&key("a"), publisher(0)).expect("free");
        for shard in [1, 2] {
            directory.follow(&key("a"), shard).expect("room");
            directory.keep_for(&key("a"), shard, true);
        }
        directory.unfollow(&key("a"), 1);
        assert!(directory.is_kept(&key("a")));
        directory.unfollow(&key("a"), 2);
        assert!(!directory.is_kept(&key("a")));
    }

    #[test]
    fn nothing_is_remembered_for_ever() {
        let directory = Directory::default();
        let resume = Some(Resume { sent: 9, ended_at: Duration::from_secs(5) });
        for name in 0..1_000 {
            let key = key(&name.to_string());
            directory.follow(&key, 0).expect("room");
            let claim = directory.claim(&key, publisher(1)).expect("free");
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
            let claim = directory.claim(&key, publisher(1)).expect("free");
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
        let claim = directory.claim(&key("a"), publisher(1)).expect("free");
        directory.forget(&key("a"), Duration::from_secs(5));
        directory.release(&key("a"), claim.epoch, resume);
        directory.forget(&key("a"), Duration::from_secs(5));
        assert_eq!(directory.claim(&key("a"), publisher(0)).expect("free").resume, resume);
    }

    #[test]
    fn waited_names_are_bounded() {
        let directory = Directory::default();
        for name in 0..WAITED_NAMES_MAX {
            directory.follow(&key(&name.to_string()), 0).expect("room");
        }
        assert_eq!(directory.follow(&key("one more"), 0), Err(DirectoryError::Full));
        assert!(directory.claim(&key("one more"), publisher(0)).is_ok(), "publishing is another matter");
    }

    fn promise(directory: &Directory, name: &str, shard: usize) -> u64 {
        match directory.ask(&key(name), publisher(shard), |_| true) {
            Ok(Answer::Promised { heir, .. }) => heir,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_promised_name_goes_to_its_heir_alone_and_with_all_that_is_known_of_it() {
        let directory = Directory::default();
        let now = Duration::from_secs(7);
        let first = directory.claim(&key("a"), publisher(0)).expect("free");
        directory.follow(&key("a"), 4).expect("room");
        let heir = promise(&directory, "a", 1);
        assert!(heir > first.epoch);
        let again = directory.ask(&key("a"), publisher(2), |_| true);
        assert_eq!(again, Err(DirectoryError::Promised), "to one only");
        let early = directory.redeem(&key("a"), publisher(1), heir, now);
        assert!(matches!(early, Err(DirectoryError::Taken(owner)) if owner.epoch == first.epoch));
        assert!(directory.goes_on_after(&key("a"), first.epoch));
        let resume = Some(Resume { sent: 9, ended_at: now });
        directory.release(&key("a"), first.epoch, resume);
        assert!(directory.owner(&key("a")).is_none() && directory.is_taken(&key("a")));
        assert_eq!(directory.claim(&key("a"), publisher(2)), Err(DirectoryError::Promised));
        assert_eq!(directory.redeem(&key("a"), publisher(1), heir + 1, now), Err(DirectoryError::Promised));
        let second = directory.redeem(&key("a"), publisher(1), heir, now).expect("promised");
        assert_eq!(second, Claim { epoch: heir, followers: 1 << 4, resume });
        let owner = directory.owner(&key("a")).expect("somebody");
        assert_eq!((owner.shard, owner.took_over_at), (1, Some(now)));
        assert!(directory.goes_on_after(&key("a"), first.epoch) && !directory.goes_on_after(&key("a"), heir));
        directory.release(&key("a"), heir, None);
        directory.unfollow(&key("a"), 4);
        assert_eq!(directory.waited_names(), 0);
        assert!(directory.stripes.iter().all(|stripe| stripe.lock().unwrap().is_empty()));
    }

    #[test]
    fn a_promise_that_is_renounced_leaves_nothing_before_or_after_the_release() {
        for released in [false, true] {
            let directory = Directory::default();
            let first = directory.claim(&key("a"), publisher(0)).expect("free");
            let heir = promise(&directory, "a", 1);
            if released {
                directory.release(&key("a"), first.epoch, None);
                assert_eq!(directory.waited_names(), 1);
            }
            directory.renounce(&key("a"), heir + 1);
            assert!(directory.goes_on_after(&key("a"), first.epoch), "that is another's promise");
            directory.renounce(&key("a"), heir);
            assert!(!directory.goes_on_after(&key("a"), first.epoch));
            directory.release(&key("a"), first.epoch, None);
            assert_eq!(directory.waited_names(), 0);
            assert!(directory.stripes.iter().all(|stripe| stripe.lock().unwrap().is_empty()));
            assert!(directory.claim(&key("a"), publisher(2)).is_ok());
        }
    }
}
