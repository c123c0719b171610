//! What a service manager tells a node (`LISTEN_FDS`) and hears from it (`NOTIFY_SOCKET`), with a stand-in for systemd.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

mod common;

use std::{
    fs,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::{fd::AsRawFd, unix::net::UnixDatagram},
    sync::mpsc,
    time::Duration,
};

use common::{
    rtmp::Peer,
    seconds,
    server::{Driver, Server, binary},
    tool::Folder,
    wait_for,
};

/// A socket that messages come to. Descriptors that come with them are closed.
struct Manager {
    socket: UnixDatagram,
    folder: Folder,
    messages: mpsc::Receiver<String>,
}

impl Manager {
    fn new(test: &str) -> Self {
        let folder = Folder::new(test);
        let socket = UnixDatagram::bind(folder.path("notify")).expect("a new file");
        let (say, messages) = mpsc::channel();
        let reader = socket.try_clone().expect("descriptors");
        // At once, as a manager does: few messages find room in the socket.
        std::thread::spawn(move || {
            let mut buffer = [0; 4_096];
            while let Ok(length @ 1..) = reader.recv(&mut buffer) {
                if say.send(String::from_utf8_lossy(&buffer[..length]).into_owned()).is_err() {
                    break;
                }
            }
        });
        Self { socket, folder, messages }
    }

    /// Starts a node that knows of the manager, with these variables besides; the shell's pid becomes the node's.
    fn start(&self, variables: &str, redirect: &str, flags: &[&str]) -> Server {
        Server::start_by(&["bash", "-c", &self.script(variables, redirect), "bash"], Driver::Auto, 2, flags)
    }

    fn script(&self, variables: &str, redirect: &str) -> String {
        let path = self.folder.path("notify");
        let path = path.to_str().expect("a plain path");
        format!("export NOTIFY_SOCKET={path} LISTEN_PID=$$ {variables}; exec \"$@\" {redirect}")
    }

    /// Waits for a message with that line, and returns it.
    #[track_caller]
    fn hear(&self, line: &str) -> String {
        wait_for(&format!("{line} to be said"), seconds(15), || {
            self.next().filter(|text| text.lines().any(|l| l == line))
        })
    }

    fn next(&self) -> Option<String> {
        self.messages.recv_timeout(Duration::from_millis(50)).ok()
    }

