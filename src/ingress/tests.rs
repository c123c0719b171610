//! Where players may join, what they get there, and the views of a stream.

use std::time::Duration;

use super::{Broadcast, Taken, ViewKey, broadcast::BroadcastConfig};
use crate::{
    limits::{GOP_AGE_MAX, VIEW_LINGER, VIEWS_MAX},
    media::{SET_DATA_FRAME, Tracks},
    rtmp::message::{Kind, media_csid},
    stream::{
        feed::FeedPosition,
        segment::LogGauge,
        testing::{all_bytes, parse},
        window::Window,
    },
};

const CHUNK: usize = 128;
const AVC: &[u8] = b"\x17\x00\x00\x00\x00avcC";
const KEY: &[u8] = b"\x17\x01\x00\x00\x00key";
const INTER: &[u8] = b"\x27\x01\x00\x00\x00inter";
const END: &[u8] = b"\x17\x02\x00\x00\x00";
const AAC: &[u8] = b"\xAF\x00asc";
const SOUND: &[u8] = b"\xAF\x01sound";
const META: &[u8] = b"\x02\0\x0AonMetaData\x08\0\0\0\0\0\0\x09";
const META_VIDEO: &[u8] = b"\x02\0\x0AonMetaData\x08\0\0\0\x01\0\x05width\0\0\0\0\0\0\0\0\0\0\0\x09";

struct Studio {
    broadcast: Broadcast,
    gauge: LogGauge,
}

impl Studio {
    fn new() -> Self {
        Self::with_gop(1 << 20)
    }

    fn with_gop(gop_bytes_max: usize) -> Self {
        let gauge = LogGauge::default();
        let config =
            BroadcastConfig { segment_bytes: 4_096, ..BroadcastConfig::new(CHUNK, gop_bytes_max, gauge.clone()) };
        Self { broadcast: Broadcast::new(config, None), gauge }
    }

    fn say(&mut self, kind: Kind, at_ms: u32, payload: &[u8]) -> Taken {
        let now = Duration::from_millis(u64::from(at_ms));
        let taken = self.broadcast.publish(kind, at_ms, payload, now, at_ms).expect("well-formed");
        self.broadcast.views_mut().iter_mut().for_each(|view| view.log_mut().window_mut().release());
        taken
    }

    /// As the shard does each tick when nobody is behind.
    fn prune(&mut self) {
        for view in self.broadcast.views_mut() {
            let window = view.log_mut().window_mut();
            let released = window.released();
            window.prune(released);
        }
    }

    fn window(&mut self, key: ViewKey) -> &mut Window {
        self.broadcast.view_mut(key).expect("a view").log_mut().window_mut()
    }

    /// The timestamp of the join point of a view.
    fn join(&mut self, key: ViewKey) -> Option<u32> {
        let window = self.window(key);
        assert!(window.join().is_none_or(|join| join.offset >= window.start()), "the join point is gone");
        window.join().map(|join| join.timestamp)
    }

    fn common_join(&mut self) -> Option<u32> {
        self.join(ViewKey::COMMON)
    }

    /// What a player that joins a view now is sent: prologue and log, each payload behind its kind's csid.
    fn joined(&mut self, key: ViewKey) -> Vec<(u32, Vec<u8>)> {
        let window = self.window(key);
        let join = window.join().expect("a join point").clone();
        let mut bytes = window.prologue(join.offset, join.timestamp, &join.headers, |kind| key.wants(kind)).to_vec();
        bytes.extend(all_bytes(window, join.offset));
        parse(&bytes, CHUNK).into_iter().map(|(header, payload)| (header.csid, payload)).collect()
    }
}

fn video(payload: &[u8]) -> (u32, Vec<u8>) {
    (media_csid(Kind::Video, 1), payload.to_vec())
}

fn audio(payload: &[u8]) -> (u32, Vec<u8>) {
    (media_csid(Kind::Audio, 1), payload.to_vec())
}

