//! Relaying on a shard: what it pulls from and pushes to other nodes, as far as it is told outside.

pub mod report;
