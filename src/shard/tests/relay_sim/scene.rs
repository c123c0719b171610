//! What happens in one seed, drawn before it is played.

use std::time::Duration;

use super::{content::FRAME_MS, rng::Rng};
use crate::shard::tests::{liar::Lie, world::Way};

pub(super) const EDGE: usize = 0;
pub(super) const PRIMARY: usize = 1;
pub(super) const BACKUP: usize = 2;
pub(super) const SHIELD: usize = 3;
pub(super) const TARGET: usize = 4;

/// What befalls a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// New connections are refused, those there are go on.
    Refuses,
    /// All its connections break, its publisher's among them, and new ones are refused.
    Dies,
    /// Nothing comes through any more, and whoever connects is not served.
    Silent,
    /// Nothing comes through any more, and dials get no answer.
    BlackHole,
    /// All its connections break, and whoever connects is lied to.
    Lies(Lie),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    Strike(usize, Trouble),
    Heal(usize),
    PublisherLeaves(usize),
    PublisherReturns(usize),
    PlayerComes {
        core: usize,
    },
    /// One of those who are there, by a number that is reduced to theirs.
    PlayerLeaves {
        which: usize,
    },
}

#[derive(Debug)]
pub(super) struct Scene {
    pub(super) seed: u64,
    /// Shards of each node.
    pub(super) cores: [usize; 5],
    pub(super) shielded: bool,
    /// With a shield: whether the edge may ask the backup itself.
    pub(super) past_shield: bool,
    /// Which node pushes to the target.
    pub(super) pushes: Option<usize>,
    pub(super) gop_cache: bool,
    /// Both origins' timestamps are of the same clock.
    pub(super) shared: bool,
    /// Both origins' sequence headers are the same.
    pub(super) same_headers: bool,
    /// First timestamp of each origin's publisher, by node.
    pub(super) base: [u32; 3],
    /// Number of the first keyframe, by node.
    pub(super) phase: [u32; 3],
    /// By how many frames an origin is behind, by node.
    pub(super) lag: [u32; 3],
    /// A publisher that returns has set its clock anew.
    pub(super) clock_restarts: bool,
    pub(super) way: Way,
    pub(super) linger: Duration,
    /// In steps of a frame.
    pub(super) steps: usize,
    /// Sorted.
    pub(super) events: Vec<(usize, Event)>,
}

pub(super) const STEPS_PER_SECOND: usize = 1_000 / FRAME_MS as usize;

fn steps(seconds: u64) -> u64 {
    seconds * STEPS_PER_SECOND as u64
}

impl Scene {
    pub(super) fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let shared = rng.chance(60);
        let same_headers = rng.chance(50);
        let base = rng.pick(&[0, 1_000, u32::MAX - 20_000, 1 << 31]);
        let far = rng.between(60_000, 1_000_000) as u32;
        let other = if shared {
            base
        } else if rng.chance(50) {
            base.wrapping_add(far)
        } else {
            base.wrapping_sub(far)
        };
        let phase = if shared { 0 } else { rng.below(25) as u32 };
        let shielded = rng.chance(35);
        let lag = if rng.chance(40) { rng.below(25) as u32 } else { 0 };
        let mut scene = Self {
            seed,
            cores: [rng.between(1, 3) as usize, 1, rng.between(1, 2) as usize, rng.between(1, 2) as usize, 1],
            shielded,
            past_shield: shielded && rng.chance(40),
            pushes: rng.chance(40).then(|| rng.pick(&[EDGE, PRIMARY])),
            gop_cache: rng.chance(70),
            shared,
            same_headers,
            base: [0, base, other],
            phase: [0, 0, phase],
            lag: if rng.chance(50) { [0, 0, lag] } else { [0, lag, 0] },
            clock_restarts: rng.chance(30),
            way: Way {
                delay: Duration::from_millis(rng.pick(&[0, 0, 40, 80])),
                piece_bytes: rng.pick(&[0, 0, 7, 100, 1_000]),
            },
            linger: Duration::from_secs(rng.between(1, 8)),
            steps: steps(rng.between(45, 90)) as usize,
            events: Vec::new(),
        };
        scene.draw_troubles(&mut rng);
        scene.draw_players(&mut rng);
        scene.events.sort_by_key(|(step, _)| *step);
        scene
    }

    fn draw_troubles(&mut self, rng: &mut Rng) {
        // In some only one of the two ever fails: there is always a source then.
        let victims = rng.pick(&[&[PRIMARY][..], &[BACKUP], &[PRIMARY, BACKUP], &[PRIMARY, BACKUP]]).to_vec();
        for node in victims {
            self.draw_troubles_of(node, rng);
        }
        if self.shielded && rng.chance(40) {
            self.draw_troubles_of(SHIELD, rng);
        }
        if self.pushes.is_some() && rng.chance(70) {
            self.draw_troubles_of(TARGET, rng);
        }
    }

    /// One after the other, with some time in which all is well.
    fn draw_troubles_of(&mut self, node: usize, rng: &mut Rng) {
        let mut at = if rng.chance(20) { 0 } else { rng.between(1, steps(20)) };
        for _ in 0..rng.between(1, 4) {
            let until = at + if rng.chance(50) { rng.between(1, steps(3)) } else { rng.between(1, steps(25)) };
            let is_origin = node == PRIMARY || node == BACKUP;
            if is_origin && rng.chance(30) {
                self.events.push((at as usize, Event::PublisherLeaves(node)));
                self.events.push((until as usize, Event::PublisherReturns(node)));
            } else {
                let lie = rng.pick(&Lie::ALL);
                let troubles =
                    [Trouble::Refuses, Trouble::Dies, Trouble::Silent, Trouble::BlackHole, Trouble::Lies(lie)];
                let trouble = rng.pick(&troubles[..if node == TARGET { 4 } else { 5 }]);
                self.events.push((at as usize, Event::Strike(node, trouble)));
                self.events.push((until as usize, Event::Heal(node)));
            }
            at = until + if rng.chance(30) { rng.between(1, steps(2)) } else { rng.between(1, steps(30)) };
            if at >= self.steps as u64 {
                return;
            }
        }
    }

    fn draw_players(&mut self, rng: &mut Rng) {
        for _ in 0..rng.between(1, 12) {
            let at = if rng.chance(40) { rng.below(5) } else { rng.below(self.steps as u64) };
            self.events.push((at as usize, Event::PlayerComes { core: rng.below(self.cores[EDGE] as u64) as usize }));
        }
        for _ in 0..rng.below(8) {
            let event = Event::PlayerLeaves { which: rng.below(1_000) as usize };
            self.events.push((rng.below(self.steps as u64) as usize, event));
        }
    }
}
