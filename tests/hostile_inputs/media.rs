//! Malformed and unusual tags.

use crate::{
    common::rtmp::{AUDIO, Peer, VIDEO, message},
    scene::{Pair, Scene, keyframe, video},
};

/// The player gets the video message that is published next.
#[track_caller]
fn arrives(pair: &mut Pair, payload: &[u8]) {
    let bytes = video(pair.stream, 0, payload).chunks(128);
    pair.arrives(&bytes, payload);
}

const MALFORMED: &str = "shardcast_tags_malformed_total";

#[test]
fn malformed_tags_are_dropped_and_the_publisher_goes_on() {
    let scene = Scene::new();
    let mut pair = scene.pair();
    let tags: [(u8, &[u8]); 9] = [
        (VIDEO, b"\x17"),
        (VIDEO, b"\x17\x01\0\0"),
        (VIDEO, b"\x93hvc"),
        (VIDEO, b"\x97\x05abc"),
        (VIDEO, b"\x97\xFF\x01"),
        (VIDEO, b"\x96\x13hvc1\x09\0\0\x03ab"),
        (VIDEO, b"\x96\x03hvc1"),
        (AUDIO, b"\x91Op"),
        (AUDIO, b"\xAF"),
    ];
    for (type_id, tag) in tags {
        let csid = if type_id == AUDIO { 4 } else { 6 };
        pair.publisher.send(&message(csid, type_id, pair.stream, 0, tag));
    }
    // The player's next message is the first good one.
    arrives(&mut pair, &keyframe(100, 8));
    scene.server.wait_metric(MALFORMED, &[], |count| count == tags.len() as f64);
    scene.assert_unharmed();
}

#[test]
fn unknown_codecs_and_silence_are_forwarded() {
    let scene = Scene::new();
    let mut pair = scene.pair();
    arrives(&mut pair, &keyframe(100, 9));
    for (csid, type_id, payload) in [
        (4, AUDIO, &b""[..]),
        (6, VIDEO, b"\xA1zzzz-a codec to come"),
        (4, AUDIO, b"\x91zzzzsound"),
        (4, AUDIO, b"\x31x"),
    ] {
        let bytes = message(csid, type_id, pair.stream, 20, payload).chunks(128);
        pair.arrives(&bytes, payload);
    }
    scene.assert_unharmed();
}

#[test]
fn multitrack_and_mod_ex_that_overrun_are_dropped() {
    let scene = Scene::new();
    let mut pair = scene.pair();
    let chain = [&[0x97][..], &b"\x00x\x77".repeat(16), b"\x00x\x01hvc1key"].concat();
    let too_many = [&b"\x96\x13hvc1"[..], &b"\x01\0\0\0".repeat(257)].concat();
    let tags: [(u8, &[u8]); 10] = [
        (VIDEO, b"\x97\x00"),
        (VIDEO, b"\x97\x02abc"),
        (VIDEO, b"\x97\xFF\xFF\xFFabc\x01hvc1"),
        (VIDEO, &chain),
        (VIDEO, b"\x96\x13hvc1\x00\xFF\xFF\xFFab"),
        (VIDEO, b"\x96\x13hvc1\x00\0\0\x01a\x01\0\0\x02b"),
        (VIDEO, b"\x96\x23hvc1\x00\0\0\x01aav0"),
        (VIDEO, &too_many),
        (VIDEO, b"\x96\x06hvc1\x00a"),
        (AUDIO, b"\x95\x11Opus\x00\0\x01\0a"),
    ];
    for (type_id, tag) in tags {
        pair.publisher.send(&message(6, type_id, pair.stream, 0, tag));
    }
    arrives(&mut pair, &keyframe(100, 8));
    scene.server.wait_metric(MALFORMED, &[], |count| count == tags.len() as f64);
    scene.assert_unharmed();
}

#[test]
fn malformed_parameter_sets_pass_as_they_came() {
    let scene = Scene::new();
    let mut pair = scene.pair();
    let headers: [&[u8]; 6] = [
        b"\x17\0\0\0\0",
        b"\x17\0\0\0\0\x01\x64\0\x1F\xFF\xE1\xFF\xFF\x67",
        b"\x17\0\0\0\0\0\0\0\0\0\0\0\0",
        b"\x90hvc1",
        b"\x90hvc1\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
        b"\x90av01\x81\0",
    ];
    arrives(&mut pair, &keyframe(100, 7));
    for header in headers {
        arrives(&mut pair, header);
    }
    arrives(&mut pair, &keyframe(100, 8));
    let first = Peer::player(scene.server.rtmp, "subject").next_media().expect("it is served");
    assert!(headers.contains(&&first.payload[..]), "they are kept as any other");
    scene.assert_unharmed();
}

#[test]
fn an_hour_without_a_keyframe_costs_no_more_memory_than_a_gop_may() {
    let scene = Scene::with(&["--gop-bytes-max", "4194304"]);
    let mut pair = scene.pair();
    pair.publisher.use_chunk_size(60_000);
    let first = keyframe(200_000, 0);
    let bytes = video(pair.stream, 0, first.clone()).chunks(60_000);
    pair.arrives(&bytes, &first);
    for minute in 1..=60 {
        for part in 0..5 {
            let mut payload = keyframe(200_000, minute as u8);
            (payload[0], payload[5]) = (0x27, part as u8);
            let bytes = video(pair.stream, minute * 60_000 + part * 12_000, payload.clone()).chunks(60_000);
            pair.arrives(&bytes, &payload);
        }
    }
    scene.assert_memory_bounded();
    let mut joiner = Peer::player(scene.server.rtmp, "subject");
    let payload = keyframe(100, 8);
    let bytes = video(pair.stream, 3_700_000, payload.clone()).chunks(60_000);
    pair.arrives(&bytes, &payload);
    assert_eq!(joiner.next_media().expect("it is served").payload, payload);
    scene.assert_unharmed();
}

/// An AVC sequence header that no other equals.
fn header(number: u32, bytes: usize) -> Vec<u8> {
    [&b"\x17\0\0\0\0"[..], &number.to_be_bytes(), &vec![1; bytes]].concat()
}

#[test]
fn a_spam_of_sequence_headers_is_passed_once_each_and_bounded() {
    let scene = Scene::with(&["--gop-bytes-max", "4194304"]);
    let mut pair = scene.pair();
    arrives(&mut pair, &keyframe(100, 8));
    let first = header(0, 100);
    let bytes = video(pair.stream, 0, first.clone()).chunks(128);
    pair.arrives(&bytes, &first);
    pair.publisher.write(&bytes.repeat(20_000));
    pair.publisher.use_chunk_size(60_000);
    // The next message is not one of the repetitions.
    for number in 1..=1_000 {
        let other = header(number, 50_000);
        let bytes = video(pair.stream, number, other.clone()).chunks(60_000);
        pair.arrives(&bytes, &other);
    }
    // Of tracks that nobody here plays.
    for track in 1..=255 {
        let tag = [&b"\x96\x00hvc1"[..], &[track], &[track; 50_000]].concat();
        pair.publisher.write(&video(pair.stream, 1_000, tag).chunks(60_000));
    }
    pair.assert_flows();
    scene.assert_memory_bounded();
    scene.assert_unharmed();
}
