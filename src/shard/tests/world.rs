//! Nodes joined in memory: what one dials is a connection of another, and time passes for all at once.

use std::time::Duration;

use super::rig::Rig;
use crate::{
    limits::TICK,
    relay::upstream::Endpoint,
    shard::{
        close::CloseReason,
        config::Config,
        conn::ConnId,
        core::Transmit,
        dial::{Dial, DialError, Stage},
    },
};

/// One side of a connection between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    node: usize,
    core: usize,
    id: ConnId,
}

#[derive(Debug)]
struct Link {
    ends: [End; 2],
    parked: [bool; 2],
    open: [bool; 2],
    /// Nothing passes, and nobody is told.
    silent: bool,
}

/// What a node does when it is dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Well,
    /// Connections are refused.
    Down,
    /// Dials get no answer.
    Unreachable,
    /// Connections are accepted and never served.
    Silent,
}

pub(super) struct World {
    pub(super) nodes: Vec<Rig>,
    pub(super) health: Vec<Health>,
    links: Vec<Link>,
    /// Dials that get no answer: who waits, and until when.
    waiting: Vec<(End, Duration)>,
    /// Connections made to each node.
    pub(super) dialled: Vec<usize>,
}

impl World {
    /// Nodes called `n0`, `n1` and so on, with so many cores each; dial them by these names.
    pub(super) fn new(nodes: usize, cores: usize, configure: impl Fn(usize, &mut Config)) -> Self {
        let node = |index: usize| {
            Rig::with(cores, |config| {
                config.relays.node = format!("n{index}");
                configure(index, config);
            })
        };
        Self {
            nodes: (0..nodes).map(node).collect(),
            health: vec![Health::Well; nodes],
            links: Vec::new(),
            waiting: Vec::new(),
            dialled: vec![0; nodes],
        }
    }

    pub(super) fn pass_ms(&mut self, ms: u64) {
        let until = self.nodes[0].now + Duration::from_millis(ms);
        while self.nodes[0].now < until {
            let now = (self.nodes[0].now + TICK).min(until);
            for node in &mut self.nodes {
                node.tick(now);
            }
            self.settle();
        }
    }

