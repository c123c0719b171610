//! Players that read too slowly, or not at all.

use std::time::{Duration, Instant};

use crate::{
    audience::{FRAME, GOP, Ground, frame, number, sound},
    common::{
        rtmp::{AUDIO, COMMAND, Got, Peer, USER_CONTROL, VIDEO, message},
        seconds,
    },
};

const CLOSED: &str = "shardcast_connections_closed_total";
/// The kernel keeps less than a GOP for a player, so that what happens is the node's doing.
const SHORT_BUFFERS: [&str; 2] = ["--sndbuf", "64K"];
const RECEIVE_BYTES: usize = 32 * 1_024;
const LARGE: usize = 20_000;

/// A publisher of a stream of 4 Mbit/s on a thread of its own, for `lasts`.
fn large_stream(ground: &Ground, name: &str, lasts: Duration) -> std::thread::JoinHandle<()> {
    let (mut peer, stream) = Peer::publisher(ground.server.rtmp, name);
    std::thread::spawn(move || {
        let begun = Instant::now();
        let mut sent = 0;
        while begun.elapsed() < lasts {
            assert!(peer.send(&frame(stream, sent, LARGE)) && peer.send(&sound(stream, sent)), "it was closed");
            sent += 1;
            std::thread::sleep((begun + FRAME * sent).saturating_duration_since(Instant::now()));
        }
    })
}

fn short_player(ground: &Ground, name: &str) -> Peer {
    Peer::player_with_buffer(ground.server.rtmp, name, RECEIVE_BYTES)
}

#[test]
fn a_player_at_half_the_rate_skips_to_keyframes_and_its_sound_stays_with_its_picture() {
    let ground = Ground::new(&[&SHORT_BUFFERS[..], &["--lag-ms-max", "1000"]].concat());
    let stream = large_stream(&ground, "large", seconds(16));
    ground.server.wait_live("large");
    let mut slow = short_player(&ground, "large");
    let begun = Instant::now();
    let (mut last, mut skips, mut picture, mut apart) = (None, 0, None, 0);
    let mut read = 0;
    while begun.elapsed() < seconds(14) {
        let Got::Message(message) = slow.next(seconds(2)) else { panic!("the slow player was let go") };
        read += message.payload.len();
        match message.type_id {
            VIDEO => {
                let number = number(&message);
                if last.is_some_and(|last: u32| number != last + 1) {
                    assert!(number > last.expect("seen"), "frame {number} came after {last:?}");
                    assert_eq!(number % GOP, 0, "after a skip the first frame is a keyframe");
                    skips += 1;
                }
                (last, picture) = (Some(number), Some(message.timestamp));
            }
            AUDIO => apart = picture.map_or(apart, |picture| apart.max(message.timestamp.abs_diff(picture))),
            _ => {}
        }
        // Half of what is sent.
        let due = begun + FRAME * (2 * read / (LARGE + 209)) as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    assert!(skips >= 3, "it skipped {skips} times in 14 s");
    assert!(apart <= 80, "sound and picture were {apart} ms apart");
    drop(slow);
    stream.join().expect("the publisher is unharmed");
    ground.assert_recovers();
}

#[test]
fn players_that_stop_reading_are_let_go_in_time_and_cost_little() {
    let ground = Ground::new(&SHORT_BUFFERS);
    let stream = large_stream(&ground, "large", seconds(15));
    ground.server.wait_live("large");
    let rss_kib = ground.server.rss_kib();
    let stopped: Vec<Peer> = (0..20).map(|_| short_player(&ground, "large")).collect();
    let since = Instant::now();
    ground.server.wait_metric("shardcast_players", &[], |players| players >= 220.0);
    let gone = || ground.server.metrics().sum("shardcast_players", &[]) <= 200.0;
    crate::common::wait_for("players that do not read to be let go", seconds(14), || gone().then_some(()));
    assert!(since.elapsed() >= seconds(9), "they were let go after {:?}", since.elapsed());
    assert_eq!(ground.server.metrics().sum(CLOSED, &[("reason", "no_progress")]), 20.0);
    let grown = ground.server.rss_kib().saturating_sub(rss_kib);
    assert!(grown < 16 * 1_024, "memory grew by {grown} KiB");
    drop(stopped);
    stream.join().expect("the publisher is unharmed");
    ground.assert_recovers();
}

#[test]
fn a_player_that_sends_and_never_reads_is_let_go_and_costs_little() {
    let ground = Ground::new(&SHORT_BUFFERS);
    let rss_kib = ground.server.rss_kib();
    let ping = message(2, USER_CONTROL, 0, 0, [0, 6, 0, 0, 0, 0]).chunks(128);
    let unknown = message(3, COMMAND, 0, 0, crate::common::rtmp::command("nothing", 9.0, &[])).chunks(128);
    let senders = [ping, unknown].map(|flood| {
        let mut peer = short_player(&ground, "healthy");
        peer.flood(&flood.repeat(8 * 1_024 * 1_024 / flood.len()), seconds(2));
        let grown = ground.server.rss_kib().saturating_sub(rss_kib);
        assert!(grown < 16 * 1_024, "memory grew by {grown} KiB");
        peer
    });
    let reasons = ["reply_backlog", "no_progress", "flood"];
    let closed = |metrics: &crate::common::server::Metrics| -> f64 {
        reasons.iter().map(|reason| metrics.sum(CLOSED, &[("reason", reason)])).sum()
    };
    crate::common::wait_for("both to be let go", seconds(14), || {
        (closed(&ground.server.metrics()) >= 2.0).then_some(())
    });
    drop(senders);
    ground.assert_recovers();
}
