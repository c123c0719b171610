//! Secrets that sign: a file with one on each line, `[NAME] SECRET`. The first signs, all verify.
//!
//! That is how one is replaced by another: the new one goes on top, and the old one out when what it signed has run out. The
//! name stands in what is signed (`kid`), so that only that secret is tried. Refused: secrets shorter than
//! [`SIGN_SECRET_BYTES_MIN`]. Bound: [`VERIFY_KEYS_MAX`].

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::lines::{LineError, check_name, entries};
use crate::limits::{SIGN_SECRET_BYTES_MIN, VERIFY_KEYS_MAX};

/// See the file's head. Its `Debug` shows names only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SignSecrets(Vec<SignSecret>);

#[derive(Clone, PartialEq, Eq)]
pub struct SignSecret {
    name: Option<String>,
    secret: String,
}

impl SignSecrets {
    pub fn parse(text: &str) -> Result<Self, LineError> {
        let mut secrets: Vec<SignSecret> = Vec::new();
        for (line, words) in entries(text) {
            let secret = secret(&words).map_err(|fault| LineError::new(line, fault))?;
            if secrets.iter().any(|earlier| earlier.name == secret.name) {
                return Err(LineError::new(line, "two secrets need two names: write NAME SECRET"));
            }
            if secrets.len() == VERIFY_KEYS_MAX {
                let why = format!("more than {VERIFY_KEYS_MAX} secrets; take out those that sign nothing any more");
                return Err(LineError::new(line, why));
            }
            secrets.push(secret);
        }
        Ok(Self(secrets))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one that signs.
    pub fn first(&self) -> Option<&SignSecret> {
        self.0.first()
    }

    /// That of the name, or all where none is named so.
    pub(super) fn candidates(&self, name: Option<&str>) -> impl Iterator<Item = &SignSecret> {
        let named = name.and_then(|name| self.0.iter().find(|secret| secret.name.as_deref() == Some(name)));
        self.0.iter().filter(move |secret| named.is_none_or(|named| std::ptr::eq(named, *secret)))
    }
}

impl SignSecret {
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; 32] {
        self.mac(message).finalize().into_bytes().into()
    }

    /// In constant time.
    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        self.mac(message).verify_slice(signature).is_ok()
    }

    fn mac(&self, message: &[u8]) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).expect("HMAC takes keys of any length");
        mac.chain_update(message)
    }
}

impl fmt::Debug for SignSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|secret| secret.name().unwrap_or("(unnamed)"))).finish()
    }
}

fn secret(words: &[&str]) -> Result<SignSecret, String> {
    let (name, secret) = match words {
        [secret] => (None, *secret),
        [name, secret] => (Some(*name), *secret),
        _ => return Err("expected [NAME] SECRET, which has no blanks".to_owned()),
    };
    name.map_or(Ok(()), check_name)?;
    if secret.len() < SIGN_SECRET_BYTES_MIN {
        return Err(format!(
            "a secret has {SIGN_SECRET_BYTES_MIN} bytes at least, and random ones: shardcast key --secret makes one"
        ));
    }
    Ok(SignSecret { name: name.map(str::to_owned), secret: secret.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_signs_and_all_are_candidates() {
        let text = "# since May\nnew 0123456789abcdef\nold fedcba9876543210\n";
        let secrets = SignSecrets::parse(text).unwrap();
        assert_eq!(secrets.first().unwrap().name(), Some("new"));
        let candidates = |name| secrets.candidates(name).filter_map(SignSecret::name).collect::<Vec<_>>().join(" ");
        assert_eq!([candidates(None), candidates(Some("old")), candidates(Some("x"))], ["new old", "old", "new old"]);
        let (new, old) = (secrets.first().unwrap(), secrets.candidates(Some("old")).next().unwrap());
        assert!(new.has_signed(b"x", &new.sign(b"x")) && !new.has_signed(b"x", &old.sign(b"x")));
        assert!(!new.has_signed(b"x", &new.sign(b"y")) && !new.has_signed(b"x", &new.sign(b"x")[..31]));
        assert_eq!(format!("{secrets:?}"), "[\"new\", \"old\"]");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_and_without_the_secret() {
        let pearl = "pearl-pearl-pearl";
        for (text, expected) in [
            ("short".to_owned(), "line 1: a secret has 16 bytes at least"),
            (format!("a {pearl} c"), "line 1: expected [NAME] SECRET"),
            (format!("ä {pearl}"), "line 1: a name has"),
            (format!("{pearl}\n\n{pearl}2"), "line 3: two secrets need two names"),
            (format!("a {pearl}\na {pearl}2"), "line 2: two secrets need two names"),
        ] {
            let said = SignSecrets::parse(&text).unwrap_err().to_string();
            assert!(said.starts_with(expected) && !said.contains(pearl), "{said}");
        }
        let many = (0..=VERIFY_KEYS_MAX).map(|n| format!("n{n} {pearl}\n")).collect::<String>();
        assert!(SignSecrets::parse(&many).unwrap_err().to_string().starts_with("line 17: more than 16"));
        assert!(SignSecrets::parse("# nothing\n").unwrap().is_empty());
    }
}
