//! The operator's rules: of those for an action, the first that a stream's name fits decides.
//!
//! Without rules for an action everybody may do it, which [`AccessInForce`](super::AccessInForce) sees to; with rules, a stream
//! that none fits is refused. A rule looks at the address first, `deny` before `allow`, and then at what the client brings
//! along: of the ways it knows, one must succeed. Bounds: [`ACCESS_RULES_MAX`](crate::limits::ACCESS_RULES_MAX) and
//! [`NETWORKS_MAX`](crate::limits::NETWORKS_MAX), which `control/` keeps.

use std::{fmt, sync::Arc};

use super::{
    Action, Ask, Refusal, Verdict,
    keys::{KeyFault, Keys},
    links,
    network::Network,
    offer,
    secrets::SignSecrets,
    tokens::{TokenFault, Tokens},
};
use crate::{
    limits::{RULES_PER_WORK, SIGNATURE_WORK, TOKEN_KEYS_TRIED_MAX},
    relay::pattern::Pattern,
};

/// See the file's head.
#[derive(Debug, Default)]
pub struct AccessRules {
    pub publish: Vec<Rule>,
    pub play: Vec<Rule>,
}

/// Its `Debug` does not show secrets.
#[derive(Clone, Debug)]
pub struct Rule {
    /// How the operator knows it.
    pub name: Arc<str>,
    /// None: all, those of vhosts too.
    pub streams: Option<Pattern>,
    pub deny: Vec<Network>,
    /// Empty: all.
    pub allow: Vec<Network>,
    pub takes: Takes,
}

/// Whom a rule lets in, of those whose address it likes.
#[derive(Clone, Debug)]
pub enum Takes {
    Everybody,
    Nobody,
    Proof(Proof),
}

/// The ways to prove a right, of which one must succeed.
#[derive(Clone, Debug, Default)]
pub struct Proof {
    pub keys: Option<Keys>,
    pub links: Option<SignSecrets>,
    pub tokens: Option<Tokens>,
}

impl AccessRules {
    /// Also whether a key or token was tried in vain: what could be guessed, tried often enough, and what costs time. None is
    /// looked at in the next `pause_s` seconds.
    pub(super) fn judge(&self, ask: &Ask<'_>, pause_s: u64) -> (Verdict, bool) {
        match self
            .of(ask.action)
            .iter()
            .find(|rule| rule.streams.as_ref().is_none_or(|streams| streams.matches(ask.key)))
        {
            Some(rule) => rule.judge(ask, pause_s),
            None => {
                let why = format!("no rule says who may {} this stream", ask.action.name());
                let rule = format!("{} rules", ask.action.name()).into();
                (Verdict::Refused(Refusal { rule, why }), false)
            }
        }
    }

    /// The most that judging costs, in keys hashed: as if the most costly rule were the one. Of who `is_paused`, only links are
    /// looked at.
    pub(super) fn work(&self, ask: &Ask<'_>, is_paused: bool) -> u32 {
        let rules = self.of(ask.action);
        let looked_at: &[_] = if is_paused { &["sig"] } else { &["key", "token", "jwt", "sig"] };
        let brings = looked_at.iter().any(|name| offer::is_there(ask, name));
        let proof = rules.iter().map(|rule| rule.work(is_paused)).max().filter(|_| brings).unwrap_or(0);
        proof.saturating_add(u32::try_from(rules.len() / RULES_PER_WORK).unwrap_or(u32::MAX))
    }

    pub(super) fn of(&self, action: Action) -> &[Rule] {
        match action {
            Action::Publish => &self.publish,
            Action::Play => &self.play,
        }
    }
}

impl Rule {
    fn judge(&self, ask: &Ask<'_>, pause_s: u64) -> (Verdict, bool) {
        let among = |networks: &[Network]| networks.iter().any(|network| network.contains(ask.peer));
        if among(&self.deny) || (!self.allow.is_empty() && !among(&self.allow)) {
            return (self.refused("not from this address"), false);
        }
        match &self.takes {
            Takes::Everybody => (Verdict::Allowed(None), false),
            Takes::Nobody => (self.refused(&format!("nobody may {} this stream", ask.action.name())), false),
            Takes::Proof(proof) => self.prove(proof, ask, pause_s),
        }
    }

