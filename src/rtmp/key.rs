//! A stream's identity: vhost, app and name, without credentials.
//!
//! RTMP clients spread one URL over tcUrl, app and stream name, and split it in different places; each part may carry a
//! `?query`. What identifies a stream is the path that remains, `app/name`, and a vhost if one was asked for by
//! `?vhost=` in app, tcUrl or name, as with SRS. The host in tcUrl is an address, not an identity: a node is reached by
//! several. Letters keep their case.

use std::{borrow::Cow, fmt, sync::Arc};

use percent_encoding::percent_decode_str;

use crate::limits::STREAM_KEY_BYTES_MAX;

/// `app/name` or `vhost//app/name`: at most 256 bytes of UTF-8 without controls, backslashes, `?`, or empty, `.` and `..`
/// segments. Cheap to clone and to compare; equal keys name the same stream on every shard.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey(Arc<str>);

/// Why a requested name cannot be a stream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("the stream name is empty")]
    Empty,
    #[error("the stream name is {0} bytes long, at most {STREAM_KEY_BYTES_MAX} are taken")]
    TooLong(usize),
    #[error("the stream name has a control character, a backslash or an escaped '?'")]
    Character,
    #[error("the stream name has an empty, '.' or '..' segment")]
    Segment,
}

/// Splits `text` at its first `?`: the path and the query (empty if there is none).
pub fn split_query(text: &str) -> (&str, &str) {
    text.split_once('?').unwrap_or((text, ""))
}

/// The value of the first parameter called `name`.
pub fn query_value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split(['&', '?'])
        .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value))
}

/// The path without how Flash servers were to read the file of a name (`mp4:show`): a live stream is in no file. FFmpeg and
/// librtmp put `mp4:` before names that end like a file's; a publisher that does not do so means the same stream. It goes
/// wherever a name could begin and however often it stands there: else a relay, which splits and asks for what is left, would
/// ask for another stream than was allowed here.
fn without_file_types(path: &str) -> String {
    let segments = path.split('/').filter_map(|segment| {
        let mut rest = segment;
        while let Some(stripped) = FILE_TYPES.iter().find_map(|prefix| rest.strip_prefix(prefix)) {
            rest = stripped;
        }
        (!rest.is_empty() || segment.is_empty()).then_some(rest)
    });
    segments.collect::<Vec<_>>().join("/")
}

const FILE_TYPES: [&str; 4] = ["mp4:", "flv:", "mp3:", "f4v:"];

/// `path` with its percent escapes undone: librtmp undoes them in its URLs, FFmpeg and OBS send them as they are. What is
/// no escape, or no text behind it, stays.
fn unescaped(path: &str) -> Cow<'_, str> {
    percent_decode_str(path).decode_utf8().unwrap_or(Cow::Borrowed(path))
}

