//! Data messages from a publisher to its players: metadata is kept for those who come later, all else passes by in order.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

mod common;

use common::{
    amf,
    rtmp::{DATA, Peer, VIDEO, message},
    server::{Driver, Server},
};

const FIRST: &[u8] = b"\x17\x01\0\0\0first";
const KEYFRAME: &[u8] = b"\x17\x01\0\0\0key";

fn metadata(width: f64) -> Vec<u8> {
    [amf::string("onMetaData"), amf::object(&[("width", amf::number(width))])].concat()
}

fn set(body: &[u8]) -> Vec<u8> {
    [&amf::string("@setDataFrame")[..], body].concat()
}

struct Scene {
    server: Server,
    publisher: Peer,
    stream: u32,
    player: Peer,
}

impl Scene {
    /// The player has joined: from here it is sent everything.
    fn new() -> Self {
        let server = Server::start(Driver::Auto, 2, &[]);
        let player = Peer::player(server.rtmp, "show");
        server.wait_metric("shardcast_players", &[], |players| players == 1.0);
        let (mut publisher, stream) = Peer::publisher(server.rtmp, "show");
        publisher.use_chunk_size(60_000);
        let mut scene = Self { server, publisher, stream, player };
        scene.send(VIDEO, 0, FIRST);
        assert_eq!(scene.player.next_of_stream().payload, FIRST);
        scene
    }

    fn send(&mut self, type_id: u8, timestamp: u32, payload: &[u8]) {
        self.publisher.send(&message(6, type_id, self.stream, timestamp, payload));
    }
}

#[track_caller]
fn joiner(scene: &Scene) -> Peer {
    Peer::player(scene.server.rtmp, "show")
}

#[test]
fn metadata_is_stripped_of_its_envelope_and_kept_for_those_who_join() {
    let mut scene = Scene::new();
    scene.send(DATA, 0, &set(&metadata(640.0)));
    scene.send(VIDEO, 5_000, KEYFRAME);
    assert_eq!(scene.player.next_of_stream().payload, metadata(640.0));
    assert_eq!(scene.player.next_of_stream().payload, KEYFRAME);
    let mut joiner = joiner(&scene);
    let first = joiner.next_of_stream();
    assert_eq!((first.timestamp, first.payload), (0, metadata(640.0)), "FFmpeg probes for seconds otherwise");
    assert_eq!(joiner.next_of_stream().payload, KEYFRAME);
}

#[test]
fn an_update_reaches_players_in_step_and_later_ones_get_the_newest() {
    let mut scene = Scene::new();
    for body in [set(&metadata(640.0)), metadata(640.0), metadata(1_280.0)] {
        scene.send(DATA, 0, &body);
        scene.send(VIDEO, 1_000, KEYFRAME);
    }
    let seen: Vec<_> = (0..5).map(|_| scene.player.next_of_stream()).map(|message| message.payload).collect();
    let expected = [&metadata(640.0)[..], KEYFRAME, KEYFRAME, &metadata(1_280.0), KEYFRAME];
    assert_eq!(seen, expected, "what is repeated unchanged they have");
    assert_eq!(joiner(&scene).next_of_stream().payload, metadata(1_280.0));
}

#[test]
fn metadata_may_come_after_media_began() {
    let mut scene = Scene::new();
    scene.send(VIDEO, 9_000, KEYFRAME);
    scene.send(DATA, 0, &set(&metadata(640.0)));
    scene.send(VIDEO, 9_040, b"\x27\x01\0\0\0p");
    assert_eq!(scene.player.next_of_stream().payload, KEYFRAME);
    let late = scene.player.next_of_stream();
    assert_eq!((late.timestamp, late.payload), (9_000, metadata(640.0)));
    assert_eq!(scene.player.next_of_stream().timestamp, 9_040);
    // Who joins at the keyframe before it gets it where it was sent; from the next keyframe on it goes first.
    scene.send(VIDEO, 10_000, KEYFRAME);
    assert_eq!(scene.player.next_of_stream().timestamp, 10_000);
    let first = joiner(&scene).next_of_stream();
    assert_eq!((first.timestamp, first.payload), (0, metadata(640.0)));
}

#[test]
fn clearing_the_data_frame_ends_it_for_those_who_join() {
    let mut scene = Scene::new();
    scene.send(DATA, 0, &set(&metadata(640.0)));
    scene.send(DATA, 0, &[amf::string("@clearDataFrame"), amf::string("onMetaData")].concat());
    scene.send(VIDEO, 1_000, KEYFRAME);
    assert_eq!(scene.player.next_of_stream().payload, metadata(640.0));
    assert_eq!(scene.player.next_of_stream().payload, KEYFRAME);
    assert_eq!(joiner(&scene).next_of_stream().payload, KEYFRAME);
}

#[test]
fn everything_else_passes_in_order_and_is_kept_for_nobody() {
    let mut scene = Scene::new();
    let named = |name: &str| [amf::string(name), amf::object(&[("text", amf::string("x"))])].concat();
    let others = [
        named("onTextData"),
        named("onCaptionInfo"),
        named("onCuePoint"),
        named("onFI"),
        set(&named("onCuePoint")),
        b"\x02\0\x04KLV!\x0C\0\0\0\x03\x06\x0E\x2B".to_vec(),
        b"\xFF\0\x13 no AMF at all".to_vec(),
    ];
    for (at, other) in (0..).zip(&others) {
        scene.send(VIDEO, 1_000 + at * 40, b"\x27\x01\0\0\0p");
        scene.send(DATA, 1_000 + at * 40, other);
    }
    scene.send(VIDEO, 2_000, KEYFRAME);
    for (at, other) in (0..).zip(&others) {
        assert_eq!(scene.player.next_of_stream().type_id, VIDEO);
        let seen = scene.player.next_of_stream();
        let stripped = other.strip_prefix(&amf::string("@setDataFrame")[..]).unwrap_or(other);
        assert_eq!((seen.type_id, seen.timestamp, &seen.payload[..]), (DATA, 1_000 + at * 40, stripped));
    }
    assert_eq!(scene.player.next_of_stream().payload, KEYFRAME);
    assert_eq!(joiner(&scene).next_of_stream().payload, KEYFRAME, "none of it is kept");
}

#[test]
fn huge_metadata_passes_and_is_kept_for_nobody() {
    let mut scene = Scene::new();
    let huge = [&metadata(640.0)[..], &[1; 3_000_000]].concat();
    scene.send(VIDEO, 1_000, b"\x17\0\0\0\0avcC");
    scene.send(DATA, 0, &metadata(320.0));
    scene.send(DATA, 0, &huge);
    scene.send(VIDEO, 1_000, KEYFRAME);
    assert_eq!(scene.player.next_of_stream().payload, b"\x17\0\0\0\0avcC");
    assert_eq!(scene.player.next_of_stream().payload, metadata(320.0));
    assert_eq!(scene.player.next_of_stream().payload.len(), huge.len());
    assert_eq!(scene.player.next_of_stream().payload, KEYFRAME);
    let mut joiner = joiner(&scene);
    assert_eq!(joiner.next_of_stream().payload, b"\x17\0\0\0\0avcC", "it drives out no sequence header");
    assert_eq!(joiner.next_of_stream().payload, KEYFRAME);
}
