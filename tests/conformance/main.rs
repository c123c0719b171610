//! The rules of RTMP and Enhanced RTMP v2 that a relay keeps, one test each, against a running server. Each test names the
//! source of its rule: a section of RTMP 1.0, of FLV 10.1 or of Enhanced RTMP v2, or the peer whose behaviour it is.
//!
//! `rules.rs` lists them all; a rule that is tested in depth elsewhere points there.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

#[path = "../common/mod.rs"]
mod common;

mod chunks;
mod commands;
mod enhanced;
mod handshake;
mod real_peers;
mod relay;
mod rules;
mod scene;
