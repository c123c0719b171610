//! A current FFmpeg, which speaks Enhanced RTMP, as publisher and as player, beside the distribution's.

use crate::common::{
    media,
    packets::{self, Joined, Seen, assert_received, ffprobe, of_file},
    seconds,
    server::{Driver, Server},
    tool::{new_ffmpeg, require, scratch},
};

on_both_drivers!(new_ffmpeg_publishes_to_new_and_old, new_ffmpeg_plays_what_the_old_publishes);

fn relay(driver: Driver, publisher: &str) {
    let server = Server::start(driver, 2, &["--unpublish-grace-s", "1"]);
    let url = server.url("new");
    let (early_file, late_file) = (scratch("early.flv"), scratch("late.flv"));
    let early = media::play(new_ffmpeg(), &url, &early_file);
    let early_probe = ffprobe(&url);
    server.wait_metric("shardcast_players", &[], |waiting| waiting >= 2.0);
    let publisher = media::publish(publisher, media::av(), &url);
    server.wait_running_for("new", 2_500);
    let late = media::play(new_ffmpeg(), &url, &late_file);
    publisher.finish(seconds(media::SOURCE_SECONDS + 10));

    let sent = &media::av().packets;
    let probed = packets::probed(&early_probe.finish(seconds(20)));
    assert_received("ffprobe", sent, &probed, Joined::Early, Seen::AsReceived);
    for (player, file, joined) in [(early, early_file, Joined::Early), (late, late_file, Joined::Late)] {
        player.finish(seconds(20));
        let who = format!("the new ffmpeg, {joined:?}");
        assert_received(&who, sent, &of_file(&file), joined, Seen::Remuxed { slack_ms: 0 });
    }
}

fn new_ffmpeg_publishes_to_new_and_old(driver: Driver) {
    relay(driver, new_ffmpeg());
}

fn new_ffmpeg_plays_what_the_old_publishes(driver: Driver) {
    relay(driver, require("ffmpeg"));
}
