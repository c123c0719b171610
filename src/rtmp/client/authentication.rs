//! Authentication as Flash Media Server's and Limelight's encoders know it: a description of a refused connect asks for it,
//! and the query of the next connect's app and tcUrl answers (`authmod=adobe`, `authmod=llnw`).
//!
//! Both are digests of a password with MD5, worth no more than that: the link's secrecy is TLS's. Nothing of an asking
//! description is passed on but values of printable ASCII. Driven by [`Approach`](super::approach::Approach).

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use md5::{Digest, Md5};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::rtmp::hex::to_hex;

/// A user and a password, as servers that ask for them take them.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub user: String,
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// What would end a user's name in a query.
const RESERVED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'&').add(b'+').add(b'?').add(b'\\');

/// How a server authenticates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Adobe,
    Limelight,
}

/// What a refused connect asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Demand<'a> {
    User(Method),
    Answer(Challenge<'a>),
    /// The answer was wrong, or there is no such user.
    Failed,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge<'a> {
    /// `opaque` is answered in the challenge's place where there is one, and said again.
    Adobe {
        salt: &'a str,
        challenge: &'a str,
        opaque: Option<&'a str>,
    },
    Limelight {
        nonce: &'a str,
    },
}

impl<'a> Demand<'a> {
    /// Reads a description: `[ AccessManager.Reject ] : [ code=403 need auth; authmod=adobe ] :`, then
    /// `[ .. ] : [ authmod=adobe ] : ?reason=needauth&user=..&salt=..&challenge=..&opaque=..`. `None` if it is no demand.
    pub(super) fn read(description: &'a str) -> Option<Self> {
        let method = match description {
            _ if description.contains("authmod=adobe") => Method::Adobe,
            _ if description.contains("authmod=llnw") => Method::Limelight,
            _ => return None,
        };
        let Some((_, query)) = description.split_once("?reason=") else {
            return description.contains("code=403 need auth").then_some(Self::User(method));
        };
        let query = query.trim_end();
        let mut values = query.split('&');
        match values.next() {
            Some("needauth") => {}
            Some("authfailed" | "nosuchuser") => return Some(Self::Failed),
            _ => return None,
        }
        let is_sound = |value: &&str| value.bytes().all(|byte| byte.is_ascii_graphic());
        let named = |name| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value).filter(is_sound)
        };
        Some(Self::Answer(match method {
            Method::Adobe => Challenge::Adobe {
                salt: named("salt")?,
                challenge: named("challenge").unwrap_or_default(),
                opaque: named("opaque"),
            },
            Method::Limelight => Challenge::Limelight { nonce: named("nonce")? },
        }))
    }
}

impl Credentials {
    /// The query that says who connects.
    pub(super) fn introduction(&self, method: Method) -> String {
        let user = utf8_percent_encode(&self.user, RESERVED);
        match method {
            Method::Adobe => format!("authmod=adobe&user={user}"),
            Method::Limelight => format!("authmod=llnw&user={user}"),
        }
    }

    /// The query that answers a challenge to connect to `app`. `nonce` is used for this answer alone.
    pub(super) fn answer(&self, challenge: &Challenge<'_>, app: &str, nonce: u32) -> String {
        let Self { user, password } = self;
        let own = format!("{nonce:08x}");
        match challenge {
            Challenge::Adobe { salt, challenge, opaque } => {
                let secret = BASE64.encode(Md5::digest([user, *salt, password].concat()));
                let response = BASE64.encode(Md5::digest([&secret, opaque.unwrap_or(challenge), &own].concat()));
                let opaque = opaque.map_or_else(String::new, |opaque| format!("&opaque={opaque}"));
                format!("{}&challenge={own}&response={response}{opaque}", self.introduction(Method::Adobe))
            }
            Challenge::Limelight { nonce } => {
                const COUNT: &str = "00000001";
                let app = app.split('?').next().unwrap_or_default();
                let instance = if app.contains('/') { "" } else { "/_definst_" };
                let secret = hexadecimal(&format!("{user}:live:{password}"));
                let request = hexadecimal(&format!("publish:/{app}{instance}"));
                let response = hexadecimal(&format!("{secret}:{nonce}:{COUNT}:{own}:auth:{request}"));
                let user = self.introduction(Method::Limelight);
                format!("{user}&nonce={nonce}&cnonce={own}&nc={COUNT}&response={response}")
            }
        }
    }
}

