//! An upgrade behind Landlock's fence, which the new process inherits: all that it reads is within its reach.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use crate::common::{
    rtmp::Peer,
    seconds,
    server::{Server, binary, has_landlock},
    tool::{Folder, require},
    wait_for,
};

/// A file for its owner only, in a folder that has nothing else.
fn alone(folder: &Folder, name: &str, content: &str) -> String {
    let place = folder.path(name);
    fs::create_dir_all(&place).expect("ours");
    let file = place.join("file");
    fs::write(&file, content).expect("ours");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("ours");
    file.to_str().expect("a plain path").to_owned()
}

/// A certificate and its key, in two folders.
fn certificate(folder: &Folder, common: &str) -> [String; 2] {
    let files = ["certificate", "key"].map(|name| alone(folder, name, ""));
    let line =
        format!("req -x509 -nodes -newkey rsa:2048 -days 30 -subj /CN={common} -out {} -keyout {}", files[0], files[1]);
    let made = Command::new(require("openssl")).args(line.split_whitespace()).output().expect("it is on PATH");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    files
}

fn config(folder: &Folder, rtmp: &Path) -> String {
    let [certificate, key] = certificate(folder, "first");
    let secret = |name| alone(folder, name, "0123456789abcdef0123456789abcdef\n");
    let text = format!(
        "rtmp = [\"127.0.0.1:0\", \"unix:{}\"]\nrtmps = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\nno-pin = true\n\
         shards = 2\nlandlock = \"on\"\ntls-cert = {certificate:?}\ntls-key = {key:?}\n\
         on-play-done = \"http://127.0.0.1:1/\"\ncallback-secret = {:?}\nplay-signed = {:?}\nupstream-ca = {certificate:?}\n\
         [[pull]]\nstreams = \"far/*\"\nsources = [\"rtmps://127.0.0.1:1/far/{{stream}}?key={{file:{}}}\"]\n",
        rtmp.display(),
        secret("callbacks"),
        secret("links"),
        secret("pulls"),
    );
    alone(folder, "config", &text)
}

#[test]
fn all_that_the_new_process_reads_is_within_its_reach() {
    if !has_landlock() {
        return;
    }
    let folder = Folder::new("upgrade-fenced");
    fs::create_dir_all(folder.path("sockets")).expect("ours");
    let socket = folder.path("sockets").join("rtmp.sock");
    let mut server = Server::run(&[&binary(), "--config", &config(&folder, &socket)]);
    for _ in 0..2 {
        let before = server.pid();
        server.upgrade();
        server.wait_gone_process(before, seconds(20));
        let (_publisher, _) = Peer::publisher(server.rtmp, "show");
        assert!(Peer::dial_unix(&socket).past_handshake().connect("live").is_some());
    }
    // It reads them again as the first one would have.
    certificate(&folder, "second");
    server.signal("HUP");
    wait_for("all to be read again", seconds(10), || {
        let log = server.log();
        ["certificates were read again", "access rules were read again"]
            .iter()
            .all(|said| log.contains(said))
            .then_some(())
    });
    assert!(!server.log().contains("ermission denied"), "{}", server.log());
    server.signal("TERM");
    wait_for("the socket file to be removed", seconds(10), || (!socket.exists()).then_some(()));
}
