//! Streams begin, end, are contested and resume, and the server itself ends: what publishers and players see of it.

use std::time::Instant;

use crate::{
    audience::Audience,
    common::{
        media,
        packets::{self, Joined, Seen, Track, assert_never_back, assert_received, ffprobe, of_file, of_track},
        rtmp::{AUDIO, Message, Peer, message},
        seconds,
        server::{Driver, Server},
        tool::{Client, require, scratch},
        wait_for,
    },
};

on_both_drivers!(
    a_second_publisher_is_refused_and_the_first_is_unharmed,
    a_publisher_that_comes_back_resumes_for_its_players,
    query_strings_are_not_identity,
    a_killed_publisher_frees_its_name_at_once,
    players_that_ask_after_the_end_wait_for_the_next_publisher,
    players_get_the_last_messages_when_the_server_ends,
    ffmpeg_players_end_by_themselves_when_the_server_ends,
    sigint_ends_the_server_in_order_too,
);

fn a_second_publisher_is_refused_and_the_first_is_unharmed(driver: Driver) {
    let server = Server::start(driver, 2, &["--unpublish-grace-s", "1"]);
    let (url, source, ffmpeg) = (server.url("contested"), media::av(), require("ffmpeg"));
    let players = Audience::before(&server, &url, 2);
    let first = media::publish(ffmpeg, source, &url);
    server.wait_running_for("contested", 500);

    // FFmpeg names the status; the raw peers make sure that both shards refuse.
    let second = media::publish(ffmpeg, source, &url).wait(seconds(10));
    assert!(!second.status.success(), "a second publisher was let in");
    for _ in 0..6 {
        let mut peer = Peer::connected(server.rtmp);
        let stream = peer.create_stream();
        assert_eq!(peer.publish(stream, "contested").as_deref(), Some("NetStream.Publish.BadName"));
    }
    server.wait_metric("shardcast_requests_refused_total", &[("reason", "name_taken")], |count| count >= 7.0);

    first.finish(seconds(media::SOURCE_SECONDS + 10));
    players.assert_all_received(&source.packets);
}

fn a_publisher_that_comes_back_resumes_for_its_players(driver: Driver) {
    let server = Server::start(driver, 2, &["--unpublish-grace-s", "4"]);
    let (url, source, ffmpeg) = (server.url("again"), media::av(), require("ffmpeg"));
    let players: Vec<Client> = (0..4).map(|_| ffprobe(&url)).collect();
    server.wait_metric("shardcast_players", &[], |waiting| waiting >= 4.0);

    media::publish(ffmpeg, source, &url).finish(seconds(media::SOURCE_SECONDS + 10));
    media::publish(ffmpeg, source, &url).finish(seconds(media::SOURCE_SECONDS + 10));
    for player in players {
        let received = packets::probed(&player.finish(seconds(20)));
        assert_never_back("a player across the return", &received);
        for track in [Track::Audio, Track::Video] {
            let sent: Vec<_> = of_track(&source.packets, track).iter().map(|packet| packet.hash.clone()).collect();
            let got: Vec<_> = of_track(&received, track).iter().map(|packet| packet.hash.clone()).collect();
            assert_eq!(got.len(), 2 * sent.len(), "{track:?}: both runs in full");
            assert!(got[..sent.len()] == sent && got[sent.len()..] == sent, "{track:?}: both runs unharmed");
        }
    }
}

fn query_strings_are_not_identity(driver: Driver) {
    let server = Server::start(driver, 1, &["--unpublish-grace-s", "1"]);
    let (source, ffmpeg) = (media::audio_only(), require("ffmpeg"));
    let plain = ffprobe(server.url("asked"));
    let with_query = ffprobe(server.url("asked?user=7&expires=never"));
    server.wait_metric("shardcast_players", &[], |waiting| waiting >= 2.0);
    let publisher = media::publish(ffmpeg, source, &server.url("asked?token=secret"));
    server.wait_live("asked");
    // Adobe's encoder puts the query into the application.
    let mut peer = Peer::greeted(server.rtmp);
    assert_eq!(peer.connect("live?token=other").as_deref(), Some("NetConnection.Connect.Success"));
    let stream = peer.create_stream();
    assert_eq!(peer.publish(stream, "asked").as_deref(), Some("NetStream.Publish.BadName"));

    publisher.finish(seconds(media::SOURCE_SECONDS + 10));
    for (who, player) in [("without a query", plain), ("with another query", with_query)] {
        let received = packets::probed(&player.finish(seconds(20)));
        assert_received(who, &source.packets, &received, Joined::Early, Seen::AsReceived);
    }
}

fn a_killed_publisher_frees_its_name_at_once(driver: Driver) {
    // A long grace: the name must be free for a new publisher while the players still wait.
    let server = Server::start(driver, 2, &["--unpublish-grace-s", "10"]);
    let (url, source, ffmpeg) = (server.url("killed"), media::video_only(), require("ffmpeg"));
    let mut first = media::publish(ffmpeg, source, &url);
    server.wait_running_for("killed", 500);
    let killed = Instant::now();
    first.kill();
    let patience = seconds(1);
    wait_for("the killed publisher to be gone", patience, || {
        (server.metrics().sum("shardcast_publishers", &[]) == 0.0).then_some(())
    });
    let (_peer, _) = Peer::publisher(server.rtmp, "killed");
    assert!(killed.elapsed() <= patience, "the name was free after {:?}", killed.elapsed());
    assert!(server.stream("killed").is_some());
}

