//! Limits to who comes in.

use std::net::SocketAddr;

use super::rig::{AVC, KEY, Rig};
use crate::{
    limits::TICK,
    rtmp::client::ClientRole,
    shard::{
        ceilings::Rate,
        close::{CloseReason, RefuseReason, TurnedAway},
        conn::Standing,
        listen_addr::{SUCCESSOR_SHOWN_AS, UNIX_PEER},
    },
};

fn from(n: u8) -> SocketAddr {
    ([192, 0, 2, n], 1_000).into()
}

#[test]
fn a_full_node_closes_who_comes_until_somebody_leaves() {
    let mut rig = Rig::with(2, |config| config.ceilings.connections_max = Some(2));
    let first = rig.cores[0].admit(Standing::Client, from(1), true).expect("room");
    let second = rig.cores[1].admit(Standing::Client, from(2), true).expect("room");
    for core in &mut rig.cores {
        assert_eq!(core.admit(Standing::SocketFile, UNIX_PEER, true), None, "the limit is the process's");
    }
    rig.cores[0].remove(first);
    assert!(rig.cores[1].admit(Standing::Client, from(3), true).is_some());
    rig.cores[1].remove(second);
    let count = |shard: usize| rig.metrics[shard].turned_away(TurnedAway::Connections).get();
    assert_eq!((count(0), count(1)), (1, 1));
}

#[test]
fn an_address_that_connects_too_often_is_turned_away_and_others_are_not() {
    let mut rig = Rig::with(1, |config| config.ceilings.connects_per_ip = Some(Rate { per_second: 10, burst: 2 }));
    let core = &mut rig.cores[0];
    for _ in 0..2 {
        let id = core.admit(Standing::Client, from(1), true).expect("within the burst");
        core.remove(id);
    }
    assert_eq!(core.admit(Standing::Client, from(1), true), None);
    assert!(core.admit(Standing::Client, from(2), true).is_some());
    assert!((0..9).all(|_| core.admit(Standing::SocketFile, UNIX_PEER, true).is_some()), "a socket file is no address");
    assert!(
        (0..9).all(|_| core.admit(Standing::Client, ([127, 0, 0, 1], 5).into(), true).is_some()),
        "loopback is exempt"
    );
    core.advance(TICK);
    assert!(core.admit(Standing::Client, from(1), true).is_some());
    assert_eq!(rig.metrics[0].turned_away(TurnedAway::ConnectRate).get(), 1);
}

#[test]
fn a_client_that_a_balancer_names_is_counted_by_its_own_address() {
    let mut rig = Rig::with(1, |config| config.ceilings.connections_per_ip_max = 1);
    let core = &mut rig.cores[0];
    let [first, second, third] = [(); 3].map(|()| core.admit(Standing::Client, from(9), false).expect("nobody yet"));
    assert!(core.name_client(first, from(1)) && core.name_client(second, from(2)));
    assert!(!core.name_client(third, from(1)), "it has one");
    core.remove(third);
    core.remove(first);
    let again = core.admit(Standing::Client, from(9), false).expect("nobody yet");
    assert!(core.name_client(again, from(1)));
    assert_eq!(rig.metrics[0].turned_away(TurnedAway::ConnectionsPerIp).get(), 1);
    assert_eq!(rig.metrics[0].closed(CloseReason::TurnedAway).get(), 1);
}

#[test]
fn of_too_many_that_are_silent_the_oldest_goes_and_clients_stay() {
    let mut rig = Rig::with(1, |config| config.ceilings.handshakes_max = 3);
    let publisher = rig.publish(0, "a");
    let silent: Vec<_> = (0..5).map(|n| rig.connect(0, ClientRole::Play, &format!("b{n}"))).collect();
    let closed = rig.metrics[0].closed(CloseReason::Handshakes);
    assert_eq!(closed.get(), 2, "the first two of five");
    rig.settle();
    let is_open = |rig: &Rig, peer: usize| rig.peers[peer].open;
    let open: Vec<bool> = silent.iter().map(|peer| is_open(&rig, *peer)).collect();
    assert_eq!(open, [false, false, true, true, true]);
    assert!(is_open(&rig, publisher));
    rig.pass_ms(100);
    assert_eq!(rig.metrics[0].handshakes.get(), 0, "those that were left have connected");
}

#[test]
fn one_publisher_too_many_is_refused_until_another_has_ended() {
    let mut rig = Rig::with(2, |config| config.ceilings.publishers_max = 1);
    let first = rig.publish(0, "a");
    let second = rig.connect(1, ClientRole::Publish, "b");
    rig.settle();
    assert!(
        rig.peers[second].events.iter().any(|event| event.contains("NetStream.Publish.Denied")),
        "{:?}",
        rig.peers[second].events
    );
    assert_eq!(rig.metrics[1].refused(RefuseReason::Publishers).get(), 1);
    rig.lose(first, CloseReason::PeerClosed);
    rig.publish(1, "c");
}

#[test]
fn a_stream_has_so_many_players_on_all_shards() {
    let mut rig = Rig::with(2, |config| config.ceilings.players_per_stream_max = 2);
    let publisher = rig.publish(0, "a");
    rig.video(publisher, 0, AVC);
    rig.video(publisher, 0, KEY);
    let first = rig.play(0, "a");
    rig.play(1, "a");
    for shard in 0..2 {
        let third = rig.connect(shard, ClientRole::Play, "a");
        rig.settle();
        assert!(
            rig.peers[third].events.iter().any(|event| event.contains("NetStream.Play.Failed")),
            "{:?}",
            rig.peers[third].events
        );
        assert_eq!(rig.metrics[shard].refused(RefuseReason::Audience).get(), 1);
    }
    rig.play(1, "another");
    rig.lose(first, CloseReason::PeerClosed);
    rig.play(1, "a");
}

#[test]
fn a_successor_hears_at_once_of_a_name_that_nobody_publishes() {
    let mut rig = Rig::new(2);
    let publisher = rig.publish(1, "show");
    let asks = ["show", "nothing"].map(|name| rig.connect_from(0, SUCCESSOR_SHOWN_AS, ClientRole::Play, name));
    let player = rig.play(0, "nothing");
    rig.settle();
    assert_eq!(asks.map(|ask| rig.peers[ask].open), [true, false]);
    assert!(rig.peers[player].open, "who came here may wait");
    for peer in [publisher, asks[0], player] {
        rig.lose(peer, CloseReason::PeerClosed);
    }
    rig.empty();
}

#[test]
fn limits_are_not_for_a_successor_which_stands_for_clients_counted_elsewhere() {
    let mut rig = Rig::with(1, |config| {
        config.ceilings.connections_max = Some(3);
        config.ceilings.players_per_stream_max = 1;
    });
    let publisher = rig.publish(0, "show");
    let player = rig.play(0, "show");
    let successor = rig.connect_from(0, SUCCESSOR_SHOWN_AS, ClientRole::Play, "show");
    rig.settle();
    rig.video(publisher, 0, AVC);
    rig.video(publisher, 40, KEY);
    assert_eq!(rig.seen(player, 1), [AVC, KEY]);
    assert_eq!(rig.seen(successor, 1), [AVC, KEY]);
    assert_eq!(rig.metrics[0].refused(RefuseReason::Audience).get(), 0);
    for n in 0..5 {
        assert_eq!(rig.cores[0].admit(Standing::Client, from(n), true).is_some(), n < 3);
        assert!(rig.cores[0].admit(Standing::Successor, SUCCESSOR_SHOWN_AS, true).is_some());
    }
}
