//! rtmpdump (librtmp) plays what FFmpeg publishes.

use crate::common::{
    clients::rtmpdump,
    media,
    packets::{Joined, Seen, assert_received, of_file},
    seconds,
    server::{Driver, Server},
    tool::{require, scratch},
};

on_both_drivers!(rtmpdump_records_all_it_was_there_for);

fn rtmpdump_records_all_it_was_there_for(driver: Driver) {
    let server = Server::start(driver, 2, &["--unpublish-grace-s", "1"]);
    let url = server.url("dumped");
    let (early_file, late_file) = (scratch("early.flv"), scratch("late.flv"));
    let early = rtmpdump(&url, &early_file);
    server.wait_metric("shardcast_players", &[], |waiting| waiting >= 1.0);
    let publisher = media::publish(require("ffmpeg"), media::av(), &url);
    server.wait_running_for("dumped", 2_500);
    let late = rtmpdump(&url, &late_file);

    publisher.finish(seconds(media::SOURCE_SECONDS + 10));
    for (player, file, joined) in [(early, early_file, Joined::Early), (late, late_file, Joined::Late)] {
        // 0: the stream ended. (1 would be a failure, 2 a broken connection.)
        player.finish(seconds(20));
        let who = format!("rtmpdump, {joined:?}");
        assert_received(&who, &media::av().packets, &of_file(&file), joined, Seen::AsReceived);
    }
}
