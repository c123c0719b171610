//! Thousands ask for a stream that its origin does not have.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use crate::{
    common::{
        rtmp::Peer,
        seconds,
        server::{Driver, Server},
    },
    fake::{Fake, Manner},
};

const ASKS: usize = 10_000;
/// Players that ask at the same time.
const AT_ONCE: usize = 100;
/// A player's rest, so that the asks last for several pauses.
const BETWEEN: Duration = Duration::from_millis(30);
/// How long a node waits for another one (`--upstream-connect-ms`, `--upstream-first-byte-ms`).
const TIME_OUT: Duration = seconds(2);
/// The first pause after a failure, before jitter shortens it by up to a half. Each further one is twice as long.
const BACK_OFF_FIRST: Duration = seconds(1);

#[test]
fn a_missing_stream_is_asked_for_once_per_pause() {
    assert_asked_once_per_pause(Manner::NotFound);
}

#[test]
fn an_origin_that_closes_is_asked_once_per_pause() {
    assert_asked_once_per_pause(Manner::Closes);
}

fn assert_asked_once_per_pause(manner: Manner) {
    let origin = Fake::start(manner);
    let rule = format!("live/*={}", origin.url("{stream}"));
    let edge = Server::start(Driver::Auto, 2, &["--pull", &rule]);
    let start = Instant::now();
    let asked = AtomicUsize::new(0);
    let slowest = std::thread::scope(|scope| {
        let ask = || {
            let mut slowest = Duration::ZERO;
            while asked.fetch_add(1, Ordering::Relaxed) < ASKS {
                let mut player = Peer::connected(edge.rtmp);
                let stream = player.create_stream();
                let at = Instant::now();
                player.ask_play(stream, "missing");
                // A player may be told at once that its play begins, as it waits for the stream.
                let code = player.find("word of what becomes of play", |message| {
                    let code = message.code().filter(|code| code.starts_with("NetStream.Play."));
                    code.filter(|code| !code.ends_with(".Reset") && !code.ends_with(".Start"))
                });
                assert_eq!(code.as_deref(), Some("NetStream.Play.StreamNotFound"));
                slowest = slowest.max(at.elapsed());
                std::thread::sleep(BETWEEN);
            }
            slowest
        };
        let players: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(ask)).collect();
        players.into_iter().map(|player| player.join().expect("its asserts hold")).max().expect("players")
    });
    let took = start.elapsed();
    let connections = origin.connections();
    assert!(slowest <= TIME_OUT, "an answer took {slowest:?}");
    assert!(took > 3 * BACK_OFF_FIRST, "{took:?} for {ASKS} asks: too short to see pauses");
    assert!((2..=attempts_within(took)).contains(&connections), "{connections} connections in {took:?}");
    assert_eq!(edge.metrics().sum("shardcast_requests_refused_total", &[("reason", "not_found")]), ASKS as f64);
}

/// The most attempts there can be, if after each there is a pause.
fn attempts_within(time: Duration) -> usize {
    let (mut next, mut pause, mut attempts) = (Duration::ZERO, BACK_OFF_FIRST, 0);
    while next <= time {
        attempts += 1;
        next += pause / 2;
        pause *= 2;
    }
    attempts
}
