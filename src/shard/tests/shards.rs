//! Streams across shards: announcements, feeds and answers when others are slow, gone or full.

use std::{sync::atomic::Ordering, time::Duration};

use super::rig::{INTER, KEY, Rig, frame};
use crate::{
    limits::{LOGS_MAX, MESH_QUEUE_MESSAGES, PLAY_WAIT_DEFAULT, VIEW_LINGER},
    shard::close::CloseReason,
};

#[test]
fn players_on_every_core_get_identical_bytes() {
    let mut rig = Rig::new(3);
    let publisher = rig.publish(1, "show");
    let players: Vec<_> = (0..3).map(|core| rig.play(core, "show")).collect();
    for round in 0..40 {
        let tag = if round % 10 == 0 { KEY } else { INTER };
        rig.video(publisher, round * 40, &frame(tag, round as usize, 10 + (round as usize * 7_919) % 70_000));
    }
    assert_eq!(rig.seen(players[0], 1).len(), 40);
    assert!(players.iter().all(|player| rig.peers[*player].raw[3_073..] == rig.peers[players[0]].raw[3_073..]));
    assert!(rig.rings.load(Ordering::Relaxed) > 0);
    rig.empty();
}

#[test]
fn a_core_that_hangs_delays_its_own_players_only_and_loses_nothing() {
    let mut rig = Rig::new(2);
    let publisher = rig.publish(0, "show");
    let players = [rig.play(0, "show"), rig.play(1, "show")];
    rig.video(publisher, 0, KEY);
    rig.hung[1] = true;
    for round in 1..3 * MESH_QUEUE_MESSAGES as u32 {
        rig.video(publisher, round, &frame(INTER, round as usize, 500));
    }
    assert_eq!(rig.seen(players[0], 1).len(), 3 * MESH_QUEUE_MESSAGES);
    assert!(rig.metrics[0].mesh_full.get() > 0);
    rig.hung[1] = false;
    rig.pass_ms(200);
    assert_eq!(rig.seen(players[1], 1), rig.seen(players[0], 1));
    rig.empty();
}

#[test]
fn a_core_that_slept_through_many_publishers_goes_on_with_the_last() {
    let mut rig = Rig::new(2);
    let first = rig.publish(0, "show");
    let player = rig.play(1, "show");
    rig.video(first, 0, KEY);
    rig.hung[1] = true;
    for round in 1..2 * MESH_QUEUE_MESSAGES as u32 {
        rig.video(first, round, INTER);
    }
    rig.lose(first, CloseReason::PeerReset);
    for _ in 0..=LOGS_MAX {
        let next = rig.publish(0, "show");
        rig.video(next, 0, KEY);
        rig.lose(next, CloseReason::PeerReset);
    }
    let last = rig.publish(0, "show");
    rig.video(last, 0, &frame(KEY, 9, 999));
    rig.hung[1] = false;
    rig.pass_ms(500);
    rig.video(last, 40, INTER);
    let seen = rig.seen(player, 1);
    assert!(seen.ends_with(&[frame(KEY, 9, 999), INTER.to_vec()]), "{} messages", seen.len());
    rig.empty();
}

#[test]
fn a_core_that_asks_for_a_log_that_is_gone_is_told_so() {
    let mut rig = Rig::with(2, |config| config.unpublish_grace = Duration::ZERO);
    let publisher = rig.publish(0, "show");
    rig.video(publisher, 0, KEY);
    rig.hung[0] = true;
    let player = rig.play(1, "show");
    rig.hung[0] = false;
    // The owner forgets the log before it reads that somebody asks for it.
    let id = rig.peers[publisher].id;
    rig.peers[publisher].open = false;
    rig.cores[0].remove(id);
    rig.cores[0].tick();
    rig.pass_ms(300);
    assert_eq!(rig.peers[player].events, ["Playing", "Ended"]);
    rig.pass(PLAY_WAIT_DEFAULT + Duration::from_secs(1));
    assert_eq!(rig.closed(CloseReason::StreamNotFound), 1);
    rig.empty();
}

#[test]
fn a_player_that_comes_while_a_stream_is_being_given_up_is_served_and_stays() {
    for early in [100, 0] {
        let mut rig = Rig::new(2);
        let publisher = rig.publish(0, "show");
        let first = rig.play(1, "show");
        rig.video(publisher, 0, KEY);
        rig.lose(first, CloseReason::PeerClosed);
        rig.pass(VIEW_LINGER - Duration::from_millis(early));
        let second = rig.play(1, "show");
        assert_eq!(rig.seen(second, 1), [KEY], "{early} ms before");
        for round in 1..70 {
            rig.pass_ms(1_000);
            rig.video(publisher, round * 1_000, KEY);
        }
        assert_eq!((rig.seen(second, 1).len(), rig.peers[second].open), (70, true));
        rig.empty();
    }
}

#[test]
fn a_stream_that_moves_between_cores_leaves_nothing_behind() {
    let mut rig = Rig::new(3);
    for round in 0..9_usize {
        let publisher = rig.publish(round % 3, "show");
        let player = rig.play((round + 1) % 3, "show");
        rig.video(publisher, 0, KEY);
        assert_eq!(rig.seen(player, 1).last().map(Vec::as_slice), Some(KEY));
        rig.lose(publisher, CloseReason::PeerReset);
        if round % 2 == 0 {
            rig.lose(player, CloseReason::PeerClosed);
        }
        rig.pass_ms(round as u64 * 700);
    }
    rig.empty();
}
