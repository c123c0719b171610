//! Source media, made by FFmpeg from its own generators: the same bytes each time, every packet unlike the others.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use super::{
    packets::{Packet, assert_distinct, of_file},
    seconds,
    tool::{Client, require, scratch},
};

/// An FLV file and its packets, in the file's order.
pub struct Source {
    pub path: PathBuf,
    pub packets: Vec<Packet>,
}

/// How long every source plays.
pub const SOURCE_SECONDS: u64 = 6;

pub const PICTURE: &[&str] = &["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30"];
// Noise, because frames of a tone may be equal.
pub const SOUND: &[&str] = &["-f", "lavfi", "-i", "anoisesrc=seed=7:amplitude=0.1:sample_rate=44100"];
/// H.264 with two B-frames between references and a keyframe each second.
pub const H264: &[&str] = &[
    "-c:v",
    "libx264",
    "-preset",
    "veryfast",
    "-threads",
    "1",
    "-bf",
    "2",
    "-g",
    "30",
    "-keyint_min",
    "30",
    "-sc_threshold",
    "0",
    "-pix_fmt",
    "yuv420p",
];
pub const AAC: &[&str] = &["-c:a", "aac", "-b:a", "64k"];

/// H.264 with B-frames, and AAC.
pub fn av() -> &'static Source {
    static MADE: OnceLock<Source> = OnceLock::new();
    MADE.get_or_init(|| make("av", &[PICTURE, SOUND, H264, AAC]))
}

pub fn audio_only() -> &'static Source {
    static MADE: OnceLock<Source> = OnceLock::new();
    MADE.get_or_init(|| make("audio", &[SOUND, AAC]))
}

pub fn video_only() -> &'static Source {
    static MADE: OnceLock<Source> = OnceLock::new();
    MADE.get_or_init(|| make("video", &[PICTURE, H264]))
}

fn make(name: &str, parts: &[&[&str]]) -> Source {
    let path = encode(require("ffmpeg"), name, SOURCE_SECONDS, parts);
    let packets = of_file(&path);
    assert_distinct(&packets);
    assert!(packets[0].key, "every track's packets follow a keyframe");
    Source { path, packets }
}

/// An FLV file encoded by FFmpeg (by `program`), or the one that was encoded in the same way before.
pub fn encode(program: &str, name: &str, length_s: u64, parts: &[&[&str]]) -> PathBuf {
    let mut recipe = DefaultHasher::new();
    (parts, length_s).hash(&mut recipe);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{:016x}.flv", recipe.finish()));
    if !path.is_file() {
        // Another test binary may be making it too: whoever is last puts the same bytes in place.
        let unfinished = scratch("source.flv");
        let mut command = Command::new(program);
        command.args(["-nostdin", "-v", "error", "-y"]).args(parts.concat());
        command.args(["-t", &length_s.to_string(), "-map_metadata", "-1", "-fflags", "+bitexact", "-f", "flv"]);
        Client::spawn(command.arg(&unfinished)).finish(seconds(60));
        std::fs::rename(&unfinished, &path).expect("both are in the build's temporary folder");
    }
    path
}

/// FFmpeg (by `program`) publishing a source at its own pace. It ends by itself.
pub fn publish(program: &str, source: &Source, url: &str) -> Client {
    publish_file(program, &source.path, 0, url)
}

/// As `publish`, with `shift_ms` added to all times.
pub fn publish_file(program: &str, path: &Path, shift_ms: u64, url: &str) -> Client {
    let mut command = Command::new(program);
    command.args(["-nostdin", "-v", "error", "-re", "-i"]).arg(path).args(["-c", "copy"]);
    command.args(["-output_ts_offset", &format!("{shift_ms}ms"), "-f", "flv", url]);
    Client::spawn(&mut command)
}

/// FFmpeg (by `program`) as a player that writes what it gets to `file`. It ends with the stream.
pub fn play(program: &str, url: &str, file: &Path) -> Client {
    let mut command = Command::new(program);
    command.args(["-nostdin", "-v", "error", "-y", "-i", url, "-c", "copy", "-f", "flv"]).arg(file);
    Client::spawn(&mut command)
}
