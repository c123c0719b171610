//! An encoder whose connection hangs is replaced by its next one, and players see the stream go on (`--takeover`).

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

mod common;

use common::{
    media,
    packets::{self, Track, assert_never_back, ffprobe, of_track},
    rtmp::Peer,
    seconds,
    server::{Driver, Server},
    tool::{Client, require},
    wait_for,
};

const REPLACED: &[(&str, &str)] = &[("reason", "replaced")];

#[test]
fn players_go_on_with_the_encoder_that_takes_over_from_one_that_hangs() {
    for driver in [Driver::Uring, Driver::Legacy] {
        let server = Server::start(driver, 2, &["--takeover", "replace", "--unpublish-grace-s", "1"]);
        let (url, source, ffmpeg) = (server.url("show"), media::av(), require("ffmpeg"));
        let players: Vec<Client> = (0..4).map(|_| ffprobe(&url)).collect();
        server.wait_metric("shardcast_players", &[], |waiting| waiting >= 4.0);
        let first = media::publish(ffmpeg, source, &url);
        server.wait_running_for("show", 1_500);
        first.signal("STOP");

        let second = media::publish(ffmpeg, source, &url);
        server.wait_metric("shardcast_takeovers_total", &[], |count| count == 1.0);
        server.wait_metric("shardcast_connections_closed_total", REPLACED, |count| count == 1.0);
        second.finish(seconds(media::SOURCE_SECONDS + 10));
        first.signal("CONT");
        let first = first.wait(seconds(10));
        assert!(!first.status.success(), "it was replaced");

        for player in players {
            let received = packets::probed(&player.finish(seconds(20)));
            assert_never_back("a player across the change", &received);
            for track in [Track::Audio, Track::Video] {
                let sent: Vec<_> = of_track(&source.packets, track).iter().map(|packet| packet.hash.clone()).collect();
                let got: Vec<_> = of_track(&received, track).iter().map(|packet| packet.hash.clone()).collect();
                let of_first = got.len().checked_sub(sent.len()).expect("all of the second");
                assert!(of_first > 0 && of_first < sent.len(), "{track:?}: {of_first} packets of the first");
                assert!(got[..of_first] == sent[..of_first], "{track:?}: the first, up to the change");
                assert!(got[of_first..] == sent, "{track:?}: all of the second");
            }
        }
    }
}

#[test]
fn a_replaced_publisher_is_told_and_its_connection_closed() {
    let server = Server::start(Driver::Uring, 2, &["--takeover", "replace"]);
    let mut publishers = Vec::new();
    for number in 0..6 {
        let mut peer = Peer::connected(server.rtmp);
        let stream = peer.create_stream();
        // Whoever has just taken over keeps the name for a second.
        wait_for("the name", seconds(10), || {
            (peer.publish(stream, "show").as_deref() == Some("NetStream.Publish.Start")).then_some(())
        });
        publishers.push(peer);
        let replaced = publishers.len().checked_sub(2).and_then(|before| publishers.get_mut(before));
        if let Some(replaced) = replaced {
            let told = replaced.find("the status", |message| message.code().filter(|code| code.ends_with("BadName")));
            assert_eq!(told.as_deref(), Some("NetStream.Publish.BadName"));
            assert!(replaced.next_media().is_none(), "its connection ends");
        }
        server.wait_metric("shardcast_takeovers_total", &[], |count| count == f64::from(number));
        assert_eq!(server.metrics().sum("shardcast_publishers", &[]), 1.0);
    }
}

#[test]
fn a_publisher_without_credentials_does_not_replace_by_credential() {
    let server = Server::start(Driver::Uring, 1, &["--takeover", "replace-if-same-credential"]);
    let mut first = Peer::connected(server.rtmp);
    let stream = first.create_stream();
    assert_eq!(first.publish(stream, "show").as_deref(), Some("NetStream.Publish.Start"));
    let mut second = Peer::connected(server.rtmp);
    let stream = second.create_stream();
    assert_eq!(second.publish(stream, "show").as_deref(), Some("NetStream.Publish.BadName"));
    assert_eq!(server.metrics().sum("shardcast_publishers", &[]), 1.0);
}
