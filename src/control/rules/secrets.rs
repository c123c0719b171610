//! `{env:NAME}` and `{file:PATH}` in the URLs of rules: read once, at start, and shown nowhere.
//!
//! A key goes into the URL as it is, so that one with a query (`key?x=y`) works; a password may have any letters. Refused: a
//! secret that is missing, empty, longer than [`SECRET_BYTES_MAX`] or not printable, and one in a part of the URL that logs show.

use std::{
    cell::RefCell,
    ffi::OsString,
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{super::small_file::SmallFile, Finding};
use crate::{limits::SECRET_BYTES_MAX, relay::rules::Template};

/// Where secrets come from.
pub(in super::super) struct Secrets {
    env: fn(&str) -> Option<OsString>,
    /// What a relative path starts at.
    folder: PathBuf,
    /// Those that were named.
    files: RefCell<Vec<PathBuf>>,
}

/// A text with its secrets in place. Its `Debug` does not show them.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Filled {
    pub(super) text: String,
    /// The same with a stand-in of the same length for each placeholder: what is wrong with it may be said.
    pub(super) veiled: String,
}

impl fmt::Debug for Filled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filled({})", self.veiled)
    }
}

impl Secrets {
    /// Relative paths start at `folder`.
    pub(in super::super) fn new(folder: &Path) -> Self {
        Self { env: |name| std::env::var_os(name), folder: folder.to_owned(), files: RefCell::default() }
    }

    /// The files that secrets were read from.
    pub(in super::super) fn into_files(self) -> Vec<PathBuf> {
        self.files.into_inner()
    }

    /// Ranges in findings are of `text`, a URL. The name at its end is no place for a secret if it is shown.
    pub(super) fn fill(&self, text: &str, name_is_shown: bool, findings: &mut Vec<Finding>) -> Option<Filled> {
        let mut filled = Filled { text: String::new(), veiled: String::new() };
        let parts = Parts::of(text);
        let (mut from, mut sound) = (0, true);
        for at in placeholders(text) {
            let between = &text[from..at.start];
            filled.text.push_str(between);
            filled.veiled.push_str(between);
            let inside = &text[at.start + 1..at.end - 1];
            let secret = match parts.hide(at.start, name_is_shown) {
                true => self.read(inside, &at, findings).and_then(usable),
                false => Err(format!("logs show this part of the URL; a secret goes {}", places(name_is_shown))),
            };
            match secret {
                // Percent escapes are undone in passwords.
                Ok(secret) if parts.in_credentials(at.start) => {
                    filled.text.extend(utf8_percent_encode(&secret, NON_ALPHANUMERIC));
                }
                Ok(secret) => filled.text.push_str(&Template::escape(&secret)),
                Err(why) => {
                    findings.push(Finding::fault(at.clone(), format!("{{{inside}}}: {why}")));
                    sound = false;
                }
            }
            // Digits may stand anywhere in a URL, in its port too.
            filled.veiled.extend(std::iter::repeat_n('1', at.len()));
            from = at.end;
        }
        filled.text.push_str(&text[from..]);
        filled.veiled.push_str(&text[from..]);
        sound.then_some(filled)
    }

    fn read(&self, inside: &str, at: &Range<usize>, findings: &mut Vec<Finding>) -> Result<String, String> {
        match inside.split_once(':') {
            Some(("env", name)) => match (self.env)(name) {
                Some(value) => value.into_string().map_err(|_| "the variable is not UTF-8".to_owned()),
                None => Err("there is no such variable in the environment; set it for this process".to_owned()),
            },
            Some(("file", path)) => self.read_file(path, at, findings),
            _ => Err("expected {env:NAME} or {file:PATH}".to_owned()),
        }
    }

    fn read_file(&self, path: &str, at: &Range<usize>, findings: &mut Vec<Finding>) -> Result<String, String> {
        let path = self.folder.join(path);
        let said = |why: String| format!("{}: {why}", path.display());
        let file = SmallFile::read(&path, SECRET_BYTES_MAX).map_err(said)?;
        if file.others_read() {
            let path = path.display();
            findings.push(Finding::warning(at.clone(), format!("every user can read {path}: chmod o= {path}")));
        }
        self.files.borrow_mut().push(path.clone());
        String::from_utf8(file.into_line()).map_err(|_| said("not UTF-8".to_owned()))
    }
}

