//! Jobs that wait for their turn: one of each address by turns, so that who asks for much waits behind itself.
//!
//! Bounds: those of the queue that the jobs came through; an address without jobs is forgotten.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    net::IpAddr,
};

/// See the file's head.
#[derive(Debug)]
pub(super) struct Turns<T> {
    /// None is empty.
    waiting: HashMap<IpAddr, VecDeque<T>>,
    /// Each address that has jobs, once.
    order: VecDeque<IpAddr>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { waiting: HashMap::new(), order: VecDeque::new() }
    }
}

impl<T> Turns<T> {
    /// How many jobs of an address wait.
    pub(super) fn count(&self, address: IpAddr) -> usize {
        self.waiting.get(&address).map_or(0, VecDeque::len)
    }

    pub(super) fn push(&mut self, address: IpAddr, job: T) {
        match self.waiting.entry(address) {
            Entry::Occupied(mut waiting) => waiting.get_mut().push_back(job),
            Entry::Vacant(vacant) => {
                vacant.insert(VecDeque::from([job]));
                self.order.push_back(address);
            }
        }
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let address = self.order.pop_front()?;
        let Entry::Occupied(mut waiting) = self.waiting.entry(address) else { return None };
        let job = waiting.get_mut().pop_front();
        if waiting.get().is_empty() {
            waiting.remove();
        } else {
            self.order.push_back(address);
        }
        job
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_take_turns_and_each_keeps_its_order() {
        let [a, b, c] = [1, 2, 3].map(|last| IpAddr::from([192, 0, 2, last]));
        let mut turns = Turns::default();
        for (address, job) in [(a, "a1"), (a, "a2"), (a, "a3"), (b, "b1"), (c, "c1"), (c, "c2")] {
            turns.push(address, job);
        }
        assert_eq!([a, b, c].map(|address| turns.count(address)), [3, 1, 2]);
        assert_eq!([turns.pop(), turns.pop()], [Some("a1"), Some("b1")]);
        turns.push(b, "b2");
        let left: Vec<_> = std::iter::from_fn(|| turns.pop()).collect();
        assert_eq!(left, ["c1", "a2", "b2", "c2", "a3"]);
        assert!(turns.waiting.is_empty() && turns.order.is_empty());
    }
}
