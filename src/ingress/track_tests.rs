//! What players of some tracks get of a stream with several.

use std::time::Duration;

use super::{Broadcast, Taken, ViewKey, broadcast::BroadcastConfig};
use crate::{
    limits::{VIEW_LINGER, VIEWS_MAX},
    media::Tracks,
    rtmp::message::Kind,
    stream::{
        segment::LogGauge,
        testing::{all_bytes, parse},
    },
};

const CHUNK: usize = 128;
const META: &[u8] = b"\x02\0\x0AonMetaData\x08\0\0\0\x01\0\x05width\0\0\0\0\0\0\0\0\0\0\0\x09";
const AVC: &[u8] = b"\x17\0\0\0\0avcC";
const KEY: &[u8] = b"\x17\x01\0\0\0key";
const INTER: &[u8] = b"\x27\x01\0\0\0inter";
const HEVC_1: &[u8] = b"\x96\x00hvc1\x01hvcC";
const KEY_1: &[u8] = b"\x96\x03hvc1\x01key of 1";
const INTER_1: &[u8] = b"\xA6\x03hvc1\x01inter of 1";
const KEY_BOTH: &[u8] = b"\x96\x13avc1\x00\0\0\x01k\x01\0\0\x01K\x02\0\0\x01q";
const END_1: &[u8] = b"\x96\x02hvc1\x01";
const AAC: &[u8] = b"\xAF\x00asc";
const SOUND: &[u8] = b"\xAF\x01sound";
const OPUS_2: &[u8] = b"\x95\x00Opus\x02Head";
const SOUND_2: &[u8] = b"\x95\x01Opus\x02sound";
const RESERVED: &[u8] = b"\x96\x33?";

fn tracks(text: &str) -> Tracks {
    text.parse::<crate::media::TrackChoice>().expect("a choice").resolve(true)
}

fn key(text: &str) -> ViewKey {
    ViewKey::new(1, tracks(text))
}

struct Studio(Broadcast);

impl Studio {
    fn new() -> Self {
        let config =
            BroadcastConfig { segment_bytes: 4_096, ..BroadcastConfig::new(CHUNK, 1 << 20, LogGauge::default()) };
        Self(Broadcast::new(config, None))
    }

    /// A stream of two video tracks and two of audio.
    fn with_tracks() -> Self {
        let mut studio = Self::new();
        studio.say(Kind::Data, 0, META);
        for (kind, payload) in [(Kind::Video, AVC), (Kind::Audio, AAC), (Kind::Video, HEVC_1), (Kind::Audio, OPUS_2)] {
            studio.say(kind, 0, payload);
        }
        studio.gop(40);
        studio
    }

    fn gop(&mut self, at: u32) {
        for (kind, payload) in [(Kind::Video, KEY), (Kind::Video, KEY_1), (Kind::Audio, SOUND), (Kind::Audio, SOUND_2)]
        {
            self.say(kind, at, payload);
        }
        self.say(Kind::Video, at + 40, INTER);
        self.say(Kind::Video, at + 40, INTER_1);
    }

    fn say(&mut self, kind: Kind, at_ms: u32, payload: &[u8]) -> Taken {
        let now = Duration::from_millis(at_ms.into());
        let taken = self.0.publish(kind, at_ms, payload, now, at_ms).expect("well-formed");
        self.0.views_mut().iter_mut().for_each(|view| view.log_mut().window_mut().release());
        taken
    }

    /// Payloads of a player that joins now: the headers, then the log.
    fn joined(&mut self, key: ViewKey) -> Vec<Vec<u8>> {
        let window = self.0.view_mut(key).expect("a view").log_mut().window_mut();
        let join = window.join().expect("a join point").clone();
        let mut bytes = window.prologue(join.offset, join.timestamp, &join.headers, |kind| key.wants(kind)).to_vec();
        bytes.extend(all_bytes(window, join.offset));
        parse(&bytes, CHUNK).into_iter().map(|(_, payload)| payload).collect()
    }

