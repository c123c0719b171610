//! The programs that people use publish and play over TLS, and get what they get without it.

use std::process::Command;

use crate::common::{
    clients::{gst_play, gst_publish, rtmpdump},
    media,
    packets::{self, Joined, Seen, Track, assert_received, ffprobe, of_file},
    seconds,
    server::{Driver, Server},
    tool::{Client, new_ffmpeg, require, scratch},
};

on_both_drivers!(ffmpeg_and_librtmp, a_new_ffmpeg, gstreamer);

fn start(driver: Driver) -> Server {
    let flags = ["--unpublish-grace-s", "1", "--rtmps", "127.0.0.1:0", "--tls-self-signed"];
    Server::start(driver, 2, &flags)
}

fn ffmpeg_and_librtmp(driver: Driver) {
    let server = start(driver);
    let url = server.secure_url("secure");
    let (early_file, late_file, dumped_file) = (scratch("early.flv"), scratch("late.flv"), scratch("dumped.flv"));
    let early = media::play(require("ffmpeg"), &url, &early_file);
    let early_probe = ffprobe(&url);
    let dumped = rtmpdump(&url, &dumped_file);
    server.wait_metric("shardcast_players", &[], |waiting| waiting >= 3.0);
    let publisher = media::publish(require("ffmpeg"), media::av(), &url);
    server.wait_running_for("secure", 2_500);
    let late = media::play(require("ffmpeg"), &url, &late_file);
    let plain = ffprobe(server.url("secure"));
    publisher.finish(seconds(media::SOURCE_SECONDS + 10));

    let sent = &media::av().packets;
    for (who, probe, joined) in [("ffprobe", early_probe, Joined::Early), ("plain ffprobe", plain, Joined::Late)] {
        assert_received(who, sent, &packets::probed(&probe.finish(seconds(20))), joined, Seen::AsReceived);
    }
    for (who, player, file, joined, seen) in [
        ("ffmpeg, early", early, early_file, Joined::Early, Seen::Remuxed { slack_ms: 0 }),
        ("ffmpeg, late", late, late_file, Joined::Late, Seen::Remuxed { slack_ms: 0 }),
        ("rtmpdump", dumped, dumped_file, Joined::Early, Seen::AsReceived),
    ] {
        player.finish(seconds(20));
        assert_received(who, sent, &of_file(&file), joined, seen);
    }
    assert_eq!(server.metrics().sum("shardcast_connections_closed_total", &[("reason", "tls")]), 0.0);
}

fn a_new_ffmpeg(driver: Driver) {
    let server = start(driver);
    let url = server.secure_url("new");
    let file = scratch("new.flv");
    // Unlike the distribution's it looks at certificates unless told not to.
    let ffmpeg = |arguments: &str| {
        let words = arguments.split_whitespace();
        Client::spawn(Command::new(new_ffmpeg()).args(["-nostdin", "-v", "error", "-y"]).args(words))
    };
    let player = ffmpeg(&format!("-tls_verify 0 -i {url} -c copy -f flv {}", file.display()));
    server.wait_metric("shardcast_players", &[], |waiting| waiting >= 1.0);
    let source = media::av().path.display();
    let publisher = ffmpeg(&format!("-re -i {source} -c copy -f flv -tls_verify 0 {url}"));
    publisher.finish(seconds(media::SOURCE_SECONDS + 10));
    player.finish(seconds(20));
    let (sent, received) = (&media::av().packets, of_file(&file));
    assert_received("the new ffmpeg", sent, &received, Joined::Early, Seen::Remuxed { slack_ms: 0 });
}

fn gstreamer(driver: Driver) {
    let server = start(driver);
    let url = server.secure_url("gst");
    let (sent, file) = (scratch("sent.flv"), scratch("gst.flv"));
    // Nobody vouches for the certificate.
    let to = format!("{url} tls-validation-flags=0");
    let player = gst_play("rtmp2src", &to, &file);
    server.wait_metric("shardcast_players", &[], |waiting| waiting >= 1.0);
    let tracks = [Track::Video, Track::Audio];
    let publisher = gst_publish(&media::av().path, &tracks, 0, "rtmp2sink", &to, &sent);
    publisher.finish(seconds(media::SOURCE_SECONDS + 10));
    player.finish(seconds(20));
    assert_received("rtmp2src", &of_file(&sent), &of_file(&file), Joined::Early, Seen::AsReceived);
}
