//! Taking over a live name: a second publisher waits until the first has been ended on whatever shard that is.
//!
//! The directory promises the name to the second one, so nobody comes in between. The first one's shard is asked to end
//! it, writes down where its stream stops and says so; then the second gets the name and goes on from there. Whether the
//! first one's connection is alive does not matter, nor whether it ends by itself meanwhile. Refused are whoever the
//! policy does not let replace the first, a third while a second waits, and for [`TAKEOVER_PAUSE`] everybody: two
//! encoders that both come back whenever they are replaced change places no more often than that. Bounds: one who waits
//! for a name, for [`TAKEOVER_WAIT`](crate::limits::TAKEOVER_WAIT) at most; meanwhile its connection is not read (see
//! [`asking`](super::asking)).

use std::time::Duration;

use super::{
    close::CloseReason,
    conn::ConnId,
    core::Core,
    mesh::{Port, message::MeshMessage},
    questions::Ticket,
    uses::Use,
};
use crate::{
    access::{Credential, Takeover},
    limits::{STREAM_LOG_LINES_PER_SECOND, TAKEOVER_PAUSE},
    rtmp::key::StreamKey,
    stream::directory::{Answer, Claim, Claimant, DirectoryError, Origin, Owner},
};

/// Why a name is not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotToBeHad {
    #[error("is being published already")]
    Published,
    #[error("is being published already, and not with the same credential")]
    OtherCredential,
    #[error("is being pulled from another node")]
    Pulled,
    #[error("was taken over from another publisher just now")]
    JustTaken,
    #[error("is being taken over by another publisher")]
    Promised,
    #[error("was not given up in time by its publisher")]
    NotReleased,
}

/// Why whoever comes with `credential` may not replace `owner`, at `now` of the process's time.
fn objection(policy: Takeover, owner: &Owner, credential: Option<[u8; 16]>, now: Duration) -> Option<NotToBeHad> {
    let same = credential.is_some() && credential == owner.credential;
    match (owner.origin, policy) {
        (Origin::Inherited, _) => return None,
        (Origin::Pulled, Takeover::Reject | Takeover::ReplaceIfSameCredential) => return Some(NotToBeHad::Pulled),
        (Origin::Published, Takeover::Reject) => return Some(NotToBeHad::Published),
        (Origin::Published, Takeover::ReplaceIfSameCredential) if !same => return Some(NotToBeHad::OtherCredential),
        _ => {}
    }
    let just_now = owner.took_over_at.is_some_and(|at| now.saturating_sub(at) < TAKEOVER_PAUSE);
    just_now.then_some(NotToBeHad::JustTaken)
}

/// What becomes of a publisher that asked for a name.
pub(super) enum Asked {
    Granted(Claim),
    Promised(Promise),
    Refused(NotToBeHad),
}

/// A name that is to be released by its owner.
#[derive(Clone, Copy, Debug)]
pub(super) struct Promise {
    claimant: Claimant,
    owner: Owner,
    heir: u64,
}

/// A publisher that waits for another one to be ended.
#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    key: StreamKey,
    promise: Promise,
    /// The owner's shard knows.
    told: bool,
}

/// The publishers of a shard that wait for a name.
#[derive(Debug, Default)]
pub(super) struct Takeovers(Vec<Waiting>);

impl Takeovers {
    /// Whether some owner's shard has not been told yet, for want of room in its queue.
    pub(super) fn are_to_be_told(&self) -> bool {
        self.0.iter().any(|waiting| !waiting.told)
    }

    /// Asks the owners' shards, as far as their queues take it.
    pub(super) fn tell(&mut self, port: &mut Port) {
        for waiting in self.0.iter_mut().filter(|waiting| !waiting.told) {
            let Promise { owner, heir, .. } = waiting.promise;
            let message = MeshMessage::Yield { key: waiting.key.clone(), epoch: owner.epoch, heir };
            waiting.told = port.send(owner.shard, message).is_ok();
        }
    }

    /// Takes out the first of which `is_it`.
    fn take(&mut self, is_it: impl Fn(&Waiting) -> bool) -> Option<Waiting> {
        self.0.iter().position(is_it).map(|index| self.0.remove(index))
    }
}

impl Core {
    /// A publisher asks for a name, by the word of `credential`.
    pub(super) fn ask_for_name(&mut self, key: &StreamKey, credential: Option<Credential>) -> Asked {
        let credential = credential.map(|Credential(of)| of);
        let claimant = Claimant { shard: self.port.shard(), origin: Origin::Published, credential };
        let (policy, now) = (self.config.takeover, self.time.process());
        let objection = |owner: &Owner| objection(policy, owner, credential, now);
        match self.directory.ask(key, claimant, |owner| objection(owner).is_none()) {
            Ok(Answer::Granted(claim)) => Asked::Granted(claim),
            Ok(Answer::Promised { owner, heir }) => Asked::Promised(Promise { claimant, owner, heir }),
            Err(DirectoryError::Taken(owner)) => Asked::Refused(objection(&owner).unwrap_or(NotToBeHad::Published)),
            Err(DirectoryError::Promised | DirectoryError::Full) => Asked::Refused(NotToBeHad::Promised),
        }
    }

