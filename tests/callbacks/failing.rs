//! Servers that are slow, dead or wrong: nobody is let in by them, unless the operator says so, and nobody else is harmed.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use crate::{
    backend::{Backend, Reply, Request},
    common::{
        amf,
        rtmp::{Peer, VIDEO, message},
        seconds,
        server::{Driver, Server},
        wait_for,
    },
};

on_both_drivers!(clients_that_wait_harm_nobody, a_client_that_goes_while_it_waits_is_missed_soon);

fn node(driver: Driver, url: &str, flags: &[&str]) -> Server {
    Server::start(driver, 2, &[&["--on-publish", url], flags].concat())
}

const SHORT: &str = "--callback-timeout-ms=1000";

fn url(backend: &Backend) -> String {
    format!("http://{}/publish", backend.addr)
}

/// Asks to publish, and does not wait for an answer.
fn ask(server: &Server, name: &str) -> Peer {
    let mut peer = Peer::connected(server.rtmp);
    let stream = peer.create_stream();
    peer.send_command(stream, "publish", &[amf::null(), amf::string(name), amf::string("live")]);
    peer
}

fn reply(request: &Request) -> Reply {
    let is_of = |name| request.is_of(name);
    match () {
        () if is_of("redirected") => Reply::Status(302, ""),
        () if is_of("broken") => Reply::Status(500, "{\"allow\":true}"),
        () if is_of("no-http") => Reply::Raw("SSH-2.0-OpenSSH_9.6\r\n"),
        () if is_of("no-json") => Reply::Status(200, "{\"allow\": tru"),
        () if is_of("cut-short") => Reply::Raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"),
        () if is_of("silent") => Reply::Never,
        () if is_of("late") => Reply::After(Duration::from_millis(1_800), 200),
        () => Reply::Status(200, ""),
    }
}

/// Each way to fail is a refusal within the time-out, and is counted; a redirect is not gone after.
#[test]
fn what_is_no_decision_refuses() {
    let backend = Backend::start(reply);
    let server = node(Driver::Auto, &url(&backend), &[SHORT]);
    for (name, result) in [
        ("redirected", "failed"),
        ("broken", "failed"),
        ("no-http", "failed"),
        ("no-json", "failed"),
        ("cut-short", "failed"),
        ("silent", "timeout"),
        ("late", "timeout"),
    ] {
        let before = server.metrics();
        let began = Instant::now();
        let mut peer = Peer::connected(server.rtmp);
        let stream = peer.create_stream();
        assert_eq!(peer.publish(stream, name).as_deref(), Some("NetStream.Publish.Denied"), "{name}");
        // Not once the server gives up by itself, in 30 s.
        assert!(began.elapsed() < seconds(5), "{name}: {:?}", began.elapsed());
        let after = server.metrics().sum("shardcast_callbacks_total", &[("result", result)]);
        assert_eq!(after, before.sum("shardcast_callbacks_total", &[("result", result)]) + 1.0, "{name}");
        assert_eq!(peer.publish(stream, "fine").as_deref(), Some("NetStream.Publish.Start"), "after {name}");
    }
    assert!(backend.paths().iter().all(|path| path == "/publish"), "{:?}", backend.paths());
    assert!(server.log().contains("callback failed"), "the operator is told");
}

#[test]
fn a_server_that_is_not_there_refuses_or_allows_as_the_operator_says() {
    // Nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
    for (flags, expected) in [
        (&[][..], "NetStream.Publish.Denied"),
        (&["--callback-failure", "deny"][..], "NetStream.Publish.Denied"),
        (&["--callback-failure", "allow"][..], "NetStream.Publish.Start"),
    ] {
        let server = node(Driver::Auto, &format!("http://127.0.0.1:{port}/"), flags);
        let mut peer = Peer::connected(server.rtmp);
        let stream = peer.create_stream();
        assert_eq!(peer.publish(stream, "show").as_deref(), Some(expected), "{flags:?}");
    }
}

