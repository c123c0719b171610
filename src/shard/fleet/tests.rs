//! Real threads and sockets: how a fleet starts, and how it ends.

use std::{
    net::{SocketAddr, TcpStream},
    thread,
};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::*;
use crate::shard::socket_options::SocketOptions;

fn start(shards: usize) -> Fleet {
    let rtmp = vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()];
    Fleet::start(Config { rtmp, cpus: vec![None; shards], ..Config::default() }).expect("starts")
}

#[test]
fn a_fleet_ends_in_order_when_told() {
    let fleet = start(2);
    assert!(fleet.streams(Duration::from_secs(5)).is_empty());
    fleet.shutdown();
    assert_eq!(fleet.wait(), FleetEnd::Orderly);
}

#[test]
fn a_shard_that_panics_takes_the_others_along() {
    let fleet = start(3);
    fleet.mailboxes[1].send(Command::Panic);
    assert_eq!(fleet.wait(), FleetEnd::Panicked { shard: 1 });
    assert_eq!(fleet.ends.orderly(), 2, "the survivors ended in order");
}

#[test]
fn a_shard_that_hangs_takes_the_others_along() {
    let fleet = start(3);
    let began = Instant::now();
    let hang = Act(Box::new(|_: &Driver| thread::sleep(Duration::from_secs(30))));
    fleet.mailboxes[1].send(Command::Act(hang));
    assert_eq!(fleet.wait(), FleetEnd::Hung { shard: 1 });
    let took = began.elapsed();
    let expected = limits::WATCHDOG_TICK * limits::WATCHDOG_TICKS_MAX;
    assert!(took >= expected && took < expected * 2 + limits::PANIC_GRACE, "{took:?}");
    assert_eq!(fleet.ends.orderly(), 2, "the survivors ended in order");
}

#[test]
fn a_shard_that_is_slow_is_not_hung() {
    let fleet = start(2);
    fleet.act(|_| thread::sleep(Duration::from_secs(3)));
    let slow = || fleet.metrics()[0].slow_turns.get();
    let by = Instant::now() + Duration::from_secs(5);
    while slow() == 0 && Instant::now() < by {
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(slow(), 1);
    fleet.shutdown();
    assert_eq!(fleet.wait(), FleetEnd::Orderly);
}

#[test]
fn a_connection_is_handled_on_the_cpu_its_packets_arrive_on() {
    let mask = sched_getaffinity(None).expect("a mask");
    // Highest first: a shard's number is not its CPU's.
    let cpus = (0..CpuSet::MAX_CPU).rev().filter(|cpu| mask.is_set(*cpu)).take(4).collect::<Vec<_>>();
    let fleet = Fleet::start(Config {
        rtmp: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()],
        cpus: cpus.iter().copied().map(Some).collect(),
        sockets: SocketOptions { reuseport_cpu: true, ..SocketOptions::default() },
        ..Config::default()
    })
    .expect("starts");
    let addr = fleet.rtmp_addrs()[0].tcp().expect("an address");
    let accepted = || fleet.metrics().iter().map(|shard| shard.connections_accepted.get()).collect::<Vec<_>>();
    for (shard, cpu) in cpus.iter().enumerate() {
        let mut alone = CpuSet::new();
        alone.set(*cpu);
        sched_setaffinity(None, &alone).expect("allowed");
        let _clients = (0..20).map(|_| TcpStream::connect(addr).unwrap()).collect::<Vec<_>>();
        let by = Instant::now() + Duration::from_secs(10);
        let expected = (0..cpus.len()).map(|other| if other <= shard { 20 } else { 0 }).collect::<Vec<_>>();
        while accepted() != expected && Instant::now() < by {
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(accepted(), expected, "from CPU {cpu} to shards on {cpus:?}");
    }
    fleet.shutdown();
    assert_eq!(fleet.wait(), FleetEnd::Orderly);
}
