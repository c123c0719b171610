//! The mesh: how shards talk. One bounded queue per ordered pair, one doorbell per shard, no locks.
//!
//! A shard owns a [`Port`]. [`Port::send`] never waits: a full queue hands the message back and the sender tries again
//! later. Doorbells are rung once per batch ([`Port::ring`]) and only for shards that sleep. Queues are allocated when
//! first used. Bounds: [`MESH_QUEUE_MESSAGES`] per queue.

mod doorbell;
pub mod message;
mod queue;

use std::sync::OnceLock;

use crossbeam_utils::CachePadded;

pub use self::doorbell::Bell;
use self::{doorbell::Doorbell, message::MeshMessage, queue::Queue};
use crate::limits::MESH_QUEUE_MESSAGES;

/// The shared part: all queues and doorbells of a process.
pub struct Mesh {
    shards: usize,
    /// By `from * shards + to`.
    queues: Box<[OnceLock<Queue<MeshMessage>>]>,
    doorbells: Box<[CachePadded<Doorbell>]>,
}

impl std::fmt::Debug for Mesh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mesh").field("shards", &self.shards).finish_non_exhaustive()
    }
}

/// One shard's end of the mesh.
#[derive(Debug)]
pub struct Port {
    mesh: std::sync::Arc<Mesh>,
    shard: usize,
    /// Shards sent to since the last ring.
    unrung: u64,
    /// Senders whose queues may hold something.
    inbox: u64,
}

/// Ports for as many shards as there are bells: `bells[i]` wakes shard `i`.
pub fn ports(bells: Vec<Box<dyn Bell>>) -> Vec<Port> {
    let shards = bells.len();
    let mesh = std::sync::Arc::new(Mesh {
        shards,
        queues: (0..shards * shards).map(|_| OnceLock::new()).collect(),
        doorbells: bells.into_iter().map(|bell| CachePadded::new(Doorbell::new(bell))).collect(),
    });
    (0..shards).map(|shard| Port { mesh: mesh.clone(), shard, unrung: 0, inbox: 0 }).collect()
}

impl Port {
    pub fn shard(&self) -> usize {
        self.shard
    }

    pub fn shards(&self) -> usize {
        self.mesh.shards
    }

    /// Whether `to` can take a message now. True until this shard sends: it is the queue's only producer.
    pub fn has_room(&self, to: usize) -> bool {
        self.mesh.queues[self.shard * self.mesh.shards + to].get().is_none_or(Queue::has_room)
    }

    /// Queues a message for `to`, or hands it back because the queue is full.
    pub fn send(&mut self, to: usize, message: MeshMessage) -> Result<(), MeshMessage> {
        let queue =
            self.mesh.queues[self.shard * self.mesh.shards + to].get_or_init(|| Queue::new(MESH_QUEUE_MESSAGES));
        // SAFETY: a port is the only producer of the queues from its shard, and `&mut self` makes this the only call.
        unsafe { queue.push(message) }?;
        self.mesh.doorbells[to].announce(self.shard);
        self.unrung |= 1 << to;
        Ok(())
    }

    /// Wakes the shards sent to since the last call that are asleep. Returns how many had to be.
    pub fn ring(&mut self) -> u64 {
        let mut rung = 0;
        while self.unrung != 0 {
            let to = self.unrung.trailing_zeros() as usize;
            self.unrung &= self.unrung - 1;
            rung += u64::from(self.mesh.doorbells[to].ring());
        }
        rung
    }

    /// The next message for this shard and its sender.
    pub fn receive(&mut self) -> Option<(usize, MeshMessage)> {
        self.inbox |= self.mesh.doorbells[self.shard].take();
        while self.inbox != 0 {
            let from = self.inbox.trailing_zeros() as usize;
            if let Some(queue) = self.mesh.queues[from * self.mesh.shards + self.shard].get() {
                // SAFETY: a port is the only consumer of the queues to its shard, and `&mut self` makes this the only call.
                if let Some(message) = unsafe { queue.pop() } {
                    return Some((from, message));
                }
            }
            self.inbox &= self.inbox - 1;
        }
        None
    }

    /// Says that this shard is about to wait for its bell. False if there is something to receive first.
    pub fn sleep(&mut self) -> bool {
        self.inbox == 0 && self.mesh.doorbells[self.shard].sleep()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::rtmp::key::StreamKey;

    struct Silent;

    impl Bell for Silent {
        fn ring(&self) {}
    }

    fn announce(epoch: u64) -> MeshMessage {
        MeshMessage::Announce {
            key: StreamKey::new("", "live", "a").expect("valid"),
            epoch,
            provenance: std::sync::Arc::default(),
        }
    }

    #[test]
    fn messages_arrive_in_order_from_each_sender_and_a_full_queue_hands_back() {
        let mut ports = ports(vec![Box::new(Silent), Box::new(Silent), Box::new(Silent)]);
        for epoch in 0..MESH_QUEUE_MESSAGES as u64 {
            ports[0].send(2, announce(epoch)).expect("room");
        }
        assert!(!ports[0].has_room(2));
        assert!(ports[0].send(2, announce(99)).is_err());
        ports[1].send(2, announce(7)).expect("room");
        let mut from_first = Vec::new();
        let mut from_second = Vec::new();
        while let Some((from, MeshMessage::Announce { epoch, .. })) = ports[2].receive() {
            if from == 0 { from_first.push(epoch) } else { from_second.push(epoch) }
        }
        assert_eq!(from_first, (0..MESH_QUEUE_MESSAGES as u64).collect::<Vec<_>>());
        assert_eq!(from_second, [7]);
        assert!(ports[0].has_room(2));
    }

    #[test]
    fn only_sleepers_are_rung_and_only_once() {
        let mut ports = ports(vec![Box::new(Silent), Box::new(Silent)]);
        ports[0].send(1, announce(1)).expect("room");
        assert_eq!(ports[0].ring(), 0, "it is awake");
        assert!(!ports[1].sleep(), "there is mail");
        assert!(ports[1].receive().is_some() && ports[1].receive().is_none());
        assert!(ports[1].sleep());
        ports[0].send(1, announce(2)).expect("room");
        ports[0].send(1, announce(3)).expect("room");
        assert_eq!(ports[0].ring(), 1);
        ports[0].send(1, announce(4)).expect("room");
        assert_eq!(ports[0].ring(), 0, "it is being woken");
    }
}
