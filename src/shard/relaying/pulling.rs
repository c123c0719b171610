//! What a pull's orders come to: legs opened and closed, the stream's name taken and given back, its log written.
//!
//! Driven by the puller's orders, by what its legs hear, and by ticks.

use std::sync::Arc;

use super::{
    LegId, Provenance, RelayId,
    handover::Handover,
    legs::Way,
    prelude::{Held, Prelude},
    pull::{Pull, PullLeg, Taken, approach},
    rate::Rate,
};
use crate::{
    ingress::Broadcast,
    limits::{PREDECESSOR_TRIES_MAX, PULLS_MAX, STREAM_LOG_LINES_PER_SECOND},
    relay::{
        puller::{Fault, Heard, Leg, Order, Puller},
        rules::PullRule,
        splice::Splice,
        upstream::Upstream,
    },
    rtmp::{
        capabilities::Capabilities,
        client::{ClientRole, SessionError, approach::Approach},
        key::StreamKey,
    },
    shard::{
        close::CloseReason,
        conn::ConnId,
        core::Core,
        local::{LocalLog, Owned, Source},
        proxy_header::Behalf,
    },
    stream::directory::{Claimant, Origin},
};

impl Core {
    /// Streams that are pulled whether or not anybody asks, by the shards that are their homes.
    pub(super) fn start_always_on(&mut self) {
        let rules = self.config.clone();
        for rule in rules.relays.pulls.iter().filter(|rule| rule.always) {
            let Some(key) = rule.pattern.key() else { continue };
            if self.relays.home(&key) != self.port.shard() {
                continue;
            }
            if let Some(index) = self.enter_pull(&key, None) {
                let now = self.time.now();
                self.relays.pulls[index].tell_puller(now);
                self.relays.rouse(RelayId::Pull(index));
            }
        }
    }

    /// A pull of the stream, as its rule says. `None`: there is no such rule, or there are too many pulls.
    pub(super) fn enter_pull(&mut self, key: &StreamKey, provenance: Option<Arc<Provenance>>) -> Option<usize> {
        let rule = self.relays.pull_rule(key)?.clone();
        if self.relays.pulls.len() >= PULLS_MAX {
            return None;
        }
        let seed = self.chance();
        let is_published = self.directory.is_taken(key);
        let now = self.time.now();
        let pull = Pull {
            key: key.clone(),
            puller: self.puller(&rule, key, seed),
            wanted_by: 0,
            always: rule.always,
            inherited: !self.relays.comes_from_elsewhere(key),
            provenance: provenance.unwrap_or_default(),
            legs: Vec::new(),
            live: None,
            moved: None,
            splice: Splice::new(),
            handover: Handover::default(),
            log: None,
            dark_since: None,
            yields_until: is_published.then(|| now + self.config.unpublish_grace),
            fault: None,
            bytes_in: 0,
            rate: Rate::default(),
            since: now,
        };
        let index = self.relays.pulls.insert(pull);
        self.relays.pull_of.insert(key.clone(), index);
        Some(index)
    }

    fn puller(&self, rule: &PullRule, key: &StreamKey, seed: u64) -> Puller {
        let sources = rule.origins.candidates(key);
        Puller::new(sources, self.config.relays.timing, rule.linger, seed)
    }

    pub(super) fn drive_pull(&mut self, index: usize) {
        let now = self.time.now();
        while let Some(pull) = self.relays.pulls.get_mut(index) {
            match pull.puller.next(now, &mut self.relays.health) {
                Some(Order::Open { leg, source }) => self.open_pull_leg(index, leg, source),
                Some(Order::Close { leg }) => {
                    let late = pull.puller.was_late(leg).zip(pull.legs.iter().find(|known| known.leg == leg));
                    if let Some((fault, conn)) = late.map(|(fault, known)| (fault, known.conn)) {
                        self.note_late(LegId { relay: RelayId::Pull(index), leg }, conn, fault);
                    }
                    self.close_pull_leg(index, leg);
                }
                Some(Order::GoLive { leg }) => self.go_live(index, leg),
                Some(Order::Missing) => self.pull_missing(index),
                Some(Order::Stop) => self.stop_pull(index),
                None => return,
            }
        }
    }

