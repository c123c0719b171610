//! Clients that try keys by the thousand: they wait for each other, and nobody else waits for them.

use super::rig::Rig;
use crate::{
    access::{
        AccessInForce, AccessRules,
        keys::{self, Keys},
        rules::{Proof, Rule, Takes},
    },
    limits,
    rtmp::client::ClientRole,
    shard::{
        close::{CloseReason, RefuseReason},
        questions::{Decision, Event},
    },
};

const KEY: &str = "correct-horse-battery";

/// Who publishes needs one of as many keys as there can be.
fn rig() -> Rig {
    rig_with(limits::KEYS_MAX, &[])
}

/// Who publishes needs one of `keys` keys, and is asked about outside.
fn rig_with(keys: usize, events: &[Event]) -> Rig {
    let line = keys::line("k", KEY, "salt", &[]).unwrap();
    let lines: Vec<_> = (0..keys).map(|n| line.replacen('k', &format!("k{n}"), 1)).collect();
    let keys = Some(Keys::parse(&lines.join("\n")).unwrap());
    let takes = Takes::Proof(Proof { keys, ..Proof::default() });
    let rule = Rule { name: "keys".into(), streams: None, deny: Vec::new(), allow: Vec::new(), takes };
    let rules = AccessRules { publish: vec![rule], ..AccessRules::default() };
    Rig::with(1, |config| {
        config.access = AccessInForce::new(rules).into();
        events.iter().for_each(|event| config.callbacks.events[*event as usize] = true);
    })
}

fn denied(rig: &Rig) -> u64 {
    rig.metrics[0].refused(RefuseReason::Access).get()
}

/// Tries a key.
fn guesser(rig: &mut Rig, address: u8) -> usize {
    rig.connect_from(0, ([10, 0, 0, address], 1_935).into(), ClientRole::Publish, "show?key=wrong-key-of-mine")
}

/// Goes on to try keys, all in one go.
fn guess(rig: &mut Rig, peer: usize, times: usize) {
    for _ in 0..times {
        rig.queue_command(peer, 1, "publish", |out| {
            out.string("show?key=wrong-key-of-mine");
        });
    }
}

#[test]
fn a_shard_hashes_only_so_many_keys_between_two_ticks() {
    let mut rig = rig();
    let player = rig.play(0, "show");
    let per_tick = u64::from(limits::ACCESS_WORK_PER_TICK) / limits::KEYS_MAX as u64;
    let guessers: Vec<_> = (0..40).map(|address| guesser(&mut rig, address)).collect();
    rig.settle();
    assert_eq!(denied(&rig), per_tick, "the rest waits");
    let last = rig.peers[guessers[guessers.len() - 1]].id;
    assert!(rig.cores[0].is_held(last));
    // Whoever has the key waits for its turn as well, and has it.
    let publisher = rig.connect_from(0, ([10, 0, 1, 1], 1_935).into(), ClientRole::Publish, &format!("show?key={KEY}"));
    rig.settle();
    assert!(rig.peers[publisher].events.is_empty());
    rig.pass(limits::TICK);
    assert_eq!((denied(&rig), &rig.peers[publisher].events[..]), (40, &["Publishing".to_owned()][..]));
    assert!(!rig.cores[0].is_held(last));
    assert!(rig.peers[player].open);
}

#[test]
fn who_is_denied_again_and_again_is_closed() {
    let mut rig = rig();
    let peer = guesser(&mut rig, 1);
    rig.settle();
    guess(&mut rig, peer, 300);
    rig.settle();
    rig.pass(limits::TICK * 4);
    assert_eq!(denied(&rig), u64::from(limits::DENIALS_MAX));
    assert_eq!(rig.metrics[0].closed(CloseReason::Denied).get(), 1);
    assert!(!rig.peers[peer].open);
}

/// The numbers of the requests that wait, in the order in which they came.
fn waiting(rig: &Rig, peers: &[usize]) -> Vec<u64> {
    let waits = |peer: &usize| rig.cores[0].conns.get(rig.peers[*peer].id).and_then(|conn| conn.pending());
    peers.iter().filter_map(waits).map(|pending| pending.number).collect()
}

#[test]
fn whoever_has_no_turn_waits_on_as_it_did() {
    // So many that a tick's work is never quite done.
    let mut rig = rig_with(limits::KEYS_MAX - 1, &[]);
    let per_tick = limits::ACCESS_WORK_PER_TICK as usize / (limits::KEYS_MAX - 1);
    let guessers: Vec<_> = (0..200).map(|address| guesser(&mut rig, address)).collect();
    rig.settle();
    let mut before = waiting(&rig, &guessers);
    assert_eq!(before.len(), guessers.len() - per_tick);
    while !before.is_empty() {
        rig.pass(limits::TICK);
        let still = waiting(&rig, &guessers);
        assert_eq!(still, before[per_tick.min(before.len())..], "the first are done, the others untouched");
        before = still;
    }
    assert_eq!(denied(&rig), 200);
    assert!(limits::TICK * 8 < limits::JUDGEMENT_PATIENCE);
}

#[test]
fn nobody_is_judged_before_those_that_came_first() {
    let mut rig = rig_with(limits::KEYS_MAX / 2, &[]);
    let per_tick = limits::ACCESS_WORK_PER_TICK as usize / (limits::KEYS_MAX / 2);
    let guessers: Vec<_> = (0..2 * per_tick as u8).map(|address| guesser(&mut rig, address)).collect();
    // The one that has its turn next has more to ask for.
    rig.settle();
    let held = guessers[per_tick];
    for _ in 0..3 {
        rig.queue_command(held, 1, "publish", |out| {
            out.string("show?key=wrong-key-of-mine");
        });
    }
    let more = rig.peers[held].session.take_output();
    rig.cores[0].receive(rig.peers[held].id, &more);
    rig.pass(limits::TICK);
    assert_eq!(denied(&rig), 2 * per_tick as u64);
    assert_eq!(waiting(&rig, &guessers).len(), 1, "it comes again behind all others");
}

#[test]
fn who_is_not_decided_about_is_not_denied() {
    let times = usize::from(limits::DENIALS_MAX) * 2;
    for (decision, closed) in
        [(Decision::Failed("nobody is there".to_owned()), 0), (Decision::Refused("no".to_owned()), 1)]
    {
        let mut rig = rig_with(1, &[Event::Publish]);
        let name = format!("show?key={KEY}");
        let peer = rig.connect(0, ClientRole::Publish, &name);
        rig.settle();
        for _ in 0..times {
            rig.decide(decision.clone());
            rig.command(peer, 1, "publish", |out| {
                out.string(&name);
            });
        }
        assert_eq!(rig.closed(CloseReason::Denied), closed, "{decision:?}");
    }
}

#[test]
fn one_address_has_no_more_than_its_wrong_keys_looked_at() {
    let mut rig = rig();
    let guessers: Vec<_> = (0..20).map(|_| guesser(&mut rig, 1)).collect();
    rig.settle();
    guessers.iter().for_each(|peer| guess(&mut rig, *peer, 300));
    rig.settle();
    // Those behind the pause cost nothing, so that nobody waits.
    assert_eq!(denied(&rig), 20 * u64::from(limits::DENIALS_MAX));
}
