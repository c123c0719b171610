//! Networks of this test's own: namespaces with cables between them, which can be pulled out. They are gone with the test.

use std::{
    fs::File,
    net::Ipv4Addr,
    os::fd::AsFd,
    path::Path,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::tool::require;

/// Where `ip` keeps namespaces by their names.
const FOLDER: &str = "/run/netns";
const PREFIX: &str = "shardcast-test-";

/// A host with a loopback interface of its own.
pub struct Namespace {
    name: String,
}

/// Runs `ip` and returns what it said of a failure.
fn try_ip(line: &str) -> Result<(), String> {
    let output = Command::new(require("ip")).args(line.split_whitespace()).output().expect("it is on PATH");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}

#[track_caller]
fn ip(line: &str) {
    try_ip(line).unwrap_or_else(|error| panic!("ip {line}: {error}; network namespaces need root"));
}

/// Those of test processes that were killed.
fn remove_namespaces_of_ended_runs() {
    for entry in std::fs::read_dir(FOLDER).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Another run may be removing it too.
            let _ = try_ip(&format!("netns del {name}"));
        }
    }
}

impl Namespace {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        if number == 0 {
            remove_namespaces_of_ended_runs();
        }
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        ip(&format!("netns add {name}"));
        let namespace = Self { name };
        ip(&format!("-n {} link set lo up", namespace.name));
        namespace
    }

    /// Runs `work` on a thread that is in here. What it connects and the processes it starts stay here.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let place = File::open(Path::new(FOLDER).join(&self.name)).expect("ip made it");
        let enter = || move_into_link_name_space(place.as_fd(), Some(LinkNameSpaceType::Network));
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                enter().expect("network namespaces need root");
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Namespace {
    /// From here on so many of a hundred packets that come in are lost, unless they are of loopback.
    pub fn drop_randomly(&self, percent: u32) {
        for line in [
            "add table inet loss",
            "add chain inet loss input { type filter hook input priority 0 ; }",
            &format!("add rule inet loss input iif != lo numgen random mod 100 < {percent} counter drop"),
        ] {
            self.nft(line);
        }
    }

    /// How many were.
    pub fn dropped(&self) -> u64 {
        let listed = self.nft("list table inet loss");
        let packets = listed.split_whitespace().skip_while(|word| *word != "packets").nth(1);
        packets.and_then(|count| count.parse().ok()).expect("a counter")
    }

    pub fn drop_nothing(&self) {
        self.nft("delete table inet loss");
    }

    #[track_caller]
    fn nft(&self, line: &str) -> String {
        let mut command = Command::new(require("ip"));
        command.args(["netns", "exec", &self.name, require("nft")]).args(line.split_whitespace());
        let output = command.output().expect("it is on PATH");
        assert!(output.status.success(), "nft {line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // What fails here fails for a namespace that was never made.
        let _ = try_ip(&format!("netns del {}", self.name));
    }
}

/// A cable between two namespaces, and the addresses of its ends.
pub struct Cable {
    first: String,
    pub addresses: [Ipv4Addr; 2],
}

impl Cable {
    /// `number` tells the cables of one network apart.
    pub fn new(number: u8, ends: [&Namespace; 2]) -> Self {
        let [first, second] = ends.map(|end| end.name.as_str());
        let addresses = [1, 2].map(|end| Ipv4Addr::new(10, 0, number, end));
        ip(&format!("link add name cable{number} netns {first} type veth peer name cable{number} netns {second}"));
        for (end, address) in [first, second].into_iter().zip(addresses) {
            ip(&format!("-n {end} address add {address}/24 dev cable{number}"));
            ip(&format!("-n {end} link set cable{number} up"));
        }
        Self { first: format!("-n {first} link set cable{number}"), addresses }
    }

    /// From here on all that is sent over it is lost, and nobody is told.
    pub fn pull_out(&self) {
        ip(&format!("{} down", self.first));
    }

    pub fn plug_in(&self) {
        ip(&format!("{} up", self.first));
    }
}
