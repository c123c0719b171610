//! Pull and push on a shard: the connections that [`crate::relay`]'s state machines order, and what comes of them.
//!
//! Each stream has a home, a shard that a hash of its name picks: all that is pulled or pushed of it goes through the home,
//! so a node has one upstream connection per stream and source, however many shards have players. `demand` is how other
//! shards tell the home that they have players; `pull` and `pulling` write the log of what comes in, as a publisher's shard
//! does; `push` follows a stream as a player's shard does, each target with a cursor of its own; `legs` are the connections.
//!
//! Bounds: [`PULLS_MAX`](crate::limits::PULLS_MAX) pulls a shard, a handful of legs each; as many pushes as the streams
//! published have targets in the configuration. Driven by [`Core`]: connections tell it what happened as it happens,
//! deadlines are looked at each tick.

mod demand;
mod handover;
mod legs;
mod prelude;
mod pull;
mod pulling;
mod push;
mod rate;
pub mod report;

use std::{collections::HashMap, hash::BuildHasher, net::SocketAddr, sync::Arc};

use slab::Slab;

pub(super) use self::demand::Demand;
use self::{pull::Pull, push::Push};
use super::{close::CloseReason, config::Config, conn::ConnId, core::Core, predecessor::Predecessor};
use crate::{
    relay::{
        health::HealthBook,
        puller::Leg,
        rules::{PullRule, RelayRules},
    },
    rtmp::{capabilities::Capabilities, key::StreamKey},
};

/// A node's successor among hops: no node is called so.
const SUCCESSOR_HOP: &str = "(successor)";

/// What a leg belongs to, on its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RelayId {
    Pull(usize),
    Push(usize),
}

/// A connection to another node, or one attempt at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LegId {
    pub(super) relay: RelayId,
    pub(super) leg: Leg,
}

/// Where a stream comes from, as far as nodes that it is passed to want to know.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Provenance {
    /// Nodes it has passed, this one not among them.
    pub hops: Box<[String]>,
    /// What its publisher said it can do.
    pub capabilities: Option<Capabilities>,
    /// Who publishes it here.
    pub publisher: Option<SocketAddr>,
}

/// See the file's head.
#[derive(Debug)]
pub(super) struct Relays {
    rules: Arc<RelayRules>,
    /// The process before this one, and how its streams are pulled: those that no rule is for.
    predecessor: Option<(Arc<Predecessor>, PullRule)>,
    shards: usize,
    hasher: foldhash::fast::FixedState,
    health: HealthBook,
    pulls: Slab<Pull>,
    pull_of: HashMap<StreamKey, usize, foldhash::fast::RandomState>,
    pushes: Slab<Push>,
    /// Legs whose connections were closed, by whomever, since they were looked at.
    closed: Vec<(LegId, ConnId, CloseReason)>,
    /// What is to be asked for its orders.
    restless: Vec<RelayId>,
    started: bool,
}

impl Relays {
    pub(super) fn new(config: &Config, shards: usize, seed: u64) -> Self {
        Self {
            rules: Arc::new(config.relays.clone()),
            predecessor: config.predecessor.clone().map(|known| (known, PullRule::predecessor())),
            shards,
            hasher: foldhash::fast::FixedState::default(),
            health: HealthBook::new(seed),
            pulls: Slab::new(),
            pull_of: HashMap::default(),
            pushes: Slab::new(),
            closed: Vec::new(),
            restless: Vec::new(),
            started: false,
        }
    }

    /// The shard through which all that is pulled and pushed of a stream goes.
    pub(super) fn home(&self, key: &StreamKey) -> usize {
        // A remainder: there are fewer shards than a usize holds.
        (self.hasher.hash_one(key) % self.shards.max(1) as u64) as usize
    }

    /// The rule by which a stream is pulled, if there is one.
    pub(super) fn pull_rule(&self, key: &StreamKey) -> Option<&PullRule> {
        let inherited = || self.predecessor.as_ref().filter(|(known, _)| !known.is_gone()).map(|(_, rule)| rule);
        self.rules.pull(key).or_else(inherited)
    }

