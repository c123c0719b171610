//! What goes first, and what may be taken back.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{
    common::{
        moving::{GOP, able_player, able_publisher, frame, next_number, wait_asked},
        rtmp::{Got, Peer, VIDEO, message},
        seconds, wait_for,
    },
    scene::{accepts, readiness, report, start},
};

#[test]
fn behind_anycast_clients_go_before_readiness_and_listeners_last() {
    let flags =
        "--drain-reconnect-url //127.0.0.1:19/live --drain-timeout-s 20 --drain-window-s 1 --drain-converge-s 2";
    let mut server = start(2, flags);
    let mut player = able_player(server.rtmp, "show");
    server.wait_metric("shardcast_players", &[], |players| players == 1.0);
    let (mut publisher, stream) = able_publisher(server.rtmp, "show");
    server.signal("TERM");
    assert_eq!(wait_asked(&mut player).as_deref(), Some("//127.0.0.1:19/live"));
    assert_eq!(wait_asked(&mut publisher).as_deref(), Some("//127.0.0.1:19/live"));
    assert!(readiness(&server) == 200 && accepts(&server), "the route stays until clients have gone");
    assert_eq!(report(&server)["state"], "draining");
    assert_eq!(report(&server)["left"]["asked"], 2);
    assert_eq!(server.metrics().sum("shardcast_draining", &[]), 1.0);
    publisher.send(&frame(stream, 0));
    assert_eq!(next_number(&mut player), Some(0), "served until they leave");
    // Whoever comes now and can be sent on is, at once; whoever cannot is served.
    let mut newcomer = able_player(server.rtmp, "show");
    assert!(wait_asked(&mut newcomer).is_some());
    let mut other = Peer::player(server.rtmp, "show");
    assert_eq!(next_number(&mut other), Some(0));
    drop((player, newcomer));
    drop(publisher);
    wait_for("readiness to go", seconds(5), || (readiness(&server) == 503).then_some(()));
    let gone = Instant::now();
    assert!(accepts(&server), "while routes converge");
    wait_for("listeners to close", seconds(5), || (!accepts(&server)).then_some(()));
    assert!(gone.elapsed() > Duration::from_millis(1_500), "{:?}", gone.elapsed());
    assert!(other.closes_within(seconds(5)));
    assert_eq!(server.wait_exit(seconds(10)).code(), Some(0));
}

#[test]
fn behind_a_balancer_readiness_goes_first() {
    let mut server = start(1, "--drain-mode lb --drain-timeout-s 20 --drain-window-s 1 --drain-converge-s 2");
    let mut player = able_player(server.rtmp, "show");
    server.wait_metric("shardcast_players", &[], |players| players == 1.0);
    server.signal("TERM");
    wait_for("readiness to go", seconds(5), || (readiness(&server) == 503).then_some(()));
    assert!(accepts(&server), "until the balancer has noticed");
    assert_eq!(player.next_code_or_silence().as_deref(), Some("NetStream.Play.Reset"), "it has waited for the stream");
    while let Some(code) = player.next_code_or_silence() {
        assert!(code.starts_with("NetStream"), "nobody is moved yet, but {code}");
    }
    // Without a URL they come back to their own, where the balancer has another node for them.
    assert_eq!(wait_asked(&mut player).as_deref(), Some(""));
    assert!(accepts(&server));
    drop(player);
    assert_eq!(server.wait_exit(seconds(5)).code(), Some(0));
}

#[test]
fn a_drain_by_request_ends_the_process() {
    let mut server = start(2, "");
    assert_eq!(report(&server)["state"], "serving");
    let (status, body) = server.request("POST", "/api/drain?mode=lb&converge_s=0&timeout_s=10&window_s=0", "", "");
    assert_eq!(status, 202, "{body}");
    assert_eq!(server.wait_exit(seconds(5)).code(), Some(0));
}

#[test]
fn what_cannot_be_done_is_refused() {
    let server = start(1, "");
    assert_eq!(server.request("POST", "/api/drain?mode=later", "", "").0, 400);
    assert_eq!(server.request("POST", "/api/drain", "Origin: http://evil\r\n", "").0, 403);
    assert_eq!(server.request("DELETE", "/api/drain", "Origin: http://evil\r\n", "").0, 403);
    assert_eq!(server.request("DELETE", "/api/drain", "", "").0, 409, "it is not draining");
    let _player = able_player(server.rtmp, "show");
    server.wait_metric("shardcast_players", &[], |players| players == 1.0);
    assert_eq!(server.request("POST", "/api/drain?url=//b/live&timeout_s=60", "", "").0, 202);
    assert_eq!(server.request("POST", "/api/drain", "", "").0, 409, "it is draining already");
}

