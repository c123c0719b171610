//! JSON web tokens (RFC 7519) as rights: `?token=HEADER.CLAIMS.SIGNATURE`, signed by HS256, RS256 or EdDSA.
//!
//! What a key is decides what its tokens are signed with; the header's `alg` is only held against that, so that none can be made
//! with a public key as a secret, or unsigned. A token says until when it counts (`exp`), for what (`action`: `publish`, `play`
//! or both) and for which streams (`stream`, a pattern, `app`, or both): one that does not is no right at all, for whoever
//! signs logins with the same key did not mean it to be. `nbf`, `iss` and `aud` count as the RFC has them. Bounds:
//! [`VERIFY_KEYS_MAX`], [`TOKEN_KEYS_TRIED_MAX`] for one token and in one file, and that of the text it comes in.

mod claims;
mod public_key;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

use self::{claims::Claims, public_key::PublicKey};
use super::{Ask, Credential, secrets::SignSecrets};
use crate::limits::{TOKEN_KEYS_TRIED_MAX, VERIFY_KEYS_MAX};

/// See the file's head. Its `Debug` does not show secrets.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    /// Each with the name of its file, without what is behind the dot.
    public: Vec<(String, PublicKey)>,
    secrets: SignSecrets,
    /// What `iss` has to be, if it has to be something.
    pub issuer: Option<String>,
    /// What `aud` has to have, if it has to have something.
    pub audience: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    #[error("the token is none: it has three parts of base64url, the first two of which are JSON")]
    Form,
    #[error("the token's alg is none that a key here has: {}", Algorithm::NAMES)]
    Algorithm,
    #[error("the token has extensions (crit) that are not known here")]
    Critical,
    #[error("the token's signature does not fit any key here")]
    Signature,
    #[error("the token does not say when it runs out (exp)")]
    Endless,
    #[error("the token has run out")]
    Expired,
    #[error("the token does not count yet (nbf)")]
    Early,
    #[error("the token is from another issuer (iss)")]
    Issuer,
    #[error("the token is for another audience (aud)")]
    Audience,
    #[error("the token does not say for which streams it is (stream or app)")]
    NoStreams,
    #[error("the token's streams are no pattern")]
    Streams,
    #[error("the token is for other streams")]
    OtherStream,
    #[error("the token is not for this (action)")]
    OtherAction,
}

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Hs256,
    Rs256,
    Ed25519,
}

impl Algorithm {
    const NAMES: &str = "HS256, RS256 or EdDSA";

    fn of(name: &str) -> Option<Self> {
        match name {
            "HS256" => Some(Self::Hs256),
            "RS256" => Some(Self::Rs256),
            // RFC 8037, and its newer name from RFC 9864.
            "EdDSA" | "Ed25519" => Some(Self::Ed25519),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<serde_json::Value>,
}

impl Tokens {
    /// Takes the keys in a file of the name: public ones as PEM, else secrets as in [`SignSecrets`].
    pub fn add(&mut self, name: &str, text: &str) -> Result<(), String> {
        if text.contains("-----BEGIN") {
            let keys = public_key::of_pem(text)?;
            self.public.extend(keys.into_iter().map(|key| (name.to_owned(), key)));
            // A token that names its file is held against no more, and those behind them would never be tried.
            if self.public.iter().filter(|(of, _)| of == name).count() > TOKEN_KEYS_TRIED_MAX {
                return Err(format!(
                    "more than {TOKEN_KEYS_TRIED_MAX} public keys in files of the name {name}: split them up"
                ));
            }
        } else if self.secrets.is_empty() {
            self.secrets = SignSecrets::parse(text).map_err(|why| why.to_string())?;
        } else {
            return Err("only one file has secrets: put one on each line".to_owned());
        }
        match self.public.len() <= VERIFY_KEYS_MAX {
            true => Ok(()),
            false => Err(format!("more than {VERIFY_KEYS_MAX} keys; take out those that sign nothing any more")),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.public.is_empty() && self.secrets.is_empty()
    }

    /// Whose word `token` is.
    pub fn verify(&self, token: &str, ask: &Ask<'_>) -> Result<Option<Credential>, TokenFault> {
        let claims = self.signed(token)?;
        let claims: Claims = serde_json::from_slice(&claims).map_err(|_| TokenFault::Form)?;
        claims.check_time(ask.unix_s)?;
        claims.check_origin(self.issuer.as_deref(), self.audience.as_deref())?;
        claims.check_right(ask.action, ask.key)?;
        Ok(claims.credential())
    }

    /// The claims as text, if a key here has signed them.
    fn signed(&self, token: &str) -> Result<Vec<u8>, TokenFault> {
        let (message, signature) = token.rsplit_once('.').ok_or(TokenFault::Form)?;
        let (header, claims) = message.split_once('.').ok_or(TokenFault::Form)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenFault::Form);
        let (header, claims, signature) = (decode(header)?, decode(claims)?, decode(signature)?);
        let header: Header = serde_json::from_slice(&header).map_err(|_| TokenFault::Form)?;
        if header.crit.is_some() {
            return Err(TokenFault::Critical);
        }
        let kid = header.kid.as_deref();
        let algorithm = Algorithm::of(&header.alg).ok_or(TokenFault::Algorithm)?;
        let is_signed = match algorithm {
            Algorithm::Hs256 if self.secrets.is_empty() => return Err(TokenFault::Algorithm),
            Algorithm::Hs256 => {
                self.secrets.candidates(kid).any(|secret| secret.has_signed(message.as_bytes(), &signature))
            }
            _ => {
                let of_kind = self.public.iter().filter(|(_, key)| key.algorithm() == algorithm).collect::<Vec<_>>();
                if of_kind.is_empty() {
                    return Err(TokenFault::Algorithm);
                }
                let named = of_kind.iter().any(|(name, _)| Some(name.as_str()) == kid);
                let candidates = of_kind.iter().filter(|(name, _)| !named || Some(name.as_str()) == kid);
                let mut candidates = candidates.take(TOKEN_KEYS_TRIED_MAX);
                candidates.any(|(_, key)| key.has_signed(message.as_bytes(), &signature))
            }
        };
        if is_signed { Ok(claims) } else { Err(TokenFault::Signature) }
    }
}

#[cfg(test)]
pub(super) mod tests;
