//! Who may publish and play: what a request brings along is held against the operator's rules.
//!
//! Pure and synchronous: the time comes from outside, and what has to be asked of somebody else (HTTP callbacks) is not here.
//! The shard decides by [`AccessRules::decide`] when a client asks to publish or play, never for media.

pub mod network;

use std::{
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
};

use crate::rtmp::key::StreamKey;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    Publish,
    Play,
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
    pub peer: IpAddr,
    /// Seconds since 1970.
    pub unix_s: u64,
}

/// Whose word a request goes by: equal for two requests that came with the same key, token subject or signature's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Credential(pub [u8; 16]);

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

/// See the file's head. Without rules everybody may do everything.
#[derive(Debug, Default)]
pub struct AccessRules {}

impl AccessRules {
    pub fn decide(&self, _ask: &Ask<'_>) -> Verdict {
        Verdict::Allowed(None)
    }
}

/// The rules in force, which may be replaced while they are used.
#[derive(Debug, Default)]
pub struct AccessInForce(RwLock<Arc<AccessRules>>);

impl AccessInForce {
    pub fn new(rules: AccessRules) -> Self {
        Self(RwLock::new(Arc::new(rules)))
    }

    pub fn get(&self) -> Arc<AccessRules> {
        // Whoever panicked with it held replaced it whole or not at all.
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn replace(&self, rules: AccessRules) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }
}
