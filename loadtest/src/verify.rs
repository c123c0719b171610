//! What a verified player checks of every message: nothing lost, repeated, reordered or damaged, timestamps never
//! falling, sequence headers before the frames that need them.

use crate::payload::{self, Stamp, Tag, Track};
use serde::Serialize;
use shardcast::rtmp::message::Kind;

/// What verified players found, summed over all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    pub players: u64,
    /// Stamped frames received.
    pub frames: u64,
    /// Frames between a player's first and the publisher's last that did not come.
    pub lost: u64,
    /// Frames that came again or after a later one.
    pub disordered: u64,
    /// Messages whose bytes are not those that were sent, or belong to another stream.
    pub corrupt: u64,
    /// Messages with a timestamp below the last one of their track.
    pub timestamps_backwards: u64,
    /// Tracks that began before their sequence header.
    pub header_missing: u64,
    /// Players that got no frame of a track that was sent.
    pub tracks_silent: u64,
    /// Players whose first video frame was no keyframe. Some servers do this by design, so it is no fault here.
    pub joined_without_keyframe: u64,
}

impl Findings {
    pub fn add(&mut self, other: &Findings) {
        self.players += other.players;
        self.frames += other.frames;
        self.lost += other.lost;
        self.disordered += other.disordered;
        self.corrupt += other.corrupt;
        self.timestamps_backwards += other.timestamps_backwards;
        self.header_missing += other.header_missing;
        self.tracks_silent += other.tracks_silent;
        self.joined_without_keyframe += other.joined_without_keyframe;
    }
}

/// One player's view of one stream.
pub struct Verifier {
    stream: u32,
    tracks: [TrackView; 2],
    findings: Findings,
}

#[derive(Clone, Copy, Default)]
struct TrackView {
    header_seen: bool,
    /// The sequence that has to come next; `None` before the first.
    next: Option<u64>,
    timestamp: Option<u32>,
    /// Frames that came already may come again: they come from another server.
    overlaps: bool,
}

impl Verifier {
    pub fn new(stream: u32) -> Self {
        Self { stream, tracks: Default::default(), findings: Findings { players: 1, ..Findings::default() } }
    }

    /// Takes one message; returns its stamp if it is an undamaged frame in order.
    pub fn message(&mut self, kind: Kind, timestamp: u32, payload: &[u8]) -> Option<Stamp> {
        let track = match kind {
            Kind::Audio => Track::Audio,
            Kind::Video => Track::Video,
            Kind::Data => return None,
        };
        let view = &mut self.tracks[track.index()];
        if view.timestamp.is_some_and(|last| timestamp.wrapping_sub(last).cast_signed() < 0) {
            self.findings.timestamps_backwards += 1;
        }
        view.timestamp = Some(timestamp);
        match payload::verify(track, payload) {
            Ok(Tag::SequenceHeader(_)) => {
                view.header_seen = true;
                None
            }
            Ok(Tag::Frame(stamp)) if stamp.stream == self.stream => self.frame(stamp),
            Ok(Tag::Frame(_)) | Err(_) => {
                self.findings.corrupt += 1;
                None
            }
        }
    }

    /// What comes next comes from another server, which may have begun before the first one ended.
    pub fn moved(&mut self) {
        for view in &mut self.tracks {
            (view.overlaps, view.timestamp) = (true, None);
        }
    }

    /// The video frame that has to come next.
    pub fn next_video(&self) -> Option<u64> {
        self.tracks[Track::Video.index()].next
    }

    fn frame(&mut self, stamp: Stamp) -> Option<Stamp> {
        let view = &mut self.tracks[stamp.track.index()];
        if view.overlaps && view.next.is_some_and(|next| stamp.sequence < next) {
            return None;
        }
        view.overlaps = false;
        self.findings.frames += 1;
        let next = view.next.unwrap_or_else(|| {
            self.findings.header_missing += u64::from(!view.header_seen);
            self.findings.joined_without_keyframe += u64::from(stamp.track == Track::Video && !stamp.keyframe);
            stamp.sequence
        });
        if stamp.sequence < next {
            self.findings.disordered += 1;
            return None;
        }
        self.findings.lost += stamp.sequence - next;
        view.next = Some(stamp.sequence + 1);
        Some(stamp)
    }

    /// Whether the last of the frames sent, by [`Track::index`], have come.
    pub fn complete(&self, sent: [u64; 2]) -> bool {
        self.tracks.iter().zip(sent).all(|(view, sent)| sent == 0 || view.next.is_some_and(|next| next >= sent))
    }

