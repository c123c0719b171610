//! The program as its operator meets it: help, faults in one line, the banner, the admin listener and signals.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

/// Far longer than anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// The program without what the environment of the tests may say to it.
fn shardcast(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardcast"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SHARDCAST_")) {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the program writes UTF-8")
}

/// Asserts exit code 2, nothing on stdout and one line on stderr that has all of `parts`.
fn assert_fault(output: &Output, parts: &[&str]) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("shardcast: "), "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{part:?} is not in {stderr:?}");
    }
}

/// A running program that listens. Killed when dropped.
struct Node {
    child: Child,
    /// Lines of stdout up to `ready`.
    banner: Vec<String>,
}

impl Node {
    fn start(args: &[&str]) -> Self {
        let mut child = shardcast(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (lines, received) = mpsc::channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
        let mut node = Self { child, banner: Vec::new() };
        while node.banner.last().is_none_or(|line| line != "ready") {
            match received.recv_timeout(PATIENCE) {
                Ok(line) => node.banner.push(line),
                Err(_) => {
                    let (_, log) = node.end(Signal::KILL);
                    panic!("no 'ready' after {:?}; stderr: {log}", node.banner)
                }
            }
        }
        node
    }

    /// One shard on ports the system chooses.
    fn on_any_port() -> Self {
        Self::start(&["--rtmp", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "1", "--no-pin"])
    }

    fn field(&self, label: &str) -> &str {
        let line = self.banner.iter().find_map(|line| line.trim().strip_prefix(label));
        line.unwrap_or_else(|| panic!("no {label} in {:?}", self.banner)).trim()
    }

    fn rtmp(&self) -> SocketAddr {
        self.field("rtmp:").parse().unwrap()
    }

    fn admin(&self) -> SocketAddr {
        self.field("admin:").strip_prefix("http://").unwrap().trim_end_matches('/').parse().unwrap()
    }

    /// Status line, headers and body.
    fn get(&self, path: &str) -> (u16, String, String) {
        let mut socket = TcpStream::connect(self.admin()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nHost: admin\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_lowercase(), body.to_owned())
    }

    /// Sends `signal` and waits for the end: how it ended and its log.
    fn end(&mut self, signal: Signal) -> (ExitStatus, String) {
        let _ = kill_process(Pid::from_child(&self.child), signal);
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap(), log)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn help_teaches_and_exits_0() {
    let output = shardcast(&["--help"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty());
    let help = text(&output.stdout);
    for part in ["Examples:", "--merge-ms", "SHARDCAST_MERGE_MS", "milliseconds", "Cores:", "Delivery:", "SIGTERM"] {
        assert!(help.contains(part), "{part:?} is not in {help}");
    }
}

#[test]
fn version_is_the_packages() {
    let output = shardcast(&["--version"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), format!("shardcast {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_bad_flag_is_one_line_and_exit_code_2() {
    let cases: &[(&[&str], &[&str])] = &[
        (&["--merge-ms", "2000"], &["--merge-ms", "\"2000\"", "from 0 to 1000"]),
        (&["serve", "--chunk-size", "1"], &["--chunk-size", "\"1\"", "from 128 to 61000"]),
        (&["--rtmp", "localhost:1935"], &["--rtmp", "\"localhost:1935\"", "127.0.0.1:1935"]),
        (&["--rtmp", "127.0.0.1"], &["write 127.0.0.1:1935"]),
        (&["--cpus", "1023"], &["--cpus", "\"1023\"", "may run on"]),
        (&["--gop-cache", "yes"], &["--gop-cache", "on or off"]),
        (&["--driver", "epoll"], &["--driver", "auto, uring or legacy"]),
        (&["--log", "verbose"], &["--log", "\"verbose\"", "info"]),
        (&["--admin", "nowhere"], &["--admin", "'off'"]),
        (&["--mergems", "1"], &["unknown option", "--merge-ms"]),
        (&["transcode"], &["unknown command \"transcode\"", "serve"]),
        (&["relay"], &["relay needs FROM and TO"]),
        (&["--shards", "1", "check"], &["\"check\": it goes first"]),
        (&["check"], &["check needs FILE"]),
        (&["check", "/nowhere.toml"], &["/nowhere.toml: No such file"]),
        (&["--config", "/nowhere.toml"], &["--config /nowhere.toml: No such file"]),
        (&["--pull", "live/*"], &["--pull \"live/*\", character 1: expected STREAMS=URL"]),
        (&["--pull", "live/*=http://a"], &["character 8", "rtmp://"]),
        (&["--push", "live/a=rtmp://a/b/{env:SHARDCAST_NO}"], &["--push", "no such variable"]),
        (&["--node", "a,b"], &["--node", "\"a,b\""]),
        (&["--rtmp"], &["--rtmp needs a value"]),
        (&["--log", "two\nlines"], &["\"two\\nlines\""]),
        (&["--sndbuf", "1K"], &["--sndbuf \"1K\"", "16K to 512M"]),
        (&["--notsent-lowat", "1"], &["--notsent-lowat \"1\"", "4K to 64M"]),
        (&["--busy-poll-us", "10001"], &["--busy-poll-us \"10001\"", "from 0 to 10000"]),
        (&["--backlog", "0"], &["--backlog \"0\"", "from 1 to 1048576"]),
        (&["--congestion", "two words"], &["--congestion \"two words\"", "this kernel has "]),
        (&["--reuseport-cpu", "--no-pin"], &["--reuseport-cpu: the shards are not pinned", "--cpus"]),
        (&["--reuseport-cpu", "--shards", "64", "--cpus", "0"], &["--reuseport-cpu: several shards share a CPU"]),
    ];
    for (args, parts) in cases {
        assert_fault(&shardcast(args).output().unwrap(), parts);
    }
}

#[test]
fn a_bad_variable_is_named() {
    let cases = [
        ("SHARDCAST_MERGE_MS", "soon", "from 0 to 1000"),
        ("SHARDCAST_RTMP", "1935,nowhere", "\"nowhere\""),
        ("SHARDCAST_RTMP", "", "expected an IP address"),
        ("SHARDCAST_NO_PIN", "maybe", "1 or 0"),
        ("SHARDCAST_PULL", "live/*", "expected STREAMS=URL"),
        ("SHARDCAST_CONFIG", "/nowhere.toml", "No such file"),
        ("SHARDCAST_CPUS", "1023", "may run on"),
    ];
    for (name, value, part) in cases {
        assert_fault(&shardcast(&[]).env(name, value).output().unwrap(), &[name, part]);
    }
}

#[test]
fn a_flag_goes_before_its_variable() {
    let output = shardcast(&["--merge-ms", "x"]).env("SHARDCAST_MERGE_MS", "y").output().unwrap();
    assert_fault(&output, &["--merge-ms \"x\""]);
}

#[test]
fn an_admin_port_in_use_is_one_line_and_exit_code_2() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let output = shardcast(&["--rtmp", "127.0.0.1:0", "--admin", &addr]).output().unwrap();
    assert_fault(&output, &["--admin", &addr, "another process"]);
    let output = shardcast(&["--rtmp", "127.0.0.1:0"]).env("SHARDCAST_ADMIN", &addr).output().unwrap();
    assert_fault(&output, &["SHARDCAST_ADMIN", &addr]);
}

#[test]
fn an_rtmp_port_in_use_is_one_line_and_exit_code_2() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let output = shardcast(&["--rtmp", &addr, "--admin", "off", "--log", "off"]).output().unwrap();
    assert_fault(&output, &["--rtmp", &addr, "another process"]);
}

#[test]
fn a_congestion_control_the_kernel_lacks_is_one_line_and_exit_code_2() {
    let quiet = ["--rtmp", "127.0.0.1:0", "--admin", "off", "--log", "off"];
    let output = shardcast(&[&quiet[..], &["--congestion", "pigeon"]].concat()).output().unwrap();
    let available = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control").unwrap();
    let parts = available.split_whitespace().chain(["--congestion \"pigeon\"", "this kernel has "]).collect::<Vec<_>>();
    assert_fault(&output, &parts);
}

/// What `ss` says of the listener at `addr`.
fn listener(addr: SocketAddr) -> String {
    let output = Command::new("ss").args(["-Hltn", &format!("sport = :{}", addr.port())]).output().expect("iproute2");
    text(&output.stdout)
}

#[test]
fn the_backlog_is_the_flags_and_a_cut_is_said() {
    let quiet = ["--rtmp", "127.0.0.1:0", "--admin", "off", "--shards", "1", "--no-pin"];
    let mut node = Node::start(&[&quiet[..], &["--backlog", "7"]].concat());
    let listening = listener(node.rtmp());
    assert_eq!(listening.split_whitespace().nth(2), Some("7"), "{listening}");
    let (_, log) = node.end(Signal::TERM);
    assert!(!log.contains("--backlog"), "{log}");

    let somaxconn = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let mut node = Node::start(&[&quiet[..], &["--backlog", "1048576"]].concat());
    let listening = listener(node.rtmp());
    assert_eq!(listening.split_whitespace().nth(2), Some(somaxconn.trim()), "{listening}");
    let (_, log) = node.end(Signal::TERM);
    let note = format!("--backlog 1048576: the kernel gives {}; raise net.core.somaxconn", somaxconn.trim());
    assert!(log.contains(&note), "{log}");
}

#[test]
fn a_second_instance_does_not_share_the_port() {
    let node = Node::on_any_port();
    let addr = node.rtmp().to_string();
    let output = shardcast(&["--rtmp", &addr, "--admin", "off", "--log", "off"]).output().unwrap();
    assert_fault(&output, &["--rtmp", &addr, "another process"]);
}

#[test]
fn the_banner_says_what_to_do_next() {
    let node = Node::on_any_port();
    let url = format!("rtmp://{}/live/show", node.rtmp());
    let banner = node.banner.join("\n");
    assert!(banner.starts_with(&format!("shardcast {}\n", env!("CARGO_PKG_VERSION"))), "{banner}");
    assert!(banner.contains(&format!("-f flv {url}")) && banner.contains("ffmpeg -re"), "{banner}");
    assert!(banner.contains(&format!("ffplay -fflags nobuffer {url}")), "{banner}");
    assert!(banner.contains("Ctrl-C") && banner.contains("--help"), "{banner}");
    assert!(node.field("shards:").starts_with("1, not pinned; "), "{banner}");
    TcpStream::connect(node.rtmp()).expect("ready means that it listens");
}

#[test]
fn the_admin_listener_answers() {
    let node = Node::on_any_port();
    assert_eq!(node.get("/healthz").0, 200);
    assert_eq!(node.get("/readyz").0, 200);
    let (status, _, index) = node.get("/");
    assert!(status == 200 && index.contains("/metrics") && index.contains("/api/streams"), "{index}");
    assert_eq!(node.get("/nothing").0, 404);
    let (status, head, body) = node.get("/api/streams");
    assert_eq!((status, body.as_str()), (200, "[]"));
    assert_eq!(node.get("/api/relays").2, r#"{"pulls":[],"pushes":[]}"#);
    assert!(head.contains("content-type: application/json") && head.contains("connection: close"), "{head}");
}

#[test]
fn metrics_are_complete_from_the_start() {
    let node = Node::on_any_port();
    let (status, head, body) = node.get("/metrics");
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    for part in [
        "# TYPE shardcast_players gauge\n",
        "shardcast_players{shard=\"0\"} 0\n",
        "shardcast_connections_closed_total{shard=\"0\",reason=\"not_rtmp\"} 0\n",
        "shardcast_requests_refused_total{shard=\"0\",reason=\"name_taken\"} 0\n",
        "shardcast_ready 1\n",
        "shardcast_build_info{version=",
        "process_resident_memory_bytes ",
    ] {
        assert!(body.contains(part), "{part:?} is not in {body}");
    }
}

#[test]
fn a_silent_admin_connection_does_not_hold_up_others() {
    let node = Node::on_any_port();
    let _silent = (0..8).map(|_| TcpStream::connect(node.admin()).unwrap()).collect::<Vec<_>>();
    assert_eq!(node.get("/healthz").0, 200);
}

#[test]
fn sigterm_and_sigint_end_in_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut node = Node::on_any_port();
        let (rtmp, admin) = (node.rtmp(), node.admin());
        let (status, log) = node.end(signal);
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains("ending: players get their last messages"), "{log}");
        for addr in [rtmp, admin] {
            assert!(TcpStream::connect(addr).is_err(), "{addr} still listens");
        }
    }
}

#[test]
fn json_logs_are_one_object_per_line() {
    let args = ["--rtmp", "127.0.0.1:0", "--admin", "off", "--shards", "1", "--no-pin", "--log-format", "json"];
    let (status, log) = Node::start(&args).end(Signal::TERM);
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.is_empty());
    for line in log.lines() {
        let object: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(object["level"].is_string() && object["message"].is_string(), "{line}");
    }
}

#[test]
fn a_reader_of_the_banner_that_goes_away_does_no_harm() {
    let mut command = shardcast(&["--rtmp", "127.0.0.1:0", "--admin", "off", "--shards", "1", "--no-pin"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut node = Node { child, banner: Vec::new() };
    // Once the log says that it started, signals are caught.
    let stderr = node.child.stderr.as_mut().unwrap();
    let mut said = Vec::new();
    while !said.ends_with(b"started shards") {
        let mut next = [0];
        stderr.read_exact(&mut next).unwrap();
        said.extend(next);
    }
    let (status, log) = node.end(Signal::TERM);
    assert_eq!(status.code(), Some(0), "{log}");
}