/// Where `{env:..}` and `{file:..}` stand.
fn placeholders(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let start = from + ["{env:", "{file:"].iter().filter_map(|open| text[from..].find(open)).min()?;
        let end = start + text[start..].find('}')? + 1;
        from = end;
        Some(start..end)
    })
}

fn usable(secret: String) -> Result<String, String> {
    if secret.is_empty() {
        return Err("it is empty".to_owned());
    }
    if secret.len() as u64 > SECRET_BYTES_MAX {
        return Err(format!("it is longer than {SECRET_BYTES_MAX} bytes"));
    }
    if secret.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("it has a blank or a control character; a URL has none".to_owned());
    }
    Ok(secret)
}

/// `text` with what may be secret in its URLs as stars, one for each letter: passwords, and the names of streams if
/// `names`. Placeholders stay, they tell nothing.
pub(in super::super) fn veil(text: &str, names: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) =
        ["rtmp://", "rtmps://", "http://", "https://"].iter().filter_map(|s| rest.find(s).map(|at| at + s.len())).min()
    {
        let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',');
        let end = rest[start..].find(ends).map_or(rest.len(), |end| start + end);
        out.push_str(&rest[..start]);
        veil_url(&rest[start..end], names, &mut out);
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// `url` without its scheme.
fn veil_url(url: &str, names: bool, out: &mut String) {
    let parts = Parts::after_scheme(url, 0);
    let mut in_placeholder = false;
    for (index, c) in url.char_indices() {
        in_placeholder |= c == '{';
        let secret = parts.hide(index, !names);
        let stays = in_placeholder || matches!(c, '@' | ':' | '?' | '/');
        out.push(if secret && !stays { '*' } else { c });
        in_placeholder &= c != '}';
    }
}

/// Where the parts of a URL begin or end, whatever its placeholders have in them.
struct Parts {
    /// After the scheme.
    start: usize,
    /// Of `user:password@`, or `start`.
    credentials_end: usize,
    /// After the path's last slash, or the end of the authority.
    name: usize,
    query: usize,
}

impl Parts {
    fn of(text: &str) -> Self {
        match text.find("://") {
            Some(at) => Self::after_scheme(text, at + 3),
            // A socket's path has no secrets.
            None => Self { start: 0, credentials_end: 0, name: text.len(), query: text.len() },
        }
    }

    fn after_scheme(text: &str, start: usize) -> Self {
        let mut in_placeholder = false;
        let plain = |byte: u8| {
            in_placeholder |= byte == b'{';
            let plain = if in_placeholder { b'1' } else { byte };
            in_placeholder &= byte != b'}';
            plain
        };
        let url = text.bytes().skip(start).map(plain).collect::<Vec<_>>();
        let first = |bytes: &[u8]| url.iter().position(|byte| bytes.contains(byte)).unwrap_or(url.len());
        let (authority, query) = (first(b"/?"), first(b"?"));
        let credentials = url[..authority].iter().rposition(|byte| *byte == b'@').map_or(0, |at| at + 1);
        let name = url[..query].iter().rposition(|byte| *byte == b'/').map_or(authority, |slash| slash + 1);
        Self { start, credentials_end: start + credentials, name: start + name, query: start + query }
    }

    fn in_credentials(&self, at: usize) -> bool {
        (self.start..self.credentials_end).contains(&at)
    }

    /// Whether nobody is shown what stands there.
    fn hide(&self, at: usize, name_is_shown: bool) -> bool {
        self.in_credentials(at) || at >= self.query || (!name_is_shown && at >= self.name)
    }
}

