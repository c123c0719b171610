//! What a publisher sends: FLV tags that look like H.264 and AAC, each with a stamp from which a player can tell loss,
//! disorder, damage and delay.
//!
//! A frame is its ordinary FLV tag header (FLV 10.1, E.4.2 and E.4.3), for video one length-prefixed NAL unit, then
//! the stamp, then noise. All stamp fields are big-endian:
//!
//! ```text
//! magic u32 | stream u32 | sequence u64 | due, ns of CLOCK_MONOTONIC u64 | bytes of the whole payload u32 | checksum u64
//! ```
//!
//! The checksum covers the whole payload but itself, so a swapped or torn chunk anywhere in a message shows.

use shardcast::rtmp::message::Kind;

/// Bytes of a stamp.
pub const STAMP_BYTES: usize = 36;
/// Tag header, NAL length and NAL header.
const VIDEO_PREFIX_BYTES: usize = 10;
const AUDIO_PREFIX_BYTES: usize = 2;
/// The smallest frames that hold a stamp.
pub const VIDEO_BYTES_MIN: usize = VIDEO_PREFIX_BYTES + STAMP_BYTES;
pub const AUDIO_BYTES_MIN: usize = AUDIO_PREFIX_BYTES + STAMP_BYTES;
/// Largest frame: the longest RTMP message.
pub const FRAME_BYTES_MAX: usize = 0xFF_FFFF;

const MAGIC: u32 = 0x5C4C_7E57;
const CHECKSUM_OFFSET: usize = 28;
const NOISE_BYTES: usize = 1 << 16;

/// AVCDecoderConfigurationRecord of a 1280x720 High 3.1 stream, as an FLV tag.
pub const AVC_SEQUENCE_HEADER: &[u8] = &[
    0x17, 0, 0, 0, 0, 1, 0x64, 0, 0x1F, 0xFF, 0xE1, 0, 26, 0x67, 0x64, 0, 0x1F, 0xAC, 0xD9, 0x40, 0x50, 0x05, 0xBB,
    0x01, 0x10, 0, 0, 3, 0, 0x10, 0, 0, 3, 3, 0xC0, 0xF1, 0x83, 0x19, 0x60, 1, 0, 6, 0x68, 0xEB, 0xE3, 0xCB, 0x22,
    0xC0,
];
/// AudioSpecificConfig of AAC-LC, 44.1 kHz, stereo, as an FLV tag.
pub const AAC_SEQUENCE_HEADER: &[u8] = &[0xAF, 0, 0x12, 0x10];

/// The two tracks a publisher sends. Sequences, timestamps and losses are per track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Track {
    Audio,
    Video,
}

impl Track {
    pub fn kind(self) -> Kind {
        match self {
            Track::Audio => Kind::Audio,
            Track::Video => Kind::Video,
        }
    }

    pub fn index(self) -> usize {
        match self {
            Track::Audio => 0,
            Track::Video => 1,
        }
    }
}

/// What a frame says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub stream: u32,
    pub track: Track,
    /// Counts the frames of this track from 0.
    pub sequence: u64,
    /// When the frame was due to be sent, in ns of CLOCK_MONOTONIC.
    pub due_ns: u64,
    pub keyframe: bool,
}

/// One media message as a player sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    SequenceHeader(Track),
    Frame(Stamp),
}

/// Why a message is not what a publisher sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Too short for its tag header and stamp, or a tag no publisher sent.
    Tag,
    Magic,
    Length,
    Checksum,
    /// A sequence header that differs from the published one.
    SequenceHeader,
}

/// Builds frames, reusing one buffer.
pub struct FrameWriter {
    noise: Vec<u8>,
    frame: Vec<u8>,
}

impl FrameWriter {
    pub fn new() -> Self {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let noise = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        Self { noise: noise.take(NOISE_BYTES / 8).flatten().collect(), frame: Vec::new() }
    }

