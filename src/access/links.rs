//! Signed links: a URL with `?exp=SECONDS&sig=SIGNATURE`, and `&ip=NETWORK` and `&kid=NAME` if need be.
//!
//! Who has the secret hands links out; the node only verifies them. Signed (HMAC-SHA256) are five lines, each with a newline
//! at its end: `shardcast-link-1`, `publish` or `play`, the stream (`app/name`, or `vhost//app/name`), `exp`, and `ip` as in
//! the link or nothing. `SIGNATURE` is base64url without padding, or hexadecimal. Whether a link has run out, or is for another
//! address, is only said of one that is genuine.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    Action, Ask, Credential,
    network::Network,
    offer,
    secrets::{SignSecret, SignSecrets},
};
use crate::rtmp::{hex::from_hex, key::StreamKey};

/// Its first line: another way to sign has another one.
const VERSION: &str = "shardcast-link-1";

/// What is signed, but for who signs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link<'a> {
    pub action: Action,
    pub stream: &'a StreamKey,
    /// Seconds since 1970 from which on it is void.
    pub exp: u64,
    /// As written. Empty: good from everywhere.
    pub ip: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkFault {
    #[error("the link is not whole: it needs exp, a number, and sig")]
    Form,
    #[error(
        "the link's signature does not fit: it is for another stream or action, or was changed, or made with another secret"
    )]
    Signature,
    #[error("the link has run out")]
    Expired,
    #[error("the link is for another address")]
    Address,
}

impl Link<'_> {
    fn text(&self) -> String {
        // No part has a newline: none is in a stream's name, and `ip` is refused with one.
        format!("{VERSION}\n{}\n{}\n{}\n{}\n", self.action.name(), self.stream, self.exp, self.ip)
    }

    /// The parameters that make a URL a link.
    pub fn signed(&self, secret: &SignSecret) -> String {
        let mut query = format!("exp={}", self.exp);
        // FFmpeg takes a slash in a query for one of the path.
        let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        if !self.ip.is_empty() {
            query += &format!("&ip={}", escaped(self.ip));
        }
        if let Some(name) = secret.name() {
            query += &format!("&kid={}", escaped(name));
        }
        query + "&sig=" + &URL_SAFE_NO_PAD.encode(secret.sign(self.text().as_bytes()))
    }
}

/// Whose word the link in `ask` is; `None` if there is none.
pub fn verify(secrets: &SignSecrets, ask: &Ask<'_>) -> Option<Result<Credential, LinkFault>> {
    let signature = offer::value(ask, &["sig"])?;
    let exp = offer::value(ask, &["exp"]);
    let ip = offer::value(ask, &["ip"]).unwrap_or_default();
    let kid = offer::value(ask, &["kid"]);
    Some(genuine(secrets, ask, exp.as_deref(), &ip, kid.as_deref(), &signature))
}

fn genuine(
    secrets: &SignSecrets,
    ask: &Ask<'_>,
    exp: Option<&str>,
    ip: &str,
    kid: Option<&str>,
    signature: &str,
) -> Result<Credential, LinkFault> {
    let exp = exp.filter(|exp| exp.bytes().all(|byte| byte.is_ascii_digit()));
    let exp: u64 = exp.and_then(|exp| exp.parse().ok()).ok_or(LinkFault::Form)?;
    let signature = from_hex(signature).map(Vec::from).or_else(|| URL_SAFE_NO_PAD.decode(signature).ok());
    let signature = signature.ok_or(LinkFault::Form)?;
    let network = match ip {
        "" => None,
        ip => Some(Network::parse(ip).map_err(|_| LinkFault::Form)?),
    };
    let text = Link { action: ask.action, stream: ask.key, exp, ip }.text();
    let signer = secrets.candidates(kid).find(|secret| secret.has_signed(text.as_bytes(), &signature));
    signer.ok_or(LinkFault::Signature)?;
    // Its own, not the secret's: all whom the operator gives links to have the same secret behind them.
    let credential = Credential::of("link", &[&signature]);
    if ask.unix_s >= exp {
        return Err(LinkFault::Expired);
    }
    if network.is_some_and(|network| !network.contains(ask.peer)) {
        return Err(LinkFault::Address);
    }
    Ok(credential)
}

