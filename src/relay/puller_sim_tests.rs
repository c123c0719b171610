//! A puller among sources that die, stall, lie, end and come back, on virtual time, by the seed.
//!
//! The world here is what a host and the network would be: it does what is ordered, and checks at each order that it may be
//! given. Each run ends with a quiet time in which one source is well, another one in which all are, and one in which
//! nobody wants the stream.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use super::{
    backoff::Chance,
    health::HealthBook,
    puller::{Fault, Heard, Leg, Order, Puller},
    rules::Timing,
    template::Template,
};
use crate::{
    limits::{
        BACK_OFF_FIRST, BACK_OFF_MAX, MISS_MEMORY_MAX, RELAY_STEADY, RETURN_FIRST, RETURN_PATIENCE, RETURN_PROOF,
    },
    rtmp::key::StreamKey,
};

const SEEDS: Range<u64> = 0..400;
const FRAME: Duration = Duration::from_millis(100);
/// Frames from one keyframe to the next.
const GOP: u64 = 10;
const LATENCY: Duration = Duration::from_millis(30);
const LINGER: Duration = Duration::from_secs(4);

/// What a source is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Well,
    /// Refuses connections.
    Closed,
    /// Takes no notice, also of who is connected.
    BlackHole,
    /// Accepts and sends nothing.
    Silent,
    /// Says that it does not have the stream, also to those it served.
    NotFound,
    /// Accepts, sends a few messages and breaks.
    Flimsy,
    /// Sends media that nobody can start at.
    Headless,
    /// Says that the stream ended.
    Ended,
}

const MOODS: [Mood; 8] = [
    Mood::Well,
    Mood::Closed,
    Mood::BlackHole,
    Mood::Silent,
    Mood::NotFound,
    Mood::Flimsy,
    Mood::Headless,
    Mood::Ended,
];

/// A leg as the world has it.
#[derive(Debug)]
struct Link {
    source: usize,
    connected: bool,
    frames: u64,
    due: Duration,
}

