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

use crate::{
    common::{
        rtmp::Peer,
        seconds,
        server::{Driver, Server, binary},
        wait_for,
    },
    folder::Folder,
};

fn run(program: &Path, flags: &[&str]) -> Server {
    let usual = ["--rtmp", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--no-pin", "--shards", "2", "--landlock", "off"];
    let program = program.to_str().expect("a plain path");
    Server::run(&[program].into_iter().chain(usual).chain(flags.iter().copied()).collect::<Vec<_>>())
}

fn copied(folder: &Folder) -> PathBuf {
    // By a process of its own: a test that starts one meanwhile would hold the file open, which then cannot be run.
    folder.put("node", |path| {
        assert!(Command::new("cp").arg(binary()).arg(path).status().expect("cp is on PATH").success());
    })
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
    let folder = Folder::new("failing");
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

#[test]
fn a_new_process_that_hangs_is_stopped() {
    let folder = Folder::new("hanging");
    let program = copied(&folder);
    let server = run(&program, &[]);
    script(&folder, "#!/bin/sh\nexec sleep 60\n");
    server.signal("USR2");
    wait_for("it to be started", seconds(5), || server.log().contains("is being started").then_some(()));
    server.signal("USR2");
    wait_for("the second signal to be noted", seconds(5), || {
        server.log().contains("SIGUSR2 is ignored until it is over").then_some(())
    });
    wait_for("its time to be over", seconds(20), || server.log().contains("was not ready within 10s").then_some(()));
    assert!(Peer::connected(server.rtmp).is_served());
}

#[test]
fn a_drain_stops_a_new_process_that_does_not_listen_yet() {
    let folder = Folder::new("draining");
    let program = copied(&folder);
    let server = run(&program, &[]);
    script(&folder, "#!/bin/sh\nexec sleep 60\n");
    server.signal("USR2");
    wait_for("it to be started", seconds(5), || server.log().contains("is being started").then_some(()));
    assert_eq!(server.post("/api/drain?mode=lb&timeout_s=60&converge_s=60"), 202);
    wait_for("it to be stopped", seconds(5), || server.log().contains("the new one is stopped").then_some(()));
    assert!(Peer::connected(server.rtmp).is_served(), "until the balancer knows");
}

#[test]
fn the_variable_is_not_for_others() {
    let output = Command::new(binary())
        .env("SHARDCAST_HANDOVER", "1")
        .stdin(std::process::Stdio::null())
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("shardcast: SHARDCAST_HANDOVER: ") && said.lines().count() == 1, "{said}");
}

#[test]
fn an_old_process_that_talks_nonsense_is_taken_over_from_all_the_same() {
    let folder = Folder::new("nonsense");
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
    wait_for("the old process to be given up", seconds(5), || {
        server.log().contains("the process before this one cannot be heard").then_some(())
    });
    assert!(TcpStream::connect(addr).is_err(), "nobody takes connections there");
    server.signal("TERM");
    server.wait_exit(seconds(10));
    assert!(!file.exists(), "it was the new one's to remove");
}

#[test]
fn a_relay_is_not_replaced_and_does_not_end_for_it() {
    let mut relay = Command::new(binary())
        .args(["relay", "rtmp://127.0.0.1:1/live/a", "rtmp://127.0.0.1:1/live/b"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it runs");
    std::thread::sleep(seconds(1));
    let pid = relay.id().to_string();
    assert!(Command::new("kill").args(["-USR2", &pid]).status().expect("kill is on PATH").success());
    std::thread::sleep(seconds(1));
    let ended = relay.try_wait().expect("a child");
    let _ = relay.kill();
    let said = relay.wait_with_output().expect("a child").stderr;
    assert!(ended.is_none());
    assert!(String::from_utf8_lossy(&said).contains("SIGUSR2 is ignored"));
}