    fn open_pull_leg(&mut self, index: usize, leg: Leg, source: usize) {
        let Some(pull) = self.relays.pulls.get(index) else { return };
        let Some(upstream) = pull.puller.sources().get(source).cloned() else { return };
        if pull.inherited && self.tries_of_predecessor() >= PREDECESSOR_TRIES_MAX {
            // It is tried again in a while, as what was not found is.
            let now = self.time.now();
            let pull = &mut self.relays.pulls[index];
            pull.hear(leg, Heard::Failed(Fault::NotFound), now, &mut self.relays.health);
            return;
        }
        let hops = self.relays.hops_of(pull);
        let moved = self.relays.pulls[index].moved.take().filter(|(of, _)| *of == source).map(|(_, approach)| approach);
        let approach = match moved.map_or_else(|| approach(&upstream), Ok) {
            Ok(approach) => approach,
            Err(error) => {
                let now = self.time.now();
                let pull = &mut self.relays.pulls[index];
                pull.fault = Some(error.to_string());
                pull.hear(leg, Heard::Failed(Fault::Refused), now, &mut self.relays.health);
                return;
            }
        };
        let id = self.dial_source(index, leg, &upstream, &approach, hops);
        if let Some(pull) = self.relays.pulls.get_mut(index) {
            pull.legs.push(PullLeg { leg, source, approach, conn: id, prelude: Prelude::default() });
        }
    }

    fn tries_of_predecessor(&self) -> usize {
        let tries = |pull: &Pull| if pull.inherited && pull.log.is_none() { pull.legs.len() } else { 0 };
        self.relays.pulls.iter().map(|(_, pull)| tries(pull)).sum()
    }

    fn dial_source(
        &mut self,
        index: usize,
        leg: Leg,
        upstream: &Upstream,
        approach: &Approach,
        hops: Vec<String>,
    ) -> ConnId {
        let leg = LegId { relay: RelayId::Pull(index), leg };
        let header = upstream.proxied.then_some(Behalf::Own);
        let way = Way::new(approach, &upstream.endpoint, ClientRole::Play, hops).with_header(header);
        self.dial_leg(leg, way, Capabilities::of_relay())
    }

    fn close_pull_leg(&mut self, index: usize, leg: Leg) {
        let Some(pull) = self.relays.pulls.get_mut(index) else { return };
        let Some(position) = pull.legs.iter().position(|known| known.leg == leg) else { return };
        let conn = pull.legs.remove(position).conn;
        self.leg_gone(index, leg);
        self.close_upstream(conn);
    }

    /// Ends a connection to another node in order.
    pub(super) fn close_upstream(&mut self, id: ConnId) {
        let Some(upstream) = self.conns.get_mut(id).and_then(|conn| conn.session.upstream_mut()) else { return };
        upstream.session.close();
        let abort = !upstream.dialled;
        self.close(id, CloseReason::RelayDone, abort);
    }

    /// A leg's messages are the stream's from now on.
    fn go_live(&mut self, index: usize, leg: Leg) {
        let now = self.time.now();
        // A source may have been waited for at one keyframe, and be gone over to at a later one.
        let held = self.relays.pulls.get_mut(index).map(|pull| pull.held_before(leg)).unwrap_or_default();
        self.publish_held(index, held);
        let Some(pull) = self.relays.pulls.get_mut(index) else { return };
        let Some(conn) = pull.legs.iter().find(|known| known.leg == leg).map(|known| known.conn) else { return };
        let (key, label) = (pull.key.clone(), pull.label_of(leg));
        match pull.log {
            Some((local, epoch)) => {
                pull.splice.switch();
                if let Some(owned) = self.streams.slab.get_mut(local).and_then(|stream| stream.owned_mut(epoch)) {
                    owned.publisher = conn;
                }
            }
            None => match self.claim_pulled(index, conn) {
                Some(log) => {
                    let Some(pull) = self.relays.pulls.get_mut(index) else { return };
                    pull.log = Some(log);
                }
                None => {
                    self.yield_pull(index);
                    return;
                }
            },
        }
        if let Some(suppressed) = self.stream_lines.take(STREAM_LOG_LINES_PER_SECOND, now) {
            tracing::info!(stream = %key, upstream = label, suppressed, "pulled");
        }
        self.metrics.pulls_begun.add(1);
        let Some(pull) = self.relays.pulls.get_mut(index) else { return };
        pull.live = Some(leg);
        pull.dark_since = None;
        pull.since = now;
        let held = pull.leg_mut(leg).map(|known| known.prelude.release()).unwrap_or_default();
        self.publish_held(index, held);
    }