    /// The messages about kept sockets until there are no more.
    fn kept(&self) -> Vec<String> {
        let words = |text: String| text.starts_with("FDSTORE").then(|| text.replace('\n', " "));
        std::iter::from_fn(|| self.messages.recv_timeout(seconds(1)).ok()).filter_map(words).collect()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // Its reader ends.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

#[test]
fn the_manager_hears_of_start_upgrade_and_end() {
    let manager = Manager::new("systemd-life");
    let mut server = manager.start("", "", &[]);
    assert!(manager.hear("READY=1").contains(&format!("MAINPID={}", server.pid())));
    server.upgrade();
    assert!(manager.hear("RELOADING=1").contains("MONOTONIC_USEC="));
    let pid = server.pid();
    assert!(manager.hear("READY=1").contains(&format!("MAINPID={pid}\n")));
    // The old process, which ends now, does not speak for the service.
    std::thread::sleep(seconds(1));
    assert_eq!(manager.next(), None);
    server.signal("TERM");
    manager.hear("STOPPING=1");
}

#[test]
fn the_watchdog_is_fed_while_shards_turn() {
    let manager = Manager::new("systemd-watchdog");
    let server = manager.start("WATCHDOG_USEC=600000", "", &[]);
    for _ in 0..4 {
        manager.hear("WATCHDOG=1");
    }
    server.signal("STOP");
    // What it said before.
    while manager.next().is_some() {}
    std::thread::sleep(seconds(6));
    assert_eq!(manager.next(), None);
    server.signal("CONT");
    manager.hear("WATCHDOG=1");
    // Nothing turned for longer than a hang takes, the watchdog's own thread included.
    std::thread::sleep(seconds(1));
    assert!(Peer::connected(server.rtmp).is_served());
}

/// A listener for programs that are started, as their first descriptor behind the usual three: its address, and how a shell
/// hands it on.
fn given() -> (TcpListener, SocketAddr, String) {
    let given = TcpListener::bind("127.0.0.1:0").expect("free");
    rustix::io::fcntl_setfd(&given, rustix::io::FdFlags::empty()).expect("it is open");
    let addr = given.local_addr().expect("bound");
    let number = given.as_raw_fd();
    let redirect = if number == 3 { String::new() } else { format!("3<&{number} {number}<&-") };
    (given, addr, redirect)
}

#[test]
fn a_given_socket_is_listened_on_and_left_open_whatever_its_name() {
    let manager = Manager::new("systemd-given");
    let (_given, addr, redirect) = given();
    let mut server = manager.start("LISTEN_FDS=1 LISTEN_FDNAMES=rtmp", &redirect, &["--rtmp", &addr.to_string()]);
    manager.hear("READY=1");
    assert!(Peer::connected(addr).is_served());
    server.signal("TERM");
    server.wait_exit(seconds(10));
    // The manager's socket is as it was: who connects waits for the next process.
    Peer::dial(addr);
}

#[test]
fn a_given_socket_is_left_open_after_an_upgrade_too() {
    let manager = Manager::new("systemd-given-twice");
    let (_given, addr, redirect) = given();
    let mut server = manager.start("LISTEN_FDS=1", &redirect, &["--rtmp", &addr.to_string()]);
    server.upgrade();
    let pid = server.pid();
    server.signal("TERM");
    server.wait_gone_process(pid, seconds(10));
    Peer::dial(addr);
}

#[test]
fn a_socket_that_somebody_else_shuts_is_not_tried_again_and_the_node_is_not_ready() {
    for driver in [Driver::Uring, Driver::Legacy] {
        let manager = Manager::new(&format!("systemd-shut-{driver:?}"));
        let (given, addr, redirect) = given();
        let script = manager.script("LISTEN_FDS=1", &redirect);
        let flags = ["--rtmp", &addr.to_string()];
        let mut server = Server::start_by(&["bash", "-c", &script, "bash"], driver, 2, &flags);
        assert_eq!(server.get("/readyz").expect("the admin listener").0, 200);
        socket2::SockRef::from(&given).shutdown(Shutdown::Both).expect("it listens");
        wait_for("the node not to be ready", seconds(5), || {
            (server.get("/readyz").ok()? == (503, "a listener was shut\n".to_owned())).then_some(())
        });
        std::thread::sleep(seconds(2));
        let said = format!("{addr}: no more connections are taken here");
        assert_eq!(server.log().matches(&said).count(), 2, "by each shard: {}", server.log());
        assert_eq!(server.metrics().sum("shardcast_listeners_shut", &[]), 2.0);
        assert!(!server.log().contains("cannot accept"), "{}", server.log());
        assert!(Peer::connected(server.rtmp).is_served(), "others are as they were");
        // A new process has no use for that one.
        server.upgrade();
        assert_eq!(server.get("/readyz").expect("the admin listener").0, 200);
        assert!(Peer::connected(addr).is_served());
    }
}

#[test]
fn the_manager_hears_of_no_process_that_is_not_to_take_over() {
    let manager = Manager::new("systemd-draining");
    let server = manager.start("", "", &[]);
    manager.hear("READY=1");
    let _player = Peer::player(server.rtmp, "show");
    server.wait_metric("shardcast_players", &[], |players| players == 1.0);
    assert_eq!(server.post("/api/drain?timeout_s=60&converge_s=60"), 202);
    server.signal("USR2");
    server.wait_said("SIGUSR2 is ignored");
    std::thread::sleep(seconds(1));
    assert_eq!(manager.next(), None);
}

#[test]
fn a_kept_socket_is_the_nodes_and_not_the_managers() {
    let manager = Manager::new("systemd-kept");
    let (_kept, addr, redirect) = given();
    let variables = "LISTEN_FDS=1 LISTEN_FDNAMES=shardcast-kept-rtmp";
    let mut server = manager.start(variables, &redirect, &["--rtmp", &addr.to_string()]);
    assert!(Peer::connected(addr).is_served());
    server.signal("TERM");
    server.wait_exit(seconds(10));
    assert!(TcpStream::connect(addr).is_err(), "nobody keeps it any more");
}

#[test]
fn a_store_without_room_is_warned_of() {
    let manager = Manager::new("systemd-room");
    let server = manager.start("FDSTORE=2", "", &[]);
    server.wait_said("FileDescriptorStoreMax=2 is less than the 3 there are");
    let removed = ["rtmp", "rtmps", "admin"].map(|role| format!("FDSTOREREMOVE=1 FDNAME=shardcast-kept-{role}"));
    assert_eq!(manager.kept(), removed, "those of a process before");
}

#[test]
fn an_address_that_is_dropped_is_neither_listened_on_nor_kept() {
    let manager = Manager::new("systemd-dropped");
    let config = manager.folder.path("config.toml");
    let write = |rtmp: &[String]| {
        let rest = "admin = \"127.0.0.1:0\"\nno-pin = true\nlandlock = \"off\"\nshards = 1\n";
        fs::write(&config, format!("rtmp = {rtmp:?}\n{rest}")).expect("a file of ours");
    };
    // Of the system's choice once; then they are written down.
    write(&["127.0.0.1:0".to_owned(), "127.0.0.1:0".to_owned()]);
    let script = manager.script("FDSTORE=8", "");
    let path = config.to_str().expect("a plain path");
    let mut server = Server::run(&["bash", "-c", &script, "bash", &binary(), "--config", path]);
    let line = server.banner.lines().find(|line| line.starts_with("rtmp:")).expect("where it listens").to_owned();
    let words = line.split([' ', ',']);
    let addrs: Vec<SocketAddr> = words.filter_map(|word| word.trim_start_matches("rtmp://").parse().ok()).collect();
    let [stays, dropped] = addrs[..] else { panic!("two addresses in {line}") };
    let kept = |rtmp: usize| {
        let removed = ["rtmp", "rtmps", "admin"].map(|role| format!("FDSTOREREMOVE=1 FDNAME=shardcast-kept-{role}"));
        let stored = ["rtmp"].repeat(rtmp).into_iter().chain(["admin"]);
        removed
            .into_iter()
            .chain(stored.map(|role| format!("FDSTORE=1 FDNAME=shardcast-kept-{role}")))
            .collect::<Vec<_>>()
    };
    assert_eq!(manager.kept(), kept(2));
    // The old process lives on, and has the socket as long.
    let mut player = Peer::player(server.rtmp, "show");
    server.wait_metric("shardcast_players", &[], |players| players == 1.0);
    write(&[stays.to_string()]);
    server.upgrade();
    assert_eq!(manager.kept(), kept(1));
    assert!(player.is_served());
    assert!(TcpStream::connect(dropped).is_err(), "nobody takes connections there");
    // What the old process has back is what it keeps.
    server.signal("KILL");
    server.wait_said("connections are taken here again");
    server.forget_successor();
    assert_eq!(manager.kept(), kept(1));
    assert!(server.log().contains(&format!("{dropped}: nobody listens there any more")), "{}", server.log());
    assert!(Peer::connected(stays).is_served() && player.is_served());
}