    /// The payload of one message, `bytes` long, or as long as the smallest and largest frame allow.
    pub fn write(&mut self, stamp: &Stamp, bytes: usize) -> &[u8] {
        self.frame.clear();
        let bytes = match stamp.track {
            Track::Video => self.video_prefix(stamp.keyframe, bytes),
            Track::Audio => self.audio_prefix(bytes),
        };
        let at = self.frame.len();
        self.frame.extend_from_slice(&MAGIC.to_be_bytes());
        self.frame.extend_from_slice(&stamp.stream.to_be_bytes());
        self.frame.extend_from_slice(&stamp.sequence.to_be_bytes());
        self.frame.extend_from_slice(&stamp.due_ns.to_be_bytes());
        self.frame.extend_from_slice(&u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes());
        self.frame.extend_from_slice(&[0; 8]);
        self.fill(bytes, stamp.sequence);
        let sum = checksum(&self.frame, at + CHECKSUM_OFFSET).to_be_bytes();
        self.frame[at + CHECKSUM_OFFSET..at + STAMP_BYTES].copy_from_slice(&sum);
        &self.frame
    }

    fn video_prefix(&mut self, keyframe: bool, bytes: usize) -> usize {
        let bytes = bytes.clamp(VIDEO_BYTES_MIN, FRAME_BYTES_MAX);
        let (tag, nal) = if keyframe { (0x17, 0x65) } else { (0x27, 0x41) };
        self.frame.extend_from_slice(&[tag, 1, 0, 0, 0]);
        self.frame.extend_from_slice(&u32::try_from(bytes - 9).unwrap_or(u32::MAX).to_be_bytes());
        self.frame.push(nal);
        bytes
    }

    fn audio_prefix(&mut self, bytes: usize) -> usize {
        self.frame.extend_from_slice(&[0xAF, 1]);
        bytes.clamp(AUDIO_BYTES_MIN, FRAME_BYTES_MAX)
    }

    /// Noise from a place that depends on the sequence, so that equal places of two frames differ.
    fn fill(&mut self, bytes: usize, sequence: u64) {
        let mut from = usize::try_from(sequence.wrapping_mul(40_503) % NOISE_BYTES as u64).unwrap_or(0);
        while self.frame.len() < bytes {
            let take = (bytes - self.frame.len()).min(NOISE_BYTES - from);
            self.frame.extend_from_slice(&self.noise[from..from + take]);
            from = 0;
        }
    }
}

/// Reads a message and verifies all of it.
///
/// # Errors
/// What is wrong with it.
pub fn verify(track: Track, payload: &[u8]) -> Result<Tag, Damage> {
    let published = match track {
        Track::Video => AVC_SEQUENCE_HEADER,
        Track::Audio => AAC_SEQUENCE_HEADER,
    };
    match (payload.get(1), payload == published) {
        (_, true) => return Ok(Tag::SequenceHeader(track)),
        (Some(0), _) => return Err(Damage::SequenceHeader),
        (Some(1), _) => {}
        _ => return Err(Damage::Tag),
    }
    let (at, keyframe) = match (track, payload[0]) {
        (Track::Video, 0x17) => (VIDEO_PREFIX_BYTES, true),
        (Track::Video, 0x27) => (VIDEO_PREFIX_BYTES, false),
        (Track::Audio, 0xAF) => (AUDIO_PREFIX_BYTES, false),
        _ => return Err(Damage::Tag),
    };
    let stamp = payload.get(at..at + STAMP_BYTES).ok_or(Damage::Tag)?;
    if number(stamp, 0, 4) != u64::from(MAGIC) {
        return Err(Damage::Magic);
    }
    if number(stamp, 24, 4) != payload.len() as u64 {
        return Err(Damage::Length);
    }
    if number(stamp, CHECKSUM_OFFSET, 8) != checksum(payload, at + CHECKSUM_OFFSET) {
        return Err(Damage::Checksum);
    }
    let stream = u32::try_from(number(stamp, 4, 4)).unwrap_or(u32::MAX);
    Ok(Tag::Frame(Stamp { stream, track, sequence: number(stamp, 8, 8), due_ns: number(stamp, 16, 8), keyframe }))
}

