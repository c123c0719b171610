//! Origin, shield and edge, each on a host of its own.

use crate::common::{
    media,
    netns::{Cable, Namespace},
    packets::{Joined, Packet, Seen, assert_received, ffprobe, of_file, probed},
    seconds,
    server::{Driver, Server},
    tool::{require, scratch},
};

/// FFmpeg publishes at one end and plays at the other: a player that asked before there was a publisher gets every packet, one
/// that came later every packet from a keyframe on.
#[test]
fn every_packet_passes_a_chain_of_three_hosts() {
    let hosts = [Namespace::new(), Namespace::new(), Namespace::new()];
    let [origin_host, shield_host, edge_host] = &hosts;
    let upper = Cable::new(1, [origin_host, shield_host]);
    let lower = Cable::new(2, [shield_host, edge_host]);
    let start = |host: &Namespace, driver, listen: String, source: Option<String>| {
        let pull = source.map(|source| format!("live/*=rtmp://{source}:1935/live/{{stream}}"));
        let mut flags = vec!["--rtmp", &listen, "--unpublish-grace-s", "1"];
        flags.extend(pull.iter().flat_map(|rule| ["--pull", rule]));
        host.inside(|| Server::start(driver, 2, &flags))
    };
    let origin = start(origin_host, Driver::Uring, format!("{}:1935", upper.addresses[0]), None);
    let above = Some(upper.addresses[0].to_string());
    let shield = start(shield_host, Driver::Legacy, format!("{}:1935", lower.addresses[0]), above);
    let edge = start(edge_host, Driver::Auto, "127.0.0.1:1935".to_owned(), Some(lower.addresses[0].to_string()));

    let (source, ffmpeg) = (media::av(), require("ffmpeg"));
    let (url, file) = (edge.url("show"), scratch("early.flv"));
    let (early, early_probe) = edge_host.inside(|| (media::play(ffmpeg, &url, &file), ffprobe(&url)));
    edge_host.inside(|| edge.wait_metric("shardcast_players", &[], |waiting| waiting == 2.0));
    let publisher = origin_host.inside(|| media::publish(ffmpeg, source, &origin.url("show")));
    edge_host.inside(|| edge.wait_running_for("show", 1_500));
    let late = edge_host.inside(|| ffprobe(&url));

    // One connection up from each host, however many players and shards.
    edge_host.inside(|| edge.wait_metric("shardcast_players", &[], |players| players == 3.0));
    for (host, node) in [(origin_host, &origin), (shield_host, &shield)] {
        assert_eq!(host.inside(|| node.stream("show")).map(|stream| stream.players), Some(1));
    }

    publisher.finish(seconds(media::SOURCE_SECONDS + 10));
    early.finish(seconds(20));
    let whole = |who: &str, received: &[Packet], joined, seen| {
        assert_received(who, &source.packets, received, joined, seen);
    };
    whole("FFmpeg, early", &of_file(&file), Joined::Early, Seen::Remuxed { slack_ms: 0 });
    whole("ffprobe, early", &probed(&early_probe.finish(seconds(20))), Joined::Early, Seen::AsReceived);
    whole("ffprobe, late", &probed(&late.finish(seconds(20))), Joined::Late, Seen::AsReceived);
}
