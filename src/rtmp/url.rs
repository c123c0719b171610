//! `rtmp://` and `rtmps://` URLs, and where a server's ReconnectRequest points (Enhanced RTMP v2, "Reconnect Request").
//!
//! A reference of a server's is resolved as RFC 3986, section 5.2 says, against the tcUrl of the connection it came on.
//! Refused: other schemes, missing hosts, ports that are none, controls, blanks and backslashes. Bound:
//! [`REQUEST_TEXT_BYTES_MAX`] for what comes in and for what comes out.

use std::fmt;

use crate::limits::REQUEST_TEXT_BYTES_MAX;

const RTMP_PORT: u16 = 1_935;
const RTMPS_PORT: u16 = 443;

/// An absolute URL without its fragment: what a client puts into tcUrl, and the address to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtmpUrl {
    secure: bool,
    /// With credentials and port, as written.
    authority: String,
    host: String,
    port: u16,
    /// Empty, or from its first slash on; without `.` and `..`.
    path: String,
    query: Option<String>,
}

/// Why a text is no URL to connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("the URL has {0} bytes, at most {REQUEST_TEXT_BYTES_MAX} are taken")]
    TooLong(usize),
    #[error("the URL has a blank, a control character or a backslash")]
    Character,
    #[error("the URL's scheme is not rtmp:// or rtmps://")]
    Scheme,
    #[error("the URL has no usable host")]
    Host,
    #[error("the URL's port is not a number from 1 to 65535")]
    Port,
}

impl RtmpUrl {
    /// Reads an absolute URL.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        check(text)?;
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "rtmp" => false,
            "rtmps" => true,
            _ => return Err(UrlError::Scheme),
        };
        let rest = without_fragment(rest);
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (path, query) = split(rest);
        let (host, port) = host_and_port(authority)?;
        let url = Self {
            secure,
            authority: authority.to_owned(),
            host: host.to_owned(),
            port: port.unwrap_or(if secure { RTMPS_PORT } else { RTMP_PORT }),
            path: without_dots(path),
            query: query.map(ToOwned::to_owned),
        };
        url.bounded()
    }

    /// Where `reference` leads from here: an absolute URL, one without scheme (`//host/app`), a path, or nothing, which is
    /// the same place again.
    pub fn resolve(&self, reference: Option<&str>) -> Result<Self, UrlError> {
        let Some(reference) = reference else { return Ok(self.clone()) };
        check(reference)?;
        let reference = without_fragment(reference);
        if has_scheme(reference) {
            return Self::parse(reference);
        }
        if reference.starts_with("//") {
            return Self::parse(&format!("{}:{reference}", self.scheme()));
        }
        let (path, query) = split(reference);
        let path = if path.is_empty() {
            self.path.clone()
        } else if path.starts_with('/') {
            without_dots(path)
        } else {
            let directory = self.path.rfind('/').map_or("/", |slash| &self.path[..=slash]);
            without_dots(&format!("{directory}{path}"))
        };
        let query = match query {
            None if reference.is_empty() => self.query.clone(),
            query => query.map(ToOwned::to_owned),
        };
        Self { path, query, ..self.clone() }.bounded()
    }

    /// Whether a server may send `reference` to its clients, whatever their own URLs are.
    pub fn check_reference(reference: &str) -> Result<(), UrlError> {
        let host = "host".to_owned();
        let base = Self {
            secure: false,
            authority: host.clone(),
            host,
            port: RTMP_PORT,
            path: "/app".to_owned(),
            query: None,
        };
        base.resolve(Some(reference)).map(|_| ())
    }

    /// Whether it is to be reached by TLS.
    pub fn secure(&self) -> bool {
        self.secure
    }

    /// A name or an address; of IPv6 without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// What `connect` names as its app: the path without its first slash, and the query.
    pub fn app(&self) -> String {
        let path = self.path.strip_prefix('/').unwrap_or(&self.path);
        match &self.query {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        }
    }

    /// Without user and password, which tcUrl and logs have no use for.
    pub fn without_credentials(self) -> Self {
        let authority = self.authority.rsplit_once('@').map(|(_, address)| address.to_owned());
        Self { authority: authority.unwrap_or(self.authority), ..self }
    }

    /// Of a URL that ends with the stream `name`: without it, and with the query as the stream's.
    pub fn split_stream(&self, name: &str) -> Option<(Self, String)> {
        let path = self.path.strip_suffix(name)?.strip_suffix('/').filter(|app| !app.is_empty())?;
        let stream = self.query.as_ref().map_or_else(|| name.to_owned(), |query| format!("{name}?{query}"));
        Some((Self { path: path.to_owned(), query: None, ..self.clone() }, stream))
    }

    fn scheme(&self) -> &'static str {
        if self.secure { "rtmps" } else { "rtmp" }
    }

    fn bounded(self) -> Result<Self, UrlError> {
        match self.to_string().len() {
            bytes if bytes > REQUEST_TEXT_BYTES_MAX => Err(UrlError::TooLong(bytes)),
            _ => Ok(self),
        }
    }
}

