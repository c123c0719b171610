//! Streams pushed to other nodes, on the shard that is their home.
//!
//! The home follows a stream that is to be pushed as it does for a player. Each target is a player of it, with a
//! cursor of its own: a slow one skips, a dead one is closed by the progress deadline and dialled again, and nobody else
//! notices. A stream whose publisher comes back within the grace goes on over the same connections.

use std::{sync::Arc, time::Duration};

use super::{LegId, Provenance, RelayId, legs::Way, pull, rate::Rate};
use crate::{
    ingress::ViewKey,
    limits::STREAM_LOG_LINES_PER_SECOND,
    relay::{
        puller::{Fault, Leg},
        pusher::{PushHeard, PushOrder, Pusher},
        upstream::Upstream,
    },
    rtmp::{
        capabilities::caps_ex,
        client::{ClientRole, SessionError, approach::Approach},
        key::StreamKey,
    },
    shard::{
        close::CloseReason,
        conn::ConnId,
        core::Core,
        local::{LocalLog, Source, Watcher},
        proxy_header::Behalf,
        uses::Use,
    },
};

/// One stream to one target.
#[derive(Debug)]
pub(super) struct Push {
    pub(super) key: StreamKey,
    local: usize,
    pub(super) target: Upstream,
    pub(super) pusher: Pusher,
    approach: Approach,
    conn: Option<ConnId>,
    /// It has begun to receive the stream, and the end of its connection may be the end of the stream.
    pub(super) accepted: bool,
    leg: Leg,
    pub(super) fault: Option<String>,
    /// Of the connections before.
    bytes_before: u64,
    pub(super) rate: Rate,
}

impl Push {
    pub(super) fn has(&self, conn: ConnId) -> bool {
        self.conn == Some(conn)
    }

    pub(super) fn conn(&self) -> Option<ConnId> {
        self.conn
    }

    pub(super) fn local(&self) -> usize {
        self.local
    }

    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.pusher.deadline().is_some_and(|deadline| deadline <= now)
    }
}

impl Core {
    /// A stream that is to be pushed is there, or is there again.
    pub(in crate::shard) fn begin_pushes(&mut self, local: usize) {
        if self.is_inherited(local) {
            return;
        }
        let Some(stream) = self.streams.slab.get_mut(local) else { return };
        let (key, known) = (stream.key.clone(), stream.pushes.clone());
        if !known.is_empty() {
            known.into_iter().for_each(|index| self.relays.rouse(RelayId::Push(index)));
            return;
        }
        let rules = self.config.clone();
        for target in rules.relays.targets(&key) {
            let approach = match pull::approach(&target) {
                Ok(approach) => approach,
                Err(error) => {
                    tracing::error!(stream = %key, target = target.label, "cannot be pushed: {error}");
                    continue;
                }
            };
            let mut pusher = Pusher::new(target.clone(), self.config.relays.timing, self.chance());
            pusher.begin(self.time.now());
            let push = Push {
                key: key.clone(),
                local,
                approach,
                target,
                pusher,
                conn: None,
                accepted: false,
                leg: 0,
                fault: None,
                bytes_before: 0,
                rate: Rate::default(),
            };
            let index = self.relays.pushes.insert(push);
            if let Some(stream) = self.streams.slab.get_mut(local) {
                stream.pushes.push(index);
            }
            self.relays.rouse(RelayId::Push(index));
        }
        self.drive_relays();
    }

    /// The stream comes from the process before this one, which pushes it still.
    fn is_inherited(&self, local: usize) -> bool {
        let Some(LocalLog { source: Source::Owned(owned), .. }) =
            self.streams.slab.get(local).and_then(|stream| stream.logs.back())
        else {
            return false;
        };
        let upstream = self.conns.get(owned.publisher).and_then(|conn| conn.session.upstream());
        upstream.is_some_and(|upstream| match upstream.leg.relay {
            RelayId::Pull(index) => self.relays.pulls.get(index).is_some_and(|pull| pull.inherited),
            RelayId::Push(_) => false,
        })
    }

