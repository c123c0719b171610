//! Clients that leave a node which goes out of service, each at a moment of its own within a window.
//!
//! Who announced that it can is asked to reconnect elsewhere (`reconnect`), newcomers too, as soon as they have connected. All
//! others are let go: a player right before the next message it could join at, so that what it got are whole groups of
//! pictures; a publisher, in the last quarter of the window, right before its next keyframe, so that what its players got are,
//! too. Newcomers among them are served until the next departure, which is the last. What is pulled ends with its players,
//! what is pushed with its publisher.
//!
//! Bounds: the lists have the connections there are. Driven by the control thread, ticks, and what players and publishers do.

use std::{collections::HashSet, sync::Arc, time::Duration};

use super::{
    close::CloseReason,
    conn::ConnId,
    core::Core,
    reconnect::{ReconnectRequest, players_share},
    streams::Streams,
    uses::Use,
};
use crate::{
    limits::DRAIN_SILENCE,
    media::{Role, classify_video},
    rtmp::message::Kind,
};

type Ids = HashSet<ConnId, foldhash::fast::RandomState>;

/// How the clients that are there leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departure {
    /// Without it nobody is asked to reconnect, and all are let go.
    pub request: Option<Arc<ReconnectRequest>>,
    /// From the first to the last.
    pub over: Duration,
    /// Who cannot be asked may stay, until another departure.
    pub others_stay: bool,
}

/// A departure in force.
#[derive(Debug)]
pub(super) struct Leaving {
    departure: Departure,
    /// Who is to be let go, and the shard time when; the last is the next.
    queue: Vec<(Duration, ConnId)>,
    /// Those of the departure that are not asked, and still here.
    players: Ids,
    publishers: Ids,
    /// Publishers whose moment has come.
    due: Ids,
    /// Connections that were there when it began, or have been looked at since.
    met: Ids,
}

impl Core {
    /// All clients leave as `departure` says, instead of as another one said. Returns how many will be asked to reconnect.
    pub fn leave(&mut self, departure: Departure) -> usize {
        self.reconnecting = None;
        self.metrics.reconnecting.set(0);
        let asked = departure.request.clone().map_or(0, |request| self.request_reconnect(request));
        let (mut players, mut publishers) = (Vec::new(), Vec::new());
        let mut met = Ids::default();
        for (id, conn) in self.conns.iter().filter(|(_, conn)| conn.closing().is_none()) {
            // The process that took over leaves when there is nothing to be had here.
            if conn.session.upstream().is_some() || conn.is_successor() {
                continue;
            }
            met.insert(id);
            if departure.request.is_none() || !conn.session.can_reconnect() {
                if self.publishes(id) { publishers.push(id) } else { players.push(id) }
            }
        }
        let split = players_share(departure.over);
        let mut queue = Vec::new();
        if !departure.others_stay {
            queue = self.spread(&players, Duration::ZERO, split);
            queue.extend(self.spread(&publishers, split, departure.over.saturating_sub(split)));
        }
        queue.sort_unstable_by_key(|(at, _)| std::cmp::Reverse(*at));
        let (players, publishers) = (players.into_iter().collect(), publishers.into_iter().collect());
        self.leaving = Some(Box::new(Leaving { departure, queue, players, publishers, due: Ids::default(), met }));
        self.let_go();
        asked
    }

    /// Nobody has to leave any more. Who was asked to reconnect may still do so.
    pub fn stay(&mut self) {
        self.leaving = None;
        self.reconnecting = None;
        self.keep_no_publisher();
        for (_, stream) in &mut self.streams.slab {
            for player in stream.watchers.iter_mut().filter_map(|(_, watcher)| watcher.player.as_mut()) {
                player.set_leaving(false);
            }
        }
        for gauge in [&self.metrics.reconnecting, &self.metrics.leaving_players, &self.metrics.leaving_publishers] {
            gauge.set(0);
        }
    }

