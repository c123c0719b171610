//! The chunk layer and protocol control.

use crate::{
    common::{
        amf,
        rtmp::{
            ABORT, ACKNOWLEDGEMENT, COMMAND, Message, Peer, SET_CHUNK_SIZE, USER_CONTROL, VIDEO, WINDOW_ACK_SIZE,
            basic_header, command, full_header, message, set_chunk_size,
        },
    },
    scene::{SUCCESS, Scene, connect, server, up_to, word},
};

const SET_PEER_BANDWIDTH: u8 = 6;

/// A keyframe of so many bytes.
fn keyframe(bytes: usize, fill: u8) -> Vec<u8> {
    let mut payload = vec![fill; bytes];
    payload[..5].copy_from_slice(&[0x17, 1, 0, 0, 0]);
    payload
}

/// RTMP 1.0, 5.3.1.1.
#[test]
fn basic_headers_have_one_two_or_three_bytes() {
    let server = server();
    let mut peer = Peer::connected(server.rtmp);
    for (transaction, csid) in [(7.0, 3), (8.0, 63), (9.0, 64), (10.0, 319), (11.0, 320), (12.0, 65_599)] {
        peer.send(&message(csid, COMMAND, 0, 0, command("_checkbw", transaction, &[amf::null()])));
        assert!(peer.answer(transaction).is_some(), "csid {csid}");
    }
}

/// RTMP 1.0, 5.3.1.2.1.
#[test]
fn message_stream_ids_are_little_endian() {
    let server = server();
    let mut player = Peer::connected(server.rtmp);
    let streams = [player.create_stream(), player.create_stream()];
    player.ask_play(streams[1], "show");
    let mut publisher = Peer::connected(server.rtmp);
    let stream = [publisher.create_stream(), publisher.create_stream()][1];
    assert_eq!((streams[1], stream), (2, 2));
    assert_eq!(publisher.publish(stream, "show").as_deref(), Some("NetStream.Publish.Start"));
    let payload = keyframe(20, 1);
    publisher.write(&[&[6, 0, 0, 0, 0, 0, 20, VIDEO, 2, 0, 0, 0], &payload[..]].concat());
    let got = player.next_media().expect("the player is served");
    assert_eq!((got.stream, got.payload), (2, payload));
}

/// RTMP 1.0, 5.3.1.2.2 to 5.3.1.2.4: behind a fmt 0 the delta that fmt 3 repeats is the timestamp itself.
#[test]
fn fmt_1_2_and_3_count_from_the_message_before() {
    let mut scene = Scene::new();
    let payload = |fill| keyframe(20, fill);
    let bytes = [
        [full_header(6, 1_000, 20, VIDEO, scene.stream), payload(1)].concat(),
        [basic_header(1, 6), vec![0, 0, 40, 0, 0, 20, VIDEO], payload(2)].concat(),
        [basic_header(2, 6), vec![0, 0, 20], payload(3)].concat(),
        [basic_header(3, 6), payload(4)].concat(),
        [full_header(6, 2_000, 20, VIDEO, scene.stream), payload(5)].concat(),
        [basic_header(3, 6), payload(6)].concat(),
    ];
    scene.publisher.write(&bytes.concat());
    for (fill, timestamp) in (1..).zip([1_000, 1_040, 1_060, 1_080, 2_000, 4_000]) {
        let got = scene.player.next_of_stream();
        assert_eq!((got.timestamp, got.payload), (timestamp, payload(fill)));
    }
}

/// RTMP 1.0, 5.3.1.3. The peer of these tests takes four bytes off each continuation, as the specification wants.
#[test]
fn extended_timestamps_begin_at_0xffffff_and_stand_on_every_chunk() {
    let mut scene = Scene::new();
    for (fill, timestamp) in (1..).zip([0xFF_FFFE, 0xFF_FFFF, 0x100_0000, 0x100_0028]) {
        let got = scene.passes(VIDEO, timestamp, &keyframe(130_000, fill));
        assert_eq!(got.timestamp, timestamp);
    }
}

