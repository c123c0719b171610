//! One stream at another node: where to connect and what to ask for there.

use std::{fmt, path::PathBuf};

pub use crate::rtmp::client::Credentials;

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A name or an address (of IPv6 without brackets), resolved at each connect. `secure`: by TLS.
    Tcp { host: String, port: u16, secure: bool },
    /// A socket of this machine.
    Unix(PathBuf),
}

/// See the file's head.
#[derive(Clone, PartialEq, Eq)]
pub struct Upstream {
    pub endpoint: Endpoint,
    /// Without credentials.
    pub tc_url: String,
    pub app: String,
    /// The stream's name there, with its query if it has one. A push target's is a secret.
    pub name: String,
    pub credentials: Option<Credentials>,
    /// How logs and reports call it: nothing secret is in it.
    pub label: String,
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
        }
    }
}
