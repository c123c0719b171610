//! Programs that cannot be asked to reconnect: what they have of the stream when they are let go, and that they end.

use super::{
    common::{
        clients, flv, media,
        packets::{Packet, Track},
        seconds,
        tool::{Client, require, scratch},
    },
    scene::start,
};

/// A keyframe each second, with two B-frames between references, and sound.
const PARTS: &[&[&str]] = &[media::PICTURE, media::SOUND, media::H264, media::AAC];

fn pictures(packets: &[Packet]) -> Vec<&Packet> {
    packets.iter().filter(|packet| packet.track == Track::Video).collect()
}

/// What was received is of the source, in its order, and the next picture in the source is a keyframe.
#[track_caller]
fn assert_whole_groups(who: &str, received: &[Packet], source: &[Packet]) {
    let (received, source) = (pictures(received), pictures(source));
    let first = received.first().unwrap_or_else(|| panic!("{who} has seen nothing"));
    let from = source.iter().position(|packet| packet.hash == first.hash).expect("a picture of the source");
    for (got, sent) in received.iter().zip(&source[from..]) {
        assert_eq!(got.hash, sent.hash, "{who} lacks a picture");
    }
    assert!(received.len() > 60, "{who} saw {} pictures", received.len());
    let next = source.get(from + received.len());
    assert!(next.is_some_and(|next| next.key), "{who} was let go after {} pictures", received.len());
}

#[test]
fn programs_leave_with_whole_groups_of_pictures() {
    let ffmpeg = require("ffmpeg");
    let flags = "--drain-mode lb --drain-timeout-s 20 --drain-window-s 4 --drain-converge-s 0";
    let mut server = start(2, flags);
    let url = server.url("show");
    let source = media::encode(ffmpeg, "drain", 20, PARTS);
    let paths = ["ffmpeg.flv", "gstreamer.flv", "rtmpdump.flv"].map(scratch);
    let players = [
        media::play(ffmpeg, &url, &paths[0]),
        clients::gst_play("rtmp2src", &url, &paths[1]),
        clients::rtmpdump(&url, &paths[2]),
    ];
    server.wait_metric("shardcast_players", &[], |players| players == 3.0);
    let publisher = media::publish_file(ffmpeg, &source, 0, &url);
    server.wait_messages("show", 250);
    server.signal("TERM");
    players.into_iter().for_each(|player: Client| drop(player.wait(seconds(15))));
    // It takes the end of its publish for an error, as it should: it was not done.
    publisher.wait(seconds(15));
    assert_eq!(server.wait_exit(seconds(15)).code(), Some(0));
    let source = flv::read(&source).packets;
    for path in &paths {
        assert_whole_groups(&path.display().to_string(), &flv::read(path).packets, &source);
    }
}
