//! Servers that are told of ends: each, once, in order, also of clients that died and of a node that ends.

use crate::{
    backend::{Backend, Reply},
    common::{
        media,
        rtmp::Peer,
        seconds,
        server::{Driver, Server},
        tool::require,
        wait_for,
    },
};

#[test]
fn the_end_of_a_killed_encoder_is_told() {
    let backend = Backend::start(|_| Reply::Status(500, ""));
    let flags = [backend.flag("publish-done"), backend.flag("play-done")];
    let server = Server::start(Driver::Auto, 2, &[&flags[0], &flags[1], "--unpublish-grace-s", "0"]);
    let player = Peer::player(server.rtmp, "show");
    let mut publisher = media::publish(require("ffmpeg"), media::av(), &server.url("show"));
    server.wait_running_for("show", 500);
    assert!(backend.requests().is_empty());
    publisher.kill();
    let end = backend.wait_for("its end", seconds(5), |request| request.path == "/publish-done").json();
    assert_eq!((&end["event"], &end["stream"]["key"]), (&"publish_done".into(), &"live/show".into()));
    drop(player);
    backend.wait_for("the player's end", seconds(5), |request| request.path == "/play-done");
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(backend.requests().len(), 2, "once each, whatever the answer");
}

#[test]
fn a_node_that_ends_tells_the_ends_of_all_first() {
    let backend = Backend::start(|_| Reply::After(std::time::Duration::from_millis(200), 200));
    let flags = [backend.flag("publish"), backend.flag("publish-done"), backend.flag("play-done")];
    let mut server = Server::start(Driver::Auto, 2, &[&flags[0], &flags[1], &flags[2], "--callback-concurrency", "3"]);
    let publishers: Vec<_> = (0..6).map(|n| Peer::publisher(server.rtmp, &format!("show-{n}"))).collect();
    let players: Vec<_> = (0..6).map(|n| Peer::player(server.rtmp, &format!("show-{n}"))).collect();
    server.wait_metric("shardcast_players", &[], |players| players == 6.0);
    server.signal("TERM");
    assert_eq!(server.wait_exit(seconds(10)).code(), Some(0));
    let paths = backend.paths();
    let count = |path: &str| paths.iter().filter(|told| *told == path).count();
    assert_eq!((count("/publish-done"), count("/play-done")), (6, 6), "{paths:?}");
    drop((publishers, players));
}

/// One client that begins and ends often: its events come one after the other.
#[test]
fn the_events_of_a_client_keep_their_order() {
    // An end takes longer than the question that follows it.
    let backend = Backend::start(|request| match request.path.as_str() {
        "/publish-done" => Reply::After(std::time::Duration::from_millis(60), 200),
        _ => Reply::Status(200, ""),
    });
    let flags = [backend.flag("publish"), backend.flag("publish-done")];
    let server = Server::start(Driver::Auto, 1, &[&flags[0], &flags[1]]);
    let mut peer = Peer::connected(server.rtmp);
    for n in 0..5 {
        let stream = peer.create_stream();
        assert_eq!(peer.publish(stream, format!("show-{n}")).as_deref(), Some("NetStream.Publish.Start"));
        let deleted = [crate::common::amf::null(), crate::common::amf::number(stream.into())];
        peer.send_command(0, "deleteStream", &deleted);
    }
    wait_for("all ends", seconds(5), || (backend.requests().len() == 10).then_some(()));
    let events = backend.requests().into_iter().map(|told| (told.path.clone(), told.json()["stream"]["name"].clone()));
    let expected = (0..5).flat_map(|n| {
        let name = serde_json::Value::from(format!("show-{n}"));
        [("/publish".to_owned(), name.clone()), ("/publish-done".to_owned(), name)]
    });
    assert_eq!(events.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}