/// Whether a video message is a keyframe's coded frames, from its first bytes; no verification.
pub fn is_keyframe(payload: &[u8]) -> bool {
    matches!(payload, [0x17, 1, ..])
}

/// `width` bytes at `at` of a stamp, big-endian.
fn number(stamp: &[u8], at: usize, width: usize) -> u64 {
    stamp[at..at + width].iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Over everything but the eight bytes at `hole`. Word by word: it must cost a player far less than a copy.
fn checksum(payload: &[u8], hole: usize) -> u64 {
    let (before, after) = (&payload[..hole], &payload[hole + 8..]);
    fold(fold(payload.len() as u64, before), after)
}

fn fold(seed: u64, bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(8);
    let rest = words.remainder().iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    let mix = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    let sum = words.fold(seed, |sum, word| mix(sum, u64::from_le_bytes(word.try_into().unwrap_or([0; 8]))));
    mix(sum, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(track: Track, keyframe: bool) -> Stamp {
        Stamp { stream: 7, track, sequence: 0x0102_0304_0506, due_ns: u64::MAX - 5, keyframe }
    }

    #[test]
    fn frames_come_back_as_they_were_stamped() {
        let mut writer = FrameWriter::new();
        for (stamp, bytes) in [
            (stamp(Track::Video, true), 200_001),
            (stamp(Track::Video, false), 9_000),
            (stamp(Track::Audio, false), 371),
        ] {
            let frame = writer.write(&stamp, bytes);
            assert_eq!(frame.len(), bytes);
            assert_eq!(verify(stamp.track, frame), Ok(Tag::Frame(stamp)));
            assert_eq!(is_keyframe(frame), stamp.keyframe);
        }
    }

    #[test]
    fn a_frame_is_never_too_short_for_its_stamp() {
        let mut writer = FrameWriter::new();
        assert_eq!(writer.write(&stamp(Track::Video, true), 0).len(), VIDEO_BYTES_MIN);
        assert_eq!(writer.write(&stamp(Track::Audio, false), 0).len(), AUDIO_BYTES_MIN);
    }

    #[test]
    fn every_flipped_bit_shows() {
        let stamp = stamp(Track::Video, false);
        let frame = FrameWriter::new().write(&stamp, 300).to_vec();
        for at in 0..frame.len() * 8 {
            let mut damaged = frame.clone();
            damaged[at / 8] ^= 1 << (at % 8);
            assert_ne!(verify(Track::Video, &damaged), Ok(Tag::Frame(stamp)), "bit {at}");
        }
    }

    #[test]
    fn swapped_words_and_every_truncation_show() {
        let frame = FrameWriter::new().write(&stamp(Track::Audio, false), 400).to_vec();
        for len in 0..frame.len() {
            assert!(verify(Track::Audio, &frame[..len]).is_err(), "{len} bytes");
        }
        let mut swapped = frame.clone();
        let (left, right) = swapped.split_at_mut(300);
        left[100..108].swap_with_slice(&mut right[..8]);
        assert_eq!(verify(Track::Audio, &swapped), Err(Damage::Checksum));
    }

    #[test]
    fn sequence_headers_are_compared_with_the_published_ones() {
        assert_eq!(verify(Track::Video, AVC_SEQUENCE_HEADER), Ok(Tag::SequenceHeader(Track::Video)));
        assert_eq!(verify(Track::Audio, AAC_SEQUENCE_HEADER), Ok(Tag::SequenceHeader(Track::Audio)));
        assert_eq!(verify(Track::Video, &AVC_SEQUENCE_HEADER[..20]), Err(Damage::SequenceHeader));
        assert!(!is_keyframe(AVC_SEQUENCE_HEADER));
    }
}