/// RTMP 1.0, 5.3.1.3.
#[test]
fn a_delta_may_be_extended() {
    let mut scene = Scene::new();
    let (first, second) = (keyframe(20, 1), keyframe(20, 2));
    let delta = [&[0xFF; 3][..], &[0, 0, 20, VIDEO], &0x100_0000u32.to_be_bytes()].concat();
    let head = full_header(6, 40, 20, VIDEO, scene.stream);
    scene.publisher.write(&[head, first, basic_header(1, 6), delta, second.clone()].concat());
    scene.player.next_of_stream();
    let got = scene.player.next_of_stream();
    assert_eq!((got.timestamp, got.payload), (0x100_0028, second));
}

/// RTMP 1.0, 5.4.1: each direction has a size of its own. Some clients take no other once play began, so it is announced
/// once, ahead of media.
#[test]
fn set_chunk_size_is_for_the_direction_of_its_sender() {
    let server = server();
    let mut player = Peer::greeted(server.rtmp);
    player.use_chunk_size(200);
    player.connect("live");
    let stream = player.create_stream();
    player.use_chunk_size(4_096);
    player.ask_play(stream, "show");
    let (mut publisher, stream) = Peer::publisher(server.rtmp, "show");
    let large = keyframe(130_000, 1);
    publisher.send(&message(6, VIDEO, stream, 0, large.clone()));
    player.use_chunk_size(50);
    let mut sizes = 0;
    let got = player.find("the keyframe", |message| {
        sizes += u32::from(message.type_id == SET_CHUNK_SIZE);
        (message.type_id == VIDEO).then(|| message.payload.clone())
    });
    assert!(got.as_ref() == Some(&large));
    assert_eq!(sizes, 0, "it was announced in the reply to connect");
    assert!(player.is_served());
}

/// RTMP 1.0, 5.4.2. What follows needs no new header.
#[test]
fn abort_drops_what_was_begun() {
    let mut scene = Scene::new();
    let payload = keyframe(200, 2);
    let begun = [full_header(6, 40, 200, VIDEO, scene.stream), vec![0xEE; 128]].concat();
    let abort = message(2, ABORT, 0, 0, 6u32.to_be_bytes()).chunks(128);
    let next = [&basic_header(3, 6)[..], &payload[..128], &basic_header(3, 6), &payload[128..]].concat();
    scene.publisher.write(&[begun, abort, next].concat());
    assert_eq!(scene.player.next_of_stream().payload, payload);
}

/// ffplay takes no Abort, so a player's message is finished whatever the player asks for meanwhile.
#[test]
fn abort_is_never_sent() {
    let mut scene = Scene::new();
    scene.publisher.use_chunk_size(60_000);
    for (at, on) in (1..).zip([0, 1, 0, 1]) {
        scene.send(VIDEO, at * 40, &keyframe(600_000, at as u8));
        scene.player.send_command(1, "receiveVideo", &[amf::null(), vec![1, on]]);
        scene.player.send_command(1, "pause", &[amf::null(), vec![1, 1 - on]]);
    }
    let mut aborted = false;
    // Once this is answered, all that the player asked for was done.
    let asked = scene.player.send_command(0, "_checkbw", &[amf::null()]);
    let answered = scene.player.find("an answer", |message| {
        aborted |= message.type_id == ABORT;
        (message.values().get(1) == Some(&amf::Value::Number(asked))).then_some(())
    });
    assert!(answered.is_some());
    scene.send(VIDEO, 400, &keyframe(500, 9));
    // Every message up to here is whole: the peer would have lost its way otherwise.
    let last = scene.player.find("the last keyframe", |message| {
        aborted |= message.type_id == ABORT;
        (message.payload.len() == 500).then_some(())
    });
    assert!(last.is_some() && !aborted);
}

