//! What each player must have seen, by what befell the sources: who works, and since when, is all that this knows.

use std::collections::HashSet;

use super::{
    content::{AUDIO_AFTER_MS, Content, FRAME_MS, GOP, Session},
    scene::{BACKUP, EDGE, PRIMARY, SHIELD, STEPS_PER_SECOND, TARGET},
    stage::{Played, Player},
};
use crate::{
    limits::{
        BACK_OFF_MAX, LIVE_LATELY, PUBLISHER_IDLE_DEFAULT, UPSTREAM_CONNECT_DEFAULT, UPSTREAM_FIRST_BYTE_DEFAULT,
        UPSTREAM_STALL_DEFAULT,
    },
    rtmp::message::Kind,
    shard::tests::rig::Heard,
};

/// What the seeds met, to see that they meet everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) frames: u64,
    pub(super) changes_of_source: u64,
    pub(super) returns: u64,
    pub(super) second_legs: u64,
    pub(super) missing: u64,
    pub(super) closed: u64,
    pub(super) repeated: u64,
    pub(super) pushed: u64,
    /// In steps.
    pub(super) longest_gap: usize,
    /// By one node within ten seconds.
    pub(super) most_dials: u64,
}

impl Outcome {
    pub(super) fn add(&mut self, other: &Self) {
        self.frames += other.frames;
        self.changes_of_source += other.changes_of_source;
        self.returns += other.returns;
        self.second_legs += other.second_legs;
        self.missing += other.missing;
        self.closed += other.closed;
        self.repeated += other.repeated;
        self.pushed += other.pushed;
        self.longest_gap = self.longest_gap.max(other.longest_gap);
        self.most_dials = self.most_dials.max(other.most_dials);
    }

    pub(super) fn assert_all_was_met(&self) {
        let met = [
            ("changes of source", self.changes_of_source),
            ("returns to the primary", self.returns),
            ("second legs", self.second_legs),
            ("players told that nobody has it", self.missing),
            ("players disconnected", self.closed),
            ("frames that came again", self.repeated),
            ("frames pushed", self.pushed),
        ];
        for (what, count) in met {
            assert!(count > 0, "the seeds never met {what}");
        }
    }
}

fn steps(time: std::time::Duration) -> usize {
    time.as_millis() as usize / FRAME_MS as usize
}

/// Ticks, handshakes over slow links, and the half second for which audio waits.
const SLACK: usize = STEPS_PER_SECOND * 3 / 2;
const GOP_STEPS: usize = GOP as usize;
/// Upstream connections that one node may begin within ten seconds.
const DIALS_AT_MOST: u64 = 15;
/// Without a frame for so long, a stream may have ended.
const STREAM_OVER: usize = 4 * STEPS_PER_SECOND;
/// By how much sound and picture may be apart, beyond a frame.
const TOLERANCE_MS: u32 = 45;

pub(super) fn check(played: &Played<'_>) -> Outcome {
    let mut outcome = Outcome { missing: played.missing, ..Outcome::default() };
    assert!(played.most_legs <= 2, "{} connections for one stream", played.most_legs);
    outcome.second_legs = u64::from(played.most_legs == 2);
    check_dials(played, &mut outcome);
    for (index, player) in played.players.iter().enumerate() {
        let mut view = View { played, player, index, outcome: &mut outcome };
        view.check_messages();
        if player.node == EDGE {
            view.check_closing();
            view.check_gaps();
        }
    }
    check_push(played, &mut outcome);
    outcome
}

fn check_dials(played: &Played<'_>, outcome: &mut Outcome) {
    let window = 10 * STEPS_PER_SECOND;
    for (step, dials) in played.dials.iter().enumerate() {
        for (node, dials) in dials.iter().enumerate() {
            let before = step.checked_sub(window).map_or(0, |before| played.dials[before][node]);
            outcome.most_dials = outcome.most_dials.max(dials - before);
            assert!(dials - before <= DIALS_AT_MOST, "n{node} made {} connections by step {step}", dials - before);
        }
    }
}

/// Where an edge can have the stream from: nodes that must all be well, the last with its publisher.
fn paths(played: &Played<'_>) -> Vec<Vec<usize>> {
    let scene = played.scene;
    let mut paths = match scene.shielded {
        true => vec![vec![SHIELD, PRIMARY], vec![SHIELD, BACKUP]],
        false => vec![vec![PRIMARY], vec![BACKUP]],
    };
    if scene.past_shield {
        paths.push(vec![BACKUP]);
    }
    paths
}

/// The first step from which on a path has worked up to and including `until`, if it does.
fn works_since(played: &Played<'_>, path: &[usize], until: usize) -> Option<usize> {
    let works = |step: &usize| {
        let well = path.iter().all(|node| played.well[*step][*node]);
        well && path.last().is_some_and(|origin| played.on_air[*step][*origin])
    };
    (0..=until.min(played.well.len() - 1)).rev().take_while(works).last()
}

