//! Real clients against a running server, on both drivers: what players receive is packet for packet what was sent.

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

mod audience;
mod ffmpeg;