    /// Lets everybody act until none has anything to do.
    pub(super) fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 10_000, "they never rest");
            self.nodes.iter_mut().for_each(Rig::settle);
            let busy = self.answer_dials() | self.hear_cores() | self.carry();
            if !busy {
                return;
            }
        }
    }

    /// Connections between nodes that are open on both sides.
    pub(super) fn links(&self) -> usize {
        self.links.iter().filter(|link| link.open == [true, true]).count()
    }

    /// A node's connections break, or go silent.
    pub(super) fn strike(&mut self, node: usize, silent: bool) {
        for index in 0..self.links.len() {
            let link = &mut self.links[index];
            if !link.ends.iter().any(|end| end.node == node) || link.open != [true, true] {
                continue;
            }
            if silent {
                link.silent = true;
                continue;
            }
            for side in 0..2 {
                self.lose(index, side, CloseReason::PeerReset);
            }
        }
        self.settle();
    }

    fn lose(&mut self, index: usize, side: usize, reason: CloseReason) {
        let End { node, core, id } = self.links[index].ends[side];
        if std::mem::take(&mut self.links[index].open[side]) {
            self.nodes[node].cores[core].peer_closed(id, reason);
            self.nodes[node].cores[core].remove(id);
        }
    }

    fn answer_dials(&mut self) -> bool {
        let mut busy = false;
        for node in 0..self.nodes.len() {
            for (core, dial) in std::mem::take(&mut self.nodes[node].dials) {
                busy = true;
                self.answer(End { node, core, id: dial.id }, &dial);
            }
        }
        let now = self.nodes[0].now;
        for (from, _) in self.waiting.extract_if(.., |(_, until)| *until <= now).collect::<Vec<_>>() {
            busy = true;
            self.refuse(
                from,
                &DialError::TimedOut {
                    to: "nowhere".to_owned(),
                    stage: Stage::Connect { addresses: 1 },
                    patience: Duration::ZERO,
                },
            );
        }
        busy
    }

    fn refuse(&mut self, from: End, error: &DialError) {
        let core = &mut self.nodes[from.node].cores[from.core];
        core.dial_failed(from.id, error);
        core.remove(from.id);
    }

    fn answer(&mut self, from: End, dial: &Dial) {
        let Endpoint::Tcp { host, .. } = &dial.to else { unreachable!("only names are dialled") };
        let to: usize = host.trim_start_matches('n').parse().expect("a node's name");
        self.dialled[to] += 1;
        match self.health[to] {
            Health::Down => {
                self.refuse(from, &DialError::Refused { to: host.clone(), address: None });
            }
            Health::Unreachable => self.waiting.push((from, self.nodes[0].now + dial.patience)),
            health => {
                let core = self.links.len() % self.nodes[to].cores.len();
                let id = self.nodes[to].cores[core].connect(([10, 0, 0, from.node as u8], 1).into());
                self.nodes[from.node].cores[from.core].dialed(from.id, ([10, 0, 0, to as u8], 1_935).into());
                let ends = [from, End { node: to, core, id }];
                let silent = health == Health::Silent;
                self.links.push(Link { ends, parked: [false; 2], open: [true; 2], silent });
            }
        }
    }

    /// Wakes and aborts of connections between nodes.
    fn hear_cores(&mut self) -> bool {
        let mut busy = false;
        for node in 0..self.nodes.len() {
            for (core, id) in std::mem::take(&mut self.nodes[node].woken) {
                if let Some((index, side)) = self.find(End { node, core, id }) {
                    busy = true;
                    self.links[index].parked[side] = false;
                }
            }
            for (core, id) in std::mem::take(&mut self.nodes[node].aborted) {
                busy = true;
                let end = End { node, core, id };
                match self.find(end) {
                    Some((index, side)) => self.end(index, side),
                    None => {
                        self.waiting.retain(|(waiting, _)| *waiting != end);
                        self.nodes[node].cores[core].remove(id);
                    }
                }
            }
        }
        busy
    }

    fn find(&self, end: End) -> Option<(usize, usize)> {
        let at = |(index, link): (usize, &Link)| {
            (0..2).find(|side| link.open[*side] && link.ends[*side] == end).map(|side| (index, side))
        };
        self.links.iter().enumerate().find_map(at)
    }

    /// One side has closed: the other learns it, unless the way is silent.
    fn end(&mut self, index: usize, side: usize) {
        let End { node, core, id } = self.links[index].ends[side];
        if std::mem::take(&mut self.links[index].open[side]) {
            self.nodes[node].cores[core].remove(id);
            if !self.links[index].silent {
                self.lose(index, 1 - side, CloseReason::PeerClosed);
            }
        }
    }

    /// Takes what each side has to send to the other.
    fn carry(&mut self) -> bool {
        let mut busy = false;
        for index in 0..self.links.len() {
            for side in 0..2 {
                while self.links[index].open[side] && !self.links[index].parked[side] {
                    busy = true;
                    self.carry_one(index, side);
                }
            }
        }
        busy
    }

    fn carry_one(&mut self, index: usize, side: usize) {
        let End { node, core, id } = self.links[index].ends[side];
        let to = self.links[index].ends[1 - side];
        let sender = &mut self.nodes[node].cores[core];
        match sender.transmit(id) {
            Transmit::Send(piece) => {
                let bytes = piece.as_slice().to_vec();
                self.links[index].parked[side] = sender.sent(id, piece, bytes.len());
                if !self.links[index].silent && self.links[index].open[1 - side] {
                    self.nodes[to.node].cores[to.core].receive(to.id, &bytes);
                }
            }
            Transmit::Park => self.links[index].parked[side] = true,
            Transmit::Close => self.end(index, side),
        }
    }
}
