//! Streams across shards: what the mesh brings, and what is told through it.
//!
//! Everything told is derived from state (a position behind, a bit not announced, a replica not asked for), so a full
//! queue only delays it: [`Core::tell_others`] is tried again at the next turn.

use std::sync::Arc;

use super::{
    core::Core,
    local::{FeedTo, LocalLog, LocalStream, Owned, Replica, Source},
    mesh::{Port, message::MeshMessage},
    metrics::ShardMetrics,
    relaying::Provenance,
};
use crate::{
    ingress::ViewKey,
    rtmp::key::StreamKey,
    stream::{
        feed::{Feed, FeedPosition},
        window::Window,
    },
};

impl Core {
    pub(super) fn receive_mail(&mut self) {
        while let Some((from, message)) = self.port.receive() {
            self.metrics.mesh_messages.add(1);
            match message {
                MeshMessage::Announce { key, epoch, provenance } => self.announced(from, &key, epoch, provenance),
                MeshMessage::Follow { key, epoch, view } => self.follow_asked(from, key, epoch, view),
                MeshMessage::Unfollow { key, epoch, view } => self.unfollow_asked(from, &key, epoch, view),
                MeshMessage::Feed { key, epoch, view, feed } => self.fed(&key, epoch, view, *feed),
                MeshMessage::Refused { key, epoch, view } => self.view_refused(&key, epoch, view),
                MeshMessage::Gone { key, epoch } => self.log_gone(&key, epoch),
                MeshMessage::Yield { key, epoch, heir } => self.yield_asked(from, key, epoch, heir),
                MeshMessage::Yielded { key, heir } => self.name_released(&key, heir),
                MeshMessage::Demand { key, wanted, provenance } => self.demanded(from, &key, wanted, provenance),
                MeshMessage::Missing { key } => self.stream_missing(&key),
            }
        }
    }

    /// `from` publishes the name now.
    fn announced(&mut self, from: usize, key: &StreamKey, epoch: u64, provenance: Arc<Provenance>) {
        let is_pushed = self.relays.is_pushed(key) && self.relays.home(key) == self.port.shard();
        let local = self.streams.by_key.get(key).copied();
        let Some(local) = local.or_else(|| is_pushed.then(|| self.streams.enter(key, &self.relays))) else { return };
        if is_pushed {
            self.follow_to_push(local);
        }
        let wanted = |stream: &LocalStream| stream.following && epoch > stream.newest_epoch();
        let known = self.streams.slab.get_mut(local).and_then(|stream| stream.log_mut(epoch));
        if let Some(LocalLog { source: Source::Followed { provenance: unknown, .. }, .. }) = known {
            *unknown = provenance;
        } else if self.streams.slab.get(local).is_some_and(wanted) {
            let source = Source::Followed { owner: from, replicas: Vec::new(), gone: false, provenance };
            self.add_log(local, LocalLog { epoch, source });
        }
        if is_pushed {
            self.begin_pushes(local);
        }
    }

    fn follow_asked(&mut self, from: usize, key: StreamKey, epoch: u64, view: ViewKey) {
        let local = self.streams.by_key.get(&key).copied();
        let owned = local.and_then(|local| self.streams.slab.get_mut(local)).and_then(|stream| stream.owned_mut(epoch));
        let Some((local, owned)) = local.zip(owned) else {
            self.streams.replies.push_back((from, MeshMessage::Gone { key, epoch }));
            return;
        };
        if !owned.broadcast.add_view(view) {
            self.streams.replies.push_back((from, MeshMessage::Refused { key, epoch, view }));
            return;
        }
        let waited = owned.early & (1 << from) != 0;
        owned.unannounced &= !(1 << from);
        owned.awaited &= !(1 << from);
        owned.feeds.retain(|feed| (feed.shard, feed.view) != (from, view));
        owned.feeds.push(FeedTo { shard: from, view, position: FeedPosition::new(waited) });
        self.streams.mark_dirty(local);
    }

    fn unfollow_asked(&mut self, from: usize, key: &StreamKey, epoch: u64, view: ViewKey) {
        let Some(local) = self.streams.by_key.get(key).copied() else { return };
        if let Some(owned) = self.streams.slab.get_mut(local).and_then(|stream| stream.owned_mut(epoch)) {
            owned.feeds.retain(|feed| (feed.shard, feed.view) != (from, view));
        }
    }

    fn fed(&mut self, key: &StreamKey, epoch: u64, view: ViewKey, feed: Feed) {
        let Some(local) = self.streams.by_key.get(key).copied() else { return };
        let Some(stream) = self.streams.slab.get_mut(local) else { return };
        let Some(LocalLog { source: Source::Followed { replicas, .. }, .. }) = stream.log_mut(epoch) else { return };
        let Some(replica) = replicas.iter_mut().find(|replica| replica.view == view && !replica.dropped) else {
            return;
        };
        if let Some(start) = &feed.start {
            replica.window.get_or_insert_with(|| Window::new(start.layout, start.offset));
        }
        let Some(window) = &mut replica.window else { return };
        let ended = feed.ended;
        if window.apply(feed) {
            stream.prune();
        }
        if ended {
            self.log_ended(local, epoch);
        } else {
            self.wake_watchers(local);
        }
    }

