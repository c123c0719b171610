//! Hostile and odd input against a running server, one test per promise. Each shows three things: what becomes of the
//! connection, that the reason is counted, and that a publisher and a player beside it lose nothing.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

#[macro_use]
#[path = "../common/mod.rs"]
mod common;

mod admin;
mod chunks;
mod commands;
mod denied_uring;
mod descriptors;
mod handshake;
mod media;
mod players;
mod scene;
mod timestamps;
