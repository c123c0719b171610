//! A publisher and its verified players follow a ReconnectRequest from one server to another: nothing is lost on the way.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

struct Server {
    child: Child,
    rtmp: SocketAddr,
    admin: SocketAddr,
}

impl Server {
    fn start() -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_shardcast-loadtest")).with_file_name("shardcast");
        let mut child = Command::new(&program)
            .args(["--rtmp", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--no-pin", "--shards", "2"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; build it first: cargo build", program.display()));
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let lines = stdout.lines().map_while(Result::ok).take_while(|line| line != "ready").collect::<Vec<_>>();
        let address = |start: &str| {
            let line = lines.iter().find(|line| line.trim_start().starts_with(start)).expect("in the banner");
            line.split([' ', '/', ',']).find_map(|word| word.parse().ok()).expect("an address")
        };
        Self { rtmp: address("rtmp:"), admin: address("admin"), child }
    }

    fn ask(&self, line: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "{line} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn metric(&self, name: &str) -> f64 {
        let page = self.ask("GET /metrics");
        let of_name = page.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        of_name.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    #[track_caller]
    fn wait(&self, name: &str, value: f64) {
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

#[test]
fn nothing_is_lost_when_a_run_moves_to_another_server() {
    let (old, new) = (Server::start(), Server::start());
    let run = Command::new(env!("CARGO_BIN_EXE_shardcast-loadtest"))
        .args(["run", "--url", &format!("rtmp://{}/live/show", old.rtmp), "--players", "3", "--sample", "3"])
        .args(["--bitrate", "500k", "--gop", "500ms", "--warmup", "1s", "--duration", "7s", "--late", "1s", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    old.wait("shardcast_players", 3.0);
    std::thread::sleep(Duration::from_millis(500));
    let answer = old.ask(&format!("POST /api/reconnect?url=//{}/live&over_ms=400", new.rtmp));
    assert!(answer.contains("\"asked\":4"), "{answer}");
    old.wait("shardcast_connections", 0.0);
    assert_eq!((new.metric("shardcast_publishers"), new.metric("shardcast_players")), (1.0, 3.0));
    let output = run.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let report: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let found = |name: &str| report["verified"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {report}"));
    for fault in ["lost", "disordered", "corrupt", "header_missing", "timestamps_backwards", "tracks_silent"] {
        assert_eq!(found(fault), 0, "{fault}: {report}");
    }
    assert!(found("players") == 3 && found("frames") > 3 * 7 * 30, "{report}");
    assert_eq!(report["problems"].as_array().map(Vec::len), Some(0), "{report}");
}
