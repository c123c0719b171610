//! A node behind a load balancer that tells it who its clients are.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
};

use crate::common::{
    media,
    rtmp::{Peer, simple_c1},
    seconds,
    server::{Driver, Server},
    tool::{require, scratch},
    wait_for,
};

on_both_drivers!(
    the_clients_that_a_balancer_names_are_shown,
    who_has_no_header_is_told_from_who_needs_none,
    a_node_that_pushes_names_the_publisher,
);

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2 from 192.0.2.7, port 8080.
fn version_2() -> Vec<u8> {
    [SIGNATURE, &[0x21, 0x11, 0, 12, 192, 0, 2, 7, 198, 51, 100, 1, 0x1F, 0x90, 0x07, 0x8F]].concat()
}

fn local() -> Vec<u8> {
    [SIGNATURE, &[0x20, 0, 0, 0]].concat()
}

/// Passes connections on to `node`, `header` first. It ends with the test.
fn balancer(node: SocketAddr, header: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let addr = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for outside in listener.incoming().map_while(Result::ok) {
            let Ok(mut inside) = TcpStream::connect(node) else { continue };
            let _ = inside.write_all(&header);
            let copies = (outside.try_clone().expect("a descriptor"), inside.try_clone().expect("a descriptor"));
            std::thread::spawn(move || pass(outside, inside));
            std::thread::spawn(move || pass(copies.1, copies.0));
        }
    });
    addr
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(std::net::Shutdown::Both);
}

fn start(driver: Driver, trusted: &str) -> Server {
    let flags = ["--rtmps", "127.0.0.1:0", "--tls-self-signed", "--proxy-protocol", "--proxy-trusted", trusted];
    Server::start(driver, 2, &flags)
}

fn publisher_of(server: &Server, name: &str) -> String {
    let (_, body) = server.get("/api/streams").expect("the admin listener answers");
    let list: Vec<serde_json::Value> = serde_json::from_str(&body).expect("a list");
    let stream = list.into_iter().find(|stream| stream["name"] == format!("live/{name}")).expect("it is live");
    stream["publisher"].as_str().expect("text").to_owned()
}

fn the_clients_that_a_balancer_names_are_shown(driver: Driver) {
    let server = start(driver, "127.0.0.0/8");
    let line = b"PROXY TCP6 2001:db8::9 2001:db8::1 4000 1935\r\n".to_vec();
    for (name, scheme, node, header, expected) in [
        ("one", "rtmp", server.rtmp, line, "[2001:db8::9]:4000"),
        ("two", "rtmp", server.rtmp, version_2(), "192.0.2.7:8080"),
        ("secure", "rtmps", server.secure(), version_2(), "192.0.2.7:8080"),
    ] {
        let url = format!("{scheme}://{}/live/{name}", balancer(node, header));
        let mut publisher = media::publish(require("ffmpeg"), media::av(), &url);
        server.wait_live(name);
        assert_eq!(publisher_of(&server, name), expected);
        server.wait_said(&format!("peer={expected} stream=live/{name}"));
        publisher.kill();
        server.wait_gone(name, seconds(10));
    }
    // A balancer's own connection keeps its address.
    let (_publisher, _) = Peer::publisher(balancer(server.rtmp, local()), "own");
    server.wait_live("own");
    assert!(publisher_of(&server, "own").starts_with("127.0.0.1:"));
}

fn who_has_no_header_is_told_from_who_needs_none(driver: Driver) {
    let server = start(driver, "127.0.0.0/8");
    let closed = |reason: &str| server.metrics().sum("shardcast_connections_closed_total", &[("reason", reason)]);
    let wrong = [&[3][..], &simple_c1()].concat();
    for bytes in [&wrong[..], b"PROXY TCP4 nonsense\r\n", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut peer = TcpStream::connect(server.rtmp).expect("it listens");
        peer.set_read_timeout(Some(seconds(5))).expect("a time-out");
        peer.write_all(bytes).expect("room");
        // An end, or a reset because of what was not read.
        assert!(matches!(peer.read(&mut [0; 64]), Ok(0) | Err(_)));
    }
    server.wait_metric("shardcast_connections_closed_total", &[("reason", "proxy_header")], |sum| sum == 3.0);

    // Balancers look after their nodes: they connect and go, with and without a header.
    wait_for("three lines in the log", seconds(5), || (server.closed_lines("proxy_header") == 3).then_some(()));
    for bytes in [&b""[..], &local(), &version_2()[..9]] {
        let before = closed("peer_closed");
        let mut peer = TcpStream::connect(server.rtmp).expect("it listens");
        peer.write_all(bytes).expect("room");
        drop(peer);
        server.wait_metric("shardcast_connections_closed_total", &[("reason", "peer_closed")], |sum| sum > before);
    }

    // A header that does not come is waited for as long as a handshake.
    let mut silent = TcpStream::connect(server.rtmp).expect("it listens");
    silent.set_read_timeout(Some(seconds(9))).expect("a time-out");
    silent.write_all(b"PROXY ").expect("room");
    assert!(matches!(silent.read(&mut [0]), Ok(0) | Err(_)));
    server.wait_metric("shardcast_connections_closed_total", &[("reason", "handshake_timeout")], |sum| sum == 1.0);
    wait_for("a line in the log", seconds(5), || (server.closed_lines("handshake_timeout") == 1).then_some(()));
    let said = ["peer_closed", "proxy_header"].map(|reason| server.closed_lines(reason));
    assert_eq!(said, [0, 3], "nothing is said of a balancer: {}", server.log());

    // Others are who they are, and what they send instead of a handshake is no header.
    let other = start(driver, "192.0.2.0/24");
    let (_publisher, _) = Peer::publisher(other.rtmp, "direct");
    other.wait_live("direct");
    let mut forger = TcpStream::connect(other.rtmp).expect("it listens");
    forger.set_read_timeout(Some(seconds(5))).expect("a time-out");
    forger.write_all(&[&version_2()[..], &wrong].concat()).expect("room");
    assert!(matches!(forger.read(&mut [0; 64]), Ok(0) | Err(_)));
    other.wait_metric("shardcast_connections_closed_total", &[("reason", "handshake_version")], |sum| sum == 1.0);
}

fn a_node_that_pushes_names_the_publisher(driver: Driver) {
    let target = start(driver, "127.0.0.0/8");
    let config = scratch("push.toml");
    let push = |name: &str| {
        let url = format!("rtmp://{}/live/{name}", target.rtmp);
        format!("[[push]]\nstreams = \"live/pushed\"\ntargets = [\"{url}\"]\nproxy-protocol = \"v2\"\n")
    };
    std::fs::write(&config, push("there")).expect("the build's temporary folder can be written");
    let flags = ["--proxy-protocol", "--proxy-trusted", "127.0.0.0/8", "--config", config.to_str().expect("UTF-8")];
    let node = Server::start(driver, 2, &flags);
    let (_publisher, _) = Peer::publisher(balancer(node.rtmp, version_2()), "pushed");
    target.wait_live("there");
    assert_eq!(publisher_of(&target, "there"), "192.0.2.7:8080");

    // What is pulled is the node's own wish.
    let pull = format!("live/there=rtmp://{}/live/there", target.rtmp);
    let edge = Server::start(driver, 1, &["--pull", &pull, "--upstream-proxy-protocol"]);
    let _player = Peer::player(edge.rtmp, "there");
    target.wait_metric("shardcast_players", &[], |players| players >= 1.0);
    assert_eq!(target.metrics().sum("shardcast_connections_closed_total", &[("reason", "proxy_header")]), 0.0);
}
