//! A bounded single-producer single-consumer queue.
//!
//! Owns its slots; a slot belongs to the producer while `tail - head < capacity` admits it and to the consumer once
//! `tail` has passed it. `unsafe`: the cells are shared. Loom checks that no slot is ever touched by both.

use std::mem::MaybeUninit;

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicUsize, Ordering, UnsafeCell};

pub(super) struct Queue<T> {
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
    /// Items ever popped; written by the consumer. `head <= tail <= head + slots.len()`, modulo the word.
    head: CachePadded<AtomicUsize>,
    /// Items ever pushed; written by the producer.
    tail: CachePadded<AtomicUsize>,
}

// SAFETY: items move from one thread to another through the slots; `head` and `tail` hand each slot over with
// release/acquire, so no two threads touch it at once.
unsafe impl<T: Send> Sync for Queue<T> {}
// SAFETY: as above; the queue owns its items.
unsafe impl<T: Send> Send for Queue<T> {}

impl<T> Queue<T> {
    /// `capacity` is a power of two.
    pub(super) fn new(capacity: usize) -> Self {
        debug_assert!(capacity.is_power_of_two());
        Self {
            slots: (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
            head: CachePadded::new(AtomicUsize::new(0)),
            tail: CachePadded::new(AtomicUsize::new(0)),
        }
    }

    pub(super) fn has_room(&self) -> bool {
        let tail = self.tail.load(Ordering::Relaxed);
        tail.wrapping_sub(self.head.load(Ordering::Acquire)) < self.slots.len()
    }

    /// Appends `item`, or hands it back if the queue is full.
    ///
    /// # Safety
    /// No other thread pushes at the same time.
    pub(super) unsafe fn push(&self, item: T) -> Result<(), T> {
        if !self.has_room() {
            return Err(item);
        }
        let tail = self.tail.load(Ordering::Relaxed);
        // SAFETY: there is room, so the consumer has left this slot; the caller is the only producer.
        self.slots[tail & (self.slots.len() - 1)].with_mut(|slot| unsafe { (*slot).write(item) });
        self.tail.store(tail.wrapping_add(1), Ordering::Release);
        Ok(())
    }

    /// Takes the oldest item.
    ///
    /// # Safety
    /// No other thread pops at the same time.
    pub(super) unsafe fn pop(&self) -> Option<T> {
        let head = self.head.load(Ordering::Relaxed);
        if self.tail.load(Ordering::Acquire) == head {
            return None;
        }
        // SAFETY: `tail` is beyond this slot, so the producer has filled it and left it; the caller is the only consumer.
        let item = self.slots[head & (self.slots.len() - 1)].with(|slot| unsafe { (*slot).assume_init_read() });
        self.head.store(head.wrapping_add(1), Ordering::Release);
        Some(item)
    }
}

impl<T> Drop for Queue<T> {
    fn drop(&mut self) {
        // SAFETY: `&mut self`: nobody else has the queue.
        while unsafe { self.pop() }.is_some() {}
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_stress_of_two_threads_loses_and_reorders_nothing() {
        let total = if cfg!(miri) { 500 } else { 200_000 };
        let queue = Queue::new(8);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for item in 0..total {
                    let mut item = Box::new(item);
                    // SAFETY: the only producer.
                    while let Err(back) = unsafe { queue.push(item) } {
                        item = back;
                        std::thread::yield_now();
                    }
                }
            });
            let mut next = 0;
            while next < total {
                // SAFETY: the only consumer.
                match unsafe { queue.pop() } {
                    Some(item) => {
                        assert_eq!(*item, next);
                        next += 1;
                    }
                    None => std::thread::yield_now(),
                }
            }
        });
    }

    #[test]
    fn what_is_left_is_dropped() {
        let item = std::sync::Arc::new(());
        let queue = Queue::new(4);
        // SAFETY: one thread.
        assert!(unsafe { queue.push(item.clone()) }.is_ok());
        drop(queue);
        assert_eq!(std::sync::Arc::strong_count(&item), 1);
    }
}

#[cfg(all(test, loom))]
mod tests {
    use super::*;
    use crate::sync::Arc;

    /// More items than slots, so that slots are used again.
    #[test]
    fn loom_items_cross_whole_and_in_order() {
        loom::model(|| {
            let queue = Arc::new(Queue::new(2));
            let consumer = {
                let queue = queue.clone();
                // SAFETY: the only consumer.
                loom::thread::spawn(move || (0..3).filter_map(|_| unsafe { queue.pop() }).collect::<Vec<u32>>())
            };
            // SAFETY: the only producer.
            let pushed = (0..3).take_while(|item| unsafe { queue.push(*item) }.is_ok()).count();
            let mut got = consumer.join().unwrap();
            // SAFETY: the consumer has ended.
            got.extend(std::iter::from_fn(|| unsafe { queue.pop() }));
            assert_eq!(got, (0..pushed as u32).collect::<Vec<_>>());
        });
    }
}
