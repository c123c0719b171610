//! Large audiences: who is woken when.

use std::time::Duration;

use super::rig::{AVC, INTER, KEY, Rig};
use crate::{
    limits::WAKE_ANEW,
    rtmp::message::Kind,
    shard::{
        conn::ConnId,
        core::{Core, Transmit},
    },
};

/// A shard whose players are in step, woken two at a time. Returns publishers and players by stream.
fn audiences<const N: usize>(players: [usize; N]) -> (Rig, [usize; N], [Vec<ConnId>; N]) {
    let mut rig = Rig::with(1, |config| config.wakes_at_once = 2);
    let names = ["a", "b", "c"];
    let publishers = std::array::from_fn(|at| rig.publish(0, names[at]));
    let ids = std::array::from_fn(|at| {
        let peers: Vec<usize> = (0..players[at]).map(|_| rig.play(0, names[at])).collect();
        for (timestamp, payload) in [(0, AVC), (0, KEY)] {
            rig.video(publishers[at], timestamp, payload);
        }
        peers.into_iter().map(|peer| rig.peers[peer].id).collect()
    });
    (rig, publishers, ids)
}

/// A message comes. Returns who is woken with it.
fn publish(rig: &mut Rig, publisher: usize) -> Vec<ConnId> {
    let peer = &mut rig.peers[publisher];
    peer.session.send_media(Kind::Video, 40, INTER);
    rig.cores[0].receive(peer.id, &peer.session.take_output());
    woken(&mut rig.cores[0])
}

fn woken(core: &mut Core) -> Vec<ConnId> {
    core.take_wakes().drain(..).collect()
}

fn woken_next(core: &mut Core) -> Vec<ConnId> {
    core.wake_more(1);
    woken(core)
}

/// They are sent what there is. Returns the bytes.
fn serve(core: &mut Core, ids: &[ConnId]) -> Vec<usize> {
    let whole = |id: &ConnId| {
        let mut bytes = 0;
        while let Transmit::Send(piece) = core.transmit(*id) {
            let count = piece.len();
            bytes += count;
            if core.sent(*id, piece, count) {
                break;
            }
        }
        bytes
    };
    ids.iter().map(whole).collect()
}

#[test]
fn the_first_are_woken_with_a_message_and_the_others_in_portions() {
    let (mut rig, [publisher], [players]) = audiences([5]);
    assert_eq!(publish(&mut rig, publisher), players[..2]);
    let core = &mut rig.cores[0];
    assert_eq!((woken_next(core), woken_next(core)), (players[2..4].to_vec(), players[4..].to_vec()));
    assert!(!core.is_waking());
    assert!(woken_next(core).is_empty());
}

#[test]
fn an_audience_of_one_portion_is_woken_at_once() {
    let (mut rig, [publisher], [players]) = audiences([2]);
    assert_eq!(publish(&mut rig, publisher), players);
    assert!(!rig.cores[0].is_waking());
}

#[test]
fn a_message_begins_at_the_first_again_and_the_last_get_both_in_one_send() {
    let (mut rig, [publisher], [players]) = audiences([5]);
    let first = publish(&mut rig, publisher);
    let one = serve(&mut rig.cores[0], &first);
    assert_eq!(publish(&mut rig, publisher), first);
    let core = &mut rig.cores[0];
    assert_eq!(serve(core, &first), one);
    let (next, last) = (woken_next(core), woken_next(core));
    assert_eq!((&next[..], &last[..]), (&players[2..4], &players[4..]));
    assert_eq!(serve(core, &next), [one[0] * 2; 2]);
    assert!(!core.is_waking());
}

#[test]
fn whoever_is_still_being_sent_something_is_passed_over_and_gets_the_rest_then() {
    let (mut rig, [publisher], [players]) = audiences([5]);
    let first = publish(&mut rig, publisher);
    assert_eq!(publish(&mut rig, publisher), players[2..4]);
    let core = &mut rig.cores[0];
    assert_eq!(woken_next(core), players[4..]);
    let all = serve(core, &players);
    assert!(all[0] > 0 && all.iter().all(|bytes| *bytes == all[0]), "{all:?} of {first:?}");
}

#[test]
fn nobody_is_passed_over_for_long() {
    let (mut rig, [publisher], [players]) = audiences([5]);
    let mut at = rig.now;
    let mut restarts = 0;
    loop {
        rig.cores[0].advance(at);
        let first = publish(&mut rig, publisher);
        serve(&mut rig.cores[0], &first);
        if first.is_empty() {
            break;
        }
        assert_eq!(first, players[..2]);
        (at, restarts) = (at + Duration::from_millis(1), restarts + 1);
        assert!(restarts < 1_000, "the last are never reached");
    }
    assert_eq!(Duration::from_millis(restarts), WAKE_ANEW);
    let core = &mut rig.cores[0];
    assert_eq!((woken_next(core), woken_next(core)), (players[2..4].to_vec(), players[4..].to_vec()));
    // What came since.
    assert_eq!((woken_next(core), woken_next(core)), (players[..2].to_vec(), vec![]));
    assert!(!core.is_waking());
}

#[test]
fn streams_take_turns_and_a_small_one_does_not_wait() {
    let (mut rig, [a, b, c], [of_a, of_b, of_c]) = audiences([6, 6, 2]);
    assert_eq!((publish(&mut rig, a), publish(&mut rig, b)), (of_a[..2].to_vec(), of_b[..2].to_vec()));
    assert_eq!(publish(&mut rig, c), of_c);
    let core = &mut rig.cores[0];
    let turns: Vec<Vec<ConnId>> = (0..4).map(|_| woken_next(core)).collect();
    assert_eq!(turns, [&of_a[2..4], &of_b[2..4], &of_a[4..], &of_b[4..]]);
    assert!(!core.is_waking());
}

#[test]
fn as_many_are_woken_as_there_is_time_for() {
    let (mut rig, [a, b], [of_a, of_b]) = audiences([7, 5]);
    publish(&mut rig, a);
    publish(&mut rig, b);
    let core = &mut rig.cores[0];
    core.wake_more(5);
    assert_eq!(woken(core), [&of_a[2..4], &of_b[2..4], &of_a[4..6]].concat());
    core.wake_more(5);
    assert_eq!(woken(core), [&of_b[4..], &of_a[6..]].concat());
    assert!(!core.is_waking());
}

#[test]
fn players_that_leave_meanwhile_are_not_missed() {
    let (mut rig, [a, b], [of_a, of_b]) = audiences([5, 5]);
    publish(&mut rig, a);
    publish(&mut rig, b);
    let core = &mut rig.cores[0];
    // All of one stream, and some of the other.
    of_a.iter().chain(&of_b[2..4]).for_each(|id| core.remove(*id));
    woken(core);
    let others: Vec<Vec<ConnId>> = (0..3).map(|_| woken_next(core)).filter(|woken| !woken.is_empty()).collect();
    assert_eq!(others, [&of_b[4..]]);
    assert!(!core.is_waking());
}