fn data(payload: &[u8]) -> (u32, Vec<u8>) {
    (media_csid(Kind::Data, 1), payload.to_vec())
}

#[test]
fn only_keyframes_are_joined_never_headers_metadata_or_the_end_of_a_sequence() {
    let mut studio = Studio::new();
    for payload in [META_VIDEO, b"\x02\0\x01x"] {
        studio.say(Kind::Data, 0, payload);
    }
    for (at, payload) in [AVC, END, INTER, b"", b"\x57\x01"].into_iter().enumerate() {
        studio.say(Kind::Video, at as u32, payload);
        assert_eq!(studio.common_join(), None, "{payload:x?}");
    }
    studio.say(Kind::Video, 50, KEY);
    assert_eq!(studio.common_join(), Some(50));
    for payload in [AVC, END, INTER, b""] {
        studio.say(Kind::Video, 90, payload);
        studio.say(Kind::Audio, 90, SOUND);
        assert_eq!(studio.common_join(), Some(50));
    }
    studio.say(Kind::Video, 130, KEY);
    assert_eq!(studio.common_join(), Some(130));
}

#[test]
fn a_join_brings_the_headers_in_force_there_and_then_the_gop() {
    let mut studio = Studio::new();
    studio.say(Kind::Data, 0, META_VIDEO);
    studio.say(Kind::Video, 0, AVC);
    studio.say(Kind::Audio, 0, AAC);
    studio.say(Kind::Video, 1_500, KEY);
    studio.say(Kind::Audio, 1_510, SOUND);
    let changed = b"\x17\x00\x00\x00\x00avcD";
    studio.say(Kind::Video, 1_520, changed);
    studio.say(Kind::Video, 1_530, INTER);
    let gop = [video(KEY), audio(SOUND), video(changed), video(INTER)];
    let expected = [vec![data(META_VIDEO), video(AVC), audio(AAC)], gop.to_vec()].concat();
    assert_eq!(studio.joined(ViewKey::COMMON), expected);
    studio.say(Kind::Video, 1_540, KEY);
    assert_eq!(studio.joined(ViewKey::COMMON), [data(META_VIDEO), audio(AAC), video(changed), video(KEY)]);
}

#[test]
fn repeated_headers_are_left_out_and_changed_ones_are_not() {
    let mut studio = Studio::new();
    let appended = Taken::Appended { rolled: false };
    for (kind, payload) in [(Kind::Data, META), (Kind::Video, AVC), (Kind::Audio, AAC)] {
        assert_eq!(studio.say(kind, 0, payload), appended);
        assert_eq!(studio.say(kind, 9, payload), Taken::Repeated);
    }
    let set_data_frame = [b"\x02\0\x0D@setDataFrame", META].concat();
    assert_eq!(studio.say(Kind::Data, 0, &set_data_frame), Taken::Repeated, "it is the same to players");
    assert_eq!(studio.say(Kind::Data, 0, META_VIDEO), appended);
    assert_eq!(studio.say(Kind::Data, 0, META), appended, "a change back is a change");
    assert_eq!(studio.say(Kind::Audio, 0, SOUND), appended);
    assert_eq!(studio.say(Kind::Audio, 0, SOUND), appended, "media is never taken for a repeat");
    let messages = parse(&all_bytes(studio.window(ViewKey::COMMON), 0), CHUNK);
    let payloads: Vec<_> = messages.iter().map(|(_, payload)| &payload[..]).collect();
    assert_eq!(payloads, [META, AVC, AAC, META_VIDEO, META, SOUND, SOUND]);
}

