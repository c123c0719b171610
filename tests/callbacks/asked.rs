//! Servers that decide: who is let in, who is refused, and what waits meanwhile.

use std::{process::Command, time::Duration};

use crate::{
    backend::{Backend, Reply},
    common::{
        amf, media,
        packets::{Joined, Seen, assert_received, ffprobe, probed},
        rtmp::{Peer, VIDEO, message},
        seconds,
        server::{Driver, Server},
        tool::{require, scratch},
        wait_for,
    },
    tls::{Authority, Front},
};

on_both_drivers!(every_packet_passes_once_the_server_allows_it, what_a_publisher_sends_meanwhile_waits_in_its_socket);

const SECRET: &str = "a secret of the operator's";

fn node(driver: Driver, backend: &Backend, events: &[&str], flags: &[&str]) -> Server {
    let events = events.iter().map(|event| backend.flag(event)).collect::<Vec<_>>();
    let flags = events.iter().map(String::as_str).chain(flags.iter().copied()).collect::<Vec<_>>();
    Server::start(driver, 2, &[&["--unpublish-grace-s", "1"], &flags[..]].concat())
}

/// Real clients wait for a slow server and lose nothing; what it is told is theirs, and signed; its connections are kept.
fn every_packet_passes_once_the_server_allows_it(driver: Driver) {
    let secret = scratch("callback-secret");
    std::fs::write(&secret, format!("{SECRET}\n")).expect("a file");
    let backend = Backend::start(|_| Reply::After(Duration::from_millis(300), 200));
    let events = ["connect", "publish", "play", "publish-done", "play-done"];
    let signed = format!("--callback-secret={}", secret.display());
    let server = node(driver, &backend, &events, &[&signed]);

    let source = media::av();
    let early = ffprobe(server.url("show?token=a%2Fb"));
    server.wait_metric("shardcast_players", &[], |waiting| waiting == 1.0);
    let publisher = media::publish(require("ffmpeg"), source, &server.url("show?key=k"));
    server.wait_running_for("show", 1_500);
    let late = ffprobe(server.url("show"));
    publisher.finish(seconds(media::SOURCE_SECONDS + 10));
    for (who, player, joined) in [("early", early, Joined::Early), ("late", late, Joined::Late)] {
        assert_received(who, &source.packets, &probed(&player.finish(seconds(20))), joined, Seen::AsReceived);
    }
    wait_for("both players' ends to be told", seconds(5), || {
        (backend.paths().iter().filter(|path| *path == "/play-done").count() == 2).then_some(())
    });
    let publish = backend.wait_for("a publish", seconds(1), |request| request.path == "/publish").json();
    assert_eq!(publish["stream"]["key"], "live/show");
    assert_eq!(publish["stream"]["query"], "key=k");
    assert_eq!(publish["client"]["address"], "127.0.0.1");
    assert!(publish["client"]["flashVer"].as_str().is_some_and(|words| words.contains("Lavf")), "{publish}");
    let played = |request: &crate::backend::Request| request.path == "/play" && request.body.contains("token=a%2Fb");
    backend.wait_for("a play with its token, as it was written", seconds(1), played);
    let done = backend.wait_for("the end", seconds(1), |request| request.path == "/publish-done").json();
    assert_eq!(done["client"]["id"], publish["client"]["id"]);
    for request in backend.requests() {
        assert!(is_signed(&request.signature, &request.body), "{request:?}");
    }
    let (requests, connections) = (backend.requests().len(), backend.connections());
    assert_eq!(requests, 9, "three connects, a publish, two plays and their ends");
    assert!(connections <= 3, "{connections} connections for {requests} requests");
    server.wait_metric("shardcast_callbacks_total", &[("result", "told")], |told| told == 3.0);
    assert_eq!(server.metrics().sum("shardcast_callbacks_total", &[("result", "allowed")]), 6.0);
}

