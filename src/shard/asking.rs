//! Whether a connection may do what it asks for: the operator's rules say, and then whoever has to be asked about it.
//!
//! Rules are looked at here and now. What is asked outside leaves as a [`Question`]; until it is decided the connection is
//! not read: what has come behind the request waits in it, and the driver hears from [`Core::take_holds`] that it is to stop
//! reading, or to go on. Its players are sent to as ever. An answer goes to the request it was asked for, or to nobody.
//!
//! Bounds: one question for each connection, with [`limits::UNREAD_BYTES_MAX`] behind it; it is given up a little after
//! [`Callbacks::patience`](super::questions::Callbacks::patience), to the tick.

use std::time::Duration;

use super::{
    close::{CloseReason, RefuseReason},
    close_log::LineBudget,
    conn::ConnId,
    core::Core,
    judging::{Judgement, Judging, TOO_MANY},
    questions::{Decision, Event, Question, Ticket},
    session::Session,
    takeover::NotToBeHad,
    telling::Telling,
};
use crate::{
    access::{Action, Credential, Refusal},
    limits,
    media::TrackChoice,
    rtmp::key::StreamKey,
    stream::directory::Claim,
};

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Asking {
    /// Seconds since 1970, as the driver said last.
    pub(super) unix_s: u64,
    /// Requests that waited so far.
    asked: u64,
    pub(super) questions: Vec<Question>,
    holds: Vec<ConnId>,
    pub(super) judging: Judging,
    pub(super) telling: Telling,
    /// Of lines about what was denied.
    denial_lines: LineBudget,
}

/// A request that waits for its answer.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) number: u64,
    pub(super) request: Request,
    /// Shard time at which nobody is waited for any more.
    pub(super) until: Duration,
    /// What came behind the request.
    pub(super) unread: Vec<u8>,
}

impl Pending {
    pub(super) fn unread_bytes(&self) -> usize {
        self.unread.len()
    }
}

#[derive(Debug)]
pub(super) enum Request {
    Connect,
    Publish {
        stream: u32,
        key: StreamKey,
        query: String,
        credential: Option<Credential>,
    },
    Play {
        stream: u32,
        key: StreamKey,
        query: String,
        choice: TrackChoice,
    },
    /// It may publish, and the name is promised to it.
    Name {
        stream: u32,
        key: StreamKey,
        query: String,
    },
    /// The rules have yet to be asked.
    Judgement(Judgement),
}

impl Request {
    pub(super) fn event(&self) -> Event {
        match self {
            Self::Connect => Event::Connect,
            Self::Publish { .. } | Self::Name { .. } => Event::Publish,
            Self::Play { .. } => Event::Play,
            Self::Judgement(judgement) => judgement.event(),
        }
    }

    pub(super) fn subject(&self) -> (Option<&StreamKey>, &str) {
        match self {
            Self::Connect => (None, ""),
            Self::Publish { key, query, .. } | Self::Play { key, query, .. } | Self::Name { key, query, .. } => {
                (Some(key), query)
            }
            Self::Judgement(Judgement { key, query, .. }) => (Some(key), query),
        }
    }
}

impl Asking {
    #[cfg(all(test, not(loom)))]
    pub(super) fn is_empty(&self) -> bool {
        self.questions.is_empty() && self.telling.is_empty()
    }

    /// The connection waits no more.
    pub(super) fn release(&mut self, id: ConnId) {
        self.holds.push(id);
    }
}

impl Core {
    /// Says what the wall clock shows, in seconds since 1970. Rules that end at a time need it, and nothing else.
    pub fn set_wall(&mut self, unix_s: u64) {
        self.asking.unix_s = unix_s;
    }

    /// Questions to be asked. The caller empties the list; [`Core::decided`] has the answers.
    pub fn take_questions(&mut self) -> &mut Vec<Question> {
        &mut self.asking.questions
    }

    /// Connections that are to be read no more, or again: [`Core::is_held`] says which. The caller empties the list.
    pub fn take_holds(&mut self) -> &mut Vec<ConnId> {
        &mut self.asking.holds
    }

    /// Whether the connection waits for a decision and is not to be read.
    pub fn is_held(&self, id: ConnId) -> bool {
        self.conns.get(id).is_some_and(|conn| conn.pending().is_some())
    }

    /// A client wants to connect.
    pub(super) fn start_connect(&mut self, id: ConnId) {
        self.ask(id, Request::Connect);
    }

