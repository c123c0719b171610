//! Publishers that vanish.

use std::time::{Duration, Instant};

use crate::{
    audience::Ground,
    common::{media, rtmp::Peer, seconds, tool::require, wait_for},
};

#[test]
fn the_name_of_a_publisher_that_is_killed_is_free_within_a_second() {
    let ground = Ground::new(&[]);
    let victim = media::publish(require("ffmpeg"), media::av(), &ground.server.url("victim"));
    ground.server.wait_live("victim");
    ground.server.wait_messages("victim", 20);
    victim.signal("KILL");
    let killed = Instant::now();
    let taken = wait_for("the name to be free", seconds(1), || {
        let mut next = Peer::connected(ground.server.rtmp);
        let stream = next.create_stream();
        (next.publish(stream, "victim").as_deref() == Some("NetStream.Publish.Start")).then_some(next)
    });
    assert!(killed.elapsed() <= Duration::from_secs(1), "it took {:?}", killed.elapsed());
    drop((victim, taken));
    ground.server.wait_gone("victim", seconds(5));
    ground.assert_recovers();
}
