//! `{env:NAME}` and `{file:PATH}` in the URLs of rules: read once, at start, and shown nowhere.
//!
//! A secret goes into the URL as it is, so that one with a query (`key?x=y`) works. Refused: one that is missing, empty, longer
//! than [`SECRET_BYTES_MAX`] or not printable, and one with braces, which would be read as a placeholder.

use std::{
    ffi::OsString,
    fmt,
    io::Read,
    ops::Range,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::Finding;
use crate::limits::SECRET_BYTES_MAX;

/// Where secrets come from.
pub(in super::super) struct Secrets {
    env: fn(&str) -> Option<OsString>,
    /// What a relative path starts at.
    folder: PathBuf,
}

/// A text with its secrets in place. Its `Debug` does not show them.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Filled {
    pub(super) text: String,
    /// The same with a stand-in of the same length for each placeholder: what is wrong with it may be said.
    pub(super) veiled: String,
    pub(super) has_secrets: bool,
}

impl fmt::Debug for Filled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filled({})", self.veiled)
    }
}

impl Secrets {
    /// Relative paths start at `folder`.
    pub(in super::super) fn new(folder: &Path) -> Self {
        Self { env: |name| std::env::var_os(name), folder: folder.to_owned() }
    }

    /// Ranges in findings are of `text`.
    pub(super) fn fill(&self, text: &str, findings: &mut Vec<Finding>) -> Option<Filled> {
        let mut filled = Filled { text: String::new(), veiled: String::new(), has_secrets: false };
        let (mut from, mut sound) = (0, true);
        for at in placeholders(text) {
            let between = &text[from..at.start];
            filled.text.push_str(between);
            filled.veiled.push_str(between);
            let inside = &text[at.start + 1..at.end - 1];
            match self.read(inside, &at, findings).and_then(usable) {
                Ok(secret) => filled.text.push_str(&secret),
                Err(why) => {
                    findings.push(Finding::fault(at.clone(), format!("{{{inside}}}: {why}")));
                    sound = false;
                }
            }
            // Digits may stand anywhere in a URL, in its port too.
            filled.veiled.extend(std::iter::repeat_n('1', at.len()));
            filled.has_secrets = true;
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
        let said = |error: std::io::Error| format!("{}: {error}", path.display());
        let file = std::fs::File::open(&path).map_err(said)?;
        let found = file.metadata().map_err(said)?;
        if !found.is_file() {
            return Err(format!("{}: not a file", path.display()));
        }
        if others_read(found.permissions().mode()) {
            let path = path.display();
            findings.push(Finding::warning(at.clone(), format!("every user can read {path}: chmod o= {path}")));
        }
        let mut text = String::new();
        file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text).map_err(said)?;
        // Editors end a file by a newline.
        Ok(text.trim_end_matches(['\n', '\r']).to_owned())
    }
}

pub(in super::super) fn others_read(mode: u32) -> bool {
    mode & 0o004 != 0
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
    if secret.contains(['{', '}']) {
        return Err("it has a brace; write %7B and %7D in it".to_owned());
    }
    Ok(secret)
}

/// `text` with what may be secret in its URLs as stars, one for each letter: passwords, and the names of streams if
/// `names`. Placeholders stay, they tell nothing.
pub(in super::super) fn veil(text: &str, names: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = ["rtmp://", "rtmps://"].iter().filter_map(|s| rest.find(s).map(|at| at + s.len())).min() {
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
    let authority = url.find(['/', '?']).unwrap_or(url.len());
    let host = url[..authority].rfind('@').map_or(0, |at| at + 1);
    let path_end = url.find('?').unwrap_or(url.len());
    let name = url[..path_end].rfind('/').map_or(path_end, |slash| slash + 1).max(authority);
    let mut in_placeholder = false;
    for (index, c) in url.char_indices() {
        in_placeholder |= c == '{';
        let secret = index + 1 < host || index >= path_end || (names && index >= name);
        let stays = in_placeholder || matches!(c, '@' | ':' | '?');
        out.push(if secret && !stays { '*' } else { c });
        in_placeholder &= c != '}';
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> Secrets {
        let env: fn(&str) -> Option<OsString> = |name| match name {
            "KEY" => Some("k?x=y".into()),
            "BRACE" => Some("{app}".into()),
            "BLANK" => Some("pearl button".into()),
            "EMPTY" => Some("".into()),
            _ => None,
        };
        Secrets { env, folder: PathBuf::from(env!("CARGO_MANIFEST_DIR")) }
    }

    fn fill(text: &str) -> (Option<Filled>, Vec<Finding>) {
        let mut findings = Vec::new();
        (secrets().fill(text, &mut findings), findings)
    }

    #[test]
    fn secrets_are_filled_in_and_not_shown() {
        let (filled, findings) = fill("rtmp://h/{app}/{env:KEY}&z");
        let filled = filled.unwrap();
        assert_eq!((filled.text.as_str(), filled.has_secrets), ("rtmp://h/{app}/k?x=y&z", true));
        assert_eq!(filled.veiled, "rtmp://h/{app}/111111111&z");
        assert!(!format!("{filled:?}").contains("x=y") && findings.is_empty());
        assert!(!fill("rtmp://h/{app}/{stream}").0.unwrap().has_secrets);
    }

    #[test]
    fn what_is_missing_or_unusable_is_said_where_it_stands() {
        for (text, part) in [
            ("rtmp://h/a/{env:NONE}", "no such variable"),
            ("rtmp://h/a/{env:EMPTY}", "it is empty"),
            ("rtmp://h/a/{env:BLANK}", "a blank"),
            ("rtmp://h/a/{env:BRACE}", "%7B"),
            ("rtmp://h/a/{file:nowhere}", "No such file"),
            ("rtmp://h/a/{file:src}", "not a file"),
            ("rtmp://h/a/{file:Cargo.lock}", "longer than"),
        ] {
            let (filled, findings) = fill(text);
            let fault = findings.iter().find(|finding| finding.is_fault()).unwrap_or_else(|| panic!("{text}"));
            assert!(filled.is_none() && fault.text.contains(part), "{text}: {fault:?}");
            assert_eq!(&text[fault.at.clone()], &text[11..]);
            assert!(!fault.text.contains("pearl") && !fault.text.contains("{app}"), "{fault:?}");
        }
    }

    #[test]
    fn every_truncation_is_text_or_a_finding() {
        let text = "rtmp://h/{env:KEY}/{file:x}/{stream}";
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
            ("rtmp://h", true, "rtmp://h"),
            ("rtmp://a/b/c,rtmp://d@e/f/g", false, "rtmp://a/b/c,rtmp://*@e/f/g"),
        ] {
            assert_eq!(veil(text, names), veiled);
        }
    }
}
