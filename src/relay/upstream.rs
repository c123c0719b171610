//! One stream at another node: where to connect and what to ask for there.

use std::{fmt, path::PathBuf};

pub use crate::rtmp::client::Credentials;
use crate::{
    limits::{SAID_LETTERS_MAX, SECRET_LETTERS_MIN},
    rtmp::key::split_query,
};

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A name or an address (of IPv6 without brackets), resolved at each connect. `secure`: by TLS.
    Tcp { host: String, port: u16, secure: bool },
    /// A socket of this machine.
    Unix(PathBuf),
    /// The process of this node that this one takes over from.
    Predecessor,
}

/// See the file's head.
#[derive(Clone, PartialEq, Eq)]
pub struct Upstream {
    pub endpoint: Endpoint,
    /// It expects a PROXY header before anything else.
    pub proxied: bool,
    /// Without credentials.
    pub tc_url: String,
    pub app: String,
    /// The stream's name there, with its query if it has one. A push target's is a secret.
    pub name: String,
    pub credentials: Option<Credentials>,
    /// How logs and reports call it: nothing secret is in it.
    pub label: String,
}

impl Upstream {
    /// What the node there said, fit to be shown: without the secrets that it may repeat, in one line of a bounded length.
    pub fn shown(&self, said: &str) -> String {
        let mut text: String = said.chars().filter(|letter| !letter.is_control()).take(SAID_LETTERS_MAX).collect();
        for secret in self.secrets().filter(|secret| secret.len() >= SECRET_LETTERS_MIN) {
            text = text.replace(secret, "***");
        }
        text
    }

    /// The longest first, as one may be a part of another.
    fn secrets(&self) -> impl Iterator<Item = &str> {
        let (bare, query) = split_query(&self.name);
        let names = [self.name.as_str(), bare].map(|name| if self.label.contains(bare) { "" } else { name });
        let password = self.credentials.as_ref().map_or("", |credentials| &credentials.password);
        let mut secrets = [names[0], names[1], query, split_query(&self.app).1, password];
        secrets.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.into_iter()
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upstream({})", self.label)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Predecessor => f.write_str("predecessor"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{relay::template::Template, rtmp::key::StreamKey};

    #[test]
    fn what_a_node_says_is_shown_without_what_it_repeats_of_secrets() {
        let key = StreamKey::new("", "live", "show").expect("valid");
        let target = |text: &str| Template::parse(text).expect("a template").fill_secret(&key);
        let shown = target("rtmp://u:geheim@host/app/live_12345?sig=abcdef")
            .shown("'app/live_12345' (sig=abcdef, geheim)\n\u{1b}[31m");
        assert_eq!(shown, "'app/***' (***, ***)[31m");
        let source = Template::parse("rtmp://host/live/show").expect("a template").fill(&key);
        assert_eq!(source.shown("show is not here"), "show is not here");
        assert_eq!(source.shown(&"x".repeat(9_999)).len(), SAID_LETTERS_MAX);
    }
}