    fn prove(&self, proof: &Proof, ask: &Ask<'_>, pause_s: u64) -> (Verdict, bool) {
        let mut why = None;
        let mut in_vain = false;
        let paused = || format!("too many wrong keys came from this address; the next is looked at in {pause_s} s");
        if let Some(tokens) = &proof.tokens
            && let Some(token) = offer::value(ask, &["token", "jwt"])
        {
            match (pause_s == 0).then(|| tokens.verify(&token, ask)) {
                Some(Ok(credential)) => return (Verdict::Allowed(credential), false),
                Some(Err(fault)) => {
                    // One that has run out was genuine, and its bearer is no stranger.
                    in_vain = fault == TokenFault::Signature;
                    why = Some(fault.to_string());
                }
                None => why = Some(paused()),
            }
        }
        if let Some(secrets) = &proof.links
            && let Some(link) = links::verify(secrets, ask)
        {
            match link {
                Ok(credential) => return (Verdict::Allowed(Some(credential)), false),
                Err(fault) => why = Some(fault.to_string()),
            }
        }
        if let Some(keys) = &proof.keys
            && let Some(key) = offer::value(ask, &["key"])
        {
            if pause_s > 0 {
                return (self.refused(&paused()), false);
            }
            match keys.check(&key, ask.key) {
                Ok(credential) => return (Verdict::Allowed(Some(credential)), false),
                // The client hears the same of both: which keys there are is not for those to know who guess. It is no guess,
                // though, that a key is known.
                Err(fault) => {
                    let rule = match fault {
                        KeyFault::Wrong => Arc::clone(&self.name),
                        KeyFault::OtherStream => format!("{} ({fault})", self.name).into(),
                    };
                    let refusal = Refusal { rule, why: KeyFault::Wrong.to_string() };
                    return (Verdict::Refused(refusal), in_vain || fault == KeyFault::Wrong);
                }
            }
        }
        (self.refused(&why.unwrap_or_else(|| proof.wanted())), in_vain)
    }

    fn work(&self, is_paused: bool) -> u32 {
        match &self.takes {
            Takes::Everybody | Takes::Nobody => 0,
            Takes::Proof(proof) => {
                let of_links = if proof.links.is_some() { SIGNATURE_WORK } else { 0 };
                if is_paused {
                    return of_links;
                }
                let bounded = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
                let keys = proof.keys.as_ref().map_or(0, |keys| bounded(keys.len()));
                let tokens = proof.tokens.as_ref().map_or(0, |_| bounded(TOKEN_KEYS_TRIED_MAX));
                keys.saturating_add(of_links).saturating_add(tokens.saturating_mul(SIGNATURE_WORK))
            }
        }
    }

    fn refused(&self, why: &str) -> Verdict {
        Verdict::Refused(Refusal { rule: Arc::clone(&self.name), why: why.to_owned() })
    }
}

/// What it does: "live/*: with a key (3) or a token, from 10.0.0.0/8, by the publish rule at FILE:LINE".
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.streams {
            Some(streams) => write!(f, "{streams}: ")?,
            None => f.write_str("all streams: ")?,
        }
        match &self.takes {
            Takes::Everybody => f.write_str("everybody")?,
            Takes::Nobody => f.write_str("nobody")?,
            Takes::Proof(proof) => write!(f, "who has {proof}")?,
        }
        for (word, networks) in [("from", &self.allow), ("not from", &self.deny)] {
            if !networks.is_empty() {
                let networks = networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                write!(f, ", {word} {networks}")?;
            }
        }
        write!(f, "; {}", self.name)
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ways = Vec::new();
        ways.extend(self.keys.as_ref().map(|keys| format!("one of {} keys", keys.len())));
        ways.extend(self.links.as_ref().map(|_| "a signed link".to_owned()));
        ways.extend(self.tokens.as_ref().map(|_| "a token".to_owned()));
        f.write_str(&ways.join(" or "))
    }
}

impl Proof {
    pub fn is_empty(&self) -> bool {
        self.keys.is_none() && self.links.is_none() && self.tokens.is_none()
    }

    /// What to bring, for those who brought nothing.
    fn wanted(&self) -> String {
        let ways = [
            (self.keys.is_some(), "a key (?key=..)"),
            (self.links.is_some(), "a signed link (?exp=..&sig=..)"),
            (self.tokens.is_some(), "a token (?token=..)"),
        ];
        let ways = ways.iter().filter(|(counts, _)| *counts).map(|(_, way)| *way).collect::<Vec<_>>();
        format!("{} is needed behind the stream's name", ways.join(" or "))
    }
}
