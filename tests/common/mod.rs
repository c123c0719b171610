//! What the behaviour tests share: a running server, real clients as child processes, the packets they sent and
//! received, and a raw RTMP peer that can say anything.
//!
//! Nothing here uses the crate under test: what the server promises is checked with independent eyes. Every wait has a
//! deadline; every child is ended by its own id.
#![allow(dead_code, unused_macros, reason = "each test binary uses its own part of the harness")]

/// Makes a test of each function on the io_uring driver, and another on the legacy one; once in a file.
macro_rules! on_both_drivers {
    ($($name:ident),+ $(,)?) => {
        mod uring {
            $(#[test] fn $name() { super::$name($crate::common::server::Driver::Uring) })+
        }
        mod legacy {
            $(#[test] fn $name() { super::$name($crate::common::server::Driver::Legacy) })+
        }
    };
}

pub mod amf;
pub mod clients;
pub mod flv;
pub mod haproxy;
pub mod media;
pub mod moving;
pub mod netns;
pub mod nginx;
pub mod packets;
pub mod rtmp;
pub mod secure;
pub mod server;
pub mod table;
pub mod tool;

use std::{
    io::Write,
    time::{Duration, Instant},
};

/// Polls `probe` until it returns a value. Panics with `what` after `patience`.
#[track_caller]
pub fn wait_for<T>(what: &str, patience: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Says that a test cannot show its promise here, to whoever looks at the test and to whoever runs all of them, from whom the
/// output of tests that pass is kept. Where `CI` is set nothing may be left out: there it fails the test.
#[track_caller]
pub fn not_checked(why: &str) {
    let is_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    assert!(!is_ci, "NOT CHECKED: {why}, and with CI set everything has to be");
    eprintln!("NOT CHECKED: {why}");
    let test = std::thread::current();
    let _ = writeln!(std::io::stderr(), "{}: NOT CHECKED: {why}", test.name().unwrap_or("a test"));
}

/// Whether this is root, without which `what` cannot be shown.
#[track_caller]
pub fn is_root(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        not_checked(&format!("{what} root"));
    }
    root
}

pub const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}
