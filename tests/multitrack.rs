//! A real file of several tracks, published: each player gets the tracks it can take or asked for, byte for byte.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

#[macro_use]
mod common;

use std::path::Path;

use common::{
    packets::{Joined, Seen, assert_received, ffprobe, of_file, probed},
    rtmp::{AUDIO, DATA, Message, Peer, VIDEO, message},
    seconds,
    server::{Driver, Server},
    tool::scratch,
};

/// See `media/README.md`.
const FILE: &[u8] = include_bytes!("media/tracks.flv");
const NAME: &str = "tracks";

on_both_drivers!(players_get_their_tracks);

struct Tag {
    type_id: u8,
    timestamp: u32,
    payload: Vec<u8>,
}

fn tags() -> Vec<Tag> {
    let (mut at, mut tags) = (13, Vec::new());
    while at + 11 <= FILE.len() {
        let number =
            |range: std::ops::Range<usize>| FILE[range].iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
        let length = number(at + 1..at + 4) as usize;
        let timestamp = number(at + 4..at + 7) | u32::from(FILE[at + 7]) << 24;
        tags.push(Tag { type_id: FILE[at], timestamp, payload: FILE[at + 11..at + 11 + length].to_vec() });
        at += 11 + length + 4;
    }
    tags
}

/// The track of a tag and the tag as it is without others; FFmpeg writes one track to a message.
fn alone(tag: &Tag) -> (u8, Vec<u8>) {
    let first = tag.payload[0];
    let multitrack = match tag.type_id {
        AUDIO => first == 0x95,
        _ => first & 0x8F == 0x86,
    };
    if !multitrack {
        return (0, tag.payload.clone());
    }
    assert_eq!(tag.payload[1] >> 4, 0, "OneTrack");
    let first = first & 0xF0 | tag.payload[1] & 0xF;
    (tag.payload[6], [&[first], &tag.payload[2..6], &tag.payload[7..]].concat())
}

/// The payloads of one kind of a track, alone.
fn track(type_id: u8, track: u8) -> Vec<Vec<u8>> {
    let tags = tags();
    let alone = tags.iter().filter(|tag| tag.type_id == type_id).map(alone);
    let payloads: Vec<_> = alone.filter(|(of, _)| *of == track).map(|(_, payload)| payload).collect();
    assert!(payloads.len() > 15, "the file has {} messages of type {type_id} on track {track}", payloads.len());
    payloads
}

/// All payloads of one kind, as they are.
fn everything(type_id: u8) -> Vec<Vec<u8>> {
    tags().into_iter().filter(|tag| tag.type_id == type_id).map(|tag| tag.payload).collect()
}

fn publish(server: &Server) {
    let (mut publisher, stream) = Peer::publisher(server.rtmp, NAME);
    publisher.use_chunk_size(60_000);
    for tag in tags() {
        let csid = if tag.type_id == DATA { 4 } else { 4 + u32::from(tag.type_id) };
        assert!(publisher.send(&message(csid, tag.type_id, stream, tag.timestamp, tag.payload)));
    }
    assert!(publisher.is_served(), "it took all of it");
}

/// Payloads of audio and of video up to the end of the stream.
fn received(peer: &mut Peer) -> [Vec<Vec<u8>>; 2] {
    let mut media = [Vec::new(), Vec::new()];
    let mut note = |message: &Message| {
        match message.type_id {
            AUDIO => media[0].push(message.payload.clone()),
            VIDEO => media[1].push(message.payload.clone()),
            _ => {}
        }
        message.code().filter(|code| code == "NetStream.Play.UnpublishNotify")
    };
    peer.find("end of the stream", &mut note).expect("it is told the end");
    media
}

fn players_get_their_tracks(driver: Driver) {
    let server = Server::start(driver, 2, &["--unpublish-grace-s", "0"]);
    let pick = |choice: &str| format!("{NAME}?token=secret&track={choice}");
    let cases = [
        (None, NAME.to_owned(), [track(AUDIO, 0), track(VIDEO, 0)]),
        (Some(2.0), NAME.to_owned(), [everything(AUDIO), everything(VIDEO)]),
        (None, pick("v1"), [track(AUDIO, 0), track(VIDEO, 1)]),
        (Some(14.0), pick("v1,a1"), [track(AUDIO, 1), track(VIDEO, 1)]),
        (None, pick("a-"), [Vec::new(), track(VIDEO, 0)]),
        (Some(2.0), pick("v0,v1,a1"), [track(AUDIO, 1), everything(VIDEO)]),
    ];
    // Several of each, so that both shards have some.
    let server = &server;
    let mut players: Vec<_> = cases
        .iter()
        .flat_map(|(caps_ex, name, expected)| {
            (0..3).map(move |_| {
                (Peer::announcing(server.rtmp, *caps_ex).playing(name), format!("{name}, capsEx {caps_ex:?}"), expected)
            })
        })
        .collect();
    server.wait_metric("shardcast_players", &[], |waiting| waiting >= players.len() as f64);
    publish(server);
    for (peer, who, expected) in &mut players {
        let received = received(peer);
        for (kind, (received, expected)) in ["audio", "video"].iter().zip(received.iter().zip(expected.iter())) {
            assert!(received == expected, "{who}: {} of {} {kind} messages, or others", received.len(), expected.len());
        }
    }
}

/// An FLV file of track 0 alone.
fn file_of_track_0(path: &Path) {
    let mut file = FILE[..13].to_vec();
    for tag in tags() {
        let (track, payload) = if tag.type_id == DATA { (0, tag.payload.clone()) } else { alone(&tag) };
        if track != 0 {
            continue;
        }
        let length = payload.len() as u32;
        file.push(tag.type_id);
        file.extend(&length.to_be_bytes()[1..]);
        file.extend(&tag.timestamp.to_be_bytes()[1..]);
        file.extend([(tag.timestamp >> 24) as u8, 0, 0, 0]);
        file.extend(payload);
        file.extend((11 + length).to_be_bytes());
    }
    std::fs::write(path, file).expect("a scratch file");
}

#[test]
fn an_old_ffmpeg_plays_track_0_as_if_there_were_no_other() {
    let server = Server::start(Driver::Auto, 2, &["--unpublish-grace-s", "0"]);
    let path = scratch("track-0.flv");
    file_of_track_0(&path);
    let sent = of_file(&path);
    let player = ffprobe(server.url(NAME));
    server.wait_metric("shardcast_players", &[], |waiting| waiting >= 1.0);
    publish(&server);
    let ended = player.finish(seconds(20));
    assert_received("ffprobe", &sent, &probed(&ended), Joined::Early, Seen::AsReceived);
}

#[test]
fn a_choice_that_makes_no_sense_is_refused_with_the_reason() {
    let server = Server::start(Driver::Auto, 1, &[]);
    let mut player = Peer::announcing(server.rtmp, None).playing("tracks?track=v300");
    let refusal = player.find("refusal", |message| {
        let values = message.values();
        let code = message.code().filter(|code| code == "NetStream.Play.Failed");
        code.and_then(|_| values.iter().find_map(|value| value.get("description").map(|text| text.text().to_owned())))
    });
    let description = refusal.expect("a status");
    assert!(description.contains("track ids are 0 to 255") && description.contains("v300"), "{description}");
}
