//! What a service manager tells a node (`LISTEN_FDS`) and hears from it (`NOTIFY_SOCKET`), with a stand-in for systemd.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

mod common;

use std::{
    net::TcpListener,
    os::{fd::AsRawFd, unix::net::UnixDatagram},
    path::PathBuf,
    time::Duration,
};

use common::{
    rtmp::Peer,
    seconds,
    server::{Driver, Server},
    wait_for,
};

/// A socket that messages come to.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("shardcast-{test}-{}.notify", std::process::id()));
        let socket = UnixDatagram::bind(&path).expect("a new file");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket");
        Self { socket, path }
    }

    /// Starts a node that knows of the manager, with these variables besides; the shell's pid becomes the node's.
    fn start(&self, variables: &str, redirect: &str, flags: &[&str]) -> Server {
        let script = format!(
            "export NOTIFY_SOCKET={} LISTEN_PID=$$ {variables}; exec \"$@\" {redirect}",
            self.path.to_str().expect("a plain path")
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

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
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
    std::thread::sleep(seconds(6));
    while manager.next().is_some() {}
    assert_eq!(manager.next(), None);
    server.signal("CONT");
    manager.hear("WATCHDOG=1");
    // Nothing turned for longer than a hang takes, the watchdog's own thread included.
    std::thread::sleep(seconds(1));
    assert!(Peer::connected(server.rtmp).is_served());
}

#[test]
fn a_given_socket_is_listened_on_and_left_open() {
    let manager = Manager::new("systemd-given");
    let given = TcpListener::bind("127.0.0.1:0").expect("free");
    let addr = given.local_addr().expect("bound");
    let number = given.as_raw_fd();
    let_children_inherit(&given);
    let redirect = format!("3<&{number} {number}<&-");
    let redirect = if number == 3 { String::new() } else { redirect };
    let mut server = manager.start("LISTEN_FDS=1", &redirect, &["--rtmp", &addr.to_string()]);
    manager.hear("READY=1");
    let mut peer = Peer::dial(addr).past_handshake();
    assert_eq!(peer.connect("live").as_deref(), Some("NetConnection.Connect.Success"));
    server.signal("TERM");
    server.wait_exit(seconds(10));
    // The manager's socket is as it was: who connects waits for the next process.
    Peer::dial(addr);
}

#[test]
fn a_given_socket_is_left_open_after_an_upgrade_too() {
    let manager = Manager::new("systemd-given-twice");
    let given = TcpListener::bind("127.0.0.1:0").expect("free");
    let addr = given.local_addr().expect("bound");
    let number = given.as_raw_fd();
    let_children_inherit(&given);
    let redirect = if number == 3 { String::new() } else { format!("3<&{number} {number}<&-") };
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
    std::thread::sleep(seconds(1));
    assert_eq!(manager.next(), None);
}

/// Lets programs that are started inherit it.
fn let_children_inherit(listener: &TcpListener) {
    rustix::io::fcntl_setfd(listener, rustix::io::FdFlags::empty()).expect("it is open");
}
