//! What a node does at its limits: whoever is one too many hears it at once, and those who are served are served on.
//!
//! Clients of several addresses are those of 127.0.0.0/8, of which every one is this machine.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

#[macro_use]
mod common;

use std::{
    io::Read,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::Command,
    time::{Duration, Instant},
};

use common::{
    rtmp::{AUDIO, Got, Message, Peer, VIDEO, full_header, message},
    seconds,
    server::{Driver, Server},
    wait_for,
};
use socket2::{Domain, Socket, Type};

const TURNED_AWAY: &str = "shardcast_connections_turned_away_total";
const CLOSED: &str = "shardcast_connections_closed_total";

on_both_drivers!(
    a_storm_from_one_address_is_turned_away_and_others_are_served,
    at_the_limit_of_descriptors_clients_are_answered_and_the_operator_too,
    without_descriptors_those_who_come_are_closed_at_once_and_the_admin_listener_answers,
);

/// A publisher and a player that keep the rules.
struct Pair {
    publisher: Peer,
    stream: u32,
    player: Peer,
    sent: u32,
}

impl Pair {
    fn new(server: &Server, name: &str) -> Self {
        let (mut publisher, stream) = Peer::publisher(server.rtmp, name);
        publisher.announce_audio(stream);
        let mut player = Peer::player(server.rtmp, name);
        publisher.send(&message(4, AUDIO, stream, 0, *b"\xAF\x01begin"));
        player.next_media().expect("the player is served");
        Self { publisher, stream, player, sent: 0 }
    }

    /// What the one sends now the other gets: how long it takes at most, of ten messages.
    #[track_caller]
    fn flows(&mut self) -> Duration {
        let deliver = |pair: &mut Self| {
            pair.sent += 1;
            let payload = [&[0xAF, 1][..], &pair.sent.to_be_bytes(), &[0x55; 300]].concat();
            let begun = Instant::now();
            assert!(pair.publisher.send(&message(4, AUDIO, pair.stream, pair.sent * 20, payload.clone())));
            let is_it = |got: &Message| (got.payload == payload).then_some(());
            pair.player.find("what was published", is_it).expect("the player stays");
            begun.elapsed()
        };
        (0..10).map(|_| deliver(self)).max().unwrap_or_default()
    }
}

/// A connection from another address of this machine. Who is turned away may hear of it before it knows that it was accepted.
fn dial_from(host: u8, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0)).into())?;
    socket.connect_timeout(&to.into(), seconds(5))?;
    Ok(socket.into())
}

/// Whether the server has closed it, within a while.
fn is_closed(stream: &std::io::Result<TcpStream>, patience: Duration) -> bool {
    let mut stream = match stream {
        Ok(stream) => stream,
        Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
    };
    stream.set_read_timeout(Some(patience)).expect("a TCP socket");
    match stream.read(&mut [0; 16]) {
        Ok(count) => count == 0,
        Err(error) => !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
    }
}

fn turned_away(server: &Server, reason: &str) -> f64 {
    server.metrics().sum(TURNED_AWAY, &[("reason", reason)])
}

/// A second's worth of connections from one address, which are gone again at once.
fn storm(server: &Server, host: u8, connections: usize) -> usize {
    (0..connections).filter(|_| dial_from(host, server.rtmp).is_ok()).count()
}

fn a_storm_from_one_address_is_turned_away_and_others_are_served(driver: Driver) {
    let server = Server::start(driver, 2, &["--connects-per-ip", "20:50", "--limits-exempt", "none"]);
    let mut healthy = Pair::new(&server, "healthy");
    let begun = Instant::now();
    let made = storm(&server, 2, 2_000);
    let most = 50.0 + 20.0 * begun.elapsed().as_secs_f64() + 1.0;
    server.wait_metric(TURNED_AWAY, &[("reason", "connect_rate")], |count| count >= made as f64 - most - 30.0);
    let let_in = server.metrics().sum("shardcast_connections_accepted_total", &[]) - 2.0;
    assert!((50.0..=most + 30.0).contains(&let_in), "{let_in} of {made} were let in");
    assert!(healthy.flows() < seconds(1));
    let calm = dial_from(3, server.rtmp);
    assert!(!is_closed(&calm, Duration::from_millis(300)), "another address has its own bucket");
    let lines = server.log().lines().filter(|line| line.contains("turned away")).count();
    assert!((1..=2 * 8).contains(&lines), "{lines} lines in a few seconds of two shards");
}

