//! Servers that a comparison starts: generated configuration, pinned, on a free port of loopback, ended by pid.

use crate::process::Tree;
use crate::sys;
use crate::variant::Variant;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// From the start of a server to its first accept.
const START_DEADLINE: Duration = Duration::from_secs(10);
/// From SIGTERM to SIGKILL.
const STOP_DEADLINE: Duration = Duration::from_secs(8);
/// Attempts at a port that is free for a server that cannot choose one itself.
const PORT_ATTEMPTS: u32 = 5;

/// A running server; dropping it ends it.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    directory: Option<PathBuf>,
}

impl Server {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Shardcast as `variant` says, on `cpu` unless it says otherwise. The caller's SHARDCAST_ variables do not reach it.
    ///
    /// # Errors
    /// It could not be started, or did not say that it is ready.
    pub fn shardcast(binary: &Path, cpu: usize, variant: &Variant) -> Result<Self, String> {
        let mut command = Command::new(binary);
        command.args(variant.arguments(cpu));
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"SHARDCAST_") {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let cpus: Vec<usize> = variant.cpus(cpu)?.into_iter().collect();
        pin(&mut command, &cpus)?;
        let mut child = command.spawn().map_err(|error| format!("cannot start {}: {error}", binary.display()))?;
        let stdout = child.stdout.take();
        let mut server = Self { child, address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), directory: None };
        let (banner, lines) = mpsc::channel();
        // Reads on after the banner, so that the server never waits for its standard output.
        thread::spawn(move || {
            for line in stdout.map(BufReader::new).into_iter().flat_map(BufRead::lines).map_while(Result::ok) {
                let _ = banner.send(line);
            }
        });
        let until = Instant::now() + START_DEADLINE;
        loop {
            let line = lines
                .recv_timeout(until.saturating_duration_since(Instant::now()))
                .map_err(|_| format!("{} did not print that it is ready", binary.display()))?;
            if let Some(address) = banner_address(&line) {
                server.address = address;
            }
            if line.trim() == "ready" {
                break;
            }
        }
        if server.address.port() == 0 {
            return Err(format!("{} printed no line `rtmp: ADDRESS`", binary.display()));
        }
        Ok(server)
    }

    /// nginx with one worker on `cpu` and the RTMP module's own defaults.
    ///
    /// # Errors
    /// It could not be started or does not accept.
    pub fn nginx(binary: &Path, module: &Path, cpu: usize, connections: usize) -> Result<Self, String> {
        let mut last = String::new();
        for _ in 0..PORT_ATTEMPTS {
            match Self::nginx_once(binary, module, cpu, connections) {
                Ok(server) => return Ok(server),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn nginx_once(binary: &Path, module: &Path, cpu: usize, connections: usize) -> Result<Self, String> {
        let address = free_address().map_err(|error| format!("no free port: {error}"))?;
        let directory =
            std::env::temp_dir().join(format!("shardcast-loadtest-{}-{}", std::process::id(), address.port()));
        let config = directory.join("nginx.conf");
        let write = || {
            fs::create_dir_all(&directory)?;
            fs::write(&config, nginx_config(module, &directory, cpu, connections, address))
        };
        write().map_err(|error| format!("cannot write {}: {error}", config.display()))?;
        let mut command = Command::new(binary);
        command.arg("-c").arg(&config).arg("-p").arg(&directory).arg("-e").arg(directory.join("error.log"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        pin(&mut command, &[cpu])?;
        let child = command.spawn().map_err(|error| format!("cannot start {}: {error}", binary.display()))?;
        let mut server = Self { child, address, directory: Some(directory.clone()) };
        server.await_accept().map_err(|error| {
            let log = fs::read_to_string(directory.join("error.log")).unwrap_or_default();
            format!("{}: {error} {}", binary.display(), log.lines().last().unwrap_or(""))
        })?;
        Ok(server)
    }

    fn await_accept(&mut self) -> Result<(), String> {
        let until = Instant::now() + START_DEADLINE;
        while TcpStream::connect(self.address).is_err() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("ended at once ({status})."));
            }
            if Instant::now() > until {
                return Err("does not accept.".into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Ends the server: SIGTERM, then SIGKILL for it and the children it had.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let children = Tree::of(self.pid()).map(|tree| tree.pids().to_vec()).unwrap_or_default();
            let _ = sys::signal(self.pid(), libc::SIGTERM);
            let until = Instant::now() + STOP_DEADLINE;
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
                thread::sleep(Duration::from_millis(20));
            }
            if matches!(self.child.try_wait(), Ok(None)) {
                for pid in children {
                    let _ = sys::signal(pid, libc::SIGKILL);
                }
                let _ = self.child.wait();
            }
        }
        if let Some(directory) = self.directory.take() {
            let _ = fs::remove_dir_all(directory);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

fn pin(command: &mut Command, cpus: &[usize]) -> Result<(), String> {
    sys::pin_child(command, cpus).map_err(|error| format!("a server cannot use CPUs {cpus:?}: {error}"))
}

/// The address in a banner line `rtmp: ADDRESS ...`.
fn banner_address(line: &str) -> Option<SocketAddr> {
    let words = line.trim().strip_prefix("rtmp: ")?.split([' ', ',', '/']);
    words.filter_map(|word| word.parse().ok()).next()
}

fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// A master and one worker, as packages run it; nothing of the RTMP module is tuned.
fn nginx_config(module: &Path, directory: &Path, cpu: usize, connections: usize, address: SocketAddr) -> String {
    let load_module = match module.to_str() {
        Some("builtin") => String::new(),
        _ => format!("load_module {};\n", module.display()),
    };
    format!(
        "{load_module}daemon off;\nworker_processes 1;\nworker_cpu_affinity 1{};\nworker_rlimit_nofile {};\n\
         pid {}/nginx.pid;\nerror_log {}/error.log error;\nevents {{ worker_connections {}; }}\n\
         rtmp {{ server {{ listen {address}; application live {{ live on; }} }} }}\n",
        "0".repeat(cpu),
        connections * 2 + 1_024,
        directory.display(),
        directory.display(),
        connections + 512,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_names_the_address() {
        assert_eq!(banner_address("rtmp: 127.0.0.1:4711"), "127.0.0.1:4711".parse().ok());
        assert_eq!(banner_address("  rtmp: rtmp://[::1]:4711/"), "[::1]:4711".parse().ok());
        assert_eq!(banner_address("admin: 127.0.0.1:4711"), None);
        assert_eq!(banner_address("rtmp: nothing"), None);
    }

    #[test]
    fn the_configuration_pins_the_one_worker() {
        let address = "127.0.0.1:4711".parse().unwrap();
        let config = nginx_config(Path::new("builtin"), Path::new("/tmp/x"), 2, 10, address);
        assert!(config.starts_with("daemon off;\nworker_processes 1;\nworker_cpu_affinity 100;\n"));
        assert!(config.contains("listen 127.0.0.1:4711;"));
    }
}
