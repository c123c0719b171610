//! HTTP callbacks: whom the operator's own server lets connect, publish and play, and what becomes of clients while it is slow,
//! dead or wrong.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

#[macro_use]
#[path = "../common/mod.rs"]
mod common;

mod asked;
mod backend;
mod failing;
#[path = "../relaying/tls.rs"]
mod tls;
mod told;
