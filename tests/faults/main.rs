//! Faults of players, publishers, networks and of the node itself, each beside a publisher and 200 players that must notice
//! nothing: no frame is lost, and the node is afterwards what it was before. What is stricter about delay is measured by
//! `shardcast-loadtest hostile`, as here the players share the machine's CPUs with the node.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

#[path = "../common/mod.rs"]
mod common;

mod audience;
mod clock;
mod crowds;
mod networks;
mod players;
mod process;
mod publishers;
