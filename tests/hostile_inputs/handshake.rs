//! The handshake and the time it may take.

use std::time::{Duration, Instant};

use crate::{
    common::{
        amf,
        rtmp::{ACKNOWLEDGEMENT, Peer, message, simple_c1},
        seconds,
    },
    scene::Scene,
};

#[test]
fn another_version_is_closed() {
    let scene = Scene::new();
    for (count, version) in [(1, 6), (2, 0), (3, 255)] {
        let mut peer = scene.dial();
        peer.write(&[&[version][..], &simple_c1()].concat());
        scene.assert_closed_again(&mut peer, "handshake_version", count);
    }
    scene.assert_unharmed();
}

#[test]
fn tls_and_http_on_the_rtmp_port_are_closed() {
    let scene = Scene::new();
    let tls: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03";
    for (count, hello) in
        [(1, tls), (2, b"GET /live/show.flv HTTP/1.1\r\nHost: a\r\n\r\n"), (3, b"POST /open/1 HTTP/1.1\r\n")]
    {
        let mut peer = scene.dial();
        peer.write(hello);
        scene.assert_closed_again(&mut peer, "not_rtmp", count);
    }
    scene.assert_unharmed();
}

/// Closes within a second of `after`, and not before.
#[track_caller]
fn assert_closes_at(peer: &mut Peer, started: Instant, after: Duration) {
    let patience = (after + seconds(3)).saturating_sub(started.elapsed());
    assert!(peer.closes_within(patience), "still open after {:?}", started.elapsed());
    let took = started.elapsed();
    assert!(took + Duration::from_millis(500) >= after, "closed after {took:?}, {after:?} are promised");
}

#[test]
fn silence_and_dribbling_end_at_one_total_deadline() {
    let scene = Scene::new();
    let started = Instant::now();
    let (mut silent, mut dribbling) = (scene.dial(), scene.dial());
    let mut greeted = scene.greeted();
    let mut connected = scene.connected();
    let c0_c1 = [&[3][..], &simple_c1()].concat();
    for byte in c0_c1.chunks(1) {
        if started.elapsed() >= seconds(4) {
            break;
        }
        dribbling.write(byte);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_closes_at(&mut silent, started, seconds(5));
    assert_closes_at(&mut dribbling, started, seconds(5));
    scene.assert_closed_again(&mut silent, "handshake_timeout", 2);
    assert_closes_at(&mut greeted, started, seconds(10));
    assert_eq!(scene.closed("connect_timeout"), 1);
    assert_closes_at(&mut connected, started, seconds(20));
    assert_eq!(scene.closed("request_timeout"), 1);
    scene.assert_unharmed();
}

#[test]
fn a_digest_that_verifies_nowhere_is_taken_for_a_simple_handshake() {
    let scene = Scene::new();
    for offsets in [[0; 4], [255; 4]] {
        let mut c1 = simple_c1();
        c1[4..8].copy_from_slice(&[9, 0, 124, 2]);
        c1[8..12].copy_from_slice(&offsets);
        c1[772..776].copy_from_slice(&offsets);
        let mut peer = scene.dial();
        peer.greet(&c1, None);
        assert_eq!(peer.connect("live").as_deref(), Some("NetConnection.Connect.Success"));
    }
    scene.assert_unharmed();
}

#[test]
fn a_wrong_c2_is_tolerated() {
    let scene = Scene::new();
    let mut peer = scene.dial();
    peer.greet(&simple_c1(), Some(&[0; 1536]));
    assert_eq!(peer.connect("live").as_deref(), Some("NetConnection.Connect.Success"));
    scene.assert_unharmed();
}

#[test]
fn more_than_64_kib_before_connect_are_closed() {
    let scene = Scene::new();
    let mut peer = scene.greeted();
    let acknowledgement = message(2, ACKNOWLEDGEMENT, 0, 0, [0; 4]).chunks(128);
    peer.write(&acknowledgement.repeat(70 * 1024 / acknowledgement.len()));
    scene.assert_closed(peer, "pre_connect_bytes");
    scene.assert_unharmed();
}

#[test]
fn a_session_that_arrives_byte_by_byte_is_the_same() {
    let scene = Scene::new();
    let mut peer = scene.dial();
    for byte in [&[3][..], &simple_c1()].concat().chunks(1) {
        peer.write(byte);
    }
    let answer = peer.read_exact(1 + 1536 + 1536).expect("S0, S1 and S2");
    for byte in answer[1..1537].chunks(1) {
        peer.write(byte);
    }
    let arguments = amf::object(&[("app", amf::string("live")), ("tcUrl", amf::string("rtmp://h/live"))]);
    let connect = message(3, 20, 0, 0, crate::common::rtmp::command("connect", 1.0, &[arguments]));
    for byte in connect.chunks(128).chunks(1) {
        peer.write(byte);
    }
    assert_eq!(peer.next_code().as_deref(), Some("NetConnection.Connect.Success"));
    let stream = peer.create_stream();
    assert_eq!(peer.publish(stream, "slow").as_deref(), Some("NetStream.Publish.Start"));
    scene.assert_unharmed();
}
