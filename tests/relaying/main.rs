//! Nodes that pull and push, between real programs: FFmpeg at both ends, nginx as the other server, TLS by a real chain of
//! certificates, and networks that break.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

#[path = "../common/mod.rs"]
mod common;

/// Runs each test on the io_uring driver and on the legacy one.
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

mod chain;
mod command;
mod crowd;
mod ending;
mod failover;
mod fake;
mod local;
mod missing;
mod nginx;
mod secure;
mod tls;