    /// The source at `leg` can be taken from here on. True if it is.
    fn offer(&mut self, index: usize, leg: Leg) -> bool {
        let now = self.time.now();
        let Some(pull) = self.relays.pulls.get_mut(index) else { return false };
        pull.hear(leg, Heard::Media { begins: true }, now, &mut self.relays.health);
        self.drive_pull(index);
        self.relays.pulls.get(index).is_some_and(|pull| pull.live == Some(leg))
    }

    /// A source has sent what players can begin with. Where it is not taken, nothing is to wait for it.
    pub(super) fn begin_at(&mut self, index: usize, leg: Leg) {
        if !self.offer(index, leg) {
            self.end_handover(index);
        }
    }

    /// The source that serves has come to where another one waits. If that is not taken yet, the message at hand is the
    /// stream's after all.
    pub(super) fn go_over(&mut self, index: usize, to: Leg, message: Held) {
        if !self.offer(index, to) {
            self.publish_held(index, vec![message]);
        }
    }

    fn publish_held(&mut self, index: usize, held: Vec<Held>) {
        let now = self.time.now();
        for Held { kind, timestamp, payload } in held {
            let Some(pull) = self.relays.pulls.get_mut(index) else { return };
            let Taken::Publish { local, epoch, timestamp } = pull.place(kind, timestamp, &payload, now) else {
                continue;
            };
            if self.streams.publish(local, epoch, kind, timestamp, &payload, &self.time).is_err() {
                self.metrics.tags_malformed.add(1);
            }
        }
    }

    /// The other source does not come up, or is gone: the one that serves goes on.
    pub(super) fn end_handover(&mut self, index: usize) {
        if let Some(held) = self.relays.pulls.get_mut(index).map(|pull| pull.handover.end()) {
            self.publish_held(index, held);
        }
    }

    /// Takes the stream's name and begins its log.
    fn claim_pulled(&mut self, index: usize, publisher: ConnId) -> Option<(usize, u64)> {
        let pull = self.relays.pulls.get_mut(index)?;
        let key = pull.key.clone();
        let origin = if pull.inherited { Origin::Inherited } else { Origin::Pulled };
        let claimant = Claimant { origin, ..Claimant::pulled(self.port.shard()) };
        let claim = self.directory.claim(&key, claimant).ok()?;
        // Pulled again soon after it ended, it keeps its source's times, as after any change of source: nodes that have it
        // from here as well as from elsewhere would find it moved.
        pull.splice = claim.resume.map_or_else(Splice::new, |resume| {
            let ago = self.time.process().saturating_sub(resume.ended_at);
            Splice::resumed(resume.sent, self.time.now().saturating_sub(ago))
        });
        let local = self.streams.enter(&key, &self.relays);
        self.metrics.publishers.add(1);
        let provenance =
            Provenance { hops: Box::default(), capabilities: Some(Capabilities::of_relay()), publisher: None };
        let broadcast = Broadcast::spliced(self.streams.broadcast.clone(), claim.resume);
        let owned = Owned::new(broadcast, publisher, claim.followers, self.port.shard(), &self.time, provenance.into());
        self.add_log(local, LocalLog { epoch: claim.epoch, source: Source::Owned(Box::new(owned)) });
        self.stream_begins(local, &key);
        Some((local, claim.epoch))
    }

    /// Somebody publishes the name here: that stream is the one to be watched.
    fn yield_pull(&mut self, index: usize) {
        let grace = self.config.unpublish_grace;
        let now = self.time.now();
        if let Some(pull) = self.relays.pulls.get_mut(index) {
            pull.yields_until = Some(now + grace);
        }
        self.drop_legs(index);
        self.renew_puller(index);
    }

