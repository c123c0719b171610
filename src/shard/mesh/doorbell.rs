//! A doorbell: how a sleeping shard learns that a queue is not empty, without a system call when it is awake.
//!
//! Consumer: set `sleeping`, fence, look again, then wait for the bell. Producer: push, mark, fence, read `sleeping`. With
//! both fences sequentially consistent one of the two sees the other; loom checks it.

use crate::sync::{AtomicBool, AtomicU64, Ordering, fence};

/// What makes a shard's wait end: an eventfd, or a note in a simulation.
pub trait Bell: Send + Sync {
    fn ring(&self);
}

pub(super) struct Doorbell {
    /// Senders whose queue to this shard may not be empty, by bit.
    mail: AtomicU64,
    sleeping: AtomicBool,
    bell: Box<dyn Bell>,
}

impl Doorbell {
    pub(super) fn new(bell: Box<dyn Bell>) -> Self {
        Self { mail: AtomicU64::new(0), sleeping: AtomicBool::new(false), bell }
    }

    /// Producer, after its push: `from` has mail for this shard.
    pub(super) fn announce(&self, from: usize) {
        self.mail.fetch_or(1 << from, Ordering::Release);
    }

    /// Producer, after a batch: wakes the shard if it sleeps. True if it did.
    pub(super) fn ring(&self) -> bool {
        fence(Ordering::SeqCst);
        let sleeping = self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::AcqRel);
        if sleeping {
            self.bell.ring();
        }
        sleeping
    }

    /// Consumer: senders with mail since the last call. The shard counts as awake from here on.
    pub(super) fn take(&self) -> u64 {
        if self.mail.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        self.mail.swap(0, Ordering::Acquire)
    }

    /// Consumer: announces that it will wait for the bell. False if mail came first.
    pub(super) fn sleep(&self) -> bool {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.mail.load(Ordering::Acquire) == 0 {
            return true;
        }
        self.sleeping.store(false, Ordering::Relaxed);
        false
    }
}

#[cfg(all(test, loom))]
mod tests {
    use super::*;
    use crate::sync::Arc;

    struct Flag(Arc<AtomicBool>);

    impl Bell for Flag {
        fn ring(&self) {
            self.0.store(true, Ordering::Release);
        }
    }

    /// A consumer that goes to sleep is rung if it missed the mail: never both asleep and with mail and no bell.
    #[test]
    fn loom_no_wake_is_lost() {
        loom::model(|| {
            let rung = Arc::new(AtomicBool::new(false));
            let doorbell = Arc::new(Doorbell::new(Box::new(Flag(rung.clone()))));
            let producer = {
                let doorbell = doorbell.clone();
                loom::thread::spawn(move || {
                    doorbell.announce(0);
                    doorbell.ring();
                })
            };
            let slept = doorbell.sleep();
            producer.join().unwrap();
            if slept {
                assert!(rung.load(Ordering::Acquire), "asleep with mail and no bell");
            }
            assert_eq!(doorbell.take(), 1);
        });
    }
}
