//! Players over TLS that read at their own pace, and what they cost.

use std::{sync::mpsc, thread, time::Duration};

use crate::common::{
    rtmp::{Got, Message, Peer, VIDEO, message},
    seconds,
    server::{Driver, Server},
};

on_both_drivers!(a_player_that_reads_in_fits_gets_every_byte);

fn start(driver: Driver, flags: &[&str]) -> Server {
    Server::start(driver, 1, &[&["--rtmps", "127.0.0.1:0", "--tls-self-signed"], flags].concat())
}

/// A player whose socket takes little at a time.
fn player(server: &Server, name: &str) -> Peer {
    Peer::dial_secure(server.secure(), 8 * 1024).past_handshake().past_connect().playing(name)
}

/// A frame that differs from every other: its number, then bytes that go by it.
fn frame(stream: u32, n: u32, bytes: u32) -> Message {
    let key = if n == 0 { 0x17 } else { 0x27 };
    let fill = (0..bytes).map(|at| (at.wrapping_mul(n + 1) >> 3) as u8);
    let payload = [key, 1, 0, 0, 0].into_iter().chain(n.to_be_bytes()).chain(fill).collect::<Vec<_>>();
    message(6, VIDEO, stream, n * 40, payload)
}

fn publisher(server: &Server, name: &str) -> (Peer, u32) {
    let (mut publisher, stream) = Peer::publisher(server.rtmp, name);
    publisher.use_chunk_size(60_000);
    publisher.send(&message(6, VIDEO, stream, 0, [0x17, 0, 0, 0, 0, 1, 2, 3, 4]));
    (publisher, stream)
}

/// What there is no room for waits in blocks of the shard's; records are sent whole and in the order in which they were encrypted.
fn a_player_that_reads_in_fits_gets_every_byte(driver: Driver) {
    const FRAMES: u32 = 150;
    let server = start(driver, &["--lag-ms-max", "600000"]);
    let (mut publisher, stream) = publisher(&server, "fits");
    publisher.send(&frame(stream, 0, 100));
    server.wait_live("fits");
    let players = [0, 1].map(|_| player(&server, "fits"));
    let (begin, begun) = mpsc::channel();
    let readers = players.map(|mut player| {
        let begin = begin.clone();
        thread::spawn(move || {
            let (mut next, mut begin) = (0, Some(begin));
            while next < FRAMES {
                let Got::Message(got) = player.next(seconds(10)) else { panic!("it was let go at {next}") };
                if got.type_id != VIDEO || got.payload[1] != 1 {
                    continue;
                }
                let bytes = if next == 0 { 100 } else { 40_000 };
                assert!(got.payload == frame(stream, next, bytes).payload, "frame {next} is another");
                if let Some(begin) = begin.take() {
                    begin.send(()).expect("it waits");
                }
                next += 1;
                thread::sleep(Duration::from_millis(if next % 30 == 0 { 500 } else { 5 }));
            }
        })
    });
    readers.iter().for_each(|_| begun.recv_timeout(seconds(10)).expect("both play"));
    for n in 1..FRAMES {
        assert!(publisher.send(&frame(stream, n, 40_000)));
        thread::sleep(Duration::from_millis(10));
    }
    readers.into_iter().for_each(|reader| reader.join().expect("it got all"));
}

/// By the design at most 40 KiB each, whether they take what they are sent or not.
#[test]
fn players_over_tls_take_40_kib_each_at_most() {
    const PLAYERS: u64 = 200;
    let server = start(Driver::Auto, &["--lag-ms-max", "600000"]);
    let (mut publisher, stream) = publisher(&server, "dear");
    let mut sent = 0;
    let mut publish = |frames: u32| {
        for _ in 0..frames {
            assert!(publisher.send(&frame(stream, sent, 10_000)));
            sent += 1;
        }
    };
    publish(1);
    server.wait_live("dear");
    let before_kib = server.rss_kib();
    let mut players = (0..PLAYERS).map(|_| player(&server, "dear")).collect::<Vec<_>>();
    server.wait_metric("shardcast_players", &[], |players| players == PLAYERS as f64);
    // With what the log holds for all of them: 1 MB in the end.
    let each_kib = || server.rss_kib().saturating_sub(before_kib) as f64 / PLAYERS as f64;
    // They take all there is.
    publish(10);
    for player in &mut players {
        while let Got::Message(_) = player.next(Duration::from_millis(20)) {}
    }
    let playing_kib = each_kib();
    // They take nothing, until there is no room for more.
    publish(100);
    thread::sleep(seconds(1));
    let stalled_kib = each_kib();
    println!("{playing_kib:.1} KiB each while they play, {stalled_kib:.1} when nothing is taken");
    assert!((1.0..40.0).contains(&playing_kib) && (1.0..40.0).contains(&stalled_kib), "{playing_kib} {stalled_kib}");
    assert_eq!(server.metrics().sum("shardcast_players", &[]), PLAYERS as f64, "nobody was let go");
}
