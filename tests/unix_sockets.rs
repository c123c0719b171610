//! A node that listens on a socket file: it is published to and played from there as over TCP, on every shard, and the file
//! comes and goes with the node.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

mod common;

use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::Path,
    process::Command,
};

use common::{
    rtmp::{Message, Peer, VIDEO, message},
    seconds,
    server::{Driver, Server, binary},
    tool::{Client, Folder},
};

fn start(driver: Driver, shards: usize, path: &Path) -> Server {
    Server::start(driver, shards, &["--rtmp", &flag(path)])
}

fn flag(path: &Path) -> String {
    format!("unix:{}", path.display())
}

fn connected(path: &Path) -> Peer {
    Peer::dial_unix(path).past_handshake().past_connect()
}

/// A keyframe.
fn frame(stream: u32, number: u32) -> Message {
    let payload = [&[0x17, 1, 0, 0, 0][..], &number.to_be_bytes(), &vec![number as u8; 100_000]].concat();
    message(6, VIDEO, stream, number * 40, payload)
}

#[test]
fn streams_are_published_and_played_over_it_and_over_tcp() {
    let folder = Folder::new("unix-streams");
    let path = folder.path("node.sock");
    for driver in [Driver::Uring, Driver::Legacy] {
        let server = start(driver, 2, &path);
        assert!(server.banner.contains(&flag(&path)), "{}", server.banner);
        // Enough for both shards to have some.
        let mut players = (0..8).map(|_| connected(&path).playing("file")).collect::<Vec<_>>();
        players.push(Peer::player(server.rtmp, "file"));
        let mut other_way = connected(&path).playing("tcp");
        server.wait_metric("shardcast_players", &[], |players| players == 10.0);
        let (mut by_file, file_stream) = connected(&path).publishing("file");
        by_file.use_chunk_size(60_000);
        let (mut by_tcp, tcp_stream) = Peer::publisher(server.rtmp, "tcp");
        by_tcp.use_chunk_size(60_000);
        for number in 0..20 {
            assert!(by_file.send(&frame(file_stream, number)) && by_tcp.send(&frame(tcp_stream, number)));
            for player in players.iter_mut().chain([&mut other_way]) {
                let seen = player.next_media().expect("it is served");
                assert!(seen.payload == frame(1, number).payload, "frame {number}");
            }
        }
    }
}

#[test]
fn the_file_is_for_user_and_group_and_is_removed_at_the_end() {
    let folder = Folder::new("unix-file");
    let path = folder.path("node.sock");
    for driver in [Driver::Uring, Driver::Legacy] {
        let mut server = start(driver, 2, &path);
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o660);
        let descriptors = server.descriptors();
        for _ in 0..20 {
            assert!(connected(&path).is_served());
        }
        server.wait_metric("shardcast_connections", &[], |connections| connections == 0.0);
        assert_eq!(server.descriptors(), descriptors);
        server.signal("TERM");
        assert!(server.wait_exit(seconds(10)).success());
        assert!(!path.exists());
    }
}

#[test]
fn a_file_left_by_a_killed_node_is_replaced() {
    let folder = Folder::new("unix-stale");
    let path = folder.path("node.sock");
    drop(start(Driver::Auto, 1, &path));
    assert!(path.exists(), "it was killed");
    let _server = start(Driver::Auto, 1, &path);
    assert!(connected(&path).is_served());
}

/// What the program says when it is to listen at `path`, and its exit code.
fn refusal(path: &Path) -> (String, Option<i32>) {
    let mut node = Command::new(binary());
    node.args(["--rtmp", &flag(path), "--admin", "off", "--no-pin", "--shards", "1"]);
    let ended = Client::spawn(&mut node).wait(seconds(20));
    (ended.stderr, ended.status.code())
}

#[test]
fn what_others_have_there_is_left_alone() {
    let folder = Folder::new("unix-live");
    let path = folder.path("node.sock");
    let _listener = UnixListener::bind(&path).expect("a new file");
    let (text, code) = refusal(&path);
    assert!(
        text.contains(&format!("--rtmp \"{}\": ", flag(&path))) && text.contains("another process listens"),
        "{text}"
    );
    assert_eq!(code, Some(2));
    let notes = folder.path("notes");
    fs::write(&notes, "kept").expect("a file");
    let (text, _) = refusal(&notes);
    assert!(text.contains("not a socket"), "{text}");
    assert_eq!(fs::read_to_string(&notes).expect("it is there"), "kept");
    let (text, _) = refusal(&folder.path("missing/node.sock"));
    assert!(text.contains("make the directory first"), "{text}");
}