    /// Lets go of those whose moment has come. Called at ticks.
    pub(super) fn let_go(&mut self) {
        let Some(mut leaving) = self.leaving.take() else { return };
        if leaving.departure.request.as_ref().is_some_and(|request| request.after_players) {
            self.keep_publishers();
        }
        let now = self.time.now();
        let (mut idle, mut plays) = (Vec::new(), Vec::new());
        while let Some((_, id)) = leaving.queue.pop_if(|(at, _)| *at <= now) {
            let here = leaving.players.contains(&id) || leaving.publishers.contains(&id);
            let Some(conn) = self.conns.get_mut(id).filter(|conn| here && conn.closing().is_none()) else { continue };
            if conn.uses.is_empty() {
                idle.push(id);
            }
            for used in conn.uses.iter() {
                match used {
                    Use::Publishing { .. } => drop(leaving.due.insert(id)),
                    Use::Playing { stream, local, watcher } => {
                        let known = self.streams.slab.get_mut(*local);
                        let watcher = known.and_then(|known| known.watchers.get_mut(*watcher));
                        plays.extend(watcher.is_some_and(|watcher| !watcher.leave()).then_some((id, *stream)));
                    }
                }
            }
            self.wake(id);
        }
        let silent: Vec<(ConnId, u32)> = leaving.due.iter().filter_map(|id| self.silent_publish(*id)).collect();
        self.meet_newcomers(&mut leaving);
        self.leaving = Some(leaving);
        idle.into_iter().for_each(|id| self.close_if_done(id));
        plays.into_iter().for_each(|(id, stream)| self.let_player_go(id, stream));
        silent.into_iter().for_each(|(id, stream)| self.let_publisher_go(id, stream));
        self.show_leaving();
    }

    /// Asks who has connected since, and can.
    fn meet_newcomers(&mut self, leaving: &mut Leaving) {
        let Some(request) = &leaving.departure.request else { return };
        let mut able = Vec::new();
        for (id, conn) in self.conns.iter() {
            let is_new = !leaving.met.contains(&id) && !conn.is_successor();
            if conn.closing().is_none() && is_new && conn.session.has_connected() {
                leaving.met.insert(id);
                able.extend(conn.session.can_reconnect().then_some(id));
            }
        }
        if !able.is_empty() {
            self.request_reconnect_of(request, &able);
        }
    }

    /// The message stream of a publisher that has sent nothing for a while: there is no keyframe to wait for.
    fn silent_publish(&self, id: ConnId) -> Option<(ConnId, u32)> {
        let conn = self.conns.get(id).filter(|conn| conn.closing().is_none())?;
        conn.uses.iter().find_map(|used| match used {
            Use::Publishing { stream, local, epoch } => {
                let owned = self.streams.slab.get(*local)?.owned(*epoch)?;
                let silent = self.time.now().saturating_sub(owned.last_media) >= DRAIN_SILENCE;
                silent.then_some((id, *stream))
            }
            Use::Playing { .. } => None,
        })
    }

    /// A publisher's time here is over, between groups of pictures.
    pub(super) fn let_publisher_go(&mut self, id: ConnId, stream: u32) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.session.end_publish(stream, "the server leaves service");
        self.end_use(id, stream);
        self.close_if_done(id);
    }

    /// A player has had the last message that it is to have here.
    pub(super) fn let_player_go(&mut self, id: ConnId, stream: u32) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.session.end_play(stream);
        self.end_use(id, stream);
        self.close_if_done(id);
    }

    fn close_if_done(&mut self, id: ConnId) {
        if self.conns.get(id).is_some_and(|conn| conn.uses.is_empty()) {
            self.close(id, CloseReason::Drained, false);
        }
        self.wake(id);
    }

    /// A connection has gone, or is on its way out.
    pub(super) fn note_leaving(&mut self, id: ConnId) {
        let Some(leaving) = &mut self.leaving else { return };
        leaving.met.remove(&id);
        leaving.due.remove(&id);
        if leaving.players.remove(&id) || leaving.publishers.remove(&id) {
            self.show_leaving();
        }
    }

    fn show_leaving(&self) {
        let Some(leaving) = &self.leaving else { return };
        let count = |ids: &Ids| i64::try_from(ids.len()).unwrap_or(i64::MAX);
        self.metrics.leaving_players.set(count(&leaving.players));
        self.metrics.leaving_publishers.set(count(&leaving.publishers));
    }
}

impl Leaving {
    /// Whether a publisher whose moment has come ends before this message: a keyframe, or anything if no video flows.
    pub(super) fn ends_before(
        &self,
        id: ConnId,
        kind: Kind,
        payload: &[u8],
        video_flows: impl FnOnce() -> bool,
    ) -> bool {
        if !self.due.contains(&id) {
            return false;
        }
        match kind {
            Kind::Video => classify_video(payload).is_ok_and(|tag| tag.role == Role::Keyframe),
            Kind::Audio | Kind::Data => !video_flows(),
        }
    }
}

impl Streams {
    /// Whether video messages have come lately in the log `epoch`, which is written here.
    pub(super) fn video_flows(&self, local: usize, epoch: u64, now_ms: u32) -> bool {
        let owned = self.slab.get(local).and_then(|stream| stream.owned(epoch));
        owned.is_some_and(|owned| owned.broadcast.views().iter().any(|view| view.video_flows(now_ms)))
    }
}
