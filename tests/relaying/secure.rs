//! RTMPS to and from other nodes, with a chain of certificates as sites have them, and with those that are not to be trusted.

use crate::{
    common::{
        media,
        packets::{Joined, Seen, assert_received, ffprobe, probed},
        seconds,
        server::{Driver, Server},
        tool::require,
        wait_for,
    },
    tls::{Authority, Front},
};

on_both_drivers!(every_packet_passes_tls_both_ways);

fn node(driver: Driver, flags: &[&str]) -> Server {
    Server::start(driver, 2, &[&["--unpublish-grace-s", "1"], flags].concat())
}

/// FFmpeg publishes to a node that pushes to an origin by TLS, and plays from one that pulls from there by TLS.
fn every_packet_passes_tls_both_ways(driver: Driver) {
    let authority = Authority::new();
    let root = authority.root().display().to_string();
    let origin = node(driver, &[]);
    let front = Front::start(authority.server("localhost"), origin.rtmp);
    let rule = format!("live/*={}", front.url("{stream}"));
    let ingest = node(driver, &["--push", &rule, "--upstream-ca", &root]);
    let edge = node(driver, &["--pull", &rule, "--upstream-ca", &root]);

    let source = media::av();
    let early = ffprobe(edge.url("show"));
    edge.wait_metric("shardcast_players", &[], |waiting| waiting == 1.0);
    let publisher = media::publish(require("ffmpeg"), source, &ingest.url("show"));
    edge.wait_running_for("show", 1_500);
    let late = ffprobe(edge.url("show"));
    publisher.finish(seconds(media::SOURCE_SECONDS + 10));
    for (who, player, joined) in [("early", early, Joined::Early), ("late", late, Joined::Late)] {
        assert_received(who, &source.packets, &probed(&player.finish(seconds(20))), joined, Seen::AsReceived);
    }
}

/// A certificate for another name and one of an unknown root: reports and the log say why, and what to do; another target
/// and the players are served as ever.
#[test]
fn who_is_not_trusted_is_named_and_harms_nobody() {
    let driver = Driver::Auto;
    let (ours, theirs) = (Authority::new(), Authority::new());
    let root = ours.root().display().to_string();
    let target = node(driver, &[]);
    let wrong_name = Front::start(ours.server("elsewhere.example"), target.rtmp);
    let unknown = Front::start(theirs.server("localhost"), target.rtmp);
    let push = format!("live/*={},{},{}", wrong_name.url("a"), unknown.url("b"), target.url("{stream}"));
    let ingest = node(driver, &["--push", &push, "--upstream-ca", &root]);
    let pull = format!("live/*={},{},{}", wrong_name.url("{stream}"), unknown.url("{stream}"), target.url("{stream}"));
    let edge = node(driver, &["--pull", &pull, "--upstream-ca", &root]);

    let source = media::av();
    let early = ffprobe(target.url("show"));
    target.wait_metric("shardcast_players", &[], |waiting| waiting == 1.0);
    let publisher = media::publish(require("ffmpeg"), source, &ingest.url("show"));
    target.wait_running_for("show", 1_500);
    let late = ffprobe(edge.url("show"));
    let faults = wait_for("both targets to fail", seconds(10), || {
        let faults = ingest.relays().pushes("live/show", "last_fault");
        (faults.iter().filter(|fault| !fault.is_empty()).count() == 2).then_some(faults)
    });
    let causes = [
        "only valid for DnsName(\"elsewhere.example\"): use the name that is on",
        "vouches for it; name its authority's by",
    ];
    wait_for("the edge to pass over both sources", seconds(10), || edge.stream("show").map(drop));
    for cause in causes {
        assert!(faults.iter().any(|fault| fault.contains(cause)), "{faults:?}");
        assert!(ingest.log().contains(cause) && edge.log().contains(cause), "{}\n{}", ingest.log(), edge.log());
    }
    assert_eq!(edge.relays().pull("live/show", "source"), Some(target.url("show")));
    publisher.finish(seconds(media::SOURCE_SECONDS + 10));
    for (who, player, joined) in [("early", early, Joined::Early), ("late", late, Joined::Late)] {
        assert_received(who, &source.packets, &probed(&player.finish(seconds(20))), joined, Seen::AsReceived);
    }
}
