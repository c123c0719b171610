//! Sockets in other hands: of more or fewer shards, of a socket file, of addresses that come and go.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::Path,
};

use crate::common::{
    rtmp::Peer,
    seconds,
    server::{Driver, Server, binary},
    tool::Folder,
    wait_for,
};

fn run(config: &Path) -> Server {
    Server::run(&[&binary(), "--config", config.to_str().expect("a plain path")])
}

fn write(config: &Path, shards: usize, rtmp: &[String]) {
    let text =
        format!("rtmp = {rtmp:?}\nadmin = \"127.0.0.1:0\"\nno-pin = true\nlandlock = \"off\"\nshards = {shards}\n");
    fs::write(config, text).expect("a file of ours");
}

/// Connects so often that each of a few listeners of the address gets some.
#[track_caller]
fn all_are_served(addr: SocketAddr) {
    let peers: Vec<_> = (0..60).map(|_| Peer::dial(addr)).collect();
    for peer in peers {
        assert_eq!(peer.past_handshake().connect("live").as_deref(), Some("NetConnection.Connect.Success"));
    }
}

fn shards(server: &Server) -> usize {
    server.metrics().by_label("shardcast_connections_accepted_total", "shard").len()
}

#[test]
fn every_listener_is_accepted_from_with_fewer_shards_and_with_more() {
    let folder = Folder::new("upgrade-shards");
    let config = folder.path("node.toml");
    let rtmp = ["127.0.0.1:0".to_owned()];
    write(&config, 3, &rtmp);
    let mut server = run(&config);
    for count in [1, 4, 2, 2] {
        write(&config, count, &rtmp);
        let before = server.pid();
        server.upgrade();
        server.wait_gone_process(before, seconds(20));
        assert_eq!(shards(&server), count);
        all_are_served(server.rtmp);
        let idle = server.metrics().by_label("shardcast_connections_accepted_total", "shard");
        assert!(idle.values().all(|accepted| *accepted > 0.0), "{idle:?}");
    }
}

#[test]
fn addresses_come_and_go() {
    let folder = Folder::new("upgrade-addresses");
    let config = folder.path("node.toml");
    // Of the system's choice once; then they are written down.
    write(&config, 2, &["127.0.0.1:0".to_owned(), "127.0.0.1:0".to_owned()]);
    let mut server = run(&config);
    let line = server.banner.lines().find(|line| line.starts_with("rtmp:")).expect("where it listens").to_owned();
    let addrs: Vec<SocketAddr> =
        line.split([' ', ',']).filter_map(|word| word.trim_start_matches("rtmp://").parse().ok()).collect();
    let [kept, dropped] = addrs[..] else { panic!("two addresses in {line}") };
    let file = folder.path("new.sock");
    write(&config, 2, &[kept.to_string(), format!("unix:{}", file.display())]);
    let before = server.pid();
    server.upgrade();
    server.wait_gone_process(before, seconds(20));
    assert!(server.log().contains(&format!("{dropped} is not among the addresses")), "{}", server.log());
    all_are_served(kept);
    assert!(TcpStream::connect(dropped).is_err(), "nobody has it any more");
    assert!(!server.log().contains("ERROR"), "{}", server.log());
    assert!(Peer::dial_unix(&file).past_handshake().connect("live").is_some());
}

#[test]
fn a_socket_file_stays_and_goes_with_the_last() {
    let folder = Folder::new("upgrade-file");
    let file = folder.path("node.sock");
    let mut server = Server::start(Driver::Auto, 2, &["--rtmp", &format!("unix:{}", file.display())]);
    for _ in 0..3 {
        let before = server.pid();
        server.upgrade();
        server.wait_gone_process(before, seconds(20));
        for _ in 0..4 {
            assert!(Peer::dial_unix(&file).past_handshake().connect("live").is_some());
        }
    }
    server.signal("TERM");
    wait_for("the file to be removed", seconds(10), || (!file.exists()).then_some(()));
}
