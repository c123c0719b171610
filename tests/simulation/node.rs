//! A shard's driver without a runtime: the same tasks as the real one (read, write, wake players, keep time, wait for the bell), run in
//! an order and at moments chosen by the seed.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use shardcast::{
    egress::Piece,
    limits,
    shard::{
        close::CloseReason,
        conn::ConnId,
        core::{Core, Transmit},
        mesh::Bell,
        metrics::ShardMetrics,
    },
};

use crate::{link::Link, rng::Rng};

/// A doorbell that leaves a note.
pub(crate) struct NoteBell(pub Arc<AtomicBool>);

impl Bell for NoteBell {
    fn ring(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What the driver keeps of a connection.
#[derive(Debug)]
struct Slot {
    link: usize,
    reading: bool,
    /// The send in flight, and since when it has made no progress.
    sending: Option<(Piece, u64)>,
    parked: bool,
    woken: bool,
    writing: bool,
    /// Shut down both ways.
    shut: bool,
}

#[derive(Clone, Copy)]
enum Task {
    Read(ConnId),
    Write(ConnId),
    Time,
    Mail,
    Wake,
}

/// How sends complete.
#[derive(Clone, Copy)]
pub(crate) struct Sends {
    /// Percent of sends that take less than there is room for.
    pub(crate) short: u64,
}

pub(crate) struct Node {
    pub(crate) core: Core,
    pub(crate) metrics: Arc<ShardMetrics>,
    bell: Arc<AtomicBool>,
    /// It waits for its bell.
    waits: bool,
    slots: BTreeMap<ConnId, Slot>,
    sleeps_until: u64,
    next_tick: u64,
    /// Of each tick.
    busy_ms: u64,
    /// Not run before.
    pub(crate) starved_until: u64,
    sends: Sends,
}

fn ms(at: Duration) -> u64 {
    u64::try_from(at.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)
}

const TICK_MS: u64 = limits::TICK.as_millis() as u64;

impl Node {
    pub(crate) fn new(core: Core, metrics: Arc<ShardMetrics>, bell: Arc<AtomicBool>, sends: Sends) -> Self {
        Self {
            core,
            metrics,
            bell,
            waits: false,
            slots: BTreeMap::new(),
            sleeps_until: 0,
            next_tick: TICK_MS,
            busy_ms: 0,
            starved_until: 0,
            sends,
        }
    }

    /// The connections there are.
    pub(crate) fn connections(&self) -> Vec<String> {
        self.slots.values().map(|slot| format!("{slot:?}")).collect()
    }

    pub(crate) fn accept(&mut self, link: usize, now: u64) {
        self.core.advance(Duration::from_millis(now));
        let id = self.core.connect(std::net::SocketAddr::from(([127, 0, 0, 1], 1_000 + link as u16)));
        let slot = Slot { link, reading: true, sending: None, parked: false, woken: false, writing: true, shut: false };
        assert!(self.slots.insert(id, slot).is_none(), "the core reuses an id before the connection is removed");
        self.pass_on();
    }

    /// Runs some of what is ready. True if anything was.
    pub(crate) fn step(&mut self, now: u64, links: &mut [Link], rng: &mut Rng, all: bool) -> bool {
        let mut tasks: Vec<Task> = Vec::new();
        for (id, slot) in &self.slots {
            let link = &links[slot.link];
            let held = self.core.is_held(*id);
            let arrived = !held && (link.to_server.readable(now) || link.to_server.ended(now));
            if slot.reading && (arrived || (held && link.client_gone) || link.reset || slot.shut) {
                tasks.push(Task::Read(*id));
            }
            let can_send = link.to_client.room() > 0 || link.client_gone || slot.shut;
            if slot.writing && if slot.sending.is_some() { can_send } else { !slot.parked || slot.woken } {
                tasks.push(Task::Write(*id));
            }
        }
        if now >= self.sleeps_until {
            tasks.push(Task::Time);
        }
        if !self.waits || self.bell.load(Ordering::Relaxed) {
            tasks.push(Task::Mail);
        }
        if self.core.is_waking() {
            tasks.push(Task::Wake);
        }
        rng.shuffle(&mut tasks);
        let any = !tasks.is_empty();
        let run = if all { tasks.len() } else { rng.below(tasks.len() as u64 + 1) as usize };
        for task in &tasks[..run] {
            match *task {
                Task::Read(id) => self.read(id, now, links, rng),
                Task::Write(id) => self.write(id, now, links, rng),
                Task::Time => self.keep_time(now, rng),
                Task::Wake => {
                    self.core.advance(Duration::from_millis(now));
                    self.core.wake_more(1);
                    self.pass_on();
                }
                Task::Mail => {
                    self.bell.store(false, Ordering::Relaxed);
                    self.core.advance(Duration::from_millis(now));
                    self.waits = self.core.before_sleep();
                    self.pass_on();
                }
            }
        }
        self.note_publishers(now, links);
        any
    }

    fn note_publishers(&self, now: u64, links: &mut [Link]) {
        for (id, slot) in &self.slots {
            let (link, publishes) = (&mut links[slot.link], self.core.publishes(*id));
            if std::mem::replace(&mut link.publishes, publishes) && !publishes {
                link.unpublished_at = Some(now);
            }
        }
    }

    fn pass_on(&mut self) {
        for id in self.core.take_wakes().drain(..) {
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.woken = true;
            }
        }
        self.core.take_hurries().clear();
        self.core.take_holds().clear();
        for id in self.core.take_aborts().drain(..) {
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.shut = true;
            }
        }
        if ms(self.core.due_at()) < self.sleeps_until {
            self.sleeps_until = 0;
        }
    }

