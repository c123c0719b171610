//! When each frame of a stream is due, and how large it is. Pure arithmetic: due times never drift and do not depend
//! on when earlier frames were really sent.

use crate::payload::{AUDIO_BYTES_MIN, FRAME_BYTES_MAX, Track, VIDEO_BYTES_MIN};

/// Samples per AAC frame and samples per second.
const AAC_FRAME_SAMPLES: u64 = 1_024;
const AAC_SAMPLES_PER_SECOND: u64 = 44_100;
const AUDIO_BITS_PER_SECOND: u64 = 128_000;
/// A keyframe is this many times as large as an inter frame.
const KEYFRAME_WEIGHT: u64 = 8;

const SECOND_NS: u64 = 1_000_000_000;

/// The shape of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Of the video alone; audio adds 128 kb/s.
    pub video_bits_per_second: u64,
    pub frames_per_second: u64,
    pub gop_ns: u64,
    pub audio: bool,
}

/// One frame that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    pub due_ns: u64,
    pub track: Track,
    pub sequence: u64,
    pub keyframe: bool,
    pub bytes: usize,
    /// Of the RTMP message; the stream begins at 0.
    pub timestamp_ms: u32,
}

/// Hands out the frames of one stream in the order they are due.
pub struct Schedule {
    shape: Shape,
    start_ns: u64,
    gop_frames: u64,
    inter_bytes: u64,
    /// Frames handed out, by [`Track::index`].
    taken: [u64; 2],
}

impl Schedule {
    /// The first video and audio frames are due at `start_ns`.
    pub fn new(shape: Shape, start_ns: u64) -> Self {
        let gop_frames = mul_div(shape.gop_ns, shape.frames_per_second, SECOND_NS).max(1);
        let gop_bytes = mul_div(shape.video_bits_per_second, gop_frames, 8 * shape.frames_per_second.max(1));
        let inter_bytes = gop_bytes / (gop_frames - 1 + KEYFRAME_WEIGHT);
        Self { shape, start_ns, gop_frames, inter_bytes, taken: [0; 2] }
    }

    /// When the next frame is due, in ns.
    pub fn next_due_ns(&self) -> u64 {
        match self.next_track() {
            Track::Audio => self.audio_due_ns(),
            Track::Video => self.video_due_ns(),
        }
    }

    /// The next frame, which is due at [`Self::next_due_ns`].
    pub fn take(&mut self) -> Frame {
        let track = self.next_track();
        let due_ns = self.next_due_ns();
        let sequence = self.taken[track.index()];
        let keyframe = track == Track::Video && sequence.is_multiple_of(self.gop_frames);
        let bytes = match track {
            Track::Video => self.video_bytes(sequence, keyframe),
            Track::Audio => audio_bytes(),
        };
        self.taken[track.index()] += 1;
        // Modulo 2^32, as RTMP timestamps are.
        let timestamp_ms = ((due_ns - self.start_ns) / 1_000_000) as u32;
        Frame { due_ns, track, sequence, keyframe, bytes, timestamp_ms }
    }

    /// Frames handed out, by [`Track::index`].
    pub fn taken(&self) -> [u64; 2] {
        self.taken
    }

    /// Of video frames.
    pub fn mean_bytes(&self) -> u64 {
        self.inter_bytes * (self.gop_frames - 1 + KEYFRAME_WEIGHT) / self.gop_frames
    }

    fn next_track(&self) -> Track {
        if self.shape.audio && self.audio_due_ns() < self.video_due_ns() { Track::Audio } else { Track::Video }
    }

    fn video_due_ns(&self) -> u64 {
        let sequence = self.taken[Track::Video.index()];
        self.start_ns + mul_div(sequence, SECOND_NS, self.shape.frames_per_second.max(1))
    }

    fn audio_due_ns(&self) -> u64 {
        let sequence = self.taken[Track::Audio.index()];
        self.start_ns + mul_div(sequence, AAC_FRAME_SAMPLES * SECOND_NS, AAC_SAMPLES_PER_SECOND)
    }

