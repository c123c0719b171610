//! Media tags: the classifier's own promises, that tracks come out of Multitrack messages as they went in, and that what a
//! stream takes reaches its players byte for byte.
//!
//! The input is classified as a whole as each kind of tag. Then it is a publisher's messages: a byte for the kind, a byte
//! of milliseconds, a byte of length, and the payload.

use std::time::Duration;

use shardcast::{
    egress::{Next, Player, Policy},
    ingress::{Broadcast, ViewKey, broadcast::BroadcastConfig},
    limits::{HEADERS_BYTES_MAX, HEADERS_MAX, SEGMENT_BYTES},
    media::{
        DataRole, Role, Tag, TrackChoice, TrackSet, amf3_data, classify_audio, classify_data, classify_video,
        multitrack::{keep_tracks, unwrap_track},
    },
    rtmp::message::Kind,
    stream::{log::JoinBounds, segment::LogGauge},
};

use super::whole_messages;

pub fn run(data: &[u8]) {
    classify(data);
    let messages = messages(data);
    for (_, _, payload) in &messages {
        classify(payload);
    }
    broadcast(&messages);
}

fn classify(payload: &[u8]) {
    if let Ok(tag) = classify_video(payload) {
        assert!(tag.role == Role::Unknown || !tag.tracks.is_empty());
        take_apart(Kind::Video, payload, tag);
    }
    if let Ok(tag) = classify_audio(payload) {
        assert!(!matches!(tag.role, Role::Keyframe | Role::ColorInfo | Role::Command), "audio has no {:?}", tag.role);
        assert!(tag.role == Role::Unknown || !tag.tracks.is_empty());
        take_apart(Kind::Audio, payload, tag);
    }
    match classify_data(payload) {
        DataRole::Metadata { body } => {
            assert!(body.starts_with(b"\x02\0\x0AonMetaData") && payload.ends_with(body));
            assert_eq!(classify_data(body), DataRole::Metadata { body });
        }
        DataRole::Other { body } => assert!(payload.ends_with(body)),
        DataRole::ClearMetadata => {}
    }
}

/// A track alone, and some of the tracks, are tags of the same role; what is not there cannot be taken out.
fn take_apart(kind: Kind, payload: &[u8], tag: Tag) {
    let classify = if kind == Kind::Video { classify_video } else { classify_audio };
    let (mut alone, mut kept) = (Vec::new(), Vec::new());
    let held = if tag.multitrack { tag.tracks } else { TrackSet::EMPTY };
    let absent = (0..=u8::MAX).find(|track| !held.contains(*track));
    assert!(absent.is_none_or(|track| !unwrap_track(kind, payload, track, &mut alone)) && alone.is_empty());
    for track in held.iter() {
        alone.clear();
        kept.clear();
        assert!(unwrap_track(kind, payload, track, &mut alone) && alone.len() < payload.len());
        let expected = Tag { role: tag.role, tracks: TrackSet::DEFAULT_TRACK, multitrack: false };
        assert_eq!(classify(&alone), Ok(expected));
        assert!(keep_tracks(kind, payload, &TrackSet::single(track), &mut kept) && kept.len() <= payload.len());
        assert_eq!(classify(&kept), Ok(Tag { tracks: TrackSet::single(track), ..tag }));
        let whole = std::mem::take(&mut alone);
        assert!(unwrap_track(kind, &kept, track, &mut alone) && alone == whole, "the same track");
    }
    kept.clear();
    assert_eq!(keep_tracks(kind, payload, &held, &mut kept), !held.is_empty());
    assert!(kept.is_empty() || kept == payload);
}

