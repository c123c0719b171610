//! HTTP that bends the rules, towards the admin listener.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::{common::seconds, scene::Scene};

/// What a request is answered with, and after what time the connection was over.
fn ask(scene: &Scene, request: &[u8]) -> (String, Duration) {
    let begun = Instant::now();
    let mut stream = TcpStream::connect(scene.server.admin).expect("it listens");
    stream.set_read_timeout(Some(seconds(20))).expect("a TCP socket");
    // A listener that has heard enough closes.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    (String::from_utf8_lossy(&answer).into_owned(), begun.elapsed())
}

#[test]
fn slow_and_long_heads_end_at_their_bounds() {
    let scene = Scene::new();
    let long = format!("GET /healthz HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(1_024 * 1_024));
    let (answer, took) = ask(&scene, long.as_bytes());
    let refused =
        answer.is_empty() || ["400", "431"].iter().any(|code| answer.starts_with(&format!("HTTP/1.1 {code} ")));
    assert!(refused, "{answer}");
    assert!(took < seconds(5), "it took {took:?}");
    scene.assert_memory_bounded();
    // All places are taken by those that never end; they are cut off, and the next one is served.
    let slow: Vec<TcpStream> = (0..64)
        .map(|_| {
            let mut stream = TcpStream::connect(scene.server.admin).expect("it listens");
            stream.write_all(b"GET /healthz HTTP/1.1\r\nX: ").expect("it is taken");
            stream
        })
        .collect();
    let (answer, took) = ask(&scene, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.ends_with("ok\n"), "{answer}");
    assert!(took < seconds(12), "it took {took:?}");
    drop(slow);
    scene.assert_unharmed();
}

#[test]
fn heads_that_can_be_read_in_two_ways_are_answered_with_400() {
    let scene = Scene::new();
    let body = "0\r\n\r\n";
    for head in [
        "GET /healthz HTTP/1.1\nHost: a\n\n",
        "GET /healthz HTTP/1.1\r\nHost: a\r\nX: y\n\r\n",
        "POST /api/reconnect HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /api/reconnect HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        "POST /api/reconnect HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
    ] {
        let (answer, _) = ask(&scene, format!("{head}{body}").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400 "), "{head:?}: {answer}");
    }
    // Nothing is served in parts, so there is nothing to multiply.
    let ranges = (0..1_000).map(|at| format!("{at}-,")).collect::<String>();
    let (answer, _) =
        ask(&scene, format!("GET /healthz HTTP/1.1\r\nHost: a\r\nRange: bytes={ranges}0-\r\n\r\n").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok\n"), "{answer}");
    scene.assert_unharmed();
}
