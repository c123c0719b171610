//! Clients asked to go on at another server: ReconnectRequest (Enhanced RTMP v2), for those that announced it.
//!
//! A request is for the connections there are, each at a moment of its own within a window, so that they do not all
//! arrive elsewhere at once; newcomers to a node that leaves are asked as they come. Players come first, publishers in the
//! last quarter: who plays waits on the new server when its publisher comes. Beyond the window a publisher waits for players
//! that could follow it nowhere ([`ReconnectRequest::after_players`]). Everybody is served until it leaves. Nothing is kept in
//! a connection: a request in force is a list here, bounded by the connections there are; a new one takes its place.

use std::{collections::HashSet, sync::Arc, time::Duration};

use super::{conn::ConnId, core::Core, uses::Use};
use crate::limits::RECONNECT_SAYING;

/// Share of the window that belongs to players, in quarters.
const PLAYERS_QUARTERS: u32 = 3;

/// Where clients are asked to go, and how hastily.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReconnectRequest {
    /// Absolute, or relative to each client's own tcUrl; `None` is the same place again.
    pub tc_url: Option<String>,
    pub description: String,
    /// From the first to the last.
    pub over: Duration,
    /// Publishers are not asked as long as anybody here plays what they publish. The process that took over does not count.
    pub after_players: bool,
}

/// A request in force.
#[derive(Debug)]
pub(super) struct Reconnecting {
    request: Arc<ReconnectRequest>,
    /// Who is to be asked, and the shard time when; the last is the next.
    queue: Vec<(Duration, ConnId)>,
    /// Those of the request that are still connected.
    here: HashSet<ConnId, foldhash::fast::RandomState>,
}

/// The part of a window that belongs to players, who come first.
pub(super) fn players_share(over: Duration) -> Duration {
    over * PLAYERS_QUARTERS / 4
}

impl Core {
    /// Asks all connections that can to reconnect as `request` says, and serves on. Returns how many will be asked, unless
    /// they leave before.
    pub fn request_reconnect(&mut self, request: Arc<ReconnectRequest>) -> usize {
        let (mut players, mut publishers) = (Vec::new(), Vec::new());
        for (id, conn) in self.conns.iter().filter(|(_, conn)| conn.closing().is_none()) {
            let publishes = conn.uses.iter().any(|used| matches!(used, Use::Publishing { .. }));
            if conn.session.can_reconnect() && !conn.is_successor() {
                if publishes { publishers.push(id) } else { players.push(id) }
            }
        }
        let here: HashSet<ConnId, _> = players.iter().chain(&publishers).copied().collect();
        let asked = here.len();
        let split = players_share(request.over);
        // Until then other shards have said whom they have.
        let publishers_from = if request.after_players { split.max(RECONNECT_SAYING) } else { split };
        let mut queue = self.spread(&players, Duration::ZERO, split);
        queue.extend(self.spread(&publishers, publishers_from, request.over.saturating_sub(split)));
        queue.sort_unstable_by_key(|(at, _)| std::cmp::Reverse(*at));
        self.reconnecting = Some(Box::new(Reconnecting { request, queue, here }));
        self.ask_to_reconnect();
        asked
    }

    /// As [`request_reconnect`](Self::request_reconnect), of a few, besides those that are being asked, and at once.
    pub(super) fn request_reconnect_of(&mut self, request: &Arc<ReconnectRequest>, ids: &[ConnId]) {
        let empty = || Reconnecting { request: request.clone(), queue: Vec::new(), here: HashSet::default() };
        let reconnecting = self.reconnecting.get_or_insert_with(|| Box::new(empty()));
        let now = self.time.now();
        reconnecting.queue.extend(ids.iter().map(|id| (now, *id)));
        reconnecting.here.extend(ids);
        self.ask_to_reconnect();
    }

    /// A moment for each within `over`, from `after` on: equal parts of it in an order of chance, and a moment of chance in
    /// each part.
    pub(super) fn spread(&mut self, ids: &[ConnId], after: Duration, over: Duration) -> Vec<(Duration, ConnId)> {
        let mut drawn: Vec<(u64, ConnId)> = ids.iter().map(|id| (self.chance(), *id)).collect();
        drawn.sort_unstable();
        let part = over / u32::try_from(drawn.len()).unwrap_or(u32::MAX).max(1);
        let from = self.time.now() + after;
        let moment = |(index, (chance, id)): (usize, (u64, ConnId))| {
            let parts = part * u32::try_from(index).unwrap_or(u32::MAX);
            // The low half: the high one chose the order.
            let within = part.mul_f64(f64::from(chance as u32) / f64::from(u32::MAX));
            (from + parts + within, id)
        };
        drawn.into_iter().enumerate().map(moment).collect()
    }

    /// Asks those whose moment has come. Called at ticks.
    pub(super) fn ask_to_reconnect(&mut self) {
        let Some(mut reconnecting) = self.reconnecting.take() else { return };
        let now = self.time.now();
        let mut later = Vec::new();
        while let Some((at, id)) = reconnecting.queue.pop_if(|(at, _)| *at <= now) {
            if !reconnecting.here.contains(&id) {
                continue;
            }
            // Who waits for an answer is told nothing before it.
            if self.is_held(id) || (reconnecting.request.after_players && self.is_kept(id)) {
                later.push((at, id));
                continue;
            }
            let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.closing().is_none()) else { continue };
            let ReconnectRequest { tc_url, description, .. } = &*reconnecting.request;
            if conn.session.request_reconnect(tc_url.as_deref(), description) {
                self.metrics.reconnect_requests.add(1);
                self.wake(id);
            }
        }
        reconnecting.queue.extend(later.into_iter().rev());
        self.metrics.reconnecting.set(i64::try_from(reconnecting.here.len()).unwrap_or(i64::MAX));
        self.reconnecting = Some(reconnecting).filter(|reconnecting| !reconnecting.here.is_empty());
    }

    /// Says of which streams this shard has players that the publisher is to stay for. At each tick of a departure that asks
    /// publishers after players: other shards wait for it, whether or not there is anybody to be asked here.
    pub(super) fn keep_publishers(&self) {
        for (_, stream) in &self.streams.slab {
            let stays = |id| self.conns.get(id).is_some_and(|conn| !conn.is_successor());
            let keep = stream.watchers.iter().any(|(_, watcher)| !watcher.view.published && stays(watcher.conn));
            self.directory.keep_for(&stream.key, self.port.shard(), keep);
        }
    }

    /// Takes that back.
    pub(super) fn keep_no_publisher(&self) {
        for (_, stream) in &self.streams.slab {
            self.directory.keep_for(&stream.key, self.port.shard(), false);
        }
    }

    /// Whether somebody plays what the connection publishes, on whatever shard.
    fn is_kept(&self, id: ConnId) -> bool {
        let key = |used: &Use| match used {
            Use::Publishing { local, .. } => self.streams.slab.get(*local).map(|stream| &stream.key),
            Use::Playing { .. } => None,
        };
        let mut published = self.conns.get(id).into_iter().flat_map(|conn| conn.uses.iter().filter_map(key));
        published.any(|key| self.directory.is_kept(key))
    }

    /// A connection has gone.
    pub(super) fn note_left(&mut self, id: ConnId) {
        let Some(reconnecting) = &mut self.reconnecting else { return };
        if reconnecting.here.remove(&id) {
            self.metrics.reconnecting.set(i64::try_from(reconnecting.here.len()).unwrap_or(i64::MAX));
            self.reconnecting.take_if(|reconnecting| reconnecting.here.is_empty());
        }
    }
}
