//! Plays a scene: nodes, publishers and players as drawn, a step of one frame at a time, and takes down what happened.

use std::time::Duration;

use super::{
    content::{AUDIO_AFTER_MS, Content, FRAME_MS, GOP, Session},
    scene::{BACKUP, EDGE, Event, PRIMARY, SHIELD, STEPS_PER_SECOND, Scene, TARGET, Trouble},
};
use crate::{
    relay::rules::Timing,
    rtmp::{client::ClientRole, message::Kind},
    shard::{
        close::{CloseReason, RefuseReason},
        relaying::RelayId,
        tests::{
            relays::{pulls, pushes},
            rig::Heard,
            world::{Health, World},
        },
    },
};

/// A player, and what became of it.
#[derive(Debug)]
pub(super) struct Player {
    pub(super) node: usize,
    pub(super) joined: usize,
    /// It left by itself, or the end has come.
    pub(super) left: usize,
    /// It was disconnected, and what it was told last.
    pub(super) closed: Option<String>,
    pub(super) heard: Vec<Heard>,
}

/// What happened, step by step.
#[derive(Debug)]
pub(super) struct Played<'s> {
    pub(super) scene: &'s Scene,
    /// By step and node: it serves whoever connects, and nothing befell it.
    pub(super) well: Vec<[bool; 5]>,
    /// By step and node: its publisher is on air.
    pub(super) on_air: Vec<[bool; 5]>,
    /// By step and node: connections to other nodes begun so far.
    pub(super) dials: Vec<[u64; 5]>,
    pub(super) players: Vec<Player>,
    /// Players refused because nobody had the stream.
    pub(super) missing: u64,
    pub(super) most_legs: usize,
}

struct Publisher {
    peer: usize,
    session: Session,
    /// Step at which its clock shows `base`.
    began: usize,
    base: u32,
    has_begun: bool,
}

struct Seat {
    node: usize,
    core: usize,
    peer: usize,
    joined: usize,
    /// Asks again if it is refused.
    stays: bool,
}

struct Stage<'s> {
    scene: &'s Scene,
    world: World,
    publishers: [Option<Publisher>; 3],
    sessions: [u8; 3],
    seats: Vec<Seat>,
    /// Who is to ask again, and when.
    anew: Vec<(usize, usize, usize)>,
    struck: [bool; 5],
    step: usize,
    played: Played<'s>,
}

const STREAM: &str = "show";

pub(super) fn play(scene: &Scene) -> Played<'_> {
    let mut stage = Stage::new(scene);
    let mut events = scene.events.iter().copied().peekable();
    for step in 0..scene.steps {
        stage.step = step;
        while let Some((_, event)) = events.next_if(|(at, _)| *at <= step) {
            stage.happen(event);
        }
        stage.ask_anew();
        stage.broadcast();
        stage.world.pass_ms(FRAME_MS.into());
        stage.observe();
    }
    stage.end()
}

fn world(scene: &Scene) -> World {
    let mut world = World::of(&scene.cores, |node, config| {
        config.gop_cache = scene.gop_cache;
        let source = |node: usize| format!("rtmp://n{node}/live/{{stream}}");
        let sources = match node {
            EDGE if scene.past_shield => vec![source(SHIELD), source(BACKUP)],
            EDGE if scene.shielded => vec![source(SHIELD)],
            EDGE => vec![source(PRIMARY), source(BACKUP)],
            SHIELD if scene.shielded => vec![source(PRIMARY), source(BACKUP)],
            _ => vec![],
        };
        if !sources.is_empty() {
            pulls(config, "live/*", &sources.iter().map(String::as_str).collect::<Vec<_>>());
            config.relays.pulls[0].linger = scene.linger;
            if node == EDGE && scene.shielded {
                // The shield takes its time to find out which of its sources has the stream.
                let Timing { connect, first_byte, stall } = Timing::default();
                let first_byte = (connect + first_byte) * 2;
                config.relays.timing = Timing { connect, first_byte, stall: stall + first_byte };
            }
        }
        if scene.pushes == Some(node) {
            pushes(config, "live/*", &[&source(TARGET)]);
        }
        if node == TARGET {
            config.play_wait = Duration::ZERO;
        }
    });
    world.way = scene.way;
    world
}

