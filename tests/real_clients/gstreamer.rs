//! GStreamer's own RTMP elements (rtmp2sink, rtmp2src) and those of librtmp (rtmpsink, rtmpsrc).

use crate::common::{
    clients::{gst_play, gst_publish},
    media,
    packets::{self, Joined, Seen, Track, assert_received, ffprobe, of_file},
    seconds,
    server::{Driver, Server},
    tool::{require, scratch},
    wait_for,
};

on_both_drivers!(rtmp2sink_publishes, rtmpsink_publishes, rtmp2src_and_rtmpsrc_play_what_ffmpeg_publishes);

fn publishes(driver: Driver, element: &str) {
    let server = Server::start(driver, 2, &["--unpublish-grace-s", "1"]);
    let url = server.url("gst");
    let (sent, early_file, late_file) = (scratch("sent.flv"), scratch("early.flv"), scratch("late.flv"));
    let early = ffprobe(&url);
    let early_gst = gst_play("rtmp2src", &url, &early_file);
    server.wait_metric("shardcast_players", &[], |waiting| waiting >= 2.0);
    let tracks = [Track::Video, Track::Audio];
    let publisher = gst_publish(&media::av().path, &tracks, 0, element, &url, &sent);
    server.wait_running_for("gst", 2_500);
    let late = ffprobe(&url);
    let late_gst = gst_play("rtmp2src", &url, &late_file);

    publisher.finish(seconds(media::SOURCE_SECONDS + 10));
    let (early, late) = (early.finish(seconds(20)), late.finish(seconds(20)));
    early_gst.finish(seconds(20));
    late_gst.finish(seconds(20));
    let sent = of_file(&sent);
    assert_eq!(sent.len(), media::av().packets.len(), "GStreamer sends the whole source");
    for (who, received, joined) in [
        ("ffprobe, early", packets::probed(&early), Joined::Early),
        ("ffprobe, late", packets::probed(&late), Joined::Late),
        ("rtmp2src, early", of_file(&early_file), Joined::Early),
        ("rtmp2src, late", of_file(&late_file), Joined::Late),
    ] {
        assert_received(who, &sent, &received, joined, Seen::AsReceived);
    }
}

fn rtmp2sink_publishes(driver: Driver) {
    publishes(driver, "rtmp2sink");
}

fn rtmpsink_publishes(driver: Driver) {
    publishes(driver, "rtmpsink");
}

fn rtmp2src_and_rtmpsrc_play_what_ffmpeg_publishes(driver: Driver) {
    let server = Server::start(driver, 2, &["--unpublish-grace-s", "1"]);
    let url = server.url("watched");
    let join = |joined: Joined| {
        ["rtmp2src", "rtmpsrc"].map(|element| {
            let file = scratch("watched.flv");
            (element, joined, gst_play(element, &url, &file), file)
        })
    };
    let early = join(Joined::Early);
    server.wait_metric("shardcast_players", &[], |waiting| waiting >= 2.0);
    let publisher = media::publish(require("ffmpeg"), media::av(), &url);
    server.wait_running_for("watched", 2_500);
    let late = join(Joined::Late);
    publisher.finish(seconds(media::SOURCE_SECONDS + 10));
    let (mut again, once): (Vec<_>, Vec<_>) =
        early.into_iter().chain(late).partition(|(element, ..)| *element == "rtmpsrc");
    // rtmpsrc connects again when a stream ends (unless it ends with one of its blocks), and is to wait for the next.
    wait_for("rtmpsrc to ask again", seconds(20), || {
        let ended = again.iter_mut().filter_map(|(_, _, player, _)| (!player.is_running()).then_some(())).count();
        let accepted = server.metrics().sum("shardcast_connections_accepted_total", &[]);
        (accepted >= (1 + 4 + 2 - ended) as f64).then_some(())
    });
    for (element, joined, mut player, file) in again {
        player.kill();
        let who = format!("{element}, {joined:?}");
        assert_received(&who, &media::av().packets, &of_file(&file), joined, Seen::AsReceived);
        let bytes = std::fs::read(&file).expect("the recording");
        let headers = bytes.windows(4).filter(|window| window == b"FLV\x01").count();
        assert_eq!(headers, 1, "{who}: something came after the end");
    }
    for (element, joined, player, file) in once {
        player.finish(seconds(20));
        let who = format!("{element}, {joined:?}");
        assert_received(&who, &media::av().packets, &of_file(&file), joined, Seen::AsReceived);
    }
}
