//! An upstream's URL in which a stream's name is still to be filled in: `rtmp://[user:password@]host[:port]/app/{stream}`,
//! with a query if need be, the same with `rtmps`, or `unix:PATH`.
//!
//! The last segment of the path is the stream's name there, the others are the app; without a placeholder the name is
//! fixed. `rtmp://host` and `unix:PATH` ask for the same stream as was asked for here, vhost included. `{app}`, `{stream}`
//! (the last segment of the stream's name) and `{vhost}` (empty if there is none) may stand anywhere in path and query,
//! `{{` and `}}` mean the braces themselves. Not in the host: a player must not choose whom we connect to.
//!
//! What is filled in cannot get out of its place: what would end it is percent-encoded. Faults name their place in the
//! text, never the text, which may hold a secret; so do `Debug` and `Display`. Bound: [`REQUEST_TEXT_BYTES_MAX`].

use std::{
    fmt::{self, Write as _},
    path::PathBuf,
};

use percent_encoding::percent_decode_str;

use super::upstream::{Credentials, Endpoint, Upstream};
use crate::{
    limits::{PLACEHOLDERS_MAX, REQUEST_TEXT_BYTES_MAX},
    rtmp::{
        key::StreamKey,
        url::{RtmpUrl, UrlError},
    },
};

/// See the file's head.
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    endpoint: Endpoint,
    proxied: bool,
    /// What tcUrl begins with: scheme, host and, if it was written, port.
    base: String,
    credentials: Option<Credentials>,
    /// `None`: what is asked for here.
    stream: Option<Asked>,
}

/// What is asked for at the upstream.
#[derive(Clone, PartialEq, Eq)]
struct Asked {
    app: Vec<Text>,
    name: Text,
    query: Option<Text>,
}

type Text = Vec<Piece>;

#[derive(Clone, PartialEq, Eq)]
enum Piece {
    Fixed(String),
    App,
    Stream,
    Vhost,
}

/// What is wrong with an upstream's URL, and at which of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault} (at byte {at})")]
pub struct TemplateError {
    /// From 0.
    pub at: usize,
    pub fault: TemplateFault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateFault {
    #[error("the upstream is empty: write rtmp://host/app/{{stream}}")]
    Empty,
    #[error("the upstream is neither rtmp:// nor rtmps:// nor unix:PATH")]
    Scheme,
    #[error("{0}")]
    Url(UrlError),
    #[error("the path of the socket is missing: write unix:/run/shardcast.sock")]
    NoPath,
    #[error("a host or a socket's path has no placeholders")]
    PlaceholderInHost,
    #[error("the URL has no app: write rtmp://host/app/{{stream}}, or rtmp://host for the same app and name as here")]
    NoApp,
    #[error("the URL ends without a stream's name: write {{stream}} behind the last slash")]
    NoName,
    #[error("an app has no empty, '.' or '..' segment")]
    Segment,
    #[error("an app has no '#'")]
    Fragment,
    #[error("this is no placeholder: there are {{app}}, {{stream}} and {{vhost}}; for a brace itself write it twice")]
    Placeholder,
    #[error("more than {PLACEHOLDERS_MAX} placeholders")]
    Placeholders,
}

impl Template {
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.is_empty() {
            return fault(0, TemplateFault::Empty);
        }
        if text.len() > REQUEST_TEXT_BYTES_MAX {
            return fault(REQUEST_TEXT_BYTES_MAX, TemplateFault::Url(UrlError::TooLong(text.len())));
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return Self::parse_unix(path, "unix:".len());
        }
        let unusable = |c: char| c.is_control() || c.is_whitespace() || c == '\\' || c == char::REPLACEMENT_CHARACTER;
        if let Some(at) = text.find(unusable) {
            return fault(at, TemplateFault::Url(UrlError::Character));
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("rtmp") => ("rtmp", rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("rtmps") => ("rtmps", rest),
            _ => return fault(0, TemplateFault::Scheme),
        };
        let authority_at = text.len() - rest.len();
        let path_at = authority_at + rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = (&text[authority_at..path_at], &text[path_at..]);
        let address_at = authority.rfind('@').map_or(0, |at| at + 1);
        let address = &authority[address_at..];
        if let Some(at) = address.find(['{', '}']) {
            return fault(authority_at + address_at + at, TemplateFault::PlaceholderInHost);
        }
        let base = format!("{scheme}://{address}");
        let url = RtmpUrl::parse(&base)
            .map_err(|error| TemplateError { at: authority_at + address_at, fault: TemplateFault::Url(error) })?;
        let credentials = match address_at {
            0 => None,
            end => Some(credentials(&authority[..end - 1], authority_at)?),
        };
        let endpoint = Endpoint::Tcp { host: url.host().to_owned(), port: url.port(), secure: url.secure() };
        let stream = if matches!(path, "" | "/") { None } else { Some(Asked::parse(path, path_at)?) };
        Ok(Self { endpoint, proxied: false, base, credentials, stream })
    }

