//! Nodes that pull and push, between real programs: FFmpeg at both ends, nginx as the other server, TLS by a real chain of
//! certificates, and networks that break.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

#[macro_use]
#[path = "../common/mod.rs"]
mod common;

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
