//! Static keys: a file with one on each line, `NAME sha256:SALT:HEX [STREAMS..]`, of which the key itself is only known to who
//! uses it.
//!
//! `HEX` is the SHA-256 of `SALT:KEY`. A hash that fast protects only what cannot be guessed, so keys are random and long:
//! `shardcast key` makes them, and refuses to hash what is shorter than [`KEY_BYTES_MIN`]. A key for some streams only has their
//! patterns behind it. A key that is brought is compared with all of the file, and no comparison ends early: the time it takes
//! tells nothing of keys. Bounds: [`KEYS_MAX`].

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::{
    Credential,
    lines::{LineError, check_name, entries},
};
use crate::{
    limits::{KEY_BYTES_MAX, KEY_BYTES_MIN, KEY_NAME_BYTES_MAX, KEYS_MAX},
    relay::pattern::Pattern,
    rtmp::hex::{from_hex, to_hex},
    rtmp::key::StreamKey,
};

const SCHEME: &str = "sha256";

type Hash = [u8; 32];

/// See the file's head. Its `Debug` shows names only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Keys(Vec<Key>);

#[derive(Clone, PartialEq, Eq)]
struct Key {
    name: String,
    salt: String,
    hash: Hash,
    /// None: all.
    streams: Vec<Pattern>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    #[error("the key is wrong")]
    Wrong,
    #[error("the key is not for this stream")]
    OtherStream,
}

impl Keys {
    pub fn parse(text: &str) -> Result<Self, LineError> {
        let mut keys: Vec<Key> = Vec::new();
        for (line, words) in entries(text) {
            let key = key(&words).map_err(|fault| LineError::new(line, fault))?;
            if keys.iter().any(|earlier| earlier.name == key.name) {
                return Err(LineError::new(line, format!("a key named {} stands above", key.name)));
            }
            if keys.len() == KEYS_MAX {
                return Err(LineError::new(
                    line,
                    format!("more than {KEYS_MAX} keys; use links or tokens for so many"),
                ));
            }
            keys.push(key);
        }
        Ok(Self(keys))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whose word `offered` is for the stream.
    pub fn check(&self, offered: &str, stream: &StreamKey) -> Result<Credential, KeyFault> {
        // Hashing is what costs, and only the length of what was brought is told by leaving it.
        if offered.len() > KEY_BYTES_MAX {
            return Err(KeyFault::Wrong);
        }
        let (mut known, mut fits) = (Choice::from(0), Choice::from(0));
        for key in &self.0 {
            let same = digest(&key.salt, offered).ct_eq(&key.hash);
            let its_streams = key.streams.is_empty() || key.streams.iter().any(|streams| streams.matches(stream));
            known |= same;
            fits |= same & Choice::from(u8::from(its_streams));
        }
        match (bool::from(fits), bool::from(known)) {
            // The key, not its line: it stays the same where a file is written anew.
            (true, _) => Ok(Credential::of("key", &[offered.as_bytes()])),
            (false, true) => Err(KeyFault::OtherStream),
            (false, false) => Err(KeyFault::Wrong),
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.name)).finish()
    }
}

fn key(words: &[&str]) -> Result<Key, String> {
    let form = || format!("expected NAME {SCHEME}:SALT:HASH [STREAMS..], as shardcast key makes it");
    let [name, hashed, streams @ ..] = words else { return Err(form()) };
    check_name(name)?;
    let mut parts = hashed.split(':');
    let (Some(SCHEME), Some(salt), Some(hex), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(form());
    };
    if salt.is_empty() || salt.len() > KEY_NAME_BYTES_MAX {
        return Err(format!("a salt has 1 to {KEY_NAME_BYTES_MAX} bytes"));
    }
    let hash = from_hex(hex).ok_or_else(|| "expected 64 hexadecimal digits behind the salt".to_owned())?;
    let pattern = |text: &&str| Pattern::parse(text).map_err(|why| format!("{text:?}: {why}"));
    let streams = streams.iter().map(pattern).collect::<Result<_, _>>()?;
    Ok(Key { name: (*name).to_owned(), salt: salt.to_owned(), hash, streams })
}

/// The line of a file for a key. `salt` is random and plain text.
pub fn line(name: &str, key: &str, salt: &str, streams: &[String]) -> Result<String, String> {
    if key.len() < KEY_BYTES_MIN {
        return Err(format!("a key has {KEY_BYTES_MIN} bytes at least, and random ones: shorter ones can be guessed"));
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(format!("a key has {KEY_BYTES_MAX} bytes at most"));
    }
    if key.bytes().any(|byte| !byte.is_ascii_graphic() || matches!(byte, b'&' | b'?' | b'%' | b'#')) {
        return Err("a key stands in URLs: ASCII letters and digits, no blanks, none of & ? % #".to_owned());
    }
    let hex = to_hex(&digest(salt, key));
    let line = [&[name.to_owned(), format!("{SCHEME}:{salt}:{hex}")], streams].concat().join(" ");
    Keys::parse(&line).map(|_| line).map_err(|error| error.fault)
}

