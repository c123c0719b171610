//! Playing on a shard: players attached to streams and views, woken, told of the end, detached.

use std::{sync::Arc, time::Duration};

use super::{
    close::{CloseReason, RefuseReason},
    conn::ConnId,
    core::Core,
    judging::Judgement,
    local::{LocalLog, Replica, Source, Watcher},
    uses::Use,
};
use crate::{
    access::{Action, Refusal},
    egress::{Piece, Player},
    ingress::ViewKey,
    media::{TrackChoice, TrackChoiceError},
    rtmp::{
        key::{StreamKey, query_value},
        message::Kind,
        server::PlayRefusal,
    },
    stream::directory::Origin,
};

impl Core {
    /// A connection asks to play `key` on its message stream `stream`, of `query`'s tracks, instead of what it
    /// plays there. It may wait for the stream to be published.
    pub(super) fn start_play(&mut self, id: ConnId, stream: u32, key: StreamKey, query: &str) {
        let choice = match chosen_tracks(query) {
            Ok(choice) => choice.unwrap_or(self.config.tracks),
            Err(error) => {
                self.metrics.refused(RefuseReason::Tracks).add(1);
                let description = format!("track= cannot be used: {error}");
                self.refuse_play(id, stream, PlayRefusal::Failed, &description, CloseReason::PlayRefused);
                return;
            }
        };
        self.end_use(id, stream);
        if self.goes_in_circles(id, &key) {
            self.metrics.refused(RefuseReason::Loop).add(1);
            let description = "the stream would come back to where it is asked from";
            self.refuse_play(id, stream, PlayRefusal::Failed, description, CloseReason::PlayRefused);
            return;
        }
        self.judge(id, Judgement { stream, key, query: query.to_owned(), choice: Some(choice) });
    }

    /// It may not.
    pub(super) fn deny_play(&mut self, id: ConnId, stream: u32, key: &StreamKey, refusal: &Refusal) {
        self.log_denied(id, Action::Play, key, refusal);
        self.metrics.refused(RefuseReason::Access).add(1);
        self.refuse_play(id, stream, PlayRefusal::Failed, &refusal.why, CloseReason::PlayRefused);
    }

    /// It may play `key`, of which it gets the tracks of its `choice`.
    pub(super) fn grant_play(&mut self, id: ConnId, stream: u32, key: &StreamKey, choice: TrackChoice) {
        // A successor plays for clients that are counted there.
        let is_successor = self.conns.get(id).is_some_and(|conn| conn.is_successor());
        if let Some((reason, description)) = self.play_within_limits(key).err().filter(|_| !is_successor) {
            self.metrics.refused(reason).add(1);
            self.refuse_play(id, stream, PlayRefusal::Failed, &description, CloseReason::PlayRefused);
            return;
        }
        // It asks again after a while, and asks about other names meanwhile.
        if is_successor && !self.directory.is_taken(key) && !self.relays.has_predecessor() {
            let description = "nobody publishes it at the process before";
            self.refuse_play(id, stream, PlayRefusal::NotFound, description, CloseReason::StreamNotFound);
            return;
        }
        let local = self.streams.enter(key, &self.relays);
        if !self.follow(local) {
            self.metrics.refused(RefuseReason::WaitedNames).add(1);
            let description = "too many streams are waited for; try again later";
            self.refuse_play(id, stream, PlayRefusal::Failed, description, CloseReason::PlayRefused);
            return;
        }
        let now_ms = self.time.now_ms();
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Some(known) = self.streams.slab.get_mut(local) else { return };
        let tracks = choice.resolve(conn.session.takes_multitrack());
        let capabilities = conn.session.capabilities();
        tracing::debug!(peer = %conn.peer(), stream = %key, ?tracks, ?capabilities, "play");
        let receives = |kind| conn.session.receives(stream, kind);
        let (audio, video) = (receives(Kind::Audio), receives(Kind::Video));
        let watcher = known.watchers.insert(Watcher {
            conn: id,
            view: ViewKey { audio, video, ..ViewKey::new(stream, tracks) },
            epoch: known.newest_epoch(),
            was_there_first: known.has_not_begun(),
            joins_live: !known.has_not_begun() && !self.policy.gop_cache && !conn.session.is_node(),
            paused: false,
            awaits_next: !known.is_live(),
            told_end: false,
            waiting_since_ms: (!known.is_live()).then_some(now_ms),
            player: None,
        });
        known.idle_since = None;
        if known.demand.home.is_some() && known.demand.provenance.is_none() {
            known.demand.provenance = Some(Arc::new(conn.session.provenance()));
        }
        conn.uses.push(Use::Playing { stream, local, watcher });
        self.metrics.players.add(1);
        self.admission.note_player(key);
        self.note_demand(local);
        if !self.provide_view(local, watcher) {
            self.do_without_view(local, watcher);
        }
        self.take_place(local, watcher);
        if self.playing(id, stream).is_some()
            && let Some(conn) = self.conns.get_mut(id)
        {
            conn.session.start_play(stream);
        }
        self.wake(id);
    }

