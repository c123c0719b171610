//! What passes with time: merges that are due, and the coarse timers of connections and streams.

use std::time::Duration;

use super::{
    close::{CloseReason, RefuseReason},
    conn::{Conn, ConnId},
    core::Core,
    local::{LocalStream, Replica, Source, Watcher},
    uses::Use,
};
use crate::{egress::Player, ingress::ViewKey, limits, rtmp::server::PlayRefusal};

/// What a connection's coarse timer found.
enum Overdue {
    Session(String, CloseReason),
    Silent { stream: u32 },
    Stuck,
    Lingers,
    Undecided,
}

impl Core {
    /// Called when [`Core::due_at`] says so: releases merged messages that are due.
    pub fn timers(&mut self) {
        let process = self.time.process();
        while let Some(release) = self.streams.merger.take_due(process) {
            let owned = self.streams.slab.get_mut(release.local).and_then(|stream| stream.owned_mut(release.epoch));
            if owned.is_some_and(|owned| owned.release_due == Some(release.due)) {
                self.flush(release.local, true);
            }
        }
        self.turn();
    }

    /// Of the last `elapsed`, the shard was busy for `busy`. Said about once a tick.
    pub fn note_load(&mut self, busy: Duration, elapsed: Duration) {
        let merger = &mut self.streams.merger;
        merger.sample(busy, elapsed);
        let load = merger.load();
        self.metrics.load_permille.set((load * 1_000.0) as i64);
        self.metrics.merge_window_us.set(i64::try_from(merger.window().as_micros()).unwrap_or(i64::MAX));
        self.note_cpu(load);
    }

    /// The coarse timers, every [`limits::TICK`].
    pub fn tick(&mut self) {
        self.tick_overload();
        self.tick_connections();
        self.judge_more();
        self.tick_streams();
        self.tick_relays();
        // It says who plays, before publishers are asked.
        self.let_go();
        self.ask_to_reconnect();
        self.turn();
    }

    fn tick_connections(&mut self) {
        self.metrics.handshakes.set(i64::try_from(self.handshakes.len()).unwrap_or(i64::MAX));
        let overdue: Vec<_> =
            self.conns.iter().filter_map(|(id, conn)| self.overdue(conn).map(|overdue| (id, overdue))).collect();
        for (id, overdue) in overdue {
            match overdue {
                Overdue::Session(what, reason) => {
                    self.log_close(id, reason, &what);
                    self.close(id, reason, false);
                }
                Overdue::Silent { stream } => self.close_silent_publisher(id, stream),
                Overdue::Stuck => {
                    let what = format!("it took nothing of what it was sent for {:?}", limits::PROGRESS_DEADLINE);
                    self.log_close(id, CloseReason::NoProgress, &what);
                    self.close(id, CloseReason::NoProgress, true);
                }
                Overdue::Undecided => self.give_up_asking(id),
                Overdue::Lingers => self.close(id, CloseReason::PeerClosed, true),
            }
        }
    }

    fn overdue(&self, conn: &Conn) -> Option<Overdue> {
        let now = self.time.now();
        if let Some(closing) = conn.closing() {
            return (now >= closing.deadline && !closing.aborted).then_some(Overdue::Lingers);
        }
        let sending = conn.sending_since_ms.map(|since_ms| self.time.now_ms().wrapping_sub(since_ms));
        if sending.is_some_and(|ms| u128::from(ms) >= limits::PROGRESS_DEADLINE.as_millis()) {
            return Some(Overdue::Stuck);
        }
        if let Some(pending) = conn.pending() {
            // It is not read, so its silence is no fault of its own.
            return (now >= pending.until).then_some(Overdue::Undecided);
        }
        if conn.session.deadline().is_some_and(|deadline| now >= deadline)
            && let Err(error) = conn.session.timeout(now)
        {
            return Some(Overdue::Session(error.to_string(), CloseReason::from(&error)));
        }
        let idle = self.config.publisher_idle;
        conn.uses.iter().find_map(|used| match used {
            Use::Publishing { stream, local, epoch } if !idle.is_zero() => {
                let owned = self.streams.slab.get(*local).and_then(|stream| stream.owned(*epoch));
                let silent = owned.is_some_and(|owned| now.saturating_sub(owned.last_media) >= idle);
                silent.then_some(Overdue::Silent { stream: *stream })
            }
            _ => None,
        })
    }

