//! Sources of any clock, spliced: the first is not touched, the next begin at keyframes, and after whatever came before a
//! sound one gets through.
//!
//! The input is a list of messages of eight bytes each: what it is, how far its timestamp is from the last one's, and the
//! time that passed.

use std::time::Duration;

use shardcast::{limits::TIMESTAMP_NEAR_MS, relay::splice::Splice, rtmp::message::Kind};

const KEYFRAME: &[u8] = b"\x17\x01\0\0\0key";
const INTER: &[u8] = b"\x27\x01\0\0\0inter";
const AUDIO: &[u8] = b"\xAF\x01sound";
const MESSAGES: [(Kind, &[u8]); 8] = [
    (Kind::Video, KEYFRAME),
    (Kind::Video, INTER),
    (Kind::Audio, AUDIO),
    (Kind::Video, b"\x17\0\0\0\0config"),
    (Kind::Audio, b"\xAF\0\x12\x10"),
    (Kind::Data, b"\x02\0\x0AonMetaData\x05"),
    (Kind::Data, b"\x02\0\x0AonCuePoint\x05"),
    (Kind::Video, b"\x96\x21avc1"),
];
const FRAME_MS: u32 = 40;
const GOP_FRAMES: u32 = 25;

pub fn run(data: &[u8]) {
    let mut splice = Splice::new();
    let (mut raw, mut now) = (0_u32, Duration::ZERO);
    let (mut switched, mut any, mut begun) = (false, false, true);
    for message in data.as_chunks::<8>().0 {
        let [what, step @ .., _, passed_high, passed_low] = *message;
        let step = u32::from_be_bytes(step);
        raw = if what & 0x80 == 0 { raw.wrapping_add(step >> 16) } else { step };
        now += Duration::from_millis(u64::from(u16::from_be_bytes([passed_high, passed_low])));
        if what & 0x40 != 0 {
            splice.switch();
            (switched, begun) = (switched || any, !any);
            continue;
        }
        let (kind, payload) = MESSAGES[usize::from(what & 7)];
        let sent = splice.take(kind, raw, payload, now);
        assert!(switched || sent == Some(raw), "{kind:?} at {raw} became {sent:?}");
        any |= kind != Kind::Data;
        if sent.is_some() && [KEYFRAME, INTER].contains(&payload) {
            assert!(begun || payload == KEYFRAME, "a source begins with no keyframe");
            begun = true;
        }
    }
    splice.switch();
    follows(splice, raw, now);
}

/// A steady source is dropped no longer than a clock can be shared and a GOP lasts, and then all of it passes at its pace.
fn follows(mut splice: Splice, raw: u32, now: Duration) {
    let mut offset = None;
    for frame in 0..(2 * TIMESTAMP_NEAR_MS / FRAME_MS + 3 * GOP_FRAMES) {
        let now = now + Duration::from_millis(u64::from(frame * FRAME_MS));
        let timestamp = raw.wrapping_add(frame * FRAME_MS);
        let payload = if frame % GOP_FRAMES == 0 { KEYFRAME } else { INTER };
        let sent = splice.take(Kind::Video, timestamp, payload, now).map(|sent| sent.wrapping_sub(timestamp));
        assert!(offset.is_none() || sent == offset, "from {offset:?} to {sent:?}");
        offset = sent;
        let sound = splice.take(Kind::Audio, timestamp, AUDIO, now).map(|sent| sent.wrapping_sub(timestamp));
        assert!(sound.is_none() || offset.is_none() || sound == offset, "sound and video are apart");
    }
    assert!(offset.is_some(), "a sound source never begins");
}
