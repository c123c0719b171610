//! HAProxy: the balancer most nodes stand behind.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::tool::{accepts_or_ends, scratch};

/// Not on everybody's PATH.
const PROGRAM: &str = "/usr/sbin/haproxy";

/// A HAProxy that passes TCP on. Dropping it ends it.
pub struct Haproxy {
    child: Child,
    folder: PathBuf,
    pub addr: SocketAddr,
}

impl Haproxy {
    /// `backend`: the lines of its one backend.
    pub fn start(backend: &str) -> Self {
        assert!(Path::new(PROGRAM).is_file(), "{PROGRAM} is not installed: run `tests/run`");
        // Somebody may take the port before HAProxy does.
        (0..5).find_map(|_| Self::try_start(backend)).expect("HAProxy accepts on one of five ports")
    }

    fn try_start(backend: &str) -> Option<Self> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let addr = free.expect("a free port");
        let folder = scratch("haproxy");
        std::fs::create_dir_all(&folder).expect("the build's temporary folder can be written");
        let config = format!(
            "global\n nbthread 1\n maxconn 500\n noreuseport\n\
             defaults\n mode tcp\n timeout connect 5s\n timeout check 10s\n timeout client 1m\n timeout server 1m\n\
             frontend clients\n bind {addr}\n default_backend nodes\n\
             backend nodes\n{backend}\n"
        );
        std::fs::write(folder.join("haproxy.cfg"), config).expect("the build's temporary folder can be written");
        let log = std::fs::File::create(folder.join("log")).expect("the build's temporary folder can be written");
        let child = Command::new(PROGRAM)
            .args(["-db", "-f"])
            .arg(folder.join("haproxy.cfg"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("it is installed");
        let mut haproxy = Self { child, folder, addr };
        let is_up = accepts_or_ends(&mut haproxy.child, addr);
        is_up.then_some(haproxy)
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        // It may have ended already: then both fail, and that is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let said = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            eprintln!("--- what HAProxy said ---\n{said}---");
        }
    }
}
