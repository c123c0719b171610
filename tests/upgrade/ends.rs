//! Ends while several processes serve: of the new one, of the old one, and of those between.

use std::{fs, process::Command};

use crate::common::{
    moving::frame,
    rtmp::Peer,
    seconds,
    server::{Driver, Server, binary, lives},
    tool::Folder,
    wait_for,
};

#[track_caller]
pub fn kill(pid: u32, signal: &str) {
    let sent = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status();
    assert!(sent.expect("kill is on PATH").success(), "process {pid} is gone");
}

#[test]
fn a_stream_outlives_two_upgrades() {
    let mut server = Server::start(Driver::Auto, 2, &["--unpublish-grace-s", "1"]);
    let first = server.pid();
    let (mut publisher, stream) = Peer::publisher(server.rtmp, "show");
    publisher.send(&frame(stream, 0));
    server.wait_messages("show", 1);
    server.upgrade();
    let second = server.pid();
    server.upgrade();
    std::thread::sleep(seconds(2));
    assert!(lives(first) && lives(second), "the one between is the way to the first");
    let mut player = Peer::player(server.rtmp, "show");
    assert!(player.next_media().is_some());
    publisher.send(&frame(stream, 10));
    assert!(player.next_media().is_some());
    drop(publisher);
    server.wait_gone_process(first, seconds(15));
    server.wait_gone_process(second, seconds(15));
    assert!(!server.log().contains("ERROR"), "{}", server.log());
    assert!(Peer::connected(server.rtmp).is_served());
}

#[test]
fn connections_are_taken_again_if_the_new_process_dies() {
    let folder = Folder::new("upgrade-ends");
    let file = folder.path("node.sock");
    let mut server = Server::start(Driver::Auto, 2, &["--rtmp", &format!("unix:{}", file.display())]);
    let old = server.pid();
    let (mut publisher, stream) = Peer::publisher(server.rtmp, "show");
    publisher.send(&frame(stream, 0));
    server.upgrade();
    let new = server.pid();
    kill(new, "KILL");
    server.wait_said("connections are taken here again");
    server.forget_successor();
    assert_eq!(server.pid(), old);
    assert!(Peer::connected(server.rtmp).is_served());
    assert!(Peer::dial_unix(&file).past_handshake().past_connect().is_served());
    assert_eq!(server.get("/readyz").expect("the admin listener").0, 200);
    let mut player = Peer::player(server.rtmp, "show");
    publisher.send(&frame(stream, 10));
    assert!(player.next_media().is_some());
    // And it can be replaced as before.
    server.upgrade();
    assert!(lives(server.pid()) && server.pid() != new);
    assert!(Peer::connected(server.rtmp).is_served());
    server.signal("TERM");
    wait_for("the file to be removed", seconds(10), || (!file.exists()).then_some(()));
}

#[test]
fn the_admin_listener_is_back_where_the_new_process_had_none() {
    let folder = Folder::new("upgrade-admin");
    let config = folder.path("node.toml");
    let write = |admin: &str| {
        let rest = "rtmp = \"127.0.0.1:0\"\nno-pin = true\nlandlock = \"off\"\nshards = 1\n";
        fs::write(&config, format!("admin = \"{admin}\"\n{rest}")).expect("a file of ours");
    };
    write("127.0.0.1:0");
    let mut server = Server::run(&[&binary(), "--config", config.to_str().expect("a plain path")]);
    let first = server.pid();
    for other in ["off", "127.0.0.2:0"] {
        let _player = Peer::player(server.rtmp, "show");
        server.wait_metric("shardcast_players", &[], |players| players > 0.0);
        write(other);
        server.upgrade();
        wait_for("the listener to be shut", seconds(10), || std::net::TcpStream::connect(server.admin).err());
        kill(server.pid(), "KILL");
        server.wait_said("connections are taken here again");
        server.forget_successor();
        let status = wait_for("an answer", seconds(5), || server.get("/readyz").ok());
        assert_eq!(status.0, 200);
        assert_eq!(server.pid(), first);
    }
    write("127.0.0.1:0");
    let _player = Peer::player(server.rtmp, "show");
    server.upgrade();
    assert!(Peer::connected(server.rtmp).is_served());
    assert_eq!(server.get("/readyz").expect("the admin listener").0, 200);
    assert!(!server.log().contains("the upgrade failed"), "{}", server.log());
}

