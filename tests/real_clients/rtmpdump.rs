//! rtmpdump (librtmp) plays what FFmpeg publishes.

use std::{path::Path, process::Command};

use crate::common::{
    media,
    packets::{Joined, Seen, assert_received, of_file},
    seconds,
    server::{Driver, Server},
    tool::{Client, require, scratch},
};

on_both_drivers!(rtmpdump_records_all_it_was_there_for);

fn record(url: &str, file: &Path) -> Client {
    Client::spawn(Command::new(require("rtmpdump")).args(["-q", "--live", "-r", url, "-o"]).arg(file))
}

fn rtmpdump_records_all_it_was_there_for(driver: Driver) {
    let server = Server::start(driver, 2, &["--unpublish-grace-s", "1"]);
    let url = server.url("dumped");
    let (early_file, late_file) = (scratch("early.flv"), scratch("late.flv"));
    let early = record(&url, &early_file);
    server.wait_metric("shardcast_players", &[], |waiting| waiting >= 1.0);
    let publisher = media::publish(require("ffmpeg"), media::av(), &url);
    server.wait_running_for("dumped", 2_500);
    let late = record(&url, &late_file);

    publisher.finish(seconds(media::SOURCE_SECONDS + 10));
    for (player, file, joined) in [(early, early_file, Joined::Early), (late, late_file, Joined::Late)] {
        // 0: the stream ended. (1 would be a failure, 2 a broken connection.)
        player.finish(seconds(20));
        let who = format!("rtmpdump, {joined:?}");
        assert_received(&who, &media::av().packets, &of_file(&file), joined, Seen::AsReceived);
    }
}