    /// All that a view's log holds.
    fn log(&mut self, key: ViewKey) -> Vec<Vec<u8>> {
        let window = self.0.view_mut(key).expect("a view").log_mut().window_mut();
        let start = window.start();
        parse(&all_bytes(window, start), CHUNK).into_iter().map(|(_, payload)| payload).collect()
    }
}

#[test]
fn the_common_form_holds_track_0_unwrapped_and_everything_holds_everything() {
    let mut studio = Studio::with_tracks();
    assert_eq!(studio.joined(ViewKey::COMMON), [META, AVC, AAC, KEY, SOUND, INTER]);
    let all = [META, AVC, AAC, HEVC_1, OPUS_2, KEY, KEY_1, SOUND, SOUND_2, INTER, INTER_1];
    assert_eq!(studio.joined(ViewKey::EVERYTHING), all);
    studio.say(Kind::Video, 120, KEY_BOTH);
    studio.say(Kind::Video, 120, RESERVED);
    assert_eq!(studio.joined(ViewKey::COMMON), [META, AVC, AAC, b"\x93avc1k"]);
    assert_eq!(studio.joined(ViewKey::EVERYTHING), [META, AVC, AAC, HEVC_1, OPUS_2, KEY_BOTH, RESERVED]);
}

#[test]
fn one_track_comes_unwrapped_and_is_joined_at_its_own_keyframes() {
    let mut studio = Studio::with_tracks();
    let (second, other_sound) = (key("v1"), key("v1,a2"));
    assert!(studio.0.add_view(second) && studio.0.add_view(other_sound));
    let (header, key_1, inter_1) = (&b"\x90hvc1hvcC"[..], &b"\x93hvc1key of 1"[..], &b"\xA3hvc1inter of 1"[..]);
    assert_eq!(studio.joined(second), [META, AAC, header, key_1, SOUND, inter_1]);
    let (head, sound) = (&b"\x90OpusHead"[..], &b"\x91Opussound"[..]);
    assert_eq!(studio.joined(other_sound), [META, header, head, key_1, sound, inter_1]);
    studio.say(Kind::Video, 120, KEY);
    assert_eq!(studio.joined(second).last().map(Vec::as_slice), Some(inter_1), "not a keyframe of that track");
    studio.say(Kind::Video, 120, KEY_1);
    assert_eq!(studio.joined(second), [META, AAC, header, key_1]);
}

#[test]
fn several_tracks_come_in_multitrack_messages_of_these_tracks() {
    let mut studio = Studio::with_tracks();
    let picked = key("v1,v2,a-");
    assert!(studio.0.add_view(picked));
    assert_eq!(studio.joined(picked), [META, HEVC_1, KEY_1, INTER_1]);
    studio.say(Kind::Video, 120, KEY_BOTH);
    let restricted = b"\x96\x13avc1\x01\0\0\x01K\x02\0\0\x01q";
    assert_eq!(studio.joined(picked), [META, HEVC_1, restricted]);
}

#[test]
fn a_single_track_stream_has_one_form_until_somebody_asks_for_another() {
    let mut studio = Studio::new();
    studio.say(Kind::Video, 0, AVC);
    studio.say(Kind::Video, 0, KEY);
    assert_eq!(studio.0.views().len(), 1);
    assert!(studio.0.add_view(ViewKey::EVERYTHING));
    assert_eq!(studio.joined(ViewKey::EVERYTHING), studio.joined(ViewKey::COMMON));
    let (at, later) = (Duration::from_secs(9), Duration::from_secs(9) + VIEW_LINGER);
    assert!(studio.0.note_idle(&[ViewKey::EVERYTHING], at).is_empty());
    assert_eq!(studio.0.note_idle(&[ViewKey::EVERYTHING], later), [ViewKey::EVERYTHING]);
    studio.0.drop_view(ViewKey::EVERYTHING);
    assert_eq!(studio.0.views().len(), 1);
    studio.say(Kind::Video, 40, KEY_1);
    assert_eq!(studio.joined(ViewKey::EVERYTHING), [AVC, KEY, KEY_1], "what came before is there, too");
    assert!(studio.0.note_idle(&[ViewKey::EVERYTHING], at).is_empty());
    assert!(studio.0.note_idle(&[ViewKey::EVERYTHING], later).is_empty(), "late players need it");
    studio.0.drop_view(ViewKey::EVERYTHING);
    assert_eq!(studio.0.views().len(), 2);
}