    /// The node that asks for a stream, or one behind it, is this one; and what is here came from elsewhere, or is yet to.
    fn goes_in_circles(&self, id: ConnId, key: &StreamKey) -> bool {
        self.conns.get(id).is_some_and(|conn| conn.session.has_passed(self.relays.node()))
            && self.relays.comes_from_elsewhere(key)
            && self.directory.owner(key).is_none_or(|owner| owner.origin == Origin::Pulled)
    }

    /// As [`follow`](Self::follow), for what is pushed from here: the owner has told of the stream already.
    pub(super) fn follow_to_push(&mut self, local: usize) {
        let Some(stream) = self.streams.slab.get_mut(local).filter(|stream| !stream.following) else { return };
        stream.following = self.directory.follow(&stream.key, self.port.shard()).is_ok();
    }

    /// Tells the directory, once, that this shard has players of the stream, and learns who owns it.
    fn follow(&mut self, local: usize) -> bool {
        let Some(stream) = self.streams.slab.get_mut(local) else { return false };
        if stream.following {
            return true;
        }
        let Ok(owner) = self.directory.follow(&stream.key, self.port.shard()) else { return false };
        stream.following = true;
        if let Some(owner) = owner
            && owner.shard != self.port.shard()
            && owner.epoch > stream.newest_epoch()
        {
            let source =
                Source::Followed { owner: owner.shard, replicas: Vec::new(), gone: false, provenance: Arc::default() };
            self.add_log(local, LocalLog { epoch: owner.epoch, source });
        }
        true
    }

    /// Makes sure that the newest log comes in the form the player receives. False if it cannot.
    pub(super) fn provide_view(&mut self, local: usize, watcher: usize) -> bool {
        let Some(stream) = self.streams.slab.get_mut(local) else { return true };
        let Some(view) = stream.watchers.get(watcher).map(|watcher| watcher.view) else { return true };
        let Some(log) = stream.logs.back_mut() else { return true };
        match &mut log.source {
            Source::Owned(owned) => owned.broadcast.add_view(view),
            Source::Followed { replicas, .. } => {
                match replicas.iter_mut().find(|replica| replica.view == view) {
                    Some(replica) => replica.take_up(),
                    None => replicas.push(Replica::new(view)),
                }
                self.streams.mark_dirty(local);
                self.tell_others();
                self.ring();
                true
            }
        }
    }

    /// The player has had everything of a stream that has ended. True if it was told so.
    pub(super) fn tell_end(&mut self, local: usize, watcher: usize) -> bool {
        let (now_ms, ending) = (self.time.now_ms(), self.is_ending());
        let Some(stream) = self.streams.slab.get_mut(local).filter(|stream| stream.grace_over) else { return false };
        let Some(watcher) = stream.watchers.get_mut(watcher) else { return false };
        let id = watcher.conn;
        let tells = !watcher.told_end && (ending || !watcher.awaits_next);
        let pushed = watcher.view.published;
        if tells {
            watcher.told_end = true;
            watcher.waiting_since_ms = Some(now_ms);
            if let Some(conn) = self.conns.get_mut(id) {
                conn.session.end_play(watcher.message_stream());
            }
        }
        let closes = (ending && self.was_told_all(id)) || (tells && pushed);
        if closes {
            self.close(id, if pushed { CloseReason::RelayDone } else { CloseReason::Shutdown }, false);
        }
        tells || closes
    }