/// As the guide has it: `openssl dgst` of time and body.
fn is_signed(signature: &str, body: &str) -> bool {
    let (time, mac) = signature.strip_prefix("t=").and_then(|rest| rest.split_once(",v1=")).expect("a signature");
    let file = scratch("signed");
    std::fs::write(&file, format!("{time}.{body}")).expect("a file");
    let mut openssl = Command::new(require("openssl"));
    let output = openssl.args(["dgst", "-sha256", "-hmac", SECRET]).arg(&file).output().expect("it runs");
    String::from_utf8_lossy(&output.stdout).trim().ends_with(&format!("= {mac}"))
}

/// A publisher that sends on without an answer: its bytes stay with the kernel, and all of them count once it is let in.
fn what_a_publisher_sends_meanwhile_waits_in_its_socket(driver: Driver) {
    const FRAMES: u32 = 1_000;
    // Long enough for the metrics to be read before it, on a machine that is busy.
    let backend = Backend::start(|_| Reply::After(seconds(4), 200));
    let server = node(driver, &backend, &["publish"], &["--callback-timeout-ms", "9000"]);
    let mut peer = Peer::connected(server.rtmp);
    let stream = peer.create_stream();
    let before = server.metrics().sum("shardcast_bytes_received_total", &[]);
    peer.send_command(stream, "publish", &[amf::null(), amf::string("show"), amf::string("live")]);
    let mut writer = peer.stream.try_clone().expect("a descriptor");
    let chunk_bytes = peer.chunk_bytes;
    let sender = std::thread::spawn(move || {
        for number in 0..FRAMES {
            let tag = if number == 0 { 0x17 } else { 0x27 };
            let frame = message(6, VIDEO, stream, number, [&[tag, 1, 0, 0, 0][..], &[0x55; 5_000]].concat());
            std::io::Write::write_all(&mut writer, &frame.chunks(chunk_bytes)).expect("it is taken in the end");
        }
    });
    backend.wait_for("the question", seconds(5), |request| request.path == "/publish");
    std::thread::sleep(Duration::from_millis(600));
    let read = server.metrics().sum("shardcast_bytes_received_total", &[]) - before;
    assert!(read <= 64.0 * 1024.0, "{read} bytes were read before the answer");
    assert_eq!(server.metrics().sum("shardcast_publishers", &[]), 0.0);
    server.wait_messages("show", u64::from(FRAMES));
    sender.join().expect("it sent all");
    assert_eq!(server.stream("show").map(|stream| stream.messages_in), Some(u64::from(FRAMES)));
}

/// The reason reaches the client, and log and metrics name what refused.
#[test]
fn who_is_refused_is_told_why() {
    let backend = Backend::start(|request| match request.path.as_str() {
        "/publish" if request.is_of("fine") => Reply::Status(200, "{\"allow\":true}"),
        "/publish" => Reply::Status(403, "{\"reason\":\"this key is not known\"}"),
        _ => Reply::Status(200, "{\"allow\":false,\"reason\":\"members only\"}"),
    });
    let server = node(Driver::Auto, &backend, &["publish", "play"], &[]);
    let mut publisher = Peer::connected(server.rtmp);
    let stream = publisher.create_stream();
    publisher.send_command(stream, "publish", &[amf::null(), amf::string("show"), amf::string("live")]);
    let said = publisher.find("a refusal", |message| {
        (message.code()? == "NetStream.Publish.Denied").then(|| message.values()[3].get("description").cloned())
    });
    assert_eq!(said.flatten().map(|said| said.text().to_owned()).as_deref(), Some("this key is not known"));
    assert_eq!(publisher.publish(stream, "fine").as_deref(), Some("NetStream.Publish.Start"), "it may try again");
    let mut player = Peer::player(server.rtmp, "show");
    assert_eq!(player.next_code().as_deref(), Some("NetStream.Play.Failed"));
    assert!(player.closes_within(seconds(5)));
    let encoder = media::publish(require("ffmpeg"), media::av(), &server.url("other")).wait(seconds(20));
    assert!(!encoder.status.success(), "an encoder notices");
    wait_for("log lines", seconds(5), || {
        let log = server.log();
        let is_there = |words: &[&str]| log.lines().any(|line| words.iter().all(|word| line.contains(word)));
        (is_there(&["publish refused: this key is not known", "live/show", "on_publish callback"])
            && is_there(&["play refused: members only", "live/show", "on_play callback"]))
        .then_some(())
    });
    assert_eq!(server.metrics().sum("shardcast_requests_refused_total", &[("reason", "access")]), 3.0);
    assert_eq!(server.metrics().sum("shardcast_callbacks_total", &[("result", "denied")]), 3.0);
}