struct World {
    seed: u64,
    chance: Chance,
    now: Duration,
    puller: Puller,
    health: HealthBook,
    moods: Vec<Mood>,
    links: BTreeMap<Leg, Link>,
    live: Option<Leg>,
    stopped: bool,
    wanted: bool,
    /// The source that serves asked us to go elsewhere.
    moving: bool,
    /// When each source was opened, the newest last, and whether and how often a leg was live then.
    opened: Vec<Vec<(Duration, bool, u64)>>,
    went_live: u64,
    switched_back: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let sources = 1 + (chance.next() % 4) as usize;
        let key = StreamKey::new("", "live", "show").unwrap();
        let upstreams = (0..sources).map(|n| Template::parse(&format!("rtmp://n{n}")).unwrap().fill(&key)).collect();
        Self {
            seed,
            now: Duration::from_secs(chance.next() % 1_000),
            puller: Puller::new(upstreams, Timing::default(), LINGER, chance.next()),
            health: HealthBook::new(chance.next()),
            moods: vec![Mood::Closed; sources],
            links: BTreeMap::new(),
            live: None,
            stopped: true,
            wanted: false,
            opened: vec![Vec::new(); sources],
            moving: false,
            went_live: 0,
            switched_back: 0,
            chance,
        }
    }

    fn pick(&mut self, from: u64) -> u64 {
        self.chance.next() % from
    }

    fn shuffle_moods(&mut self) {
        for source in 0..self.moods.len() {
            if self.pick(2) == 0 {
                self.moods[source] = MOODS[self.pick(MOODS.len() as u64) as usize];
            }
        }
    }

    /// Takes the orders there are.
    fn obey(&mut self) {
        let seed = self.seed;
        for count in 0.. {
            assert!(count < 20, "seed {seed}: no end of orders");
            let Some(order) = self.puller.next(self.now, &mut self.health) else { break };
            assert!(!self.stopped, "seed {seed}: {order:?} after Stop");
            match order {
                Order::Open { leg, source } => self.open(leg, source),
                Order::Close { leg } => {
                    assert!(self.links.remove(&leg).is_some(), "seed {seed}: closes {leg}, which is not open");
                    self.live = self.live.filter(|live| *live != leg);
                }
                Order::GoLive { leg } => {
                    let source = self.links.get(&leg).map(|link| link.source);
                    let source = source.unwrap_or_else(|| panic!("seed {seed}: {leg} goes live, which is not open"));
                    if let Some(old) = self.live.and_then(|live| self.links.get(&live)) {
                        self.switched_back += u64::from(source < old.source);
                        let moves = self.moving && source == old.source;
                        assert!(source < old.source || moves, "seed {seed}: leaves a source that serves");
                    }
                    self.live = Some(leg);
                    self.went_live += 1;
                }
                Order::Missing => {
                    assert!(self.live.is_none() && self.links.is_empty(), "seed {seed}: missing, but asked for");
                    assert!(self.puller.is_missing(self.now), "seed {seed}");
                }
                Order::Stop => {
                    assert!(self.links.is_empty() && !self.wanted, "seed {seed}: stops too early");
                    self.stopped = true;
                }
            }
        }
        assert!(self.links.len() <= 2, "seed {seed}: {} legs", self.links.len());
        assert_eq!(self.puller.live(), self.live, "seed {seed}");
        let deadline = self.puller.deadline();
        assert!(deadline.is_none_or(|deadline| deadline > self.now), "seed {seed}: spins at {deadline:?}");
        assert!(deadline.is_some() || self.stopped, "seed {seed}: hangs");
    }

    fn open(&mut self, leg: Leg, source: usize) {
        let seed = self.seed;
        let before = &self.opened[source];
        let is_live = self.live.is_some();
        if let Some((last, was_live, went_live)) = before.last().copied() {
            let nothing_works = !is_live && !was_live && went_live == self.went_live;
            let pause = self.now - last;
            assert!(!nothing_works || pause >= BACK_OFF_FIRST / 2, "seed {seed}: asks {source} again after {pause:?}");
        }
        // Whatever works for moments only: once to take over, once to come back, once in the round after a loss.
        let third = before.iter().rev().nth(2).map(|(last, ..)| self.now - *last);
        assert!(third.is_none_or(|pause| pause >= BACK_OFF_FIRST / 2), "seed {seed}: asks {source} without pause");
        self.opened[source].push((self.now, is_live, self.went_live));
        let link = Link { source, connected: false, frames: 0, due: self.now + LATENCY };
        assert!(self.links.insert(leg, link).is_none(), "seed {seed}: {leg} again");
    }

    /// What the links have to say until `now`.
    fn speak(&mut self) {
        let due: Vec<Leg> = self.links.iter().filter(|(_, link)| link.due <= self.now).map(|(leg, _)| *leg).collect();
        for leg in due {
            let Some(link) = self.links.get_mut(&leg) else { continue };
            let mood = self.moods[link.source];
            link.due = self.now + FRAME;
            let heard = match (mood, link.connected) {
                (Mood::BlackHole, _) | (Mood::Silent, true) => continue,
                (Mood::Closed, false) => Heard::Failed(Fault::Unreachable),
                (Mood::Closed, true) => Heard::Failed(Fault::Broken),
                (_, false) => {
                    link.connected = true;
                    Heard::Connected
                }
                (Mood::NotFound, true) => Heard::Failed(Fault::NotFound),
                (Mood::Ended, true) => Heard::Ended,
                (Mood::Flimsy, true) if link.frames > 3 => Heard::Failed(Fault::Broken),
                (Mood::Well | Mood::Flimsy | Mood::Headless, true) => {
                    link.frames += 1;
                    Heard::Media { begins: mood != Mood::Headless && link.frames % GOP == 1 }
                }
            };
            if let Heard::Failed(_) = heard {
                self.links.remove(&leg);
                self.live = self.live.filter(|live| *live != leg);
            }
            self.puller.hear(leg, heard, self.now, &mut self.health);
            self.obey();
        }
    }

    /// Lets time pass, in steps of whatever is due next.
    fn pass(&mut self, time: Duration) {
        self.pass_until(time, |_| false);
    }

    fn pass_until(&mut self, time: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + time;
        loop {
            self.obey();
            if done(self) {
                return true;
            }
            let next = self.links.values().map(|link| link.due).chain(self.puller.deadline()).min();
            match next {
                Some(next) if next <= end => self.now = self.now.max(next),
                _ => {
                    self.now = end;
                    return false;
                }
            }
            self.obey();
            self.speak();
        }
    }

    fn want(&mut self) {
        self.wanted = true;
        self.stopped = false;
        self.puller.want(self.now);
        self.obey();
    }

    fn unwant(&mut self) {
        self.wanted = false;
        self.puller.unwant(self.now);
        self.obey();
    }

    fn be_moved(&mut self) {
        if let Some(live) = self.live {
            self.moving = true;
            self.puller.moved(live, self.now);
            self.obey();
        }
    }

    fn run(&mut self) {
        let seed = self.seed;
        for _ in 0..30 {
            match self.pick(8) {
                0 => self.unwant(),
                1..=3 => self.want(),
                4 => self.be_moved(),
                _ => self.shuffle_moods(),
            }
            let time = Duration::from_millis(self.pick(8_000));
            self.pass(time);
        }
        self.want();
        let sources = self.moods.len();
        let one = self.pick(sources as u64) as usize;
        for source in (0..sources).filter(|source| *source != one) {
            if matches!(self.moods[source], Mood::Well | Mood::Headless | Mood::Flimsy) {
                self.moods[source] = Mood::BlackHole;
            }
        }
        self.moods[one] = Mood::Well;
        // The pause that is under way, and then every other source's time-outs.
        let each = Timing::default().connect + Timing::default().first_byte;
        let bound = BACK_OFF_MAX + each * sources as u32 + FRAME;
        let serves = |world: &Self, source| world.live.is_some_and(|live| world.links[&live].source == source);
        assert!(self.pass_until(bound, |world| serves(world, one)), "seed {seed}: not live though {one} is well");
        self.pass(RELAY_STEADY + FRAME);
        assert!(serves(self, one), "seed {seed}: lost a source that is well");

        self.detects_in_time(one);
        self.moods.fill(Mood::Well);
        let bound = (BACK_OFF_MAX + RETURN_FIRST + each) * 2 + RETURN_PROOF + FRAME * 2 * GOP as u32;
        assert!(self.pass_until(bound, |world| serves(world, 0)), "seed {seed}: does not return to its primary");
        self.pass(RETURN_PATIENCE);
        assert!(serves(self, 0), "seed {seed}: lost its primary");
        let attempts = self.puller.report().attempts;
        self.pass(RETURN_PATIENCE);
        assert_eq!(self.puller.report().attempts, attempts, "seed {seed}: restless");

        self.unwant();
        self.pass(LINGER);
        assert!(self.stopped && self.links.is_empty(), "seed {seed}: goes on unwanted");
        assert!(self.puller.deadline().is_none());
        self.now += MISS_MEMORY_MAX * 2;
        assert!(self.puller.is_idle(self.now), "seed {seed}");
    }

    /// The source that serves is lost, and one after it is well: live again within a time-out and a connect, if the others
    /// are known to be out of reach.
    fn detects_in_time(&mut self, one: usize) {
        let seed = self.seed;
        let Some(other) = (0..self.moods.len()).find(|source| *source != one) else { return };
        for source in 0..self.moods.len() {
            self.moods[source] = if source == other { Mood::Well } else { Mood::BlackHole };
        }
        for (source, upstream) in self.puller.sources().iter().enumerate() {
            if source == other {
                self.health.well(&upstream.endpoint);
            } else {
                self.health.failed(&upstream.endpoint, self.now + Timing::default().stall);
            }
        }
        let bound = Timing::default().stall + LATENCY + FRAME * 3;
        let lost = self.live;
        let again = |world: &Self| world.live.is_some() && world.live != lost;
        assert!(self.pass_until(bound, again), "seed {seed}: {:?} after {lost:?}", self.puller.report());
    }
}

