//! What a token claims, held against what is asked for.

use serde::Deserialize;

use super::TokenFault;
use crate::{
    access::{Action, Credential},
    limits::TOKEN_LEEWAY,
    relay::pattern::Pattern,
    rtmp::key::StreamKey,
};

#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    /// Seconds since 1970; fractions are allowed (RFC 7519, section 2, NumericDate).
    exp: Option<f64>,
    nbf: Option<f64>,
    iss: Option<String>,
    aud: Option<OneOrMore>,
    sub: Option<String>,
    app: Option<String>,
    stream: Option<String>,
    action: Option<OneOrMore>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn has(&self, text: &str) -> bool {
        match self {
            Self::One(one) => one == text,
            Self::More(all) => all.iter().any(|one| one == text),
        }
    }
}

impl Claims {
    pub(super) fn check_time(&self, unix_s: u64) -> Result<(), TokenFault> {
        let (now, leeway) = (unix_s as f64, TOKEN_LEEWAY.as_secs_f64());
        if now >= self.exp.ok_or(TokenFault::Endless)? + leeway {
            return Err(TokenFault::Expired);
        }
        match self.nbf {
            Some(nbf) if now < nbf - leeway => Err(TokenFault::Early),
            _ => Ok(()),
        }
    }

    /// A token that names an audience is refused by those who are not of it (RFC 7519, section 4.1.3).
    pub(super) fn check_origin(&self, issuer: Option<&str>, audience: Option<&str>) -> Result<(), TokenFault> {
        if issuer.is_some() && issuer != self.iss.as_deref() {
            return Err(TokenFault::Issuer);
        }
        match (&self.aud, audience) {
            (None, None) => Ok(()),
            (Some(aud), Some(audience)) if aud.has(audience) => Ok(()),
            _ => Err(TokenFault::Audience),
        }
    }

    pub(super) fn check_right(&self, action: Action, key: &StreamKey) -> Result<(), TokenFault> {
        let streams = match (&self.app, &self.stream) {
            (None, None) => return Err(TokenFault::NoStreams),
            (None, Some(stream)) => stream.clone(),
            (Some(app), None) => format!("{app}/*"),
            (Some(app), Some(stream)) => format!("{app}/{stream}"),
        };
        if !Pattern::parse(&streams).map_err(|_| TokenFault::Streams)?.matches(key) {
            return Err(TokenFault::OtherStream);
        }
        let allowed = self.action.as_ref().is_some_and(|allowed| allowed.has(action.name()));
        if allowed { Ok(()) } else { Err(TokenFault::OtherAction) }
    }

    /// That of its subject: of two tokens without one nobody knows whether they are the same person's.
    pub(super) fn credential(&self) -> Option<Credential> {
        let subject = self.sub.as_ref()?;
        Some(Credential::of("token", &[self.iss.as_deref().unwrap_or_default().as_bytes(), subject.as_bytes()]))
    }
}