/// Whether both origins' frames have the same timestamps throughout.
fn is_in_step(played: &Played<'_>) -> bool {
    let never_left = |node: usize| played.on_air.iter().all(|on_air| on_air[node]);
    // A shield's clock is set anew when it was without a source for longer than its grace.
    !played.scene.past_shield && played.scene.shared && never_left(PRIMARY) && never_left(BACKUP)
}

struct View<'a, 's> {
    played: &'a Played<'s>,
    player: &'a Player,
    index: usize,
    outcome: &'a mut Outcome,
}

/// The last coded message of a kind.
#[derive(Clone, Copy)]
struct Last {
    of: Session,
    number: u32,
    timestamp: u32,
}

impl View<'_, '_> {
    fn fail(&self, what: &str, at: usize) -> ! {
        let heard = &self.player.heard;
        for message in &heard[at.saturating_sub(12).min(heard.len())..(at + 4).min(heard.len())] {
            let content = Content::of(message);
            println!("  {:?} {:?} {} {content:?}", message.at, message.kind, message.timestamp);
        }
        panic!(
            "seed {}: player {} of n{}, from step {} to {}: {what}, at message {at}",
            self.played.scene.seed, self.index, self.player.node, self.player.joined, self.player.left
        );
    }

    /// Timestamps, pictures that can be decoded, sound in step, and nothing that comes again.
    fn check_messages(&mut self) {
        let player = self.player;
        let mut headers = [None; 2];
        let mut last: [Option<Last>; 2] = [None, None];
        let mut timestamps: [Option<u32>; 2] = [None; 2];
        for (at, message) in player.heard.iter().enumerate() {
            let (timestamp, slot) = (message.timestamp, slot(message.kind));
            // Metadata has no time of its own.
            if message.kind != Kind::Data {
                if timestamps[slot].is_some_and(|last| timestamp.wrapping_sub(last) > 1 << 31) {
                    self.fail("a step back", at);
                }
                timestamps[slot] = Some(timestamp);
            }
            match Content::of(message) {
                None => self.fail("nobody has sent this", at),
                Some(Content::Metadata) => {}
                Some(Content::Header(header)) => headers[slot] = Some(header),
                Some(Content::Frame { of, key, number }) => {
                    if headers[slot] != Some(of.header) {
                        self.fail("a frame without its sequence header", at);
                    }
                    if message.kind == Kind::Video {
                        let goes_on = last[slot].is_some_and(|last| last.of == of && last.number + 1 == number);
                        if !key && !goes_on {
                            self.fail("a frame without the one before", at);
                        }
                        self.count_change(last[slot], of);
                    }
                    self.check_order(last[slot], of, number, at);
                    if last[slot].is_some_and(|last| last.of != of || number != last.number + 1) {
                        // What the other kind said belongs to what was before, unless it went over first.
                        let is_current = |last: &Last| last.of == of && last.number.abs_diff(number) <= 1;
                        last = last.map(|last| last.filter(is_current));
                    }
                    last[slot] = Some(Last { of, number, timestamp });
                    self.check_sync(last, at);
                    self.outcome.frames += 1;
                }
            }
        }
    }

    fn count_change(&mut self, last: Option<Last>, of: Session) {
        if let Some(last) = last.filter(|last| last.of.origin != of.origin) {
            self.outcome.changes_of_source += 1;
            self.outcome.returns += u64::from(usize::from(of.origin) == PRIMARY && last.of.origin != of.origin);
        }
    }

    fn check_order(&mut self, last: Option<Last>, of: Session, number: u32, at: usize) {
        let Some(last) = last.filter(|last| last.number >= number) else { return };
        self.outcome.repeated += 1;
        if is_in_step(self.played) {
            self.fail("a frame comes again", at);
        }
        let lag = self.played.scene.lag.iter().max().copied().unwrap_or(0);
        let back = last.number - number;
        if last.of == of && last.number == number || back > GOP + lag + STEPS_PER_SECOND as u32 {
            self.fail("more than a GOP comes again", at);
        }
    }

    /// Sound and picture of one publisher's are as far apart as it sent them.
    fn check_sync(&self, last: [Option<Last>; 2], at: usize) {
        let [Some(video), Some(audio)] = last else { return };
        // One of them may have gone over to another source's clock, and the other not yet.
        if video.of != audio.of || video.number != audio.number {
            return;
        }
        let offset = |of: Last, after: u32| of.timestamp.wrapping_sub(of.number * FRAME_MS + after);
        let apart = offset(video, 0).wrapping_sub(offset(audio, AUDIO_AFTER_MS)).cast_signed();
        if apart.unsigned_abs() > FRAME_MS + TOLERANCE_MS {
            self.fail(&format!("sound and picture are {apart} ms apart"), at);
        }
    }