    /// Connections there begin with a PROXY header, if it is no socket file.
    pub fn behind_proxy(self, proxied: bool) -> Self {
        Self { proxied: proxied && matches!(self.endpoint, Endpoint::Tcp { .. }), ..self }
    }

    fn parse_unix(path: &str, at: usize) -> Result<Self, TemplateError> {
        if path.is_empty() {
            return fault(at, TemplateFault::NoPath);
        }
        if let Some(found) = path.find(char::is_control) {
            return fault(at + found, TemplateFault::Url(UrlError::Character));
        }
        if let Some(found) = path.find(['{', '}']) {
            return fault(at + found, TemplateFault::PlaceholderInHost);
        }
        let endpoint = Endpoint::Unix(PathBuf::from(path));
        Ok(Self { proxied: false, endpoint, base: "rtmp://localhost".to_owned(), credentials: None, stream: None })
    }

    /// All that this node's process before this one has.
    pub fn predecessor() -> Self {
        let base = "rtmp://localhost".to_owned();
        Self { endpoint: Endpoint::Predecessor, base, credentials: None, stream: None, proxied: false }
    }

    /// `text` as it must be written in a URL for braces to be no placeholders.
    pub fn escape(text: &str) -> String {
        text.replace('{', "{{").replace('}', "}}")
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// A stream's source.
    pub fn fill(&self, key: &StreamKey) -> Upstream {
        self.filled(key, true)
    }

    /// A stream's target: its name there is a secret, so the label is without it.
    pub fn fill_secret(&self, key: &StreamKey) -> Upstream {
        self.filled(key, false)
    }

    fn filled(&self, key: &StreamKey, named: bool) -> Upstream {
        let values = Values::of(key);
        let (app, mut name, app_query, query) = match &self.stream {
            None => {
                let vhost = (!values.vhost.is_empty()).then(|| format!("?vhost={}", encoded(values.vhost, true)));
                (encoded(values.app, false), encoded(values.stream, false), vhost, None)
            }
            Some(asked) => {
                let app: Vec<_> = asked.app.iter().map(|text| values.fill(text, false)).collect();
                let app: Vec<_> = app.iter().flat_map(|text| text.split('/')).filter(|part| !part.is_empty()).collect();
                let query = asked.query.as_ref().map(|query| values.fill(query, true));
                (app.join("/"), values.fill(&asked.name, false), None, query)
            }
        };
        let tcp = matches!(self.endpoint, Endpoint::Tcp { .. });
        let mut label = if tcp { self.base.clone() } else { self.endpoint.to_string() };
        for part in [Some(&app), named.then_some(&name)].into_iter().flatten().filter(|part| tcp && !part.is_empty()) {
            let _ = write!(label, "/{part}");
        }
        let app = app + app_query.as_deref().unwrap_or_default();
        if let Some(query) = query {
            let _ = write!(name, "?{query}");
        }
        Upstream {
            proxied: self.proxied,
            endpoint: self.endpoint.clone(),
            tc_url: format!("{}/{app}", self.base),
            app,
            name,
            credentials: self.credentials.clone(),
            label,
        }
    }
}

impl Asked {
    /// `path` begins with a slash or a `?`, at byte `at` of the whole.
    fn parse(path: &str, at: usize) -> Result<Self, TemplateError> {
        let mut placeholders = 0;
        let mut pieces = |text: &str, at| pieces(text, at, &mut placeholders);
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some((query, at + path.len() + 1))),
            None => (path, None),
        };
        let Some((app, name)) = path.strip_prefix('/').and_then(|path| path.rsplit_once('/')) else {
            return fault(at, TemplateFault::NoApp);
        };
        let name_at = at + path.len() - name.len();
        if name.is_empty() {
            return fault(name_at, TemplateFault::NoName);
        }
        let mut segments = Vec::new();
        let mut segment_at = at + 1;
        for segment in app.split('/') {
            if matches!(segment, "" | "." | "..") {
                return fault(segment_at, TemplateFault::Segment);
            }
            if let Some(found) = segment.find('#') {
                return fault(segment_at + found, TemplateFault::Fragment);
            }
            segments.push(pieces(segment, segment_at)?);
            segment_at += segment.len() + 1;
        }
        let name = pieces(name, name_at)?;
        let query = query.map(|(query, at)| pieces(query, at)).transpose()?;
        Ok(Self { app: segments, name, query })
    }
}

