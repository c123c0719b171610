//! One simulated node: its shards, its clients, and the virtual time they live in.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use shardcast::{
    access::Takeover,
    rtmp::client::ClientRole,
    shard::{
        close::{CloseReason, RefuseReason},
        config::Config,
        core::{Core, Shared},
        merge::Merging,
        mesh::{self, Bell},
        metrics::ShardMetrics,
    },
    stream::{directory::Directory, segment::LogGauge},
};

use crate::{
    link::{Link, Wire},
    model::{Model, Play, Terms},
    node::{Node, NoteBell, Sends},
    peer::{Extra, Leave, Pace, Peer, Script},
    rng::Rng,
    source::Recipe,
};

/// What kind of trouble a seed makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// Everything that is ready runs at once: what comes late was forgotten.
    Prompt,
    /// Tasks run in any order, after any while.
    Loose,
    /// Shards are kept from running for so long that queues fill.
    Starved,
}

/// What a run has met, to be summed over the seeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) trace: u64,
    pub(crate) mesh_full: u64,
    pub(crate) mesh_messages: u64,
    pub(crate) skips: u64,
    pub(crate) evicted: u64,
    pub(crate) name_taken: u64,
    pub(crate) takeovers: u64,
    pub(crate) not_found: u64,
    pub(crate) received: u64,
    pub(crate) gaps: u64,
    /// Plays that went on from one publisher to the next.
    pub(crate) resumed: u64,
    pub(crate) ends_told: u64,
}

struct World {
    rng: Rng,
    now: u64,
    mood: Mood,
    config: Arc<Config>,
    directory: Arc<Directory>,
    gauge: LogGauge,
    nodes: Vec<Node>,
    links: Vec<Link>,
    peers: Vec<Peer>,
    /// Clients to come, the next one last.
    plan: Vec<(u64, Script)>,
    model: Model,
    fat: bool,
    streams: usize,
    /// Publishers that had left when time last passed.
    left: usize,
}

