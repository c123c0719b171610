//! What a service manager tells a node (`LISTEN_FDS`) and hears from it (`NOTIFY_SOCKET`), with a stand-in for systemd.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

mod common;

use std::{
    net::{SocketAddr, TcpListener},
    os::{fd::AsRawFd, unix::net::UnixDatagram},
    time::Duration,
};

use common::{
    rtmp::Peer,
    seconds,
    server::{Driver, Server},
    tool::Folder,
    wait_for,
};

/// A socket that messages come to.
struct Manager {
    socket: UnixDatagram,
    folder: Folder,
}

impl Manager {
    fn new(test: &str) -> Self {
        let folder = Folder::new(test);
        let socket = UnixDatagram::bind(folder.path("notify")).expect("a new file");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket");
        Self { socket, folder }
    }

    /// Starts a node that knows of the manager, with these variables besides; the shell's pid becomes the node's.
    fn start(&self, variables: &str, redirect: &str, flags: &[&str]) -> Server {
        let script = format!(
            "export NOTIFY_SOCKET={} LISTEN_PID=$$ {variables}; exec \"$@\" {redirect}",
            self.folder.path("notify").to_str().expect("a plain path")
        );
        Server::start_by(&["bash", "-c", &script, "bash"], Driver::Auto, 2, flags)
    }

    /// Waits for a message with that line, and returns it.
    #[track_caller]
    fn hear(&self, line: &str) -> String {
        wait_for(&format!("{line} to be said"), seconds(15), || {
            self.next().filter(|text| text.lines().any(|l| l == line))
        })
    }

    fn next(&self) -> Option<String> {
        let mut buffer = [0; 4_096];
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
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
fn a_given_socket_is_listened_on_and_left_open() {
    let manager = Manager::new("systemd-given");
    let (_given, addr, redirect) = given();
    let mut server = manager.start("LISTEN_FDS=1", &redirect, &["--rtmp", &addr.to_string()]);
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
