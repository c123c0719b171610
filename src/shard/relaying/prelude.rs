//! What a source sends before its first picture: kept until the stream is taken from it.
//!
//! A source is worth taking once players can begin with what it sends: at a keyframe or, where no video is in sight, once
//! half a second of audio has come. Headers, metadata and audio from before are kept, so that nothing is missing of
//! a stream that begins. Bounds: [`PRELUDE_MESSAGES_MAX`] and [`PRELUDE_BYTES_MAX`]; what goes beyond is dropped, and of a GOP all of it.

use crate::{
    limits::{PRELUDE_AUDIO_MS, PRELUDE_BYTES_MAX, PRELUDE_MESSAGES_MAX},
    media::{self, DataRole, Role},
    rtmp::message::Kind,
};

#[derive(Debug)]
pub(super) struct Held {
    pub(super) kind: Kind,
    pub(super) timestamp: u32,
    pub(super) payload: Box<[u8]>,
}

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Prelude {
    held: Vec<Held>,
    bytes: usize,
    video_seen: bool,
    has_keyframe: bool,
    first_audio: Option<u32>,
}

impl Prelude {
    /// Takes one message in. True if players can begin now.
    pub(super) fn take(&mut self, kind: Kind, timestamp: u32, payload: &[u8]) -> bool {
        // A malformed message is the log's to count, once the stream is taken.
        let Some(role) = role_of(kind, payload) else { return false };
        if role == Role::Keyframe && std::mem::replace(&mut self.has_keyframe, true) {
            self.forget_media();
        }
        self.video_seen |= kind == Kind::Video || (kind == Kind::Data && speaks_of_video(payload));
        let begins = match (kind, role) {
            (Kind::Video, Role::Keyframe) => true,
            // Nothing can be done with what depends on frames that are not here.
            (Kind::Video, Role::Coded) if !self.has_keyframe => return false,
            (Kind::Audio, Role::Coded) => {
                let first = *self.first_audio.get_or_insert(timestamp);
                !self.video_seen && timestamp.wrapping_sub(first) >= PRELUDE_AUDIO_MS
            }
            _ => false,
        };
        let has_room = self.held.len() < PRELUDE_MESSAGES_MAX && self.bytes + payload.len() <= PRELUDE_BYTES_MAX;
        if !has_room && self.has_keyframe && !begins {
            self.has_keyframe = false;
            self.forget_media();
            return false;
        }
        if begins || has_room {
            self.bytes += payload.len();
            self.held.push(Held { kind, timestamp, payload: payload.into() });
        }
        begins
    }

    /// The source is taken at a later keyframe than the one that was kept.
    fn forget_media(&mut self) {
        let is_media = |held: &Held| matches!(role_of(held.kind, &held.payload), Some(Role::Keyframe | Role::Coded));
        self.held.retain(|held| !is_media(held));
        self.bytes = self.held.iter().map(|held| held.payload.len()).sum();
    }

    /// All that was kept, in order.
    pub(super) fn release(&mut self) -> Vec<Held> {
        std::mem::take(self).held
    }
}

/// `None` if it is malformed.
fn role_of(kind: Kind, payload: &[u8]) -> Option<Role> {
    match kind {
        Kind::Video => media::classify_video(payload).ok().map(|tag| tag.role),
        Kind::Audio => media::classify_audio(payload).ok().map(|tag| tag.role),
        Kind::Data => Some(Role::Unknown),
    }
}

/// Whether metadata names a width or a video codec.
fn speaks_of_video(payload: &[u8]) -> bool {
    match media::classify_data(payload) {
        DataRole::Metadata { body } => media::announces_video(body),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"\x17\x01\x00\x00\x00key";
    const INTER: &[u8] = b"\x27\x01\x00\x00\x00inter";
    const AVC: &[u8] = b"\x17\x00\x00\x00\x00avcC";
    const AAC: &[u8] = b"\xAF\x00asc";
    const SOUND: &[u8] = b"\xAF\x01sound";
    const META: &[u8] = b"\x02\0\x0AonMetaData\x08\0\0\0\0\0\0\x09";
    const META_VIDEO: &[u8] = b"\x02\0\x0AonMetaData\x08\0\0\0\x01\0\x05width\0\x40\x80\0\0\0\0\0\0\0\0\x09";

    #[test]
    fn a_source_begins_at_its_keyframe_and_nothing_before_it_is_lost_that_is_of_use() {
        let mut prelude = Prelude::default();
        let before = [(Kind::Data, META), (Kind::Audio, AAC), (Kind::Video, AVC), (Kind::Audio, SOUND)];
        for (kind, payload) in before {
            assert!(!prelude.take(kind, 5, payload));
        }
        assert!(!prelude.take(Kind::Video, 6, INTER) && !prelude.take(Kind::Audio, 5_000, SOUND));
        assert!(prelude.take(Kind::Video, 7, KEY));
        let held = prelude.release();
        let payloads: Vec<_> = held.iter().map(|held| &*held.payload).collect();
        assert_eq!(payloads, [META, AAC, AVC, SOUND, SOUND, KEY]);
        assert!(prelude.release().is_empty());
    }

    #[test]
    fn audio_alone_begins_once_no_video_is_in_sight() {
        for (meta, begins) in [(META, true), (META_VIDEO, false)] {
            let mut prelude = Prelude::default();
            prelude.take(Kind::Data, 0, meta);
            assert!(!prelude.take(Kind::Audio, u32::MAX - 10, SOUND), "there may be video yet");
            assert!(!prelude.take(Kind::Audio, PRELUDE_AUDIO_MS - 20, SOUND));
            assert_eq!(prelude.take(Kind::Audio, PRELUDE_AUDIO_MS - 11, SOUND), begins);
        }
    }

    #[test]
    fn a_later_keyframe_takes_the_place_of_what_was_kept_of_the_one_before() {
        let mut prelude = Prelude::default();
        for (kind, payload) in [(Kind::Video, AVC), (Kind::Video, KEY), (Kind::Audio, AAC), (Kind::Audio, SOUND)] {
            prelude.take(kind, 0, payload);
        }
        assert!(prelude.take(Kind::Video, 9, KEY));
        let held: Vec<_> = prelude.release().into_iter().map(|held| (held.timestamp, held.payload)).collect();
        assert_eq!(held, [(0, AVC.into()), (0, AAC.into()), (9, KEY.into())]);
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_keyframe_always_is() {
        let mut prelude = Prelude::default();
        prelude.take(Kind::Video, 0, AVC);
        for at in 0..2 * PRELUDE_MESSAGES_MAX {
            prelude.take(Kind::Audio, at as u32, &[&SOUND[..2], &vec![0; PRELUDE_BYTES_MAX / 100]].concat());
        }
        assert!(prelude.bytes <= PRELUDE_BYTES_MAX);
        assert!(prelude.take(Kind::Video, 9, KEY));
        assert_eq!(&*prelude.release().last().expect("held").payload, KEY);
    }
}
