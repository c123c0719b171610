//! Multitrack messages taken apart (Enhanced RTMP v2, "Multitrack"): one track as a tag of its own, or some tracks as a
//! smaller Multitrack message.
//!
//! What stands before Multitrack (frame type, a ModEx chain) stands before what is made of it; bodies are copied byte for
//! byte. Both functions take tags that were classified and sort out the rest by returning false: tags that are not
//! Multitrack, reserved multitrack types, and tracks that are not there. They append at most the payload's own length.

use super::{
    TrackSet,
    tag::{AUDIO_MULTITRACK, Cursor, VIDEO_MULTITRACK, frame},
};
use crate::rtmp::message::Kind;

/// Multitrack types.
mod form {
    pub(super) const ONE_TRACK: u8 = 0;
    pub(super) const MANY_TRACKS: u8 = 1;
    pub(super) const MANY_TRACKS_MANY_CODECS: u8 = 2;
}

/// Appends `track` of a Multitrack message to `out` as the message it would be if it were the only track there is. False,
/// and nothing appended, if the message does not hold it.
pub fn unwrap_track(kind: Kind, payload: &[u8], track: u8, out: &mut Vec<u8>) -> bool {
    let Some(message) = Multitrack::open(kind, payload) else { return false };
    let Some(wanted) = message.tracks().find(|entry| entry.id == track) else { return false };
    out.extend_from_slice(message.before());
    if let Some(packet_type_at) = out.last_mut() {
        *packet_type_at = *packet_type_at & 0xF0 | message.packet_type;
    }
    out.extend_from_slice(wanted.four_cc);
    out.extend_from_slice(wanted.body);
    true
}

/// Appends a Multitrack message to `out` with those of its tracks that are in `keep`. False, and nothing appended, if it
/// holds none of them.
pub fn keep_tracks(kind: Kind, payload: &[u8], keep: &TrackSet, out: &mut Vec<u8>) -> bool {
    let Some(message) = Multitrack::open(kind, payload) else { return false };
    let begin = out.len();
    out.extend_from_slice(message.head());
    let tracks_at = out.len();
    for entry in message.tracks().filter(|entry| keep.contains(entry.id)) {
        out.extend_from_slice(entry.whole);
    }
    let found = out.len() > tracks_at;
    if !found {
        out.truncate(begin);
    }
    found
}

/// A Multitrack message of a type that is defined.
struct Multitrack<'a> {
    payload: &'a [u8],
    /// Of the byte that holds multitrack type and packet type.
    form_at: usize,
    form: u8,
    packet_type: u8,
    /// Behind the FourCC that all tracks share, if they do.
    tracks_at: usize,
}

/// One track of a Multitrack message.
struct Entry<'a> {
    id: u8,
    /// The track's own or the one shared by all.
    four_cc: &'a [u8],
    body: &'a [u8],
    /// The bytes it takes in the message.
    whole: &'a [u8],
}

impl<'a> Multitrack<'a> {
    fn open(kind: Kind, payload: &'a [u8]) -> Option<Self> {
        let first = *payload.first()?;
        let (enhanced, multitrack) = match kind {
            Kind::Audio => (first >> 4 == 9, AUDIO_MULTITRACK),
            Kind::Video => (first & 0x80 != 0 && first >> 4 & 7 != frame::COMMAND, VIDEO_MULTITRACK),
            Kind::Data => return None,
        };
        let mut cursor = Cursor::at(payload, 1);
        if !enhanced || cursor.skip_mod_ex(first & 0xF).ok()? != multitrack {
            return None;
        }
        let form_at = cursor.offset;
        let byte = cursor.u8("multitrack type").ok()?;
        let (form, packet_type) = (byte >> 4, byte & 0xF);
        match form {
            form::ONE_TRACK | form::MANY_TRACKS => cursor.skip(4, "FourCC").ok()?,
            form::MANY_TRACKS_MANY_CODECS => {}
            _ => return None,
        }
        Some(Self { payload, form_at, form, packet_type, tracks_at: cursor.offset })
    }

