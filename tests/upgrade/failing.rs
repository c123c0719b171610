//! A new process that does not start: the old one serves on as if nothing had been.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::{
        fd::{AsFd, AsRawFd},
        unix::{fs::PermissionsExt, net::UnixListener},
    },
    path::{Path, PathBuf},
    process::Command,
};

use shardcast::shard::passing::Passing;

use crate::common::{
    rtmp::Peer,
    seconds,
    server::{Driver, Server, binary},
    tool::{Client, Folder},
    wait_for,
};

fn run(program: &Path, flags: &[&str]) -> Server {
    let usual = ["--rtmp", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--no-pin", "--shards", "2", "--landlock", "off"];
    let program = program.to_str().expect("a plain path");
    Server::run(&[program].into_iter().chain(usual).chain(flags.iter().copied()).collect::<Vec<_>>())
}

fn copied(folder: &Folder) -> PathBuf {
    folder.put_copy("node", &binary())
}

fn script(folder: &Folder, text: &str) {
    folder.put("node", |path| {
        fs::write(path, text).expect("a new file");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("ours");
    });
}

/// Asks for an upgrade and returns what is said of its failure.
fn fails(server: &Server) -> String {
    let before = server.log().len();
    server.signal("USR2");
    wait_for("the upgrade to fail", seconds(20), || {
        let log = server.log();
        log[before..].lines().find(|line| line.contains("the upgrade failed")).map(ToOwned::to_owned)
    })
}

#[test]
fn the_old_process_serves_on() {
    let folder = Folder::new("upgrade-failing");
    let program = copied(&folder);
    let socket = format!("unix:{}", folder.path("node.sock").display());
    let mut server = run(&program, &["--rtmp", &socket]);
    let (mut publisher, stream) = Peer::publisher(server.rtmp, "show");
    server.wait_live("show");
    let descriptors = server.descriptors();

    script(&folder, "#!/bin/sh\necho no such thing >&2\nexit 3\n");
    let said = fails(&server);
    assert!(said.contains("ended before it was ready: exit status: 3"), "{said}");
    assert!(server.log().contains("no such thing"), "what it said is in the same log");

    fs::remove_file(&program).expect("it is there");
    let said = fails(&server);
    assert!(said.contains("cannot start") && said.contains("No such file"), "{said}");

    // A release that rejects the configuration: it had the sockets already.
    script(&folder, &format!("#!/bin/sh\nexec {} \"$@\" --merge-ms 9999\n", binary()));
    let said = fails(&server);
    assert!(said.contains("exit status: 2"), "{said}");

    assert_eq!(server.descriptors(), descriptors);
    assert!(Peer::dial_unix(&folder.path("node.sock")).past_handshake().connect("live").is_some());
    assert!(Peer::connected(server.rtmp).is_served());
    publisher.announce_audio(stream);
    assert!(server.stream("show").is_some());

    // The next one is well.
    copied(&folder);
    server.upgrade();
    assert!(Peer::connected(server.rtmp).is_served());
}

#[test]
fn a_new_process_opens_nothing_unless_it_is_told_to() {
    let folder = Folder::new("opening");
    let program = copied(&folder);
    let config = folder.path("node.toml");
    let write = |text: &str| fs::write(&config, text).expect("a file of ours");
    fs::write(folder.path("signed"), "0123456789abcdef").expect("a new file");
    let rule = |action: &str| format!("[[{action}]]\nsigned = \"signed\"\n");
    write(&rule("publish"));
    let mut server = run(&program, &["--config", config.to_str().expect("a plain path")]);
    let answer = |server: &Server| {
        let mut peer = Peer::connected(server.rtmp);
        let stream = peer.create_stream();
        peer.publish(stream, "show").expect("an answer")
    };
    let refused = |server: &Server, action: &str| {
        let before = server.log().len();
        let said = fails(server);
        assert!(said.contains("exit status: 2"), "{said}");
        let why = format!("shardcast: the process before this one decides who may {action}, and with this");
        assert_eq!(server.log()[before..].matches(&why).count(), 1, "{}", server.log());
    };
    assert_eq!(answer(&server), "NetStream.Publish.Denied");

    for text in ["", "[[play]]\nopen = true\n", "on-play = \"http://127.0.0.1:1/\"\n"] {
        write(text);
        refused(&server, "publish");
        assert_eq!(answer(&server), "NetStream.Publish.Denied");
    }
    // A callback decides, too: nobody answers.
    write("on-connect = \"http://127.0.0.1:1/\"\n");
    server.upgrade();
    assert_ne!(
        Peer::dial(server.rtmp).past_handshake().connect("live").as_deref(),
        Some("NetConnection.Connect.Success")
    );
    write(&rule("publish"));
    refused(&server, "play");

    write("[[publish]]\nopen = true\n[[play]]\nopen = true\n");
    server.upgrade();
    assert_eq!(answer(&server), "NetStream.Publish.Start");
}

/// A node whose new process has been started and says nothing.
fn beginning_one_that_hangs(folder: &str) -> (Folder, Server) {
    let folder = Folder::new(folder);
    let program = copied(&folder);
    let server = run(&program, &[]);
    script(&folder, "#!/bin/sh\nexec sleep 60\n");
    server.signal("USR2");
    server.wait_said("is being started");
    (folder, server)
}

#[test]
fn a_new_process_that_hangs_is_stopped() {
    let (_folder, server) = beginning_one_that_hangs("upgrade-hanging");
    server.signal("USR2");
    server.wait_said("SIGUSR2 is ignored until it is over");
    wait_for("its time to be over", seconds(20), || server.log().contains("was not ready within 10s").then_some(()));
    assert!(Peer::connected(server.rtmp).is_served());
}

#[test]
fn a_drain_stops_a_new_process_that_does_not_listen_yet() {
    let (_folder, server) = beginning_one_that_hangs("upgrade-draining");
    assert_eq!(server.post("/api/drain?mode=lb&timeout_s=60&converge_s=60"), 202);
    server.wait_said("the new one is stopped");
    assert!(Peer::connected(server.rtmp).is_served(), "until the balancer knows");
}

#[test]
fn the_variable_is_not_for_others() {
    let mut node = Command::new(binary());
    node.args(["--rtmp", "127.0.0.1:0", "--admin", "off"]).env("SHARDCAST_HANDOVER", "1");
    let ended = Client::spawn(&mut node).wait(seconds(10));
    assert_eq!(ended.status.code(), Some(2));
    let said = ended.stderr;
    assert!(said.starts_with("shardcast: SHARDCAST_HANDOVER: ") && said.lines().count() == 1, "{said}");
}

#[test]
fn an_old_process_that_talks_nonsense_is_taken_over_from_all_the_same() {
    let folder = Folder::new("upgrade-nonsense");
    let file = folder.path("node.sock");
    let (stays, dropped) = (UnixListener::bind(&file).expect("a new file"), TcpListener::bind("127.0.0.1:0"));
    let dropped = dropped.expect("free");
    let addr = dropped.local_addr().expect("bound");
    let (ours, theirs) = Passing::pair().expect("descriptors");
    for (message, socket) in [
        (r#"{"hello":{"version":1,"pid":1,"generation":0}}"#, None),
        (r#"{"listening":{"role":"rtmp","chosen":false}}"#, Some(stays.as_fd())),
        (r#"{"listening":{"role":"rtmp","chosen":false}}"#, Some(dropped.as_fd())),
        (r#""all""#, None),
    ] {
        ours.send(message.as_bytes(), socket.as_slice()).expect("room");
    }
    // Instead of `yours`, which it will be asked for.
    ours.send(b"junk", &[]).expect("room");
    rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty()).expect("it is open");
    let script = format!("export SHARDCAST_HANDOVER=1; exec \"$@\" 0<&{}", theirs.as_fd().as_raw_fd());
    let socket = format!("unix:{}", file.display());
    let mut server = Server::start_by(&["bash", "-c", &script, "bash"], Driver::Auto, 1, &["--rtmp", &socket]);
    server.wait_said("the process before this one cannot be heard");
    assert!(TcpStream::connect(addr).is_err(), "nobody takes connections there");
    server.signal("TERM");
    server.wait_exit(seconds(10));
    assert!(!file.exists(), "it was the new one's to remove");
}

#[test]
fn a_relay_is_not_replaced_and_does_not_end_for_it() {
    let mut relay = Command::new(binary());
    relay.args(["relay", "rtmp://127.0.0.1:1/live/a", "rtmp://127.0.0.1:1/live/b"]);
    let mut relay = Client::spawn(&mut relay);
    // It takes signals by the time that it says something.
    wait_for("the relay to begin", seconds(10), || (!relay.said().is_empty()).then_some(()));
    relay.signal("USR2");
    wait_for("the signal to be noted", seconds(10), || relay.said().contains("SIGUSR2 is ignored").then_some(()));
    assert!(relay.is_running());
    relay.signal("TERM");
    relay.wait(seconds(10));
}
