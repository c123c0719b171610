//! `shardcast relay FROM TO`: one stream from one node to another, until Ctrl-C.

use std::process::Command;

use crate::common::{
    media,
    packets::{Joined, Seen, assert_received, ffprobe, probed},
    seconds,
    server::{Driver, Server, binary},
    tool::{Client, require},
    wait_for,
};

#[test]
fn a_stream_is_relayed_until_ctrl_c() {
    let [from, to] = [(); 2].map(|()| Server::start(Driver::Auto, 2, &["--unpublish-grace-s", "1"]));
    let player = ffprobe(to.url("copy"));
    to.wait_metric("shardcast_players", &[], |waiting| waiting == 1.0);
    let source = media::av();
    let relay = Client::spawn(Command::new(binary()).args(["relay", &from.url("show"), &to.url("copy")]));
    // A node that has no such stream lets players wait: the relay does.
    from.wait_metric("shardcast_players", &[], |waiting| waiting == 1.0);
    let publisher = media::publish(require("ffmpeg"), source, &from.url("show"));
    to.wait_running_for("copy", 500);
    publisher.finish(seconds(media::SOURCE_SECONDS + 10));
    let received = probed(&player.finish(seconds(20)));
    assert_received("ffprobe", &source.packets, &received, Joined::Early, Seen::AsReceived);

    // It waits for the stream to come back.
    wait_for("the relay to ask again", seconds(20), || {
        (from.metrics().sum("shardcast_players", &[]) == 1.0).then_some(())
    });
    let mut publisher = media::publish(require("ffmpeg"), source, &from.url("show"));
    to.wait_running_for("copy", 2_000);
    relay.signal("INT");
    let ended = relay.wait(seconds(10));
    to.wait_gone("copy", seconds(10));
    publisher.kill();
    assert_eq!(ended.status.code(), Some(0));
    let other = ended.stderr.lines().find(|line| !line.contains("no media came in time (--upstream-first-byte-ms)"));
    assert_eq!(other, None, "nothing is said but that the stream was not there yet");
    assert_progress(&ended.stdout, &from);
}

/// What runs and until when, and then, every ten seconds, how it goes. The name at the target is a secret.
#[track_caller]
fn assert_progress(said: &str, from: &Server) {
    let mut lines = said.lines();
    assert!(lines.next().is_some_and(|line| line.starts_with(&format!("{} -> rtmp://", from.url("show")))), "{said}");
    assert!(lines.next().is_some_and(|line| line.contains("until Ctrl-C")), "{said}");
    let at = lines.next().unwrap_or_else(|| panic!("nothing was said after ten seconds: {said}"));
    let words = [" Mb/s, 0.", &format!(" MB from {}", from.url("show")), "the stream has ended", " publishing, 0."];
    assert!(at.starts_with("00:00:1") && words.iter().all(|words| at.contains(words)), "{said}");
    assert!(!said.contains("copy"), "{said}");
}