/// The digest of a text, as text.
fn hexadecimal(text: &str) -> String {
    to_hex(&Md5::digest(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADOBE: &str = "[ AccessManager.Reject ] : [ authmod=adobe ] : ?reason=needauth&user=camera&salt=s4lt&challenge=ch4l&opaque=0paque=";
    const LIMELIGHT: &str = "[ AccessManager.Reject ] : [ authmod=llnw ] : ?reason=needauth&nonce=n0nce";

    fn credentials() -> Credentials {
        Credentials { user: "camera".into(), password: "let me in".into() }
    }

    fn challenge(description: &str) -> Challenge<'_> {
        match Demand::read(description) {
            Some(Demand::Answer(challenge)) => challenge,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn demands_are_read() {
        let first = "[ AccessManager.Reject ] : [ code=403 need auth; authmod=adobe ] : ";
        assert_eq!(Demand::read(first), Some(Demand::User(Method::Adobe)));
        assert_eq!(Demand::read(&first.replace("adobe", "llnw")), Some(Demand::User(Method::Limelight)));
        let (salt, challenged, opaque) = ("s4lt", "ch4l", Some("0paque="));
        assert_eq!(challenge(ADOBE), Challenge::Adobe { salt, challenge: challenged, opaque });
        assert_eq!(challenge(LIMELIGHT), Challenge::Limelight { nonce: "n0nce" });
        for failed in ["authmod=adobe ?reason=authfailed&opaque=x", "authmod=llnw ?reason=nosuchuser"] {
            assert_eq!(Demand::read(failed), Some(Demand::Failed));
        }
        for other in ["", "?reason=needauth&salt=1", "authmod=adobe", "authmod=adobe ?reason=needauth&salt=\u{1}"] {
            assert_eq!(Demand::read(other), None, "{other:?}");
        }
    }

    #[test]
    fn every_truncation_of_a_demand_is_one_or_none() {
        for whole in [ADOBE, LIMELIGHT] {
            for end in 0..whole.len() {
                let demand = Demand::read(&whole[..end]);
                let method_ends = whole.find(" ]  :").unwrap_or(whole.find(" ] : ?").unwrap());
                assert!(end >= method_ends || demand.is_none(), "{end}: {demand:?}");
            }
        }
    }

    /// Computed by the rules with another implementation of MD5.
    #[test]
    fn answers_are_what_servers_expect() {
        let answer = |description: &str, app| credentials().answer(&challenge(description), app, 42);
        let adobe = "authmod=adobe&user=camera&challenge=0000002a&response=";
        assert_eq!(answer(ADOBE, "live"), format!("{adobe}zN6FjAB3RO5OFYr7HVV7LQ==&opaque=0paque="));
        let plain = ADOBE.replace("&opaque=0paque=", "");
        assert_eq!(answer(&plain, "live"), format!("{adobe}4xR2K5jSZXYAnsZRG8IYZg=="));
        let limelight = "authmod=llnw&user=camera&nonce=n0nce&cnonce=0000002a&nc=00000001&response=";
        assert_eq!(answer(LIMELIGHT, "live?t=1"), format!("{limelight}bfe06a559b58d4414f126e682a66cd1d"));
        assert_eq!(answer(LIMELIGHT, "live/inst"), format!("{limelight}513070cb6c3b072e2626c2b635069945"));
    }

    #[test]
    fn a_users_name_cannot_add_to_the_query() {
        let user = Credentials { user: "a&b=?é".into(), password: String::new() };
        assert_eq!(user.introduction(Method::Adobe), "authmod=adobe&user=a%26b=%3F%C3%A9");
        assert_eq!(format!("{user:?}"), "Credentials(..)");
    }
}