    /// Up to the nibble that says Multitrack, which is its last one.
    fn before(&self) -> &'a [u8] {
        self.payload.get(..self.form_at).unwrap_or_default()
    }

    /// Up to the tracks.
    fn head(&self) -> &'a [u8] {
        self.payload.get(..self.tracks_at).unwrap_or_default()
    }

    fn tracks(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let (payload, form) = (self.payload, self.form);
        let shared = payload.get(self.form_at + 1..self.tracks_at).unwrap_or_default();
        let mut at = self.tracks_at;
        std::iter::from_fn(move || {
            let mut cursor = Cursor::at(payload, at);
            let four_cc = if form == form::MANY_TRACKS_MANY_CODECS {
                cursor.skip(4, "FourCC").ok()?;
                payload.get(at..cursor.offset)?
            } else {
                shared
            };
            let id = cursor.u8("track id").ok()?;
            let size =
                if form == form::ONE_TRACK { payload.len() - cursor.offset } else { cursor.u24("track size").ok()? };
            let body_at = cursor.offset;
            cursor.skip(size, "track").ok()?;
            let whole = payload.get(at..cursor.offset)?;
            // What is behind the track of OneTrack is nothing, not another track.
            at = cursor.offset;
            Some(Entry { id, four_cc, body: payload.get(body_at..at)?, whole })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Role, classify_audio, classify_video};

    fn unwrapped(kind: Kind, payload: &[u8], track: u8) -> Option<Vec<u8>> {
        let mut out = b"before".to_vec();
        let found = unwrap_track(kind, payload, track, &mut out);
        assert!(found || out == b"before", "nothing may be appended");
        found.then(|| out.split_off(6))
    }

    fn kept(kind: Kind, payload: &[u8], tracks: &[u8]) -> Option<Vec<u8>> {
        let mut out = b"before".to_vec();
        let found = keep_tracks(kind, payload, &tracks.iter().copied().collect(), &mut out);
        assert!(found || out == b"before", "nothing may be appended");
        found.then(|| out.split_off(6))
    }

    /// A Multitrack message, a track of it, and what that track is alone.
    type Case = (Kind, &'static [u8], u8, Option<&'static [u8]>);

    const CASES: &[Case] = &[
        (Kind::Video, b"\x96\x03hvc1\x00nalu", 0, Some(b"\x93hvc1nalu")),
        (Kind::Video, b"\xA6\x01hvc1\x02\0\0\x28nalu", 2, Some(b"\xA1hvc1\0\0\x28nalu")),
        (Kind::Video, b"\x96\x03hvc1\x01nalu", 0, None),
        (Kind::Video, b"\x96\x02hvc1\x01", 1, Some(b"\x92hvc1")),
        (Kind::Video, b"\x96\x13hvc1\x00\0\0\x02ab\xFF\0\0\x03cde", 255, Some(b"\x93hvc1cde")),
        (Kind::Video, b"\x96\x13hvc1\x00\0\0\x02ab\xFF\0\0\x03cde", 0, Some(b"\x93hvc1ab")),
        (Kind::Video, b"\x96\x20hvc1\x00\0\0\x02abav01\x01\0\0\x01c", 1, Some(b"\x90av01c")),
        (Kind::Video, b"\x96\x04av01\x00\x02\0\x09colorInfo", 0, Some(b"\x94av01\x02\0\x09colorInfo")),
        (Kind::Video, b"\xD6\x04av01\x00", 0, None),
        (Kind::Video, b"\x96\x3312345", 0, None),
        (Kind::Video, b"\x93hvc1nalu", 0, None),
        (Kind::Video, b"\x16\x03hvc1\x00nalu", 0, None),
        // ModEx stays: one with the nanosecond offset, a chain, one of 256 bytes and more.
        (Kind::Video, b"\x97\x02\0\0\x05\x06\x03hvc1\x00nalu", 0, Some(b"\x97\x02\0\0\x05\x03hvc1nalu")),
        (
            Kind::Video,
            b"\x97\x02\0\0\x05\x07\x00x\x16\x03av01\x03obu",
            3,
            Some(b"\x97\x02\0\0\x05\x07\x00x\x13av01obu"),
        ),
        (Kind::Audio, b"\x97\xFF\0\x01xy\x05\x11Opus\x00\0\0\x01a\x01\0\0\x01b", 1, Some(b"\x97\xFF\0\x01xy\x01Opusb")),
        (Kind::Audio, b"\x95\x00Opus\x01Head", 1, Some(b"\x90OpusHead")),
        (Kind::Audio, b"\x95\x24mp4a\x00\0\0\x01aac-3\x05\0\0\x01b", 5, Some(b"\x94ac-3b")),
        (Kind::Audio, b"\x95\x09Opus\x01new", 1, Some(b"\x99Opusnew")),
        (Kind::Audio, b"\xAF\x01aac", 0, None),
        (Kind::Data, b"\x95\x00Opus\x01Head", 1, None),
        (Kind::Audio, b"", 0, None),
    ];

    #[test]
    fn a_track_alone_is_the_tag_it_would_be() {
        for &(kind, payload, track, expected) in CASES {
            assert_eq!(unwrapped(kind, payload, track).as_deref(), expected, "{}", payload.escape_ascii());
        }
    }

    #[test]
    fn a_track_alone_has_the_role_it_had() {
        for &(kind, payload, _, expected) in CASES.iter().filter(|case| case.0 != Kind::Data) {
            let classify = if kind == Kind::Video { classify_video } else { classify_audio };
            let Some(expected) = expected else { continue };
            let (whole, alone) = (classify(payload).unwrap(), classify(expected).unwrap());
            assert_eq!((whole.role, whole.multitrack), (alone.role, true), "{}", payload.escape_ascii());
            assert_eq!((alone.tracks, alone.multitrack), (TrackSet::DEFAULT_TRACK, false));
        }
    }

    #[test]
    fn tracks_are_kept_as_they_stand() {
        let many = b"\x97\x02\0\0\x05\x06\x13hvc1\x00\0\0\x02ab\x01\0\0\x00\x07\0\0\x01c";
        assert_eq!(kept(Kind::Video, many, &[0, 1, 7]).as_deref(), Some(&many[..]));
        let some = b"\x97\x02\0\0\x05\x06\x13hvc1\x00\0\0\x02ab\x07\0\0\x01c";
        assert_eq!(kept(Kind::Video, many, &[0, 7, 9]).as_deref(), Some(&some[..]));
        assert_eq!(kept(Kind::Video, many, &[9]), None);
        let codecs = b"\x95\x21Opus\x00\0\0\x01aac-3\x05\0\0\x01b";
        assert_eq!(kept(Kind::Audio, codecs, &[5]).as_deref(), Some(&b"\x95\x21ac-3\x05\0\0\x01b"[..]));
        let one = b"\x95\x01Opus\x05data";
        assert_eq!(kept(Kind::Audio, one, &[5]).as_deref(), Some(&one[..]));
        assert_eq!(kept(Kind::Audio, one, &[0]), None);
        assert_eq!(kept(Kind::Video, b"\x96\x3312345", &[0]), None);
    }

    #[test]
    fn what_is_kept_can_be_kept_again_and_unwrapped() {
        let many = b"\x96\x23hvc1\x00\0\0\x02abav01\x01\0\0\x01cvp09\x02\0\0\x00";
        for set in 1..8_u8 {
            let tracks: Vec<u8> = (0..3).filter(|track| set >> track & 1 == 1).collect();
            let some = kept(Kind::Video, many, &tracks).unwrap();
            let tag = classify_video(&some).unwrap();
            assert_eq!((tag.role, tag.tracks), (Role::Keyframe, tracks.iter().copied().collect()));
            assert_eq!(kept(Kind::Video, &some, &tracks), Some(some.clone()));
            for track in 0..3 {
                let alone = tracks.contains(&track).then(|| unwrapped(Kind::Video, many, track)).flatten();
                assert_eq!(unwrapped(Kind::Video, &some, track), alone);
            }
        }
    }

    #[test]
    fn no_truncation_or_change_panics_or_grows() {
        for &(kind, payload, track, _) in CASES {
            for cut in 0..=payload.len() {
                let mut changed = payload[..cut].to_vec();
                for at in 0..cut {
                    for value in [0, 1, 3, 0x10, 0x23, 0x7F, 0x96, 0xFF] {
                        let before = std::mem::replace(&mut changed[at], value);
                        for out in [unwrapped(kind, &changed, track), kept(kind, &changed, &[track])] {
                            assert!(out.is_none_or(|out| out.len() <= cut));
                        }
                        changed[at] = before;
                    }
                }
            }
        }
    }
}