    fn keep_time(&mut self, now: u64, rng: &mut Rng) {
        self.core.advance(Duration::from_millis(now));
        self.core.timers();
        self.pass_on();
        if now >= self.next_tick {
            self.next_tick = now + TICK_MS;
            if rng.chance(5) {
                self.busy_ms = rng.below(TICK_MS + 1);
            }
            let ms = Duration::from_millis;
            self.core.note_load(ms(self.busy_ms), ms(TICK_MS));
            self.core.tick();
            self.pass_on();
        }
        self.sleeps_until = ms(self.core.due_at()).min(self.next_tick);
    }

    fn read(&mut self, id: ConnId, now: u64, links: &mut [Link], rng: &mut Rng) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let link = &mut links[slot.link];
        self.core.advance(Duration::from_millis(now));
        let mut budget = 1 + rng.below(200);
        let mut ended = None;
        if self.core.is_held(id) && link.client_gone {
            ended = Some(CloseReason::PeerClosed);
        }
        while budget > 0 && ended.is_none() && (!self.core.is_held(id) || slot.shut) {
            budget -= 1;
            if link.reset {
                ended = Some(CloseReason::PeerReset);
            } else if slot.shut || link.to_server.ended(now) {
                ended = Some(CloseReason::PeerClosed);
            } else if let Some(bytes) = link.to_server.read(now, limits::READ_BYTES) {
                link.read += bytes.len() as u64;
                if self.core.publishes(id) {
                    link.delivered = link.read;
                }
                self.core.receive(id, &bytes);
            } else {
                break;
            }
        }
        if let Some(reason) = ended {
            self.core.peer_closed(id, reason);
            slot.reading = false;
        }
        self.pass_on();
        self.remove_if_done(id, links);
    }

    fn write(&mut self, id: ConnId, now: u64, links: &mut [Link], rng: &mut Rng) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let link = &mut links[slot.link];
        self.core.advance(Duration::from_millis(now));
        slot.woken = false;
        slot.parked = false;
        let mut budget = 1 + rng.below(60);
        loop {
            if let Some((piece, since)) = slot.sending.take() {
                if link.client_gone || slot.shut {
                    self.core.peer_closed(id, CloseReason::PeerReset);
                } else if link.to_client.room() == 0 {
                    slot.sending = Some((piece, since));
                    break;
                } else {
                    let most = link.to_client.room().min(piece.len());
                    let short = rng.chance(self.sends.short);
                    let count = if short { 1 + rng.below(most as u64) as usize } else { most };
                    link.to_client.write(now, Bytes::copy_from_slice(&piece.as_slice()[..count]), rng);
                    slot.parked = self.core.sent(id, piece, count);
                }
                budget -= 1;
                if budget == 0 || slot.parked {
                    break;
                }
            }
            match self.core.transmit(id) {
                Transmit::Send(piece) => {
                    assert!(!piece.is_empty(), "an empty piece would never be reported as sent");
                    slot.sending = Some((piece, now));
                }
                Transmit::Park => {
                    slot.parked = true;
                    break;
                }
                Transmit::Close => {
                    slot.writing = false;
                    link.to_client.end(now, rng);
                    break;
                }
            }
        }
        self.pass_on();
        self.remove_if_done(id, links);
    }

    fn remove_if_done(&mut self, id: ConnId, links: &mut [Link]) {
        if self.slots.get(&id).is_some_and(|slot| !slot.reading && !slot.writing) {
            let slot = self.slots.remove(&id).expect("just seen");
            links[slot.link].removed = true;
            self.core.remove(id);
            self.pass_on();
        }
    }

    /// The longest a send has been waiting for room.
    pub(crate) fn longest_send(&self, now: u64) -> u64 {
        self.slots.values().filter_map(|slot| slot.sending.as_ref()).map(|(_, since)| now - since).max().unwrap_or(0)
    }
}
