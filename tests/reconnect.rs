//! Clients are asked to go on at another server, and do (Enhanced RTMP v2, "Reconnect Request"): by the operator's word or
//! as a node ends.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

mod common;

use std::time::{Duration, Instant};

use common::{
    moving::{able_player, able_publisher, asked_to, frame, next_number, number, wait_asked},
    rtmp::Peer,
    seconds,
    server::{Driver, Server},
};

/// The numbers of the frames a player is sent, up to `last` or its end.
fn numbers(player: &mut Peer, last: u32) -> Vec<u32> {
    let mut numbers = Vec::new();
    while numbers.last() != Some(&last)
        && let Some(number) = next_number(player)
    {
        numbers.push(number);
    }
    numbers
}

#[test]
fn a_publisher_and_its_players_move_to_another_server_without_loss() {
    let (old, new) = (Server::start(Driver::Auto, 2, &[]), Server::start(Driver::Auto, 2, &[]));
    let mut player = able_player(old.rtmp, "show");
    let mut legacy = Peer::player(old.rtmp, "show");
    old.wait_metric("shardcast_players", &[], |players| players == 2.0);
    let (mut publisher, stream) = able_publisher(old.rtmp, "show");
    for at in 0..15 {
        publisher.send(&frame(stream, at));
    }
    let url = format!("rtmp://{}/live", new.rtmp);
    let (status, answer) = old.request("POST", &format!("/api/reconnect?url={url}&over_ms=400"), "", "");
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{status}: {answer}"));
    assert_eq!((status, &answer["asked"], &answer["connections"]), (200, &2.into(), &3.into()));
    // Players first: they wait where the publisher will come. Everybody is served on meanwhile.
    let mut seen = Vec::new();
    let where_to = player.find("the request", |message| {
        seen.extend(number(message));
        asked_to(message)
    });
    assert_eq!(where_to.as_ref(), Some(&url));
    let mut moved = able_player(new.rtmp, "show");
    new.wait_metric("shardcast_players_waiting", &[], |waiting| waiting == 1.0);
    assert_eq!(wait_asked(&mut publisher), Some(url));
    for at in 15..20 {
        publisher.send(&frame(stream, at));
    }
    // The next frame is a keyframe: it and all after it go to the new server.
    let (mut moved_publisher, moved_stream) = able_publisher(new.rtmp, "show");
    for at in 20..40 {
        moved_publisher.send(&frame(moved_stream, at));
    }
    seen.extend(numbers(&mut player, 19));
    drop(publisher);
    seen.extend(numbers(&mut moved, 39));
    assert_eq!(seen, (0..40).collect::<Vec<_>>(), "every frame once");
    assert_eq!(numbers(&mut legacy, 19), (0..20).collect::<Vec<_>>(), "who was not asked is served to the end");
    drop(player);
    old.wait_metric("shardcast_reconnecting", &[], |left| left == 0.0);
    assert_eq!(old.metrics().sum("shardcast_reconnect_requests_total", &[]), 2.0);
}

#[test]
fn a_node_that_ends_asks_first_and_waits_until_they_have_left() {
    let flags =
        "--drain-reconnect-url //127.0.0.1:19/live --drain-timeout-s 20 --drain-window-s 1 --drain-converge-s 0";
    let mut server = Server::start(Driver::Auto, 1, &flags.split(' ').collect::<Vec<_>>());
    let mut player = able_player(server.rtmp, "show");
    server.wait_metric("shardcast_players", &[], |players| players == 1.0);
    let (mut publisher, stream) = able_publisher(server.rtmp, "show");
    server.signal("TERM");
    assert_eq!(wait_asked(&mut player).as_deref(), Some("//127.0.0.1:19/live"));
    assert_eq!(wait_asked(&mut publisher).as_deref(), Some("//127.0.0.1:19/live"));
    assert_eq!(server.get("/readyz").expect("the admin listener").0, 200, "the route stays until they have left");
    publisher.send(&frame(stream, 0));
    assert_eq!(numbers(&mut player, 0), [0], "served until they leave");
    server.assert_running();
    drop((player, publisher));
    let left = Instant::now();
    assert_eq!(server.wait_exit(seconds(10)).code(), Some(0));
    assert!(left.elapsed() < seconds(8), "it need not wait longer");
}

#[test]
fn a_node_does_not_wait_for_ever() {
    let flags = ["--drain-reconnect-url", "/other", "--drain-timeout-s", "1"];
    let mut server = Server::start(Driver::Auto, 1, &flags);
    let mut player = able_player(server.rtmp, "show");
    server.wait_metric("shardcast_players", &[], |players| players == 1.0);
    let from = Instant::now();
    server.signal("TERM");
    assert_eq!(wait_asked(&mut player).as_deref(), Some("/other"));
    assert_eq!(server.wait_exit(seconds(15)).code(), Some(0));
    assert!(from.elapsed() >= Duration::from_millis(900), "it waits its time");
}

#[test]
fn a_second_signal_ends_a_drain_at_once() {
    let mut server = Server::start(Driver::Auto, 1, &["--drain-reconnect-url", "/other"]);
    let mut player = able_player(server.rtmp, "show");
    server.wait_metric("shardcast_players", &[], |players| players == 1.0);
    server.signal("TERM");
    assert!(wait_asked(&mut player).is_some());
    server.signal("TERM");
    assert_eq!(server.wait_exit(seconds(5)).code(), Some(128 + 15));
}

#[test]
fn the_admin_listener_refuses_what_nobody_could_follow() {
    let server = Server::start(Driver::Auto, 1, &[]);
    let post = |path, headers, body| server.request("POST", path, headers, body).0;
    assert_eq!(post("/api/reconnect", "", "over_ms=0"), 200);
    assert_eq!(post("/api/reconnect?url=http://b/live", "", ""), 400);
    assert_eq!(post("/api/reconnect", "", "over_ms=soon"), 400);
    assert_eq!(post("/api/reconnect", "Origin: http://evil\r\n", ""), 403);
    assert_eq!(post("/api/reconnect", "", &"x".repeat(20_000)), 413);
    assert_eq!(server.get("/api/reconnect").expect("an answer").0, 405);
}
