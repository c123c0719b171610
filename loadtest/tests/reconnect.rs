//! A publisher and its verified players follow a ReconnectRequest from one server to another: nothing is lost on the way.

mod common;

use common::{Run, Server};
use std::time::Duration;

#[test]
fn nothing_is_lost_when_a_run_moves_to_another_server() {
    let (old, new) = (Server::start(&[]), Server::start(&[]));
    let load = "--players 3 --sample 3 --bitrate 500k --gop 500ms --warmup 1s --duration 7s --late 1s";
    let run = Run::start(&format!("run --url rtmp://{}/live/show {load}", old.rtmp));
    old.wait("shardcast_players", 3.0);
    std::thread::sleep(Duration::from_millis(500));
    let answer = old.ask(&format!("POST /api/reconnect?url=//{}/live&over_ms=400", new.rtmp));
    assert!(answer.contains("\"asked\":4"), "{answer}");
    old.wait("shardcast_connections", 0.0);
    assert_eq!((new.metric("shardcast_publishers"), new.metric("shardcast_players")), (1.0, 3.0));
    let report = run.report(Duration::from_secs(60));
    let found = |name: &str| report["verified"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {report}"));
    for fault in ["lost", "disordered", "corrupt", "header_missing", "timestamps_backwards", "tracks_silent"] {
        assert_eq!(found(fault), 0, "{fault}: {report}");
    }
    assert!(found("players") == 3 && found("frames") > 3 * 7 * 30, "{report}");
    assert_eq!(report["problems"].as_array().map(Vec::len), Some(0), "{report}");
}
