//! A stream as one shard sees it: its logs, owned or followed, and the players watching here.
//!
//! A stream has one log per publisher that came; usually one, for a moment two when a publisher was replaced and players
//! still drain the older log. Bounds: [`LOGS_MAX`](crate::limits::LOGS_MAX) logs; an older one is dropped unread.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use slab::Slab;

use super::{
    conn::ConnId,
    relaying::{Demand, Provenance},
    time::ShardTime,
    waking::Waking,
};
use crate::{
    egress::Player,
    ingress::{Broadcast, ViewKey},
    rtmp::key::StreamKey,
    stream::{directory::ShardSet, feed::FeedPosition, window::Window},
};

/// A player of this shard, waiting for the stream or watching it.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) conn: ConnId,
    pub(super) view: ViewKey,
    /// The log it watches, or watched last; 0 before the first.
    pub(super) epoch: u64,
    /// That log is not the newest there was when it asked to play, but a later one, or had nothing to begin at then. Else
    /// it waits for the next keyframe, without GOP cache.
    pub(super) was_there_first: bool,
    /// It begins at the next keyframe: it has seen this log already, in another view or before a pause, so that what came
    /// meanwhile is not for it; or it has come late and there is no GOP cache for it.
    pub(super) joins_live: bool,
    pub(super) paused: bool,
    /// Nobody published when it asked: what ended before is not for it, nor is it told of that end.
    pub(super) awaits_next: bool,
    /// It was told that the stream ended.
    pub(super) told_end: bool,
    /// Shard time in milliseconds, modulo 2^32, since which there is nothing for it to watch.
    pub(super) waiting_since_ms: Option<u32>,
    pub(super) player: Option<Player>,
}

impl Watcher {
    /// Of the connection that asked.
    pub(super) fn message_stream(&self) -> u32 {
        self.view.stream_id.into()
    }

    /// Goes on in the log of another publisher.
    pub(super) fn enter(&mut self, epoch: u64) {
        self.epoch = epoch;
        self.was_there_first = true;
        self.player = None;
        self.joins_live = false;
        self.awaits_next = false;
    }

    /// It leaves once it has had its group of pictures. False if it is in the middle of none.
    pub(super) fn leave(&mut self) -> bool {
        let idle = self.paused || self.told_end || self.awaits_next;
        match self.player.as_mut().filter(|player| !idle && !player.is_seeking()) {
            Some(player) => player.set_leaving(true),
            None => return false,
        }
        true
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.player.as_ref().is_some_and(Player::is_leaving)
    }

    /// It was there before the log it watches.
    pub(super) fn waited(&self) -> bool {
        self.was_there_first && !self.joins_live
    }

    /// Leaves its place, to begin again at the next join point of `view`.
    pub(super) fn rejoin(&mut self, view: ViewKey) {
        self.view = view;
        self.note_seen();
        self.player = None;
    }

    /// Leaves its place, to begin again at the newest join point behind it: a keyframe it has not seen.
    pub(super) fn seek_anew(&mut self, now: Duration) {
        self.note_seen();
        if let Some(player) = &mut self.player {
            player.seek_anew(now);
        }
    }

    fn note_seen(&mut self) {
        self.joins_live |= self.player.as_ref().is_some_and(|player| !player.is_seeking());
    }
}

/// A shard that is fed one view of an owned log.
#[derive(Debug)]
pub(super) struct FeedTo {
    pub(super) shard: usize,
    pub(super) view: ViewKey,
    pub(super) position: FeedPosition,
}

/// A log this shard writes.
#[derive(Debug)]
pub(super) struct Owned {
    pub(super) broadcast: Broadcast,
    pub(super) publisher: ConnId,
    pub(super) feeds: Vec<FeedTo>,
    /// Shards still to be told that it exists.
    pub(super) unannounced: ShardSet,
    /// Shards with players that waited for it, until they follow: its first messages are kept for them.
    pub(super) awaited: ShardSet,
    /// Shards with players that waited for it: each form they follow at first begins with its first messages.
    pub(super) early: ShardSet,
    /// Process time at which merged messages are let go.
    pub(super) release_due: Option<Duration>,
    /// Shard time at which the publisher last sent something.
    pub(super) last_media: Duration,
    /// Bytes of it that its publisher's bit rate has in its account.
    pub(super) rated_bytes: u64,
    /// Process time.
    pub(super) started: Duration,
    pub(super) provenance: Arc<Provenance>,
}

impl Owned {
    /// A log that begins on `shard`; `followers` have players that waited for it.
    pub(super) fn new(
        broadcast: Broadcast,
        publisher: ConnId,
        followers: ShardSet,
        shard: usize,
        time: &ShardTime,
        provenance: Arc<Provenance>,
    ) -> Self {
        let others = followers & !(1 << shard);
        Self {
            broadcast,
            publisher,
            feeds: Vec::new(),
            unannounced: others,
            awaited: others,
            early: others,
            release_due: None,
            last_media: time.now(),
            rated_bytes: 0,
            started: time.process(),
            provenance,
        }
    }

