//! What real encoders and players do beside the specifications. Each became a bug of some server.

use crate::{
    common::{
        amf,
        rtmp::{ACKNOWLEDGEMENT, Peer, VIDEO, message},
        seconds,
        server::{Driver, Server},
    },
    scene::{Scene, connected_with, server, up_to},
};

const KEYFRAME: &[u8] = b"\x17\x01\0\0\0key";

/// Players acknowledge for hours; a server that does not read it stops them in the end (librtmp, Flash).
#[test]
fn what_a_player_sends_is_drained() {
    let mut scene = Scene::new();
    let acknowledgements = message(2, ACKNOWLEDGEMENT, 0, 0, [0, 1, 0, 0]).chunks(128).repeat(64 * 1024);
    for round in 1..=16 {
        let taken = scene.player.flood(&acknowledgements, seconds(10));
        assert_eq!(taken, acknowledgements.len(), "in round {round}");
    }
    scene.passes(VIDEO, 40, KEYFRAME);
}

/// Encoders cut their URL at different slashes, and services put tokens anywhere.
#[test]
fn slashes_and_queries_may_stand_anywhere() {
    let server = Server::start(Driver::Auto, 1, &["--unpublish-grace-s", "0"]);
    let cuts = [
        ("a/b", "rtmp://localhost/a/b", "show"),
        ("a", "rtmp://localhost/a", "b/show"),
        ("a/b/", "rtmp://localhost/a/b/", "show"),
        ("a/b?token=1", "rtmp://localhost/a/b?token=1", "show?token=2"),
        ("a", "rtmp://localhost/a", "b/show?token=/x/y"),
    ];
    let at =
        |app: &str, tc_url: &str| connected_with(&server, &[("app", amf::string(app)), ("tcUrl", amf::string(tc_url))]);
    for (app, tc_url, name) in cuts {
        let mut player = at("a/b", "rtmp://localhost/a/b");
        let on = player.create_stream();
        player.ask_play(on, "show");
        let mut publisher = at(app, tc_url);
        let stream = publisher.create_stream();
        assert_eq!(publisher.publish(stream, name).as_deref(), Some("NetStream.Publish.Start"), "{app} {name}");
        publisher.send(&message(6, VIDEO, stream, 0, KEYFRAME));
        assert_eq!(player.next_of_stream().payload, KEYFRAME, "{app} {name}");
        drop(publisher);
        up_to(&mut player, "NetStream.Play.UnpublishNotify");
    }
}

/// Encoders that send their headers with every keyframe, and those that change resolution in the midst of a stream.
#[test]
fn repeated_headers_are_left_out_and_changed_ones_pass() {
    let mut scene = Scene::new();
    let (first, second) = (b"\x17\0\0\0\0avcC 1", b"\x17\0\0\0\0avcC 2");
    scene.passes(VIDEO, 1_000, first);
    for at in 1..5 {
        scene.send(VIDEO, 1_000 * at, first);
        scene.passes(VIDEO, 1_000 * at, KEYFRAME);
    }
    scene.passes(VIDEO, 6_000, second);
    scene.passes(VIDEO, 6_000, KEYFRAME);
    let mut joiner = scene.joiner();
    assert_eq!(joiner.next_of_stream().payload, second);
    assert_eq!(joiner.next_of_stream().payload, KEYFRAME);
}

/// SRS rewrites timestamps there, and players see a leap.
#[test]
fn timestamps_pass_2_to_the_31() {
    let server = server();
    let mut player = Peer::player(server.rtmp, "late");
    let (mut publisher, stream) = Peer::publisher(server.rtmp, "late");
    for timestamp in [0x7FFF_FFD8, 0x8000_0000, 0x8000_0028] {
        publisher.send(&message(6, VIDEO, stream, timestamp, KEYFRAME));
        assert_eq!(player.next_of_stream().timestamp, timestamp);
    }
}

/// Servers that merge messages lose the last ones when the encoder ends.
#[test]
fn the_last_messages_before_a_fin_reach_the_players() {
    let server = Server::start(Driver::Auto, 2, &["--unpublish-grace-s", "0"]);
    let mut players: Vec<_> = (0..4).map(|_| Peer::player(server.rtmp, "show")).collect();
    server.wait_metric("shardcast_players", &[], |players| players == 4.0);
    let (mut publisher, stream) = Peer::publisher(server.rtmp, "show");
    let frame = |number: u32| [KEYFRAME, &number.to_be_bytes()].concat();
    let bytes: Vec<u8> = (0..300).flat_map(|n| message(6, VIDEO, stream, n * 40, frame(n)).chunks(128)).collect();
    publisher.write(&bytes);
    drop(publisher);
    for player in &mut players {
        let said = up_to(player, "NetStream.Play.UnpublishNotify");
        let media: Vec<_> = said.into_iter().filter(|message| message.type_id == VIDEO).collect();
        assert_eq!(media.last().map(|message| &message.payload), Some(&frame(299)));
        assert_eq!(media.len(), 300);
    }
}