#[test]
fn whatever_sources_do_a_wanted_stream_is_sought_with_measure_and_found() {
    let one = std::env::var("PULLER_SEED").ok().and_then(|seed| seed.parse().ok());
    let (mut went_live, mut switched_back) = (0, 0);
    for seed in one.map_or(SEEDS, |seed| seed..seed + 1) {
        let mut world = World::new(seed);
        world.run();
        went_live += world.went_live;
        switched_back += world.switched_back;
    }
    if one.is_none() {
        assert!(went_live > SEEDS.end * 4 && switched_back > SEEDS.end / 4, "{went_live} {switched_back}");
    }
}

#[test]
fn a_seed_means_the_same_each_time() {
    let run = |seed| {
        let mut world = World::new(seed);
        world.run();
        (world.now, world.opened, world.went_live)
    };
    assert_eq!(run(9), run(9));
}

#[test]
fn ten_thousand_who_ask_for_a_missing_stream_cause_one_attempt_per_pause() {
    let mut world = World::new(1);
    world.moods.fill(Mood::NotFound);
    let begin = world.now;
    for asked in 0..10_000 {
        let at = begin + Duration::from_millis(asked);
        let time = at.saturating_sub(world.now);
        world.pass(time);
        if !world.puller.is_missing(world.now) {
            world.want();
        }
        if asked % 7 == 0 {
            world.unwant();
        }
    }
    for opened in &world.opened {
        let pauses: Vec<_> = opened.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        assert!(opened.len() > 2 && pauses.iter().all(|pause| *pause >= BACK_OFF_FIRST / 2), "{pauses:?}");
    }
}
