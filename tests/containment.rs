//! What a node gives up once it listens, seen from outside: its user, new privileges, and files it does not need.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

mod common;

use std::{
    fs,
    os::unix::{fs::symlink, process::CommandExt},
    path::Path,
    process::Command,
};

use common::{
    is_root,
    rtmp::Peer,
    seconds,
    server::{Driver, Server, binary, has_landlock},
    tool::{Client, Folder},
    wait_for,
};

/// A user without a name, so that it owns nothing.
const NOBODY_ELSE: u32 = 3_999_999;

/// What needs root.
const ANOTHER_USER: &str = "becoming another user needs";

/// What the kernel says of a property of each thread.
fn of_threads(pid: u32, property: &str) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the server runs");
    let read = |path: &Path| {
        let status = fs::read_to_string(path.join("status")).expect("the thread runs");
        let line = status.lines().find_map(|line| line.strip_prefix(property)).expect("a property").to_owned();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    threads.map(|thread| read(&thread.expect("a thread").path())).collect()
}

/// A publisher and a player are served.
#[track_caller]
fn assert_serves(server: &Server) {
    let (mut publisher, stream) = Peer::publisher(server.rtmp, "contained");
    publisher.announce_audio(stream);
    server.wait_live("contained");
    drop(Peer::player(server.rtmp, "contained"));
}

#[test]
fn every_thread_gives_up_its_user_and_new_privileges() {
    if !is_root(ANOTHER_USER) {
        return;
    }
    let user = format!("{NOBODY_ELSE}:{NOBODY_ELSE}");
    for driver in [Driver::Uring, Driver::Legacy] {
        let server = Server::start(driver, 2, &["--user", &user]);
        let all = [NOBODY_ELSE.to_string().as_str(); 4].join(" ");
        for (property, expected) in [
            ("Uid:", all.as_str()),
            ("Gid:", &all),
            ("Groups:", &NOBODY_ELSE.to_string()),
            ("CapEff:", "0000000000000000"),
            ("CapPrm:", "0000000000000000"),
            ("NoNewPrivs:", "1"),
        ] {
            let seen = of_threads(server.pid(), property);
            assert!(seen.len() >= 4 && seen.iter().all(|value| value == expected), "{property} {seen:?}");
        }
        assert_serves(&server);
        assert!(!server.log().contains("serves as root"), "{}", server.log());
    }
}

#[test]
fn every_thread_gives_up_new_privileges_without_a_fence_too() {
    let server = Server::start(Driver::Auto, 2, &["--landlock", "off"]);
    // The log's thread does it itself, when it comes to it.
    let all = || of_threads(server.pid(), "NoNewPrivs:").iter().all(|value| value == "1").then_some(());
    wait_for("all threads to give them up", seconds(5), all);
}

#[test]
fn serving_as_root_is_warned_of_unless_it_is_asked_for() {
    if !is_root(ANOTHER_USER) {
        return;
    }
    let warned = |flags: &[&str]| {
        let server = Server::start(Driver::Auto, 1, flags);
        server.wait_said("started shards");
        server.log().contains("WARN shardcast::control::containment: serves as root")
    };
    assert!(warned(&[]));
    assert!(!warned(&["--user", "root"]));
}

#[test]
fn who_may_not_change_its_user_is_told_in_one_line() {
    if !is_root(ANOTHER_USER) {
        return;
    }
    // The build's folder may be out of reach for others.
    let folder = Folder::new("contained-user");
    let mut command = Command::new(folder.put_copy("node", &binary()));
    command.args(["--rtmp", "127.0.0.1:0", "--admin", "off", "--user", "root"]).uid(NOBODY_ELSE).gid(NOBODY_ELSE);
    let ended = Client::spawn(&mut command).wait(seconds(10));
    assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
    let line = format!("--user \"root\": this process runs as user {NOBODY_ELSE} and may not become another");
    assert!(ended.stderr.contains(&line), "{}", ended.stderr);
}

#[test]
fn a_socket_file_goes_to_the_user_who_removes_it_at_the_end() {
    if !is_root(ANOTHER_USER) {
        return;
    }
    let folder = Folder::new("contained-socket");
    let file = folder.path("rtmp.sock");
    let user = format!("{NOBODY_ELSE}:{NOBODY_ELSE}");
    let rtmp = format!("unix:{}", file.display());
    let mut server = Server::start(Driver::Auto, 1, &["--rtmp", &rtmp, "--user", &user]);
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(&file).expect("it listens there").uid(), NOBODY_ELSE);
    server.signal("TERM");
    assert_eq!(server.wait_exit(seconds(10)).code(), Some(0));
    assert!(!file.exists(), "the file is still there");
}

/// What a pull by TLS says of its file of root certificates once that leads to another folder than at start.
fn pull_with_moved_certificates(landlock: &str) -> String {
    let (named, elsewhere) = (Folder::new(&format!("named-{landlock}")), Folder::new(&format!("elsewhere-{landlock}")));
    let file = named.path("ca.pem");
    fs::write(&file, "as at start").expect("a file");
    let ca = file.to_str().expect("UTF-8");
    let pull = "live/*=rtmps://127.0.0.1:1/live/{stream}";
    let server = Server::start(Driver::Auto, 1, &["--upstream-ca", ca, "--pull", pull, "--landlock", landlock]);
    fs::write(elsewhere.path("ca.pem"), "not there at start").expect("a file");
    fs::remove_file(&file).expect("it is ours");
    symlink(elsewhere.path("ca.pem"), &file).expect("a link");
    let _player = Peer::player(server.rtmp, "moved");
    wait_for("the pull to fail", seconds(10), || {
        let log = server.log();
        log.lines().find(|line| line.contains("ca.pem")).map(str::to_owned)
    })
}

#[test]
fn files_a_node_does_not_need_are_out_of_its_reach() {
    let open = pull_with_moved_certificates("off");
    assert!(open.contains("no certificate in PEM"), "{open}");
    if !has_landlock() {
        return;
    }
    let fenced = pull_with_moved_certificates("on");
    assert!(fenced.contains("ermission denied"), "{fenced}");
}