#[test]
fn a_node_that_ends_refuses_at_once() {
    let mut server = start(1, "");
    let (mut publisher, stream) = Peer::publisher(server.rtmp, "show");
    publisher.use_chunk_size(0xffff);
    // Its last messages take as long as they may.
    let _player = Peer::player_with_buffer(server.rtmp, "show", 4_096);
    server.wait_metric("shardcast_players", &[], |players| players == 1.0);
    for number in 0..40 {
        let tag = if number == 0 { 0x17 } else { 0x27 };
        let payload = [&[tag, 1, 0, 0, 0][..], &[0x55; 200_000]].concat();
        publisher.send(&message(6, VIDEO, stream, number, payload));
    }
    server.wait_messages("show", 40);
    server.signal("TERM");
    wait_for("the node to end", seconds(5), || (report(&server)["state"] == "ending").then_some(()));
    let asked = Instant::now();
    for method in ["POST", "DELETE"] {
        assert_eq!(server.request(method, "/api/drain", "", "").0, 409);
    }
    assert!(asked.elapsed() < seconds(2), "{:?}", asked.elapsed());
    assert_eq!(server.wait_exit(seconds(12)).code(), Some(0));
}

#[test]
fn a_drain_is_taken_back() {
    let mut server = start(2, "");
    let mut player = Peer::player(server.rtmp, "show");
    server.wait_metric("shardcast_players", &[], |players| players == 1.0);
    let (mut publisher, stream) = Peer::publisher(server.rtmp, "show");
    publisher.send(&frame(stream, 0));
    assert!(player.next_media().is_some());
    assert_eq!(server.request("POST", "/api/drain?mode=lb&converge_s=2&window_s=0", "", "").0, 202);
    wait_for("readiness to go", seconds(5), || (readiness(&server) == 503).then_some(()));
    assert_eq!(server.request("DELETE", "/api/drain", "", "").0, 200);
    assert_eq!((readiness(&server), report(&server)["state"].as_str()), (200, Some("serving")));
    // And once clients were to go, which need not any more.
    assert_eq!(server.request("POST", "/api/drain?window_s=0", "", "").0, 202);
    server.wait_metric("shardcast_leaving_players", &[], |left| left == 1.0);
    assert_eq!(server.request("DELETE", "/api/drain", "", "").0, 200);
    for at in 1..=GOP {
        publisher.send(&frame(stream, at));
    }
    let numbers: Vec<_> = (1..=GOP).map(|_| next_number(&mut player)).collect();
    assert_eq!(numbers, (1..=GOP).map(Some).collect::<Vec<_>>(), "it plays on over the keyframe");
    server.assert_running();
    assert_eq!(server.metrics().sum("shardcast_leaving_players", &[]), 0.0);
    server.signal("TERM");
    assert_eq!(server.wait_exit(seconds(10)).code(), Some(0));
}

#[test]
fn the_first_signal_cuts_short_a_drain_by_request_and_the_second_ends_at_once() {
    let mut server = start(1, "");
    let mut player = able_player(server.rtmp, "show");
    server.wait_metric("shardcast_players", &[], |players| players == 1.0);
    assert_eq!(server.request("POST", "/api/drain?url=//b/live&timeout_s=600", "", "").0, 202);
    assert!(wait_asked(&mut player).is_some());
    server.signal("TERM");
    assert_eq!(server.wait_exit(seconds(10)).code(), Some(0), "in order, at once");

    let mut server = start(1, "--drain-mode anycast --drain-reconnect-url //b/live --drain-timeout-s 600");
    let mut player = able_player(server.rtmp, "show");
    server.wait_metric("shardcast_players", &[], |players| players == 1.0);
    server.signal("TERM");
    assert!(wait_asked(&mut player).is_some());
    server.signal("INT");
    assert_eq!(server.wait_exit(seconds(5)).code(), Some(128 + 2));
}

#[test]
fn nobody_outstays_the_timeout() {
    // Little of what is sent goes to the kernel, so that whoever reads nothing is stuck.
    let flags =
        "--drain-reconnect-url //b/live --drain-timeout-s 4 --drain-window-s 1 --drain-converge-s 1 --sndbuf 32K";
    let mut server = start(1, flags);
    // One that heeds nothing, one that reads nothing, and one that publishes no second keyframe.
    let mut stubborn = able_player(server.rtmp, "show");
    let mut deaf = Peer::player_with_buffer(server.rtmp, "show", 8 * 1_024);
    server.wait_metric("shardcast_players", &[], |players| players == 2.0);
    let (mut publisher, stream) = Peer::publisher(server.rtmp, "show");
    publisher.use_chunk_size(60_000);
    publisher.send(&frame(stream, 0));
    let from = Instant::now();
    server.signal("TERM");
    let mut at = 0;
    let exit = loop {
        at += 1;
        let mut late = frame(stream, at * GOP + 1);
        late.timestamp = at * 40;
        late.payload.resize(100_000, 0x55);
        publisher.send(&late);
        while let Got::Message(_) = stubborn.next(Duration::from_millis(20)) {}
        thread::sleep(Duration::from_millis(20));
        // The time-out, and 5 s for whoever takes its last messages slowly, or not at all.
        assert!(from.elapsed() < seconds(12), "it should have ended");
        if !accepts(&server) && server.get("/healthz").is_err() {
            break server.wait_exit(seconds(5));
        }
    };
    assert_eq!(exit.code(), Some(0));
    assert!(from.elapsed() > seconds(3), "{:?}", from.elapsed());
    let mut numbers = std::iter::from_fn(|| next_number(&mut deaf));
    assert!(numbers.by_ref().take(20).count() < 20, "it was never stuck");
}
