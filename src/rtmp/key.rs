//! A stream's identity: vhost, app and name, without credentials.
//!
//! RTMP clients spread one URL over tcUrl, app and stream name, and split it in different places; each part may carry a
//! `?query`. What identifies a stream is the path that remains, `app/name`, and a vhost if one was asked for by
//! `?vhost=` in tcUrl or app. The host in tcUrl is an address, not an identity: a node is reached by several.

use std::{fmt, sync::Arc};

use crate::limits::STREAM_KEY_BYTES_MAX;

/// `app/name` or `vhost//app/name`: at most 256 bytes of UTF-8 without controls, backslashes, or empty, `.` and `..`
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
    #[error("the stream name has a control character or a backslash")]
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

impl StreamKey {
    /// The identity of `name` in `app`, as a client at `tc_url` asked for it. Queries are dropped, slashes at the ends
    /// of either part too.
    pub fn new(tc_url: &str, app: &str, name: &str) -> Result<Self, KeyError> {
        let (app_path, app_query) = split_query(app);
        let (name_path, _) = split_query(name);
        let vhost = query_value(app_query, "vhost").or_else(|| query_value(split_query(tc_url).1, "vhost"));
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
}

fn check(path: &str) -> Result<(), KeyError> {
    if path.len() > STREAM_KEY_BYTES_MAX {
        return Err(KeyError::TooLong(path.len()));
    }
    if path.chars().any(|c| c.is_control() || c == '\\') {
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
    fn vhosts_are_apart() {
        assert_eq!(key("rtmp://h/live?vhost=v.example", "live", "show"), Ok("v.example//live/show".into()));
        assert_eq!(key("", "live?vhost=v", "show"), Ok("v//live/show".into()));
        assert_eq!(key("", "live?vhost=a/b", "show"), Err(KeyError::Segment));
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
