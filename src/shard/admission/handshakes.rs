//! Connections of one shard that have not sent their `connect` yet.
//!
//! When there are too many, the oldest goes. Whoever is refused at a full table is anybody; the oldest of many is hardly ever a
//! client: that is done within a few round trips, and a crowd of silent peers would have to replace itself that fast to push it
//! out. Bounds: the limit, and one.

use std::collections::{BTreeMap, HashMap};

use super::super::conn::ConnId;

/// See the file's head.
#[derive(Debug, Default)]
pub(in super::super) struct Handshakes {
    by_age: BTreeMap<u64, ConnId>,
    ages: HashMap<ConnId, u64, foldhash::fast::RandomState>,
    begun: u64,
    /// 0 for any number.
    most: usize,
}

impl Handshakes {
    /// `most` of the process, which the shards have in equal parts.
    pub(in super::super) fn new(most: usize, shards: usize) -> Self {
        Self { most: most.div_ceil(shards.max(1)), ..Self::default() }
    }

    /// A connection begins. The one to close, if there are too many now.
    pub(in super::super) fn enter(&mut self, id: ConnId) -> Option<ConnId> {
        if self.most == 0 {
            return None;
        }
        self.leave(id);
        self.begun += 1;
        self.by_age.insert(self.begun, id);
        self.ages.insert(id, self.begun);
        if self.by_age.len() <= self.most {
            return None;
        }
        let (_, oldest) = self.by_age.pop_first()?;
        self.ages.remove(&oldest);
        Some(oldest)
    }

    /// It has connected, or ended.
    pub(in super::super) fn leave(&mut self, id: ConnId) {
        if let Some(age) = self.ages.remove(&id) {
            self.by_age.remove(&age);
        }
    }

    pub(in super::super) fn len(&self) -> usize {
        self.by_age.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes() {
        let mut handshakes = Handshakes::new(5, 2);
        assert_eq!([10, 11, 12].map(|id| handshakes.enter(id)), [None; 3]);
        assert_eq!(handshakes.enter(13), Some(10));
        handshakes.leave(11);
        handshakes.leave(10);
        assert_eq!((handshakes.enter(10), handshakes.len()), (None, 3));
        assert_eq!(handshakes.enter(14), Some(12));
        assert_eq!(handshakes.enter(15), Some(13));
        assert_eq!(handshakes.enter(16), Some(10), "a number used again is as young as its connection");
    }

    #[test]
    fn without_a_limit_nothing_is_kept() {
        let mut handshakes = Handshakes::new(0, 4);
        assert!((0..100).all(|id| handshakes.enter(id).is_none()));
        assert_eq!((handshakes.len(), handshakes.ages.len()), (0, 0));
    }
}