    /// Ends the stream with `epoch` for a publisher of the name, if it is one that is pulled here. True if it is.
    pub(in crate::shard) fn end_replaced_pull(&mut self, key: &StreamKey, epoch: u64) -> bool {
        let Some(index) = self.relays.pull_of.get(key).copied() else { return false };
        let is_it = |pull: &Pull| pull.log.is_some_and(|(_, of)| of == epoch);
        if !self.relays.pulls.get(index).is_some_and(is_it) {
            return false;
        }
        self.yield_pull(index);
        self.end_pulled(index);
        true
    }

    /// Forgets how the sources were.
    fn renew_puller(&mut self, index: usize) {
        let seed = self.chance();
        let Some(key) = self.relays.pulls.get(index).map(|pull| pull.key.clone()) else { return };
        let rule = self.relays.pull_rule(&key).cloned();
        let puller = rule.map(|rule| self.puller(&rule, &key, seed));
        if let Some((pull, puller)) = self.relays.pulls.get_mut(index).zip(puller) {
            pull.puller = puller;
        }
    }

    fn drop_legs(&mut self, index: usize) {
        while let Some(leg) = self.relays.pulls.get(index).and_then(|pull| pull.legs.first()).map(|leg| leg.leg) {
            self.close_pull_leg(index, leg);
        }
    }

    /// No source has it: whoever waits is told so. What the process before this one has not may yet be published here.
    fn pull_missing(&mut self, index: usize) {
        let is_missing = |pull: &&Pull| pull.log.is_none() && !pull.inherited;
        let Some(pull) = self.relays.pulls.get(index).filter(is_missing) else { return };
        let (key, wanted_by) = (pull.key.clone(), pull.wanted_by);
        self.metrics.pulls_missed.add(1);
        for shard in (0..self.port.shards()).filter(|shard| wanted_by & (1 << shard) != 0) {
            self.tell_missing(shard, &key);
        }
    }

    /// Nobody wants it any more.
    fn stop_pull(&mut self, index: usize) {
        self.drop_legs(index);
        self.end_pulled(index);
    }

    /// Ends the stream's log, as if a publisher had left.
    fn end_pulled(&mut self, index: usize) {
        let Some(pull) = self.relays.pulls.get_mut(index) else { return };
        pull.dark_since = None;
        if let Some((local, epoch)) = pull.log.take() {
            self.end_publish(local, epoch);
        }
    }

    /// The connection of one of its legs is gone.
    pub(super) fn pull_leg_closed(&mut self, index: usize, leg: Leg, id: ConnId, fault: Fault) {
        let now = self.time.now();
        let Some(pull) = self.relays.pulls.get_mut(index) else { return };
        let Some(position) = pull.legs.iter().position(|known| known.leg == leg && known.conn == id) else { return };
        pull.legs.remove(position);
        self.leg_gone(index, leg);
        if let Some(pull) = self.relays.pulls.get_mut(index) {
            pull.hear(leg, Heard::Failed(fault), now, &mut self.relays.health);
        }
    }

    /// A leg is no more; what was held back of the stream, whichever of two sources it was for, is all there is of it.
    fn leg_gone(&mut self, index: usize, leg: Leg) {
        self.end_handover(index);
        let now = self.time.now();
        if let Some(pull) = self.relays.pulls.get_mut(index).filter(|pull| pull.live == Some(leg)) {
            pull.live = None;
            pull.moved = None;
            pull.dark_since = Some(now);
        }
    }

    /// A source refused what was asked. True if it said how else to ask, and is asked so.
    pub(super) fn pull_refused(&mut self, index: usize, leg: LegId, id: ConnId, error: &SessionError) -> bool {
        let (nonce, now) = (self.chance(), self.time.now());
        let Some(pull) = self.relays.pulls.get_mut(index).filter(|pull| pull.has(leg.leg, id)) else { return false };
        let Some(known) = pull.leg_mut(leg.leg) else { return false };
        known.approach.refused(error, nonce, now).is_ok() && self.redial_pull(index, leg.leg)
    }

