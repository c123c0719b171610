//! The streams one shard knows, and the two hot paths through them: a publisher's message in, a player's piece out.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use slab::Slab;

use super::{
    core::Shared,
    local::{LocalLog, LocalStream, Source, Watcher},
    merge::Merger,
    mesh::message::MeshMessage,
    metrics::ShardMetrics,
    relaying::Relays,
    time::ShardTime,
};
use crate::{
    egress::{Next, Player, Policy},
    ingress::{Taken, broadcast::BroadcastConfig},
    limits,
    media::TagError,
    rtmp::{key::StreamKey, message::Kind},
    stream::{log::JoinBounds, window::Window},
};

#[derive(Debug)]
pub(super) struct Streams {
    pub(super) slab: Slab<LocalStream>,
    pub(super) by_key: HashMap<StreamKey, usize, foldhash::fast::RandomState>,
    pub(super) broadcast: BroadcastConfig,
    pub(super) merger: Merger,
    /// Streams with messages since the last flush.
    pub(super) touched: Vec<usize>,
    /// Streams whose players are being woken, whose turn it is first.
    pub(super) waking: VecDeque<usize>,
    /// Streams with messages for other shards.
    pub(super) dirty: Vec<usize>,
    /// Answers to other shards, at most one for each request of theirs.
    pub(super) replies: VecDeque<(usize, MeshMessage)>,
}

impl Streams {
    pub(super) fn new(shared: &Shared, shard: usize) -> Self {
        let config = &shared.config;
        let windows = shared.merge_windows.clone();
        Self {
            slab: Slab::new(),
            by_key: HashMap::default(),
            broadcast: BroadcastConfig {
                segment_bytes: config.segment_bytes,
                ..BroadcastConfig::new(config.chunk_bytes, config.gop_bytes_max, shared.gauge.clone())
            },
            merger: Merger::new(config.merging, config.delay_target, config.hold_audio, shard, windows),
            touched: Vec::new(),
            waking: VecDeque::new(),
            dirty: Vec::new(),
            replies: VecDeque::new(),
        }
    }

    /// The stream of that name, known to the shard from now on.
    pub(super) fn enter(&mut self, key: &StreamKey, relays: &Relays) -> usize {
        if let Some(local) = self.by_key.get(key) {
            return *local;
        }
        let local = self.slab.insert(LocalStream::new(key.clone(), relays.pull_rule(key).map(|_| relays.home(key))));
        self.by_key.insert(key.clone(), local);
        local
    }

    /// From now on players may begin at keyframes up to so many bytes back. `now_ms` is the shard's time.
    pub(super) fn set_gop_bytes(&mut self, bytes: usize, now_ms: u32) {
        let bounds = JoinBounds { gop_bytes_max: bytes };
        self.broadcast.bounds = bounds;
        for (_, stream) in &mut self.slab {
            for log in &mut stream.logs {
                if let Source::Owned(owned) = &mut log.source {
                    owned.broadcast.set_bounds(bounds, now_ms);
                }
            }
            stream.prune();
        }
    }

    pub(super) fn mark_dirty(&mut self, local: usize) {
        if let Some(stream) = self.slab.get_mut(local).filter(|stream| !stream.dirty) {
            stream.dirty = true;
            self.dirty.push(local);
        }
    }

    /// Takes a publisher's message into its log; players see it at the next flush.
    pub(super) fn publish(
        &mut self,
        local: usize,
        epoch: u64,
        kind: Kind,
        timestamp: u32,
        payload: &[u8],
        time: &ShardTime,
    ) -> Result<(), TagError> {
        let Some(stream) = self.slab.get_mut(local) else { return Ok(()) };
        let Some(owned) = stream.owned_mut(epoch) else { return Ok(()) };
        owned.last_media = time.now();
        let taken = owned.broadcast.publish(kind, timestamp, payload, time.process(), time.now_ms())?;
        if taken == (Taken::Appended { rolled: true }) {
            stream.prune();
        }
        if !stream.touched {
            stream.touched = true;
            self.touched.push(local);
        }
        Ok(())
    }

