//! What is pulled and pushed, as `/api/relays` and the metrics tell it.

use std::collections::HashMap;

use serde::Serialize;

use crate::shard::core::Core;

/// All relays of a node, or of one of its shards.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RelayReport {
    pub pulls: Vec<PullLine>,
    pub pushes: Vec<PushLine>,
}

/// One stream that is pulled.
#[derive(Clone, Debug, Serialize)]
pub struct PullLine {
    pub stream: String,
    /// Its home.
    pub shard: usize,
    /// Where it comes from, or what is tried; without secrets.
    pub source: String,
    pub state: String,
    /// How many there are to choose from.
    pub sources: usize,
    /// On all shards.
    pub players: u64,
    pub bytes_in: u64,
    /// Over the last second.
    pub bits_per_second: u64,
    /// Connections begun.
    pub attempts: u64,
    pub last_fault: Option<String>,
    /// How long it has come from that source.
    pub since_ms: u64,
}

/// One stream to one target.
#[derive(Clone, Debug, Serialize)]
pub struct PushLine {
    pub stream: String,
    pub shard: usize,
    /// Without the stream's name there, which is a key.
    pub target: String,
    pub state: String,
    pub bytes_out: u64,
    /// Over the last second.
    pub bits_per_second: u64,
    /// How far what it was sent is behind what came in.
    pub lag_ms: u64,
    pub attempts: u64,
    pub last_fault: Option<String>,
    pub since_ms: u64,
}

/// What one shard says.
#[derive(Clone, Debug, Default)]
pub(in crate::shard) struct RelayPart {
    report: RelayReport,
    /// Its players of streams that are pulled, here or by another shard.
    players: Vec<(String, u64)>,
}

impl RelayReport {
    /// Of what all shards said.
    pub(in crate::shard) fn of(parts: impl Iterator<Item = RelayPart>) -> Self {
        let mut whole = Self::default();
        let mut players: HashMap<String, u64> = HashMap::new();
        for part in parts {
            whole.pulls.extend(part.report.pulls);
            whole.pushes.extend(part.report.pushes);
            part.players.into_iter().for_each(|(stream, count)| *players.entry(stream).or_default() += count);
        }
        for pull in &mut whole.pulls {
            pull.players = players.get(&pull.stream).copied().unwrap_or(0);
        }
        whole
    }
}

impl Core {
    pub(in crate::shard) fn relay_report(&self) -> RelayPart {
        let now = self.time.now();
        let shard = self.port.shard();
        let since_ms = |since| u64::try_from(now.saturating_sub(since).as_millis()).unwrap_or(u64::MAX);
        let pulls = self.relays.pulls.iter().map(|(_, pull)| {
            let report = pull.puller.report();
            PullLine {
                stream: pull.key.to_string(),
                shard,
                source: pull.label(),
                state: report.state.to_owned(),
                sources: pull.puller.sources().len(),
                players: 0,
                bytes_in: pull.bytes_in,
                bits_per_second: pull.rate.bits_per_second(),
                attempts: report.attempts,
                last_fault: pull.fault.clone(),
                since_ms: since_ms(pull.since),
            }
        });
        let pushes = self.relays.pushes.iter().map(|(_, push)| {
            let report = push.pusher.report();
            PushLine {
                stream: push.key.to_string(),
                shard,
                target: push.target.label.clone(),
                state: report.state.to_owned(),
                bytes_out: self.bytes_out(push),
                bits_per_second: push.rate.bits_per_second(),
                lag_ms: push.conn().map_or(0, |id| self.lag_ms(push.local(), id)),
                attempts: report.attempts,
                last_fault: push.fault.clone(),
                since_ms: since_ms(report.since),
            }
        });
        let report = RelayReport { pulls: pulls.collect(), pushes: pushes.collect() };
        let pulled = self.streams.slab.iter().filter(|(_, stream)| stream.demand.home.is_some());
        let players = pulled.map(|(_, stream)| (stream.key.to_string(), stream.players())).collect();
        RelayPart { report, players }
    }

    /// How far a connection's player is behind.
    fn lag_ms(&self, local: usize, id: usize) -> u64 {
        let Some(stream) = self.streams.slab.get(local) else { return 0 };
        let Some((_, watcher)) = stream.watchers.iter().find(|(_, watcher)| watcher.conn == id) else { return 0 };
        let window = stream.logs.iter().find(|log| log.epoch == watcher.epoch).and_then(|log| log.window(watcher.view));
        watcher.player.as_ref().zip(window).map_or(0, |(player, window)| player.lag_ms(window).into())
    }
}
