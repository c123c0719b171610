//! What is asked about clients outside of the shards, and what the answers are.
//!
//! A shard hands a [`Question`] to the [`Desk`] of its configuration, which must not block and may have no room. What has a
//! [`Ticket`] is answered by [`Fleet::decide`](super::fleet::Fleet::decide); the others only tell.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use super::conn::ConnId;
use crate::{
    limits,
    rtmp::{key::StreamKey, server::ClientWords},
};

/// What a client is about to do, or has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Event {
    Connect,
    Publish,
    Play,
    PublishDone,
    PlayDone,
}

impl Event {
    /// In the order of their discriminants.
    pub const ALL: &[Self] = &[Self::Connect, Self::Publish, Self::Play, Self::PublishDone, Self::PlayDone];

    /// What tells of the end of it.
    pub const fn done(self) -> Option<Self> {
        match self {
            Self::Publish => Some(Self::PublishDone),
            Self::Play => Some(Self::PlayDone),
            Self::Connect | Self::PublishDone | Self::PlayDone => None,
        }
    }

    pub const fn label(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Publish => "publish",
            Self::Play => "play",
            Self::PublishDone => "publish_done",
            Self::PlayDone => "play_done",
        }
    }
}

/// Who waits for an answer. No two questions of a shard have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub shard: usize,
    pub conn: ConnId,
    pub number: u64,
}

/// Whom and what a question is about.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Of all connections of the process, this one.
    pub client: u64,
    /// It speaks TLS.
    pub secure: bool,
    pub shard: usize,
    pub peer: SocketAddr,
    /// As in its connect, with their queries.
    pub app: String,
    pub tc_url: String,
    pub words: ClientWords,
    /// None of a connect.
    pub key: Option<StreamKey>,
    /// What followed `?` in the stream's name: it may hold secrets.
    pub query: String,
}

#[derive(Clone, Debug)]
pub struct Question {
    pub event: Event,
    pub ticket: Option<Ticket>,
    pub subject: Arc<Subject>,
    /// Seconds since 1970.
    pub unix_s: u64,
}

/// An answer. The texts are for the client and the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allowed,
    Refused(String),
    /// Nobody decided: [`Callbacks::failure_allows`] does.
    Failed(String),
}

/// Where questions go. False: there is no room for another.
#[derive(Clone)]
pub struct Desk(Arc<dyn Fn(Question) -> bool + Send + Sync>);

impl Desk {
    pub fn new(take: impl Fn(Question) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }

    /// Never blocks.
    pub fn take(&self, question: Question) -> bool {
        (self.0)(question)
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Desk")
    }
}

/// Which events are asked or told about, and what happens without an answer.
#[derive(Clone, Debug)]
pub struct Callbacks {
    pub events: [bool; Event::ALL.len()],
    /// From a question to its answer.
    pub patience: Duration,
    /// Whether what nobody decided is allowed.
    pub failure_allows: bool,
    /// Without one, whoever is to be asked is taken for failing.
    pub desk: Option<Desk>,
}

impl Default for Callbacks {
    fn default() -> Self {
        Self {
            events: [false; Event::ALL.len()],
            patience: limits::CALLBACK_TIMEOUT_DEFAULT,
            failure_allows: false,
            desk: None,
        }
    }
}

impl Callbacks {
    pub fn concern(&self, event: Event) -> bool {
        self.events[event as usize]
    }

    pub fn any(&self) -> bool {
        self.events.contains(&true)
    }
}
