//! HTTP callbacks: whom the operator's own server lets connect, publish and play, and what becomes of clients while it is slow,
//! dead or wrong.

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

mod asked;
mod backend;
mod failing;
#[path = "../relaying/tls.rs"]
mod tls;
mod told;