fn digest(salt: &str, key: &str) -> Hash {
    Sha256::new().chain_update(salt).chain_update(":").chain_update(key).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "correct-horse-battery";

    fn stream(text: &str) -> StreamKey {
        let (app, name) = text.rsplit_once('/').unwrap();
        StreamKey::new("", app, name).unwrap()
    }

    fn made(name: &str, key: &str, streams: &[&str]) -> String {
        line(name, key, "salt", &streams.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_key_is_known_by_its_hash() {
        // printf 'salt:correct-horse-battery' | sha256sum
        let line = "studio sha256:salt:HASH".replace("HASH", KNOWN);
        assert_eq!(made("studio", KEY, &[]), line);
        let keys = Keys::parse(&format!("# ours\n\n{line}\n{}", made("b", "another-long-key!", &[]))).unwrap();
        let show = stream("live/show");
        let ours = keys.check(KEY, &show).unwrap();
        assert_eq!(keys.check(KEY, &stream("live/other")), Ok(ours));
        assert_ne!(keys.check("another-long-key!", &show), Ok(ours));
        for wrong in ["", "salt", "correct-horse-batter", "correct-horse-battery ", KNOWN] {
            assert_eq!(keys.check(wrong, &show), Err(KeyFault::Wrong), "{wrong}");
        }
        assert_eq!(Keys::default().check(KEY, &show), Err(KeyFault::Wrong));
    }

    const KNOWN: &str = "6190e4d27ac60782cd44997b47912b7c7d5cd31adddbc21e50222401af24f12d";

    #[test]
    fn a_key_may_be_for_some_streams() {
        let lines = [made("a", KEY, &["live/a", "vod"]), made("b", "another-long-key!", &[])].join("\n");
        let keys = Keys::parse(&lines).unwrap();
        for (name, expected) in [("live/a", true), ("vod/x", true), ("live/b", false), ("vods/x", false)] {
            let checked = keys.check(KEY, &stream(name)).map(drop);
            assert_eq!(checked, if expected { Ok(()) } else { Err(KeyFault::OtherStream) }, "{name}");
        }
        let twice = [made("a", KEY, &["live/a"]), made("b", KEY, &["live/b"])].join("\n");
        let keys = Keys::parse(&twice).unwrap();
        assert!(keys.check(KEY, &stream("live/a")).is_ok() && keys.check(KEY, &stream("live/b")).is_ok());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_and_without_the_hash() {
        let good = made("a", KEY, &[]);
        for (text, expected) in [
            ("a".to_owned(), "line 1: expected NAME sha256:"),
            (format!("\n{KEY}\n"), "line 2: expected NAME sha256:"),
            (format!("a {KEY}"), "line 1: expected NAME sha256:"),
            ("a md5:salt:00".to_owned(), "line 1: expected NAME sha256:"),
            (format!("{good}:x"), "line 1: expected NAME sha256:"),
            ("a sha256:salt:00".to_owned(), "line 1: expected 64 hexadecimal digits"),
            (format!("a sha256::{KNOWN}"), "line 1: a salt has"),
            (format!("{good}z"), "line 1: expected 64 hexadecimal digits"),
            (format!("ä{good}"), "line 1: a name has"),
            (format!("# x\n{good}\n{good}"), "line 3: a key named a stands above"),
            (format!("{good} live/../x"), "line 1: \"live/../x\": "),
        ] {
            let said = Keys::parse(&text).unwrap_err().to_string();
            assert!(said.starts_with(expected) && !said.contains(KNOWN) && !said.contains(KEY), "{text}: {said}");
        }
        let many = (0..=KEYS_MAX).map(|n| good.replacen('a', &format!("a{n}"), 1)).collect::<Vec<_>>();
        assert!(Keys::parse(&many.join("\n")).unwrap_err().to_string().contains("more than 1000 keys"));
        assert_eq!(Keys::parse(&many[..KEYS_MAX].join("\n")).unwrap().len(), KEYS_MAX);
    }

    #[test]
    fn a_key_that_could_be_guessed_is_not_hashed() {
        assert!(line("a", "hunter2", "s", &[]).unwrap_err().contains("16 bytes at least"));
        assert!(line("a", "sixteen letters?", "s", &[]).unwrap_err().contains("no blanks"));
        assert!(line("a b", KEY, "s", &[]).is_err() && line("a", KEY, "s", &["a//b//c".to_owned()]).is_err());
    }

    #[test]
    fn every_truncation_is_keys_or_a_fault_of_its_line() {
        let text = format!("# käse\n{}\n{}\n", made("a", KEY, &["live/a*"]), made("b", KEY, &[]));
        for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            match Keys::parse(&text[..end]) {
                Ok(keys) => assert!(keys.len() <= 2),
                Err(error) => assert!((2..=3).contains(&error.line)),
            }
        }
    }

    #[test]
    fn keys_are_not_shown() {
        let keys = Keys::parse(&made("studio", KEY, &[])).unwrap();
        assert_eq!(format!("{keys:?}"), "[\"studio\"]");
    }
}