#[test]
fn the_streams_own_forms_do_not_count_against_those_asked_for() {
    let mut studio = Studio::new();
    studio.say(Kind::Video, 0, KEY);
    assert!((1..=VIEWS_MAX as u32).all(|track| studio.0.add_view(key(&format!("v{track}")))));
    assert!(!studio.0.add_view(key("v99")));
    studio.say(Kind::Video, 40, KEY_1);
    assert_eq!(studio.log(ViewKey::EVERYTHING), [KEY, KEY_1]);
    assert_eq!(studio.log(key("v1")), [b"\x93hvc1key of 1"]);
    studio.0.drop_view(key("v1"));
    assert!(studio.0.add_view(key("v99")));
}

#[test]
fn a_header_that_changes_on_one_track_is_news_on_that_track_only() {
    let mut studio = Studio::with_tracks();
    let both = b"\x96\x10avc1\x00\0\0\x04avcC\x01\0\0\x03new";
    studio.say(Kind::Video, 100, both);
    studio.say(Kind::Video, 110, b"\x96\x10avc1\x00\0\0\x04avcC\x01\0\0\x03NEW");
    let common = studio.log(ViewKey::COMMON);
    let headers: Vec<_> = common.iter().filter(|payload| payload.ends_with(b"avcC")).collect();
    assert_eq!(headers, [AVC, b"\x90avc1avcC"], "once in each form, legacy and FourCC");
    assert!(studio.log(ViewKey::EVERYTHING).iter().any(|payload| payload.ends_with(b"NEW")));
    assert_eq!(studio.say(Kind::Video, 120, b"\x96\x10avc1\x00\0\0\x04avcC\x01\0\0\x03NEW"), Taken::Repeated);
}

#[test]
fn no_joiner_sees_stale_headers() {
    let mut studio = Studio::with_tracks();
    let (hdr, reset) = (b"\x94avc1\x02\0\x09colorInfo\x03hdr", b"\x94avc1\x02\0\x09colorInfo\x06");
    studio.say(Kind::Video, 100, hdr);
    studio.say(Kind::Video, 110, END_1);
    studio.gop(120);
    let joined = studio.joined(ViewKey::EVERYTHING);
    assert!(!joined.iter().any(|payload| payload == HEVC_1), "that sequence has ended: {joined:x?}");
    assert!(joined.iter().any(|payload| payload == hdr) && joined.iter().any(|payload| payload == AVC));
    studio.say(Kind::Video, 200, reset);
    assert_eq!(studio.say(Kind::Video, 200, HEVC_1), Taken::Appended { rolled: false }, "in force anew");
    studio.gop(240);
    let joined = studio.joined(ViewKey::EVERYTHING);
    assert!(joined.iter().any(|payload| payload == HEVC_1) && joined.iter().any(|payload| payload == reset));
    assert!(!joined.iter().any(|payload| payload == hdr));
}

#[test]
fn metadata_is_for_players_of_all_tracks() {
    let mut studio = Studio::with_tracks();
    assert!(studio.0.add_view(key("v1,a-")));
    studio.say(Kind::Data, 100, b"\x02\0\x0f@clearDataFrame\x02\0\x0AonMetaData");
    studio.gop(120);
    assert!(!studio.joined(key("v1,a-")).contains(&META.to_vec()));
    assert_eq!(studio.say(Kind::Data, 200, META), Taken::Appended { rolled: false });
    studio.gop(240);
    for key in [ViewKey::COMMON, ViewKey::EVERYTHING, key("v1,a-")] {
        assert_eq!(studio.joined(key)[0], META);
    }
}
