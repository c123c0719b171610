//! Malformed and unusual tags.

use crate::{
    common::rtmp::{AUDIO, VIDEO, message},
    scene::{Scene, keyframe, video},
};

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
    let payload = keyframe(100, 8);
    let bytes = video(pair.stream, 0, payload.clone()).chunks(128);
    pair.arrives(&bytes, &payload);
    scene.server.wait_metric(MALFORMED, &[], |count| count == tags.len() as f64);
    scene.assert_unharmed();
}

#[test]
fn unknown_codecs_and_silence_are_forwarded() {
    let scene = Scene::new();
    let mut pair = scene.pair();
    let first = keyframe(100, 9);
    let bytes = video(pair.stream, 0, first.clone()).chunks(128);
    pair.arrives(&bytes, &first);
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
