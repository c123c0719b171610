//! A node leaves service: in which order clients, readiness and listeners go, what becomes of each kind of client, how it is
//! taken back, and that it ends in time.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

#[path = "../common/mod.rs"]
mod common;

mod bar;
mod order;
mod real_clients;
mod scene;