#[test]
fn the_first_keyframe_takes_along_the_audio_before_it_however_often_the_log_is_pruned() {
    for prune in [false, true] {
        let mut studio = Studio::new();
        studio.say(Kind::Data, 0, META_VIDEO);
        studio.say(Kind::Video, 0, AVC);
        studio.say(Kind::Audio, 0, AAC);
        for at in [10, 200, 400, 600] {
            studio.say(Kind::Audio, at, SOUND);
            if prune {
                studio.prune();
            }
            assert_eq!(studio.common_join(), None);
        }
        studio.say(Kind::Video, 700, KEY);
        assert_eq!(studio.common_join(), Some(10));
        let media: Vec<_> = studio.joined(ViewKey::COMMON).split_off(3);
        assert_eq!(media, [audio(SOUND), audio(SOUND), audio(SOUND), audio(SOUND), video(KEY)]);
        studio.say(Kind::Video, 800, KEY);
        assert_eq!(studio.common_join(), Some(800), "only the first");
    }
}

#[test]
fn audio_too_long_before_the_first_keyframe_stays_behind() {
    let mut studio = Studio::new();
    studio.say(Kind::Data, 0, META_VIDEO);
    studio.say(Kind::Audio, 0, SOUND);
    studio.say(Kind::Audio, 900, SOUND);
    studio.say(Kind::Audio, 1_001, SOUND);
    studio.prune();
    studio.say(Kind::Video, 1_001, KEY);
    assert_eq!(studio.common_join(), Some(1_001));
    let mut inter_first = Studio::new();
    inter_first.say(Kind::Audio, 0, SOUND);
    inter_first.say(Kind::Video, 1, INTER);
    inter_first.prune();
    inter_first.say(Kind::Video, 40, KEY);
    assert_eq!(inter_first.common_join(), Some(40), "video that cannot be decoded would come along");
}

#[test]
fn held_audio_is_bounded_as_a_gop_is() {
    let mut studio = Studio::with_gop(64 * 1024);
    studio.say(Kind::Data, 0, META_VIDEO);
    for at in 0..200 {
        studio.say(Kind::Audio, at, &[&SOUND[..2], &[0; 1_000]].concat());
        studio.prune();
        assert!(studio.gauge.bytes() <= 64 * 1024 + 3 * 4_096, "{} bytes", studio.gauge.bytes());
    }
    studio.say(Kind::Video, 200, KEY);
    assert_eq!(studio.common_join(), Some(200));
}

#[test]
fn audio_alone_is_joined_at_its_first_message_once_no_video_is_to_be_expected() {
    for prune in [false, true] {
        let mut with_metadata = Studio::new();
        with_metadata.say(Kind::Data, 0, META);
        with_metadata.say(Kind::Audio, 5, SOUND);
        assert_eq!(with_metadata.common_join(), Some(5), "metadata without video: at once");

        let mut without = Studio::new();
        without.say(Kind::Audio, 0, AAC);
        for at in [3, 500, 1_002] {
            without.say(Kind::Audio, at, SOUND);
            if prune {
                without.prune();
            }
            assert_eq!(without.common_join(), None, "at {at}");
        }
        without.say(Kind::Audio, 1_003, SOUND);
        assert_eq!(without.common_join(), Some(3), "set back to the first audio");
        assert_eq!(without.joined(ViewKey::COMMON).len(), 5);
        for (at, join) in [(1_500, 3), (2_002, 3), (2_003, 2_003), (3_002, 2_003), (3_010, 3_010)] {
            without.say(Kind::Audio, at, SOUND);
            assert_eq!(without.common_join(), Some(join), "at {at}");
        }
    }
}

#[test]
fn once_video_comes_audio_is_no_longer_joined() {
    let mut studio = Studio::new();
    studio.say(Kind::Data, 0, META);
    studio.say(Kind::Audio, 0, SOUND);
    studio.say(Kind::Video, 1_500, INTER);
    studio.say(Kind::Audio, 3_000, SOUND);
    assert_eq!(studio.common_join(), Some(0));
    studio.say(Kind::Video, 3_500, KEY);
    studio.say(Kind::Audio, 8_000, SOUND);
    assert_eq!(studio.common_join(), Some(3_500));
}

