//! Packets as a foreign demuxer (ffprobe) sees them, and the promise of the relay: a player receives a contiguous run
//! of what was sent, byte for byte, with the same timestamps but for one offset.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    process::Command,
    time::Duration,
};

use super::tool::{Client, Ended, require};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Track {
    Audio,
    Video,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub track: Track,
    /// Milliseconds, as all FLV times.
    pub pts: i64,
    pub dts: i64,
    pub key: bool,
    /// The payload's hash.
    pub hash: String,
}

/// Where a player's run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    /// Before the publisher: with the first packet.
    Early,
    /// While the stream ran: with a keyframe later than the first, or with any audio packet but the first if there is
    /// no video.
    Late,
}

/// How a player's packets reached us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// As they came: their order across the tracks counts, and times are exact.
    AsReceived,
    /// Through a muxer that interleaves anew and rounds times by up to `slack_ms`.
    Remuxed { slack_ms: i64 },
}

const SHOW: [&str; 8] = [
    "-show_packets",
    "-show_data_hash",
    "md5",
    "-show_entries",
    "packet=codec_type,pts,dts,flags,data_hash",
    "-of",
    "compact=p=0",
    "-i",
];

/// ffprobe as a player (or as the reader of a file): it ends when its input does and has then printed every packet.
pub fn ffprobe(input: impl AsRef<std::ffi::OsStr>) -> Client {
    Client::spawn(Command::new(require("ffprobe")).args(["-v", "error"]).args(SHOW).arg(input))
}

/// What ffprobe printed.
pub fn parse(printed: &str) -> Vec<Packet> {
    printed.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Packet> {
    let fields: HashMap<&str, &str> = line.split('|').filter_map(|field| field.split_once('=')).collect();
    let track = match *fields.get("codec_type")? {
        "audio" => Track::Audio,
        "video" => Track::Video,
        _ => return None,
    };
    let time =
        |key: &str| fields.get(key).and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{key}: {line}"));
    Some(Packet {
        track,
        pts: time("pts"),
        dts: time("dts"),
        key: fields["flags"].contains('K'),
        hash: fields["data_hash"].to_owned(),
    })
}

/// The packets of an ffprobe that ended; it must have been content with what it got.
#[track_caller]
pub fn probed(ended: &Ended) -> Vec<Packet> {
    assert!(!ended.stderr.contains("Input/output error"), "no end of stream, the connection broke: {}", ended.stderr);
    parse(&ended.stdout)
}

#[track_caller]
pub fn of_file(path: &Path) -> Vec<Packet> {
    parse(&ffprobe(path).finish(Duration::from_secs(20)).stdout)
}

pub fn of_track(packets: &[Packet], track: Track) -> Vec<&Packet> {
    packets.iter().filter(|packet| packet.track == track).collect()
}

fn tracks(packets: &[Packet]) -> Vec<Track> {
    let mut tracks: Vec<Track> =
        packets.iter().map(|packet| packet.track).collect::<HashSet<_>>().into_iter().collect();
    tracks.sort();
    tracks
}

/// Checks that no two packets of a track are alike, so that a position in `sent` is certain.
#[track_caller]
pub fn assert_distinct(sent: &[Packet]) {
    let distinct: HashSet<_> = sent.iter().map(|packet| (packet.track, &packet.hash)).collect();
    assert_eq!(distinct.len(), sent.len(), "the source has packets that cannot be told apart");
}

/// Checks that `received` is what a player that joined so must have got of `sent`, until the very end.
#[track_caller]
pub fn assert_received(who: &str, sent: &[Packet], received: &[Packet], joined: Joined, seen: Seen) {
    let begin = first_position(who, sent, received, joined);
    assert_run(who, &sent[begin..], received, seen);
}

/// Checks that `received` is exactly `sent` but for one offset of time.
#[track_caller]
pub fn assert_run(who: &str, sent: &[Packet], received: &[Packet], seen: Seen) {
    assert_eq!(tracks(received), tracks(sent), "{who}: tracks");
    if seen == Seen::AsReceived {
        let order = |packets: &[Packet]| packets.iter().map(|p| (p.track, p.hash.clone())).collect::<Vec<_>>();
        assert_same(who, "across the tracks", &order(sent), &order(received));
    }
    let mut offsets = Vec::new();
    for track in tracks(sent) {
        let (sent, received) = (of_track(sent, track), of_track(received, track));
        let hashes = |packets: &[&Packet]| packets.iter().map(|p| p.hash.clone()).collect::<Vec<_>>();
        assert_same(who, &format!("{track:?}"), &hashes(&sent), &hashes(&received));
        for (index, (sent, received)) in sent.iter().zip(&received).enumerate() {
            let slack = if let Seen::Remuxed { slack_ms } = seen { slack_ms } else { 0 };
            let shift = (received.pts - received.dts) - (sent.pts - sent.dts);
            assert!(shift.abs() <= slack, "{who}: {track:?} {index}: pts - dts differs by {shift} ms");
            assert_eq!(received.key, sent.key, "{who}: {track:?} {index}: keyframe flag");
            offsets.push((received.dts - sent.dts, track, index));
        }
        let slack = if let Seen::Remuxed { slack_ms } = seen { slack_ms } else { 0 };
        let (low, high) = (offsets.iter().min().expect("packets"), offsets.iter().max().expect("packets"));
        assert!(high.0 - low.0 <= slack, "{who}: times moved against each other: {low:?} but {high:?}");
    }
}

#[track_caller]
fn assert_same<T: PartialEq + std::fmt::Debug>(who: &str, what: &str, sent: &[T], received: &[T]) {
    let differs = sent.iter().zip(received).position(|(a, b)| a != b);
    assert!(
        differs.is_none() && sent.len() == received.len(),
        "{who}: {what}: {} packets sent, {} received, the first difference at {:?}",
        sent.len(),
        received.len(),
        differs.unwrap_or(sent.len().min(received.len())),
    );
}

/// The index in `sent` of the packet with which the run of a player must have begun.
#[track_caller]
fn first_position(who: &str, sent: &[Packet], received: &[Packet], joined: Joined) -> usize {
    if joined == Joined::Early {
        return 0;
    }
    let leader = if tracks(sent).contains(&Track::Video) { Track::Video } else { Track::Audio };
    let first = received.iter().find(|packet| packet.track == leader);
    let first = first.unwrap_or_else(|| panic!("{who}: no {leader:?} packet among {}", received.len()));
    let position = sent.iter().position(|packet| packet.track == leader && packet.hash == first.hash);
    let position = position.unwrap_or_else(|| panic!("{who}: the first {leader:?} packet was never sent"));
    assert!(sent[position].key, "{who}: begins between keyframes, at packet {position}");
    assert!(position > 0, "{who}: joined late, yet begins with the first packet");
    position
}

/// Checks that times never step back within a track.
#[track_caller]
pub fn assert_never_back(who: &str, packets: &[Packet]) {
    for track in tracks(packets) {
        for pair in of_track(packets, track).windows(2) {
            assert!(pair[0].dts <= pair[1].dts, "{who}: {track:?} steps back: {:?} then {:?}", pair[0], pair[1]);
        }
    }
}
