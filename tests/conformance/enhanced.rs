//! Enhanced RTMP v2: packets, capabilities, and what is kept of a stream.

use crate::{
    common::{
        amf::{self, Value},
        rtmp::{AUDIO, DATA, Peer, VIDEO},
    },
    scene::{SUCCESS, Scene, capable_player, connect, number, server, up_to},
};

const VIDEO_FOUR_CCS: [&[u8; 4]; 7] = [b"avc1", b"hvc1", b"av01", b"vp08", b"vp09", b"vvc1", b"zzzz"];
const AUDIO_FOUR_CCS: [&[u8; 4]; 7] = [b"mp4a", b"Opus", b"fLaC", b"ac-3", b"ec-3", b".mp3", b"zzzz"];
const CAPS_EX_ALL: f64 = 15.0;

/// A tag with an Enhanced header: its first byte, a FourCC, a body that no other has.
fn tag(first: u8, four_cc: &[u8], body: &[u8]) -> Vec<u8> {
    [&[first][..], four_cc, body].concat()
}

/// Enhanced RTMP v2, "Enhanced Video": frame types 1 to 4, packet types 0 to 5.
#[test]
fn every_video_packet_of_every_four_cc_passes() {
    let mut scene = Scene::new();
    let firsts = [0x90, 0x91, 0xA1, 0xB1, 0xC1, 0x93, 0xA3, 0x94, 0x95, 0x92];
    for (at, four_cc) in (1..).zip(VIDEO_FOUR_CCS) {
        for first in firsts {
            scene.passes(VIDEO, at * 40, &tag(first, four_cc, &[0, 0, 80, 0xEE, first]));
        }
    }
}

/// Enhanced RTMP v2, "Enhanced Audio": packet types 0 to 2 and 4.
#[test]
fn every_audio_packet_of_every_four_cc_passes() {
    let mut scene = Scene::new();
    for (at, four_cc) in (1..).zip(AUDIO_FOUR_CCS) {
        for first in [0x90, 0x94, 0x91, 0x92] {
            scene.passes(AUDIO, at * 20, &tag(first, four_cc, &[1, 6, 0, 0, 0, 0x3F, first]));
        }
    }
}

/// Enhanced RTMP v2, "Enhanced Video" (frame type 5), and FLV 10.1, E.4.3.1.
#[test]
fn command_frames_pass_and_are_no_place_to_join() {
    let mut scene = Scene::new();
    let keyframe = tag(0x93, b"hvc1", b"key");
    scene.passes(VIDEO, 40, &keyframe);
    scene.passes(VIDEO, 80, &[0xD1, 0]);
    scene.passes(VIDEO, 80, &[0x57, 1]);
    let mut joiner = scene.joiner();
    assert_eq!(joiner.next_of_stream().payload, keyframe);
    assert_eq!(joiner.next_of_stream().payload, [0xD1, 0]);
}

/// Enhanced RTMP v2, "ModEx": sizes of one and three bytes, a chain, a nanosecond offset, an unassigned type.
#[test]
fn mod_ex_passes_and_is_looked_through() {
    let mut scene = Scene::new();
    let nanoseconds = b"\x02\x0F\x42\x3F";
    let long = [&[0xFF, 0x01, 0x2B][..], &[0xAB; 300]].concat();
    let header = [&[0x97][..], nanoseconds, b"\x00hvc1hvcC"].concat();
    let keyframe = [&[0x97][..], &long, &[0x77], nanoseconds, b"\x01hvc1\0\0\0key"].concat();
    let sound = [&[0x97][..], nanoseconds, b"\x01Opussound"].concat();
    scene.passes(VIDEO, 1_000, &header);
    scene.passes(VIDEO, 1_000, &keyframe);
    scene.passes(AUDIO, 1_000, &sound);
    let mut joiner = scene.joiner();
    assert_eq!(joiner.next_of_stream().payload, header, "it is kept");
    assert_eq!(joiner.next_of_stream().payload, keyframe, "it is a place to join");
}

fn sized(track: u8, body: &[u8]) -> Vec<u8> {
    [&[track][..], &(body.len() as u32).to_be_bytes()[1..], body].concat()
}

