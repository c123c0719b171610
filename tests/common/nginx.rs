//! nginx with Debian's RTMP module: the other server.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::{
    seconds,
    tool::{accepts_or_ends, scratch},
    wait_for,
};

/// Not on everybody's PATH.
const PROGRAM: &str = "/usr/sbin/nginx";
const MODULE: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";

/// An nginx with the application `live`. Dropping it ends it.
pub struct Nginx {
    child: Child,
    folder: PathBuf,
    pub rtmp: SocketAddr,
}

impl Nginx {
    pub fn start() -> Self {
        for path in [PROGRAM, MODULE] {
            assert!(Path::new(path).is_file(), "{path} is not installed: run `tests/run`");
        }
        // Somebody may take the port before nginx does.
        (0..5).find_map(|_| Self::try_start()).expect("nginx accepts on one of five ports")
    }

    fn try_start() -> Option<Self> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let rtmp = free.expect("a free port");
        let folder = scratch("nginx");
        std::fs::create_dir_all(&folder).expect("the build's temporary folder can be written");
        let place = folder.display();
        // One process: nothing else is to be ended. A player is told when its stream ends.
        let config = format!(
            "load_module {MODULE};\ndaemon off;\nmaster_process off;\npid {place}/pid;\n\
             error_log {place}/error.log info;\nevents {{ worker_connections 256; }}\n\
             rtmp {{ access_log off; server {{ listen {rtmp}; chunk_size 4096;\n\
             application live {{ live on; publish_notify on; }} }} }}\n"
        );
        std::fs::write(folder.join("nginx.conf"), config).expect("the build's temporary folder can be written");
        let child = Command::new(PROGRAM)
            .args(["-c", "nginx.conf", "-e", "error.log", "-p"])
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it is installed");
        let mut nginx = Self { child, folder, rtmp };
        let is_up = accepts_or_ends(&mut nginx.child, rtmp);
        is_up.then_some(nginx)
    }

    pub fn url(&self, name: &str) -> String {
        format!("rtmp://{}/live/{name}", self.rtmp)
    }

    /// Waits until so many players have asked for something.
    pub fn wait_asked(&self, count: usize) {
        wait_for(&format!("{count} players at nginx"), seconds(10), || {
            (self.log().matches(" play: ").count() >= count).then_some(())
        });
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("error.log")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It may have ended already: then both fail, and that is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- nginx's log ---\n{}---", self.log());
        }
    }
}