#[test]
fn once_video_has_gone_audio_is_joined_again() {
    let mut studio = Studio::new();
    studio.say(Kind::Data, 0, META);
    studio.say(Kind::Video, 1_000, KEY);
    studio.say(Kind::Audio, 5_900, SOUND);
    assert_eq!(studio.common_join(), Some(1_000));
    studio.say(Kind::Audio, 6_000, SOUND);
    assert_eq!(studio.common_join(), Some(5_900), "set back to the first audio, five seconds after the last video");
}

#[test]
fn metadata_that_names_video_as_nothing_announces_none() {
    let number = |name: &[u8], value: f64| [&[0, name.len() as u8], name, &[0], &value.to_be_bytes()[..]].concat();
    let metadata =
        |value| [b"\x02\x00\x0aonMetaData\x08\x00\x00\x00\x02", &number(b"width", value)[..], b"\x00\x00\x09"].concat();
    for (width, join) in [(0.0, Some(40)), (640.0, None)] {
        let mut studio = Studio::new();
        studio.say(Kind::Data, 0, &metadata(width));
        studio.say(Kind::Audio, 40, SOUND);
        assert_eq!(studio.common_join(), join, "width {width}");
    }
}

#[test]
fn a_gop_too_large_or_too_old_is_no_place_to_join() {
    let mut large = Studio::with_gop(10_000);
    large.say(Kind::Video, 0, KEY);
    let frame = [INTER, &[0; 1_000]].concat();
    for _ in 0..9 {
        large.say(Kind::Video, 1, &frame);
    }
    assert_eq!(large.common_join(), Some(0));
    large.say(Kind::Video, 1, &frame);
    assert_eq!(large.common_join(), None);
    large.say(Kind::Video, 2, KEY);
    assert_eq!(large.common_join(), Some(2));

    let mut old = Studio::new();
    old.say(Kind::Video, 0, KEY);
    let age_ms = GOP_AGE_MAX.as_millis() as u32;
    old.say(Kind::Audio, age_ms, SOUND);
    assert_eq!(old.common_join(), Some(0));
    old.say(Kind::Audio, age_ms + 1, SOUND);
    assert_eq!(old.common_join(), None);
}

#[test]
fn a_view_begins_at_the_join_point_and_stays_in_step() {
    let second = ViewKey::plain(2);
    let silent = ViewKey { audio: false, ..ViewKey::COMMON };
    let mut studio = Studio::new();
    studio.say(Kind::Data, 0, META_VIDEO);
    studio.say(Kind::Video, 0, AVC);
    studio.say(Kind::Audio, 0, AAC);
    studio.say(Kind::Video, 2_000, INTER);
    studio.say(Kind::Video, 2_040, KEY);
    studio.say(Kind::Audio, 2_045, SOUND);
    let large = [INTER, &[7; 9_000]].concat();
    studio.say(Kind::Video, 2_080, &large);
    studio.prune();
    assert!(studio.broadcast.add_view(second) && studio.broadcast.add_view(silent));
    assert_eq!((studio.join(second), studio.join(silent)), (Some(2_040), Some(2_040)));
    studio.say(Kind::Audio, 2_090, b"\xAF\x01more");
    let common = studio.joined(ViewKey::COMMON);
    let moved: Vec<_> = common.iter().map(|(csid, payload)| (csid + 3, payload.clone())).collect();
    assert_eq!(studio.joined(second), moved, "the same on the csids of message stream 2");
    let without_audio: Vec<_> = common.into_iter().filter(|(csid, _)| *csid != media_csid(Kind::Audio, 1)).collect();
    assert_eq!(studio.joined(silent), without_audio);
    studio.say(Kind::Video, 2_120, KEY);
    for key in [ViewKey::COMMON, second, silent] {
        assert_eq!(studio.join(key), Some(2_120));
    }
}