fn messages(mut data: &[u8]) -> Vec<(Kind, u8, &[u8])> {
    let mut messages = Vec::new();
    while let [kind, ms, length, rest @ ..] = data {
        let kind = [Kind::Audio, Kind::Video, Kind::Data][usize::from(kind % 3)];
        let (payload, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        messages.push((kind, *ms, payload));
        data = rest;
    }
    messages
}

fn broadcast(messages: &[(Kind, u8, &[u8])]) {
    let gauge = LogGauge::default();
    let config = BroadcastConfig {
        chunk_bytes: 128,
        segment_bytes: 512,
        bounds: JoinBounds { gop_bytes_max: SEGMENT_BYTES },
        gauge: gauge.clone(),
    };
    let mut stream = Broadcast::new(config, None);
    let mut now = Duration::ZERO;
    let mut written = Vec::new();
    for (index, (kind, ms, payload)) in messages.iter().enumerate() {
        now += Duration::from_millis((*ms).into());
        let (before, timestamp) = (head(&stream), now.as_millis() as u32);
        let taken = stream.publish(*kind, timestamp, payload, now, timestamp);
        if head(&stream) > before {
            assert!(taken.is_ok());
            written.push((kind.type_id(), as_common(*kind, payload)));
        }
        if index == messages.len() / 2 {
            // A form that begins late has what the common one has from its join point on.
            assert!(stream.add_view(ViewKey::plain(2)));
            let some = "v1,v2,a1".parse::<TrackChoice>().map(|choice| choice.resolve(true));
            assert!(some.is_ok_and(|some| stream.add_view(ViewKey::new(1, some))));
        }
    }
    let headers = stream.views()[0].log().window().headers().clone();
    let bytes: usize = headers.in_order().map(|header| header.payload.len()).sum();
    assert!(headers.in_order().count() <= HEADERS_MAX && bytes <= HEADERS_BYTES_MAX);
    stream.end();
    check_log(&stream, &written);
    for view in [ViewKey::COMMON, ViewKey::plain(2)] {
        play(&mut stream, view, &written);
    }
    drop(stream);
    assert_eq!(gauge.bytes(), 0);
}

/// The message in the common form, which holds it.
fn as_common(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut unwrapped = Vec::new();
    let in_amf0 = if kind == Kind::Data { amf3_data::in_amf0(payload) } else { None };
    let payload = in_amf0.as_deref().unwrap_or(payload);
    match classify_data(payload) {
        DataRole::Metadata { body } | DataRole::Other { body } if kind == Kind::Data => body.to_vec(),
        _ if unwrap_track(kind, payload, 0, &mut unwrapped) => unwrapped,
        _ => payload.to_vec(),
    }
}

fn head(stream: &Broadcast) -> u64 {
    stream.views()[0].log().window().head()
}

/// The common log holds exactly `written`, timestamps never falling but on a restart of the encoder, which none was.
fn check_log(stream: &Broadcast, written: &[(u8, Vec<u8>)]) {
    let window = stream.views()[0].log().window();
    let sequences = window.first_sequence()..window.next_sequence();
    let kept: Vec<_> = sequences.map(|sequence| window.payload(sequence).expect("held")).collect();
    assert_eq!(kept.len(), written.len());
    for ((entry, payload), (type_id, body)) in kept.iter().zip(written) {
        assert_eq!((entry.kind.type_id(), payload), (*type_id, body));
    }
}

/// A player receives headers, then the newest messages of `written` up to the last.
fn play(stream: &mut Broadcast, key: ViewKey, written: &[(u8, Vec<u8>)]) {
    let policy = Policy { gop_cache: true, lag_max: Duration::from_secs(3_600), join_wait: Duration::from_secs(1) };
    let Some(view) = stream.view_mut(key) else { return };
    let window = view.log_mut().window_mut();
    let Some(join) = window.join().cloned() else { return };
    let from = window.entries_from(0).take_while(|entry| entry.offset < join.offset).count();
    let last = window.next_sequence() as usize - from;
    let mut player = Player::new(window, false, Duration::ZERO);
    // The chunk size that is a reader's until it is told another.
    let mut bytes = Vec::new();
    while let Next::Send(piece) = player.next(window, &policy, Duration::ZERO, |_| true) {
        assert!(!piece.is_empty());
        bytes.extend_from_slice(piece.as_slice());
    }
    let received = whole_messages(&bytes);
    let headers = join.headers.in_order().count();
    assert_eq!(received.len(), headers + last, "headers, then everything from the join point on");
    for ((header, payload), (type_id, body)) in received[headers..].iter().rev().zip(written.iter().rev()) {
        assert_eq!((header.type_id, payload, header.stream_id), (*type_id, body, key.stream_id.into()));
    }
}
