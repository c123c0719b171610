//! What players see of a publisher's timestamps: a test for each row of the table in `docs/timestamps.md`.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

mod common;

use common::{
    rtmp::{AUDIO, COMMAND, DATA, Message, Peer, VIDEO, message},
    server::{Driver, Server},
};

const CAPS_MULTITRACK: f64 = 2.0;

/// A publisher and a player that was there before it, so that it gets everything.
struct Scene {
    server: Server,
    publisher: Peer,
    stream: u32,
    player: Peer,
    sent: u32,
}

impl Scene {
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(flags: &[&str]) -> Self {
        let server = Server::start(Driver::Auto, 2, flags);
        let player = Peer::announcing(server.rtmp, Some(CAPS_MULTITRACK)).playing("show");
        server.wait_metric("shardcast_players", &[], |players| players == 1.0);
        let (publisher, stream) = Peer::publisher(server.rtmp, "show");
        Self { server, publisher, stream, player, sent: 0 }
    }

    /// Sends a message that no other equals; the timestamp it arrives with.
    #[track_caller]
    fn seen(&mut self, type_id: u8, timestamp: u32, tag: &[u8]) -> u32 {
        self.sent += 1;
        let payload = [tag, &self.sent.to_be_bytes()[..]].concat();
        self.publisher.send(&message(6, type_id, self.stream, timestamp, payload.clone()));
        let arrives = |message: &Message| (message.payload == payload).then_some(message.timestamp);
        self.player.find("the message", arrives).expect("the player is served")
    }

    #[track_caller]
    fn video(&mut self, timestamp: u32) -> u32 {
        self.seen(VIDEO, timestamp, b"\x17\x01\0\0\0")
    }

    #[track_caller]
    fn audio(&mut self, timestamp: u32) -> u32 {
        self.seen(AUDIO, timestamp, b"\xAF\x01")
    }

    /// The shard whose connection publishes.
    fn shard(&self) -> String {
        let publishers = self.server.metrics().by_label("shardcast_publishers", "shard");
        publishers.into_iter().find(|(_, count)| *count == 1.0).expect("somebody publishes").0
    }

    /// Another publisher takes the place of the one before.
    fn republish(&mut self) {
        let (publisher, stream) = {
            let gone = std::mem::replace(&mut self.publisher, Peer::dial(self.server.rtmp));
            drop(gone);
            self.server.wait_gone("show", common::seconds(5));
            Peer::publisher(self.server.rtmp, "show")
        };
        (self.publisher, self.stream) = (publisher, stream);
    }
}

#[test]
fn sound_timestamps_pass_untouched_wherever_they_begin() {
    for from in [0, 0x00FF_FFF0, 0x7FFF_FFF0, 0xFFFF_FFF0_u32] {
        let mut scene = Scene::new();
        for step in 0..4 {
            let at = from.wrapping_add(step * 40);
            assert_eq!((scene.video(at), scene.audio(at.wrapping_add(7))), (at, at.wrapping_add(7)));
        }
    }
}

#[test]
fn reordering_is_held_at_the_last_value() {
    let mut scene = Scene::new();
    assert_eq!([10_000, 9_990, 9_100, 10_010].map(|at| scene.video(at)), [10_000, 10_000, 10_000, 10_010]);
}

#[test]
fn a_restarted_encoder_goes_on_with_its_distances() {
    let mut scene = Scene::new();
    assert_eq!((scene.video(500_000), scene.audio(500_010)), (500_000, 500_010));
    let video = scene.video(0);
    assert!((500_050..505_000).contains(&video), "{video}");
    // Audio still drains its old clock.
    assert_eq!(scene.audio(500_031), 500_031);
    assert_eq!((scene.audio(23), scene.video(40)), (video + 23, video + 40));
}

#[test]
fn a_leap_of_an_hour_passes_and_one_of_weeks_is_bridged() {
    let mut scene = Scene::new();
    assert_eq!((scene.video(1_000), scene.video(3_601_000)), (1_000, 3_601_000));
    for leap in [1_u32 << 31, (1 << 31) - 1, 3_000_000_000] {
        let before = scene.video(3_601_000);
        let after = scene.video(3_601_000_u32.wrapping_add(leap));
        assert!((40..5_000).contains(&after.wrapping_sub(before)), "{before} then {after} after a leap of {leap}");
    }
}

#[test]
fn one_wrong_timestamp_does_not_part_the_tracks() {
    for wrong in [300_000, 0x9000_0000, 0] {
        let mut scene = Scene::new();
        for step in 1..30_u32 {
            let at = 20_000 + step * 40;
            let video = scene.video(if step == 10 { wrong } else { at });
            let distance = scene.audio(at + 10).wrapping_sub(video) as i32;
            assert!(step < 15 || (-5_000..5_000).contains(&distance), "audio is {distance} ms after video");
        }
    }
}

