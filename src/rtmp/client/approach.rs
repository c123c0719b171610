//! What goes on over several connections until a server takes one: authentication, redirects, reconnect requests.
//!
//! An [`Approach`] says what the next connection is to ask for and where; told how that ended, it says whether to connect
//! anew. It refuses to leave TLS, to show credentials to another host, and more than [`REDIRECTS_MAX`] steps within
//! [`REDIRECT_WINDOW`]. The host opens the connections, and begins a new approach where this one came to nothing.

use std::{fmt, time::Duration};

use super::{
    super::{
        error::SessionError,
        url::{RtmpUrl, UrlError},
    },
    ClientConfig, ClientRole, Credentials,
    authentication::Demand,
};
use crate::limits::{REDIRECT_WINDOW, REDIRECTS_MAX, REQUEST_TEXT_BYTES_MAX};

/// See the file's head.
pub struct Approach {
    url: RtmpUrl,
    app: String,
    name: String,
    credentials: Option<Credentials>,
    /// The query that authenticates the next connection.
    query: Option<String>,
    /// It answers a challenge.
    answered: bool,
    moved: bool,
    /// Taken since `window_began`.
    steps: u32,
    window_began: Duration,
}

/// Why it is of no use to connect anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GiveUp {
    #[error("the server asks for nothing that could be done about it")]
    Refused,
    #[error("the server asks for a user and a password, and there are none for this host")]
    NoCredentials,
    #[error("the server does not take this user and password")]
    WrongCredentials,
    #[error("the server's challenge is too long to answer")]
    Challenge,
    #[error("the server sends an encrypted stream to where it would not be; it must redirect to rtmps://")]
    Insecure,
    #[error("the server redirects to no usable place: {0}")]
    Url(UrlError),
    #[error(
        "more than {REDIRECTS_MAX} redirects and rounds of authentication within {REDIRECT_WINDOW:?}: servers send the \
         stream in circles"
    )]
    Circles,
}

impl Approach {
    /// Of stream `name` (with its query) in `app`, at `tc_url`, which has no credentials in it.
    pub fn new(
        tc_url: &str,
        app: impl Into<String>,
        name: impl Into<String>,
        credentials: Option<Credentials>,
    ) -> Result<Self, UrlError> {
        Ok(Self {
            url: RtmpUrl::parse(tc_url)?,
            app: app.into(),
            name: name.into(),
            credentials,
            query: None,
            answered: false,
            moved: false,
            steps: 0,
            window_began: Duration::ZERO,
        })
    }

    /// What the next connection asks for.
    pub fn config(&self, role: ClientRole) -> ClientConfig {
        let with_query = |text: String| match &self.query {
            Some(query) => format!("{text}{}{query}", if text.contains('?') { '&' } else { '?' }),
            None => text,
        };
        ClientConfig::new(role, with_query(self.url.to_string()), with_query(self.app.clone()), &self.name)
    }

    /// Where a server sent it to: the next connection goes there. `None` while that is where it began.
    pub fn elsewhere(&self) -> Option<&RtmpUrl> {
        self.moved.then_some(&self.url)
    }

    /// The last connection ended with `error`. Ok: connect anew. `nonce` is used for nothing else.
    pub fn refused(&mut self, error: &SessionError, nonce: u64, now: Duration) -> Result<(), GiveUp> {
        let SessionError::Refused { description, redirect, .. } = error else { return Err(GiveUp::Refused) };
        if let Some(redirect) = redirect {
            return self.moved(Some(redirect), now);
        }
        let demand = Demand::read(description).ok_or(GiveUp::Refused)?;
        let credentials = self.credentials.as_ref().ok_or(GiveUp::NoCredentials)?;
        let (query, answered) = match &demand {
            Demand::Failed => return Err(GiveUp::WrongCredentials),
            _ if self.answered => return Err(GiveUp::WrongCredentials),
            Demand::User(method) => (credentials.introduction(*method), false),
            // The lower half is as good as any.
            Demand::Answer(challenge) => (credentials.answer(challenge, &self.app, nonce as u32), true),
        };
        // With it, each of them must be a text that servers take.
        if query.len() + self.url.to_string().len().max(self.app.len()) >= REQUEST_TEXT_BYTES_MAX {
            return Err(GiveUp::Challenge);
        }
        self.step(now)?;
        (self.query, self.answered) = (Some(query), answered);
        Ok(())
    }

    /// The server asks to go on elsewhere: a redirect, or a
    /// [`ClientEvent::Reconnect`](super::ClientEvent::Reconnect) with what it says of the place.
    pub fn moved(&mut self, tc_url: Option<&str>, now: Duration) -> Result<(), GiveUp> {
        let url = self.url.resolve(tc_url).map_err(GiveUp::Url)?.without_credentials();
        if self.url.secure() && !url.secure() {
            return Err(GiveUp::Insecure);
        }
        self.step(now)?;
        if !url.host().eq_ignore_ascii_case(self.url.host()) {
            self.credentials = None;
        }
        (self.query, self.answered) = (None, false);
        if url != self.url {
            let (url, name) = self.without_stream(url);
            self.app = url.app();
            (self.url, self.name, self.moved) = (url, name, true);
        }
        Ok(())
    }

    /// nginx-rtmp's redirects name the whole URL, stream and all, where others name the tcUrl.
    fn without_stream(&self, url: RtmpUrl) -> (RtmpUrl, String) {
        let bare = self.name.split('?').next().unwrap_or_default();
        match url.split_stream(bare).filter(|_| !bare.is_empty()) {
            Some((app, stream)) => (app, if stream == bare { self.name.clone() } else { stream }),
            None => (url, self.name.clone()),
        }
    }

    fn step(&mut self, now: Duration) -> Result<(), GiveUp> {
        if now.saturating_sub(self.window_began) >= REDIRECT_WINDOW {
            (self.steps, self.window_began) = (0, now);
        }
        if self.steps >= REDIRECTS_MAX {
            return Err(GiveUp::Circles);
        }
        self.steps += 1;
        Ok(())
    }
}

/// Names, queries and credentials are secrets.
impl fmt::Debug for Approach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Approach").field("host", &self.url.host()).field("steps", &self.steps).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "approach_tests.rs"]
mod tests;