    /// Grants what need not be asked about; else the connection waits.
    pub(super) fn ask(&mut self, id: ConnId, request: Request) {
        let event = request.event();
        let is_successor = self.conns.get(id).is_some_and(|conn| conn.is_successor());
        if is_successor || !self.config.callbacks.concern(event) {
            self.grant(id, &request);
            return;
        }
        if self.is_ending() {
            self.deny(id, request, &going_away());
            return;
        }
        let (key, query) = request.subject();
        let Some(subject) = self.subject(id, key, query) else { return };
        let patience = self.config.callbacks.patience + limits::DECISION_GRACE;
        let Some(ticket) = self.hold(id, request, patience) else { return };
        self.asking.questions.push(Question { event, ticket: Some(ticket), subject, unix_s: self.asking.unix_s });
    }

    /// The connection waits.
    pub(super) fn hold(&mut self, id: ConnId, request: Request, patience: Duration) -> Option<Ticket> {
        let conn = self.conns.get_mut(id)?;
        let (number, until) = (self.asking.asked, self.time.now() + patience);
        self.asking.asked += 1;
        conn.loose_ends().pending = Some(Box::new(Pending { number, request, until, unread: Vec::new() }));
        self.asking.holds.push(id);
        Some(Ticket { shard: self.port.shard(), conn: id, number })
    }

    /// The name is promised to the connection, which waits until it is released.
    pub(super) fn hold_for_name(&mut self, id: ConnId, stream: u32, key: &StreamKey, query: &str) -> Option<Ticket> {
        let request = Request::Name { stream, key: key.clone(), query: query.to_owned() };
        self.hold(id, request, limits::TAKEOVER_WAIT)
    }

    /// The name `of` that a connection waits for is its own, as `claim`; `None`: it is not to be had.
    pub(super) fn end_wait_for_name(&mut self, ticket: Ticket, of: &StreamKey, claim: Option<Claim>) {
        let pending = self.conns.get_mut(ticket.conn).and_then(|conn| conn.take_pending(ticket.number));
        let Some(Pending { request: Request::Name { stream, key, query }, unread, .. }) =
            pending.map(|pending| *pending)
        else {
            // A name that nobody has any use for is free.
            if let Some(claim) = claim {
                self.directory.release(of, claim.epoch, claim.resume);
            }
            return;
        };
        match claim {
            Some(claim) => self.begin_publish(ticket.conn, stream, &key, &query, claim),
            None => {
                self.refuse_name(ticket.conn, stream, &key, NotToBeHad::NotReleased);
                self.tell_not_begun(ticket.conn, Event::Publish, &key, &query);
            }
        }
        self.go_on(ticket.conn, &unread);
    }

    /// More has come of a connection that is not to be read. A driver that keeps to that has at most a read's rest.
    pub(super) fn keep_unread(&mut self, id: ConnId, bytes: &[u8]) {
        let Some(pending) = self.conns.get_mut(id).and_then(|conn| conn.pending_mut()) else { return };
        if pending.unread.len() + bytes.len() > limits::UNREAD_BYTES_MAX {
            let what = format!("more than {} bytes came behind a request", limits::UNREAD_BYTES_MAX);
            self.log_close(id, CloseReason::UnreadBytes, &what);
            self.close(id, CloseReason::UnreadBytes, true);
            return;
        }
        pending.unread.extend_from_slice(bytes);
        self.note_unread(bytes.len());
    }

    /// The answer to a question, unless the connection or the request is gone.
    pub fn decided(&mut self, ticket: Ticket, decision: Decision) {
        let pending = self.conns.get_mut(ticket.conn).and_then(|conn| conn.take_pending(ticket.number));
        match pending {
            Some(pending) => self.settle(ticket.conn, *pending, decision),
            None => self.tell_abandoned(ticket.number, &decision),
        }
    }

    /// Grants what was allowed outside.
    fn grant_allowed(&mut self, id: ConnId, request: &Request) {
        self.grant(id, request);
        let (Request::Publish { stream, key, query, .. } | Request::Play { stream, key, query, .. }) = request else {
            return;
        };
        // It may have gone in the act: what has begun by then is told of as its end.
        let Some(conn) = self.conns.get(id) else { return };
        let has_begun = conn.uses.iter().any(|used| used.stream() == *stream);
        if !has_begun && conn.pending().is_none() {
            self.tell_not_begun(id, request.event(), key, query);
        }
    }

    /// Nobody answered in time.
    pub(super) fn give_up_asking(&mut self, id: ConnId) {
        let number = self.conns.get(id).and_then(|conn| conn.pending()).map(|pending| pending.number);
        let Some(number) = number else { return };
        let ticket = Ticket { shard: self.port.shard(), conn: id, number };
        self.decided(ticket, Decision::Failed("no answer came in time".to_owned()));
    }