    fn view_refused(&mut self, key: &StreamKey, epoch: u64, view: ViewKey) {
        let Some(local) = self.streams.by_key.get(key).copied() else { return };
        let Some(stream) = self.streams.slab.get_mut(local) else { return };
        // Whoever wants it next asks again: others may have left by then.
        if let Some(LocalLog { source: Source::Followed { replicas, .. }, .. }) = stream.log_mut(epoch) {
            replicas.retain(|replica| replica.view != view);
        }
        if stream.newest_epoch() != epoch {
            return;
        }
        let refused = stream.watchers.iter().filter(|(_, watcher)| watcher.view == view);
        for watcher in refused.map(|(index, _)| index).collect::<Vec<_>>() {
            self.do_without_view(local, watcher);
        }
    }

    fn log_gone(&mut self, key: &StreamKey, epoch: u64) {
        let Some(local) = self.streams.by_key.get(key).copied() else { return };
        let Some(stream) = self.streams.slab.get_mut(local) else { return };
        if let Some(LocalLog { source: Source::Followed { gone, replicas, .. }, .. }) = stream.log_mut(epoch) {
            *gone = true;
            // What came before is still played out.
            replicas.iter_mut().filter_map(|replica| replica.window.as_mut()).for_each(Window::set_end);
            self.log_ended(local, epoch);
        }
    }

    /// Tells other shards what they are to know, as far as their queues take it.
    pub(super) fn tell_others(&mut self) {
        while let Some((to, message)) = self.streams.replies.pop_front() {
            if let Err(message) = self.port.send(to, message) {
                self.streams.replies.push_front((to, message));
                break;
            }
        }
        self.takeovers.tell(&mut self.port);
        let mut dirty = std::mem::take(&mut self.streams.dirty);
        dirty.retain(|local| {
            let Some(stream) = self.streams.slab.get_mut(*local) else { return false };
            stream.dirty = !tell(stream, &mut self.port, &self.metrics);
            stream.dirty
        });
        // Nothing marks a stream dirty in between.
        self.streams.dirty = dirty;
    }

    pub(super) fn ring(&mut self) {
        let rung = self.port.ring();
        self.metrics.doorbells.add(rung);
    }
}

/// Offers messages to the mesh and remembers whether it took them all.
struct Offer<'a> {
    port: &'a mut Port,
    metrics: &'a ShardMetrics,
    all_taken: bool,
}

impl Offer<'_> {
    fn has_room(&mut self, to: usize) -> bool {
        let room = self.port.has_room(to);
        if !room {
            self.metrics.mesh_full.add(1);
            self.all_taken = false;
        }
        room
    }

    /// True if it was taken.
    fn send(&mut self, to: usize, message: MeshMessage) -> bool {
        self.has_room(to) && self.port.send(to, message).is_ok()
    }
}

/// Tells what there is to tell of one stream. True if all of it was taken.
fn tell(stream: &mut LocalStream, port: &mut Port, metrics: &ShardMetrics) -> bool {
    let mut offer = Offer { port, metrics, all_taken: true };
    if let Some((home, wanted)) = stream.demand_to_tell() {
        let provenance = stream.demand.provenance.clone();
        if offer.send(home, MeshMessage::Demand { key: stream.key.clone(), wanted, provenance }) {
            stream.demand.told = wanted;
        }
    }
    for log in &mut stream.logs {
        match &mut log.source {
            Source::Owned(owned) => tell_followers(&stream.key, log.epoch, owned, &mut offer),
            Source::Followed { owner, replicas, .. } => {
                tell_owner(&stream.key, log.epoch, *owner, replicas, &mut offer);
            }
        }
    }
    offer.all_taken
}

fn tell_followers(key: &StreamKey, epoch: u64, owned: &mut Owned, offer: &mut Offer<'_>) {
    for to in 0..offer.port.shards() {
        let bit = 1 << to;
        if owned.unannounced & bit == 0 {
            continue;
        }
        let provenance = owned.provenance.clone();
        if offer.send(to, MeshMessage::Announce { key: key.clone(), epoch, provenance }) {
            owned.unannounced &= !bit;
        }
    }
    for feed in &mut owned.feeds {
        let Some(view) = owned.broadcast.view_mut(feed.view) else { continue };
        let window = view.log().window();
        if !feed.position.is_behind(window) || !offer.has_room(feed.shard) {
            continue;
        }
        let (news, after) = window.feed(feed.position);
        let message = MeshMessage::Feed { key: key.clone(), epoch, view: feed.view, feed: Box::new(news) };
        if offer.send(feed.shard, message) {
            feed.position = after;
        }
    }
}

fn tell_owner(key: &StreamKey, epoch: u64, owner: usize, replicas: &mut Vec<Replica>, offer: &mut Offer<'_>) {
    for replica in replicas.iter_mut() {
        let view = replica.view;
        if replica.dropped && replica.asked {
            replica.asked = !offer.send(owner, MeshMessage::Unfollow { key: key.clone(), epoch, view });
        } else if !replica.dropped && !replica.asked {
            replica.asked = offer.send(owner, MeshMessage::Follow { key: key.clone(), epoch, view });
        }
    }
    replicas.retain(|replica| !replica.dropped || replica.asked);
}