/// The URL as tcUrl.
impl fmt::Display for RtmpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority, self.path)?;
        self.query.as_ref().map_or(Ok(()), |query| write!(f, "?{query}"))
    }
}

fn check(text: &str) -> Result<(), UrlError> {
    if text.len() > REQUEST_TEXT_BYTES_MAX {
        return Err(UrlError::TooLong(text.len()));
    }
    let unusable = |c: char| c.is_control() || c.is_whitespace() || c == '\\' || c == char::REPLACEMENT_CHARACTER;
    if text.contains(unusable) { Err(UrlError::Character) } else { Ok(()) }
}

fn without_fragment(text: &str) -> &str {
    text.split_once('#').map_or(text, |(text, _)| text)
}

/// Path and query.
fn split(text: &str) -> (&str, Option<&str>) {
    text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)))
}

/// Whether a reference begins with a scheme: RFC 3986, 3.1 and 4.2.
fn has_scheme(reference: &str) -> bool {
    let Some(end) = reference.find([':', '/', '?']) else { return false };
    let (scheme, rest) = reference.split_at(end);
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    rest.starts_with(':') && scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(is_part)
}

fn host_and_port(authority: &str) -> Result<(&str, Option<u16>), UrlError> {
    let address = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
    let (host, port) = match address.strip_prefix('[') {
        Some(literal) => {
            let (host, rest) = literal.split_once(']').ok_or(UrlError::Host)?;
            let port = if rest.is_empty() { "" } else { rest.strip_prefix(':').ok_or(UrlError::Host)? };
            (host, port)
        }
        None => address.split_once(':').unwrap_or((address, "")),
    };
    if host.is_empty() || host.contains(['[', ']']) {
        return Err(UrlError::Host);
    }
    if port.is_empty() {
        return Ok((host, None));
    }
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let number = port.parse::<u16>().ok().filter(|number| digits && *number > 0);
    number.map(|number| (host, Some(number))).ok_or(UrlError::Port)
}