    /// The node is going away, and the connection's request with it.
    pub(super) fn refuse_pending(&mut self, id: ConnId) {
        let number = self.conns.get(id).and_then(|conn| conn.pending()).map(|pending| pending.number);
        let pending = number.and_then(|number| self.conns.get_mut(id)?.take_pending(number));
        let Some(pending) = pending else { return };
        // Whoever is asked about it may yet allow it.
        self.abandon(id, &pending);
        self.deny(id, pending.request, &going_away());
        self.go_on(id, &pending.unread);
    }

    fn settle(&mut self, id: ConnId, pending: Pending, decision: Decision) {
        let Pending { request, unread, .. } = pending;
        if let Request::Name { stream, key, query } = request {
            self.stop_waiting(id);
            self.refuse_name(id, stream, &key, NotToBeHad::NotReleased);
            self.tell_not_begun(id, Event::Publish, &key, &query);
            self.go_on(id, &unread);
            return;
        }
        if let Request::Judgement(judgement) = request {
            self.refuse_judgement(id, &judgement, TOO_MANY);
            self.go_on(id, &unread);
            return;
        }
        let rule = || format!("on_{} callback", request.event().label()).into();
        match decision {
            Decision::Allowed => self.grant_allowed(id, &request),
            Decision::Refused(why) => {
                let refusal = Refusal { rule: rule(), why };
                self.deny(id, request, &refusal);
                self.note_denied(id);
            }
            Decision::Failed(_) if self.config.callbacks.failure_allows => self.grant(id, &request),
            Decision::Failed(what) => {
                // What failed is the operator's to know.
                let refusal = Refusal {
                    rule: format!("on_{} callback: {what}", request.event().label()).into(),
                    why: NOBODY.to_owned(),
                };
                self.deny(id, request, &refusal);
            }
        }
        self.go_on(id, &unread);
    }

    /// The connection is read again: first what came behind its request.
    pub(super) fn go_on(&mut self, id: ConnId, unread: &[u8]) {
        self.forget_assembly(unread.len());
        if !unread.is_empty() {
            self.take_in(id, unread);
        }
        self.wake_if_output(id);
        self.asking.holds.push(id);
    }

    fn grant(&mut self, id: ConnId, request: &Request) {
        match request {
            Request::Connect => {
                if let Some(Session::Client(session)) = self.conns.get_mut(id).map(|conn| &mut conn.session) {
                    session.accept_connect();
                }
            }
            Request::Publish { stream, key, query, credential } => {
                self.grant_publish(id, *stream, key, query, *credential);
            }
            Request::Play { stream, key, query, choice } => {
                self.grant_play(id, *stream, key, *choice);
                self.note_begun(id, *stream, Event::PlayDone, key, query);
            }
            // Only the release of the name grants the one, and only the rules the other.
            Request::Name { .. } | Request::Judgement(_) => {}
        }
    }

    fn deny(&mut self, id: ConnId, request: Request, refusal: &Refusal) {
        match request {
            Request::Connect => self.deny_connect(id, refusal),
            Request::Publish { stream, key, .. } => self.deny_publish(id, stream, &key, refusal),
            Request::Play { stream, key, .. } => self.deny_play(id, stream, &key, refusal),
            Request::Judgement(judgement) => self.refuse_judgement(id, &judgement, &refusal.why),
            Request::Name { stream, key, .. } => {
                self.stop_waiting(id);
                self.deny_publish(id, stream, &key, refusal);
            }
        }
    }

    fn deny_connect(&mut self, id: ConnId, refusal: &Refusal) {
        self.metrics.refused(RefuseReason::Access).add(1);
        if let Some(Session::Client(session)) = self.conns.get_mut(id).map(|conn| &mut conn.session) {
            session.refuse_connect(&refusal.why);
        }
        let Refusal { rule, why } = refusal;
        self.log_close(id, CloseReason::Connect, &format!("connect refused by {rule}: {why}"));
        self.close(id, CloseReason::Connect, false);
    }

    pub(super) fn log_denied(&mut self, id: ConnId, action: Action, key: &StreamKey, refusal: &Refusal) {
        let Some(conn) = self.conns.get(id) else { return };
        let suppressed = self.asking.denial_lines.take(limits::STREAM_LOG_LINES_PER_SECOND, self.time.now());
        if let Some(suppressed) = suppressed {
            let action = action.name();
            let Refusal { rule, why } = refusal;
            tracing::info!(peer = %conn.peer(), stream = %key, %rule, suppressed, "{action} refused: {why}");
        }
    }
}

/// For a client that nobody decided about.
const NOBODY: &str = "who may do this cannot be found out at the moment; try again later";

fn going_away() -> Refusal {
    Refusal { rule: "shutdown".into(), why: "the server is going away".to_owned() }
}