#[test]
fn what_is_pushed_says_of_metadata_that_it_is_to_be_kept_and_is_no_players_view() {
    let pushed = ViewKey::pushed(1, Tracks::DEFAULT);
    let mut studio = Studio::new();
    studio.say(Kind::Data, 0, META_VIDEO);
    studio.say(Kind::Video, 0, AVC);
    studio.say(Kind::Video, 40, KEY);
    for stream in 2..=8 {
        assert!(studio.broadcast.add_view(ViewKey::plain(stream)));
    }
    assert!(studio.broadcast.add_view(ViewKey { audio: false, ..ViewKey::COMMON }));
    assert!(!studio.broadcast.add_view(ViewKey { video: false, ..ViewKey::COMMON }), "players have all they may have");
    assert!(studio.broadcast.add_view(pushed));
    // Metadata that changes, and data that is none.
    studio.say(Kind::Data, 41, &[META_VIDEO, b"\x05"].concat());
    studio.say(Kind::Data, 42, b"\x02\x00\x0aonCuePoint\x05");
    let common = studio.joined(ViewKey::COMMON);
    let is_metadata = |payload: &[u8]| payload.starts_with(META_VIDEO);
    assert_eq!(common.iter().filter(|(_, payload)| is_metadata(payload)).count(), 2, "in front and when it changed");
    let kept = |(csid, payload): (u32, Vec<u8>)| {
        let prefix = if is_metadata(&payload) { SET_DATA_FRAME } else { &[] };
        (csid, [prefix, &payload].concat())
    };
    assert_eq!(studio.joined(pushed), common.into_iter().map(kept).collect::<Vec<_>>());
}

#[test]
fn a_view_without_video_is_joined_at_audio_with_the_headers_of_that_place() {
    let blind = ViewKey { video: false, ..ViewKey::COMMON };
    let mut studio = Studio::new();
    studio.say(Kind::Data, 0, META_VIDEO);
    studio.say(Kind::Video, 0, AVC);
    studio.say(Kind::Audio, 0, AAC);
    studio.say(Kind::Video, 2_000, KEY);
    studio.say(Kind::Audio, 2_005, SOUND);
    let other_aac = b"\xAF\x00other";
    studio.say(Kind::Audio, 2_500, other_aac);
    studio.say(Kind::Audio, 3_100, SOUND);
    studio.say(Kind::Video, 3_110, INTER);
    assert!(studio.broadcast.add_view(blind));
    assert_eq!(studio.join(blind), Some(3_100));
    assert_eq!(studio.joined(blind), [data(META_VIDEO), audio(other_aac), audio(SOUND)]);
    studio.say(Kind::Audio, 4_100, SOUND);
    assert_eq!(studio.join(blind), Some(4_100));
    assert_eq!(studio.joined(blind), [data(META_VIDEO), audio(other_aac), audio(SOUND)]);
    let neither = ViewKey { audio: false, video: false, ..ViewKey::COMMON };
    assert!(studio.broadcast.add_view(neither));
    assert_eq!(studio.join(neither), None);
}

#[test]
fn views_are_bounded_and_those_nobody_needs_are_told_after_a_linger() {
    let mut studio = Studio::new();
    studio.say(Kind::Video, 0, KEY);
    let keys: Vec<_> = (2..2 + VIEWS_MAX as u32).map(ViewKey::plain).collect();
    assert!(keys.iter().all(|key| studio.broadcast.add_view(*key)));
    assert!(!studio.broadcast.add_view(ViewKey::plain(77)));
    assert!(studio.broadcast.add_view(keys[0]) && studio.broadcast.add_view(ViewKey::COMMON), "those it has");
    let (at, later) = (Duration::from_secs(9), Duration::from_secs(9) + VIEW_LINGER);
    let idle = [ViewKey::COMMON, keys[1], keys[2]];
    assert!(studio.broadcast.note_idle(&idle, at).is_empty());
    assert!(studio.broadcast.note_idle(&idle[..2], later - Duration::from_millis(1)).is_empty());
    assert_eq!(studio.broadcast.note_idle(&idle, later), [keys[1]], "the other was needed in between");
    let bytes = studio.gauge.bytes();
    studio.broadcast.drop_view(keys[1]);
    studio.broadcast.drop_view(ViewKey::COMMON);
    assert!(studio.gauge.bytes() < bytes);
    assert_eq!(studio.broadcast.views().len(), VIEWS_MAX, "the common form stays");
    assert!(studio.broadcast.add_view(ViewKey::plain(77)));
}

