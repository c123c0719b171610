//! Streams by name: `app/name` with `*` for any run of characters, slashes too.
//!
//! `live` alone means `live/*`, and `*` alone every stream; a stream without an app is `/name`. A vhost stands in front as
//! in a [`StreamKey`]: `vhost//app/name`, where the vhost may have `*` as well. A pattern without a vhost means streams
//! without one only: who keeps vhosts apart does not want one's rules to be the other's. Bounded by
//! [`STREAM_KEY_BYTES_MAX`]; matching takes time linear in the name.

use std::fmt;

use crate::{limits::STREAM_KEY_BYTES_MAX, rtmp::key::StreamKey};

/// See the file's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    vhost: Option<Glob>,
    path: Glob,
}

/// What is wrong with a pattern, and at which of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault} (at byte {at})")]
pub struct PatternError {
    /// From 0.
    pub at: usize,
    pub fault: PatternFault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternFault {
    #[error("the pattern is empty: write app/name, app/* or * for all streams")]
    Empty,
    #[error("the pattern is longer than {STREAM_KEY_BYTES_MAX} bytes, which no stream's name is")]
    TooLong,
    #[error("no stream's name has a control character, a backslash or a '?' here")]
    Character,
    #[error("no stream's name has an empty, '.' or '..' segment")]
    Segment,
}

/// Text with `*` for any run of characters.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Glob(String);

impl Pattern {
    /// Every stream without a vhost, `*`.
    pub fn all() -> Self {
        Self { text: "*".to_owned(), vhost: None, path: Glob("*".to_owned()) }
    }

    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let fault = |at, fault| Err(PatternError { at, fault });
        if text.is_empty() {
            return fault(0, PatternFault::Empty);
        }
        if text.len() > STREAM_KEY_BYTES_MAX {
            return fault(STREAM_KEY_BYTES_MAX, PatternFault::TooLong);
        }
        if let Some(at) = text.find(|c: char| c.is_control() || matches!(c, '\\' | '?')) {
            return fault(at, PatternFault::Character);
        }
        let (vhost, path) = match text.split_once("//") {
            Some((vhost, path)) => (Some(vhost), path),
            None => (None, text),
        };
        let path_at = text.len() - path.len();
        if let Some(vhost) = vhost {
            check(vhost, 0)?;
            if let Some(at) = vhost.find('/') {
                return fault(at, PatternFault::Segment);
            }
        }
        let path = match path.strip_prefix('/') {
            Some(name) => {
                check(name, path_at + 1)?;
                name.to_owned()
            }
            None => {
                check(path, path_at)?;
                if path == "*" || path.contains('/') { path.to_owned() } else { format!("{path}/*") }
            }
        };
        Ok(Self { text: text.to_owned(), vhost: vhost.map(|vhost| Glob(vhost.to_owned())), path: Glob(path) })
    }

    pub fn matches(&self, key: &StreamKey) -> bool {
        let key = key.as_str();
        match key.split_once("//") {
            Some((vhost, path)) => self.matches_parts(Some(vhost), path),
            None => self.matches_parts(None, key),
        }
    }

    /// Whether it names one stream.
    pub fn is_exact(&self) -> bool {
        !self.path.has_runs() && !self.vhost.as_ref().is_some_and(Glob::has_runs)
    }

    /// The stream it names, if it names one.
    pub fn key(&self) -> Option<StreamKey> {
        if !self.is_exact() {
            return None;
        }
        let escaped = |text: &str| text.replace('%', "%25");
        let (app, name) = self.path.0.rsplit_once('/').unwrap_or(("", &self.path.0));
        let vhost = self.vhost.as_ref().map(|vhost| format!("?vhost={}", vhost.0)).unwrap_or_default();
        let key = StreamKey::new("", &format!("{}{vhost}", escaped(app)), &escaped(name)).ok()?;
        self.matches(&key).then_some(key)
    }

    /// Whether every stream of `other` is also one of this pattern's.
    pub fn covers(&self, other: &Self) -> bool {
        // A run of the other's is matched only by a run of this one's: no letter of it is a star.
        self.matches_parts(other.vhost.as_ref().map(|vhost| vhost.0.as_str()), &other.path.0)
    }

