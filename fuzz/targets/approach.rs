//! A hostile server's refusals and redirects: bounded, never out of TLS, never the credentials to another host.
//!
//! The input is a line for the tcUrl, then one for each answer: `>` and a redirect, `!` and a reconnect request's tcUrl,
//! or the description of a refusal.

use std::time::Duration;

use shardcast::{
    limits::{REDIRECTS_MAX, REQUEST_TEXT_BYTES_MAX},
    rtmp::{
        client::{ClientRole, Credentials, SessionError, approach::Approach},
        url::RtmpUrl,
    },
};

/// Nothing that a server would say by chance.
const USER: &str = "us3r-n4me";
const PASSWORD: &str = "pa55word";

pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n');
    let Some(Ok(url)) = lines.next().map(RtmpUrl::parse) else { return };
    let credentials = Credentials { user: USER.to_owned(), password: PASSWORD.to_owned() };
    let (tc_url, own) = (url.to_string(), url.app());
    let mut approach = Approach::new(&tc_url, &own, "show?key", Some(credentials)).expect("it was read before");
    let (mut steps, mut left_home) = (0, false);
    let now = Duration::from_secs(1);
    let said = |secret| text.contains(secret);
    for line in lines {
        let result = match line.as_bytes().first() {
            Some(b'!') => approach.moved(line.get(1..), now),
            Some(b'>') => approach.refused(&refusal("", line.get(1..)), 42, now),
            _ => approach.refused(&refusal(line, None), 42, now),
        };
        steps += u32::from(result.is_ok());
        assert!(steps <= REDIRECTS_MAX, "{steps} steps");
        let place = approach.elsewhere().unwrap_or(&url);
        assert!(place.secure() || !url.secure(), "{place} is not encrypted");
        left_home |= !place.host().eq_ignore_ascii_case(url.host());
        let config = approach.config(ClientRole::Publish);
        for asked in [&config.tc_url, &config.app] {
            assert!(!asked.contains(PASSWORD) || said(PASSWORD), "{asked} has the password");
            assert!(!(asked.contains(USER) && left_home) || said(USER), "{asked} says who it is");
            assert!(asked.len() <= REQUEST_TEXT_BYTES_MAX && !asked.chars().any(char::is_control), "{asked:?}");
        }
    }
}

fn refusal(description: &str, redirect: Option<&str>) -> SessionError {
    SessionError::Refused { code: "".into(), description: description.into(), redirect: redirect.map(Into::into) }
}