    /// It may be disconnected only if all sources have failed lately.
    fn check_closing(&mut self) {
        let Some(told) = &self.player.closed else { return };
        self.outcome.closed += 1;
        let round = steps(UPSTREAM_CONNECT_DEFAULT + UPSTREAM_FIRST_BYTE_DEFAULT) * 2 + SLACK;
        let patience = match self.played.scene.shielded {
            false => steps(LIVE_LATELY).max(round + 5 * STEPS_PER_SECOND),
            true => (steps(LIVE_LATELY) + round) * 2,
        };
        for path in paths(self.played) {
            let since = works_since(self.played, &path, self.player.left);
            if since.is_some_and(|since| since == 0 || since + patience < self.player.left) {
                self.fail(
                    &format!("disconnected while {path:?} worked since step {since:?}: {told}"),
                    self.player.heard.len(),
                );
            }
        }
    }

    /// While a source works it has pictures, but for the time that it takes to find out.
    fn check_gaps(&mut self) {
        let player = self.player;
        let is_picture =
            |heard: &&Heard| heard.kind == Kind::Video && matches!(Content::of(heard), Some(Content::Frame { .. }));
        let came = player.heard.iter().filter(is_picture).map(|heard| steps(heard.at));
        let mut from = player.joined;
        let came: Vec<usize> = came.chain([player.left]).collect();
        for until in came {
            self.outcome.longest_gap = self.outcome.longest_gap.max(until.saturating_sub(from));
            self.check_gap(from, until);
            from = until;
        }
    }

    fn check_gap(&self, from: usize, until: usize) {
        let lag = self.played.scene.lag.iter().max().map_or(0, |lag| *lag as usize);
        let found_out = steps(UPSTREAM_STALL_DEFAULT + UPSTREAM_CONNECT_DEFAULT) + GOP_STEPS + SLACK + lag;
        let hops = if self.played.scene.shielded { 2 } else { 1 };
        let round = steps(UPSTREAM_CONNECT_DEFAULT + UPSTREAM_FIRST_BYTE_DEFAULT) * 2;
        let at_last = (steps(BACK_OFF_MAX) + round + GOP_STEPS + SLACK) * hops + lag;
        for path in paths(self.played) {
            let Some(since) = works_since(self.played, &path, until) else { continue };
            let (dark, bound) = if since == 0 {
                (until.saturating_sub(from), found_out * hops)
            } else {
                (until.saturating_sub(from.max(since)), at_last)
            };
            if dark > bound {
                let after = self.player.heard.iter().position(|heard| steps(heard.at) >= until);
                self.fail(
                    &format!("no picture for {dark} steps, from {from}, though {path:?} worked since {since}"),
                    after.unwrap_or(self.player.heard.len()),
                );
            }
        }
    }
}

fn slot(kind: Kind) -> usize {
    match kind {
        Kind::Video => 0,
        Kind::Audio => 1,
        Kind::Data => 2,
    }
}

/// The target has every frame that players of the node that pushes have had, but for those that were due while it was not
/// well or had just become so.
fn check_push(played: &Played<'_>, outcome: &mut Outcome) {
    let Some(from) = played.scene.pushes else { return };
    let frames = |node: usize| {
        let players = played.players.iter().filter(move |player| player.node == node);
        let heard = players.flat_map(|player| &player.heard);
        heard.filter_map(|heard| match Content::of(heard) {
            Some(Content::Frame { of, number, .. }) => Some(((of, number, slot(heard.kind)), steps(heard.at))),
            _ => None,
        })
    };
    let arrived: HashSet<_> = frames(TARGET).map(|(frame, _)| frame).collect();
    outcome.pushed += arrived.len() as u64;
    // A target that was cut off may take its publisher to be still there, and refuse the next until it has found out.
    let recovery = steps(PUBLISHER_IDLE_DEFAULT + BACK_OFF_MAX) + 15 * STEPS_PER_SECOND;
    let later = STEPS_PER_SECOND / 2;
    let mut due: Vec<_> = frames(from).collect();
    due.sort_by_key(|(_, step)| *step);
    // A stream that begins is not waited for: the target comes in at a keyframe a little later.
    let (mut last, mut begins) = (None, 0);
    for (frame, step) in due {
        if last.is_none_or(|last| last + STREAM_OVER < step) {
            begins = step + SLACK + GOP_STEPS;
        }
        last = Some(step);
        if step < begins {
            continue;
        }
        let until = step + later;
        if until >= played.well.len() || arrived.contains(&frame) {
            continue;
        }
        let well = |step: &usize| played.well[*step][TARGET] && played.well[*step][from];
        let since = (0..=until).rev().take_while(well).last();
        if since.is_some_and(|since| since == 0 || since + recovery < step) {
            panic!("seed {}: the target lacks {frame:?} of step {step}, well since {since:?}", played.scene.seed);
        }
    }
}