    /// A connection waits until the owner of the name it is promised has been ended, here at once.
    pub(super) fn wait_for_name(&mut self, id: ConnId, stream: u32, key: &StreamKey, query: &str, promise: Promise) {
        let Promise { owner, heir, .. } = promise;
        let Some(ticket) = self.hold_for_name(id, stream, key, query) else {
            self.directory.renounce(key, heir);
            return;
        };
        let is_here = owner.shard == self.port.shard();
        self.takeovers.0.push(Waiting { ticket, key: key.clone(), promise, told: is_here });
        if is_here {
            self.end_replaced(key, owner.epoch);
            self.name_released(key, heir);
        } else {
            self.takeovers.tell(&mut self.port);
            self.ring();
        }
    }

    /// A shard has a publisher that is to replace the one here, unless it has left meanwhile.
    pub(super) fn yield_asked(&mut self, from: usize, key: StreamKey, epoch: u64, heir: u64) {
        if !self.directory.is_promised(&key, heir) {
            return;
        }
        self.end_replaced(&key, epoch);
        self.streams.replies.push_back((from, MeshMessage::Yielded { key, heir }));
    }

    /// Ends the publisher with `epoch`, if it has not ended by itself.
    fn end_replaced(&mut self, key: &StreamKey, epoch: u64) {
        if self.end_replaced_pull(key, epoch) {
            return;
        }
        let Some(local) = self.streams.by_key.get(key).copied() else { return };
        let Some(owned) = self.streams.slab.get(local).and_then(|stream| stream.owned(epoch)) else { return };
        let id = owned.publisher;
        let is_it =
            |used: &&Use| matches!(used, Use::Publishing { local: of, epoch: at, .. } if (*of, *at) == (local, epoch));
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Some(stream) = conn.uses.iter().find(is_it).map(Use::stream) else { return };
        conn.session.replace_publish(stream, "replaced by another publisher");
        self.end_use(id, stream);
        let is_idle = self.conns.get(id).is_some_and(|conn| conn.uses.is_empty() && conn.pending().is_none());
        if is_idle {
            self.log_close(id, CloseReason::Replaced, &format!("another publisher has taken over '{key}'"));
            self.close(id, CloseReason::Replaced, false);
        }
        self.wake(id);
    }

    /// Whoever had the name has released it: it is theirs to whom it was promised, if they are still there.
    pub(super) fn name_released(&mut self, key: &StreamKey, heir: u64) {
        let is_it = |waiting: &Waiting| waiting.promise.heir == heir && waiting.key == *key;
        let Some(Waiting { ticket, promise, .. }) = self.takeovers.take(is_it) else { return };
        let claim = self.directory.redeem(key, promise.claimant, heir, self.time.process()).ok();
        if claim.is_none() {
            self.directory.renounce(key, heir);
        } else {
            self.metrics.takeovers.add(1);
            if let Some(suppressed) = self.stream_lines.take(STREAM_LOG_LINES_PER_SECOND, self.time.now()) {
                tracing::info!(stream = %key, suppressed, "taken over from another publisher");
            }
        }
        self.end_wait_for_name(ticket, key, claim);
    }

    /// The connection does not wait for a name any more.
    pub(super) fn stop_waiting(&mut self, id: ConnId) {
        while let Some(Waiting { key, promise, .. }) = self.takeovers.take(|waiting| waiting.ticket.conn == id) {
            self.directory.renounce(&key, promise.heir);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_replace_whom() {
        use NotToBeHad::{JustTaken, OtherCredential, Published, Pulled};
        use Takeover::{Reject, Replace, ReplaceIfSameCredential};
        let (ours, theirs) = (Some([1; 16]), Some([2; 16]));
        let now = Duration::from_secs(100);
        let just_now = Some(now - TAKEOVER_PAUSE / 2);
        let before = Some(now - TAKEOVER_PAUSE);
        let cases = [
            (Reject, Origin::Published, ours, None, Some(Published)),
            (Reject, Origin::Pulled, None, None, Some(Pulled)),
            (Reject, Origin::Inherited, None, just_now, None),
            (Replace, Origin::Published, theirs, None, None),
            (Replace, Origin::Published, theirs, before, None),
            (Replace, Origin::Published, ours, just_now, Some(JustTaken)),
            (Replace, Origin::Pulled, None, None, None),
            (ReplaceIfSameCredential, Origin::Published, ours, None, None),
            (ReplaceIfSameCredential, Origin::Published, ours, just_now, Some(JustTaken)),
            (ReplaceIfSameCredential, Origin::Published, theirs, None, Some(OtherCredential)),
            (ReplaceIfSameCredential, Origin::Published, None, None, Some(OtherCredential)),
            (ReplaceIfSameCredential, Origin::Pulled, None, None, Some(Pulled)),
            (ReplaceIfSameCredential, Origin::Inherited, None, None, None),
        ];
        for (policy, origin, credential, took_over_at, expected) in cases {
            let owner = Owner { shard: 0, epoch: 1, origin, credential, took_over_at };
            assert_eq!(objection(policy, &owner, ours, now), expected, "{policy:?} {owner:?}");
        }
        let owner = Owner { shard: 0, epoch: 1, origin: Origin::Published, credential: None, took_over_at: None };
        let nobody = objection(ReplaceIfSameCredential, &owner, None, now);
        assert_eq!(nobody, Some(OtherCredential), "no credential is not the same as none");
    }
}
