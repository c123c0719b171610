//! FFmpeg publishes; FFmpeg and ffprobe play, from before the start and from later on, on every shard.

use crate::{
    audience::Audience,
    common::{
        media::{self, Source},
        packets::{Joined, Seen, assert_received, of_file},
        seconds,
        server::{Driver, Server},
        tool::{require, scratch},
    },
};

on_both_drivers!(h264_with_b_frames_and_aac, audio_alone, video_alone);

fn h264_with_b_frames_and_aac(driver: Driver) {
    assert!(media::av().packets.iter().any(|packet| packet.pts != packet.dts), "the source has B-frames");
    relay(driver, media::av());
}

fn audio_alone(driver: Driver) {
    relay(driver, media::audio_only());
}

fn video_alone(driver: Driver) {
    relay(driver, media::video_only());
}

fn relay(driver: Driver, source: &Source) {
    let server = Server::start(driver, 2, &["--unpublish-grace-s", "1"]);
    let url = server.url("show");
    let ffmpeg = require("ffmpeg");

    let early = Audience::before(&server, &url, 4);
    let file = scratch("early.flv");
    let recorder = media::play(ffmpeg, &url, &file);
    server.wait_metric("shardcast_players", &[], |waiting| waiting >= 5.0);

    let publisher = media::publish(ffmpeg, source, &url);
    // Past the second keyframe, so that a late player cannot begin with the first packet.
    server.wait_running_for("show", 1_500);
    let late = Audience::meanwhile(&server, &url, 4);

    publisher.finish(seconds(media::SOURCE_SECONDS + 10));
    early.assert_all_received(&source.packets);
    late.assert_all_received(&source.packets);
    let ended = recorder.finish(seconds(20));
    assert!(!ended.stderr.contains("Input/output error"), "no end of stream: {}", ended.stderr);
    assert_received("ffmpeg", &source.packets, &of_file(&file), Joined::Early, Seen::Remuxed { slack_ms: 0 });
    server.wait_gone("show", seconds(5));
}
