//! What is to be pulled and pushed, as the operator says it.

use std::{fmt, sync::Arc, time::Duration};

use super::upstream::Upstream;
pub use super::{
    lookup::{InOrder, Weighted},
    pattern::{Pattern, PatternError},
    template::{Template, TemplateError},
};
use crate::{limits, rtmp::key::StreamKey};

/// All of a node's relay settings.
#[derive(Clone, Debug, Default)]
pub struct RelayRules {
    /// How the node calls itself in the list of hops that keeps relays from going in circles.
    pub node: String,
    /// The first that matches a stream counts.
    pub pulls: Vec<PullRule>,
    /// All that match a stream count.
    pub pushes: Vec<PushRule>,
    pub timing: Timing,
}

impl RelayRules {
    /// The rule by which a stream is pulled, if there is one.
    pub fn pull(&self, key: &StreamKey) -> Option<&PullRule> {
        self.pulls.iter().find(|rule| rule.pattern.matches(key))
    }

    /// Where a stream is pushed to.
    pub fn targets(&self, key: &StreamKey) -> impl Iterator<Item = Upstream> {
        let rules = self.pushes.iter().filter(|rule| rule.pattern.matches(key));
        rules.flat_map(|rule| &rule.targets).map(|target| target.fill_secret(key))
    }
}

/// Where the streams of a pattern are pulled from.
#[derive(Clone, Debug)]
pub struct PullRule {
    pub pattern: Pattern,
    pub origins: Arc<dyn Lookup>,
    /// Pulled also while nobody plays it: the pattern is one stream's name.
    pub always: bool,
    /// How long a pull outlives its last player.
    pub linger: Duration,
}

impl PullRule {
    /// What players here ask for and nobody publishes may be at the process before this one.
    pub fn predecessor() -> Self {
        Self {
            pattern: Pattern::all(),
            origins: Arc::new(InOrder(vec![Template::predecessor()])),
            always: false,
            linger: limits::PULL_LINGER_DEFAULT,
        }
    }
}

/// Where the streams of a pattern are pushed to: all of `targets` at once.
#[derive(Clone, Debug)]
pub struct PushRule {
    pub pattern: Pattern,
    pub targets: Vec<Template>,
}

/// Which nodes may have a stream, best first. A registry would be another implementation.
pub trait Lookup: fmt::Debug + Send + Sync {
    /// Never empty; at most [`limits::SOURCES_MAX`].
    fn candidates(&self, key: &StreamKey) -> Vec<Upstream>;
}

/// How long is waited for another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From the dial to the end of the RTMP handshake, names resolved and TLS included.
    pub connect: Duration,
    /// From then to the first media.
    pub first_byte: Duration,
    /// From one message of media to the next.
    pub stall: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            connect: limits::UPSTREAM_CONNECT_DEFAULT,
            first_byte: limits::UPSTREAM_FIRST_BYTE_DEFAULT,
            stall: limits::UPSTREAM_STALL_DEFAULT,
        }
    }
}