#[test]
fn a_malformed_tag_is_dropped_and_counted_and_the_stream_goes_on() {
    let mut studio = Studio::new();
    let malformed = studio.broadcast.publish(Kind::Video, 0, b"\x17", Duration::ZERO, 0);
    assert!(malformed.is_err());
    assert_eq!(studio.window(ViewKey::COMMON).head(), 0);
    studio.say(Kind::Video, 0, KEY);
    assert_eq!(studio.common_join(), Some(0));
    assert_eq!(studio.broadcast.counts(), (2, 1 + KEY.len() as u64));
}

#[test]
fn a_follower_can_begin_where_the_owner_sets_the_join_point_back_to() {
    let mut studio = Studio::new();
    studio.say(Kind::Audio, 0, AAC);
    studio.say(Kind::Audio, 3, SOUND);
    let mut position = FeedPosition::default();
    let mut follower = Window::new(studio.window(ViewKey::COMMON).layout(), 0);
    for at in [200, 400, 600, 800, 1_100] {
        let (feed, after) = studio.window(ViewKey::COMMON).feed(position);
        position = after;
        follower.apply(feed);
        let released = follower.released();
        follower.prune(released);
        studio.prune();
        studio.say(Kind::Audio, at, SOUND);
    }
    follower.apply(studio.window(ViewKey::COMMON).feed(position).0);
    let join = follower.join().expect("a join point").clone();
    assert_eq!(join.timestamp, 3);
    assert!(join.offset >= follower.start(), "the follower has it no more");
    assert_eq!(parse(&all_bytes(&mut follower, join.offset), CHUNK).len(), 6);
}

#[test]
fn the_end_leaves_everything_readable() {
    let mut studio = Studio::new();
    studio.say(Kind::Video, 0, KEY);
    studio.broadcast.publish(Kind::Video, 40, INTER, Duration::ZERO, 40).expect("well-formed");
    studio.broadcast.end();
    let window = studio.window(ViewKey::COMMON);
    assert!(window.ended() && window.released() == window.head());
    assert_eq!(studio.joined(ViewKey::COMMON), [video(KEY), video(INTER)]);
}

#[test]
fn a_view_of_a_stream_that_has_ended_has_ended_too() {
    let mut studio = Studio::new();
    studio.say(Kind::Video, 0, KEY);
    studio.broadcast.end();
    let key = ViewKey::plain(2);
    assert!(studio.broadcast.add_view(key));
    assert!(studio.window(key).ended());
    assert_eq!(studio.joined(key), [(media_csid(Kind::Video, 2), KEY.to_vec())]);
}

#[test]
fn audio_before_the_first_keyframe_is_joined_with_the_headers_in_force_there() {
    let mut studio = Studio::new();
    studio.say(Kind::Audio, 0, AAC);
    studio.say(Kind::Audio, 3, SOUND);
    let other = [AAC, b"changed"].concat();
    studio.say(Kind::Audio, 20, &other);
    studio.say(Kind::Audio, 23, SOUND);
    studio.say(Kind::Video, 40, KEY);
    let headers: Vec<_> = studio.joined(ViewKey::COMMON).into_iter().map(|(_, payload)| payload).collect();
    assert_eq!(headers, [AAC, SOUND, &other, SOUND, KEY]);
}
