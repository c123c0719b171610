//! A new process takes over from one that runs (`SIGUSR2`): nobody is refused, nothing else is inherited, and streams whose
//! publishers are still at the old one are played at the new one.

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
mod ends;
mod failing;
mod fenced;
mod folder;
mod sockets;
mod storm;
mod streams;
