//! How many players each stream has on all shards, while there is a limit to it. Touched when a player attaches or detaches.
//! Bounds: an entry per stream with players.

use std::{
    collections::HashMap,
    hash::BuildHasher,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::rtmp::key::StreamKey;

const STRIPES: usize = 64;

/// See the file's head.
#[derive(Debug)]
pub(super) struct Audiences {
    stripes: Box<[Mutex<HashMap<StreamKey, u32>>]>,
    hasher: foldhash::fast::FixedState,
}

impl Default for Audiences {
    fn default() -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hasher: foldhash::fast::FixedState::default(),
        }
    }
}

impl Audiences {
    pub(super) fn of(&self, key: &StreamKey) -> u32 {
        self.stripe(key).get(key).copied().unwrap_or(0)
    }

    pub(super) fn enter(&self, key: &StreamKey) {
        *self.stripe(key).entry(key.clone()).or_default() += 1;
    }

    pub(super) fn leave(&self, key: &StreamKey) {
        let mut stripe = self.stripe(key);
        let Some(players) = stripe.get_mut(key) else { return };
        *players = players.saturating_sub(1);
        if *players == 0 {
            stripe.remove(key);
        }
    }

    fn stripe(&self, key: &StreamKey) -> MutexGuard<'_, HashMap<StreamKey, u32>> {
        let index = self.hasher.hash_one(key) as usize % STRIPES;
        // A panic with the lock held ends the process; the map is sound in any case.
        self.stripes[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