#[test]
fn headers_and_data_start_no_clock() {
    let mut scene = Scene::new();
    assert_eq!(scene.video(70_000), 70_000);
    assert_eq!(scene.seen(VIDEO, 0, b"\x17\0\0\0\0new avcC"), 70_000, "a header with timestamp 0 mid-stream");
    assert_eq!(scene.seen(VIDEO, 70_040, b"\x17\0\0\0\0avcC"), 70_000, "a header stamped as the frame to come");
    assert_eq!(scene.video(70_040), 70_040);
    assert_eq!(scene.seen(DATA, 70_030, b"\x02\0\x0AonCuePoint"), 70_030, "near media");
    assert_eq!(scene.seen(DATA, 0, b"\x02\0\x0AonCuePoint"), 70_040, "elsewhere");
    assert_eq!(scene.video(70_080), 70_080);
}

#[test]
fn who_comes_back_goes_on_where_the_stream_ended() {
    let mut scene = Scene::new();
    assert_eq!((scene.video(90_000), scene.audio(90_010)), (90_000, 90_010));
    scene.republish();
    let video = scene.video(5_000);
    assert!((90_050..100_000).contains(&video), "{video}");
    assert_eq!((scene.audio(5_007), scene.video(5_040)), (video + 7, video + 40));
}

#[test]
fn a_stream_goes_on_when_its_publisher_comes_back_on_another_shard() {
    let mut scene = Scene::new();
    let mut video = scene.video(90_000);
    let began_on = scene.shard();
    // Which shard takes a connection is the kernel's choice.
    for _ in 0..64 {
        scene.republish();
        let next = scene.video(5_000);
        assert!((40..10_000).contains(&next.wrapping_sub(video)), "{next} after {video}");
        assert_eq!((scene.audio(5_007), scene.video(5_040)), (next + 7, next + 40));
        if scene.shard() != began_on {
            return;
        }
        video = next + 40;
    }
    panic!("all 64 connections came to shard {began_on}");
}

#[test]
fn who_comes_back_after_the_grace_goes_on_for_players_that_stayed_and_else_begins_anew() {
    for stays in [true, false] {
        let mut scene = Scene::with(&["--unpublish-grace-s", "1"]);
        assert_eq!((scene.video(90_000), scene.audio(90_010)), (90_000, 90_010));
        scene.publisher = Peer::dial(scene.server.rtmp);
        let ended = scene.player.find("the end", |message| {
            let code = (message.type_id == COMMAND).then(|| message.code()).flatten();
            code.filter(|code| code == "NetStream.Play.UnpublishNotify")
        });
        assert!(ended.is_some());
        if !stays {
            scene.player = Peer::dial(scene.server.rtmp);
            scene.server.wait_metric("shardcast_players", &[], |players| players == 0.0);
            // A shard that followed the stream keeps it for five seconds after its last player.
            std::thread::sleep(common::seconds(6));
            scene.player = Peer::player(scene.server.rtmp, "show");
            scene.server.wait_metric("shardcast_players", &[], |players| players == 1.0);
        }
        (scene.publisher, scene.stream) = Peer::publisher(scene.server.rtmp, "show");
        let video = scene.video(5_000);
        assert!(if stays { (90_050..100_000).contains(&video) } else { video == 5_000 }, "{video}, stays: {stays}");
        assert_eq!(scene.audio(5_007), video + 7);
    }
}

#[test]
fn tracks_of_a_kind_have_places_of_their_own() {
    let mut scene = Scene::new();
    let mut track = |id: u8, at| scene.seen(VIDEO, at, &[b"\x96\x03avc1", &[id][..]].concat());
    assert_eq!((track(0, 9_000), track(1, 8_400)), (9_000, 8_400));
    assert_eq!((track(0, 9_040), track(1, 8_440)), (9_040, 8_440));
    assert_eq!((track(1, 8_410), track(0, 9_080)), (8_440, 9_080), "held at its own track's last");
}

#[test]
fn each_kind_has_a_place_of_its_own() {
    let mut scene = Scene::new();
    assert_eq!((scene.video(9_000), scene.audio(8_400)), (9_000, 8_400));
    assert_eq!((scene.video(9_040), scene.audio(8_423)), (9_040, 8_423));
}

#[test]
fn a_joiner_is_never_sent_a_step_back() {
    let mut scene = Scene::new();
    for (type_id, at, tag) in [
        (VIDEO, 0, &b"\x17\x01\0\0\0"[..]),
        (VIDEO, 0, b"\x17\0\0\0\0avcC"),
        (AUDIO, 0, b"\xAF\0asc"),
        (VIDEO, 9_000, b"\x17\x01\0\0\0"),
        (AUDIO, 8_990, b"\xAF\x01"),
        (AUDIO, 9_013, b"\xAF\x01"),
        (VIDEO, 9_040, b"\x27\x01\0\0\0"),
    ] {
        scene.seen(type_id, at, tag);
    }
    let mut joiner = Peer::player(scene.server.rtmp, "show");
    let mut last = [0; 2];
    for _ in 0..6 {
        let message = joiner.next_media().expect("the joiner is served");
        let last = &mut last[usize::from(message.type_id == VIDEO)];
        assert!(message.timestamp >= *last && message.timestamp >= 8_990, "{} after {last}", message.timestamp);
        *last = message.timestamp;
    }
}
