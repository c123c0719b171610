//! Nodes joined in memory: what one dials is a connection of another, and time passes for all at once.

use std::{collections::VecDeque, time::Duration};

use super::{
    liar::{Liar, Lie},
    rig::Rig,
};
use crate::{
    egress::Piece,
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
    /// Sends that never complete, as the way is silent.
    stuck: [Option<Piece>; 2],
    /// On its way from each side.
    under_way: [VecDeque<(Duration, Parcel)>; 2],
    /// What is dialled, if it is not the node's core.
    liar: Option<Box<Liar>>,
}

#[derive(Debug)]
enum Parcel {
    Bytes(Vec<u8>),
    /// The sender has closed.
    End,
}

/// How long connections between nodes take, and how they deliver.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Way {
    pub(super) delay: Duration,
    /// Bytes taken and delivered at a time; 0: all at once.
    pub(super) piece_bytes: usize,
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
    /// Connections are served, but not as they should be.
    Lying(Lie),
}

pub(super) struct World {
    pub(super) nodes: Vec<Rig>,
    pub(super) health: Vec<Health>,
    links: Vec<Link>,
    /// Dials that get no answer: who waits, and until when.
    waiting: Vec<(End, Duration)>,
    /// Connections made to each node.
    pub(super) dialled: Vec<usize>,
    pub(super) way: Way,
}

impl World {
    /// Nodes called `n0`, `n1` and so on, with so many cores each; dial them by these names.
    pub(super) fn new(nodes: usize, cores: usize, configure: impl Fn(usize, &mut Config)) -> Self {
        Self::of(&vec![cores; nodes], configure)
    }

    /// As [`new`](Self::new), with the cores of each node.
    pub(super) fn of(cores: &[usize], configure: impl Fn(usize, &mut Config)) -> Self {
        let node = |(index, cores): (usize, &usize)| {
            Rig::with(*cores, |config| {
                config.relays.node = format!("n{index}");
                configure(index, config);
            })
        };
        Self {
            nodes: cores.iter().enumerate().map(node).collect(),
            health: vec![Health::Well; cores.len()],
            links: Vec::new(),
            waiting: Vec::new(),
            dialled: vec![0; cores.len()],
            way: Way::default(),
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
            let busy = self.answer_dials() | self.hear_cores() | self.carry() | self.deliver();
            if !busy {
                self.links.retain(|link| link.open != [false; 2]);
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
        if std::mem::take(&mut self.links[index].open[side]) && !self.links[index].is_liar(side) {
            let core = &mut self.nodes[node].cores[core];
            core.peer_closed(id, reason);
            // Its id may be another's from now on.
            core.take_aborts().retain(|aborted| *aborted != id);
            core.remove(id);
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
                self.nodes[from.node].cores[from.core].dialed(from.id, ([10, 0, 0, to as u8], 1_935).into());
                let (liar, at) = match health {
                    Health::Lying(lie) => (Some(Liar::new(lie, self.nodes[0].now)), (usize::MAX, usize::MAX)),
                    _ => {
                        let core = self.dialled[to] % self.nodes[to].cores.len();
                        (None, (core, self.nodes[to].cores[core].connect(([10, 0, 0, from.node as u8], 1).into())))
                    }
                };
                self.links.push(Link {
                    ends: [from, End { node: to, core: at.0, id: at.1 }],
                    parked: [false; 2],
                    open: [true; 2],
                    silent: health == Health::Silent,
                    stuck: [None, None],
                    under_way: Default::default(),
                    liar: liar.map(Box::new),
                });
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
        let due = self.nodes[0].now + self.way.delay;
        let link = &mut self.links[index];
        let End { node, core, id } = link.ends[side];
        if std::mem::take(&mut link.open[side]) {
            link.stuck[side] = None;
            link.under_way[side].push_back((due, Parcel::End));
            if !link.is_liar(side) {
                self.nodes[node].cores[core].remove(id);
            }
        }
    }

    /// Takes what each side has to send.
    fn carry(&mut self) -> bool {
        let mut busy = false;
        for index in 0..self.links.len() {
            for side in 0..2 {
                if self.links[index].is_liar(side) {
                    busy |= self.carry_lies(index);
                    continue;
                }
                while self.links[index].sends(side) {
                    busy = true;
                    self.carry_one(index, side);
                }
            }
        }
        busy
    }

    fn carry_one(&mut self, index: usize, side: usize) {
        let Way { delay, piece_bytes } = self.way;
        let due = self.nodes[0].now + delay;
        let link = &mut self.links[index];
        let End { node, core, id } = link.ends[side];
        let sender = &mut self.nodes[node].cores[core];
        match sender.transmit(id) {
            Transmit::Send(piece) if link.silent => link.stuck[side] = Some(piece),
            Transmit::Send(piece) => {
                let count = if piece_bytes == 0 { piece.len() } else { piece.len().min(piece_bytes) };
                link.under_way[side].push_back((due, Parcel::Bytes(piece.as_slice()[..count].to_vec())));
                link.parked[side] = sender.sent(id, piece, count);
            }
            Transmit::Park => link.parked[side] = true,
            Transmit::Close => self.end(index, side),
        }
    }

    fn carry_lies(&mut self, index: usize) -> bool {
        let now = self.nodes[0].now;
        let link = &mut self.links[index];
        let Some(liar) = link.liar.as_mut().filter(|_| link.open[1]) else { return false };
        let lies = liar.speak(now);
        let busy = !lies.is_empty();
        if busy {
            link.under_way[1].push_back((now + self.way.delay, Parcel::Bytes(lies)));
        }
        busy
    }

    /// Gives each side what has arrived.
    fn deliver(&mut self) -> bool {
        let now = self.nodes[0].now;
        let mut busy = false;
        for index in 0..self.links.len() {
            for from in 0..2 {
                while let Some(parcel) = self.links[index].arrived(from, now) {
                    busy = true;
                    self.deliver_one(index, 1 - from, parcel);
                }
            }
        }
        busy
    }

    fn deliver_one(&mut self, index: usize, side: usize, parcel: Parcel) {
        let now = self.nodes[0].now;
        let Parcel::Bytes(bytes) = parcel else {
            self.lose(index, side, CloseReason::PeerClosed);
            return;
        };
        let link = &mut self.links[index];
        let End { node, core, id } = link.ends[side];
        if !link.open[side] {
            return;
        }
        if let Some(liar) = link.liar.as_mut().filter(|_| side == 1) {
            liar.hear(&bytes, now);
        } else {
            self.nodes[node].cores[core].receive(id, &bytes);
        }
    }
}

impl Link {
    fn is_liar(&self, side: usize) -> bool {
        side == 1 && self.liar.is_some()
    }

    fn sends(&self, side: usize) -> bool {
        self.open[side] && !self.parked[side] && self.stuck[side].is_none()
    }

    fn arrived(&mut self, from: usize, now: Duration) -> Option<Parcel> {
        let is_due = !self.silent && self.under_way[from].front().is_some_and(|(due, _)| *due <= now);
        if is_due { self.under_way[from].pop_front().map(|(_, parcel)| parcel) } else { None }
    }
}
