//! The operator's rules, asked about a client's request, at a bounded pace.
//!
//! What a client brings along to prove its right costs time to look at, whoever brings it. So a shard does only so much of it
//! between two ticks ([`limits::ACCESS_WORK_PER_TICK`]); further requests wait for their turn as those do that are asked about
//! outside, first come, first served, and their connections are not read. Who is denied [`limits::DENIALS_MAX`] times is closed.

use std::collections::VecDeque;

use super::{
    asking::Request,
    close::CloseReason,
    conn::ConnId,
    core::Core,
    questions::{Event, Ticket},
};
use crate::{
    access::{Action, Ask, Credential, Refusal, Verdict, network::NO_ADDRESS},
    limits,
    media::TrackChoice,
    rtmp::key::StreamKey,
};

/// For a client whose turn does not come.
pub(super) const TOO_MANY: &str = "too many clients ask for something at the moment; try again later";

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Judging {
    /// Done since the last tick, in keys hashed.
    work: u32,
    /// Those that wait for their turn, and some that do not any more.
    waiting: VecDeque<Ticket>,
}

/// What a client wants to do on a message stream.
#[derive(Debug)]
pub(super) struct Judgement {
    pub(super) stream: u32,
    pub(super) key: StreamKey,
    pub(super) query: String,
    /// Of a play.
    pub(super) choice: Option<TrackChoice>,
}

impl Judgement {
    fn action(&self) -> Action {
        if self.choice.is_some() { Action::Play } else { Action::Publish }
    }

    pub(super) fn event(&self) -> Event {
        match self.action() {
            Action::Publish => Event::Publish,
            Action::Play => Event::Play,
        }
    }

    /// The rules allow it; the credential is a publisher's.
    fn into_request(self, credential: Option<Credential>) -> Request {
        let Self { stream, key, query, choice } = self;
        match choice {
            None => Request::Publish { stream, key, query, credential },
            Some(choice) => Request::Play { stream, key, query, choice },
        }
    }
}

impl Core {
    /// Does as the rules say of a client's request, or has it wait for its turn, behind those that wait already.
    pub(super) fn judge(&mut self, id: ConnId, judgement: Judgement) {
        let others_wait = !self.asking.judging.waiting.is_empty();
        let Some(verdict) = self.verdict(id, &judgement, others_wait) else {
            let ticket = self.hold(id, Request::Judgement(judgement), limits::JUDGEMENT_PATIENCE);
            self.asking.judging.waiting.extend(ticket);
            return;
        };
        self.carry_out(id, judgement, verdict);
    }

    fn carry_out(&mut self, id: ConnId, judgement: Judgement, verdict: Verdict) {
        match verdict {
            Verdict::Allowed(credential) => self.ask(id, judgement.into_request(credential)),
            Verdict::Refused(refusal) => {
                self.deny_judged(id, &judgement, &refusal);
                self.note_denied(id);
            }
        }
    }

    fn deny_judged(&mut self, id: ConnId, judgement: &Judgement, refusal: &Refusal) {
        let Judgement { stream, key, .. } = judgement;
        match judgement.action() {
            Action::Publish => self.deny_publish(id, *stream, key, refusal),
            Action::Play => self.deny_play(id, *stream, key, refusal),
        }
    }

    /// `None`: there has been enough of that until the next tick, or it costs something and `others_wait` that came before.
    fn verdict(&mut self, id: ConnId, judgement: &Judgement, others_wait: bool) -> Option<Verdict> {
        let Some(conn) = self.conns.get(id).filter(|conn| !conn.is_successor()) else {
            // Who plays there has been judged there.
            return Some(Verdict::Allowed(None));
        };
        let (app, tc_url) = (conn.session.app(), conn.session.tc_url());
        let (action, key, query) = (judgement.action(), &judgement.key, judgement.query.as_str());
        let peer = if conn.is_local() { NO_ADDRESS } else { conn.peer().ip() };
        let ask = Ask { action, key, app, tc_url, query, peer, unix_s: self.asking.unix_s };
        let work = self.config.access.work(&ask);
        let judging = &mut self.asking.judging;
        // However much a single one is, it has its turn.
        let is_enough = judging.work > 0 && judging.work.saturating_add(work) > limits::ACCESS_WORK_PER_TICK;
        if work > 0 && (others_wait || is_enough) {
            return None;
        }
        judging.work = judging.work.saturating_add(work);
        Some(self.config.access.decide(&ask))
    }

    /// Those whose turn has come. To the tick.
    pub(super) fn judge_more(&mut self) {
        self.asking.judging.work = 0;
        // Whoever comes meanwhile stands behind these.
        for _ in 0..self.asking.judging.waiting.len() {
            let Some(ticket) = self.asking.judging.waiting.pop_front() else { return };
            let pending = self.conns.get_mut(ticket.conn).and_then(|conn| conn.take_pending(ticket.number));
            let Some(mut pending) = pending else { continue };
            let Request::Judgement(judgement) = &pending.request else { continue };
            let Some(verdict) = self.verdict(ticket.conn, judgement, false) else {
                // It waits on as it did, at the head of all others, which are not looked at.
                if let Some(conn) = self.conns.get_mut(ticket.conn) {
                    conn.loose_ends().pending = Some(pending);
                }
                self.asking.judging.waiting.push_front(ticket);
                return;
            };
            let unread = std::mem::take(&mut pending.unread);
            if let Request::Judgement(judgement) = pending.request {
                self.carry_out(ticket.conn, judgement, verdict);
            }
            self.go_on(ticket.conn, &unread);
        }
    }

    /// It is not looked at any more what the rules say.
    pub(super) fn refuse_judgement(&mut self, id: ConnId, judgement: &Judgement, why: &str) {
        let refusal = Refusal { rule: "access rules".into(), why: why.to_owned() };
        self.deny_judged(id, judgement, &refusal);
    }

    /// A rule, or whoever was asked outside, denied the connection what it asked for.
    pub(super) fn note_denied(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let denials = &mut conn.loose_ends().denials;
        *denials = denials.saturating_add(1);
        if *denials >= limits::DENIALS_MAX {
            self.log_close(id, CloseReason::Denied, "it asked again and again for what it may not");
            self.close(id, CloseReason::Denied, false);
        }
    }
}