fn numbered(n: u32) -> Message {
    message(4, AUDIO, 1, n * 20, [&[0xAF, 1][..], &n.to_be_bytes(), &[7; 200]].concat())
}

fn players_get_the_last_messages_when_the_server_ends(driver: Driver) {
    let mut server = Server::start(driver, 2, &[]);
    let mut players: Vec<Peer> = (0..8).map(|_| Peer::player(server.rtmp, "last")).collect();
    server.wait_metric("shardcast_players", &[], |waiting| waiting >= 8.0);
    let (mut publisher, stream) = Peer::publisher(server.rtmp, "last");
    publisher.announce_audio(stream);
    let sent: Vec<Message> = (0..2_000).map(|n| Message { stream, ..numbered(n) }).collect();
    for message in &sent {
        publisher.send(message);
    }
    // Everything is with the server once it has answered what came after.
    assert!(publisher.is_served());
    server.signal("TERM");
    for (index, player) in players.iter_mut().enumerate() {
        let mut got = Vec::new();
        while let Some(message) = player.next_media() {
            got.push(message.payload);
        }
        let want: Vec<_> = sent.iter().map(|message| message.payload.clone()).collect();
        assert_eq!(got.len(), want.len(), "player {index}: messages until the end");
        assert!(got == want, "player {index}: the messages that were sent");
    }
    let status = server.wait_exit(seconds(10));
    assert_eq!(status.code(), Some(0), "{status}");
}

fn players_that_ask_after_the_end_wait_for_the_next_publisher(driver: Driver) {
    // Without a grace, and with one that does not end in this test.
    for grace in ["0", "60"] {
        let server = Server::start(driver, 2, &["--unpublish-grace-s", grace]);
        let before: Vec<Peer> = (0..6).map(|_| Peer::player(server.rtmp, "next")).collect();
        server.wait_metric("shardcast_players", &[], |count| count >= 6.0);
        let (mut publisher, stream) = Peer::publisher(server.rtmp, "next");
        publisher.announce_audio(stream);
        let send = |publisher: &mut Peer, n| publisher.send(&Message { stream, ..numbered(n) });
        (0..5).for_each(|n| assert!(send(&mut publisher, n)));
        assert!(publisher.is_served());
        drop(publisher);
        server.wait_metric("shardcast_publishers", &[], |count| count == 0.0);

        // While those before are still there, and with them what they were sent.
        let mut after: Vec<Peer> = (0..6).map(|_| Peer::player(server.rtmp, "next")).collect();
        server.wait_metric("shardcast_players", &[], |count| count >= 12.0);
        let (mut publisher, stream) = Peer::publisher(server.rtmp, "next");
        publisher.announce_audio(stream);
        let first = Message { stream, ..numbered(1_000) };
        publisher.send(&first);
        for player in &mut after {
            let ended = |message: &Message| message.code().is_some_and(|code| code.contains("UnpublishNotify"));
            let got = player.find("media", |message| {
                assert!(!ended(message), "told of the end of what it was not there for");
                matches!(message.type_id, AUDIO).then(|| message.payload.clone())
            });
            assert_eq!(got, Some(first.payload.clone()), "the first it gets is the next publisher's");
        }
        drop(before);
    }
}

/// The server ends while FFmpeg publishes, with an FFmpeg and an ffprobe player on it.
fn end_under_clients(driver: Driver, signal: &str) {
    let mut server = Server::start(driver, 2, &[]);
    let (url, source, ffmpeg) = (server.url("ending"), media::av(), require("ffmpeg"));
    let file = scratch("ending.flv");
    let recorder = media::play(ffmpeg, &url, &file);
    let prober = ffprobe(&url);
    server.wait_metric("shardcast_players", &[], |waiting| waiting >= 2.0);
    let publisher = media::publish(ffmpeg, source, &url);
    server.wait_running_for("ending", 3_000);

    server.signal(signal);
    let status = server.wait_exit(seconds(10));
    assert_eq!(status.code(), Some(0), "{status}");
    let recorded = recorder.finish(seconds(10));
    assert!(!recorded.stderr.contains("Input/output error"), "no end of stream: {}", recorded.stderr);
    let probed = packets::probed(&prober.finish(seconds(10)));
    assert!(probed.len() > 100, "about three seconds, not {} packets", probed.len());
    packets::assert_run("ffprobe", &source.packets[..probed.len()], &probed, Seen::AsReceived);
    let recorded = of_file(&file);
    assert!(recorded.len().abs_diff(probed.len()) <= 2, "FFmpeg {}, ffprobe {}", recorded.len(), probed.len());
    // The publisher notices; how is its own affair.
    drop(publisher);
}

fn ffmpeg_players_end_by_themselves_when_the_server_ends(driver: Driver) {
    end_under_clients(driver, "TERM");
}

fn sigint_ends_the_server_in_order_too(driver: Driver) {
    end_under_clients(driver, "INT");
}
