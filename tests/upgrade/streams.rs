//! Streams while two processes serve: played at the new one while their publishers are at the old one, and after.

use crate::common::{
    moving::{frame, next_number, number},
    rtmp::Peer,
    seconds,
    server::{Driver, Server},
    wait_for,
};

/// The number of the first frame a player gets, which must be a keyframe, once all up to `last` have come.
#[track_caller]
fn first_of(player: &mut Peer, last: u32) -> u32 {
    let first = next_number(player).expect("the stream");
    let mut at = first;
    while at < last {
        let next = next_number(player).expect("the stream goes on");
        assert_eq!(next, at + 1, "a frame is missing");
        at = next;
    }
    first
}

fn players_at_the_new_process_see_what_is_published_at_the_old_one(driver: Driver) {
    let mut server = Server::start(driver, 2, &["--gop-cache", "on"]);
    let (mut publisher, stream) = Peer::publisher(server.rtmp, "show");
    let mut old_player = Peer::player(server.rtmp, "show");
    server.wait_metric("shardcast_players", &[], |players| players == 1.0);
    for at in 0..15 {
        publisher.send(&frame(stream, at));
    }
    server.wait_messages("show", 15);
    server.upgrade();
    let mut new_players: Vec<Peer> = (0..4).map(|_| Peer::player(server.rtmp, "show")).collect();
    server.wait_live("show");
    for at in 15..30 {
        publisher.send(&frame(stream, at));
    }
    first_of(&mut old_player, 29);
    for player in &mut new_players {
        assert_eq!(first_of(player, 29), 10, "the newest keyframe");
    }
    assert_eq!(server.relays().pull("live/show", "source").as_deref(), Some("predecessor"));

    // What nobody has is waited for as ever, and published at the new process.
    let mut waiting = Peer::player(server.rtmp, "later");
    std::thread::sleep(seconds(4));
    let (mut later, later_stream) = Peer::publisher(server.rtmp, "later");
    for at in 0..5 {
        later.send(&frame(later_stream, at));
    }
    assert_eq!(first_of(&mut waiting, 4), 0);
}

fn players_stay_when_their_encoder_comes_to_the_new_process(driver: Driver) {
    let mut server = Server::start(driver, 2, &[]);
    let (mut publisher, stream) = Peer::publisher(server.rtmp, "show");
    publisher.send(&frame(stream, 0));
    server.wait_messages("show", 1);
    server.upgrade();
    let mut players: Vec<Peer> = (0..4).map(|_| Peer::player(server.rtmp, "show")).collect();
    let mut last = Vec::new();
    for player in &mut players {
        last.push(player.next_media().expect("the stream").timestamp);
    }
    // At once, while the stream is still had from the old process, and a second time in the usual way.
    for round in 1..3 {
        drop(publisher);
        if round == 2 {
            // Its shard may hear of that later than another one of who comes next.
            server.wait_metric("shardcast_publishers", &[], |publishers| publishers == 0.0);
        }
        let (next, stream) = Peer::publisher(server.rtmp, "show");
        publisher = next;
        publisher.send(&frame(stream, round * 10));
        for (player, last) in players.iter_mut().zip(&mut last) {
            let message = player.next_media().expect("the stream goes on");
            assert_eq!(number(&message), Some(round * 10));
            assert!(message.timestamp > *last, "{} after {last}", message.timestamp);
            *last = message.timestamp;
        }
    }
}

fn the_old_process_ends_once_its_clients_have_left(driver: Driver) {
    let mut server = Server::start(driver, 2, &["--unpublish-grace-s", "1"]);
    let old = server.pid();
    let (mut publisher, stream) = Peer::publisher(server.rtmp, "show");
    publisher.send(&frame(stream, 0));
    server.wait_messages("show", 1);
    server.upgrade();
    let mut player = Peer::player(server.rtmp, "show");
    let _waiting = Peer::player(server.rtmp, "nothing");
    assert_eq!(next_number(&mut player), Some(0));
    drop(publisher);
    server.wait_gone_process(old, seconds(20));
    // And the same name is free here.
    let mut again = Peer::player(server.rtmp, "show");
    let (mut publisher, stream) = Peer::publisher(server.rtmp, "show");
    publisher.send(&frame(stream, 0));
    assert_eq!(next_number(&mut again), Some(0));
}

fn those_who_stay_are_served_as_long_as_is_said(driver: Driver) {
    let mut server = Server::start(driver, 2, &["--upgrade-timeout-s", "2"]);
    let old = server.pid();
    let (mut publisher, stream) = Peer::publisher(server.rtmp, "show");
    publisher.send(&frame(stream, 0));
    server.wait_messages("show", 1);
    server.upgrade();
    std::thread::sleep(std::time::Duration::from_millis(1_000));
    assert!(publisher.is_served());
    assert!(publisher.closes_within(seconds(10)));
    server.wait_gone_process(old, seconds(10));
}

#[test]
fn names_that_nobody_publishes_cost_few_connections_to_the_old_process() {
    let mut server = Server::start(Driver::Auto, 1, &[]);
    let (mut publisher, stream) = Peer::publisher(server.rtmp, "show");
    publisher.send(&frame(stream, 0));
    server.wait_messages("show", 1);
    server.upgrade();
    let before = server.log().lines().count();
    let waiting: Vec<Peer> = (0..60).map(|at| Peer::player(server.rtmp, &format!("nothing-{at}"))).collect();
    for _ in 0..20 {
        let connections = server.metrics().sum("shardcast_connections", &[]);
        assert!(connections <= 60.0 + 16.0, "{connections}");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let mut player = Peer::player(server.rtmp, "show");
    wait_for("its turn", seconds(20), || server.stream("show").map(drop));
    publisher.send(&frame(stream, 10));
    assert!(player.next_media().is_some());
    assert!(server.log().lines().count() < before + 30, "{}", server.log());
    drop(waiting);
}

on_both_drivers!(
    players_at_the_new_process_see_what_is_published_at_the_old_one,
    players_stay_when_their_encoder_comes_to_the_new_process,
    the_old_process_ends_once_its_clients_have_left,
    those_who_stay_are_served_as_long_as_is_said,
);