impl StreamKey {
    /// The identity of `name` in `app`, as a client at `tc_url` asked for it. Queries are dropped, slashes at the ends
    /// of either part too, and so is what Flash writes before a file's name.
    pub fn new(tc_url: &str, app: &str, name: &str) -> Result<Self, KeyError> {
        let (app_path, app_query) = split_query(app);
        let (name_path, name_query) = split_query(name);
        let queries = [app_query, split_query(tc_url).1, name_query];
        let vhost = queries.into_iter().find_map(|query| query_value(query, "vhost"));
        let (app_path, name_path) = (unescaped(app_path), unescaped(name_path));
        let (app_path, name_path) = (without_file_types(&app_path), without_file_types(name_path.trim_matches('/')));
        let name_path = name_path.trim_matches('/');
        if name_path.is_empty() {
            return Err(KeyError::Empty);
        }
        let path = [app_path.trim_matches('/'), name_path].into_iter().filter(|part| !part.is_empty());
        let path = path.collect::<Vec<_>>().join("/");
        let key = match vhost {
            Some(vhost) if !vhost.is_empty() => {
                if vhost.contains('/') {
                    return Err(KeyError::Segment);
                }
                check(vhost)?;
                check(&path)?;
                format!("{vhost}//{path}")
            }
            _ => {
                check(&path)?;
                path
            }
        };
        if key.len() > STREAM_KEY_BYTES_MAX {
            return Err(KeyError::TooLong(key.len()));
        }
        Ok(Self(key.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is left without vhost and `app`, the path of a connect's: the name as its client means it.
    pub fn name_in(&self, app: &str) -> &str {
        let path = self.0.split_once("//").map_or(&*self.0, |(_, path)| path);
        let app = without_file_types(&unescaped(app));
        let name = path.strip_prefix(app.trim_matches('/')).and_then(|rest| rest.strip_prefix('/'));
        name.unwrap_or(path)
    }
}

fn check(path: &str) -> Result<(), KeyError> {
    if path.len() > STREAM_KEY_BYTES_MAX {
        return Err(KeyError::TooLong(path.len()));
    }
    // Behind a '?' that was escaped is what was meant for the query: names are shown and passed on, and secrets are not.
    if path.chars().any(|c| c.is_control() || matches!(c, '\\' | '?')) {
        return Err(KeyError::Character);
    }
    if path.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return Err(KeyError::Segment);
    }
    Ok(())
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tc_url: &str, app: &str, name: &str) -> Result<String, KeyError> {
        StreamKey::new(tc_url, app, name).map(|key| key.to_string())
    }

    #[test]
    fn queries_are_not_identity() {
        assert_eq!(key("rtmp://a/live?x=1", "live?x=1", "show?token=s"), Ok("live/show".into()));
        assert_eq!(key("rtmp://b/live", "live", "show"), Ok("live/show".into()));
    }

    #[test]
    fn where_a_client_splits_the_path_does_not_matter() {
        assert_eq!(key("", "a/b", "c"), key("", "a", "b/c"));
        assert_eq!(key("", "live/", "/show"), Ok("live/show".into()));
    }

    #[test]
    fn a_name_is_told_without_its_app() {
        for (app, name, expected) in [
            ("live", "show", "show"),
            ("/live/", "mp4:show", "show"),
            ("a/b", "c/d", "c/d"),
            ("a%20b", "show", "show"),
            ("", "live/show", "live/show"),
            ("live", "show?vhost=v", "show"),
            ("mp4:live", "mp4:show", "show"),
            ("live/flv:/vod", "a/show", "a/show"),
        ] {
            assert_eq!(StreamKey::new("", app, name).unwrap().name_in(app), expected, "{app} {name}");
        }
        assert_eq!(StreamKey::new("", "live", "show").unwrap().name_in("liv"), "live/show");
    }

    #[test]
    fn vhosts_are_apart() {
        assert_eq!(key("rtmp://h/live?vhost=v.example", "live", "show"), Ok("v.example//live/show".into()));
        assert_eq!(key("", "live?vhost=v", "show"), Ok("v//live/show".into()));
        assert_eq!(key("", "live?vhost=a/b", "show"), Err(KeyError::Segment));
    }

    #[test]
    fn a_vhost_may_be_asked_for_in_the_name_too() {
        assert_eq!(key("rtmp://h/live", "live", "show?token=a&vhost=v"), Ok("v//live/show".into()));
        assert_eq!(key("rtmp://h/live?vhost=t", "live?vhost=a", "show?vhost=n"), Ok("a//live/show".into()));
        assert_eq!(key("rtmp://h/live?vhost=t", "live", "show?vhost=n"), Ok("t//live/show".into()));
        assert_eq!(key("", "live", "show?vhost="), Ok("live/show".into()));
        assert_eq!(key("", "live", "show?vhost=a/b"), Err(KeyError::Segment));
    }

    #[test]
    fn hosts_ports_and_odd_urls_are_no_identity_but_case_is() {
        for tc_url in
            ["rtmp://10.0.0.1:1935/live", "rtmp://[2001:db8::1]:1936/live", "rtmps://h/live/", "rtmp://h", "?", ""]
        {
            assert_eq!(key(tc_url, "live", "show"), Ok("live/show".into()), "{tc_url}");
        }
        assert_ne!(key("", "Live", "show"), key("", "live", "show"));
        assert_ne!(key("", "live", "Show"), key("", "live", "show"));
        assert_eq!(key("rtmp://h/a/b/c", "a/b/c", "d"), Ok("a/b/c/d".into()));
        assert_eq!(key("", "", "show"), Ok("show".into()));
    }

    #[test]
    fn how_flash_reads_a_file_is_no_identity() {
        for name in ["show.mp4", "mp4:show.mp4", "/mp4:show.mp4", "flv:show.mp4", "mp4:/show.mp4"] {
            assert_eq!(key("", "live", name), Ok("live/show.mp4".into()), "{name}");
        }
        assert_eq!(key("", "live", "a/mp4:b"), Ok("live/a/b".into()));
        assert_eq!(key("", "mp4:live/mp4:", "b"), Ok("live/b".into()));
        assert_eq!(key("", "live", "rtp:show"), Ok("live/rtp:show".into()));
        for name in ["mp4:mp4:show", "mp4:flv:show", "flv:/mp4:show", "mp4://mp4:f4v:/show/"] {
            assert_eq!(key("", "live", name), Ok("live/show".into()), "{name}");
        }
        assert_eq!(key("", "live", "mp4:"), Err(KeyError::Empty));
        assert_eq!(key("", "live", "mp4:/flv:/"), Err(KeyError::Empty));
    }

    /// What a relay asks for is what was allowed: a key's text means the same key, wherever it is split into app and name.
    #[test]
    fn a_keys_text_means_the_same_key() {
        let pieces = ["mp4:", "flv:", "/", "a", "%6D", "p4:", "%3A", "%2F", "%25"];
        let mut made = 0;
        for n in 0..pieces.len().pow(4) {
            let text: String = (0..4).map(|at| pieces[n / pieces.len().pow(at) % pieces.len()]).collect();
            let split = text.len() / 2;
            for (app, name) in [("live", text.as_str()), (&text, "b"), text.split_at(split)] {
                let Ok(key) = StreamKey::new("", app, name) else { continue };
                made += 1;
                let text = key.as_str().replace('%', "%25");
                let (app, name) = text.rsplit_once('/').unwrap_or(("", &text));
                assert_eq!(StreamKey::new("", app, name).as_ref(), Ok(&key), "{text}");
                assert_eq!(StreamKey::new("", "", &text).as_ref(), Ok(&key), "{text}");
                let (app, name) = text.split_once('/').unwrap_or(("", &text));
                assert_eq!(StreamKey::new("", app, name).as_ref(), Ok(&key), "{text}");
            }
        }
        assert!(made > 3_000, "{made}");
    }

    #[test]
    fn escapes_are_undone_once_and_checked_after() {
        assert_eq!(key("", "live%2Fa", "k%C3%A4se%20x"), key("", "live/a", "käse x"));
        assert_eq!(key("", "live", "100%25"), Ok("live/100%".into()));
        assert_eq!(key("", "live", "a%252Fb"), Ok("live/a%2Fb".into()));
        assert_eq!(key("", "live", "show%3Ftoken=1"), Err(KeyError::Character));
        assert_eq!(key("", "live%3Fkey=1", "show"), Err(KeyError::Character));
        for literal in ["%", "a%", "a%2", "a%zz", "a%+1b", "%E4"] {
            assert_eq!(key("", "live", literal), Ok(format!("live/{literal}")));
        }
        assert_eq!(key("", "live", "%2e%2E/x"), Err(KeyError::Segment));
        assert_eq!(key("", "live", "a%00b"), Err(KeyError::Character));
        assert_eq!(key("", "live", "a%5Cb"), Err(KeyError::Character));
        assert_eq!(key("", "live", "%2F"), Err(KeyError::Empty));
        assert_eq!(key("", "live", "a%2F%2Fb"), Err(KeyError::Segment));
    }

    #[test]
    fn hostile_names_are_refused() {
        assert_eq!(key("", "live", ""), Err(KeyError::Empty));
        assert_eq!(key("", "live", "?only=query"), Err(KeyError::Empty));
        assert_eq!(key("", "live", "../x"), Err(KeyError::Segment));
        assert_eq!(key("", "live", "a//b"), Err(KeyError::Segment));
        assert_eq!(key("", "live", "a\0b"), Err(KeyError::Character));
        assert_eq!(key("", "live", "a\r\nb"), Err(KeyError::Character));
        assert_eq!(key("", "live", "a\\b"), Err(KeyError::Character));
        assert!(matches!(key("", "live", &"x".repeat(65_536)), Err(KeyError::TooLong(_))));
    }
}