/// Where a secret may stand.
fn places(name_is_shown: bool) -> &'static str {
    match name_is_shown {
        true => "before the host, as user:password@, or behind a '?'",
        false => "behind the last slash, before the host, as user:password@, or behind a '?'",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> Secrets {
        let env: fn(&str) -> Option<OsString> = |name| match name {
            "KEY" => Some("k?x=y".into()),
            "PASSWORD" => Some("a@b/{c}".into()),
            "BLANK" => Some("pearl button".into()),
            "EMPTY" => Some("".into()),
            _ => None,
        };
        Secrets { env, folder: PathBuf::from(env!("CARGO_MANIFEST_DIR")), files: RefCell::default() }
    }

    fn fill(text: &str) -> (Option<Filled>, Vec<Finding>) {
        let mut findings = Vec::new();
        (secrets().fill(text, false, &mut findings), findings)
    }

    #[test]
    fn secrets_are_filled_in_and_not_shown() {
        let (filled, findings) = fill("rtmp://h/{app}/{env:KEY}&z");
        let filled = filled.unwrap();
        assert_eq!(filled.text, "rtmp://h/{app}/k?x=y&z");
        assert_eq!(filled.veiled, "rtmp://h/{app}/111111111&z");
        assert!(!format!("{filled:?}").contains("x=y") && findings.is_empty());
    }

    #[test]
    fn a_password_may_have_any_letters() {
        let (filled, findings) = fill("rtmp://u:{env:PASSWORD}@h/a/{stream}?t={env:PASSWORD}");
        let expected = "rtmp://u:a%40b%2F%7Bc%7D@h/a/{stream}?t=a@b/{{c}}";
        assert_eq!((filled.unwrap().text.as_str(), findings.len()), (expected, 0));
    }

    #[test]
    fn a_secret_stands_where_nobody_is_shown_it() {
        for (text, as_source, as_target) in [
            ("rtmp://{env:KEY}/a/b", false, false),
            ("rtmp://h/{env:KEY}/b", false, false),
            ("rtmp://h/a/{env:KEY}", false, true),
            ("rtmp://h/a/b?{env:KEY}", true, true),
            ("rtmp://{env:KEY}@h/a/b", true, true),
            ("unix:/{env:KEY}", false, false),
        ] {
            for (shown, expected) in [(true, as_source), (false, as_target)] {
                assert_eq!(secrets().fill(text, shown, &mut Vec::new()).is_some(), expected, "{text} {shown}");
            }
        }
    }

    #[test]
    fn what_is_missing_or_unusable_is_said_where_it_stands() {
        for (text, part) in [
            ("rtmp://h/a/{env:NONE}", "no such variable"),
            ("rtmp://h/a/{env:EMPTY}", "it is empty"),
            ("rtmp://h/a/{env:BLANK}", "a blank"),
            ("rtmp://h/a/{file:tests/a?b}", "No such file"),
            ("rtmp://h/a/{file:nowhere}", "No such file"),
            ("rtmp://h/a/{file:src}", "not a file"),
            ("rtmp://h/a/{file:Cargo.lock}", "longer than"),
        ] {
            let (filled, findings) = fill(text);
            let fault = findings.iter().find(|finding| finding.is_fault()).unwrap_or_else(|| panic!("{text}"));
            assert!(filled.is_none() && fault.text.contains(part), "{text}: {fault:?}");
            assert_eq!(&text[fault.at.clone()], &text[11..]);
            assert!(!fault.text.contains("pearl"), "{fault:?}");
        }
    }

    #[test]
    fn every_truncation_is_text_or_a_finding() {
        let text = "rtmp://{env:KEY}@h/a/{file:x}/{stream}";
        for end in 0..=text.len() {
            let (filled, findings) = fill(&text[..end]);
            assert!(filled.is_some() || !findings.is_empty(), "{end}");
        }
    }

    #[test]
    fn passwords_and_names_are_veiled_in_place() {
        for (text, names, veiled) in [
            ("a rtmp://u:pw@h:1/app/x?k=1, b", false, "a rtmp://*:**@h:1/app/x?***, b"),
            ("rtmps://h/app/key", true, "rtmps://h/app/***"),
            ("rtmps://h/app/{env:KEY}x", true, "rtmps://h/app/{env:KEY}*"),
            ("rtmps://h/app/x{file:/run/key}y?z", true, "rtmps://h/app/*{file:/run/key}*?*"),
            ("rtmps://u:{file:/run/key}@h/app/x", false, "rtmps://*:{file:/run/key}@h/app/x"),
            ("rtmp://h", true, "rtmp://h"),
            ("rtmp://a/b/c,rtmp://d@e/f/g", false, "rtmp://a/b/c,rtmp://*@e/f/g"),
        ] {
            assert_eq!(veil(text, names), veiled);
        }
    }
}