    /// A leg goes on over another connection.
    fn redial_pull(&mut self, index: usize, leg: Leg) -> bool {
        let Some(pull) = self.relays.pulls.get(index) else { return false };
        let hops = self.relays.hops_of(pull);
        let Some(position) = pull.legs.iter().position(|known| known.leg == leg) else { return false };
        let Some(upstream) = pull.puller.sources().get(pull.legs[position].source).cloned() else { return false };
        let mut known = self.relays.pulls[index].legs.remove(position);
        let before = known.conn;
        known.conn = self.dial_source(index, leg, &upstream, &known.approach, hops);
        known.prelude = Prelude::default();
        self.relays.pulls[index].legs.push(known);
        self.close(before, CloseReason::RelayDone, true);
        true
    }

    /// A source asks to be left for another place, and serves until then.
    pub(super) fn pull_moved(&mut self, index: usize, leg: LegId, id: ConnId, tc_url: Option<&str>) {
        let now = self.time.now();
        let Some(pull) =
            self.relays.pulls.get_mut(index).filter(|pull| pull.live == Some(leg.leg) && pull.has(leg.leg, id))
        else {
            return;
        };
        let Some(source) = pull.leg_mut(leg.leg).map(|known| known.source) else { return };
        let Some(Ok(mut approach)) = pull.puller.sources().get(source).map(approach) else { return };
        let moved = approach.moved(tc_url, now);
        // A source may say it with every message.
        if let Some(suppressed) = self.stream_lines.take(STREAM_LOG_LINES_PER_SECOND, now) {
            let (stream, upstream) = (&pull.key, pull.label_of(leg.leg));
            match &moved {
                Ok(()) => tracing::info!(%stream, upstream, suppressed, "asked to reconnect"),
                Err(why) => tracing::warn!(%stream, upstream, suppressed, "a request to reconnect: {why}"),
            }
        }
        if moved.is_err() {
            return;
        }
        pull.moved = Some((source, approach));
        pull.puller.moved(leg.leg, now);
    }

    pub(super) fn tick_pull(&mut self, index: usize) {
        let now = self.time.now();
        let is_over = self.relays.is_predecessor_gone();
        let Some(pull) = self.relays.pulls.get_mut(index) else { return };
        pull.rate.note(pull.bytes_in, now);
        if is_over && pull.inherited && pull.log.is_none() {
            self.drop_pull(index);
            return;
        }
        if let Some(until) = pull.yields_until {
            let is_published = self.directory.is_taken(&pull.key);
            if is_published {
                pull.yields_until = Some(now + self.config.unpublish_grace);
            } else if now >= until {
                pull.yields_until = None;
                pull.tell_puller(now);
            }
        }
        let is_due = pull.puller.deadline().is_some_and(|deadline| deadline <= now);
        let grace = self.config.unpublish_grace;
        if pull.dark_since.is_some_and(|since| now.saturating_sub(since) >= grace) {
            self.end_pulled(index);
        }
        if self.relays.pulls.get(index).is_some_and(|pull| pull.handover.is_over(now)) {
            self.end_handover(index);
            self.flush_touched();
        }
        if is_due {
            self.relays.rouse(RelayId::Pull(index));
        }
        let Some(pull) = self.relays.pulls.get(index) else { return };
        let wanted = pull.always || pull.wanted_by != 0;
        if !wanted && pull.log.is_none() && pull.legs.is_empty() && pull.puller.is_idle(now) {
            let key = self.relays.pulls.remove(index).key;
            self.relays.pull_of.remove(&key);
        }
    }

    /// Ends a pull and forgets it.
    pub(super) fn drop_pull(&mut self, index: usize) {
        self.stop_pull(index);
        if let Some(pull) = self.relays.pulls.try_remove(index) {
            self.relays.pull_of.remove(&pull.key);
        }
    }

    /// A stream has begun on this shard: its home is to know if it is pushed.
    pub(in crate::shard) fn stream_begins(&mut self, local: usize, key: &StreamKey) {
        if !self.relays.is_pushed(key) {
            return;
        }
        let home = self.relays.home(key);
        if home == self.port.shard() {
            self.begin_pushes(local);
        } else if let Some(owned) = self.streams.slab.get_mut(local).and_then(|stream| {
            let epoch = stream.newest_epoch();
            stream.owned_mut(epoch)
        }) {
            owned.unannounced |= 1 << home;
            self.streams.mark_dirty(local);
        }
    }
}
