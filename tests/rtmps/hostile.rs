//! Peers that do not keep to TLS: each is closed, for a reason that is counted, and nobody else notices.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use crate::common::{
    media,
    packets::{self, Joined, Seen, assert_received, ffprobe},
    rtmp::{ACKNOWLEDGEMENT, Peer, message, simple_c1},
    seconds,
    server::{Driver, Server},
    tool::require,
    wait_for,
};

on_both_drivers!(
    peers_that_do_not_keep_to_tls_are_closed_in_time,
    who_changes_keys_again_and_again_and_takes_no_answer_is_closed,
);

/// The first 64 bytes of a ClientHello that announces more.
fn client_hello() -> Vec<u8> {
    let mut hello = vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3];
    hello.resize(64, 7);
    hello
}

/// How long the server lets a connection on which it got `first`, and after that a byte of `dribbled` each tenth of a second, be
/// open, and what it said.
fn closed_after(addr: SocketAddr, first: &[u8], dribbled: &[u8]) -> (Duration, Vec<u8>) {
    let begun = Instant::now();
    let mut peer = TcpStream::connect(addr).expect("it listens");
    peer.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
    peer.write_all(first).expect("room");
    let (mut said, mut block, mut dribbled) = (Vec::new(), [0; 1_024], dribbled.iter());
    loop {
        match peer.read(&mut block) {
            Ok(0) => return (begun.elapsed(), said),
            Ok(count) => said.extend_from_slice(&block[..count]),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => return (begun.elapsed(), said),
        }
        assert!(begun.elapsed() < seconds(10), "it is still open");
        if let Some(byte) = dribbled.next() {
            // It may be closed by now.
            let _ = peer.write(&[*byte]);
        }
    }
}

fn peers_that_do_not_keep_to_tls_are_closed_in_time(driver: Driver) {
    let server = Server::start(driver, 1, &["--rtmps", "127.0.0.1:0", "--tls-self-signed", "--unpublish-grace-s", "1"]);
    let url = server.secure_url("beside");
    let probe = ffprobe(&url);
    server.wait_metric("shardcast_players", &[], |waiting| waiting >= 1.0);
    let publisher = media::publish(require("ffmpeg"), media::av(), &url);
    server.wait_live("beside");
    let closed = |reason: &str| server.metrics().sum("shardcast_connections_closed_total", &[("reason", reason)]);
    let plain = [&[3][..], &simple_c1()].concat();
    let oversized = [0x16, 3, 1, 0xFF, 0xFF];
    let wrong_ones = [&plain[..], b"GET / HTTP/1.1\r\n\r\n", &[0; 64], &[0xFF; 64], &oversized];
    for bytes in wrong_ones {
        let (after, said) = closed_after(server.secure(), bytes, &[]);
        assert!(after < seconds(2), "{after:?} for {bytes:?}");
        assert_eq!(said.first(), Some(&0x15), "an alert says why");
    }
    assert_eq!(closed("tls"), wrong_ones.len() as f64);
    let advised = || server.log().matches("rtmp:// has a port of its own").count() == wrong_ones.len();
    wait_for("advice in the log", seconds(5), || advised().then_some(()));

    // Whoever says nothing, or goes on saying a little, has five seconds for the handshakes of TLS and RTMP together.
    let timed_out = closed("handshake_timeout");
    let addr = server.secure();
    std::thread::scope(|scope| {
        for (first, dribbled) in [(vec![], vec![]), (client_hello(), vec![]), (client_hello(), vec![7; 100])] {
            scope.spawn(move || {
                let (after, _) = closed_after(addr, &first, &dribbled);
                assert!((seconds(4)..seconds(8)).contains(&after), "{after:?}");
            });
        }
    });
    assert_eq!(closed("handshake_timeout") - timed_out, 3.0);

    // Gone at once, as who looks whether the port is open: not an error. Gone in the middle of it: one.
    let lines = server.closed_lines("tls");
    for (first, reason) in [(vec![], "peer_closed"), (client_hello(), "tls")] {
        let before = closed(reason);
        let mut peer = TcpStream::connect(addr).expect("it listens");
        peer.write_all(&first).expect("room");
        drop(peer);
        server.wait_metric("shardcast_connections_closed_total", &[("reason", reason)], |sum| sum > before);
    }
    wait_for("one line in the log", seconds(5), || (server.closed_lines("tls") == lines + 1).then_some(()));
    assert_eq!(server.closed_lines("peer_closed"), 0, "{}", server.log());

    publisher.finish(seconds(media::SOURCE_SECONDS + 20));
    let received = packets::probed(&probe.finish(seconds(20)));
    assert_received("ffprobe", &media::av().packets, &received, Joined::Early, Seen::AsReceived);
    server.wait_metric("shardcast_connections", &[], |open| open == 0.0);
}

/// Each change asks for an answer, and each byte in between makes the changes lawful.
fn who_changes_keys_again_and_again_and_takes_no_answer_is_closed(driver: Driver) {
    let server = Server::start(driver, 1, &["--rtmps", "127.0.0.1:0", "--tls-self-signed", "--notsent-lowat", "4K"]);
    let mut peer = Peer::dial_secure(server.secure(), 4_096).past_handshake().past_connect().playing("nobody");
    let rss_kib = server.rss_kib();
    let begun = Instant::now();
    let (mut changes, mut highest_kib) = (0, 0);
    let acknowledgement = message(2, ACKNOWLEDGEMENT, 0, 0, [0; 4]).chunks(128);
    let mut bytes = acknowledgement.iter().cycle();
    while peer.change_keys() && bytes.next().is_some_and(|byte| peer.write(&[*byte])) {
        changes += 1;
        if changes % 1_000 == 0 {
            highest_kib = highest_kib.max(server.rss_kib());
        }
        // Slowly enough that each is answered.
        std::thread::sleep(Duration::from_micros(200));
        assert!(begun.elapsed() < seconds(90), "it goes on after {changes} changes");
    }
    assert!(changes > 200, "closed after {changes} changes");
    server.wait_metric("shardcast_connections_closed_total", &[("reason", "no_progress")], |sum| sum == 1.0);
    let grown = highest_kib.saturating_sub(rss_kib);
    assert!(grown < 1_024, "{changes} changes left {grown} KiB");
}