/// 200 clients wait for a server that says nothing, two requests of it at a time: a stream beside them goes on as ever, and each
/// of them is refused in time.
fn clients_that_wait_harm_nobody(driver: Driver) {
    let backend = Backend::start(reply);
    let server = node(driver, &url(&backend), &[SHORT, "--callback-concurrency", "2"]);
    let (mut publisher, stream) = Peer::publisher(server.rtmp, "fine");
    let mut player = Peer::player(server.rtmp, "fine");
    server.wait_metric("shardcast_players", &[], |players| players == 1.0);
    let mut waiting: Vec<_> = (0..200).map(|_| ask(&server, "silent")).collect();
    let began = Instant::now();
    let mut longest = Duration::ZERO;
    for number in 0..100 {
        let frame = [&[if number == 0 { 0x17 } else { 0x27 }, 1, 0, 0, 0][..], &[number; 500]].concat();
        let sent = Instant::now();
        publisher.send(&message(6, VIDEO, stream, u32::from(number) * 40, frame.clone()));
        let heard = player.next_media().expect("it is served");
        assert_eq!(heard.payload, frame);
        longest = longest.max(sent.elapsed());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(longest < Duration::from_millis(900), "a frame took {longest:?}: as long as an answer");
    for peer in &mut waiting {
        let code = peer.find("an answer", |message| message.code().filter(|code| !code.contains("Connect")));
        assert_eq!(code.as_deref(), Some("NetStream.Publish.Denied"));
    }
    // One after the other they would take 100 s.
    assert!(began.elapsed() < seconds(20), "{:?}", began.elapsed());
    assert_eq!(server.metrics().sum("shardcast_callbacks_total", &[("result", "timeout")]), 200.0);
    wait_for("nothing to be under way", seconds(5), || {
        let metrics = server.metrics();
        let left = ["under_way", "queued"].map(|of| metrics.sum(&format!("shardcast_callbacks_{of}"), &[]));
        (left == [0.0, 0.0]).then_some(())
    });
}

/// It closes, or its network resets it, with bytes unread: the node does not keep it until the answer.
fn a_client_that_goes_while_it_waits_is_missed_soon(driver: Driver) {
    let backend = Backend::start(reply);
    let server = node(driver, &url(&backend), &["--callback-timeout-ms", "9000"]);
    let descriptors = server.descriptors();
    for resets in [false, true] {
        let mut peer = ask(&server, "silent");
        backend.wait_for("the question", seconds(5), |request| request.is_of("silent"));
        peer.write(&[0; 100]);
        server.wait_metric("shardcast_connections", &[], |open| open == 1.0);
        let began = Instant::now();
        if resets {
            socket2::SockRef::from(&peer.stream).set_linger(Some(Duration::ZERO)).expect("an option");
        }
        drop(peer);
        server.wait_metric("shardcast_connections", &[], |open| open == 0.0);
        assert!(began.elapsed() < seconds(2), "{:?}", began.elapsed());
    }
    // An answer that nobody waits for any more.
    let late = ask(&server, "late");
    backend.wait_for("the question", seconds(5), |request| request.is_of("late"));
    drop(late);
    let (mut next, stream) = Peer::publisher(server.rtmp, "fine");
    std::thread::sleep(seconds(2));
    assert_eq!(server.metrics().sum("shardcast_publishers", &[]), 1.0);
    next.send_command(0, "deleteStream", &[amf::null(), amf::number(stream.into())]);
    drop(next);
    server.wait_metric("shardcast_connections", &[], |open| open == 0.0);
    // Those to the server of the callbacks: two that it never answers, and those that it did.
    assert!(server.descriptors() <= descriptors + 4);
}

/// At once if the node ends, at the end of the time it takes to leave if it leaves.
#[test]
fn who_waits_for_an_answer_as_the_node_ends_or_leaves_is_refused() {
    let backend = Backend::start(|_| Reply::Never);
    let drain = ["--drain-mode", "lb", "--drain-timeout-s", "2", "--drain-window-s", "0", "--drain-converge-s", "0"];
    for (flags, ends) in [(&[][..], "TERM"), (&drain[..], "TERM"), (&["--upgrade-timeout-s", "2"][..], "USR2")] {
        let mut server = node(Driver::Auto, &url(&backend), &[flags, &["--callback-timeout-ms", "10000"]].concat());
        let name = format!("show{}", server.pid());
        let mut peer = ask(&server, &name);
        backend.wait_for("the question", seconds(5), |request| request.is_of(&name));
        match ends {
            "USR2" => server.upgrade(),
            signal => server.signal(signal),
        }
        assert_eq!(peer.next_code().as_deref(), Some("NetStream.Publish.Denied"), "{ends} with {flags:?}");
        assert!(peer.closes_within(seconds(5)));
    }
}