#[test]
fn an_address_has_so_many_connections_and_the_node_so_many_in_all() {
    let flags = ["--connections-max", "40", "--connections-per-ip-max", "10", "--limits-exempt", "127.0.0.9"];
    let server = Server::start(Driver::Auto, 2, &flags);
    let closed = |crowd: &[std::io::Result<TcpStream>]| {
        // Forty of them are looked at before any of them has been silent for too long.
        crowd.iter().filter(|of| is_closed(of, Duration::from_millis(100))).count()
    };
    let crowd: Vec<std::io::Result<TcpStream>> = (0..15).map(|_| dial_from(2, server.rtmp)).collect();
    assert_eq!((closed(&crowd), turned_away(&server, "connections_per_ip")), (5, 5.0));
    // More than an address may have. Half of all may be silent: each shard has ten places for them, and the oldest go.
    let exempt: Vec<std::io::Result<TcpStream>> = (0..12).map(|_| dial_from(9, server.rtmp)).collect();
    let players: Vec<Peer> = (0..4).map(|n| Peer::player(server.rtmp, &format!("nothing-{n}"))).collect();
    server.wait_metric("shardcast_connections_accepted_total", &[], |count| count >= 10.0 + 12.0 + 4.0);
    assert_eq!(turned_away(&server, "connections_per_ip"), 5.0, "only those of the full address");
    drop((crowd, exempt));
    server.wait_metric("shardcast_connections", &[], |count| count == 4.0);
    let before = server.metrics().sum(CLOSED, &[("reason", "handshakes")]);
    let hosts = 20..60_u8;
    let full: Vec<std::io::Result<TcpStream>> = hosts.map(|host| dial_from(host, server.rtmp)).collect();
    let gone = closed(&full);
    assert!(gone >= 4, "{gone} of 40 beside 4");
    let metrics = server.metrics();
    assert!(metrics.sum("shardcast_connections", &[]) <= 40.0);
    let silent = metrics.sum(CLOSED, &[("reason", "handshakes")]) - before;
    assert_eq!(silent + turned_away(&server, "connections"), gone as f64);
    drop(full);
    server.wait_metric("shardcast_connections", &[], |count| count == 4.0);
    assert!(Peer::connected(server.rtmp).is_served(), "there is room again");
    drop(players);
}

#[test]
fn a_stream_has_so_many_players_over_two_shards() {
    let server = Server::start(Driver::Auto, 2, &["--players-per-stream-max", "5", "--publishers-max", "1"]);
    let mut healthy = Pair::new(&server, "show");
    let mut others: Vec<Peer> = (0..4).map(|_| Peer::player(server.rtmp, "show")).collect();
    server.wait_metric("shardcast_players", &[], |players| players == 5.0);
    for _ in 0..4 {
        let mut late = Peer::connected(server.rtmp);
        let stream = late.create_stream();
        late.ask_play(stream, "show");
        assert_eq!(late.next_code().as_deref(), Some("NetStream.Play.Failed"));
    }
    assert_eq!(server.metrics().sum("shardcast_requests_refused_total", &[("reason", "audience")]), 4.0);
    let mut second = Peer::connected(server.rtmp);
    let stream = second.create_stream();
    assert_eq!(second.publish(stream, "another").as_deref(), Some("NetStream.Publish.Denied"));
    others.pop();
    server.wait_metric("shardcast_players", &[], |players| players == 4.0);
    let _in_its_place = Peer::player(server.rtmp, "show");
    server.wait_metric("shardcast_players", &[], |players| players == 5.0);
    assert_eq!(server.metrics().sum("shardcast_requests_refused_total", &[("reason", "audience")]), 4.0);
    healthy.flows();
}