    /// Everything found, given how many frames of each track the publisher sent.
    pub fn finish(mut self, sent: [u64; 2]) -> Findings {
        for (view, sent) in self.tracks.iter().zip(sent) {
            match view.next {
                Some(next) => self.findings.lost += sent.saturating_sub(next),
                None => self.findings.tracks_silent += u64::from(sent > 0),
            }
        }
        self.findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::{AAC_SEQUENCE_HEADER, AVC_SEQUENCE_HEADER, FrameWriter};

    fn video(sequence: u64) -> Vec<u8> {
        let stamp =
            Stamp { stream: 3, track: Track::Video, sequence, due_ns: 1, keyframe: sequence.is_multiple_of(60) };
        FrameWriter::new().write(&stamp, 500).to_vec()
    }

    fn after(sequences: &[u64]) -> Verifier {
        let mut verifier = Verifier::new(3);
        verifier.message(Kind::Video, 0, AVC_SEQUENCE_HEADER);
        for (at, sequence) in sequences.iter().enumerate() {
            verifier.message(Kind::Video, u32::try_from(at).unwrap() * 33, &video(*sequence));
        }
        verifier
    }

    fn clean(frames: u64) -> Findings {
        Findings { players: 1, frames, ..Findings::default() }
    }

    #[test]
    fn all_frames_from_the_first_to_the_last_are_clean() {
        let verifier = after(&[60, 61, 62, 63]);
        assert!(verifier.complete([0, 64]) && !verifier.complete([0, 65]) && !verifier.complete([1, 64]));
        assert_eq!(verifier.finish([0, 64]), clean(4));
    }

    #[test]
    fn gaps_and_a_missing_end_are_lost_frames() {
        assert_eq!(after(&[60, 61, 64]).finish([0, 70]), Findings { lost: 2 + 5, ..clean(3) });
    }

    #[test]
    fn repeated_and_reordered_frames_are_disorder() {
        let findings = after(&[60, 62, 61, 62, 63]).finish([0, 64]);
        assert_eq!(findings, Findings { lost: 1, disordered: 2, ..clean(5) });
    }

    #[test]
    fn frames_that_two_servers_sent_count_once() {
        let mut verifier = after(&[60, 61, 62]);
        verifier.moved();
        for sequence in [60, 61, 62, 63] {
            verifier.message(Kind::Video, 7, &video(sequence));
        }
        assert_eq!(verifier.finish([0, 64]), clean(4));
        let mut verifier = after(&[60, 61]);
        verifier.moved();
        verifier.message(Kind::Video, 7, &video(63));
        assert_eq!(verifier.finish([0, 64]), Findings { lost: 1, ..clean(3) }, "a gap is one all the same");
    }

    #[test]
    fn damage_and_foreign_streams_are_corrupt() {
        let mut verifier = after(&[60]);
        let mut damaged = video(61);
        damaged[400] ^= 1;
        assert_eq!(verifier.message(Kind::Video, 40, &damaged), None);
        let foreign = Stamp { stream: 4, track: Track::Video, sequence: 62, due_ns: 1, keyframe: false };
        assert_eq!(verifier.message(Kind::Video, 41, FrameWriter::new().write(&foreign, 500)), None);
        assert_eq!(verifier.finish([0, 63]), Findings { corrupt: 2, lost: 2, ..clean(1) });
    }

    #[test]
    fn timestamps_may_wrap_but_not_fall() {
        let mut verifier = after(&[]);
        for (sequence, timestamp) in [(60, u32::MAX - 10), (61, 23), (62, 22), (63, 22)] {
            verifier.message(Kind::Video, timestamp, &video(sequence));
        }
        // From the header's 0 to the first frame's u32::MAX - 10 is a step back as well.
        assert_eq!(verifier.finish([0, 64]), Findings { timestamps_backwards: 2, ..clean(4) });
    }

    #[test]
    fn a_track_needs_its_header_a_keyframe_and_any_frame_at_all() {
        let mut verifier = Verifier::new(3);
        verifier.message(Kind::Audio, 0, AAC_SEQUENCE_HEADER);
        verifier.message(Kind::Data, 0, b"onMetaData");
        verifier.message(Kind::Video, 0, &video(61));
        let expected = Findings { header_missing: 1, joined_without_keyframe: 1, tracks_silent: 1, ..clean(1) };
        assert_eq!(verifier.finish([9, 62]), expected);
    }
}