impl<'s> Stage<'s> {
    fn new(scene: &'s Scene) -> Self {
        let mut stage = Self {
            scene,
            world: world(scene),
            publishers: [None, None, None],
            sessions: [0; 3],
            seats: Vec::new(),
            anew: Vec::new(),
            struck: [false; 5],
            step: 0,
            played: Played {
                scene,
                well: Vec::new(),
                on_air: Vec::new(),
                dials: Vec::new(),
                players: Vec::new(),
                missing: 0,
                most_legs: 0,
            },
        };
        stage.go_on_air(PRIMARY);
        stage.go_on_air(BACKUP);
        if let Some(pushes) = scene.pushes {
            stage.sit(pushes, 0, true);
            stage.sit(TARGET, 0, true);
        }
        stage
    }

    fn happen(&mut self, event: Event) {
        tracing::info!(step = self.step, ?event);
        match event {
            Event::Strike(node, trouble) => self.strike(node, trouble),
            Event::Heal(node) => {
                self.world.health[node] = Health::Well;
                if (node == PRIMARY || node == BACKUP) && self.publishers[node].is_none() {
                    self.go_on_air(node);
                }
            }
            Event::PublisherLeaves(node) => self.go_off_air(node),
            Event::PublisherReturns(node) => self.go_on_air(node),
            Event::PlayerComes { core } => self.sit(EDGE, core, false),
            Event::PlayerLeaves { which } => {
                let there: Vec<usize> = (0..self.seats.len()).filter(|seat| !self.seats[*seat].stays).collect();
                if let Some(seat) = there.get(which % there.len().max(1)) {
                    let seat = self.seats.remove(*seat);
                    self.world.nodes[seat.node].lose(seat.peer, CloseReason::PeerReset);
                    self.world.settle();
                    self.take_down(&seat, None);
                }
            }
        }
    }

    fn strike(&mut self, node: usize, trouble: Trouble) {
        self.struck[node] = true;
        self.world.health[node] = match trouble {
            Trouble::Refuses | Trouble::Dies => Health::Down,
            Trouble::Silent => Health::Silent,
            Trouble::BlackHole => Health::Unreachable,
            Trouble::Lies(lie) => Health::Lying(lie),
        };
        match trouble {
            Trouble::Refuses => {}
            Trouble::Dies => {
                self.world.strike(node, false);
                if node == PRIMARY || node == BACKUP {
                    self.go_off_air(node);
                }
            }
            Trouble::Silent | Trouble::BlackHole => self.world.strike(node, true),
            Trouble::Lies(_) => self.world.strike(node, false),
        }
    }

    fn go_on_air(&mut self, node: usize) {
        let peer = self.world.nodes[node].connect(0, ClientRole::Publish, STREAM);
        self.world.settle();
        assert_eq!(self.world.nodes[node].peers[peer].events, ["Publishing"]);
        self.sessions[node] += 1;
        let header = if self.scene.same_headers { 0 } else { node as u8 };
        let session = Session { origin: node as u8, number: self.sessions[node], header };
        let restarts = self.scene.clock_restarts && session.number > 1;
        // Far from any other clock: near ones would be taken for one that is shared.
        let elsewhere =
            self.scene.base[node].wrapping_add(300_000_000 * u32::from(session.number) + 100_000_000 * node as u32);
        let (began, base) = if restarts { (self.step, elsewhere) } else { (0, self.scene.base[node]) };
        self.publishers[node] = Some(Publisher { peer, session, began, base, has_begun: false });
        for (kind, content) in [
            (Kind::Data, Content::Metadata),
            (Kind::Video, Content::Header(header)),
            (Kind::Audio, Content::Header(header)),
        ] {
            let timestamp = base.wrapping_add((self.step - began) as u32 * FRAME_MS);
            self.world.nodes[node].peers[peer].session.send_media(kind, timestamp, &content.payload(kind));
        }
    }

