//! Connections that come in crowds: silent, or gone at once.

use std::{
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::{
    audience::Ground,
    common::{rtmp::simple_c1, seconds, wait_for},
};

const CLOSED: &str = "shardcast_connections_closed_total";

/// Each of four threads connects so often: 5,000 times a second together.
const EACH: Duration = Duration::from_micros(800);

/// Leaves with a reset, which keeps no port.
fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
}

#[test]
fn two_thousand_silent_handshakes_end_at_their_deadline() {
    let ground = Ground::new(&[]);
    let addr = ground.server.rtmp;
    let begun = Instant::now();
    let silent: Vec<TcpStream> = (0..2_000).map(|_| TcpStream::connect(addr).expect("it is taken")).collect();
    ground.server.wait_metric("shardcast_connections", &[], |count| count >= 2_201.0);
    let all = || ground.server.metrics().sum(CLOSED, &[("reason", "handshake_timeout")]) >= 2_000.0;
    wait_for("the silent ones to be closed", seconds(20), || all().then_some(()));
    assert!(begun.elapsed() >= seconds(5), "their deadline is 5 s, they were closed after {:?}", begun.elapsed());
    silent.into_iter().for_each(reset);
    ground.assert_recovers();
}

#[test]
fn a_storm_of_reconnects_harms_nobody() {
    let ground = Ground::new(&[]);
    let addr = ground.server.rtmp;
    let hello = [&[3][..], &simple_c1()].concat();
    let (begun, until) = (Instant::now(), Instant::now() + seconds(6));
    let storm = |kind: u32| {
        let hello = hello.clone();
        std::thread::spawn(move || {
            let mut count = 0;
            while Instant::now() < until {
                let mut stream = TcpStream::connect(addr).expect("nobody is refused");
                if kind == 0 {
                    // Some get as far as C1, most leave at once.
                    std::io::Write::write_all(&mut stream, &hello).expect("it is taken");
                }
                reset(stream);
                count += 1;
                std::thread::sleep((begun + EACH * count).saturating_duration_since(Instant::now()));
            }
            count
        })
    };
    let storms: Vec<_> = (0..4).map(storm).collect();
    let count: u32 = storms.into_iter().map(|storm| storm.join().expect("nobody is refused")).sum();
    eprintln!("{} reconnects a second", count / 6);
    assert!(count >= 3_000, "the storm was a breeze of {count} connections");
    ground.server.wait_metric("shardcast_connections", &[], |count| count == 201.0);
    ground.assert_recovers();
}