    /// Ends one publish; a connection that does nothing else ends with it.
    fn close_silent_publisher(&mut self, id: ConnId, stream: u32) {
        let logged = format!("no media came for {:?} (--idle-timeout-s)", self.config.publisher_idle);
        self.give_publisher_up(id, stream, CloseReason::PublisherIdle, "no media came for too long", &logged);
    }

    /// As [`close_silent_publisher`](Self::close_silent_publisher), for whatever reason.
    pub(super) fn give_publisher_up(&mut self, id: ConnId, stream: u32, reason: CloseReason, told: &str, logged: &str) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.session.end_publish(stream, told);
        }
        if self.conns.get(id).is_some_and(|conn| conn.uses.len() > 1) {
            self.end_use(id, stream);
            self.wake(id);
            return;
        }
        self.log_close(id, reason, logged);
        self.close(id, reason, false);
    }

    fn tick_streams(&mut self) {
        for local in self.streams.slab.iter().map(|(local, _)| local).collect::<Vec<_>>() {
            self.end_grace(local);
            self.note_bitrates(local);
            self.tick_watchers(local);
            self.drop_idle_views(local);
            self.forget_if_idle(local);
        }
        self.watch_bitrates();
        let waiting = self.streams.slab.iter().map(|(_, stream)| stream.waiting()).sum::<usize>();
        self.metrics.players_waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// The publisher did not come back in time: players that have had everything are told.
    fn end_grace(&mut self, local: usize) {
        let now = self.time.now();
        let Some(stream) = self.streams.slab.get_mut(local) else { return };
        if stream.grace_until.is_some_and(|until| now >= until) {
            stream.grace_until = None;
            stream.grace_over = true;
            if let Some(ended_at) = stream.ended_at {
                self.directory.forget(&stream.key, ended_at);
            }
            self.wake_watchers(local);
            self.end_pushes(local);
        }
    }

    fn tick_watchers(&mut self, local: usize) {
        let now = self.time.now();
        let Some(stream) = self.streams.slab.get(local) else { return };
        let mut late = Vec::new();
        let mut waited = Vec::new();
        let mut wake = Vec::new();
        for (_, watcher) in &stream.watchers {
            let log = stream.logs.iter().find(|log| log.epoch == watcher.epoch);
            let window = log.and_then(|log| log.window(watcher.view));
            if let Some((player, window)) = watcher.player.as_ref().zip(window) {
                late.extend(player.is_stuck(window, &self.policy).map(|why| (watcher.conn, why)));
                if !watcher.paused && player.join_wait_is_over(&self.policy, now) {
                    wake.push(watcher.conn);
                }
            }
            let play_wait_ms = self.config.play_wait.as_millis();
            let over = |since_ms| u128::from(self.time.now_ms().wrapping_sub(since_ms)) >= play_wait_ms;
            if play_wait_ms > 0 && watcher.waiting_since_ms.is_some_and(over) {
                waited.push((watcher.conn, watcher.message_stream()));
            }
        }
        for (id, why) in late {
            self.close_slow_player(id, why);
        }
        for (id, message_stream) in waited {
            self.metrics.refused(RefuseReason::NotFound).add(1);
            let description = "nobody published the stream in time";
            let reason = CloseReason::StreamNotFound;
            self.log_close(id, reason, description);
            self.refuse_play(id, message_stream, PlayRefusal::NotFound, description, reason);
        }
        wake.into_iter().for_each(|id| self.wake(id));
    }

    /// Forms of a stream nobody here watches are given up after a linger.
    fn drop_idle_views(&mut self, local: usize) {
        let now = self.time.now();
        let Some(stream) = self.streams.slab.get_mut(local) else { return };
        let mut dirty = false;
        let process = self.time.process();
        let watched = stream.watched_views();
        for index in 0..stream.logs.len() {
            match &mut stream.logs[index].source {
                Source::Owned(owned) => {
                    if process.saturating_sub(owned.started) > limits::FOLLOW_WAIT {
                        owned.awaited = 0;
                        owned.early = 0;
                    }
                    let fed = |view: ViewKey| owned.feeds.iter().any(|feed| feed.view == view);
                    let needed = |view: ViewKey| watched.contains(&view) || fed(view);
                    let views: Vec<ViewKey> = owned.broadcast.views().iter().map(|view| view.key()).collect();
                    let idle: Vec<ViewKey> = views.into_iter().filter(|view| !needed(*view)).collect();
                    for view in owned.broadcast.note_idle(&idle, now) {
                        owned.broadcast.drop_view(view);
                    }
                }
                Source::Followed { replicas, .. } => {
                    for replica in replicas.iter_mut().filter(|replica| !replica.dropped) {
                        if watched.contains(&replica.view) {
                            replica.idle_since = None;
                            continue;
                        }
                        let since = *replica.idle_since.get_or_insert(now);
                        if now.saturating_sub(since) >= limits::VIEW_LINGER {
                            replica.give_up();
                            dirty = true;
                        }
                    }
                }
            }
        }
        stream.prune();
        if dirty {
            self.streams.mark_dirty(local);
        }
    }

    /// Drops logs that have ended and were read, and the stream once nothing is left of it.
    pub(super) fn forget_if_idle(&mut self, local: usize) {
        let now = self.time.now();
        let Some(stream) = self.streams.slab.get_mut(local) else { return };
        stream.drop_read_logs();
        if !stream.watchers.is_empty() || !stream.pushes.is_empty() || stream.demand.told {
            return;
        }
        let lingers = stream.idle_since.is_some_and(|since| now.saturating_sub(since) < limits::VIEW_LINGER);
        if stream.following && !lingers {
            stream.following = false;
            self.directory.unfollow(&stream.key, self.port.shard());
            stream.give_up_replicas();
            if !stream.logs.is_empty() {
                self.streams.mark_dirty(local);
                return;
            }
        }
        if !stream.following && !stream.dirty && stream.grace_until.is_none() && stream.logs.is_empty() {
            let key = self.streams.slab.remove(local).key;
            self.streams.by_key.remove(&key);
        }
    }
}

