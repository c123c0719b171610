//! Pull and push: what is fetched from or sent to other nodes, in what order, and when it is tried again.
//!
//! State machines without sockets: [`crate::shard`] opens the connections they order and tells them what came of it. Time
//! goes in as a `Duration` since the process's start; chance comes in as a seed.

pub mod rules;
pub mod splice;
pub mod upstream;
