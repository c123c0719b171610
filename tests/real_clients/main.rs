//! Real clients against a running server, on both drivers: what players receive is packet for packet what was sent.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

#[macro_use]
#[path = "../common/mod.rs"]
mod common;

mod audience;
mod ffmpeg;
mod gstreamer;
mod lifecycle;
mod new_ffmpeg;
mod rtmpdump;
