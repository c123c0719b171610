//! Many connections, and more than the server may have descriptors for.

use std::time::Duration;

use crate::{
    common::{
        rtmp::Peer,
        seconds,
        server::{Driver, Server},
        wait_for,
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

#[test]
fn a_thousand_connections_leave_nothing_behind_on_io_uring() {
    a_thousand_connections_leave_nothing_behind(Driver::Uring);
}

#[test]
fn a_thousand_connections_leave_nothing_behind_on_epoll() {
    a_thousand_connections_leave_nothing_behind(Driver::Legacy);
}

fn without_descriptors_accept_waits_and_recovers(driver: Driver) {
    const LIMIT: usize = 64;
    let limited = ["sh", "-c", "ulimit -n 64 && exec \"$@\"", "sh"];
    let mut server = Server::start_by(&limited, driver, 1, &["--unpublish-grace-s", "1"]);
    let mut healthy = Pair::new(&server, "healthy");
    healthy.assert_flows();
    let before = server.descriptors();

    // Who is turned away may hear of it before it knows that it was accepted.
    let crowd: Vec<_> = (0..2 * LIMIT).map(|_| std::net::TcpStream::connect(server.rtmp)).collect();
    // Few of them are taken, and the others are told at once.
    let closed = |server: &Server| {
        let metrics = server.metrics();
        let silent = metrics.sum("shardcast_connections_closed_total", &[("reason", "handshakes")]);
        silent + metrics.sum("shardcast_connections_turned_away_total", &[])
    };
    wait_for("the crowd to be told", seconds(5), || (closed(&server) >= 1.5 * LIMIT as f64).then_some(()));
    let cpu = server.cpu_time();
    std::thread::sleep(seconds(2));
    let used = server.cpu_time() - cpu;
    assert!(used < Duration::from_millis(100), "{used:?} of CPU in 2 s of a full node");
    healthy.assert_flows();

    drop(crowd);
    server.wait_metric("shardcast_connections", &[], |count| count == 2.0);
    assert_eq!(server.descriptors(), before, "open descriptors after the crowd");
    Pair::new(&server, "after").assert_flows();
    healthy.assert_flows();
    server.assert_running();
}

#[test]
fn without_descriptors_accept_waits_and_recovers_on_io_uring() {
    without_descriptors_accept_waits_and_recovers(Driver::Uring);
}

#[test]
fn without_descriptors_accept_waits_and_recovers_on_epoll() {
    without_descriptors_accept_waits_and_recovers(Driver::Legacy);
}
