//! What is published: short clips, encoded once by a current FFmpeg and kept in the build's temporary folder.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::common::{
    flv::{self, Recording},
    media::{AAC, H264, PICTURE, SOUND, encode},
    packets::{Track, assert_distinct},
    seconds,
    tool::{Client, new_ffmpeg, scratch},
};

/// See the file's head.
pub struct Content {
    /// As the ledger calls it.
    pub title: &'static str,
    name: &'static str,
    parts: &'static [&'static [&'static str]],
    pub seconds: u64,
    /// How long the stream must have run so that a late player cannot begin with the first packet.
    pub late_ms: u64,
    /// Added to all times by the publisher.
    pub shift_ms: u64,
    /// Only Enhanced RTMP can say it.
    pub enhanced: bool,
    made: OnceLock<(PathBuf, Recording)>,
}

/// Timestamps of three bytes end here.
pub const EXTENDED_FROM_MS: u64 = 0xFF_FFFF;
/// How long before a boundary shifted clips begin.
const LEAD_MS: u64 = 1_500;
const SLOW_SECONDS: u64 = 7;

const HEVC: &[&str] = &[
    "-c:v",
    "libx265",
    "-preset",
    "ultrafast",
    "-x265-params",
    "keyint=30:min-keyint=30:scenecut=0:bframes=2:log-level=error:pools=1:frame-threads=1",
];
const AV1: &[&str] = &["-c:v", "libaom-av1", "-usage", "realtime", "-cpu-used", "8", "-g", "30", "-threads", "1"];
const VP9: &[&str] = &["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "30", "-threads", "1"];
/// Noise, so that keyframes have more than a mebibyte; none in between, so that the clip ends with small frames.
const PICTURE_4K: &[&str] = &[
    "-f",
    "lavfi",
    "-i",
    "testsrc2=size=3840x2160:rate=5,noise=alls=5:allf=t:all_seed=5:enable='not(mod(n,5))',format=yuv420p",
];
const H264_4K: &[&str] = &["-c:v", "libx264", "-preset", "ultrafast", "-threads", "1", "-crf", "24", "-g", "5"];
const PICTURE_1_FPS: &[&str] = &["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=1"];
const H264_1_FPS: &[&str] =
    &["-c:v", "libx264", "-preset", "ultrafast", "-threads", "1", "-g", "2", "-pix_fmt", "yuv420p"];
const SOUND_48K: &[&str] = &["-f", "lavfi", "-i", "anoisesrc=seed=7:amplitude=0.1:sample_rate=48000"];

pub static CONTENTS: [Content; 13] = [
    Content::new("H.264 with B-frames, AAC", "h264", &[PICTURE, SOUND, H264, AAC]),
    Content::new("H.264 4K, keyframes above 1 MB", "4k", &[PICTURE_4K, H264_4K]),
    Content::new("H.264 at 1 frame per second, AAC", "1fps", &[PICTURE_1_FPS, SOUND, H264_1_FPS, AAC]).slow(),
    Content::new("AAC alone", "aac", &[SOUND, AAC]),
    Content::new("H.264 alone", "h264-alone", &[PICTURE, H264]),
    Content::new("timestamps that pass 0xFFFFFF", "h264", &[PICTURE, SOUND, H264, AAC])
        .shifted(EXTENDED_FROM_MS - LEAD_MS),
    Content::new("timestamps that wrap", "h264", &[PICTURE, SOUND, H264, AAC]).shifted((1 << 32) - LEAD_MS),
    Content::new("HEVC, AAC", "hevc", &[PICTURE, SOUND, HEVC, AAC]).enhanced(),
    Content::new("AV1", "av1", &[PICTURE, AV1]).enhanced(),
    Content::new("VP9", "vp9", &[PICTURE, VP9]).enhanced(),
    Content::new("Opus", "opus", &[SOUND_48K, &["-c:a", "libopus"]]).enhanced(),
    Content::new("FLAC", "flac", &[SOUND_48K, &["-c:a", "flac"]]).enhanced(),
    Content::new("AC-3", "ac3", &[SOUND_48K, &["-c:a", "ac3"]]).enhanced(),
];

/// Copies a file's packets into another container.
pub fn remux(from: &Path, to: &Path) {
    let mut command = Command::new(new_ffmpeg());
    command.args(["-nostdin", "-v", "error", "-i"]).arg(from).args(["-c", "copy"]).arg(to);
    Client::spawn(&mut command).finish(seconds(30));
}

impl Content {
    const fn new(title: &'static str, name: &'static str, parts: &'static [&'static [&'static str]]) -> Self {
        Self { title, name, parts, seconds: 4, late_ms: 1_200, shift_ms: 0, enhanced: false, made: OnceLock::new() }
    }

    const fn slow(mut self) -> Self {
        self.seconds = SLOW_SECONDS;
        self.late_ms = 2_500;
        self
    }

    const fn shifted(mut self, shift_ms: u64) -> Self {
        self.shift_ms = shift_ms;
        self
    }

    const fn enhanced(mut self) -> Self {
        self.enhanced = true;
        self
    }

    /// Messages that a stream has had after [`late_ms`](Self::late_ms), metadata and headers among them.
    pub fn late_messages(&self) -> u64 {
        const BEFORE_MEDIA: u64 = 4;
        BEFORE_MEDIA + self.recording().packets.len() as u64 * self.late_ms / (self.seconds * 1_000)
    }

    /// Whether frames are a second apart.
    pub fn is_slow(&self) -> bool {
        self.seconds == SLOW_SECONDS
    }

    /// Whether its timestamps pass 2^32.
    pub fn wraps(&self) -> bool {
        self.shift_ms > u64::from(u32::MAX / 2)
    }

    fn made(&self) -> &(PathBuf, Recording) {
        self.made.get_or_init(|| {
            // Copied once: FFmpeg's copy of VP9 has another configuration record than its encoder's output.
            let path = scratch("source.flv");
            remux(&encode(new_ffmpeg(), self.name, self.seconds, self.parts), &path);
            let recording = flv::read(&path);
            assert_distinct(&recording.packets);
            assert!(recording.packets[0].key, "{}: every track's packets follow a keyframe", self.title);
            (path, recording)
        })
    }

    pub fn path(&self) -> &PathBuf {
        &self.made().0
    }

    /// What the file holds.
    pub fn recording(&self) -> &Recording {
        &self.made().1
    }

    pub fn has(&self, track: Track) -> bool {
        self.recording().packets.iter().any(|packet| packet.track == track)
    }

    pub fn tracks(&self) -> Vec<Track> {
        [Track::Video, Track::Audio].into_iter().filter(|track| self.has(*track)).collect()
    }
}