    pub(super) fn drive_push(&mut self, index: usize) {
        let now = self.time.now();
        while let Some(push) = self.relays.pushes.get_mut(index) {
            match push.pusher.next(now) {
                Some(PushOrder::Open) => {
                    if let Ok(anew) = pull::approach(&push.target) {
                        push.approach = anew;
                    }
                    self.dial_target(index);
                }
                Some(PushOrder::Close) => {
                    let (leg, late) = (push.leg, push.pusher.report().last_fault);
                    if let Some((fault, conn)) = late.zip(push.conn) {
                        self.note_late(LegId { relay: RelayId::Push(index), leg }, conn, fault);
                    }
                    self.close_push_leg(index);
                }
                None => return,
            }
        }
    }

    fn dial_target(&mut self, index: usize) {
        let Some(push) = self.relays.pushes.get_mut(index) else { return };
        push.leg = push.leg.wrapping_add(1);
        let (leg, local) = (LegId { relay: RelayId::Push(index), leg: push.leg }, push.local);
        let provenance = self.provenance(local);
        // What the publisher can do, and what this node can besides.
        let mut capabilities = provenance.capabilities.clone().unwrap_or_default();
        capabilities.caps_ex |= caps_ex::RECONNECT;
        let hops = self.relays.hops_with_ours(&provenance.hops);
        let Some(push) = self.relays.pushes.get(index) else { return };
        let behalf = provenance.publisher.map_or(Behalf::Own, Behalf::Of);
        let header = push.target.proxied.then_some(behalf);
        let way = Way::new(&push.approach, &push.target.endpoint, ClientRole::Publish, hops).with_header(header);
        let id = self.dial_leg(leg, way, capabilities);
        if let Some(push) = self.relays.pushes.get_mut(index) {
            push.conn = Some(id);
            push.accepted = false;
        }
    }

    /// Where the newest publisher's stream of that name comes from.
    fn provenance(&self, local: usize) -> Arc<Provenance> {
        let newest = self.streams.slab.get(local).and_then(|stream| stream.logs.back());
        newest.map(|log| log.provenance().clone()).unwrap_or_default()
    }

    /// Leaves the target, which hears that the stream has ended.
    fn close_push_leg(&mut self, index: usize) {
        let Some(push) = self.relays.pushes.get_mut(index) else { return };
        if let Some(conn) = push.conn.take() {
            self.note_bytes(index, conn);
            self.close_upstream(conn);
        }
    }

    /// What the target was sent, over all connections.
    pub(super) fn bytes_out(&self, push: &Push) -> u64 {
        let upstream = push.conn.and_then(|id| self.conns.get(id)).and_then(|conn| conn.session.upstream());
        push.bytes_before + upstream.map_or(0, |upstream| upstream.bytes_out)
    }

    pub(super) fn note_push_rates(&mut self) {
        let now = self.time.now();
        for index in self.relays.pushes.iter().map(|(index, _)| index).collect::<Vec<_>>() {
            let Some(bytes) = self.relays.pushes.get(index).map(|push| self.bytes_out(push)) else { continue };
            if let Some(push) = self.relays.pushes.get_mut(index) {
                push.rate.note(bytes, now);
            }
        }
    }

    fn note_bytes(&mut self, index: usize, conn: ConnId) {
        let bytes = self.conns.get(conn).and_then(|conn| conn.session.upstream()).map_or(0, |known| known.bytes_out);
        if let Some(push) = self.relays.pushes.get_mut(index) {
            push.bytes_before += bytes;
        }
    }

