//! What a shard says of its streams when asked: the owner the facts, every shard its players.

use std::time::Duration;

use super::{core::Core, fleet::StreamReport, local::Source};

#[derive(Clone, Debug)]
struct Owned {
    shard: usize,
    epoch: u64,
    publisher: String,
    uptime: Duration,
    bytes: u64,
    messages: u64,
    log_bytes: u64,
}

/// One shard's part of a [`StreamReport`].
#[derive(Clone, Debug, Default)]
pub(super) struct StreamPart {
    pub(super) name: String,
    players: u64,
    owned: Option<Owned>,
}

impl StreamPart {
    /// Adds what another shard said of the same stream.
    pub(super) fn merge(&mut self, other: Self) {
        self.name = other.name;
        self.players += other.players;
        // While a name changes hands two shards may each speak of a publisher: the newer one has it.
        let newer = |owned: &Option<Owned>| owned.as_ref().map_or(0, |owned| owned.epoch);
        if newer(&other.owned) > newer(&self.owned) {
            self.owned = other.owned;
        }
    }

    /// `None` if nobody publishes it.
    pub(super) fn into_report(self) -> Option<StreamReport> {
        let owned = self.owned?;
        Some(StreamReport {
            name: self.name,
            shard: owned.shard,
            epoch: owned.epoch,
            publisher: owned.publisher,
            uptime_ms: u64::try_from(owned.uptime.as_millis()).unwrap_or(u64::MAX),
            bytes_in: owned.bytes,
            messages_in: owned.messages,
            players: self.players,
            log_bytes: owned.log_bytes,
        })
    }
}

impl Core {
    pub(super) fn report(&self) -> Vec<StreamPart> {
        let parts = self.streams.slab.iter().map(|(_, stream)| {
            let newest = stream.logs.back().filter(|log| !log.ended());
            let owned = newest.and_then(|log| match &log.source {
                Source::Owned(owned) => {
                    let (messages, bytes) = owned.broadcast.counts();
                    Some(Owned {
                        shard: self.port.shard(),
                        epoch: log.epoch,
                        publisher: self
                            .conns
                            .get(owned.publisher)
                            .map_or_else(String::new, |conn| conn.peer().to_string()),
                        uptime: self.time.process().saturating_sub(owned.started),
                        bytes,
                        messages,
                        log_bytes: owned.broadcast.views().iter().map(|view| view.log().window().held_bytes()).sum(),
                    })
                }
                Source::Followed { .. } => None,
            });
            StreamPart { name: stream.key.to_string(), players: stream.players(), owned }
        });
        parts.collect()
    }
}
