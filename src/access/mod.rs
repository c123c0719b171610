//! Who may publish and play: what a request brings along is held against the operator's rules.
//!
//! Pure and synchronous: the time comes from outside, and what has to be asked of somebody else (HTTP callbacks) is not here.
//! The shard asks [`AccessInForce::decide`] when a client wants to publish or play, never for media; `control/` makes the rules
//! of flags and files and replaces them when those change. What proves a right is a key of the operator's ([`keys`]), a signed
//! link ([`links`]) or a JSON web token ([`tokens`]), each wherever a client puts it ([`offer`]).

pub mod failures;
pub mod keys;
pub mod lines;
pub mod links;
pub mod network;
pub mod offer;
pub mod rules;
pub mod secrets;
pub mod tokens;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use sha2::{Digest, Sha256};

use self::failures::Failures;
pub use self::rules::AccessRules;
use crate::rtmp::key::StreamKey;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    Publish,
    Play,
}

impl Action {
    pub fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Play => "play",
        }
    }
}

/// What a client asks for, and what it brings along.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    pub action: Action,
    pub key: &'a StreamKey,
    /// As in its connect, with its query.
    pub app: &'a str,
    /// As in its connect, with its query.
    pub tc_url: &'a str,
    /// What followed `?` in the stream's name.
    pub query: &'a str,
    /// [`network::NO_ADDRESS`] if it has none.
    pub peer: IpAddr,
    /// Seconds since 1970.
    pub unix_s: u64,
}

/// Whose word a request goes by: equal for two requests that came with the same key, token subject or signed link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Credential(pub [u8; 16]);

impl Credential {
    /// A digest, so that it may be kept and shown where what it is of may not.
    fn of(kind: &str, parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in [kind.as_bytes()].iter().chain(parts) {
            // Their lengths keep parts apart.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let digest: [u8; 32] = hash.finalize().into();
        let (first, _) = digest.split_first_chunk().expect("a digest is longer");
        Self(*first)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed(Option<Credential>),
    Refused(Refusal),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// How the operator knows the rule that refused.
    pub rule: Arc<str>,
    /// For the client and the log; no secrets.
    pub why: String,
}

/// What becomes of a name's publisher when another one may publish it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Takeover {
    /// The second is refused.
    #[default]
    Reject,
    /// The first is ended, and the stream goes on with the second.
    Replace,
    /// As `Replace`, if both came with the same credential; else the second is refused.
    ReplaceIfSameCredential,
}

/// The rules in force, which may be replaced while they are used, and the wrong keys of late, which outlive them.
#[derive(Debug, Default)]
pub struct AccessInForce {
    rules: RwLock<Arc<AccessRules>>,
    failures: Mutex<Failures>,
}

impl AccessInForce {
    pub fn new(rules: AccessRules) -> Self {
        Self { rules: RwLock::new(Arc::new(rules)), failures: Mutex::default() }
    }

    /// By the rules in force. Too many wrong keys or tokens from an address, and none from it is looked at for a while, a right
    /// one neither; streams that need none are not touched by that.
    pub fn decide(&self, ask: &Ask<'_>) -> Verdict {
        let rules = self.get();
        if rules.of(ask.action).is_empty() {
            return Verdict::Allowed(None);
        }
        let pause_s = self.failures().pause_s(ask.peer, ask.unix_s);
        let (verdict, guessed_wrong) = rules.judge(ask, pause_s);
        if guessed_wrong {
            self.failures().note(ask.peer, ask.unix_s);
        }
        verdict
    }

    /// The most that deciding costs, in keys hashed. To be asked before: what is bounded is the time it takes.
    pub fn work(&self, ask: &Ask<'_>) -> u32 {
        let rules = self.get();
        if rules.of(ask.action).is_empty() {
            return 0;
        }
        let is_paused = self.failures().pause_s(ask.peer, ask.unix_s) > 0;
        rules.work(ask, is_paused)
    }

    fn failures(&self) -> MutexGuard<'_, Failures> {
        // Whoever panicked with it held left a table that is sound, if not complete.
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self) -> Arc<AccessRules> {
        // Whoever panicked with it held replaced it whole or not at all.
        self.rules.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn replace(&self, rules: AccessRules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }
}

#[cfg(test)]
mod tests;
