//! The handshake.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::Duration,
};

use crate::{
    common::{
        amf,
        rtmp::{COMMAND, Peer, command, message, simple_c1},
        seconds,
    },
    scene::server,
};

/// RTMP 1.0, 5.2.3 and 5.2.4; that S2 has all of C1, its time of receipt left out, is for librtmp, which compares it.
#[test]
fn s1_is_time_zeros_and_noise_and_s2_echoes_c1() {
    let server = server();
    let mut noise = Vec::new();
    for _ in 0..2 {
        let mut peer = Peer::dial(server.rtmp);
        let mut c1 = simple_c1();
        c1[..4].copy_from_slice(&[1, 2, 3, 4]);
        peer.write(&[&[3][..], &c1].concat());
        let answer = peer.read_exact(1 + 1536 + 1536).expect("S0, S1 and S2");
        assert_eq!((answer[0], &answer[5..9]), (3, &[0; 4][..]));
        assert!(answer[1537..] == c1[..], "S2");
        noise.push(answer[9..1537].to_vec());
    }
    assert_ne!(noise[0], noise[1]);
}

/// FFmpeg and some encoders fail when the three arrive apart (RTMP 1.0, 5.2.1, allows S0 and S1 to go ahead).
#[test]
fn s0_s1_and_s2_come_at_once_and_not_before_c1_is_whole() {
    let server = server();
    let mut stream = TcpStream::connect(server.rtmp).expect("the server accepts");
    let (c0_c1, mut answer) = ([&[3][..], &simple_c1()].concat(), [0; 8_192]);
    stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a TCP socket");
    for part in [&c0_c1[..1], &c0_c1[1..1_536]] {
        stream.write_all(part).expect("the server reads");
        let early = stream.read(&mut answer).map_err(|error| error.kind());
        assert!(matches!(early, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)), "{early:?}");
    }
    stream.set_read_timeout(Some(seconds(10))).expect("a TCP socket");
    stream.write_all(&c0_c1[1_536..]).expect("the server reads");
    assert_eq!(stream.read(&mut answer).expect("an answer"), 1 + 1536 + 1536);
}

/// Clients that do not wait, and TCP, which keeps no borders (RTMP 1.0, 5.2.1).
#[test]
fn c0_c1_c2_and_connect_may_come_in_one_segment() {
    let server = server();
    let arguments = amf::object(&[("app", amf::string("live")), ("tcUrl", amf::string("rtmp://h/live"))]);
    let connect = message(3, COMMAND, 0, 0, command("connect", 1.0, &[arguments])).chunks(128);
    let mut peer = Peer::dial(server.rtmp);
    peer.write(&[&[3][..], &simple_c1(), &[0; 1536], &connect].concat());
    peer.read_exact(1 + 1536 + 1536).expect("S0, S1 and S2");
    assert_eq!(peer.next_code().as_deref(), Some("NetConnection.Connect.Success"));
}