    /// Inter frames vary by a quarter either way, in a fixed pattern whose mean is the plain size.
    fn video_bytes(&self, sequence: u64, keyframe: bool) -> usize {
        let bytes = match keyframe {
            true => self.inter_bytes * KEYFRAME_WEIGHT,
            false => self.inter_bytes * (75 + sequence * 7 % 51) / 100,
        };
        usize::try_from(bytes).unwrap_or(usize::MAX).clamp(VIDEO_BYTES_MIN, FRAME_BYTES_MAX)
    }
}

fn audio_bytes() -> usize {
    let bytes = mul_div(AUDIO_BITS_PER_SECOND, AAC_FRAME_SAMPLES, 8 * AAC_SAMPLES_PER_SECOND);
    usize::try_from(bytes).unwrap_or(usize::MAX).max(AUDIO_BYTES_MIN)
}

/// `a * b / c` without overflow in between.
fn mul_div(a: u64, b: u64, c: u64) -> u64 {
    u64::try_from(u128::from(a) * u128::from(b) / u128::from(c)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape =
        Shape { video_bits_per_second: 2_500_000, frames_per_second: 30, gop_ns: 2 * SECOND_NS, audio: true };

    fn first_seconds(shape: Shape, seconds: u64) -> Vec<Frame> {
        let mut schedule = Schedule::new(shape, 1_000);
        let end = 1_000 + seconds * SECOND_NS;
        std::iter::from_fn(|| (schedule.next_due_ns() < end).then(|| schedule.take())).collect()
    }

    #[test]
    fn a_minute_has_its_frames_keyframes_and_bit_rate() {
        let frames = first_seconds(SHAPE, 60);
        let video: Vec<_> = frames.iter().filter(|frame| frame.track == Track::Video).collect();
        assert_eq!(video.len(), 1_800);
        assert_eq!(video.iter().filter(|frame| frame.keyframe).count(), 30);
        assert_eq!(frames.len() - video.len(), 2_584, "44,100 / 1,024 audio frames a second");
        let bits: usize = video.iter().map(|frame| frame.bytes * 8).sum();
        let mean = Schedule::new(SHAPE, 0).mean_bytes() as f64;
        assert!((bits as f64 / 8.0 / 1_800.0 / mean - 1.0).abs() < 0.01, "{mean} bytes on average");
        assert!((bits as f64 / 60.0 / 2_500_000.0 - 1.0).abs() < 0.01, "{bits} bits");
    }

    #[test]
    fn due_times_rise_and_do_not_drift() {
        let frames = first_seconds(SHAPE, 3_600);
        assert!(frames.windows(2).all(|pair| pair[0].due_ns <= pair[1].due_ns));
        let last = frames.iter().rev().find(|frame| frame.track == Track::Video).unwrap();
        assert_eq!(last.due_ns, 1_000 + 107_999 * SECOND_NS / 30);
        assert_eq!(last.timestamp_ms, 3_599_966);
    }

    #[test]
    fn sequences_count_per_track_from_zero() {
        let frames = first_seconds(SHAPE, 2);
        for track in [Track::Audio, Track::Video] {
            let sequences = frames.iter().filter(|frame| frame.track == track).map(|frame| frame.sequence);
            assert!(sequences.eq(0..frames.iter().filter(|frame| frame.track == track).count() as u64));
        }
    }

    #[test]
    fn keyframes_are_several_times_larger() {
        let frames = first_seconds(SHAPE, 2);
        let inter =
            frames.iter().filter(|frame| frame.track == Track::Video && !frame.keyframe).map(|frame| frame.bytes);
        assert!(frames[0].keyframe && frames[0].bytes > 5 * inter.max().unwrap());
    }

    #[test]
    fn without_audio_there_is_video_only_and_odd_shapes_do_not_divide_by_zero() {
        let frames = first_seconds(Shape { audio: false, ..SHAPE }, 1);
        assert!(frames.iter().all(|frame| frame.track == Track::Video));
        let mut odd = Schedule::new(Shape { frames_per_second: 0, gop_ns: 0, ..SHAPE }, 0);
        assert!(odd.take().keyframe);
    }
}
