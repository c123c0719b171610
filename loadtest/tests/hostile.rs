//! Hostile connections beside an audience: what `hostile` measures in full, with fewer of them.

mod common;

use common::{Run, Server};
use std::time::Duration;

/// Its delay is not judged here: server, audience and hostile connections share the CPUs with other tests.
#[test]
fn hostile_connections_cost_the_audience_nothing_and_leave_nothing_behind() {
    let server = Server::start(&["--merge-ms", "0"]);
    let (rtmp, pid) = (server.rtmp, server.pid());
    let long = "--connections 1000 --rounds 2 --storm 8s --calm 2s --warmup 1s";
    let run = Run::start(&format!("hostile --url rtmp://{rtmp}/live/show --server-pid {pid} {long}"));
    // Recovery, of a minute at most in each round, included.
    let report = run.report(Duration::from_secs(180));
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