    /// Releases what a stream's logs have gathered, as merging allows. True if players have something new.
    pub(super) fn release(&mut self, local: usize, due: bool, time: &ShardTime) -> bool {
        let Some(stream) = self.slab.get_mut(local) else { return false };
        let now = time.process();
        let mut released = false;
        for log in &mut stream.logs {
            let Source::Owned(owned) = &mut log.source else { continue };
            let merge = self.merger.window_for(owned.feeds.iter().map(|feed| feed.shard));
            let mut wait: Option<Duration> = None;
            for view in owned.broadcast.views_mut() {
                let patience = if due { Duration::ZERO } else { self.merger.patience(merge, view, time.now_ms()) };
                let window = view.log_mut().window_mut();
                if patience.is_zero() {
                    released |= window.released() < window.head();
                    window.release();
                    continue;
                }
                released |= window.release_whole_flushes();
                if window.released() < window.head() {
                    wait = Some(wait.map_or(patience, |wait| wait.min(patience)));
                }
            }
            owned.release_due = match (wait, owned.release_due) {
                (None, _) => None,
                (Some(wait), Some(due)) if due <= now + wait => Some(due),
                (Some(wait), _) => Some(self.merger.schedule(now, wait, local, log.epoch)),
            };
        }
        released
    }

    /// Process time at which [`super::core::Core::timers`] has something to do.
    pub(super) fn next_timer(&self, time: &ShardTime) -> Option<Duration> {
        let merge = self.merger.next_due();
        let retry = (!self.dirty.is_empty() || !self.replies.is_empty()).then(|| time.process() + limits::MESH_RETRY);
        merge.into_iter().chain(retry).min()
    }

    /// Whether a player has joined and has had everything released.
    pub(super) fn is_in_step(&self, local: usize, watcher: usize) -> bool {
        let watcher = self.slab.get(local).and_then(|stream| stream.watchers.get(watcher));
        watcher.and_then(|watcher| watcher.player.as_ref()).is_some_and(Player::is_in_step)
    }

    /// A player that asked takes its place in the log as of now, if the log is here in its form: the next keyframe is one it
    /// begins at, however soon it comes.
    pub(super) fn take_place(&mut self, local: usize, watcher: usize, time: &ShardTime, metrics: &ShardMetrics) {
        let Some(stream) = self.slab.get_mut(local) else { return };
        let Some(watcher) = stream.watchers.get_mut(watcher) else { return };
        if watcher.paused || watcher.awaits_next {
            return;
        }
        let log = stream.logs.iter_mut().find(|log| log.epoch == watcher.epoch);
        if let Some(window) = log.and_then(|log| log.window_mut(watcher.view)) {
            watcher.player(window, time, metrics);
        }
    }

    /// What a player is to be sent next; true with a piece that is all there is for now. A player at the end of an ended
    /// log goes on to the next one.
    pub(super) fn next_piece(
        &mut self,
        local: usize,
        watcher: usize,
        policy: &Policy,
        time: &ShardTime,
        metrics: &ShardMetrics,
    ) -> (Next, bool) {
        let Some(stream) = self.slab.get_mut(local) else { return (Next::Idle, false) };
        loop {
            let Some(watcher) = stream.watchers.get_mut(watcher) else { return (Next::Idle, false) };
            if watcher.paused && watcher.is_leaving() {
                return (Next::Left, false);
            }
            if watcher.paused {
                return if stream.is_live() { (Next::Idle, false) } else { (Next::End, false) };
            }
            if watcher.told_end {
                return (Next::End, false);
            }
            // Most streams have one log: what else there is matters only at its end.
            let watched = |log: &&mut LocalLog| log.epoch == watcher.epoch && !watcher.awaits_next;
            let mut awaited = false;
            if let Some(log) = stream.logs.iter_mut().find(watched) {
                if let Some(window) = log.window_mut(watcher.view) {
                    match watcher.next(window, policy, time, metrics) {
                        (Next::End, _) if watcher.is_leaving() => return (Next::Left, false),
                        (Next::End, _) => {}
                        next => return next,
                    }
                } else if log.ended() {
                    awaited = log.awaits(watcher.view);
                } else {
                    return (Next::Idle, false);
                }
            }
            match stream.logs.iter().map(|log| log.epoch).find(|newer| *newer > watcher.epoch) {
                Some(epoch) => watcher.enter(epoch),
                None if awaited => return (Next::Idle, false),
                None => return (Next::End, false),
            }
        }
    }
}

impl Watcher {
    /// As [`Streams::next_piece`], of the log it watches.
    fn next(&mut self, window: &mut Window, policy: &Policy, time: &ShardTime, metrics: &ShardMetrics) -> (Next, bool) {
        let view = self.view;
        let player = self.player(window, time, metrics);
        let skips = player.skips();
        let next = player.next(window, policy, time.now(), |kind| view.wants(kind));
        if player.skips() != skips {
            metrics.skips.add(player.skips() - skips);
        }
        (next, !player.has_next(window))
    }

    fn player(&mut self, window: &Window, time: &ShardTime, metrics: &ShardMetrics) -> &mut Player {
        let waited = self.waited();
        self.player.get_or_insert_with(|| {
            metrics.joins.add(1);
            let player = Player::new(window, self.joins_live, time.now());
            if waited { player.from_first() } else { player }
        })
    }
}
