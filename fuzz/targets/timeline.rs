//! Timestamps of any order: what is written never falls per (kind, track), and a stream that goes on is followed.
//!
//! The input is a list of messages of eight bytes each: what it is, its track, how far its timestamp is from the last one
//! of the publisher, and the time that passed.

use std::{collections::HashMap, time::Duration};

use shardcast::{
    limits::TIMESTAMP_NEAR_MS,
    rtmp::message::Kind,
    stream::timeline::{Resume, Timeline},
};

/// A step that cannot be told from one back, or nearly so.
const AMBIGUOUS_MS: u32 = 1 << 30;

/// Of a stream of two tracks beside six others: each may be reached once by either.
const LEAPS_MAX: usize = 16;
/// Of both tracks, each twice behind its own past by as much as is held.
const HELD_MAX: usize = 4 * (TIMESTAMP_NEAR_MS as usize / 40 + 1);

pub fn run(data: &[u8]) {
    let mut timeline = Timeline::new(None);
    let mut seen: HashMap<(Kind, u8), u32> = HashMap::new();
    let (mut raw, mut now, mut greatest) = (0_u32, Duration::ZERO, None);
    for message in data.as_chunks::<8>().0 {
        let [what, track, step @ .., passed_high, passed_low] = *message;
        let step = u32::from_be_bytes(step);
        let timestamp = if what & 0x80 == 0 { raw.wrapping_add(step >> 16) } else { step };
        now += Duration::from_millis(u64::from(u16::from_be_bytes([passed_high, passed_low])));
        let track = track & 3;
        let (kind, sent, is_media) = match what & 7 {
            0..=2 => (Kind::Video, timeline.media(Kind::Video, track, timestamp, now), true),
            3 | 4 => (Kind::Audio, timeline.media(Kind::Audio, track, timestamp, now), true),
            5 => (Kind::Video, timeline.header(Kind::Video, track, timestamp), false),
            6 if track == 3 => (Kind::Audio, timeline.aside(Kind::Audio, track, timestamp), false),
            6 => (Kind::Data, timeline.data(timestamp), false),
            _ => {
                timeline = resumed(&timeline, now, greatest);
                continue;
            }
        };
        if is_media {
            raw = timestamp;
            greatest = Some(greatest.map_or(sent, |greatest| later(greatest, sent)));
        }
        // A header that comes before its track's first media may be far ahead of that.
        let track = if kind == Kind::Data { 0 } else { track };
        if greatest.is_none() || !(is_media || kind == Kind::Data || seen.contains_key(&(kind, track))) {
            continue;
        }
        if let Some(before) = seen.insert((kind, track), sent) {
            let back = before.wrapping_sub(sent);
            let forgotten = greatest.is_some_and(|greatest: u32| greatest.wrapping_sub(before) >= AMBIGUOUS_MS);
            assert!(back == 0 || back > 1 << 31 || forgotten, "{kind:?} {track} went from {before} to {sent}");
        }
    }
    follows(timeline, raw, now);
}

fn later(a: u32, b: u32) -> u32 {
    if b.wrapping_sub(a) < 1 << 31 { b } else { a }
}

/// The next publisher of the name: nothing of the one before is seen again.
fn resumed(timeline: &Timeline, now: Duration, greatest: Option<u32>) -> Timeline {
    let resume: Option<Resume> = timeline.resume(now);
    let sent = resume.map(|resume| resume.sent);
    assert_eq!(sent.is_some(), greatest.is_some());
    let is_after = |(sent, greatest): (u32, u32)| sent.wrapping_sub(greatest) < 1 << 31;
    assert!(sent.zip(greatest).is_none_or(is_after), "the next session begins after all that was sent");
    Timeline::new(resume)
}

/// Whatever came before, a steady stream becomes one for its players, at its own pace: but for a few leaps, each when a
/// track goes over to the clock of another that it has reached.
fn follows(mut timeline: Timeline, raw: u32, now: Duration) {
    let mut send = |frame: u32| {
        let now = now + Duration::from_millis(u64::from(frame) * 40);
        let timestamp = raw.wrapping_add(frame * 40);
        (timeline.media(Kind::Video, 0, timestamp, now), timeline.media(Kind::Audio, 0, timestamp, now))
    };
    let (mut video, mut audio) = send(1);
    let (mut leaps, mut held) = (0, 0);
    for (next_video, next_audio) in (2..=1_200).map(send) {
        for step in [next_video.wrapping_sub(video), next_audio.wrapping_sub(audio)] {
            leaps += usize::from(step > 40);
            held += usize::from(step < 40);
        }
        (video, audio) = (next_video, next_audio);
    }
    assert!(leaps <= LEAPS_MAX, "{leaps} leaps in a stream of a frame each 40 ms");
    assert!(held <= HELD_MAX, "{held} frames held at the last one's time in a stream of a frame each 40 ms");
}
