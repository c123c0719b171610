//! Hostile connections beside an audience: what `hostile` measures in full, with fewer of them.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn server() -> (Server, SocketAddr) {
    let program = Path::new(env!("CARGO_BIN_EXE_shardcast-loadtest")).with_file_name("shardcast");
    let mut child = Command::new(&program)
        .args(["--rtmp", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--no-pin", "--shards", "2", "--merge-ms", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}; build it first: cargo build", program.display()));
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let lines = stdout.lines().map_while(Result::ok).take_while(|line| line != "ready").collect::<Vec<_>>();
    let line = lines.iter().find(|line| line.trim_start().starts_with("rtmp:")).expect("in the banner");
    let address = line.split([' ', '/', ',']).find_map(|word| word.parse().ok()).expect("an address");
    (Server(child), address)
}

/// Its delay is not judged here: server, audience and hostile connections share the CPUs with other tests.
#[test]
fn hostile_connections_cost_the_audience_nothing_and_leave_nothing_behind() {
    let (server, rtmp) = server();
    let output = Command::new(env!("CARGO_BIN_EXE_shardcast-loadtest"))
        .args(["hostile", "--url", &format!("rtmp://{rtmp}/live/show"), "--server-pid", &server.0.id().to_string()])
        .args(["--connections", "1000", "--rounds", "2", "--storm", "8s", "--calm", "2s", "--warmup", "1s", "--json"])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["audience"]["verified"]["lost"], 0, "{report}");
    let rounds = report["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 2);
    for round in rounds {
        let fates = round["fates"].as_object().unwrap();
        let opened: u64 = fates.values().map(|fate| fate["opened"].as_u64().unwrap()).sum();
        assert_eq!((fates.len(), opened), (25, 1_000));
        assert_eq!(round["after"]["descriptors"], report["before"]["descriptors"], "{round}");
    }
    // Loss, damage, memory and descriptors; what is said of delays is not judged.
    let late = ["were late", "the audience's delay", "bottleneck"];
    let problems = report["problems"].as_array().unwrap().iter().map(|problem| problem.as_str().unwrap());
    let others = problems.filter(|problem| !late.iter().any(|late| problem.contains(late))).collect::<Vec<_>>();
    assert_eq!(others, [""; 0]);
}
