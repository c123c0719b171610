//! The node itself is killed, or stopped for a while.

use std::time::Instant;

use crate::{
    audience::{Audience, Ground, PLAYERS},
    common::{
        rtmp::Peer,
        seconds,
        server::{Driver, Server},
        wait_for,
    },
};

const CLOSED: &str = "shardcast_connections_closed_total";

#[test]
fn a_node_that_is_killed_serves_again_within_five_seconds_of_its_restart() {
    // No client of another test has its own port there, and takes it while nobody listens.
    let mut first = Server::start_at("127.0.77.1:0", Driver::Auto, 2, &[]);
    let addr = first.rtmp.to_string();
    let publisher = Peer::publisher(first.rtmp, "show");
    let players: Vec<Peer> = (0..PLAYERS).map(|_| Peer::player(first.rtmp, "show")).collect();
    first.wait_metric("shardcast_players", &[], |count| count == PLAYERS as f64);
    let killed = Instant::now();
    first.signal("KILL");
    first.wait_exit(seconds(5));
    // As a supervisor would, at the same address.
    let second = Server::start_at(&addr, Driver::Auto, 2, &["--unpublish-grace-s", "1"]);
    assert_eq!(second.rtmp, first.rtmp);
    drop((publisher, players));
    let audience = Audience::new(&second, "show", PLAYERS);
    second.wait_messages("show", 10);
    assert!(killed.elapsed() <= seconds(5), "it took {:?}", killed.elapsed());
    let since = Instant::now();
    std::thread::sleep(seconds(1));
    audience.assert_unharmed(since);
}

#[test]
fn a_node_that_is_stopped_for_five_seconds_times_nobody_out() {
    let ground = Ground::new(&["--idle-timeout-s", "4"]);
    let before = ground.server.metrics();
    // Each at another deadline.
    let _silent = Peer::dial(ground.server.rtmp);
    let waiting = Peer::player(ground.server.rtmp, "nothing-yet");
    ground.server.wait_metric("shardcast_connections", &[], |count| count == 203.0);
    ground.server.signal("STOP");
    std::thread::sleep(seconds(5));
    ground.server.signal("CONT");
    wait_for("the node to answer", seconds(5), || ground.server.get("/healthz").ok());
    std::thread::sleep(seconds(1));
    let closed = ground.server.metrics().grown(&before, CLOSED);
    assert!(ground.audience.is_whole() && closed.is_empty(), "closed after it was stopped: {closed:?}");
    drop((waiting, _silent));
    ground.assert_resumes();
}