    /// Whether the operator wants it pulled from other nodes: if they do not have it nobody has.
    pub(super) fn comes_from_elsewhere(&self, key: &StreamKey) -> bool {
        self.rules.pull(key).is_some()
    }

    /// Whether there was a process before this one that has ended.
    fn is_predecessor_gone(&self) -> bool {
        self.predecessor.as_ref().is_some_and(|(known, _)| known.is_gone())
    }

    /// Whether a process before this one may have streams.
    pub(super) fn has_predecessor(&self) -> bool {
        self.predecessor.as_ref().is_some_and(|(known, _)| !known.is_gone())
    }

    /// Whether a stream is to be pushed anywhere.
    pub(super) fn is_pushed(&self, key: &StreamKey) -> bool {
        self.rules.pushes.iter().any(|rule| rule.pattern.matches(key))
    }

    /// How this node calls itself.
    pub(super) fn node(&self) -> &str {
        &self.rules.node
    }

    /// The nodes that a stream with `hops` behind it has passed once it has left this one.
    fn hops_with_ours(&self, hops: &[String]) -> Vec<String> {
        hops.iter().cloned().chain([self.rules.node.clone()]).collect()
    }

    /// The nodes behind a pull. The process before this one has this node's name, and would take its own for a circle.
    fn hops_of(&self, pull: &Pull) -> Vec<String> {
        match pull.inherited {
            true => pull.provenance.hops.iter().cloned().chain([SUCCESSOR_HOP.to_owned()]).collect(),
            false => self.hops_with_ours(&pull.provenance.hops),
        }
    }

    fn rouse(&mut self, relay: RelayId) {
        if !self.restless.contains(&relay) {
            self.restless.push(relay);
        }
    }

    /// A leg's connection has been closed.
    pub(super) fn note_closed(&mut self, leg: LegId, id: ConnId, reason: CloseReason) {
        self.closed.push((leg, id, reason));
    }

    /// Nothing is pulled or pushed, nor remembered.
    #[cfg(all(test, not(loom)))]
    pub(super) fn is_empty(&self) -> bool {
        self.pulls.is_empty() && self.pull_of.is_empty() && self.pushes.is_empty() && self.closed.is_empty()
    }
}

impl Core {
    /// Carries out what relays order after something happened. Costs nothing while nothing has.
    pub(super) fn drive_relays(&mut self) {
        loop {
            while let Some((leg, id, reason)) = self.relays.closed.pop() {
                self.leg_closed(leg, id, reason);
            }
            match self.relays.restless.pop() {
                Some(RelayId::Pull(index)) => self.drive_pull(index),
                Some(RelayId::Push(index)) => self.drive_push(index),
                None if self.relays.closed.is_empty() => return,
                None => {}
            }
        }
    }

    /// Looks at the relays' deadlines. Called at ticks.
    pub(super) fn tick_relays(&mut self) {
        if !std::mem::replace(&mut self.relays.started, true) {
            self.start_always_on();
        }
        for index in self.relays.pulls.iter().map(|(index, _)| index).collect::<Vec<_>>() {
            self.tick_pull(index);
        }
        self.note_push_rates();
        let now = self.time.now();
        let due = |push: &Push| push.is_due(now);
        for index in self.relays.pushes.iter().filter(|(_, push)| due(push)).map(|(index, _)| index).collect::<Vec<_>>()
        {
            self.relays.rouse(RelayId::Push(index));
        }
        self.drive_relays();
    }

    /// The orderly end: what is pulled ends as what is published does. What is pushed gets its last messages first.
    pub(super) fn end_relays(&mut self) {
        for index in self.relays.pulls.iter().map(|(index, _)| index).collect::<Vec<_>>() {
            self.drop_pull(index);
        }
        self.drop_pushes_under_way();
    }
}
