//! A node that speaks TLS, and one behind a load balancer: with the programs that people use, certificates that openssl makes,
//! and peers that do not keep to TLS.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

#[macro_use]
#[path = "../common/mod.rs"]
mod common;

mod balancer;
mod certificates;
mod clients;
mod files;
mod hostile;
mod players;
