//! Clients are asked to go on at another server, and do (Enhanced RTMP v2, "Reconnect Request"): by the operator's word or
//! as a node ends.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

mod common;

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use common::{
    amf,
    rtmp::{Message, Peer, VIDEO, message},
    seconds,
    server::{Driver, Server},
};

const REQUEST: &str = "NetConnection.Connect.ReconnectRequest";

/// A connection whose client announces (capsEx bit 1) that it takes requests.
fn capable(server: &Server) -> Peer {
    let mut peer = Peer::greeted(server.rtmp);
    let tc_url = amf::string(format!("rtmp://{}/live", server.rtmp));
    let arguments = amf::object(&[("app", amf::string("live")), ("tcUrl", tc_url), ("capsEx", amf::number(1.0))]);
    assert_eq!(peer.connect_with(&arguments).as_deref(), Some("NetConnection.Connect.Success"));
    peer
}

fn capable_publisher(server: &Server) -> (Peer, u32) {
    let mut peer = capable(server);
    let stream = peer.create_stream();
    assert_eq!(peer.publish(stream, "show").as_deref(), Some("NetStream.Publish.Start"));
    (peer, stream)
}

fn capable_player(server: &Server) -> Peer {
    let mut peer = capable(server);
    let stream = peer.create_stream();
    peer.ask_play(stream, "show");
    peer
}

/// Frame `number` of a stream whose every tenth frame is a keyframe.
fn frame(stream: u32, number: u32) -> Message {
    let tag = if number.is_multiple_of(10) { 0x17 } else { 0x27 };
    let payload = [&[tag, 1, 0, 0, 0][..], &number.to_be_bytes(), &[0x55; 200]].concat();
    message(6, VIDEO, stream, number * 40, payload)
}

fn number(message: &Message) -> u32 {
    u32::from_be_bytes(message.payload[5..9].try_into().expect("a frame of ours"))
}

/// The numbers of the frames a player is sent, up to `last` or its end.
fn numbers(player: &mut Peer, last: u32) -> Vec<u32> {
    let mut numbers = Vec::new();
    while numbers.last() != Some(&last)
        && let Some(message) = player.next_media()
    {
        numbers.push(number(&message));
    }
    numbers
}

/// Where a client is asked to go: an onStatus of the connection itself, transaction 0.
#[track_caller]
fn asked_to(peer: &mut Peer) -> Option<String> {
    peer.find("a ReconnectRequest", |message| {
        (message.code()? == REQUEST).then(|| {
            let values = message.values();
            assert_eq!((message.stream, &values[1]), (0, &amf::Value::Number(0.0)));
            assert_eq!(values[3].get("level").map(amf::Value::text), Some("status"));
            values[3].get("tcUrl").map(|url| url.text().to_owned()).unwrap_or_default()
        })
    })
}

fn post(server: &Server, path: &str, headers: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(server.admin).expect("the admin listener");
    stream.set_read_timeout(Some(seconds(10))).expect("a TCP socket");
    let length = body.len();
    write!(stream, "POST {path} HTTP/1.1\r\nHost: a\r\n{headers}Content-Length: {length}\r\n\r\n{body}").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status"), body.to_owned())
}

#[test]
fn a_publisher_and_its_players_move_to_another_server_without_loss() {
    let (old, new) = (Server::start(Driver::Auto, 2, &[]), Server::start(Driver::Auto, 2, &[]));
    let mut player = capable_player(&old);
    let mut legacy = Peer::player(old.rtmp, "show");
    old.wait_metric("shardcast_players", &[], |players| players == 2.0);
    let (mut publisher, stream) = capable_publisher(&old);
    for at in 0..15 {
        publisher.send(&frame(stream, at));
    }
    let url = format!("rtmp://{}/live", new.rtmp);
    let (status, answer) = post(&old, &format!("/api/reconnect?url={url}&over_ms=400"), "", "");
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{status}: {answer}"));
    assert_eq!((status, &answer["asked"], &answer["connections"]), (200, &2.into(), &3.into()));
    // Players first: they wait where the publisher will come. Everybody is served on meanwhile.
    let mut seen = Vec::new();
    let where_to = player.find("the request", |message| {
        if message.type_id == VIDEO {
            seen.push(number(message));
        }
        message.code().filter(|code| code == REQUEST)
    });
    assert!(where_to.is_some());
    let mut moved = capable_player(&new);
    new.wait_metric("shardcast_players_waiting", &[], |waiting| waiting == 1.0);
    assert_eq!(asked_to(&mut publisher), Some(url));
    for at in 15..20 {
        publisher.send(&frame(stream, at));
    }
    // The next frame is a keyframe: it and all after it go to the new server.
    let (mut moved_publisher, moved_stream) = capable_publisher(&new);
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
    let flags = [
        "--drain-reconnect-url",
        "//127.0.0.1:19/live",
        "--drain-timeout-s",
        "20",
        "--drain-window-s",
        "1",
        "--drain-converge-s",
        "0",
    ];
    let mut server = Server::start(Driver::Auto, 1, &flags);
    let mut player = capable_player(&server);
    server.wait_metric("shardcast_players", &[], |players| players == 1.0);
    let (mut publisher, stream) = capable_publisher(&server);
    server.signal("TERM");
    assert_eq!(asked_to(&mut player).as_deref(), Some("//127.0.0.1:19/live"));
    assert_eq!(asked_to(&mut publisher).as_deref(), Some("//127.0.0.1:19/live"));
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
    let mut player = capable_player(&server);
    server.wait_metric("shardcast_players", &[], |players| players == 1.0);
    let from = Instant::now();
    server.signal("TERM");
    assert_eq!(asked_to(&mut player).as_deref(), Some("/other"));
    assert_eq!(server.wait_exit(seconds(15)).code(), Some(0));
    assert!(from.elapsed() >= Duration::from_millis(900), "it waits its time");
}

#[test]
fn a_second_signal_ends_a_drain_at_once() {
    let mut server = Server::start(Driver::Auto, 1, &["--drain-reconnect-url", "/other"]);
    let mut player = capable_player(&server);
    server.wait_metric("shardcast_players", &[], |players| players == 1.0);
    server.signal("TERM");
    assert!(asked_to(&mut player).is_some());
    server.signal("TERM");
    assert_eq!(server.wait_exit(seconds(5)).code(), Some(128 + 15));
}

#[test]
fn the_admin_listener_refuses_what_nobody_could_follow() {
    let server = Server::start(Driver::Auto, 1, &[]);
    assert_eq!(post(&server, "/api/reconnect", "", "over_ms=0").0, 200);
    assert_eq!(post(&server, "/api/reconnect?url=http://b/live", "", "").0, 400);
    assert_eq!(post(&server, "/api/reconnect", "", "over_ms=soon").0, 400);
    assert_eq!(post(&server, "/api/reconnect", "Origin: http://evil\r\n", "").0, 403);
    assert_eq!(post(&server, "/api/reconnect", "", &"x".repeat(20_000)).0, 413);
    assert_eq!(server.get("/api/reconnect").expect("an answer").0, 405);
}