/// Whether `ip` may stand in a link: what its verifier takes.
pub fn check_ip(ip: &str) -> Result<(), String> {
    Network::parse(ip).map(|_: Network| ()).map_err(|why| why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn stream() -> StreamKey {
        StreamKey::new("", "live", "show").unwrap()
    }

    fn secrets(text: &str) -> SignSecrets {
        SignSecrets::parse(text).unwrap()
    }

    fn checked(secrets: &SignSecrets, action: Action, query: &str, peer: &str, unix_s: u64) -> Result<(), LinkFault> {
        let key = stream();
        let peer = peer.parse().unwrap();
        let ask = Ask { action, key: &key, app: "live", tc_url: "", query, peer, unix_s };
        verify(secrets, &ask).expect("it has a signature").map(drop)
    }

    fn link(exp: u64, ip: &str, secrets: &SignSecrets) -> String {
        Link { action: Action::Play, stream: &stream(), exp, ip }.signed(secrets.first().unwrap())
    }

    #[test]
    fn the_signature_is_that_of_the_guide() {
        // printf 'shardcast-link-1\nplay\nlive/show\n2000000000\n\n' | openssl dgst -sha256 -hmac SECRET
        let secrets = secrets(SECRET);
        assert_eq!(link(2_000_000_000, "", &secrets), format!("exp=2000000000&sig={KNOWN_BASE64}"));
        for signature in [KNOWN_BASE64, KNOWN_HEX, &KNOWN_HEX.to_uppercase()] {
            let query = format!("x=1&sig={signature}&exp=2000000000");
            assert_eq!(checked(&secrets, Action::Play, &query, "10.0.0.1", 5), Ok(()));
        }
    }

    const KNOWN_HEX: &str = "d36856cfb73517810c8c64d2fe975388d1399ce0fd33eea4abf119bf35306d43";
    const KNOWN_BASE64: &str = "02hWz7c1F4EMjGTS_pdTiNE5nOD9M-6kq_EZvzUwbUM";

    #[test]
    fn a_link_is_good_until_it_runs_out_for_what_it_says() {
        let secrets = secrets(SECRET);
        let good = link(1_000, "", &secrets);
        assert_eq!(checked(&secrets, Action::Play, &good, "10.0.0.1", 999), Ok(()));
        assert_eq!(checked(&secrets, Action::Play, &good, "10.0.0.1", 1_000), Err(LinkFault::Expired));
        assert_eq!(checked(&secrets, Action::Publish, &good, "10.0.0.1", 999), Err(LinkFault::Signature));
        let later = good.replace("exp=1000", "exp=2000");
        assert_eq!(checked(&secrets, Action::Play, &later, "10.0.0.1", 999), Err(LinkFault::Signature));
        // An address that was not signed.
        let bound = format!("{good}&ip=10.0.0.1");
        assert_eq!(checked(&secrets, Action::Play, &bound, "10.0.0.1", 999), Err(LinkFault::Signature));
    }

    #[test]
    fn a_link_may_be_for_a_network() {
        let secrets = secrets(SECRET);
        for (ip, inside, outside) in [
            ("10.0.0.0/8", "::ffff:10.2.3.4", "11.0.0.1"),
            ("10.0.0.1", "10.0.0.1", "10.0.0.2"),
            ("2001:db8::/32", "2001:db8::7", "10.0.0.1"),
        ] {
            let link = link(1_000, ip, &secrets);
            assert!(!link.contains(['/', ':']), "{link}");
            assert_eq!(checked(&secrets, Action::Play, &link, inside, 1), Ok(()), "{link}");
            assert_eq!(checked(&secrets, Action::Play, &link, outside, 1), Err(LinkFault::Address), "{link}");
            let anywhere = link.split('&').filter(|part| !part.starts_with("ip=")).collect::<Vec<_>>().join("&");
            assert_eq!(checked(&secrets, Action::Play, &anywhere, inside, 1), Err(LinkFault::Signature));
        }
    }

    #[test]
    fn each_link_is_a_credential_of_its_own() {
        let secrets = secrets(SECRET);
        let key = stream();
        let credential = |query: &str| {
            let peer = [10, 0, 0, 1].into();
            let ask = Ask { action: Action::Play, key: &key, app: "", tc_url: "", query, peer, unix_s: 1 };
            verify(&secrets, &ask).unwrap().unwrap()
        };
        let (one, other) = (link(1_000, "", &secrets), link(1_001, "", &secrets));
        assert_eq!(credential(&one), credential(&format!("x=1&{one}")));
        assert_ne!(credential(&one), credential(&other));
    }

    #[test]
    fn secrets_can_be_replaced_while_links_are_out() {
        let old = secrets(&format!("old {SECRET}"));
        let both = secrets(&format!("new {SECRET}2\nold {SECRET}"));
        let new = secrets(&format!("new {SECRET}2"));
        let link_of_old = link(1_000, "", &old);
        assert!(link_of_old.contains("&kid=old&"));
        assert_eq!(checked(&both, Action::Play, &link_of_old, "::1", 1), Ok(()));
        assert_eq!(checked(&both, Action::Play, &link(1_000, "", &both), "::1", 1), Ok(()));
        assert_eq!(checked(&new, Action::Play, &link_of_old, "::1", 1), Err(LinkFault::Signature));
        let misnamed = link_of_old.replace("kid=old", "kid=new");
        assert_eq!(checked(&both, Action::Play, &misnamed, "::1", 1), Err(LinkFault::Signature));
        let unnamed = link_of_old.replace("&kid=old", "");
        assert_eq!(checked(&both, Action::Play, &unnamed, "::1", 1), Ok(()));
    }

    #[test]
    fn no_change_of_a_link_is_good() {
        let secrets = secrets(SECRET);
        let good = link(1_000, "10.0.0.0/8", &secrets);
        let taken = |query: &str| {
            let key = stream();
            let peer = [10, 0, 0, 1].into();
            let ask = Ask { action: Action::Play, key: &key, app: "", tc_url: "", query, peer, unix_s: 1 };
            verify(&secrets, &ask).is_some_and(|verified| verified.is_ok())
        };
        assert!(taken(&good));
        for end in 0..good.len() {
            assert!(!taken(&good[..end]), "{end}");
        }
        for (at, old) in good.bytes().enumerate() {
            for new in (b'0'..=b'z').filter(|new| *new != old) {
                let mut changed = good.clone().into_bytes();
                changed[at] = new;
                let changed = String::from_utf8(changed).unwrap();
                // An escape in small letters is the same escape, and a second '?' is taken for a '&'.
                let same = at < good.find("sig").unwrap() && changed.replace('?', "&").eq_ignore_ascii_case(&good);
                assert!(!taken(&changed) || same, "{changed}");
            }
        }
    }

    #[test]
    fn what_is_not_whole_is_said_to_be_so() {
        let secrets = secrets(SECRET);
        for query in
            ["sig=x", "sig=x&exp=1", "sig=AAAA&exp=+1", "sig=AAAA&exp=-1", "sig=AAAA&exp=1&ip=x", "sig=AAAA&exp="]
        {
            assert_eq!(checked(&secrets, Action::Play, query, "::1", 0), Err(LinkFault::Form), "{query}");
        }
        assert_eq!(checked(&secrets, Action::Play, "sig=AAAA&exp=1", "::1", 0), Err(LinkFault::Signature));
    }
}
