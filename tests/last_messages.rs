//! What a publisher sends last reaches its players, though it closes at once: with its receive queue read, and unread (then
//! its kernel sends RST, and what it had not sent yet is lost before any server sees it).

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

mod common;

use std::{thread, time::Duration};

use common::{
    amf,
    rtmp::{Message, Peer, USER_CONTROL, VIDEO, message},
    server::{Driver, Server},
};

/// Two and a half are worth an acknowledgement.
const LARGE_BYTES: usize = 1_000_000;
const SMALL_BYTES: usize = 350_000;

struct Scene {
    server: Server,
    player: Peer,
    publisher: Option<Peer>,
    stream: u32,
    sent: u32,
    seen: u32,
}

impl Scene {
    /// `flash_version` is what the publisher says of itself.
    fn new(driver: Driver, flash_version: &str) -> Self {
        let server = Server::start(driver, 1, &["--unpublish-grace-s", "1"]);
        let player = Peer::player(server.rtmp, "show");
        server.wait_metric("shardcast_players", &[], |players| players == 1.0);
        let mut publisher = Peer::greeted(server.rtmp);
        let code = publisher.connect_with(&amf::object(&[
            ("app", amf::string("live")),
            ("tcUrl", amf::string("rtmp://localhost/live")),
            ("flashVer", amf::string(flash_version)),
        ]));
        assert_eq!(code.as_deref(), Some("NetConnection.Connect.Success"));
        let stream = publisher.create_stream();
        assert_eq!(publisher.publish(stream, "show").as_deref(), Some("NetStream.Publish.Start"));
        publisher.use_chunk_size(60_000);
        Self { server, player, publisher: Some(publisher), stream, sent: 0, seen: 0 }
    }

    fn frame(&mut self, bytes: usize) -> Message {
        self.sent += 1;
        let mut payload = [&b"\x17\x01\0\0\0"[..], &self.sent.to_be_bytes()].concat();
        payload.resize(bytes, self.sent as u8);
        message(6, VIDEO, self.stream, self.sent * 40, payload)
    }

    fn send(&mut self, bytes: usize) {
        let frame = self.frame(bytes);
        self.write(&frame);
    }

    /// A request that is answered.
    fn ping(&mut self) {
        let request = [&6_u16.to_be_bytes()[..], &7_u32.to_be_bytes()].concat();
        self.write(&message(2, USER_CONTROL, 0, 0, request));
    }

    fn write(&mut self, message: &Message) {
        assert!(self.publisher.as_mut().is_some_and(|publisher| publisher.send(message)));
    }

    /// The player gets every frame it has not had, whole.
    #[track_caller]
    fn assert_all_seen(&mut self) {
        for number in self.seen + 1..=self.sent {
            let seen = self.player.next_media().unwrap_or_else(|| panic!("frame {number} of {}", self.sent));
            assert_eq!(seen.payload[5..9], number.to_be_bytes(), "of {}", self.sent);
            assert!(seen.payload[9..].iter().all(|byte| *byte == number as u8), "frame {number}");
        }
        self.seen = self.sent;
    }
}

/// FFmpeg and what is built on it read next to nothing while they publish, and close the moment the last frame is written.
#[test]
fn a_publisher_like_ffmpeg_loses_nothing_by_closing_at_once() {
    for driver in [Driver::Uring, Driver::Legacy] {
        let mut scene = Scene::new(driver, "FMLE/3.0 (compatible; Lavf62.3.100)");
        for _ in 0..4 {
            scene.send(LARGE_BYTES);
            scene.send(SMALL_BYTES);
        }
        scene.publisher = None;
        scene.assert_all_seen();
    }
}

/// An answer is due while much of what arrived before the reset is still unread.
#[test]
fn what_arrived_before_a_reset_is_passed_on() {
    for driver in [Driver::Uring, Driver::Legacy] {
        let mut scene = Scene::new(driver, "FMLE/3.0 (compatible; Lavf62.3.100)");
        // The kernel lets a connection have more unread once much was read.
        for _ in 0..16 {
            scene.send(LARGE_BYTES);
        }
        scene.assert_all_seen();
        scene.ping();
        thread::sleep(Duration::from_millis(100));
        scene.server.signal("STOP");
        scene.ping();
        scene.send(SMALL_BYTES);
        scene.send(1_000);
        // Time for the kernels, which go on; closed with an answer unread, then.
        thread::sleep(Duration::from_millis(100));
        scene.publisher = None;
        scene.server.signal("CONT");
        scene.assert_all_seen();
    }
}