#[test]
fn a_new_process_that_ends_in_order_leaves_nobody_to_take_connections() {
    let mut server = Server::start(Driver::Auto, 2, &[]);
    let old = server.pid();
    let mut player = Peer::player(server.rtmp, "show");
    let (publisher, _) = Peer::publisher(server.rtmp, "show");
    server.upgrade();
    let new = server.pid();
    server.signal("TERM");
    server.wait_gone_process(new, seconds(10));
    server.wait_said("nobody takes connections");
    assert!(!server.log().contains("ERROR"), "{}", server.log());
    assert!(std::net::TcpStream::connect(server.rtmp).is_err());
    assert!(player.is_served());
    drop((player, publisher));
    server.wait_gone_process(old, seconds(10));
}

#[test]
fn a_signal_begins_the_drain_that_is_configured() {
    let flags = "--drain-mode lb --drain-timeout-s 60 --drain-window-s 0 --drain-converge-s 5";
    let mut server = Server::start(Driver::Auto, 2, &flags.split(' ').collect::<Vec<_>>());
    let old = server.pid();
    let mut player = Peer::player(server.rtmp, "show");
    server.wait_metric("shardcast_players", &[], |players| players == 1.0);
    server.upgrade();
    kill(old, "TERM");
    std::thread::sleep(seconds(1));
    assert!(player.is_served(), "it has until the balancer knows");
    server.wait_gone_process(old, seconds(10));
    assert!(Peer::connected(server.rtmp).is_served());
    // The second is immediate.
    let _player = Peer::player(server.rtmp, "show");
    server.wait_metric("shardcast_players", &[], |players| players == 1.0);
    let old = server.pid();
    server.upgrade();
    kill(old, "TERM");
    std::thread::sleep(seconds(1));
    kill(old, "TERM");
    server.wait_said("stopped at once by a second signal");
}

#[test]
fn a_drain_of_the_new_process_is_that_of_the_old_one() {
    let mut server = Server::start(Driver::Auto, 2, &[]);
    let old = server.pid();
    let mut player = Peer::player(server.rtmp, "show");
    let (_publisher, _) = Peer::publisher(server.rtmp, "show");
    server.wait_metric("shardcast_players", &[], |players| players == 1.0);
    server.upgrade();
    let status = server.post("/api/drain?mode=lb&converge_s=0&window_s=0&timeout_s=10");
    assert_eq!(status, 202);
    assert!(player.closes_within(seconds(10)));
    server.wait_gone_process(old, seconds(10));
}

#[test]
fn a_process_that_leaves_or_was_replaced_starts_no_new_one() {
    let mut server = Server::start(Driver::Auto, 2, &[]);
    let old = server.pid();
    let _player = Peer::player(server.rtmp, "show");
    server.wait_metric("shardcast_players", &[], |players| players == 1.0);
    server.upgrade();
    kill(old, "USR2");
    server.wait_said(&format!("SIGUSR2 is for process {}", server.pid()));
    let _player = Peer::player(server.rtmp, "show");
    server.wait_metric("shardcast_players", &[], |players| players == 1.0);
    assert_eq!(server.post("/api/drain?timeout_s=60&converge_s=60"), 202);
    let begun = server.log().matches("is being started").count();
    server.signal("USR2");
    server.wait_said("this process leaves already: SIGUSR2 is ignored");
    assert_eq!(server.log().matches("is being started").count(), begun);
}
