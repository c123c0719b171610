//! Connections that never stop coming while one process after another takes over.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::common::{
    rtmp::Peer,
    seconds,
    server::{Driver, Server},
    wait_for,
};

/// Threads that connect again and again.
struct Storm {
    ends: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    faults: Arc<Mutex<Vec<String>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Storm {
    /// About `per_second` connections, each up to the answer to its `connect`.
    fn begin(addr: SocketAddr, per_second: u32) -> Self {
        let (ends, served, faults) = <(Arc<AtomicBool>, Arc<AtomicU64>, Arc<Mutex<Vec<String>>>)>::default();
        let threads = 8.max(per_second / 25);
        let pause = Duration::from_secs(1) * threads / per_second;
        let thread = |_| {
            let (ends, served, faults) = (Arc::clone(&ends), Arc::clone(&served), Arc::clone(&faults));
            std::thread::spawn(move || {
                let mut next = Instant::now();
                while !ends.load(Ordering::Relaxed) {
                    match std::panic::catch_unwind(|| served_once(addr)) {
                        Ok(Ok(())) => drop(served.fetch_add(1, Ordering::Relaxed)),
                        Ok(Err(fault)) => faults.lock().expect("whole").push(fault),
                        Err(_) => faults.lock().expect("whole").push("a connection panicked".to_owned()),
                    }
                    next += pause;
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                }
            })
        };
        let threads = (0..threads).map(thread).collect();
        Self { ends, served, faults, threads }
    }

    fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// How many were served; fails if one was not.
    fn end(self) -> u64 {
        self.ends.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("it does not panic"));
        let faults = self.faults.lock().expect("whole");
        assert!(
            faults.is_empty(),
            "{} of {} connections: {:?}",
            faults.len(),
            self.served.load(Ordering::Relaxed),
            &faults[..faults.len().min(5)]
        );
        self.served.load(Ordering::Relaxed)
    }
}

fn served_once(addr: SocketAddr) -> Result<(), String> {
    let mut peer = Peer::dial(addr).past_handshake();
    match peer.connect("live").as_deref() {
        Some("NetConnection.Connect.Success") => Ok(()),
        other => Err(format!("connect was answered by {other:?}")),
    }
}

fn nobody_is_refused(driver: Driver) {
    let mut server = Server::start(driver, 2, &[]);
    let storm = Storm::begin(server.rtmp, 200);
    for _ in 0..3 {
        let before = storm.served();
        wait_for("connections between upgrades", seconds(10), || (storm.served() > before + 100).then_some(()));
        server.upgrade();
    }
    let before = storm.served();
    wait_for("connections after the last", seconds(10), || (storm.served() > before + 100).then_some(()));
    assert!(storm.end() > 400);
}

fn no_descriptor_is_left(driver: Driver) {
    let mut server = Server::start(driver, 2, &[]);
    // The first may have more from whoever started it.
    let fresh = server.descriptors();
    let mut descriptors = Vec::new();
    for _ in 0..5 {
        let held: Vec<Peer> = (0..20).map(|_| Peer::connected(server.rtmp)).collect();
        let before = server.pid();
        server.upgrade();
        drop(held);
        server.wait_gone_process(before, seconds(20));
        descriptors.push(server.descriptors());
    }
    assert!(
        descriptors.iter().all(|count| *count == descriptors[0] && *count <= fresh),
        "{fresh}, then {descriptors:?}"
    );
}

/// The promise in full: 1,000 connections a second, twenty upgrades, and as many descriptors as after the first. It wants the
/// machine for itself.
#[test]
#[ignore = "a minute of a whole machine: cargo test --release --test upgrade -- --ignored"]
fn twenty_upgrades_under_a_thousand_connections_a_second() {
    let mut server = Server::start(Driver::Auto, 2, &[]);
    let storm = Storm::begin(server.rtmp, 1_000);
    let began = Instant::now();
    // With the one at the end more than the kernel has layers for what each process fences off.
    for _ in 0..20 {
        let before = storm.served();
        wait_for("connections between upgrades", seconds(20), || (storm.served() > before + 500).then_some(()));
        server.upgrade();
    }
    let took = began.elapsed();
    let served = storm.end();
    eprintln!("{served} connections in {took:?}: {:.0} a second", served as f64 / took.as_secs_f64());
    let descriptors = server.descriptors();
    let before = server.pid();
    server.upgrade();
    server.wait_gone_process(before, seconds(20));
    assert_eq!(server.descriptors(), descriptors);
}

on_both_drivers!(nobody_is_refused, no_descriptor_is_left);
