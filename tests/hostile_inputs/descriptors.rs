//! Many connections, and what is left of them.

use crate::{
    common::{
        rtmp::Peer,
        seconds,
        server::{Driver, Server},
    },
    scene::Pair,
};

fn a_thousand_connections_leave_nothing_behind(driver: Driver) {
    let server = Server::start(driver, 2, &["--unpublish-grace-s", "0", "--play-wait-s", "0"]);
    // What is opened once and kept is open after the first connections; a second pair finds it there.
    drop(Pair::new(&server, "first"));
    server.wait_gone("first", seconds(5));
    server.wait_metric("shardcast_connections", &[], |count| count == 0.0);
    let before = server.descriptors();
    for wave in 0..4 {
        // As far as a quarter of them gets: nothing said, greeted, connected, waiting for a stream.
        let peers: Vec<Peer> = (0..250)
            .map(|n| match n % 4 {
                0 => Peer::dial(server.rtmp),
                1 => Peer::greeted(server.rtmp),
                2 => Peer::connected(server.rtmp),
                _ => Peer::player(server.rtmp, &format!("nothing-{wave}-{n}")),
            })
            .collect();
        server.wait_metric("shardcast_connections", &[], |count| count >= 250.0);
        drop(peers);
        server.wait_metric("shardcast_connections", &[], |count| count == 0.0);
    }
    assert!(server.metrics().sum("shardcast_connections_accepted_total", &[]) >= 1_000.0);
    assert_eq!(server.descriptors(), before, "open descriptors after a thousand connections");

    let mut pair = Pair::new(&server, "after");
    pair.assert_flows();
    drop(pair);
    server.wait_metric("shardcast_connections", &[], |count| count == 0.0);
    assert_eq!(server.descriptors(), before, "open descriptors after a publisher and a player");
}

on_both_drivers!(a_thousand_connections_leave_nothing_behind);
