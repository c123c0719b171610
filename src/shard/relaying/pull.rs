//! Streams pulled from other nodes, on the shard that is their home.
//!
//! A pull writes the stream's log as a publisher would, whichever of its legs is live; a change of source is a splice in the
//! same log. While no source has it the log stays open for the unpublish grace, then it ends as if a publisher had left.
//! Whoever publishes the name here comes first: the pull waits until that stream has ended and its grace is over.

use std::{sync::Arc, time::Duration};

use super::{
    Provenance,
    handover::{Handover, Holds},
    prelude::{Held, Prelude},
    rate::Rate,
};
use crate::{
    relay::{
        health::HealthBook,
        puller::{Heard, Leg, Puller},
        splice::Splice,
        upstream::Upstream,
    },
    rtmp::{client::approach::Approach, key::StreamKey, message::Kind, url::UrlError},
    shard::conn::ConnId,
    stream::directory::ShardSet,
};

/// One of a pull's connections, and the addresses it was sent to.
#[derive(Debug)]
pub(super) struct PullLeg {
    pub(super) leg: Leg,
    pub(super) source: usize,
    pub(super) approach: Approach,
    pub(super) conn: ConnId,
    pub(super) prelude: Prelude,
}

/// What became of a message of a source's.
pub(super) enum Taken {
    /// It is the stream's.
    Publish { local: usize, epoch: u64, timestamp: u32 },
    /// It was kept, or is not needed.
    Nothing,
    /// The source can be taken from here on.
    Begins,
    /// So it could, but it is not in step with the one that serves.
    Apart,
    /// The one that serves has come to where another one waits, at `leg`.
    Reached { leg: Leg },
    /// What was held back for another source is to be sent.
    Overdue,
}

/// See the file's head.
#[derive(Debug)]
pub(super) struct Pull {
    pub(super) key: StreamKey,
    pub(super) puller: Puller,
    pub(super) wanted_by: ShardSet,
    pub(super) always: bool,
    /// From the process before this one.
    pub(super) inherited: bool,
    /// The nodes that the first who asked is behind.
    pub(super) provenance: Arc<Provenance>,
    /// The puller orders at most a few at once.
    pub(super) legs: Vec<PullLeg>,
    pub(super) live: Option<Leg>,
    /// Where a source asked to be gone to, until that is done.
    pub(super) moved: Option<(usize, Approach)>,
    pub(super) splice: Splice,
    pub(super) handover: Handover,
    /// Where the stream is written.
    pub(super) log: Option<(usize, u64)>,
    /// Shard time since which no source has it.
    pub(super) dark_since: Option<Duration>,
    /// Somebody else publishes the name, or did until then.
    pub(super) yields_until: Option<Duration>,
    pub(super) fault: Option<String>,
    pub(super) bytes_in: u64,
    pub(super) rate: Rate,
    /// Shard time at which it began, or went over to another source.
    pub(super) since: Duration,
}

impl Pull {
    pub(super) fn has(&self, leg: Leg, conn: ConnId) -> bool {
        self.legs.iter().any(|known| known.leg == leg && known.conn == conn)
    }

    pub(super) fn leg_mut(&mut self, leg: Leg) -> Option<&mut PullLeg> {
        self.legs.iter_mut().find(|known| known.leg == leg)
    }

    pub(super) fn source_of(&self, leg: Leg) -> Option<&Upstream> {
        let known = self.legs.iter().find(|known| known.leg == leg)?;
        self.puller.sources().get(known.source)
    }

    pub(super) fn label_of(&self, leg: Leg) -> String {
        self.source_of(leg).map_or_else(String::new, |source| source.label.clone())
    }

    /// Of the source it comes from, or the one that is tried.
    pub(super) fn label(&self) -> String {
        let leg = self.live.or(self.legs.first().map(|leg| leg.leg));
        leg.map_or_else(
            || self.puller.sources().first().map_or_else(String::new, |source| source.label.clone()),
            |leg| self.label_of(leg),
        )
    }

    pub(super) fn hear(&mut self, leg: Leg, heard: Heard, now: Duration, health: &mut HealthBook) {
        self.puller.hear(leg, heard, now, health);
    }

    pub(super) fn is_missing(&self, now: Duration) -> bool {
        self.log.is_none() && self.yields_until.is_none() && self.puller.is_missing(now)
    }

    /// Whether somebody is to be given the stream.
    pub(super) fn tell_puller(&mut self, now: Duration) {
        if self.yields_until.is_none() && (self.always || self.wanted_by != 0) {
            self.puller.want(now);
        } else {
            self.puller.unwant(now);
        }
    }

    /// A message that came on a leg.
    pub(super) fn take(&mut self, leg: Leg, kind: Kind, timestamp: u32, payload: &[u8], now: Duration) -> Taken {
        if self.live != Some(leg) {
            return self.take_other(leg, kind, timestamp, payload);
        }
        if let Some(leg) = self.waiting_leg(kind, timestamp) {
            return Taken::Reached { leg };
        }
        self.bytes_in += payload.len() as u64;
        match self.handover.take(kind, timestamp, payload, now) {
            Holds::No => self.place(kind, timestamp, payload, now),
            Holds::Yes => Taken::Nothing,
            Holds::TooLong => Taken::Overdue,
        }
    }

    /// The place in the log of a message of the source that serves.
    pub(super) fn place(&mut self, kind: Kind, timestamp: u32, payload: &[u8], now: Duration) -> Taken {
        let Some((local, epoch)) = self.log else { return Taken::Nothing };
        match self.splice.take(kind, timestamp, payload, now) {
            Some(timestamp) => Taken::Publish { local, epoch, timestamp },
            None => Taken::Nothing,
        }
    }

    /// A message of a source that does not serve yet.
    fn take_other(&mut self, leg: Leg, kind: Kind, timestamp: u32, payload: &[u8]) -> Taken {
        let Some(known) = self.legs.iter_mut().find(|known| known.leg == leg) else { return Taken::Nothing };
        if !known.prelude.take(kind, timestamp, payload) {
            return Taken::Nothing;
        }
        let lead = self.splice.lead(timestamp).filter(|_| self.live.is_some() && kind == Kind::Video);
        let bridges = lead.is_some_and(|(place, lead_ms)| self.handover.arm(place, lead_ms));
        if bridges { Taken::Apart } else { Taken::Begins }
    }

    /// What is held back of the stream that the source at `leg`, which is gone over to, does not send. Nothing is held any
    /// more.
    pub(super) fn held_before(&mut self, leg: Leg) -> Vec<Held> {
        let keyframe = self.leg_mut(leg).and_then(|known| known.prelude.keyframe());
        let place = keyframe.and_then(|timestamp| self.splice.lead(timestamp)).map(|(place, _)| place);
        self.handover.end_before(|timestamp| place.map(|place| self.splice.lead_over(place, timestamp)))
    }

    /// The leg that waits for the source that serves to come to this message, which is not the stream's then. It waits no
    /// more.
    fn waiting_leg(&mut self, kind: Kind, timestamp: u32) -> Option<Leg> {
        let place = self.handover.place().filter(|_| kind == Kind::Video)?;
        if self.splice.lead_over(place, timestamp) > 0 {
            return None;
        }
        self.handover = Handover::default();
        self.legs.iter().map(|known| known.leg).find(|leg| Some(*leg) != self.live)
    }
}

/// The way to an upstream, before anything was said.
pub(super) fn approach(upstream: &Upstream) -> Result<Approach, UrlError> {
    Approach::new(&upstream.tc_url, &upstream.app, &upstream.name, upstream.credentials.clone())
}