    /// The target waits for media: it gets the stream from the newest keyframe on.
    pub(super) fn push_accepted(&mut self, index: usize, id: ConnId) {
        let now = self.time.now();
        let Some(push) = self.relays.pushes.get_mut(index).filter(|push| push.has(id)) else { return };
        push.accepted = true;
        push.pusher.hear(PushHeard::Publishing, now);
        let (local, label) = (push.local, push.target.label.clone());
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Some(stream_id) = conn.session.upstream().map(|upstream| upstream.session.stream_id()) else { return };
        let Some(stream_id) = u8::try_from(stream_id).ok().filter(|id| *id > 0) else {
            let what = format!("it numbers message streams by {stream_id}, at most 255 is taken");
            self.note_fault(LegId { relay: RelayId::Push(index), leg: 0 }, id, what);
            self.close(id, CloseReason::UpstreamRefused, true);
            return;
        };
        let tracks = self.config.tracks.resolve(conn.session.takes_multitrack());
        let Some(known) = self.streams.slab.get_mut(local) else { return };
        let is_live = known.is_live();
        let watcher = known.watchers.insert(Watcher {
            conn: id,
            view: ViewKey::pushed(stream_id.into(), tracks),
            epoch: known.newest_epoch(),
            was_there_first: known.has_not_begun(),
            joins_live: false,
            paused: false,
            awaits_next: !is_live,
            told_end: false,
            waiting_since_ms: None,
            player: None,
        });
        if let Some(suppressed) = self.stream_lines.take(STREAM_LOG_LINES_PER_SECOND, now) {
            tracing::info!(stream = %known.key, target = label, suppressed, "pushed");
        }
        conn.uses.push(Use::Playing { stream: stream_id.into(), local, watcher });
        self.metrics.pushes_begun.add(1);
        self.provide_view(local, watcher);
        self.wake(id);
    }

    /// The connection of a target is gone.
    pub(super) fn push_leg_closed(&mut self, index: usize, id: ConnId, fault: Fault, reason: CloseReason) {
        let now = self.time.now();
        let Some(push) = self.relays.pushes.get_mut(index).filter(|push| push.has(id)) else { return };
        push.conn = None;
        self.note_bytes(index, id);
        let Some(push) = self.relays.pushes.get_mut(index) else { return };
        let local = push.local;
        let is_over = self.streams.slab.get(local).is_none_or(|stream| stream.grace_over);
        if reason == CloseReason::RelayDone || (is_over && push.accepted) {
            self.forget_push(index);
            return;
        }
        let refused = reason == CloseReason::UpstreamRefused;
        push.pusher.hear(if refused { PushHeard::Refused } else { PushHeard::Failed(fault) }, now);
        if is_over {
            self.forget_push(index);
        }
    }

    /// The stream is over for a target that has had everything, or never began.
    fn forget_push(&mut self, index: usize) {
        self.close_push_leg(index);
        let Some(push) = self.relays.pushes.try_remove(index) else { return };
        if let Some(stream) = self.streams.slab.get_mut(push.local) {
            stream.pushes.retain(|known| *known != index);
        }
        self.forget_if_idle(push.local);
    }

    /// A stream's grace is over: targets that were not being sent it are done with. The others get what is left first.
    pub(in crate::shard) fn end_pushes(&mut self, local: usize) {
        let Some(stream) = self.streams.slab.get(local) else { return };
        for index in stream.pushes.clone() {
            let sends = self.relays.pushes.get(index).is_some_and(|push| push.accepted && push.conn.is_some());
            if !sends {
                self.forget_push(index);
            }
        }
    }

    /// The process ends: what was not being sent yet is given up.
    pub(super) fn drop_pushes_under_way(&mut self) {
        let locals: Vec<usize> = self.relays.pushes.iter().map(|(_, push)| push.local).collect();
        locals.into_iter().for_each(|local| self.end_pushes(local));
    }

    /// A target refused the connection. True if it said how else to ask, and is asked so.
    pub(super) fn push_refused(&mut self, index: usize, id: ConnId, error: &SessionError) -> bool {
        let (nonce, now) = (self.chance(), self.time.now());
        let Some(push) = self.relays.pushes.get_mut(index).filter(|push| push.has(id) && !push.accepted) else {
            return false;
        };
        if push.approach.refused(error, nonce, now).is_err() {
            return false;
        }
        push.conn = None;
        self.close(id, CloseReason::RelayDone, true);
        self.dial_target(index);
        true
    }

    /// A target asks to be left for another place: the stream goes on there from the newest keyframe.
    pub(super) fn push_moved(&mut self, index: usize, id: ConnId, tc_url: Option<&str>) {
        let now = self.time.now();
        let Some(push) = self.relays.pushes.get_mut(index).filter(|push| push.has(id)) else { return };
        if push.approach.moved(tc_url, now).is_ok() {
            tracing::info!(stream = %push.key, target = push.target.label, "asked to reconnect");
            self.close_push_leg(index);
            self.dial_target(index);
        }
    }
}
