//! Nodes behind HAProxy: they know their clients by its PROXY headers, and leave by its health checks.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

#[macro_use]
#[path = "common/mod.rs"]
mod common;

use std::{net::SocketAddr, thread, time::Duration};

use common::{
    haproxy::Haproxy,
    moving::{able_player, asked_to},
    rtmp::{Got, Peer},
    seconds,
    server::{Driver, Server},
};

on_both_drivers!(clients_keep_their_addresses_whatever_header_it_sends, a_node_that_leaves_refuses_nobody);

fn clients_keep_their_addresses_whatever_header_it_sends(driver: Driver) {
    let flags = ["--rtmps", "127.0.0.1:0", "--tls-self-signed", "--proxy-protocol", "--proxy-trusted", "127.0.0.0/8"];
    let server = Server::start(driver, 2, &flags);
    let headers =
        ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl-cn proxy-v2-options crc32c,unique-id,authority,ssl-cipher"];
    for (number, header) in headers.iter().enumerate() {
        for (scheme, node) in [("rtmp", server.rtmp), ("rtmps", server.secure())] {
            let haproxy = Haproxy::start(&format!(" server node {node} {header} check inter 50ms"));
            let peer = match scheme {
                "rtmp" => Peer::dial(haproxy.addr),
                _ => Peer::dial_secure(haproxy.addr, 65_536),
            };
            let own = peer.stream.local_addr().expect("it is connected");
            let name = format!("{scheme}-{number}");
            let (_publisher, _) = peer.past_handshake().past_connect().publishing(&name);
            server.wait_live(&name);
            assert_eq!(publisher_of(&server, &name), own, "{header}");
            // Meanwhile it looks after the node's health.
            let gone = server.metrics().sum(CLOSED, &[("reason", "peer_reset")]);
            server.wait_metric(CLOSED, &[("reason", "peer_reset")], |sum| sum > gone + 2.0);
        }
    }
    assert_eq!(server.metrics().sum(CLOSED, &[("reason", "proxy_header")]), 0.0);
    assert!(!server.log().contains(" closed: "), "nothing is said of health checks: {}", server.log());
}

const CLOSED: &str = "shardcast_connections_closed_total";

fn publisher_of(server: &Server, name: &str) -> SocketAddr {
    let (_, body) = server.get("/api/streams").expect("the admin listener answers");
    let list: Vec<serde_json::Value> = serde_json::from_str(&body).expect("a list");
    let stream = list.into_iter().find(|stream| stream["name"] == format!("live/{name}")).expect("it is live");
    stream["publisher"].as_str().expect("text").parse().expect("an address")
}

/// New clients come all the time; those that play are asked to come again, by which they get to the other node.
fn a_node_that_leaves_refuses_nobody(driver: Driver) {
    let [mut leaves, stays] = [(); 2].map(|()| Server::start(driver, 1, &[]));
    let line = |name: &str, node: &Server| {
        format!(" server {name} {} check port {} inter 100ms fall 2 rise 1\n", node.rtmp, node.admin.port())
    };
    let nodes = [line("leaves", &leaves), line("stays", &stays)].concat();
    let haproxy = Haproxy::start(&format!(" balance roundrobin\n option httpchk GET /readyz\n{nodes}"));
    let mut players: Vec<Peer> = (0..6).map(|_| able_player(haproxy.addr, "show")).collect();
    leaves.wait_metric("shardcast_players", &[], |players| players == 3.0);
    assert_eq!(leaves.post("/api/drain?mode=lb&converge_s=4&window_s=1&timeout_s=20"), 202);

    let drained = thread::scope(|scope| {
        let drained = scope.spawn(|| leaves.wait_exit(seconds(60)));
        let mut came = 0;
        while !drained.is_finished() {
            // Panics unless it is accepted and told that it has connected.
            drop(Peer::connected(haproxy.addr));
            came += 1;
            let moved = players.extract_if(.., was_asked).count();
            players.extend((0..moved).map(|_| able_player(haproxy.addr, "show")));
            thread::sleep(Duration::from_millis(10));
        }
        assert!(came > 5, "{came}");
        drained.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    assert_eq!(drained.code(), Some(0));
    stays.wait_metric("shardcast_players", &[], |players| players == 6.0);
}

/// Whether a player has been asked to come again.
fn was_asked(player: &mut Peer) -> bool {
    loop {
        match player.next(Duration::from_millis(1)) {
            Got::Message(message) if asked_to(&message).is_some() => return true,
            Got::Message(_) => {}
            Got::TimedOut => return false,
            Got::Closed => panic!("a player was dropped"),
        }
    }
}
