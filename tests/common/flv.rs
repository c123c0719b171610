//! FLV files read tag by tag, Enhanced RTMP's tags included, apart from the crate's own parser and from any client's.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::packets::{Packet, Track};

/// Bytes before the first tag: the file's header and the size of no tag.
const FILE_HEADER_BYTES: usize = 13;
const TAG_HEADER_BYTES: usize = 11;
/// Behind each tag stands its size.
const TAG_SIZE_BYTES: usize = 4;

pub const AUDIO: u8 = 8;
pub const VIDEO: u8 = 9;

pub struct Tag {
    pub type_id: u8,
    pub timestamp: u32,
    pub body: Vec<u8>,
}

/// What a player wrote down, or what a publisher reads from.
pub struct Recording {
    pub packets: Vec<Packet>,
    /// The first configuration of each track's decoder, by its hash.
    pub headers: Vec<(Track, String)>,
}

/// The tags of a file, up to one that was cut short.
pub fn tags(path: &Path) -> Vec<Tag> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(bytes.is_empty() || bytes.starts_with(b"FLV\x01"), "{} is no FLV file", path.display());
    let mut rest = bytes.get(FILE_HEADER_BYTES..).unwrap_or_default();
    let mut tags = Vec::new();
    while let Some((header, behind)) = rest.split_at_checked(TAG_HEADER_BYTES) {
        let size = unsigned(&header[1..4]) as usize;
        let Some(body) = behind.get(..size) else { break };
        let timestamp = unsigned(&header[4..7]) | u32::from(header[7]) << 24;
        tags.push(Tag { type_id: header[0], timestamp, body: body.to_vec() });
        rest = behind.get(size + TAG_SIZE_BYTES..).unwrap_or_default();
    }
    tags
}

pub fn read(path: &Path) -> Recording {
    let mut recording = Recording { packets: Vec::new(), headers: Vec::new() };
    let mut clock = Clock::default();
    for tag in tags(path) {
        let track = match tag.type_id {
            AUDIO => Track::Audio,
            VIDEO => Track::Video,
            _ => continue,
        };
        let dts = clock.time(tag.timestamp);
        match content(track, &tag.body) {
            Content::Frame { key, composition_ms, payload } => {
                let pts = dts + composition_ms;
                recording.packets.push(Packet { track, pts, dts, key, hash: hash(payload) });
            }
            Content::Header(payload) => {
                if recording.headers.iter().all(|(known, _)| *known != track) {
                    recording.headers.push((track, hash(payload)));
                }
            }
            Content::Other => {}
        }
    }
    recording
}

/// The hash a packet is known by.
fn hash(payload: &[u8]) -> String {
    Sha256::digest(payload).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes times of timestamps that wrap at 2^32. Those of one file lie close together.
#[derive(Default)]
struct Clock {
    last: Option<i64>,
}

impl Clock {
    fn time(&mut self, timestamp: u32) -> i64 {
        let last = self.last.unwrap_or_else(|| timestamp.into());
        let step = timestamp.wrapping_sub(last as u32) as i32;
        let time = last + i64::from(step);
        self.last = Some(time);
        time
    }
}

enum Content<'a> {
    Frame {
        key: bool,
        composition_ms: i64,
        payload: &'a [u8],
    },
    Header(&'a [u8]),
    /// The end of a sequence, metadata, or how channels are arranged.
    Other,
}

fn content(track: Track, body: &[u8]) -> Content<'_> {
    match track {
        Track::Audio => audio(body),
        Track::Video => video(body),
    }
}

fn audio(body: &[u8]) -> Content<'_> {
    let frame = |payload| Content::Frame { key: true, composition_ms: 0, payload };
    match (body[0] >> 4, body[0] & 0xF) {
        (10, _) if body[1] == 0 => Content::Header(&body[2..]),
        (10, _) => frame(&body[2..]),
        (9, 0) => Content::Header(&body[5..]),
        // An empty frame is what FFmpeg makes of MultichannelConfig when it copies; its demuxer shows it at times.
        (9, 1) if body.len() > 5 => frame(&body[5..]),
        (9, 1 | 2 | 4) => Content::Other,
        (9, packet_type) => panic!("audio of packet type {packet_type}"),
        _ => frame(&body[1..]),
    }
}

fn video(body: &[u8]) -> Content<'_> {
    let key = body[0] >> 4 & 7 == 1;
    let frame = |composition_ms, payload| Content::Frame { key, composition_ms, payload };
    let is_enhanced = body[0] & 0x80 != 0;
    let low = body[0] & 0xF;
    if !is_enhanced {
        return match (low, body[1]) {
            (7, 0) => Content::Header(&body[5..]),
            (7, 1) => frame(signed(&body[2..5]), &body[5..]),
            (7, _) => Content::Other,
            (codec, _) => panic!("video of codec {codec}"),
        };
    }
    let has_composition_time = [&b"avc1"[..], b"hvc1", b"vvc1"].contains(&&body[1..5]);
    match low {
        0 => Content::Header(&body[5..]),
        1 if has_composition_time => frame(signed(&body[5..8]), &body[8..]),
        1 | 3 => frame(0, &body[5..]),
        2 | 4 => Content::Other,
        packet_type => panic!("video of packet type {packet_type}"),
    }
}

fn unsigned(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

/// A signed number of 24 bits.
fn signed(bytes: &[u8]) -> i64 {
    i64::from(((unsigned(bytes) << 8) as i32) >> 8)
}
