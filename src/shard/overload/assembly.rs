//! Memory of messages that are not whole, over all connections of a shard, and of what came behind requests that wait for their
//! answer.
//!
//! Each connection may hold [`limits::IN_FLIGHT_BYTES_MAX`] of the former and [`limits::UNREAD_BYTES_MAX`] of the latter, which
//! ten thousand of them must not. When together they hold more than the shard's part, those that hold most are closed until
//! they hold three quarters of it: first whoever does not publish, who has nothing long to say; then publishers that hold more
//! than is fair, an equal share of what there is or a long keyframe. So publishers keep to the bound, too, as far as those with
//! no more than a keyframe do.

use super::super::{
    close::CloseReason,
    conn::{Conn, ConnId},
    core::Core,
    session::Session,
    uses::Use,
};
use crate::limits;

/// See the file's head.
#[derive(Debug)]
pub(in super::super) struct Assembly {
    bytes: usize,
    most: usize,
    /// From here on it is looked at who holds it. Above `most` where nobody could be closed for it: looking costs time.
    alarm: usize,
}

impl Assembly {
    /// Of the process's `memory`, 0 for any, a shard of so many has its part of a quarter.
    pub(in super::super) fn new(memory: u64, shards: usize) -> Self {
        let quarter = usize::try_from(memory / 4).unwrap_or(usize::MAX);
        let all = if memory == 0 { limits::ASSEMBLY_BYTES_ALL_MAX } else { quarter };
        let most = (all / shards.max(1)).max(limits::ASSEMBLY_BYTES_SHARD_MIN);
        Self { bytes: 0, most, alarm: most }
    }

    /// A connection holds `now` in place of `before`.
    fn note(&mut self, before: usize, now: usize) {
        self.bytes = (self.bytes + now).saturating_sub(before);
    }

    /// What each of so many may hold where there is not enough for more.
    fn fair(&self, holders: usize) -> usize {
        (self.most / holders.max(1)).max(limits::PUBLISHER_IN_FLIGHT_BYTES_FAIR)
    }

    pub(super) fn relax(&mut self) {
        self.alarm = self.most.max(self.alarm.min(self.bytes + self.most / 8));
    }
}

impl Core {
    /// Bytes came on a connection, which held `before` of messages that were not whole.
    pub(in super::super) fn note_assembly(&mut self, id: ConnId, before: usize) {
        let now = self.conns.get(id).map_or(0, |conn| conn.session.in_flight_bytes());
        if now != before {
            self.assemble(before, now);
        }
    }

    /// A connection that waits for an answer holds `bytes` more of what came behind its request.
    pub(in super::super) fn note_unread(&mut self, bytes: usize) {
        self.assemble(0, bytes);
    }

    fn assemble(&mut self, before: usize, now: usize) {
        self.assembly.note(before, now);
        if self.assembly.bytes > self.assembly.alarm {
            self.shed_hoarders();
        }
        self.metrics.assembly_bytes.set(i64::try_from(self.assembly.bytes).unwrap_or(i64::MAX));
    }

    /// A connection has ended with `bytes` of messages that were not whole, or a request with so many behind it.
    pub(in super::super) fn forget_assembly(&mut self, bytes: usize) {
        self.assembly.note(bytes, 0);
        self.metrics.assembly_bytes.set(i64::try_from(self.assembly.bytes).unwrap_or(i64::MAX));
    }

    fn shed_hoarders(&mut self) {
        let publishes = |used: &Use| matches!(used, Use::Publishing { .. });
        let held = |conn: &Conn| conn.session.in_flight_bytes() + conn.unread_bytes();
        let holders = self.conns.iter().filter(|(_, conn)| held(conn) > 0).count();
        let fair = self.assembly.fair(holders);
        let mut found: Vec<(bool, usize, ConnId)> = Vec::new();
        for (id, conn) in self.conns.iter().filter(|(_, conn)| conn.closing().is_none()) {
            let (bytes, live) = (held(conn), conn.uses.iter().any(publishes));
            let may_go = bytes > if live { fair } else { 0 };
            if may_go && matches!(conn.session, Session::Client(_)) {
                found.push((live, bytes, id));
            }
        }
        found.sort_unstable_by_key(|(live, bytes, _)| (*live, std::cmp::Reverse(*bytes)));
        for (_, bytes, id) in found {
            if self.assembly.bytes <= self.assembly.most / 4 * 3 {
                break;
            }
            // What it had not read goes as it is closed.
            if let Some(conn) = self.conns.get_mut(id) {
                self.assembly.note(conn.session.in_flight_bytes(), 0);
                conn.session.discard_in_flight();
            }
            let what = format!(
                "messages that are not whole, or wait, take too much memory, and it held {bytes} bytes of them"
            );
            self.log_close(id, CloseReason::AssemblyBytes, &what);
            self.close(id, CloseReason::AssemblyBytes, true);
        }
        self.assembly.alarm = self.assembly.most.max(self.assembly.bytes + self.assembly.most / 8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_has_its_part() {
        assert_eq!(Assembly::new(0, 4).most, limits::ASSEMBLY_BYTES_ALL_MAX / 4);
        assert_eq!(Assembly::new(256 << 20, 2).most, 32 << 20);
        assert_eq!(Assembly::new(1 << 20, 64).most, limits::ASSEMBLY_BYTES_SHARD_MIN);
    }

    #[test]
    fn what_is_fair_is_an_equal_share_or_a_long_keyframe() {
        let assembly = Assembly::new(256 << 20, 2);
        assert_eq!([0, 1, 4, 32, 10_000].map(|holders| assembly.fair(holders) >> 20), [32, 32, 8, 1, 1]);
    }

    #[test]
    fn who_cannot_be_helped_is_not_looked_at_all_the_time() {
        let mut assembly = Assembly::new(256 << 20, 2);
        assembly.note(0, 40 << 20);
        assembly.alarm = 44 << 20;
        assembly.relax();
        assert_eq!(assembly.alarm, 44 << 20);
        assembly.note(40 << 20, 0);
        assembly.relax();
        assert_eq!((assembly.bytes, assembly.alarm), (0, 32 << 20));
    }
}
