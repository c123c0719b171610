//! What is told of clients outside: who they are, and that what they did, or might have done, is over.
//!
//! Whoever allowed a publish or a play hears of its end, once, whether it came about or not: of what began ([`note_begun`]),
//! of what did not ([`tell_not_begun`]), and of requests that are gone before their answer comes ([`abandon`]). Nobody waits for
//! an answer. Bounds: a client for each connection, what it does, and of requests that are gone those not answered yet.
//!
//! [`note_begun`]: Core::note_begun
//! [`tell_not_begun`]: Core::tell_not_begun
//! [`abandon`]: Core::abandon

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use super::{
    asking::{Pending, Request},
    conn::ConnId,
    core::Core,
    questions::{Decision, Event, Question, Subject},
    session::Session,
    uses::Use,
};
use crate::{
    limits,
    rtmp::{key::StreamKey, server::ClientWords},
};

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// Clients so far.
    known: u64,
    clients: HashMap<ConnId, Client>,
    /// Requests that are gone, whose answers are still to come, by their numbers.
    gone: HashMap<u64, (Event, Arc<Subject>)>,
}

/// A client that somebody outside was told of, or is to be.
#[derive(Debug)]
struct Client {
    number: u64,
    /// It speaks TLS.
    secure: bool,
    /// What it does, by message stream, as long as its end is to be told.
    doing: Vec<(u32, Arc<Subject>)>,
}

impl Telling {
    #[cfg(all(test, not(loom)))]
    pub(super) fn is_empty(&self) -> bool {
        self.clients.is_empty() && self.gone.is_empty()
    }
}

impl Core {
    /// The connection speaks TLS, which callbacks are told.
    pub fn note_secure(&mut self, id: ConnId) {
        if self.config.callbacks.any() {
            self.client(id).secure = true;
        }
    }

    /// Whom and what a question about the connection is about.
    pub(super) fn subject(&mut self, id: ConnId, key: Option<&StreamKey>, query: &str) -> Option<Arc<Subject>> {
        let conn = self.conns.get(id)?;
        let Session::Client(session) = &conn.session else { return None };
        let (app, tc_url) = (session.app().to_owned(), session.tc_url().to_owned());
        let (peer, words): (SocketAddr, ClientWords) = (conn.peer(), session.client());
        let shard = self.port.shard();
        let (key, query) = (key.cloned(), query.to_owned());
        let Client { number: client, secure, .. } = *self.client(id);
        Some(Arc::new(Subject { client, secure, shard, peer, app, tc_url, words, key, query }))
    }

    fn client(&mut self, id: ConnId) -> &mut Client {
        let Telling { known, clients, .. } = &mut self.asking.telling;
        let shard = self.port.shard();
        // Whoever is told hears of two processes while one replaces the other.
        let generation = self.config.predecessor.as_ref().map_or(0, |known| known.next_generation());
        clients.entry(id).or_insert_with(|| {
            *known += 1;
            let number = *known * limits::SHARDS_MAX as u64 + shard as u64;
            let number = number * u64::from(limits::GENERATIONS) + u64::from(generation);
            Client { number, secure: false, doing: Vec::new() }
        })
    }

    /// Remembers what has begun on a message stream, if `done` is to be told of its end.
    pub(super) fn note_begun(&mut self, id: ConnId, stream: u32, done: Event, key: &StreamKey, query: &str) {
        // Whoever plays at the process that took over is told of there.
        let conn = self.conns.get(id).filter(|conn| !conn.is_successor());
        let began = conn.is_some_and(|conn| conn.uses.iter().any(|used| used.stream() == stream));
        if began
            && self.config.callbacks.concern(done)
            && let Some(subject) = self.subject(id, Some(key), query)
        {
            self.client(id).doing.push((stream, subject));
        }
    }

    /// What a connection did on a message stream is over.
    pub(super) fn tell_done(&mut self, id: ConnId, used: &Use) {
        let Some(client) = self.asking.telling.clients.get_mut(&id) else { return };
        let Some(at) = client.doing.iter().position(|(stream, _)| *stream == used.stream()) else { return };
        let (_, subject) = client.doing.swap_remove(at);
        let event = match used {
            Use::Publishing { .. } => Event::PublishDone,
            Use::Playing { .. } => Event::PlayDone,
        };
        self.tell(event, subject);
    }

    /// A request of the connection waits no more, because one of both is going: whoever allows it hears of its end all the same.
    pub(super) fn abandon(&mut self, id: ConnId, pending: &Pending) {
        let event = pending.request.event();
        let (key, query) = pending.request.subject();
        match (&pending.request, key) {
            (Request::Name { .. }, Some(key)) => self.tell_not_begun(id, event, key, query),
            (Request::Publish { .. } | Request::Play { .. }, Some(_)) => {
                if let Some(done) = event.done().filter(|done| self.config.callbacks.concern(*done))
                    && let Some(subject) = self.subject(id, key, query)
                {
                    self.asking.telling.gone.insert(pending.number, (done, subject));
                }
            }
            _ => {}
        }
    }

    /// The answer to a question whose request is gone.
    pub(super) fn tell_abandoned(&mut self, number: u64, decision: &Decision) {
        let gone = self.asking.telling.gone.remove(&number);
        if let Some((event, subject)) = gone.filter(|_| *decision == Decision::Allowed) {
            self.tell(event, subject);
        }
    }

    /// What was asked about as `event`, and allowed, has not come about.
    pub(super) fn tell_not_begun(&mut self, id: ConnId, event: Event, key: &StreamKey, query: &str) {
        let callbacks = &self.config.callbacks;
        if callbacks.concern(event)
            && let Some(done) = event.done().filter(|done| callbacks.concern(*done))
            && let Some(subject) = self.subject(id, Some(key), query)
        {
            self.tell(done, subject);
        }
    }

    /// The connection is gone.
    pub(super) fn forget_client(&mut self, id: ConnId) {
        self.asking.telling.clients.remove(&id);
    }

    fn tell(&mut self, event: Event, subject: Arc<Subject>) {
        self.asking.questions.push(Question { event, ticket: None, subject, unix_s: self.asking.unix_s });
    }
}