#[test]
fn a_refused_connect_is_told_and_ends() {
    let backend = Backend::start(|request| match request.body.contains("\"app\":\"live\"") {
        true => Reply::Status(204, ""),
        false => Reply::Status(401, "{\"reason\":\"no such app\"}"),
    });
    let server = node(Driver::Auto, &backend, &["connect"], &[]);
    Peer::publisher(server.rtmp, "show");
    let mut other = Peer::greeted(server.rtmp);
    assert_eq!(other.connect("elsewhere").as_deref(), Some("NetConnection.Connect.Rejected"));
    assert!(other.closes_within(seconds(5)));
    server.wait_metric("shardcast_connections_closed_total", &[("reason", "connect_rejected")], |n| n == 1.0);
}

/// What nginx-rtmp-module would have sent, and what it would have understood.
#[test]
fn servers_made_for_nginx_rtmp_go_on_working() {
    let backend = Backend::start(|request| match request.is_of("elsewhere") {
        true => Reply::Status(302, ""),
        false => Reply::Status(200, "whatever"),
    });
    let events = ["publish", "publish-done"];
    let server = node(Driver::Auto, &backend, &events, &["--callback-format", "nginx-rtmp"]);
    let (mut peer, stream) = Peer::publisher(server.rtmp, "show?psk=1&x=%20");
    peer.send_command(0, "deleteStream", &[amf::null(), amf::number(stream.into())]);
    backend.wait_for("the end", seconds(5), |request| request.path == "/publish-done");
    let [publish, done] = &backend.requests()[..] else { panic!("{:?}", backend.requests()) };
    let session = "app=live&flashver=&swfurl=&tcurl=rtmp%3A%2F%2Flocalhost%2Flive&pageurl=&addr=127.0.0.1&clientid=";
    assert!(publish.body.starts_with(session), "{publish:?}");
    assert!(publish.body.ends_with("&call=publish&name=show&type=live&psk=1&x=%20"), "{publish:?}");
    assert!(done.body.ends_with("&call=publish_done&name=show&psk=1&x=%20"), "{done:?}");
    let stream = peer.create_stream();
    assert_eq!(peer.publish(stream, "elsewhere?a").as_deref(), Some("NetStream.Publish.Denied"));
    assert!(!backend.paths().contains(&"/trap".to_owned()));
}

/// Over TLS to a server that is what its certificate says, and to one that anybody could be.
#[test]
fn servers_over_tls_are_checked_before_they_are_asked() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let backend = Backend::start(|_| Reply::Status(200, ""));
    for (authority, name, expected) in [
        (&ours, "localhost", "NetStream.Publish.Start"),
        (&theirs, "localhost", "NetStream.Publish.Denied"),
        (&ours, "elsewhere.example", "NetStream.Publish.Denied"),
    ] {
        let front = Front::start(authority.server(name), backend.addr);
        let url = front.url("show").replace("rtmps://", "https://");
        let root = ours.root().display().to_string();
        let server = Server::start(Driver::Auto, 1, &["--on-publish", &url, "--upstream-ca", &root]);
        let mut peer = Peer::connected(server.rtmp);
        let stream = peer.create_stream();
        assert_eq!(peer.publish(stream, "show").as_deref(), Some(expected), "{name}");
    }
    assert_eq!(backend.requests().len(), 1, "{:?}", backend.requests());
}
