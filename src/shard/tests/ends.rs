//! The orderly end of a process: everybody gets the last messages and is told.

use std::time::Duration;

use super::rig::{INTER, KEY, Rig, frame};
use crate::{
    limits::{LINGER, UNPUBLISH_GRACE_DEFAULT},
    rtmp::client::ClientRole,
    shard::{close::CloseReason, core::Core},
};

fn shut_down(rig: &mut Rig) {
    rig.cores.iter_mut().for_each(Core::shutdown);
    rig.settle();
}

#[test]
fn a_shutdown_tells_players_the_end_after_the_last_messages_on_every_core() {
    let mut rig = Rig::new(2);
    let publisher = rig.publish(0, "show");
    let players = [rig.play(0, "show"), rig.play(1, "show")];
    let idle = rig.connect(1, ClientRole::Play, "whatever");
    rig.video(publisher, 0, KEY);
    for player in players {
        rig.allow(player, 0);
    }
    let last = frame(INTER, 1, 300_000);
    rig.video(publisher, 40, &last);
    shut_down(&mut rig);
    assert!(rig.cores.iter().all(Core::is_ending) && !rig.cores.iter().any(Core::has_ended));
    assert_eq!(rig.peers[publisher].events, ["Publishing", "Ended"]);
    assert!(!rig.peers[publisher].open && !rig.peers[idle].open);
    for player in players {
        rig.allow(player, usize::MAX);
        assert_eq!(rig.seen(player, 1), [KEY, &last]);
        assert_eq!(rig.peers[player].events, ["Playing", "Ended"]);
    }
    assert!(rig.cores.iter().all(Core::has_ended));
    assert_eq!(rig.closed(CloseReason::Shutdown), 4);
    rig.empty();
}

#[test]
fn players_that_wait_pause_or_were_told_already_do_not_hold_up_a_shutdown() {
    let mut rig = Rig::new(2);
    for core in [0, 1] {
        rig.play(core, "never");
    }
    let over = rig.publish(0, "over");
    let told = [rig.play(0, "over"), rig.play(1, "over")];
    rig.video(over, 0, KEY);
    rig.lose(over, CloseReason::PeerClosed);
    let late = [rig.play(0, "over"), rig.play(1, "over")];
    rig.pass(UNPUBLISH_GRACE_DEFAULT + Duration::from_secs(1));
    assert!(told.iter().all(|player| rig.peers[*player].events == ["Playing", "Ended"]));
    assert!(late.iter().all(|player| rig.peers[*player].open));
    let publisher = rig.publish(0, "show");
    rig.video(publisher, 0, KEY);
    for core in [0, 1] {
        let paused = rig.play(core, "show");
        rig.command(paused, 1, "pause", |out| {
            out.boolean(true);
        });
    }
    shut_down(&mut rig);
    let open: Vec<_> = (0..rig.peers.len()).filter(|peer| rig.peers[*peer].open).collect();
    assert!(rig.cores.iter().all(Core::has_ended), "peers {open:?} stay");
    rig.empty();
}

#[test]
fn a_shutdown_lets_both_plays_of_one_connection_finish() {
    let mut rig = Rig::new(1);
    let (a, b) = (rig.publish(0, "a"), rig.publish(0, "b"));
    let player = rig.play(0, "a");
    rig.also(player, 2, "play", "b");
    rig.video(a, 0, KEY);
    rig.video(b, 0, KEY);
    rig.allow(player, 0);
    let large = frame(INTER, 1, 500_000);
    rig.video(a, 40, INTER);
    rig.video(b, 40, &large);
    shut_down(&mut rig);
    rig.allow(player, usize::MAX);
    assert_eq!(rig.seen(player, 1), [KEY, INTER]);
    assert_eq!(rig.seen(player, 2), [KEY, &large]);
    assert!(rig.cores[0].has_ended());
    rig.empty();
}

#[test]
fn a_paused_player_is_told_of_the_end_and_holds_on_to_nothing() {
    let mut rig = Rig::new(2);
    let publisher = rig.publish(0, "show");
    let players = [rig.play(0, "show"), rig.play(1, "show")];
    rig.video(publisher, 0, KEY);
    for player in players {
        rig.command(player, 1, "pause", |out| {
            out.boolean(true);
        });
    }
    rig.lose(publisher, CloseReason::PeerClosed);
    rig.pass(UNPUBLISH_GRACE_DEFAULT + Duration::from_secs(7));
    for player in players {
        assert_eq!(rig.peers[player].events.last().map(String::as_str), Some("Ended"));
    }
    assert_eq!(rig.shared.gauge.bytes(), 0, "a log that nobody will read");
    rig.empty();
}

#[test]
fn a_peer_that_does_not_close_is_cut_off() {
    let mut rig = Rig::new(1);
    let publisher = rig.publish(0, "show");
    rig.allow(publisher, 0);
    shut_down(&mut rig);
    assert!(rig.peers[publisher].open);
    rig.pass(LINGER + Duration::from_millis(100));
    assert!(!rig.peers[publisher].open && rig.cores[0].has_ended());
    assert_eq!(rig.closed(CloseReason::Shutdown), 1);
    rig.empty();
}