/// RTMP 1.0, 5.4.3; that it is done unasked is for encoders that stop without it.
#[test]
fn bytes_are_acknowledged_though_no_window_was_announced() {
    let mut scene = Scene::new();
    scene.publisher.use_chunk_size(60_000);
    let mut last = 0;
    for round in 1..=2u32 {
        for at in 0..3u32 {
            scene.send(VIDEO, (round * 3 + at) * 40, &keyframe(900_000, at as u8));
        }
        let acknowledged = scene.publisher.find("acknowledgement", |message| {
            let value = || message.payload.iter().fold(0, |value, byte| value << 8 | u32::from(*byte));
            (message.type_id == ACKNOWLEDGEMENT).then(value)
        });
        let acknowledged = acknowledged.expect("the publisher is served");
        assert!((last + 2_000_000..=round * 2_750_000).contains(&acknowledged), "{acknowledged} in round {round}");
        last = acknowledged;
    }
}

/// RTMP 1.0, 5.4.5: hard, soft and dynamic.
#[test]
fn a_bandwidth_of_any_limit_type_is_taken() {
    let mut scene = Scene::new();
    for limit in 0..=2 {
        scene.player.send(&message(2, SET_PEER_BANDWIDTH, 0, 0, [0, 0, 1, 0, limit]));
    }
    assert!(scene.player.is_served());
    scene.passes(VIDEO, 40, &keyframe(200_000, 1));
}

/// RTMP 1.0, 7.1.7, and the events that Flash Media Server and librtmp know beside those (26, 27, 31, 32). The request for
/// SWF verification is nothing but its number.
#[test]
fn user_control_events_of_any_kind_are_taken() {
    let server = server();
    let mut peer = Peer::connected(server.rtmp);
    let bodies: [(u16, usize); 12] =
        [(0, 4), (1, 4), (2, 4), (3, 8), (4, 4), (5, 4), (7, 4), (26, 0), (27, 42), (31, 4), (32, 4), (999, 20)];
    for (event, bytes) in bodies {
        let body = [&event.to_be_bytes()[..], &vec![0; bytes]].concat();
        peer.send(&message(2, USER_CONTROL, 0, 0, body));
        assert!(peer.is_served(), "event {event}");
    }
}

/// RTMP 1.0, 5.4 and 7.1.7.
#[test]
fn control_is_sent_on_csid_2_and_stream_0() {
    let mut scene = Scene::new();
    let mut joiner = Peer::greeted(scene.server.rtmp);
    joiner.send(&connect(&[]));
    let mut said = up_to(&mut joiner, SUCCESS);
    joiner.send(&message(2, USER_CONTROL, 0, 0, [0, 6, 0, 0, 0, 1]));
    let stream = joiner.create_stream();
    joiner.ask_play(stream, "show");
    said.extend(up_to(&mut joiner, "NetStream.Play.Start"));
    scene.passes(VIDEO, 40, &keyframe(100, 1));
    let (control, other): (Vec<Message>, Vec<Message>) = said.into_iter().partition(|message| message.type_id <= 6);
    let words: Vec<_> = control.iter().map(word).collect();
    assert!(words.len() >= 4 && words.contains(&USER_CONTROL.to_string()), "{words:?}");
    assert!(words.contains(&WINDOW_ACK_SIZE.to_string()));
    assert!(control.iter().all(|message| (message.csid, message.stream) == (2, 0)), "{control:?}");
    assert!(other.iter().all(|message| message.csid > 2), "{other:?}");
}

/// Encoders that send Set Chunk Size on a csid and message stream of their media (RTMP 1.0, 5.4, has it on 2 and 0).
#[test]
fn control_on_another_csid_is_tolerated() {
    let mut scene = Scene::new();
    let mut size = set_chunk_size(300);
    (size[0], size[8]) = (5, 1);
    scene.publisher.write(&size);
    scene.publisher.chunk_bytes = 300;
    scene.passes(VIDEO, 40, &keyframe(1_000, 1));
}
