//! Clients asked to go elsewhere: who is asked, when, and that they are served until they leave.

use std::{sync::Arc, time::Duration};

use super::rig::{KEY, Rig};
use crate::{
    rtmp::{client::ClientRole, message::Kind},
    shard::{close::CloseReason, reconnect::ReconnectRequest},
};

fn request(over_ms: u64) -> Arc<ReconnectRequest> {
    let over = Duration::from_millis(over_ms);
    Arc::new(ReconnectRequest {
        tc_url: Some("//b/live".into()),
        description: "moving".into(),
        over,
        after_players: false,
    })
}

const ASKED: &str = r#"Reconnect { tc_url: Some("//b/live"), description: "moving" }"#;

fn leave(rig: &mut Rig, peer: usize) {
    rig.lose(peer, CloseReason::PeerReset);
}

fn is_asked(rig: &Rig, peer: usize) -> bool {
    rig.peers[peer].events.iter().filter(|event| *event == ASKED).count() == 1
}

#[test]
fn all_who_can_are_asked_once_and_served_on() {
    let mut rig = Rig::new(2);
    let publisher = rig.publish(0, "show");
    let players = [rig.play(0, "show"), rig.play(1, "show")];
    assert_eq!([rig.cores[0].request_reconnect(request(0)), rig.cores[1].request_reconnect(request(0))], [2, 1]);
    rig.settle();
    assert!(players.into_iter().chain([publisher]).all(|peer| is_asked(&rig, peer)));
    assert_eq!(rig.metrics[0].reconnect_requests.get() + rig.metrics[1].reconnect_requests.get(), 3);
    rig.say(publisher, Kind::Video, 40, KEY);
    assert!(players.iter().all(|player| rig.peers[*player].raw.ends_with(&KEY[5..])), "served until they leave");
    assert_eq!(rig.metrics[0].reconnecting.get(), 2);
    leave(&mut rig, players[0]);
    assert_eq!((rig.metrics[0].reconnecting.get(), rig.metrics[1].reconnecting.get()), (1, 1));
    leave(&mut rig, publisher);
    assert_eq!(rig.metrics[0].reconnecting.get(), 0);
    leave(&mut rig, players[1]);
    rig.empty();
}

#[test]
fn who_has_not_connected_cannot_be_asked() {
    let mut rig = Rig::new(1);
    let silent = rig.connect(0, ClientRole::Play, "show");
    assert_eq!(rig.cores[0].request_reconnect(request(0)), 0);
    rig.settle();
    assert!(!is_asked(&rig, silent));
    assert_eq!(rig.metrics[0].reconnecting.get(), 0);
}

#[test]
fn the_window_is_filled_evenly_with_players_before_publishers() {
    let mut rig = Rig::new(1);
    let publishers: Vec<usize> = (0..10).map(|name| rig.publish(0, &name.to_string())).collect();
    let players: Vec<usize> = (0..90).map(|_| rig.play(0, "0")).collect();
    assert_eq!(rig.cores[0].request_reconnect(request(4_000)), 100);
    let asked = |rig: &Rig, peers: &[usize]| peers.iter().filter(|peer| is_asked(rig, **peer)).count();
    for second in 1..=3 {
        rig.pass(Duration::from_secs(1));
        let expected = second * 30;
        assert!((expected - 4..=expected).contains(&asked(&rig, &players)), "in second {second}");
        assert_eq!(asked(&rig, &publishers), 0);
    }
    rig.pass(Duration::from_millis(1_100));
    assert_eq!((asked(&rig, &players), asked(&rig, &publishers)), (90, 10));
}

#[test]
fn a_place_taken_by_somebody_else_is_not_asked() {
    let mut rig = Rig::new(1);
    let player = rig.play(0, "show");
    assert_eq!(rig.cores[0].request_reconnect(request(1_000)), 1);
    leave(&mut rig, player);
    let next = rig.play(0, "show");
    assert_eq!(rig.peers[next].id, rig.peers[player].id, "the same place");
    rig.pass(Duration::from_millis(1_200));
    assert!(!is_asked(&rig, next));
}
