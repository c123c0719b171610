//! What a source sends before the stream is taken from it.
//!
//! A source is worth taking once players can begin with what it sends: at a keyframe or, where no video is in sight, once
//! half a second of audio has come. Headers, metadata and audio from before are kept, so that nothing is missing of
//! a stream that begins. It may be taken later than that, at any time: what followed the newest keyframe is kept too, as
//! frames to come depend on it. Bounds: [`PRELUDE_MESSAGES_MAX`] and [`PRELUDE_BYTES_MAX`]; where there is no room,
//! media goes, and video begins at the next keyframe.

use crate::{
    limits::{PRELUDE_AUDIO_MS, PRELUDE_BYTES_MAX, PRELUDE_MESSAGES_MAX},
    media::{self, DataRole, Role},
    rtmp::message::Kind,
};

/// A message that is kept.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) kind: Kind,
    pub(super) timestamp: u32,
    pub(super) payload: Box<[u8]>,
}

/// A message, and whether it is of media, not a header.
#[derive(Debug)]
struct Kept {
    message: Held,
    is_coded: bool,
}

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Prelude {
    held: Vec<Kept>,
    bytes: usize,
    video_seen: bool,
    /// All since a keyframe is here.
    has_gop: bool,
    /// A keyframe has been here.
    has_begun: bool,
    first_audio: Option<u32>,
}

impl Prelude {
    /// Takes one message in. True if players can begin now.
    pub(super) fn take(&mut self, kind: Kind, timestamp: u32, payload: &[u8]) -> bool {
        let role = match kind {
            Kind::Video => media::classify_video(payload).map(|tag| tag.role),
            Kind::Audio => media::classify_audio(payload).map(|tag| tag.role),
            Kind::Data => Ok(Role::Unknown),
        };
        // A malformed message is the log's to count, once the stream is taken.
        let Ok(role) = role else { return false };
        self.video_seen |= kind == Kind::Video || (kind == Kind::Data && speaks_of_video(payload));
        let begins = match (kind, role) {
            (Kind::Video, Role::Keyframe) => {
                if std::mem::replace(&mut self.has_begun, true) {
                    self.drop_coded();
                }
                true
            }
            // Nothing can be done with what depends on frames that are not here.
            (Kind::Video, Role::Coded) if !self.has_gop => return false,
            (Kind::Audio, Role::Coded) => {
                let first = *self.first_audio.get_or_insert(timestamp);
                !self.video_seen && timestamp.wrapping_sub(first) >= PRELUDE_AUDIO_MS
            }
            _ => false,
        };
        let is_coded = matches!(role, Role::Keyframe | Role::Coded);
        if !self.has_room(payload.len()) {
            self.drop_coded();
        }
        let continues = begins || kind != Kind::Video || role != Role::Coded || self.has_gop;
        if begins || (continues && self.has_room(payload.len())) {
            self.has_gop |= role == Role::Keyframe;
            self.bytes += payload.len();
            self.held.push(Kept { message: Held { kind, timestamp, payload: payload.into() }, is_coded });
        }
        begins
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.held.len() < PRELUDE_MESSAGES_MAX && self.bytes + bytes <= PRELUDE_BYTES_MAX
    }

    fn drop_coded(&mut self) {
        self.has_gop = false;
        self.held.retain(|kept| !kept.is_coded);
        self.bytes = self.held.iter().map(|kept| kept.message.payload.len()).sum();
    }

    /// The time of the keyframe that its video begins with.
    pub(super) fn keyframe(&self) -> Option<u32> {
        let mut coded = self.held.iter().filter(|kept| kept.is_coded).map(|kept| &kept.message);
        coded.find(|message| message.kind == Kind::Video).map(|message| message.timestamp)
    }

    /// All that was kept, in order.
    pub(super) fn release(&mut self) -> Vec<Held> {
        std::mem::take(self).held.into_iter().map(|kept| kept.message).collect()
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
    fn a_source_that_is_taken_later_has_all_since_its_newest_keyframe() {
        let mut prelude = Prelude::default();
        for payload in [AVC, INTER, KEY, INTER] {
            prelude.take(Kind::Video, 1, payload);
        }
        prelude.take(Kind::Audio, 2, SOUND);
        assert!(prelude.take(Kind::Video, 3, KEY));
        prelude.take(Kind::Audio, 4, SOUND);
        prelude.take(Kind::Video, 5, INTER);
        let held: Vec<_> = prelude.release().into_iter().map(|held| (held.timestamp, held.payload)).collect();
        assert_eq!(held, [(1, AVC.into()), (3, KEY.into()), (4, SOUND.into()), (5, INTER.into())]);
    }

    #[test]
    fn a_gop_that_is_too_large_is_given_up_whole_and_headers_are_not() {
        let mut prelude = Prelude::default();
        for payload in [AVC, KEY, &[INTER, &vec![0; PRELUDE_BYTES_MAX - 20]].concat(), INTER, INTER] {
            prelude.take(Kind::Video, 1, payload);
        }
        prelude.take(Kind::Audio, 2, AAC);
        assert!(prelude.bytes <= PRELUDE_BYTES_MAX);
        let held: Vec<_> = prelude.held.iter().map(|kept| &*kept.message.payload).collect();
        assert_eq!(held, [AVC, AAC]);
        assert!(prelude.take(Kind::Video, 3, KEY) && !prelude.take(Kind::Video, 4, INTER));
        assert_eq!(prelude.release().len(), 4);
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
