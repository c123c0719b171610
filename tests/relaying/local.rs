//! A node that pulls from another one on its machine, over a socket file.

use std::path::PathBuf;

use crate::common::{
    media,
    packets::{Joined, Seen, assert_received, ffprobe, probed},
    seconds,
    server::{Driver, Server},
    tool::require,
};

/// Where a node listens. Not in the build's folder: a socket's path has 107 bytes at most.
struct SocketFile(PathBuf);

impl SocketFile {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("shardcast-relaying-{}.sock", std::process::id())))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A node that was killed leaves it.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_stream_passes_a_socket_file() {
    let file = SocketFile::new();
    let listen = format!("unix:{}", file.0.display());
    let origin = Server::start(Driver::Auto, 2, &["--rtmp", &listen, "--unpublish-grace-s", "1"]);
    let rule = format!("live/*={listen}");
    let edge = Server::start(Driver::Auto, 2, &["--pull", &rule, "--unpublish-grace-s", "1"]);

    let source = media::av();
    let early = ffprobe(edge.url("show"));
    edge.wait_metric("shardcast_players", &[], |waiting| waiting == 1.0);
    let publisher = media::publish(require("ffmpeg"), source, &origin.url("show"));
    edge.wait_running_for("show", 1_500);
    let late = ffprobe(edge.url("show"));
    assert_eq!(edge.relays().pull("live/show", "source"), Some(listen));

    publisher.finish(seconds(media::SOURCE_SECONDS + 10));
    for (who, player, joined) in [("early", early, Joined::Early), ("late", late, Joined::Late)] {
        assert_received(who, &source.packets, &probed(&player.finish(seconds(20))), joined, Seen::AsReceived);
    }
}