/// What is put in place of the placeholders.
struct Values<'a> {
    vhost: &'a str,
    app: &'a str,
    stream: &'a str,
}

impl<'a> Values<'a> {
    fn of(key: &'a StreamKey) -> Self {
        let (vhost, path) = key.as_str().split_once("//").unwrap_or(("", key.as_str()));
        let (app, stream) = path.rsplit_once('/').unwrap_or(("", path));
        Self { vhost, app, stream }
    }

    fn fill(&self, text: &Text, in_query: bool) -> String {
        let filled: String = text
            .iter()
            .map(|piece| match piece {
                Piece::Fixed(text) => text.clone(),
                Piece::App => encoded(self.app, in_query),
                Piece::Stream => encoded(self.stream, in_query),
                Piece::Vhost => encoded(self.vhost, in_query),
            })
            .collect();
        // A dot beside a placeholder that is empty would be a segment of its own.
        if !in_query && matches!(filled.as_str(), "." | "..") { filled.replace('.', "%2E") } else { filled }
    }
}

/// `value` without what would end its place in a URL. Servers that undo percent escapes hear the stream's own name;
/// others hear it as it is unless it has such letters, which theirs then cannot have.
fn encoded(value: &str, in_query: bool) -> String {
    let ends = |c: char| {
        matches!(c, '%' | '?' | '#' | char::REPLACEMENT_CHARACTER)
            || c.is_whitespace()
            || (in_query && matches!(c, '&' | '=' | '+' | '/'))
    };
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        if ends(c) {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                let _ = write!(out, "%{byte:02X}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// `text`, which is at byte `at` of the whole, cut at its placeholders, which are counted.
fn pieces(text: &str, at: usize, placeholders: &mut usize) -> Result<Text, TemplateError> {
    let mut out = Vec::new();
    let mut fixed = String::new();
    let mut rest = text;
    while let Some(brace) = rest.find(['{', '}']) {
        fixed.push_str(&rest[..brace]);
        rest = &rest[brace..];
        let brace_at = at + text.len() - rest.len();
        let known = [("{app}", Piece::App), ("{stream}", Piece::Stream), ("{vhost}", Piece::Vhost)];
        if let Some((written, piece)) = known.into_iter().find(|(written, _)| rest.starts_with(written)) {
            *placeholders += 1;
            if *placeholders > PLACEHOLDERS_MAX {
                return fault(brace_at, TemplateFault::Placeholders);
            }
            if !fixed.is_empty() {
                out.push(Piece::Fixed(std::mem::take(&mut fixed)));
            }
            out.push(piece);
            rest = &rest[written.len()..];
        } else if rest.starts_with("{{") || rest.starts_with("}}") {
            fixed.push_str(&rest[..1]);
            rest = &rest[2..];
        } else {
            return fault(brace_at, TemplateFault::Placeholder);
        }
    }
    fixed.push_str(rest);
    if !fixed.is_empty() {
        out.push(Piece::Fixed(fixed));
    }
    Ok(out)
}

/// `user:password`, either with its percent escapes and double braces.
fn credentials(text: &str, at: usize) -> Result<Credentials, TemplateError> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let part = |part: &str, at| {
        let mut fixed = String::new();
        for piece in pieces(part, at, &mut 0)? {
            match piece {
                Piece::Fixed(text) => fixed.push_str(&text),
                _ => return fault(at, TemplateFault::PlaceholderInHost),
            }
        }
        Ok(percent_decode_str(&fixed).decode_utf8_lossy().into_owned())
    };
    Ok(Credentials { user: part(user, at)?, password: part(password, at + user.len() + 1)? })
}

fn fault<T>(at: usize, fault: TemplateFault) -> Result<T, TemplateError> {
    Err(TemplateError { at, fault })
}

/// Where it leads: of the stream's name only the placeholders, of query and credentials nothing.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Endpoint::Unix(_) = self.endpoint {
            return self.endpoint.fmt(f);
        }
        f.write_str(&self.base)?;
        let Some(asked) = &self.stream else { return Ok(()) };
        for segment in &asked.app {
            f.write_char('/')?;
            show(segment, false, f)?;
        }
        f.write_char('/')?;
        show(&asked.name, true, f)
    }
}

fn show(text: &Text, secret: bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    text.iter().try_for_each(|piece| match piece {
        Piece::Fixed(_) if secret => f.write_str("..."),
        Piece::Fixed(text) => f.write_str(text),
        Piece::App => f.write_str("{app}"),
        Piece::Stream => f.write_str("{stream}"),
        Piece::Vhost => f.write_str("{vhost}"),
    })
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({self})")
    }
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
