//! What a relay does with media it does not understand.

use crate::{
    common::rtmp::{AUDIO, VIDEO},
    scene::{Scene, capable_player},
};

/// Enhanced RTMP v2 reserves packet types, frame types, multitrack types; FLV 10.1 sound formats and codecs.
#[test]
fn what_is_yet_to_be_assigned_passes() {
    let mut scene = Scene::new();
    let video: [&[u8]; 8] = [
        b"\x98zzzz8",
        b"\x9Fzzzzf",
        b"\xA1zzzz1",
        b"\xE1hvc1\0\0\0e",
        b"\xF8",
        b"\x1Fcodec",
        b"\x22h263",
        b"\x37\x09avc",
    ];
    for (at, payload) in (1..).zip(video) {
        scene.passes(VIDEO, at * 40, payload);
    }
    for (at, payload) in
        (1..).zip([&b"\x93zzzz3"[..], b"\x9Fzzzzf", b"\x91zzzzs", b"\xB2speex", b"\xFFdevice", b"\x2Fmp3"])
    {
        scene.passes(AUDIO, at * 20, payload);
    }
    // A multitrack type that is not assigned has tracks that nobody knows: it is for who takes Multitrack.
    let mut capable = capable_player(&scene.server);
    scene.passes(VIDEO, 1_000, b"\x17\x01\0\0\0key");
    capable.find("the keyframe", |message| (message.payload == b"\x17\x01\0\0\0key").then_some(()));
    scene.send(VIDEO, 1_040, b"\xA6\x31zzzz");
    assert_eq!(capable.next_of_stream().payload, b"\xA6\x31zzzz");
}

/// Enhanced RTMP v2, "Multitrack", "MultichannelConfig" and "MPEG2TSSequenceStart": each track has its own.
#[test]
fn a_joiner_gets_the_headers_of_every_track() {
    let mut scene = Scene::new();
    let headers: [(u8, &[u8]); 6] = [
        (VIDEO, b"\x90hvc1hvcC"),
        (VIDEO, b"\x96\x00av01\x01av1C"),
        (VIDEO, b"\x96\x05av01\x02m2ts"),
        (AUDIO, b"\x90OpusHead"),
        (AUDIO, b"\x94Opus\x01\x06\0\0\0\x3F"),
        (AUDIO, b"\x95\x00ac-3\x01head"),
    ];
    let keyframe = b"\x93hvc1key";
    for (type_id, header) in headers {
        scene.send(type_id, 1_000, header);
    }
    scene.send(VIDEO, 1_000, keyframe);
    scene.settle();
    let mut joiner = capable_player(&scene.server);
    let mut seen = Vec::new();
    while seen.last().is_none_or(|(_, payload): &(u8, Vec<u8>)| payload != keyframe) {
        let got = joiner.next_of_stream();
        seen.push((got.type_id, got.payload));
    }
    for (type_id, header) in headers {
        let times = seen.iter().filter(|seen| **seen == (type_id, header.to_vec())).count();
        assert_eq!(times, 1, "{}", String::from_utf8_lossy(header));
    }
    assert_eq!(seen.len(), headers.len() + 1);
}

/// FLV 10.1, E.4.3.1, and Enhanced RTMP v2, "Multitrack": a header has frame type 1 and is no picture, and other tracks have
/// keyframes of their own.
#[test]
fn players_join_at_a_keyframe_of_the_default_track() {
    let mut scene = Scene::new();
    let keyframe = b"\x93hvc1key";
    let after: [&[u8]; 4] = [b"\xA3hvc1p", b"\x96\x03hvc1\x01key of 1", b"\x92hvc1", b"\x90hvc1hvcC"];
    scene.send(VIDEO, 1_000, keyframe);
    for (at, payload) in (1..).zip(after) {
        scene.send(VIDEO, 1_000 + at * 40, payload);
    }
    scene.settle();
    for mut joiner in [scene.joiner(), capable_player(&scene.server)] {
        let first = joiner.find("coded frames", |message| {
            let coded = message.type_id == VIDEO && message.payload[0] & 0x8F != 0x80;
            coded.then(|| message.payload.clone())
        });
        assert_eq!(first.as_deref(), Some(&keyframe[..]));
    }
}

/// Enhanced RTMP v2, "Enhanced Video" and "Enhanced Audio": avc1 and mp4a are AVC and AAC by other names.
#[test]
fn headers_by_four_cc_and_legacy_ones_replace_each_other() {
    let mut scene = Scene::new();
    let pairs: [[(u8, &[u8]); 2]; 2] = [
        [(VIDEO, b"\x17\0\0\0\0avcC"), (AUDIO, b"\xAF\0\x12\x10")],
        [(VIDEO, b"\x90avc1avcC again"), (AUDIO, b"\x90mp4a\x11\x90")],
    ];
    let orders = [[pairs[0], pairs[1]], [pairs[1], pairs[0]]];
    for (round, [old, new]) in (1u32..).zip(orders) {
        for (type_id, header) in [old, new].concat() {
            scene.send(type_id, round * 1_000, header);
        }
        let keyframe = [&b"\x17\x01\0\0\0"[..], &round.to_be_bytes()].concat();
        scene.send(VIDEO, round * 1_000, &keyframe);
        scene.settle();
        let mut joiner = scene.joiner();
        let mut seen = Vec::new();
        while seen.last() != Some(&keyframe) {
            seen.push(joiner.next_of_stream().payload);
        }
        assert_eq!(seen.len(), 3, "{seen:?}");
        assert!(new.iter().all(|(_, header)| seen.iter().any(|seen| seen == header)), "{seen:?}");
    }
}

/// OBS announces neither fourCcList nor capsEx, and FFmpeg only if it is told to.
#[test]
fn a_publisher_that_announces_nothing_may_send_anything() {
    let mut scene = Scene::new();
    for (at, payload) in (1..).zip([&b"\x90av01av1C"[..], b"\x91av01key", b"\xA1av01p"]) {
        scene.passes(VIDEO, at * 40, payload);
    }
    scene.passes(AUDIO, 40, b"\x91Opussound");
}