    fn go_off_air(&mut self, node: usize) {
        if let Some(publisher) = self.publishers[node].take() {
            self.world.nodes[node].lose(publisher.peer, CloseReason::PeerReset);
            self.world.settle();
        }
    }

    fn sit(&mut self, node: usize, core: usize, stays: bool) {
        let peer = self.world.nodes[node].connect(core, ClientRole::Play, STREAM);
        self.world.settle();
        self.seats.push(Seat { node, core, peer, joined: self.step, stays });
    }

    fn ask_anew(&mut self) {
        let due = self.anew.extract_if(.., |(at, ..)| *at <= self.step).collect::<Vec<_>>();
        for (_, node, core) in due {
            self.sit(node, core, true);
        }
    }

    /// Each publisher sends a frame of each kind.
    fn broadcast(&mut self) {
        for node in [PRIMARY, BACKUP] {
            let Some(publisher) = &mut self.publishers[node] else { continue };
            let Some(number) = (self.step as u32).checked_sub(self.scene.lag[node]) else { continue };
            let key = number % GOP == self.scene.phase[node];
            publisher.has_begun |= key;
            let elapsed = (number as i64 - publisher.began as i64) * i64::from(FRAME_MS);
            let timestamp = publisher.base.wrapping_add(elapsed.max(0) as u32);
            let session = &mut self.world.nodes[node].peers[publisher.peer].session;
            let content = |key| Content::Frame { of: publisher.session, key, number };
            if publisher.has_begun {
                session.send_media(Kind::Video, timestamp, &content(key).payload(Kind::Video));
            }
            let timestamp = timestamp.wrapping_add(AUDIO_AFTER_MS);
            session.send_media(Kind::Audio, timestamp, &content(false).payload(Kind::Audio));
        }
        self.world.settle();
    }

    fn observe(&mut self) {
        let nodes = &self.world.nodes;
        let well = |node: usize| self.world.health[node] == Health::Well && !self.struck[node];
        self.played.well.push(std::array::from_fn(well));
        self.played.on_air.push(std::array::from_fn(|node| matches!(self.publishers.get(node), Some(Some(_)))));
        self.struck = [false; 5];
        let dials = |node: usize| nodes[node].metrics.iter().map(|of| of.upstream_dials.get()).sum();
        self.played.dials.push(std::array::from_fn(dials));
        for node in [EDGE, SHIELD] {
            let conns = nodes[node].cores.iter().flat_map(|core| &core.conns);
            let open =
                conns.filter(|(_, conn)| conn.closing().is_none()).filter_map(|(_, conn)| conn.session.upstream());
            let legs = open.filter(|upstream| matches!(upstream.leg.relay, RelayId::Pull(_))).count();
            self.played.most_legs = self.played.most_legs.max(legs);
        }
        for publisher in self.publishers.iter().enumerate().filter_map(|(node, of)| of.as_ref().map(|of| (node, of))) {
            assert!(nodes[publisher.0].peers[publisher.1.peer].open, "a publisher was closed");
        }
        let closed = |seat: &mut Seat| !nodes[seat.node].peers[seat.peer].open;
        for seat in self.seats.extract_if(.., closed).collect::<Vec<_>>() {
            let told = format!("{:?}", self.world.nodes[seat.node].peers[seat.peer].events);
            self.take_down(&seat, Some(told));
            if seat.stays {
                self.anew.push((self.step + STEPS_PER_SECOND, seat.node, seat.core));
            }
        }
    }

    fn take_down(&mut self, seat: &Seat, closed: Option<String>) {
        let heard = std::mem::take(&mut self.world.nodes[seat.node].peers[seat.peer].heard);
        let player = Player { node: seat.node, joined: seat.joined, left: self.step, closed, heard };
        self.played.players.push(player);
    }

    fn end(mut self) -> Played<'s> {
        for seat in std::mem::take(&mut self.seats) {
            self.take_down(&seat, None);
        }
        self.played.missing = self.world.nodes[EDGE].refused(RefuseReason::NotFound);
        self.world.empty();
        self.played
    }
}