    /// Every follower has been told everything, the end included.
    pub(super) fn has_told_all(&self) -> bool {
        self.unannounced == 0
            && self.awaited == 0
            && self.feeds.iter().all(|feed| {
                let view = self.broadcast.views().iter().find(|view| view.key() == feed.view);
                view.is_none_or(|view| !feed.position.is_behind(view.log().window()))
            })
    }
}

/// A view of a log that another shard writes.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) view: ViewKey,
    /// From the first feed on.
    pub(super) window: Option<Window>,
    /// The owner was asked for it.
    pub(super) asked: bool,
    /// Shard time since which nobody watches it.
    pub(super) idle_since: Option<Duration>,
    /// The owner is to be told that it is not needed.
    pub(super) dropped: bool,
}

impl Replica {
    pub(super) fn new(view: ViewKey) -> Self {
        Self { view, window: None, asked: false, idle_since: None, dropped: false }
    }

    /// Nobody watches it any more: its owner is to be told.
    pub(super) fn give_up(&mut self) {
        self.dropped = true;
        self.window = None;
    }

    /// Somebody watches it after all. What was given up is asked for anew.
    pub(super) fn take_up(&mut self) {
        self.idle_since = None;
        if std::mem::take(&mut self.dropped) {
            self.asked = false;
        }
    }
}

#[derive(Debug)]
pub(super) enum Source {
    Owned(Box<Owned>),
    Followed { owner: usize, replicas: Vec<Replica>, gone: bool, provenance: Arc<Provenance> },
}

#[derive(Debug)]
pub(super) struct LocalLog {
    pub(super) epoch: u64,
    pub(super) source: Source,
}

impl LocalLog {
    pub(super) fn window_mut(&mut self, view: ViewKey) -> Option<&mut Window> {
        match &mut self.source {
            Source::Owned(owned) => owned.broadcast.view_mut(view).map(|view| view.log_mut().window_mut()),
            Source::Followed { replicas, .. } => {
                replicas.iter_mut().find(|replica| replica.view == view).and_then(|replica| replica.window.as_mut())
            }
        }
    }

    pub(super) fn window(&self, view: ViewKey) -> Option<&Window> {
        match &self.source {
            Source::Owned(owned) => {
                owned.broadcast.views().iter().find(|known| known.key() == view).map(|view| view.log().window())
            }
            Source::Followed { replicas, .. } => {
                replicas.iter().find(|replica| replica.view == view).and_then(|replica| replica.window.as_ref())
            }
        }
    }

    /// Whether the owner was asked, or will be, for a view that it has said nothing of.
    pub(super) fn awaits(&self, view: ViewKey) -> bool {
        match &self.source {
            Source::Owned(_) => false,
            Source::Followed { replicas, gone, .. } => {
                let awaited = |replica: &Replica| replica.view == view && !replica.dropped && replica.window.is_none();
                !gone && replicas.iter().any(awaited)
            }
        }
    }

    /// Where its publisher's stream comes from.
    pub(super) fn provenance(&self) -> &Arc<Provenance> {
        match &self.source {
            Source::Owned(owned) => &owned.provenance,
            Source::Followed { provenance, .. } => provenance,
        }
    }

    /// No more messages will come to it.
    pub(super) fn ended(&self) -> bool {
        match &self.source {
            Source::Owned(owned) => owned.broadcast.views()[0].log().window().ended(),
            Source::Followed { replicas, gone, .. } => {
                *gone || replicas.iter().any(|replica| replica.window.as_ref().is_some_and(Window::ended))
            }
        }
    }
}

/// See the file's head.
#[derive(Debug)]
pub(super) struct LocalStream {
    pub(super) key: StreamKey,
    /// Oldest first.
    pub(super) logs: VecDeque<LocalLog>,
    pub(super) watchers: Slab<Watcher>,
    /// Epoch of the newest log there was, 0 before the first.
    pub(super) newest: u64,
    /// The directory knows that this shard has players of the stream.
    pub(super) following: bool,
    /// Process time at which the newest log ended, while players wait for the publisher to come back.
    pub(super) ended_at: Option<Duration>,
    /// Shard time at which they are told.
    pub(super) grace_until: Option<Duration>,
    /// The grace is over: players at the end of the log are told that the stream ended.
    pub(super) grace_over: bool,
    /// Shard time since which nobody watches.
    pub(super) idle_since: Option<Duration>,
    /// Messages for other shards wait.
    pub(super) dirty: bool,
    /// Media came since the last flush.
    pub(super) touched: bool,
    /// Its players are being woken.
    pub(super) waking: Option<Waking>,
    pub(super) demand: Demand,
    /// Where this shard, as the stream's home, pushes it.
    pub(super) pushes: Vec<usize>,
}