/// A path without `.` and `..` segments (RFC 3986, 5.2.4).
fn without_dots(path: &str) -> String {
    let Some(rest) = path.strip_prefix('/') else { return String::new() };
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            _ => {
                kept.push(segment);
                continue;
            }
        }
        if is_last {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "rtmp://old.example:1936/live/inst?token=s";

    fn moved(reference: &str) -> Result<String, UrlError> {
        RtmpUrl::parse(BASE).unwrap().resolve(Some(reference)).map(|url| url.to_string())
    }

    #[test]
    fn a_request_without_a_url_means_the_same_place() {
        let base = RtmpUrl::parse(BASE).unwrap();
        assert_eq!(base.to_string(), BASE);
        assert_eq!(base.resolve(None).unwrap(), base);
        assert_eq!(moved("").unwrap(), BASE);
    }

    #[test]
    fn references_are_resolved_as_rfc_3986_says() {
        for (reference, expected) in [
            ("rtmp://new.example/app", "rtmp://new.example/app"),
            ("RTMPS://new.example:8443/app/x?y#z", "rtmps://new.example:8443/app/x?y"),
            ("//192.0.2.1/app", "rtmp://192.0.2.1/app"),
            ("//new", "rtmp://new"),
            ("/other", "rtmp://old.example:1936/other"),
            ("/a/./b/../c/", "rtmp://old.example:1936/a/c/"),
            ("other", "rtmp://old.example:1936/live/other"),
            ("../../../up", "rtmp://old.example:1936/up"),
            ("other/..", "rtmp://old.example:1936/live/"),
            (".", "rtmp://old.example:1936/live/"),
            ("?token=t", "rtmp://old.example:1936/live/inst?token=t"),
            ("#part", BASE),
            ("/a//b", "rtmp://old.example:1936/a//b"),
        ] {
            assert_eq!(moved(reference).as_deref(), Ok(expected), "{reference}");
        }
    }

    #[test]
    fn a_base_without_a_path_has_one_once_it_is_resolved() {
        let base = RtmpUrl::parse("rtmp://host").unwrap();
        assert_eq!(base.resolve(Some("app")).unwrap().to_string(), "rtmp://host/app");
        assert_eq!(base.resolve(Some("?q")).unwrap().to_string(), "rtmp://host?q");
    }

    #[test]
    fn a_url_says_where_to_connect_and_what_to_ask_for() {
        let parts = |text: &str| {
            let url = RtmpUrl::parse(text).unwrap();
            (url.secure(), url.host().to_owned(), url.port(), url.app())
        };
        let host = |host: &str| host.to_owned();
        assert_eq!(parts("rtmp://h/live"), (false, host("h"), 1_935, host("live")));
        assert_eq!(parts("rtmps://h/a/b?k=v"), (true, host("h"), 443, host("a/b?k=v")));
        assert_eq!(parts("rtmp://u:p@h:19/a"), (false, host("h"), 19, host("a")));
        assert_eq!(parts("rtmp://[2001:db8::1]:19/a"), (false, host("2001:db8::1"), 19, host("a")));
        assert_eq!(parts("rtmp://[::1]"), (false, host("::1"), 1_935, host("")));
        assert_eq!(parts("rtmp://h:?q"), (false, host("h"), 1_935, host("?q")));
    }

    #[test]
    fn user_password_and_stream_are_no_part_of_an_app() {
        for (text, expected) in
            [("rtmp://u:p@h:19/a", "rtmp://h:19/a"), ("rtmp://a@b@h", "rtmp://h"), ("rtmp://h", "rtmp://h")]
        {
            assert_eq!(RtmpUrl::parse(text).unwrap().without_credentials().to_string(), expected);
        }
        let split = |text: &str| {
            let split = RtmpUrl::parse(text).unwrap().split_stream("show");
            split.map(|(url, stream)| (url.to_string(), stream))
        };
        let parts = |url: &str, stream: &str| Some((url.to_owned(), stream.to_owned()));
        assert_eq!(split("rtmp://h/live/inst/show?t=1"), parts("rtmp://h/live/inst", "show?t=1"));
        assert_eq!(split("rtmp://h/live/show"), parts("rtmp://h/live", "show"));
        for text in ["rtmp://h/show", "rtmp://h/live/noshow", "rtmp://h/live", "rtmp://h", "rtmp://h?live/show"] {
            assert_eq!(split(text), None, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_connected_to_is_refused() {
        for reference in ["http://h/a", "rtmpt://h/a", "rtmp:/a", "file:a", "rtmp:", "a:b"] {
            assert_eq!(moved(reference), Err(UrlError::Scheme), "{reference}");
        }
        for reference in ["rtmp:///a", "//", "//:1935/a", "rtmp://u@/a", "rtmp://[::1/a", "rtmp://[::1]x/a", "//a]/b"] {
            assert_eq!(moved(reference), Err(UrlError::Host), "{reference}");
        }
        for reference in ["//h:0/a", "//h:65536/a", "//h:x/a", "//h:+1/a", "//a:b:c/d", "//h:-1"] {
            assert_eq!(moved(reference), Err(UrlError::Port), "{reference}");
        }
        for reference in ["/a b", "/a\r\nb", "/a\0", "\\\\h\\a", "/\u{FFFD}", "rtmp://h\u{85}/a"] {
            assert_eq!(moved(reference), Err(UrlError::Character), "{reference:?}");
        }
    }

    #[test]
    fn length_is_bounded_before_and_after() {
        let long = format!("/{}", "x".repeat(REQUEST_TEXT_BYTES_MAX));
        assert_eq!(moved(&long), Err(UrlError::TooLong(long.len())));
        let nearly = format!("/{}", "x".repeat(REQUEST_TEXT_BYTES_MAX - 1));
        assert!(matches!(moved(&nearly), Err(UrlError::TooLong(bytes)) if bytes > REQUEST_TEXT_BYTES_MAX));
        assert!(RtmpUrl::check_reference(&nearly[..4_000]).is_ok());
        assert_eq!(RtmpUrl::check_reference("ftp://x"), Err(UrlError::Scheme));
    }

    #[test]
    fn every_truncation_is_a_url_or_an_error() {
        let text = "rtmps://u:p@[::1]:443/a/../b?c=d#e";
        for end in 0..text.len() {
            if let Ok(url) = moved(&text[..end]) {
                assert_eq!(RtmpUrl::parse(&url).unwrap().to_string(), url, "{end}");
            }
        }
    }
}