    fn matches_parts(&self, vhost: Option<&str>, path: &str) -> bool {
        let same_vhost = match (&self.vhost, vhost) {
            (Some(glob), Some(vhost)) => glob.matches(vhost),
            (None, None) => true,
            _ => false,
        };
        same_vhost && self.path.matches(path)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Glob {
    fn has_runs(&self) -> bool {
        self.0.contains('*')
    }

    /// What stands between two runs is taken where it is found first: if that leads nowhere, later does not either.
    fn matches(&self, text: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else { return self.0 == text };
        let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        let Some(text) = text.strip_prefix(first) else { return false };
        let Some(mut text) = text.strip_suffix(last) else { return false };
        for part in middle.split('*') {
            let Some(at) = text.find(part) else { return false };
            text = &text[at + part.len()..];
        }
        true
    }
}

fn check(path: &str, mut at: usize) -> Result<(), PatternError> {
    for segment in path.split('/') {
        if matches!(segment, "" | "." | "..") {
            return Err(PatternError { at, fault: PatternFault::Segment });
        }
        at += segment.len() + 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(app: &str, name: &str) -> StreamKey {
        StreamKey::new("", app, name).unwrap()
    }

    fn matches(pattern: &str, key: &StreamKey) -> bool {
        Pattern::parse(pattern).unwrap().matches(key)
    }

    #[test]
    fn a_pattern_names_streams() {
        let show = key("live", "show");
        for pattern in ["live/show", "live/*", "live", "*", "*/show", "l*/s*w", "live/show*", "*live/show", "l*e/*o*"] {
            assert!(matches(pattern, &show), "{pattern}");
        }
        for pattern in ["live/shows", "live/how", "liv", "ive/*", "live/*w*w", "live/show/*", "/show", "li*ive/show"] {
            assert!(!matches(pattern, &show), "{pattern}");
        }
        assert!(matches("live", &key("live", "a/b")));
        assert!(!matches("live", &key("lives", "a")));
        assert!(matches("/show", &key("", "show")) && matches("*", &key("", "show")));
        assert!(!matches("show", &key("", "show")));
    }

    #[test]
    fn vhosts_are_apart() {
        let show = key("live?vhost=v.example", "show");
        for pattern in ["v.example//live/show", "v.example//live", "*//*", "v.*//live/*", "v.example//*"] {
            assert!(matches(pattern, &show), "{pattern}");
            assert!(!matches(pattern, &key("live", "show")), "{pattern}");
        }
        for pattern in ["live/show", "*", "*/show", "w//live/show"] {
            assert!(!matches(pattern, &show), "{pattern}");
        }
    }

    #[test]
    fn an_exact_pattern_is_a_stream() {
        for text in ["live/show", "v//live/show", "a/b/c", "/show", "live/100%41"] {
            let pattern = Pattern::parse(text).unwrap();
            let key = pattern.key().unwrap();
            assert!(pattern.is_exact() && pattern.matches(&key));
            assert_eq!(key.as_str(), text.strip_prefix('/').unwrap_or(text));
            assert_eq!(pattern.to_string(), text);
        }
        for text in ["live", "*", "live/*", "*//live/show"] {
            let pattern = Pattern::parse(text).unwrap();
            assert!(!pattern.is_exact() && pattern.key().is_none(), "{text}");
        }
    }

    #[test]
    fn a_wider_pattern_covers_a_narrower_one() {
        let covers = |wide: &str, narrow: &str| Pattern::parse(wide).unwrap().covers(&Pattern::parse(narrow).unwrap());
        assert!(covers("*", "live") && covers("live/*", "live/show") && covers("live", "live/a*b"));
        assert!(covers("live/a*", "live/a*b*") && covers("*//live", "v//live/x"));
        assert!(!covers("live/show", "live") && !covers("live/a*", "live/*") && !covers("*", "v//live"));
    }

    #[test]
    fn what_no_stream_is_called_is_refused_where_it_stands() {
        for (text, at, fault) in [
            ("", 0, PatternFault::Empty),
            ("live/", 5, PatternFault::Segment),
            ("live/../x", 5, PatternFault::Segment),
            ("v//", 3, PatternFault::Segment),
            ("//a", 0, PatternFault::Segment),
            ("a/b//c", 1, PatternFault::Segment),
            ("/", 1, PatternFault::Segment),
            ("live/a?b", 6, PatternFault::Character),
            ("live/a\nb", 6, PatternFault::Character),
            ("live\\a", 4, PatternFault::Character),
        ] {
            assert_eq!(Pattern::parse(text), Err(PatternError { at, fault }), "{text:?}");
        }
        let long = "x".repeat(STREAM_KEY_BYTES_MAX + 1);
        assert_eq!(Pattern::parse(&long).unwrap_err().fault, PatternFault::TooLong);
    }

    #[test]
    fn every_truncation_is_a_pattern_or_a_fault() {
        let text = "v*.example//löve*/a*b/*";
        for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            if let Err(error) = Pattern::parse(&text[..end]) {
                assert!(error.at <= end);
            }
        }
    }

    #[test]
    fn globs_agree_with_the_plain_definition() {
        fn plain(glob: &[u8], text: &[u8]) -> bool {
            match glob.split_first() {
                None => text.is_empty(),
                Some((b'*', rest)) => (0..=text.len()).any(|at| plain(rest, &text[at..])),
                Some((byte, rest)) => {
                    text.split_first().is_some_and(|(first, text)| first == byte && plain(rest, text))
                }
            }
        }
        let words = |letters: &[u8], longest: u32| {
            let count = letters.len();
            (0..=longest).flat_map(move |length| (0..count.pow(length)).map(move |n| (n, length))).map({
                let letters = letters.to_vec();
                move |(mut n, length)| {
                    let next = |_| {
                        let letter = letters[n % letters.len()] as char;
                        n /= letters.len();
                        letter
                    };
                    (0..length).map(next).collect::<String>()
                }
            })
        };
        let texts: Vec<String> = words(b"ab", 5).collect();
        for glob in words(b"ab*", 5) {
            let glob = Glob(glob);
            for text in &texts {
                assert_eq!(glob.matches(text), plain(glob.0.as_bytes(), text.as_bytes()), "{glob:?} {text}");
            }
        }
    }
}