    /// Whether a connection's players were all told the end.
    fn was_told_all(&self, id: ConnId) -> bool {
        let told = |used: &Use| match used {
            Use::Publishing { .. } => false,
            Use::Playing { local, watcher, .. } => {
                let stream = self.streams.slab.get(*local);
                stream.and_then(|stream| stream.watchers.get(*watcher)).is_none_or(|watcher| watcher.told_end)
            }
        };
        self.conns.get(id).is_some_and(|conn| conn.uses.iter().all(told))
    }

    /// Refuses a play; a connection that does nothing else, and waits for nothing, ends.
    pub(super) fn refuse_play(
        &mut self,
        id: ConnId,
        stream: u32,
        why: PlayRefusal,
        description: &str,
        reason: CloseReason,
    ) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.session.refuse_play(stream, why, description);
        self.end_use(id, stream);
        if self.conns.get(id).is_some_and(|conn| conn.uses.is_empty() && conn.pending().is_none()) {
            self.close(id, reason, false);
        }
        self.wake(id);
    }

    /// A message stream of the connection goes back to doing nothing.
    pub(super) fn end_use(&mut self, id: ConnId, stream: u32) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Some(used) = conn.uses.remove_where(|used| used.stream() == stream) else { return };
        if let Use::Playing { local, watcher, .. } = used {
            self.finish_message(local, watcher);
        }
        self.detach(id, used);
    }

    /// A player leaves its place: what is left of the message it is in goes out first. Whatever followed on the same csid
    /// would else be taken for the rest of it.
    pub(super) fn finish_message(&mut self, local: usize, watcher: usize) {
        let Some(stream) = self.streams.slab.get_mut(local) else { return };
        let Some(watcher) = stream.watchers.get(watcher) else { return };
        let (id, epoch, view) = (watcher.conn, watcher.epoch, watcher.view);
        let Some(mut at) = watcher.player.as_ref().and_then(Player::needs_from) else { return };
        let Some(window) = stream.log_mut(epoch).and_then(|log| log.window_mut(view)) else { return };
        let Some(conn) = self.conns.get_mut(id) else { return };
        if at < window.start() || window.is_message_boundary(at) {
            return;
        }
        let end = window.message_end(at);
        while let Some(slice) = window.slice(at, end) {
            at = slice.range.end;
            conn.loose_ends().unfinished.push_back(Piece::Log(slice));
        }
        self.wake(id);
    }

    /// Undoes a use that was taken from its connection.
    pub(super) fn detach(&mut self, id: ConnId, used: Use) {
        self.tell_done(id, &used);
        match used {
            Use::Publishing { local, epoch, .. } => {
                self.admission.publisher_left();
                self.end_publish(local, epoch);
            }
            Use::Playing { local, watcher, .. } => {
                let Some(stream) = self.streams.slab.get_mut(local) else { return };
                let Some(removed) = stream.watchers.try_remove(watcher) else { return };
                debug_assert!(removed.conn == id);
                if !removed.view.published {
                    self.metrics.players.add(-1);
                    self.admission.player_left(&stream.key);
                }
                let was_last = stream.watchers.is_empty();
                if was_last {
                    // There is nothing to linger for in a name that nobody published.
                    stream.idle_since = (!stream.logs.is_empty()).then(|| self.time.now());
                }
                self.note_demand(local);
                if was_last {
                    self.forget_if_idle(local);
                }
            }
        }
    }

    /// receiveAudio, receiveVideo: the player gets the view it asked for from the next join point on.
    pub(super) fn choose_kinds(&mut self, id: ConnId, stream: u32, kind: Kind, on: bool) {
        let Some((local, index)) = self.playing(id, stream) else { return };
        let Some(watcher) = self.streams.slab.get_mut(local).and_then(|known| known.watchers.get_mut(index)) else {
            return;
        };
        let mut view = watcher.view;
        match kind {
            Kind::Audio => view.audio = on,
            Kind::Video => view.video = on,
            Kind::Data => {}
        }
        if view == watcher.view {
            return;
        }
        self.rejoin(local, index, view);
        if !self.provide_view(local, index) {
            self.do_without_view(local, index);
        }
        self.take_place(local, index);
        self.wake(id);
    }

    /// pause, pauseRaw: a paused player is sent nothing. It goes on at the newest keyframe, if that came meanwhile and the
    /// GOP cache is on, else at the next.
    pub(super) fn pause(&mut self, id: ConnId, stream: u32, on: bool) {
        self.wake(id);
        let Some((local, index)) = self.playing(id, stream) else { return };
        let watcher = self.streams.slab.get(local).and_then(|known| known.watchers.get(index));
        if watcher.is_none_or(|watcher| watcher.paused == on) {
            return;
        }
        self.finish_message(local, index);
        let Some(watcher) = self.streams.slab.get_mut(local).and_then(|known| known.watchers.get_mut(index)) else {
            return;
        };
        watcher.paused = on;
        watcher.seek_anew(self.time.now());
        if !on && !self.policy.gop_cache {
            let view = watcher.view;
            watcher.rejoin(view);
        }
        self.take_place(local, index);
        self.hurry(id);
    }

    fn take_place(&mut self, local: usize, watcher: usize) {
        self.streams.take_place(local, watcher, &self.time, &self.metrics);
    }

    pub(super) fn rejoin(&mut self, local: usize, watcher: usize, view: ViewKey) {
        self.finish_message(local, watcher);
        let Some(known) = self.streams.slab.get_mut(local) else { return };
        let Some(watcher) = known.watchers.get_mut(watcher) else { return };
        let (id, stream) = (watcher.conn, watcher.message_stream());
        if watcher.is_leaving() {
            return self.let_player_go(id, stream);
        }
        watcher.rejoin(view);
        self.hurry(id);
    }

    fn playing(&self, id: ConnId, stream: u32) -> Option<(usize, usize)> {
        self.conns.get(id)?.uses.iter().find_map(|used| match used {
            Use::Playing { stream: of, local, watcher } if *of == stream => Some((*local, *watcher)),
            _ => None,
        })
    }

    /// Ends what this shard publishes and plays. Players are told once they have had the last messages.
    pub(super) fn end_everything(&mut self) {
        for id in self.conns.iter().map(|(id, _)| id).collect::<Vec<_>>() {
            self.refuse_pending(id);
            let Some(conn) = self.conns.get_mut(id) else { continue };
            let publishes = conn.uses.iter().filter(|used| matches!(used, Use::Publishing { .. }));
            let publishes: Vec<u32> = publishes.map(Use::stream).collect();
            for stream in &publishes {
                conn.session.end_publish(*stream, "the server is going away");
            }
            let plays = conn.uses.len() > publishes.len();
            if conn.session.upstream().is_some() {
                continue;
            }
            if !plays {
                self.close(id, CloseReason::Shutdown, false);
            } else {
                publishes.iter().for_each(|stream| self.end_use(id, *stream));
            }
        }
        self.end_relays();
        for local in self.streams.slab.iter().map(|(local, _)| local).collect::<Vec<_>>() {
            let Some(stream) = self.streams.slab.get_mut(local) else { continue };
            if !stream.is_live() {
                stream.grace_until = Some(Duration::ZERO);
                stream.grace_over = true;
            }
            self.wake_watchers(local);
        }
        self.tell_others();
        self.ring();
    }
}

/// The tracks that a play's query names, by `track` or `tracks`.
fn chosen_tracks(query: &str) -> Result<Option<TrackChoice>, TrackChoiceError> {
    let text = query_value(query, "track").or_else(|| query_value(query, "tracks"));
    text.map(|text| escaped_commas(text).parse()).transpose()
}

/// Web players build their URLs by URLSearchParams, which escapes the commas of a list.
fn escaped_commas(text: &str) -> String {
    text.replace("%2C", ",").replace("%2c", ",")
}