/// Enhanced RTMP v2, "Multitrack": OneTrack, ManyTracks and ManyTracksManyCodecs. Multitrack messages broke legacy players
/// elsewhere, so who does not announce capsEx 2 gets track 0 as it would be alone.
#[test]
fn multitrack_is_whole_for_who_can_take_it_and_track_0_for_others() {
    let mut scene = Scene::new();
    let mut capable = capable_player(&scene.server);
    capable.next_of_stream();
    let cases: [(u8, Vec<u8>, Option<Vec<u8>>); 6] = [
        (VIDEO, [&b"\x96\x03hvc1\x00"[..], b"one"].concat(), Some(tag(0x93, b"hvc1", b"one"))),
        (VIDEO, [&b"\x96\x03hvc1\x01"[..], b"other"].concat(), None),
        (
            VIDEO,
            [&b"\xA6\x11avc1"[..], &sized(0, b"\0\0\0a"), &sized(1, b"\0\0\0bc")].concat(),
            Some(tag(0xA1, b"avc1", b"\0\0\0a")),
        ),
        (
            VIDEO,
            [&b"\x96\x23"[..], b"av01", &sized(3, b"d"), b"vp09", &sized(0, b"e")].concat(),
            Some(tag(0x93, b"vp09", b"e")),
        ),
        (AUDIO, [&b"\x95\x11Opus"[..], &sized(1, b"f"), &sized(0, b"g")].concat(), Some(tag(0x91, b"Opus", b"g"))),
        (
            AUDIO,
            [&b"\x95\x20"[..], b"mp4a", &sized(0, b"h"), b"ac-3", &sized(1, b"i")].concat(),
            Some(tag(0x90, b"mp4a", b"h")),
        ),
    ];
    for (type_id, sent, alone) in cases {
        scene.send(type_id, 1_000, &sent);
        assert_eq!(capable.next_of_stream().payload, sent);
        if let Some(alone) = alone {
            assert_eq!(scene.player.next_of_stream().payload, alone);
        }
    }
}

/// Enhanced RTMP v2, "Enhancing NetConnection connect Command": a relay forwards any codec (4).
#[test]
fn capabilities_are_answered() {
    let server = server();
    let mut peer = Peer::greeted(server.rtmp);
    let codecs = [&[10, 0, 0, 0, 2][..], &amf::string("hvc1"), &amf::string("av01")].concat();
    let offer = [
        ("fourCcList", codecs),
        ("videoFourCcInfoMap", amf::object(&[("hvc1", amf::number(2.0))])),
        ("audioFourCcInfoMap", amf::object(&[("*", amf::number(2.0))])),
        ("capsEx", amf::number(3.0)),
        ("videoFunction", amf::number(15.0)),
    ];
    peer.send(&connect(&offer));
    let values = up_to(&mut peer, SUCCESS).pop().expect("a reply").values();
    let property = |name| values.iter().find_map(|value| value.get(name));
    assert_eq!(number(&values, "capsEx"), Some(CAPS_EX_ALL));
    assert_eq!(property("fourCcList"), Some(&Value::Array(vec![Value::String("*".into())])));
    for map in ["videoFourCcInfoMap", "audioFourCcInfoMap"] {
        assert_eq!(property(map).and_then(|map| map.get("*")), Some(&Value::Number(4.0)), "{map}");
    }
    let functions = number(&values, "videoFunction").expect("videoFunction") as u32;
    assert_eq!(functions & 1, 0, "a live stream is not sought in");
}

/// Enhanced RTMP v2, "Metadata Frame": colorInfo holds until the next, and an empty one resets it.
#[test]
fn color_info_is_kept_and_each_replaces_the_last() {
    let mut scene = Scene::new();
    let color = |bits: f64| {
        let config = amf::object(&[("colorConfig", amf::object(&[("bitDepth", amf::number(bits))]))]);
        tag(0x94, b"hvc1", &[amf::string("colorInfo"), config].concat())
    };
    let reset = tag(0x94, b"hvc1", &[amf::string("colorInfo"), amf::object(&[])].concat());
    let keyframe = |at: u8| tag(0x93, b"hvc1", &[at]);
    for (at, color) in (1u8..).zip([color(10.0), color(12.0), reset]) {
        scene.passes(VIDEO, 1_000 * u32::from(at), &color);
        scene.passes(VIDEO, 1_000 * u32::from(at), &keyframe(at));
        let mut joiner = scene.joiner();
        assert_eq!(joiner.next_of_stream().payload, color);
        assert_eq!(joiner.next_of_stream().payload, keyframe(at));
    }
}

/// Enhanced RTMP v2, "Enhancing onMetaData": codec ids may be FourCCs, and maps describe tracks.
#[test]
fn metadata_with_four_ccs_and_tracks_passes() {
    let mut scene = Scene::new();
    let four_cc = |name: &[u8; 4]| amf::number(u32::from_be_bytes(*name).into());
    let tracks = amf::object(&[("1", amf::object(&[("videocodecid", four_cc(b"av01"))]))]);
    let properties = amf::object(&[
        ("videocodecid", four_cc(b"hvc1")),
        ("audiocodecid", four_cc(b"Opus")),
        ("videoTrackIdInfoMap", tracks.clone()),
        ("audioTrackIdInfoMap", tracks),
    ]);
    let metadata = [amf::string("onMetaData"), properties].concat();
    scene.send(DATA, 0, &[amf::string("@setDataFrame"), metadata.clone()].concat());
    assert_eq!(scene.player.next_of_stream().payload, metadata);
    scene.passes(VIDEO, 40, &tag(0x93, b"hvc1", b"key"));
    for mut joiner in [scene.joiner(), capable_player(&scene.server)] {
        assert_eq!(joiner.next_of_stream().payload, metadata);
    }
}