impl LocalStream {
    /// Players that are being sent nothing because there is nothing they could begin with.
    fn waiting(&self) -> usize {
        let waits = |watcher: &Watcher| watcher.player.as_ref().is_none_or(Player::is_seeking) || watcher.told_end;
        self.watchers.iter().filter(|(_, watcher)| waits(watcher)).count()
    }

    /// Keeps a log until its publisher has ended, its players have had it and other shards have been told of it.
    pub(super) fn drop_read_logs(&mut self) {
        let following = self.following;
        let watchers = &self.watchers;
        self.logs.retain(|log| {
            let is_there = |watcher: &Watcher| watcher.epoch == log.epoch && !watcher.awaits_next;
            let reads = |watcher: &Watcher| !watcher.told_end && (is_there(watcher) || watcher.epoch < log.epoch);
            let drained = !watchers.iter().any(|(_, watcher)| reads(watcher));
            match &log.source {
                Source::Followed { replicas, .. } if !following && replicas.is_empty() => return false,
                Source::Owned(owned) if !owned.has_told_all() => return true,
                _ => {}
            }
            !log.ended() || !drained
        });
    }

    /// Nobody here watches any more: the owners of its logs are to be told.
    fn give_up_replicas(&mut self) {
        for log in &mut self.logs {
            if let Source::Followed { replicas, .. } = &mut log.source {
                replicas.iter_mut().for_each(Replica::give_up);
            }
        }
    }
}