#[test]
fn a_publisher_above_its_bit_rate_is_warned_of_then_closed_and_a_long_message_closes_at_once() {
    let flags = ["--publish-bitrate-max", "1M", "--message-bytes-max", "1M"];
    let server = Server::start(Driver::Auto, 1, &flags);
    let mut healthy = Pair::new(&server, "healthy");
    let (mut loud, stream) = Peer::publisher(server.rtmp, "loud");
    let begun = Instant::now();
    let mut warned_after = None;
    let payload = [&[0x27, 1, 0, 0, 0][..], &[7; 40_000]].concat();
    let mut sent = 0;
    while begun.elapsed() < seconds(20) && loud.send(&message(6, VIDEO, stream, sent * 100, payload.clone())) {
        sent += 1;
        if warned_after.is_none() && server.log().contains("publishes more than --publish-bitrate-max") {
            warned_after = Some(begun.elapsed());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let (warned_after, closed_after) = (warned_after.expect("a warning"), begun.elapsed());
    assert!(
        warned_after >= seconds(4) && closed_after >= warned_after + seconds(4),
        "{warned_after:?} {closed_after:?}"
    );
    assert_eq!(server.metrics().sum(CLOSED, &[("reason", "publish_bitrate")]), 1.0);

    let (mut long, stream) = Peer::publisher(server.rtmp, "long");
    long.write(&full_header(6, 0, (1 << 20) + 1, VIDEO, stream));
    assert!(long.closes_within(seconds(5)));
    assert_eq!(server.metrics().sum(CLOSED, &[("reason", "message_bytes")]), 1.0);
    healthy.flows();
}

/// Fault 8: silent peers, many more than may be new at once.
#[test]
fn two_thousand_silent_handshakes_keep_nobody_out() {
    let server = Server::start(Driver::Auto, 2, &["--handshakes-max", "200"]);
    let mut healthy = Pair::new(&server, "healthy");
    let silent: Vec<std::io::Result<TcpStream>> =
        (0..2_000).map(|n| dial_from(2 + (n % 200) as u8, server.rtmp)).collect();
    server.wait_metric(CLOSED, &[("reason", "handshakes")], |count| count >= 1_700.0);
    assert!(server.metrics().sum("shardcast_handshakes", &[]) <= 200.0);
    assert!(healthy.flows() < seconds(1));
    Pair::new(&server, "after").flows();
    drop(silent);
}

/// Fault 7, for a few seconds: clients that come back as fast as they can.
#[test]
fn reconnects_without_end_leave_nothing_behind() {
    let server = Server::start(Driver::Auto, 2, &["--connects-per-ip", "100:200", "--limits-exempt", "127.0.0.1"]);
    let mut healthy = Pair::new(&server, "healthy");
    let before = server.descriptors();
    let rss_kib = server.rss_kib();
    let end = Instant::now() + seconds(3);
    let rtmp = server.rtmp;
    let storms: Vec<_> = (0..4)
        .map(|n| {
            std::thread::spawn(move || {
                let mut made = 0;
                while Instant::now() < end {
                    made += usize::from(dial_from(2 + n, rtmp).is_ok());
                }
                made
            })
        })
        .collect();
    let mut worst = Duration::ZERO;
    while Instant::now() < end {
        worst = worst.max(healthy.flows());
    }
    let made: usize = storms.into_iter().map(|storm| storm.join().expect("it ends")).sum();
    assert!(worst < seconds(1), "{worst:?} for a message, with {made} reconnects beside it");
    server.wait_metric("shardcast_connections", &[], |count| count == 2.0);
    let refused = turned_away(&server, "connect_rate");
    let let_in = server.metrics().sum("shardcast_connections_accepted_total", &[]) - 2.0;
    assert!(let_in <= 4.0 * (200.0 + 100.0 * 5.0), "{let_in} of {made} were let in");
    assert!(made < 3_000 || refused > 1_000.0, "{refused} of {made} were turned away");
    assert_eq!(server.descriptors(), before);
    let grown = server.rss_kib().saturating_sub(rss_kib);
    assert!(grown < 16 * 1024, "{grown} KiB more");
}

/// Fault 10: so few descriptors that a crowd cannot have them; whoever looks after the node can still look at it.
fn at_the_limit_of_descriptors_clients_are_answered_and_the_operator_too(driver: Driver) {
    let limited = ["sh", "-c", "ulimit -n 256 && exec \"$@\"", "sh"];
    let server = Server::start_by(&limited, driver, 2, &[]);
    let mut healthy = Pair::new(&server, "healthy");
    let before = server.descriptors();
    let crowd: Vec<std::io::Result<TcpStream>> = (0..400).map(|_| dial_from(1, server.rtmp)).collect();
    wait_for("the crowd to be answered", seconds(10), || {
        let metrics = server.metrics();
        let closed = metrics.sum(TURNED_AWAY, &[]) + metrics.sum(CLOSED, &[("reason", "handshakes")]);
        (closed >= 400.0 - 176.0).then_some(())
    });
    let cpu = server.cpu_time();
    std::thread::sleep(seconds(2));
    let used = server.cpu_time() - cpu;
    assert!(used < Duration::from_millis(100), "{used:?} of CPU in 2 s of a full node");
    healthy.flows();
    drop(crowd);
    server.wait_metric("shardcast_connections", &[], |count| count == 2.0);
    assert_eq!(server.descriptors(), before);
    Pair::new(&server, "after").flows();
}

/// The limit is lowered behind the node's back, below what it has open.
fn without_descriptors_those_who_come_are_closed_at_once_and_the_admin_listener_answers(driver: Driver) {
    let server = Server::start(driver, 1, &[]);
    let mut healthy = Pair::new(&server, "healthy");
    let limit = server.descriptors().to_string();
    let pid = server.pid().to_string();
    let lowered = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={limit}:")]).status();
    assert!(lowered.is_ok_and(|status| status.success()), "prlimit (util-linux) is needed");
    let crowd: Vec<std::io::Result<TcpStream>> = (0..30).map(|_| dial_from(2, server.rtmp)).collect();
    let cpu = server.cpu_time();
    let begun = Instant::now();
    let closed = crowd.iter().filter(|of| is_closed(of, seconds(3))).count();
    assert!(closed >= 28, "{closed} of 30 heard of it; {} descriptors at most", limit);
    let silent: Vec<_> = (0..30).map(|_| TcpStream::connect(server.admin).expect("the kernel takes it")).collect();
    let asked = Instant::now();
    server.metrics();
    assert!(
        asked.elapsed() < Duration::from_millis(1_800),
        "silent ones kept the operator out for {:?}",
        asked.elapsed()
    );
    drop(silent);
    assert!(turned_away(&server, "descriptors") >= 28.0);
    assert!(server.metrics().sum("shardcast_accept_failures_total", &[]) >= 1.0, "the kernel had descriptors");
    std::thread::sleep(seconds(2));
    let share = (server.cpu_time() - cpu).as_secs_f64() / begun.elapsed().as_secs_f64();
    assert!(share < 0.05, "{share} of a CPU without descriptors");
    healthy.flows();
    let raised = Command::new("prlimit").args(["--pid", &pid, "--nofile=1024:"]).status();
    assert!(raised.is_ok_and(|status| status.success()));
    drop(crowd);
    Pair::new(&server, "after").flows();
}

/// Fault 9: a small node and streams whose GOPs would take far more than it has.
#[test]
fn with_little_memory_publishers_stay_and_players_go_first() {
    let server = Server::start(Driver::Auto, 2, &["--memory-max", "256M", "--lag-ms-max", "600000"]);
    let mut healthy = Pair::new(&server, "healthy");
    let mut publishers: Vec<(Peer, u32)> = (0..10).map(|n| Peer::publisher(server.rtmp, &format!("big-{n}"))).collect();
    for (publisher, stream) in &mut publishers {
        publisher.use_chunk_size(60_000);
        publisher.send(&message(6, VIDEO, *stream, 0, [&[0x17, 1, 0, 0, 0][..], &[1; 1_000]].concat()));
    }
    // One who takes nothing holds what it is behind by.
    let stuck: Vec<Peer> = (0..10).map(|n| Peer::player(server.rtmp, &format!("big-{n}"))).collect();
    let frame = [&[0x27, 1, 0, 0, 0][..], &[7; 200_000]].concat();
    let mut highest_kib = 0;
    for n in 1..=200_u32 {
        for (publisher, stream) in &mut publishers {
            assert!(publisher.send(&message(6, VIDEO, *stream, n * 40, frame.clone())), "a publisher was closed");
        }
        highest_kib = highest_kib.max(server.rss_kib());
        std::thread::sleep(Duration::from_millis(20));
    }
    let metrics = server.metrics();
    assert!(highest_kib < 300 * 1024, "{} MiB of 256 were resident", highest_kib / 1024);
    assert_eq!(metrics.sum("shardcast_publishers", &[]), 11.0, "all publishers are live");
    assert!(metrics.sum("shardcast_gop_max_bytes", &[]) < 32e6, "GOPs were cut");
    assert!(metrics.sum(CLOSED, &[("reason", "overload")]) >= 1.0, "somebody who takes nothing went");
    assert!(healthy.flows() < seconds(1));
    drop((publishers, stuck));
    server.wait_metric("shardcast_overload_level", &[], |level| level == 0.0);
    Pair::new(&server, "after").flows();
}

/// The allocator keeps what was freed until more is: those who go on publishing free next to nothing.
#[test]
fn who_was_closed_for_memory_makes_room_while_publishers_go_on() {
    let server = Server::start(Driver::Auto, 2, &["--memory-max", "64M", "--lag-ms-max", "600000"]);
    let mut publishers: Vec<(Peer, u32)> = (0..6).map(|n| Peer::publisher(server.rtmp, &format!("big-{n}"))).collect();
    for (publisher, stream) in &mut publishers {
        publisher.use_chunk_size(60_000);
        publisher.send(&message(6, VIDEO, *stream, 0, [&[0x17, 1, 0, 0, 0][..], &[1; 1_000]].concat()));
    }
    let _stuck: Vec<Peer> = (0..30).map(|n| Peer::player(server.rtmp, &format!("big-{}", n % 6))).collect();
    let frame = [&[0x27, 1, 0, 0, 0][..], &[7; 40_000]].concat();
    let mut sent = 0;
    let mut all_send = |bytes: usize| {
        sent += 1;
        for (publisher, stream) in &mut publishers {
            let frame = frame[..bytes].to_vec();
            assert!(publisher.send(&message(6, VIDEO, *stream, sent * 40, frame)), "a publisher was closed");
        }
    };
    wait_for("all to be closed that read nothing", seconds(30), || {
        (0..10).for_each(|_| all_send(40_000));
        (server.metrics().sum("shardcast_players", &[]) == 0.0).then_some(())
    });
    wait_for("the overload to end", seconds(2), || {
        all_send(1_000);
        (server.metrics().sum("shardcast_overload_level", &[]) == 0.0).then_some(())
    });
    Pair::new(&server, "after").flows();
}

/// What ten connections may hold each of messages that are not whole, they may not all together.
#[test]
fn those_who_never_end_their_messages_are_closed_before_memory_runs_out() {
    let server = Server::start(Driver::Auto, 1, &["--memory-max", "128M"]);
    let mut healthy = Pair::new(&server, "healthy");
    let mut hoarders: Vec<Peer> = (0..8).map(|_| Peer::connected(server.rtmp)).collect();
    let block = vec![0; 12 << 20];
    for hoarder in &mut hoarders {
        hoarder.use_chunk_size(0xFF_FFFF);
        hoarder.write(&full_header(7, 0, 0xFF_FFFF, VIDEO, 1));
        hoarder.flood(&block, seconds(2));
    }
    let closed = server.wait_metric(CLOSED, &[("reason", "assembly_bytes")], |count| count >= 1.0);
    let metrics = server.metrics();
    assert!(metrics.sum("shardcast_assembly_bytes", &[]) <= f64::from(32 << 20), "after {closed} were closed");
    assert!(server.rss_kib() < 128 * 1024);
    healthy.flows();
    let mut stays = |hoarder: &mut Peer| hoarder.next(Duration::from_millis(50)) != Got::Closed;
    let left = hoarders.iter_mut().map(&mut stays).filter(|stays| *stays).count();
    assert!(left >= 1, "not everybody had to go");
}
