//! Real clients against a running server, on both drivers: what players receive is packet for packet what was sent.

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

mod audience;
mod ffmpeg;
mod gstreamer;
mod lifecycle;
mod new_ffmpeg;
mod rtmpdump;
