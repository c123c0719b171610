//! Who wants a stream that is pulled: shards tell the stream's home, which tells them if nobody has it.
//!
//! A shard says whether it has players of a stream, not how many, and what it said last is kept beside the stream: told
//! late because a queue was full, it is told as it is then.

use std::sync::Arc;

use super::{Provenance, RelayId};
use crate::{
    rtmp::{key::StreamKey, server::PlayRefusal},
    shard::{
        close::{CloseReason, RefuseReason},
        core::Core,
        local::LocalStream,
        mesh::message::MeshMessage,
    },
};

/// What a shard makes of its players of one stream, for the stream's home.
#[derive(Debug, Default)]
pub(in crate::shard) struct Demand {
    /// The stream's home, if a rule says that it is pulled.
    pub(in crate::shard) home: Option<usize>,
    /// The home knows that there are players here.
    pub(in crate::shard) told: bool,
    /// The first player's: the nodes behind it.
    pub(in crate::shard) provenance: Option<Arc<Provenance>>,
}

impl LocalStream {
    /// What the home is to be told, if it does not know.
    pub(in crate::shard) fn demand_to_tell(&self) -> Option<(usize, bool)> {
        let wanted = self.watchers.iter().any(|(_, watcher)| !watcher.view.published);
        self.demand.home.filter(|_| wanted != self.demand.told).map(|home| (home, wanted))
    }
}

impl Core {
    /// Players of a stream came or left: its home is told if that matters to it.
    pub(in crate::shard) fn note_demand(&mut self, local: usize) {
        let Some(stream) = self.streams.slab.get_mut(local) else { return };
        let Some((home, wanted)) = stream.demand_to_tell() else { return };
        if home != self.port.shard() {
            self.streams.mark_dirty(local);
            return;
        }
        stream.demand.told = wanted;
        let provenance = stream.demand.provenance.take();
        let key = stream.key.clone();
        self.demanded(home, &key, wanted, provenance);
    }

    /// A shard has players of a stream, or none any more.
    pub(in crate::shard) fn demanded(
        &mut self,
        from: usize,
        key: &StreamKey,
        wanted: bool,
        provenance: Option<Arc<Provenance>>,
    ) {
        let index = match self.relays.pull_of.get(key).copied() {
            Some(index) => index,
            None if !wanted => return,
            None => match self.enter_pull(key, provenance) {
                Some(index) => index,
                None => {
                    if self.relays.comes_from_elsewhere(key) {
                        self.tell_missing(from, key);
                    }
                    return;
                }
            },
        };
        let now = self.time.now();
        let Some(pull) = self.relays.pulls.get_mut(index) else { return };
        let bit = 1 << from;
        if wanted {
            pull.wanted_by |= bit;
        } else {
            pull.wanted_by &= !bit;
        }
        let misses = wanted && !pull.inherited && pull.is_missing(now);
        pull.tell_puller(now);
        self.relays.rouse(RelayId::Pull(index));
        if misses {
            self.tell_missing(from, key);
        }
    }

    /// Tells a shard's players of a stream that nobody has it.
    pub(super) fn tell_missing(&mut self, to: usize, key: &StreamKey) {
        if to == self.port.shard() {
            self.stream_missing(key);
        } else {
            self.streams.replies.push_back((to, MeshMessage::Missing { key: key.clone() }));
        }
    }

    /// Nobody has the stream: players that have nothing to watch are told so at once.
    pub(in crate::shard) fn stream_missing(&mut self, key: &StreamKey) {
        let Some(local) = self.streams.by_key.get(key).copied() else { return };
        let Some(stream) = self.streams.slab.get(local).filter(|stream| !stream.is_live()) else { return };
        let waits = stream.watchers.iter().filter(|(_, watcher)| watcher.awaits_next || watcher.told_end);
        let waiting: Vec<_> = waits.map(|(_, watcher)| (watcher.conn, watcher.message_stream())).collect();
        let description = "the stream was not found at any of the nodes it may come from";
        for (id, message_stream) in waiting {
            self.metrics.refused(RefuseReason::NotFound).add(1);
            self.log_close(id, CloseReason::StreamNotFound, description);
            self.refuse_play(id, message_stream, PlayRefusal::NotFound, description, CloseReason::StreamNotFound);
        }
    }
}
