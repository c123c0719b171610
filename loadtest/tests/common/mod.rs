//! A server and the load generator as child processes. Every wait has a deadline; both end with their test.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part, and exports nothing")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// A server of two shards, on ports the system chose.
pub struct Server {
    child: Child,
    pub rtmp: SocketAddr,
    admin: SocketAddr,
}

impl Server {
    pub fn start(flags: &[&str]) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_shardcast-loadtest")).with_file_name("shardcast");
        let mut child = Command::new(&program)
            .args(["--rtmp", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--no-pin", "--shards", "2"])
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; build it first: cargo build", program.display()));
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        // It ends with its test from here on.
        let mut server = Self { child, rtmp: unknown, admin: unknown };
        let (to, banner) = mpsc::channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| to.send(line)));
        let by = Instant::now() + PATIENCE;
        let next = || banner.recv_timeout(by.saturating_duration_since(Instant::now())).expect("it gets ready");
        let lines = std::iter::repeat_with(next).take_while(|line| line != "ready").collect::<Vec<_>>();
        let address = |start: &str| {
            let line = lines.iter().find(|line| line.trim_start().starts_with(start)).expect("in the banner");
            line.split([' ', '/', ',']).find_map(|word| word.parse().ok()).expect("an address")
        };
        (server.rtmp, server.admin) = (address("rtmp:"), address("admin"));
        server
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the admin listener answers to a request.
    pub fn ask(&self, line: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "{line} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The sum of a metric over all shards.
    pub fn metric(&self, name: &str) -> f64 {
        let page = self.ask("GET /metrics");
        let of_name = page.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        of_name.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    #[track_caller]
    pub fn wait(&self, name: &str, value: f64) {
        let by = Instant::now() + PATIENCE;
        while self.metric(name) != value {
            assert!(Instant::now() < by, "{name} is {}, not {value}", self.metric(name));
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The load generator at work.
pub struct Run {
    child: Child,
    printed: Option<JoinHandle<String>>,
}

impl Run {
    /// `arguments` in words; it prints JSON.
    pub fn start(arguments: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_shardcast-loadtest"))
            .args(arguments.split_whitespace())
            .arg("--json")
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let read = move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).map(|_| text).unwrap()
        };
        Self { child, printed: Some(std::thread::spawn(read)) }
    }

    /// What it reports once it has ended.
    #[track_caller]
    pub fn report(mut self, patience: Duration) -> serde_json::Value {
        let by = Instant::now() + patience;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < by, "it did not end within {patience:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        let text = self.printed.take().unwrap().join().unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