impl LocalStream {
    /// `home`: of a stream that is pulled.
    pub(super) fn new(key: StreamKey, home: Option<usize>) -> Self {
        Self {
            key,
            logs: VecDeque::new(),
            watchers: Slab::new(),
            newest: 0,
            following: false,
            ended_at: None,
            grace_until: None,
            grace_over: false,
            idle_since: None,
            dirty: false,
            touched: false,
            waking: None,
            demand: Demand { home, ..Demand::default() },
            pushes: Vec::new(),
        }
    }

    /// Players here, targets that it is pushed to not among them.
    pub(super) fn players(&self) -> u64 {
        self.watchers.iter().filter(|(_, watcher)| !watcher.view.published).count() as u64
    }

    /// A player that has nothing to begin at yet.
    pub(super) fn seeks_in_vain(&self, watcher: &Watcher) -> bool {
        watcher.player.as_ref().filter(|player| player.is_seeking()).is_some_and(|player| {
            let log = self.logs.iter().find(|log| log.epoch == watcher.epoch);
            log.and_then(|log| log.window(watcher.view)).is_some_and(|window| !player.has_next(window))
        })
    }

    pub(super) fn log_mut(&mut self, epoch: u64) -> Option<&mut LocalLog> {
        self.logs.iter_mut().find(|log| log.epoch == epoch)
    }

    pub(super) fn owned(&self, epoch: u64) -> Option<&Owned> {
        match &self.logs.iter().find(|log| log.epoch == epoch)?.source {
            Source::Owned(owned) => Some(owned),
            Source::Followed { .. } => None,
        }
    }

    pub(super) fn owned_mut(&mut self, epoch: u64) -> Option<&mut Owned> {
        match &mut self.log_mut(epoch)?.source {
            Source::Owned(owned) => Some(owned),
            Source::Followed { .. } => None,
        }
    }

    pub(super) fn newest_epoch(&self) -> u64 {
        self.newest
    }

    /// Whether a publisher's messages come in, here or from another shard.
    pub(super) fn is_live(&self) -> bool {
        self.logs.back().is_some_and(|log| !log.ended())
    }

    /// Whether a publisher is here that has sent nothing yet where a player could begin: who comes now misses nothing.
    pub(super) fn has_not_begun(&self) -> bool {
        let Some(LocalLog { source: Source::Owned(owned), .. }) = self.logs.back() else { return false };
        let window = owned.broadcast.views()[0].log().window();
        !window.ended() && window.join().is_none() && window.first_join().is_none()
    }

    /// The oldest offset of `view` in log `epoch` that a player here still needs.
    pub(super) fn needs_from(&self, epoch: u64, view: ViewKey) -> Option<u64> {
        let here = |watcher: &&Watcher| watcher.epoch == epoch && watcher.view == view;
        let watchers = self.watchers.iter().map(|(_, watcher)| watcher).filter(here);
        watchers.filter_map(|watcher| watcher.player.as_ref().and_then(Player::needs_from)).min()
    }

    /// Whether a player here waits for log `epoch`, to begin at its first join point.
    fn awaits_first(&self, epoch: u64, view: ViewKey) -> bool {
        self.watchers.iter().any(|(_, watcher)| {
            let begins = watcher.player.as_ref().is_none_or(Player::is_seeking);
            let waits = watcher.epoch < epoch || (watcher.epoch == epoch && watcher.waited() && begins);
            waits && watcher.view == view && !watcher.paused
        })
    }

    /// Forms of the stream that somebody here watches.
    pub(super) fn watched_views(&self) -> Vec<ViewKey> {
        let mut views = Vec::new();
        for (_, watcher) in &self.watchers {
            if !views.contains(&watcher.view) {
                views.push(watcher.view);
            }
        }
        views
    }

    /// Lets go of what nobody needs: of every log the bytes before its players, feeds and join point.
    pub(super) fn prune(&mut self) {
        for index in 0..self.logs.len() {
            let epoch = self.logs[index].epoch;
            let views: Vec<ViewKey> = match &self.logs[index].source {
                Source::Owned(owned) => owned.broadcast.views().iter().map(|view| view.key()).collect(),
                Source::Followed { replicas, .. } => replicas.iter().map(|replica| replica.view).collect(),
            };
            for view in views {
                let fed = match &self.logs[index].source {
                    Source::Owned(owned) => owned
                        .feeds
                        .iter()
                        .filter(|feed| feed.view == view)
                        .filter_map(|feed| feed.position.holds_from())
                        .min(),
                    Source::Followed { .. } => None,
                };
                let awaited = matches!(&self.logs[index].source, Source::Owned(owned) if owned.early != 0);
                let first_needed = awaited || self.awaits_first(epoch, view);
                let needed = self.needs_from(epoch, view);
                if let Some(window) = self.logs[index].window_mut(view) {
                    let oldest_kept = window.head().saturating_sub(crate::limits::LAG_BYTES_MAX);
                    let first = window.first_join().filter(|_| first_needed).map(|join| join.offset);
                    let needed = [needed, fed, first].into_iter().flatten().min().unwrap_or(window.released());
                    window.prune(needed.max(oldest_kept));
                }
            }
        }
    }
}
