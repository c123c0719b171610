//! Debian's nginx-rtmp at the other end of a pull and of a push.

use crate::common::{
    media,
    nginx::Nginx,
    packets::{Joined, Seen, assert_received, ffprobe, of_file, probed},
    seconds,
    server::{Driver, Server},
    tool::{require, scratch},
    wait_for,
};

/// FFmpeg publishes to nginx, and plays from a node that pulls from there.
#[test]
fn every_packet_comes_from_nginx() {
    let nginx = Nginx::start();
    let rule = format!("live/*={}", nginx.url("{stream}"));
    let edge = Server::start(Driver::Auto, 2, &["--pull", &rule, "--unpublish-grace-s", "1"]);
    let source = media::av();
    let early = ffprobe(edge.url("show"));
    edge.wait_metric("shardcast_players", &[], |waiting| waiting == 1.0);
    let publisher = media::publish(require("ffmpeg"), source, &nginx.url("show"));
    edge.wait_running_for("show", 1_500);
    let late = ffprobe(edge.url("show"));
    publisher.finish(seconds(media::SOURCE_SECONDS + 10));
    for (who, player, joined) in [("early", early, Joined::Early), ("late", late, Joined::Late)] {
        assert_received(who, &source.packets, &probed(&player.finish(seconds(20))), joined, Seen::AsReceived);
    }
}

/// FFmpeg publishes to a node that pushes to nginx, and plays from there.
#[test]
fn every_packet_goes_to_nginx() {
    let nginx = Nginx::start();
    let rule = format!("live/*={}", nginx.url("{stream}"));
    let node = Server::start(Driver::Auto, 2, &["--push", &rule, "--unpublish-grace-s", "1"]);
    let (source, ffmpeg) = (media::av(), require("ffmpeg"));
    let file = scratch("early.flv");
    let player = media::play(ffmpeg, &nginx.url("show"), &file);
    nginx.wait_asked(1);
    media::publish(ffmpeg, source, &node.url("show")).finish(seconds(media::SOURCE_SECONDS + 10));
    player.finish(seconds(20));
    assert_received("FFmpeg", &source.packets, &of_file(&file), Joined::Early, Seen::Remuxed { slack_ms: 0 });
    wait_for("nothing to be pushed", seconds(10), || {
        node.relays().pushes("live/show", "state").is_empty().then_some(())
    });
}
