//! Publishing on a shard: names claimed and given back, messages flushed to players and other shards.

use std::time::Duration;

use super::{
    close::{CloseReason, RefuseReason},
    conn::ConnId,
    core::Core,
    judging::Judgement,
    local::{LocalLog, LocalStream, Owned, Source},
    mesh::message::MeshMessage,
    questions::Event,
    relaying::Provenance,
    takeover::{Asked, NotToBeHad},
    uses::Use,
};
use crate::{
    access::{Action, Credential, Refusal},
    ingress::{Broadcast, ViewKey},
    limits::{LOGS_MAX, STREAM_LOG_LINES_PER_SECOND, TAKEOVER_WAIT},
    rtmp::{
        key::StreamKey,
        server::{PlayRefusal, PublishRefusal},
    },
    stream::directory::{Claim, Origin},
};

impl Core {
    /// A connection asks to publish `key` on its message stream `stream`. `query` came with the name.
    pub(super) fn start_publish(&mut self, id: ConnId, stream: u32, key: StreamKey, query: &str) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.session.has_passed(self.relays.node()) {
            let description = format!("'{key}' has come by this node before");
            self.refuse_publish(id, stream, &key, PublishRefusal::Denied, RefuseReason::Loop, &description);
            return;
        }
        self.judge(id, Judgement { stream, key, query: query.to_owned(), choice: None });
    }

    /// It may publish `key`, by `credential` if it needed one: it does, or waits for the name, unless somebody else keeps it.
    pub(super) fn grant_publish(
        &mut self,
        id: ConnId,
        stream: u32,
        key: StreamKey,
        query: &str,
        credential: Option<Credential>,
    ) {
        // Who takes a name over takes the place of its publisher, too; what is pulled has none.
        let replaces = self.directory.owner(&key).is_some_and(|owner| owner.origin == Origin::Published);
        if !replaces && let Err((reason, description)) = self.publish_within_limits() {
            self.refuse_publish(id, stream, &key, PublishRefusal::Denied, reason, &description);
            return;
        }
        match self.ask_for_name(&key, credential) {
            Asked::Granted(claim) => self.begin_publish(id, stream, &key, query, claim),
            Asked::Promised(promise) => self.wait_for_name(id, stream, &key, query, promise),
            Asked::Refused(why) => self.refuse_name(id, stream, &key, why),
        }
    }

    pub(super) fn refuse_name(&mut self, id: ConnId, stream: u32, key: &StreamKey, why: NotToBeHad) {
        let description = format!("'{key}' {why}");
        self.refuse_publish(id, stream, key, PublishRefusal::NameTaken, RefuseReason::NameTaken, &description);
    }

    /// The name is the connection's.
    pub(super) fn begin_publish(&mut self, id: ConnId, stream: u32, key: &StreamKey, query: &str, claim: Claim) {
        let Some(conn) = self.conns.get_mut(id) else {
            self.directory.release(key, claim.epoch, claim.resume);
            return;
        };
        // Who came by a socket file has no address to tell of.
        let publisher = Some(conn.peer()).filter(|_| !conn.is_local());
        let provenance = Provenance { publisher, ..conn.session.provenance() };
        conn.session.accept_publish(stream);
        if let Some(suppressed) = self.stream_lines.take(STREAM_LOG_LINES_PER_SECOND, self.time.now()) {
            tracing::info!(peer = %conn.peer(), stream = %key, suppressed, "publish");
            tracing::debug!(peer = %conn.peer(), capabilities = ?conn.session.capabilities(), "publish");
        }
        let local = self.streams.enter(key, &self.relays);
        conn.uses.push(Use::Publishing { stream, local, epoch: claim.epoch });
        self.metrics.publishers.add(1);
        self.admission.note_publisher();
        let broadcast = Broadcast::new(self.streams.broadcast.clone(), claim.resume);
        let owned = Owned::new(broadcast, id, claim.followers, self.port.shard(), &self.time, provenance.into());
        self.add_log(local, LocalLog { epoch: claim.epoch, source: Source::Owned(Box::new(owned)) });
        self.stream_begins(local, key);
        self.note_begun(id, stream, Event::PublishDone, key, query);
    }

    /// It may not.
    pub(super) fn deny_publish(&mut self, id: ConnId, stream: u32, key: &StreamKey, refusal: &Refusal) {
        self.log_denied(id, Action::Publish, key, refusal);
        self.metrics.refused(RefuseReason::Access).add(1);
        if let Some(conn) = self.conns.get_mut(id) {
            conn.session.refuse_publish(stream, PublishRefusal::Denied, &refusal.why);
        }
        self.note_denied(id);
    }

    fn refuse_publish(
        &mut self,
        id: ConnId,
        stream: u32,
        key: &StreamKey,
        why: PublishRefusal,
        reason: RefuseReason,
        description: &str,
    ) {
        self.metrics.refused(reason).add(1);
        let Some(conn) = self.conns.get_mut(id) else { return };
        if let Some(suppressed) = self.stream_lines.take(STREAM_LOG_LINES_PER_SECOND, self.time.now()) {
            tracing::info!(peer = %conn.peer(), stream = %key, suppressed, "publish refused: {description}");
        }
        conn.session.refuse_publish(stream, why, description);
    }

    /// A log of a publisher that came, here or on another shard: players go there once theirs has ended.
    pub(super) fn add_log(&mut self, local: usize, log: LocalLog) {
        if self.streams.slab.get(local).is_some_and(|stream| stream.logs.len() >= LOGS_MAX) {
            self.drop_oldest_log(local);
        }
        let Some(stream) = self.streams.slab.get_mut(local) else { return };
        stream.newest = log.epoch;
        stream.logs.push_back(log);
        stream.ended_at = None;
        stream.grace_until = None;
        stream.grace_over = false;
        for (_, watcher) in &mut stream.watchers {
            watcher.waiting_since_ms = None;
            if std::mem::take(&mut watcher.told_end)
                && let Some(conn) = self.conns.get_mut(watcher.conn)
            {
                conn.session.start_play(watcher.message_stream());
            }
        }
        let watchers: Vec<usize> = stream.watchers.iter().map(|(index, _)| index).collect();
        for watcher in watchers {
            if let Some(watcher) = self.streams.slab.get(local).and_then(|stream| stream.watchers.get(watcher)) {
                let id = watcher.conn;
                self.hurry(id);
            }
            if !self.provide_view(local, watcher) {
                self.refuse_view(local, watcher);
            }
        }
        self.streams.mark_dirty(local);
        self.wake_watchers(local);
    }

    /// Makes room for a newer log: players of the oldest finish their message, and shards that follow it and have not
    /// been told its end never will be.
    fn drop_oldest_log(&mut self, local: usize) {
        let Some(stream) = self.streams.slab.get_mut(local) else { return };
        let Some(epoch) = stream.logs.front().map(|log| log.epoch) else { return };
        let readers = stream.watchers.iter().filter(|(_, watcher)| watcher.epoch == epoch);
        for watcher in readers.map(|(index, _)| index).collect::<Vec<_>>() {
            self.finish_message(local, watcher);
        }
        let Some(stream) = self.streams.slab.get_mut(local) else { return };
        let Some(LocalLog { source: Source::Owned(owned), .. }) = stream.logs.pop_front() else { return };
        for feed in &owned.feeds {
            let gone = MeshMessage::Gone { key: stream.key.clone(), epoch };
            self.streams.replies.push_back((feed.shard, gone));
        }
    }

    /// Sends what came in since the last flush on its way, as merging allows.
    pub(super) fn flush_touched(&mut self) {
        if self.streams.touched.is_empty() {
            return;
        }
        while let Some(local) = self.streams.touched.pop() {
            if let Some(stream) = self.streams.slab.get_mut(local) {
                stream.touched = false;
            }
            self.flush(local, false);
        }
        self.tell_others();
        self.ring();
    }

    /// `due`: messages have been merged for long enough.
    pub(super) fn flush(&mut self, local: usize, due: bool) {
        if !self.streams.release(local, due, &self.time) {
            return;
        }
        if self.streams.slab.get(local).is_some_and(LocalStream::feeds_others) {
            self.streams.mark_dirty(local);
        }
        self.wake_watchers(local);
    }

    /// The publisher of log `epoch` has ended, for whatever reason. The name is free at once.
    pub(super) fn end_publish(&mut self, local: usize, epoch: u64) {
        self.metrics.publishers.add(-1);
        self.note_bitrates(local);
        let process = self.time.process();
        let Some(stream) = self.streams.slab.get_mut(local) else { return };
        let key = stream.key.clone();
        let Some(owned) = stream.owned_mut(epoch) else { return };
        owned.broadcast.end();
        let resume = owned.broadcast.resume(process);
        self.directory.release(&key, epoch, resume);
        if let Some(suppressed) = self.stream_lines.take(STREAM_LOG_LINES_PER_SECOND, self.time.now()) {
            tracing::info!(stream = %key, suppressed, "unpublished");
        }
        self.streams.mark_dirty(local);
        self.log_ended(local, epoch);
        if let Some(stream) = self.streams.slab.get_mut(local) {
            stream.drop_read_logs();
        }
    }

    /// Log `epoch` has ended: its players wait for the publisher to come back.
    pub(super) fn log_ended(&mut self, local: usize, epoch: u64) {
        let now = self.time.now();
        let ending = self.is_ending();
        let Some(stream) = self.streams.slab.get_mut(local) else { return };
        let grace = match self.config.unpublish_grace {
            _ if ending => Duration::ZERO,
            // Whoever replaces a publisher has not left its players.
            grace if grace < TAKEOVER_WAIT && self.directory.goes_on_after(&stream.key, epoch) => TAKEOVER_WAIT,
            grace => grace,
        };
        if stream.newest_epoch() == epoch && stream.ended_at.is_none() {
            stream.ended_at = Some(self.time.process());
            stream.grace_until = Some(now + grace);
            stream.grace_over = grace.is_zero();
        }
        self.wake_watchers(local);
    }

    /// The stream cannot be had in the form the player wants: it gets audio and video, or nothing if that is refused too.
    pub(super) fn do_without_view(&mut self, local: usize, watcher: usize) {
        let Some(known) = self.streams.slab.get(local).and_then(|stream| stream.watchers.get(watcher)) else { return };
        let both = ViewKey::new(known.message_stream(), known.view.tracks);
        if known.view == both {
            self.refuse_view(local, watcher);
            return;
        }
        self.metrics.refused(RefuseReason::Views).add(1);
        let id = known.conn;
        self.rejoin(local, watcher, both);
        if !self.provide_view(local, watcher) {
            self.refuse_view(local, watcher);
        }
        self.wake(id);
    }

    pub(super) fn refuse_view(&mut self, local: usize, watcher: usize) {
        let Some(stream) = self.streams.slab.get_mut(local) else { return };
        let Some(watcher) = stream.watchers.get(watcher) else { return };
        let (id, message_stream) = (watcher.conn, watcher.message_stream());
        self.metrics.refused(RefuseReason::Views).add(1);
        let description =
            "the stream is being sent in as many forms as it may; play it on message stream 1, without track=";
        self.refuse_play(id, message_stream, PlayRefusal::Failed, description, CloseReason::PlayRefused);
    }
}

impl LocalStream {
    /// Whether any shard is fed from a log here.
    fn feeds_others(&self) -> bool {
        let fed = |log: &LocalLog| matches!(&log.source, Source::Owned(owned) if !owned.feeds.is_empty());
        self.logs.iter().any(fed)
    }
}
