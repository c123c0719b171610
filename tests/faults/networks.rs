//! Networks that lose packets, or go silent: in namespaces of the test's own, which need root.

use std::time::{Duration, Instant};

use crate::{
    audience::Audience,
    common::{
        is_root,
        netns::{Cable, Namespace},
        rtmp::{Got, Peer},
        seconds,
        server::{Driver, Server},
    },
};

/// A node on a host of its own, with a cable to another.
struct Hosts {
    node: Namespace,
    other: Namespace,
    cable: Cable,
}

impl Hosts {
    fn new(number: u8) -> Option<Self> {
        if !is_root("network namespaces need") {
            return None;
        }
        let (node, other) = (Namespace::new(), Namespace::new());
        let cable = Cable::new(number, [&node, &other]);
        Some(Self { node, other, cable })
    }

    fn server(&self, flags: &[&str]) -> Server {
        let rtmp = format!("{}:0", self.cable.addresses[0]);
        self.node.inside(|| Server::start_at(&rtmp, Driver::Auto, 2, flags))
    }
}

#[test]
fn a_publisher_that_is_cut_off_is_let_go_by_the_idle_limit() {
    let Some(hosts) = Hosts::new(40) else { return };
    let server = hosts.server(&["--idle-timeout-s", "2", "--unpublish-grace-s", "1"]);
    let (mut peer, stream) = hosts.other.inside(|| Peer::publisher(server.rtmp, "cut"));
    peer.announce_audio(stream);
    // The other host can be asked nothing any more, nor told.
    hosts.node.inside(|| {
        server.wait_live("cut");
        // Players on this host notice nothing.
        let audience = Audience::new(&server, "healthy", 50);
        std::thread::sleep(seconds(1));
        let since = Instant::now();
        hosts.cable.pull_out();
        server.wait_gone("cut", seconds(6));
        let closed = server.metrics().sum("shardcast_connections_closed_total", &[("reason", "publisher_idle")]);
        assert_eq!(closed, 1.0);
        drop(Peer::publisher(server.rtmp, "cut"));
        audience.assert_unharmed(since);
    });
    assert_eq!(peer.next(Duration::from_millis(10)), Got::TimedOut, "it was told nothing");
}

#[test]
fn lost_packets_cost_time_and_no_frame() {
    let Some(hosts) = Hosts::new(41) else { return };
    let server = hosts.server(&["--lag-ms-max", "20000"]);
    let far: Vec<Peer> = hosts.other.inside(|| (0..40).map(|_| Peer::player(server.rtmp, "lossy")).collect());
    for host in [&hosts.node, &hosts.other] {
        host.drop_randomly(2);
    }
    let since = Instant::now();
    let audience = hosts.node.inside(|| Audience::of(far, server.rtmp, "lossy"));
    std::thread::sleep(seconds(8));
    assert!(hosts.node.dropped() + hosts.other.dropped() > 50, "the network lost next to nothing");
    for host in [&hosts.node, &hosts.other] {
        host.drop_nothing();
    }
    std::thread::sleep(seconds(2));
    assert!(audience.is_whole());
    audience.assert_nothing_lost(since);
}
