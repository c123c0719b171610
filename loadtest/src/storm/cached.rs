//! Tells when a player has all that a server had cached for it.
//!
//! Frames carry the moment they were due. What was due before the player asked to play was cached, up to the last such
//! frame; if the server got that one late, waiting for it counts too.

use crate::payload::{Tag, Track, verify};
use shardcast::rtmp::message::Kind;

/// What a player found cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cached {
    /// All from the keyframe due at `keyframe_ns` on: so many bytes of media.
    Whole { keyframe_ns: u64, bytes: u64 },
    /// The first frame was due after `play`.
    Nothing,
}

/// A player that has asked to play and not yet received all that was cached.
pub struct Waiting {
    asked_ns: u64,
    frame_ns: u64,
    keyframe_ns: Option<u64>,
    bytes: u64,
}

impl Waiting {
    /// It asked at `asked_ns`; video frames are due every `frame_ns`.
    pub fn new(asked_ns: u64, frame_ns: u64) -> Self {
        Self { asked_ns, frame_ns, keyframe_ns: None, bytes: 0 }
    }

    /// The next message; `Some` once it is known what was cached.
    ///
    /// # Errors
    /// The message is damaged.
    pub fn message(&mut self, kind: Kind, payload: &[u8]) -> Result<Option<Cached>, String> {
        let track = match kind {
            Kind::Video => Track::Video,
            Kind::Audio => Track::Audio,
            _ => return Ok(None),
        };
        let tag = verify(track, payload).map_err(|damage| format!("a message is damaged: {damage:?}"))?;
        let before = self.bytes;
        self.bytes += payload.len() as u64;
        let Tag::Frame(stamp) = tag else { return Ok(None) };
        if track == Track::Audio {
            return Ok(None);
        }
        if stamp.due_ns > self.asked_ns {
            // Live already: the last cached one, if any, was the one before.
            let whole = |keyframe_ns| Cached::Whole { keyframe_ns, bytes: before };
            return Ok(Some(self.keyframe_ns.map_or(Cached::Nothing, whole)));
        }
        if stamp.keyframe {
            self.keyframe_ns = Some(stamp.due_ns);
        }
        let last = stamp.due_ns + self.frame_ns > self.asked_ns;
        let whole = |keyframe_ns| Cached::Whole { keyframe_ns, bytes: self.bytes };
        Ok(self.keyframe_ns.filter(|_| last).map(whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::{AVC_SEQUENCE_HEADER, FrameWriter, Stamp};

    fn video(due_ns: u64, keyframe: bool) -> Vec<u8> {
        let stamp = Stamp { stream: 0, track: Track::Video, sequence: due_ns / 100, due_ns, keyframe };
        FrameWriter::new().write(&stamp, 200).to_vec()
    }

    #[test]
    fn the_last_frame_due_before_play_ends_what_was_cached() {
        let mut waiting = Waiting::new(1_250, 100);
        assert_eq!(waiting.message(Kind::Video, AVC_SEQUENCE_HEADER), Ok(None));
        assert_eq!(waiting.message(Kind::Video, &video(1_000, true)), Ok(None));
        assert_eq!(waiting.message(Kind::Video, &video(1_100, false)), Ok(None));
        let bytes = 600 + AVC_SEQUENCE_HEADER.len() as u64;
        let whole = Cached::Whole { keyframe_ns: 1_000, bytes };
        assert_eq!(waiting.message(Kind::Video, &video(1_200, false)), Ok(Some(whole)));
    }

    #[test]
    fn a_live_frame_ends_it_too_and_alone_means_nothing_was_cached() {
        let mut waiting = Waiting::new(1_250, 10);
        assert_eq!(waiting.message(Kind::Video, &video(1_000, true)), Ok(None));
        let whole = Cached::Whole { keyframe_ns: 1_000, bytes: 200 };
        assert_eq!(waiting.message(Kind::Video, &video(1_300, false)), Ok(Some(whole)));
        let mut late = Waiting::new(1_250, 100);
        assert_eq!(late.message(Kind::Video, &video(1_300, false)), Ok(Some(Cached::Nothing)));
    }

    #[test]
    fn damage_is_an_error() {
        let mut frame = video(1_000, true);
        frame[150] ^= 1;
        assert!(Waiting::new(1_250, 100).message(Kind::Video, &frame).is_err());
    }
}
