//! A node that pulls and pushes is told to end.

use std::{process::Command, time::Duration};

use crate::{
    common::{
        media, seconds,
        server::{Driver, Server},
        tool::{Client, require},
        wait_for,
    },
    fake::{Fake, Manner},
};

/// How long a node has to end when it is told to.
const END: Duration = seconds(10);

on_both_drivers!(sigterm_ends_pulls_and_pushes_in_order);

fn sigterm_ends_pulls_and_pushes_in_order(driver: Driver) {
    let origin = Server::start(driver, 2, &["--unpublish-grace-s", "1"]);
    let (target, fake) = (Server::start(driver, 2, &["--unpublish-grace-s", "1"]), Fake::start(Manner::Accepts));
    let pull = format!("live/*={}", origin.url("{stream}"));
    let push = format!("live/*={},{}", target.url("{stream}"), fake.url("{stream}"));
    let mut edge = Server::start(driver, 2, &["--pull", &pull, "--push", &push]);

    let publisher = media::publish(require("ffmpeg"), media::av(), &origin.url("show"));
    let sink = |url: &str| {
        Client::spawn(
            Command::new(require("ffmpeg"))
                .args(["-nostdin", "-v", "error", "-i", url, "-c", "copy", "-f", "null", "-"]),
        )
    };
    let player = sink(&edge.url("show"));
    target.wait_running_for("show", 1_000);
    let at_target = sink(&target.url("show"));
    target.wait_metric("shardcast_players", &[], |players| players == 1.0);

    edge.signal("TERM");
    let status = edge.wait_exit(END);
    assert_eq!(status.code(), Some(0));
    // A target hears that the stream has ended before it sees the connection's end.
    let commands = wait_for("the end of the connection", seconds(5), || {
        Some(fake.commands()).filter(|commands| commands.contains(&"FIN".to_owned()))
    });
    let said_last = &commands[commands.len().saturating_sub(3)..];
    assert_eq!(said_last, ["FCUnpublish", "deleteStream", "FIN"], "{commands:?}");
    target.wait_gone("show", seconds(5));
    player.finish(seconds(5));
    at_target.finish(seconds(5));
    publisher.finish(seconds(media::SOURCE_SECONDS + 10));
}
