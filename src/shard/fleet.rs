//! STUB: all shards of the process, as the control thread sees them.
use std::{net::SocketAddr, sync::Arc, time::Duration};
use serde::Serialize;
use super::{config::Config, metrics::ShardMetrics};

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Something already listens there.
    #[error("{0} is already in use by another process")]
    InUse(SocketAddr),
    #[error("cannot listen on {addr}: {source}")]
    Listen { addr: SocketAddr, source: std::io::Error },
    #[error("shard {shard}: {source}")]
    Runtime { shard: usize, source: std::io::Error },
}

/// One live stream, for `/api/streams`.
#[derive(Clone, Debug, Serialize)]
pub struct StreamReport {
    pub name: String,
    /// Owner shard.
    pub shard: usize,
    pub epoch: u64,
    pub publisher: String,
    pub uptime_ms: u64,
    pub bytes_in: u64,
    pub messages_in: u64,
    pub players: u64,
    pub log_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct ShardFacts { pub shard: usize, pub cpu: Option<usize>, /// "io_uring" or "epoll (legacy)"
    pub driver: &'static str }

/// How the fleet ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FleetEnd { /// all shards ended in order
    Orderly, /// this shard panicked; the others ended their streams within PANIC_GRACE
    Panicked { shard: usize } }

pub struct Fleet {}

impl Fleet {
    /// Probes and binds every address, then starts a thread per shard. Returns once all listen.
    pub fn start(config: Config) -> Result<Self, StartError> { let _ = config; unimplemented!() }
    /// What is listened on, with the ports the system chose.
    pub fn rtmp_addrs(&self) -> &[SocketAddr] { unimplemented!() }
    pub fn shards(&self) -> &[ShardFacts] { unimplemented!() }
    /// Why io_uring is not used, if it is not and was not ruled out by the configuration.
    pub fn uring_denied(&self) -> Option<&str> { unimplemented!() }
    pub fn metrics(&self) -> &[Arc<ShardMetrics>] { unimplemented!() }
    /// Bytes of all stream logs of the process.
    pub fn log_bytes(&self) -> u64 { unimplemented!() }
    /// Live streams. Blocks up to `patience` for the shards' answers (call it off the async thread).
    pub fn streams(&self, patience: Duration) -> Vec<StreamReport> { let _ = patience; unimplemented!() }
    /// Begins the orderly end: no new connections; players get the last messages and their end of stream, within limits::SHUTDOWN_GRACE.
    pub fn shutdown(&self) { unimplemented!() }
    /// Blocks until all shards ended or one panicked.
    pub fn wait(&self) -> FleetEnd { unimplemented!() }
}