/// Lives through the node of `seed`; panics if anything is not as it must be. `loud`: says what happens.
pub(crate) fn run(seed: u64, loud: bool) -> Outcome {
    let mut world = World::new(seed);
    world.model.loud = loud;
    world.model.tell(|| format!("{:?} fat {} {:?}", world.mood, world.fat, world.config));
    world.live();
    world.end()
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mood = rng.pick(&[Mood::Prompt, Mood::Loose, Mood::Loose, Mood::Starved]);
        let ms = Duration::from_millis;
        let chunk_bytes = rng.pick(&[128, 500, 4_096, 60_000]);
        let config = Config {
            chunk_bytes,
            merging: match rng.pick(&[0, 0, 10, 40, 1_000]) {
                1_000 => Merging::Auto,
                window => Merging::Fixed(ms(window)),
            },
            hold_audio: ms(rng.pick(&[0, 0, 20])),
            gop_cache: rng.chance(75),
            gop_bytes_max: rng.pick(&[64 << 10, 256 << 10, 4 << 20, 32 << 20]),
            segment_bytes: rng.pick(&[1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10]),
            wakes_at_once: rng.pick(&[1, 2, 64]),
            lag_max: ms(rng.between(1_500, 4_000) + if mood == Mood::Starved { 2_000 } else { 0 }),
            join_wait: ms(rng.between(2_000, 8_000)),
            play_wait: ms(rng.pick(&[0, 0, 8_000, 30_000])),
            publisher_idle: ms(rng.pick(&[0, 3_000, 10_000])),
            unpublish_grace: ms(rng.pick(&[0, 300, 1_500, 3_000])),
            takeover: rng.pick(&[Takeover::Reject, Takeover::Replace]),
            ..Config::default()
        };
        let replaces = config.takeover == Takeover::Replace;
        let shards = rng.between(2, 4) as usize;
        let bells: Vec<_> = (0..shards).map(|_| Arc::new(AtomicBool::new(false))).collect();
        let notes = bells.iter().map(|bell| Box::new(NoteBell(bell.clone())) as Box<dyn Bell>).collect();
        let shared = Shared::new(config);
        let (config, directory, gauge) = (shared.config.clone(), shared.directory.clone(), shared.gauge.clone());
        let sends = Sends { short: rng.pick(&[0, 5, 40]) };
        let nodes = mesh::ports(notes).into_iter().zip(bells).map(|(port, bell)| {
            let metrics = Arc::new(ShardMetrics::default());
            Node::new(Core::new(&shared, port, metrics.clone(), seed), metrics, bell, sends)
        });
        let nodes = nodes.collect();
        let streams = rng.between(1, 3) as usize;
        let fat = mood != Mood::Prompt && rng.chance(25);
        let mut world = Self {
            rng,
            now: 0,
            mood,
            config,
            directory,
            gauge,
            nodes,
            links: Vec::new(),
            peers: Vec::new(),
            plan: Vec::new(),
            model: Model { streams: vec![Vec::new(); streams], replaces, ..Model::default() },
            fat,
            streams,
            left: 0,
        };
        world.make_plan();
        world
    }

    fn make_plan(&mut self) {
        let length = self.rng.between(10_000, 25_000);
        for stream in 0..self.streams {
            let mut at = self.rng.below(3_000);
            while at < length {
                let stay = self.rng.between(1_500, 12_000);
                let script = self.publisher(stream, at + stay);
                self.plan.push((at, script));
                // Those that replace each other come in crowds.
                let rivals = if self.model.replaces { self.rng.below(4) } else { u64::from(self.rng.chance(25)) };
                let rivals_at = at + self.rng.below(stay);
                for _ in 0..rivals {
                    let rival_at = rivals_at + self.rng.pick(&[0, 0, 20, 200, 1_200]);
                    let leave_at = rival_at + self.rng.pick(&[100, 1_000, 3_000]);
                    let script = self.publisher(stream, leave_at);
                    self.plan.push((rival_at, script));
                }
                let gaps = if self.mood == Mood::Starved { [10, 50, 200, 1_000] } else { [50, 300, 1_000, 5_000] };
                at += stay + self.rng.pick(&gaps);
            }
        }
        for _ in 0..self.rng.between(3, 10) {
            let at = self.rng.below(length);
            let stream = self.rng.below(self.streams as u64) as usize;
            let script = self.player(stream, at, length);
            self.plan.push((at, script));
        }
        self.plan.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    }

    fn publisher(&mut self, stream: usize, leave_at: u64) -> Script {
        let rng = &mut self.rng;
        let extra = if rng.chance(15) { Extra::Play(rng.below(self.streams as u64) as usize) } else { Extra::Nothing };
        let silent_from = leave_at.saturating_sub(rng.below(1_500));
        Script {
            role: ClientRole::Publish,
            stream,
            extra,
            leave_at,
            leave: rng.pick(&[Leave::Fin, Leave::Reset, Leave::Delete]),
            pace: Pace::Fast,
            whims: Vec::new(),
            chunk_bytes: rng.pick(&[128, 4_096, 60_000]),
            recipe: Recipe::draw(rng, self.fat, self.mood != Mood::Starved),
            silent: rng.chance(15).then(|| (silent_from, silent_from + rng.between(200, 1_400))),
            burst_ms: if self.mood == Mood::Prompt { 0 } else { rng.pick(&[0, 0, 50, 300]) },
        }
    }

    fn player(&mut self, stream: usize, at: u64, length: u64) -> Script {
        let rng = &mut self.rng;
        let extra = if rng.chance(20) { Extra::Play(rng.below(self.streams as u64) as usize) } else { Extra::Nothing };
        let pace = match rng.below(10) {
            0..=2 => Pace::BytesPerMs(rng.between(2, if self.fat { 100 } else { 40 })),
            3 => Pace::Until(at + rng.below(6_000)),
            _ => Pace::Fast,
        };
        let fickle = rng.chance(15);
        let whims = (0..if fickle { rng.between(1, 5) } else { 0 }).scan(at, |at, _| {
            *at += rng.between(100, 4_000);
            Some(*at)
        });
        let whims = whims.collect();
        Script {
            role: ClientRole::Play,
            stream,
            extra,
            leave_at: if rng.chance(30) { at + rng.between(10, 10_000) } else { length + 5_000 },
            leave: rng.pick(&[Leave::Fin, Leave::Reset, Leave::Delete]),
            pace,
            whims,
            chunk_bytes: 128,
            recipe: Recipe::draw(rng, false, true),
            silent: None,
            burst_ms: 0,
        }
    }

    fn live(&mut self) {
        let mut checked = 0;
        let mut quiet_since = None;
        loop {
            self.pass_time();
            while self.plan.last().is_some_and(|(at, _)| *at <= self.now) {
                let (_, script) = self.plan.pop().expect("just seen");
                self.arrive(script);
            }
            self.turn_peers();
            self.turn_nodes();
            if self.now >= checked + 250 {
                checked = self.now;
                self.check();
            }
            let quiet = self.plan.is_empty() && self.peers.iter().all(|peer| peer.gone);
            if quiet && *quiet_since.get_or_insert(self.now) + 25_000 < self.now {
                return;
            }
        }
    }

    fn pass_time(&mut self) {
        let most = match self.mood {
            Mood::Prompt => 3,
            Mood::Loose => 12,
            Mood::Starved => 20,
        };
        self.now += if self.peers.iter().all(|peer| peer.gone) && self.plan.is_empty() {
            25
        } else {
            self.rng.between(1, most)
        };
        let left = self.model.sessions.iter().filter(|session| session.left_at.is_some()).count();
        // A change of publishers is when it matters most.
        let likely = if std::mem::replace(&mut self.left, left) < left { 60 } else { 5 };
        if self.mood == Mood::Starved && self.rng.chance(likely) {
            let node = self.rng.below(self.nodes.len() as u64) as usize;
            let node = &mut self.nodes[node];
            if node.starved_until + 1_500 < self.now {
                node.starved_until = self.now + self.rng.between(50, 1_200);
            }
        }
    }

    fn slack_ms(&self) -> u64 {
        match self.mood {
            Mood::Prompt => 400,
            Mood::Loose => 2_000,
            Mood::Starved => 4_500,
        }
    }

    fn arrive(&mut self, script: Script) {
        let slack_ms = self.slack_ms();
        let now = self.now;
        let rng = &mut self.rng;
        let delay_ms = if self.mood == Mood::Prompt { 0 } else { rng.pick(&[0, 5, 40]) };
        let slow = !matches!(script.pace, Pace::Fast);
        let up =
            Wire { capacity: usize::MAX, segment: if self.fat { 20_000 } else { rng.pick(&[50, 1_400]) }, delay_ms };
        let capacity = if slow { rng.between(500, 60_000) as usize } else { 8 << 20 };
        let down = Wire { capacity, segment: if self.fat { 65_000 } else { rng.pick(&[50, 1_400, 65_000]) }, delay_ms };
        let link = self.links.len();
        self.links.push(Link::new(up, down));
        let node = rng.below(self.nodes.len() as u64) as usize;
        self.nodes[node].accept(link, self.now);
        let merge = match self.config.merging {
            Merging::Auto => self.config.delay_target,
            Merging::Fixed(window) => window.max(self.config.hold_audio),
        };
        let merge = merge.as_millis() as u64;
        let terms = Terms {
            fast: !slow,
            fickle: !script.whims.is_empty(),
            latency_ms: (self.mood == Mood::Prompt).then_some(merge + 30),
            join_wait_ms: self.config.join_wait.as_millis() as u64,
            grace_ms: self.config.unpublish_grace.as_millis() as u64,
            slack_ms,
            joins_last: self.config.gop_bytes_max >= 4 << 20,
        };
        let role = if script.role == ClientRole::Play { "player" } else { "publisher" };
        let name = format!("{role} {link} on shard {node}");
        self.model.tell(|| {
            let Script { stream, extra, leave_at, leave, pace, whims, recipe, .. } = &script;
            format!(
                "{} ms: {name}: stream {stream}, {extra:?}, {leave:?} at {leave_at}, {pace:?}, {whims:?}, {recipe:?}",
                self.now
            )
        });
        let peer =
            Peer::new(name, script, link, |name, stream, id| Play::new(name, stream, id, terms, now), self.now, rng);
        self.peers.push(peer);
    }

    fn turn_peers(&mut self) {
        for peer in &mut self.peers {
            peer.step(self.now, &mut self.links[peer.link], &mut self.model, &mut self.rng);
        }
    }

    fn turn_nodes(&mut self) {
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        let mut rounds = 0;
        loop {
            self.rng.shuffle(&mut order);
            let mut busy = false;
            for index in &order {
                let node = &mut self.nodes[*index];
                if node.starved_until > self.now || (self.mood != Mood::Prompt && self.rng.chance(30)) {
                    continue;
                }
                busy |= node.step(self.now, &mut self.links, &mut self.rng, self.mood == Mood::Prompt);
                for peer in &mut self.peers {
                    peer.note_taken(self.now, &self.links[peer.link], &mut self.model);
                }
            }
            if self.mood != Mood::Prompt {
                return;
            }
            if !busy {
                break;
            }
            rounds += 1;
            assert!(rounds < 10_000, "the shards never come to rest at {} ms", self.now);
        }
        self.turn_peers();
    }

    fn check(&mut self) {
        for node in &self.nodes {
            let longest = node.longest_send(self.now);
            assert!(longest < 10_000 + 2_000 + self.slack_ms(), "a send has been stuck for {longest} ms");
        }
        for peer in self.peers.iter().filter(|peer| !peer.is_leaving()) {
            for play in &peer.plays {
                play.must_be_current(self.now, &self.model);
            }
        }
    }

    /// Everybody has left: nothing may be left of them.
    fn end(mut self) -> Outcome {
        self.model.check_offsets();
        let mut outcome = Outcome::default();
        let closed = |metrics: &ShardMetrics, reason| metrics.closed(reason).get();
        for (index, node) in self.nodes.iter().enumerate() {
            let metrics = &node.metrics;
            assert_eq!(node.connections(), [""; 0], "shard {index} still has connections");
            assert_eq!(metrics.connections.get(), 0, "shard {index} counts connections");
            assert_eq!(metrics.publishers.get(), 0, "shard {index} counts publishers");
            assert_eq!(metrics.players.get(), 0, "shard {index} counts players");
            assert_eq!(metrics.players_waiting.get(), 0, "shard {index} counts waiting players");
            assert_eq!(node.core.due_at(), Duration::MAX, "shard {index} has something left to tell");
            outcome.mesh_full += metrics.mesh_full.get();
            outcome.mesh_messages += metrics.mesh_messages.get();
            outcome.skips += metrics.skips.get();
            outcome.evicted += closed(metrics, CloseReason::NoProgress)
                + closed(metrics, CloseReason::LagBytes)
                + closed(metrics, CloseReason::Skips);
            outcome.takeovers += metrics.takeovers.get();
            outcome.name_taken += metrics.refused(RefuseReason::NameTaken).get();
            outcome.not_found += metrics.refused(RefuseReason::NotFound).get();
        }
        assert_eq!(self.gauge.bytes(), 0, "bytes of logs nobody needs");
        assert_eq!(self.directory.waited_names(), 0, "names nobody waits for");
        for play in self.peers.iter().flat_map(|peer| &peer.plays) {
            outcome.received += play.received;
            outcome.gaps += play.gaps;
            outcome.resumed += play.sessions_seen.saturating_sub(1);
            outcome.ends_told += u64::from(play.told_end.is_some());
        }
        for (index, link) in self.links.iter().enumerate() {
            assert!(link.removed, "connection {index} is still held");
        }
        self.model.trace(&[self.now]);
        outcome.trace = self.model.trace;
        outcome
    }
}
