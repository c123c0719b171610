//! `[[pull]]` and `[[push]]` of a configuration file.

use std::{borrow::Cow, ops::Range, time::Duration};

use clap::CommandFactory;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{ConfigFile, unknown, what};
use crate::{
    control::{
        args::Args,
        rules::{Finding, Piece, PullText, PushText, Sources},
    },
    limits,
};

const PULL_KEYS: [&str; 7] = ["streams", "sources", "origins", "backups", "always-on", "linger-s", "proxy-protocol"];
const PUSH_KEYS: [&str; 3] = ["streams", "targets", "proxy-protocol"];
const ORIGIN_KEYS: [&str; 2] = ["url", "weight"];

type Entry<'a, 'i> = (&'a Spanned<Cow<'i, str>>, &'a Spanned<DeValue<'i>>);

impl ConfigFile {
    /// All tables of a kind.
    pub(super) fn take_tables(&mut self, key: Range<usize>, value: &Spanned<DeValue<'_>>, kind: &str) {
        let tables = match value.get_ref() {
            DeValue::Array(items) => items.iter().map(|item| (item.span(), item.get_ref().as_table())).collect(),
            _ => vec![(key.clone(), None)],
        };
        for (at, table) in tables {
            let Some(table) = table else {
                let key_name = if kind == "pull" { "sources" } else { "targets" };
                let why =
                    format!("expected [[{kind}]] on a line, and below it streams = \"..\" and {key_name} = [\"..\"]");
                self.findings.push(Finding::fault(at, why));
                continue;
            };
            match kind {
                "pull" => {
                    let rule = self.pull(&at, table);
                    self.pulls.extend(rule);
                }
                _ => {
                    let rule = self.push(&at, table);
                    self.pushes.extend(rule);
                }
            }
        }
        self.pulls.sort_by_key(|rule| rule.streams.at.start);
    }

    fn pull(&mut self, at: &Range<usize>, table: &DeTable<'_>) -> Option<PullText> {
        self.refuse_unknown(table, &PULL_KEYS);
        let streams = self.streams(at, table);
        let sources = entry(table, "sources").map(|(_, value)| self.strings(value));
        let origins = entry(table, "origins").map(|(_, value)| self.origins(value));
        let backups = entry(table, "backups").map(|(key, value)| (key.span(), self.strings(value)));
        let always = entry(table, "always-on").is_some_and(|(_, value)| self.boolean(value));
        let linger = entry(table, "linger-s").and_then(|(_, value)| self.seconds(value));
        let sources = match (sources, origins, backups) {
            (Some(sources), None, None) => Sources::InOrder(sources),
            (None, Some(origins), backups) => {
                Sources::Spread { origins, backups: backups.map(|(_, backups)| backups).unwrap_or_default() }
            }
            (Some(_), None, Some((at, _))) => {
                let why = "sources are in order of preference: put the backups at their end (backups go with origins)";
                self.findings.push(Finding::fault(at, why));
                return None;
            }
            (Some(_), Some(_), _) => {
                let why = "expected sources (tried in order) or origins (streams are spread over them), not both";
                self.findings.push(Finding::fault(at.clone(), why));
                return None;
            }
            (None, None, _) => {
                let why = "sources = [\"rtmp://..\"] is missing: where are these streams pulled from?";
                self.findings.push(Finding::fault(at.clone(), why));
                return None;
            }
        };
        let proxied = self.proxied(table);
        Some(PullText { streams: streams?, sources, always, linger, proxied })
    }

    fn push(&mut self, at: &Range<usize>, table: &DeTable<'_>) -> Option<PushText> {
        self.refuse_unknown(table, &PUSH_KEYS);
        let streams = self.streams(at, table);
        let Some(targets) = entry(table, "targets").map(|(_, value)| self.strings(value)) else {
            let why = "targets = [\"rtmp://..\"] is missing: where are these streams pushed to?";
            self.findings.push(Finding::fault(at.clone(), why));
            return None;
        };
        let proxied = self.proxied(table);
        Some(PushText { streams: streams?, targets, proxied })
    }

    pub(super) fn refuse_unknown(&mut self, table: &DeTable<'_>, keys: &[&str]) {
        for (key, _) in table.iter().filter(|(key, _)| !keys.contains(&key.get_ref().as_ref())) {
            let name = key.get_ref().as_ref();
            let why = match Args::command().get_arguments().any(|arg| arg.get_long() == Some(name)) {
                true => format!("{name} is a setting of the node: move it above the first line in [[ ]]"),
                false => unknown(name, keys.iter().copied(), &format!("there is {} here", keys.join(", "))),
            };
            self.findings.push(Finding::fault(key.span(), why));
        }
    }

    fn streams(&mut self, at: &Range<usize>, table: &DeTable<'_>) -> Option<Piece> {
        let Some((_, value)) = entry(table, "streams") else {
            let why = "streams = \"app/name\" is missing: which streams is this for? live/* is all of live";
            self.findings.push(Finding::fault(at.clone(), why));
            return None;
        };
        self.string(value)
    }

    pub(super) fn string(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Piece> {
        match value.get_ref() {
            DeValue::String(text) => Some(Piece { at: self.text.inside(value.span(), text), text: text.to_string() }),
            other => {
                let why = format!("expected a string in quotes, not {}", what(other));
                self.findings.push(Finding::fault(value.span(), why));
                None
            }
        }
    }

    /// A list of strings, or one alone.
    pub(super) fn strings(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<Piece> {
        match value.get_ref() {
            DeValue::Array(items) => items.iter().filter_map(|item| self.string(item)).collect(),
            _ => self.string(value).into_iter().collect(),
        }
    }

    /// A list of `{ url, weight }`, or of URLs that weigh the same.
    fn origins(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<(Piece, u32)> {
        match value.get_ref() {
            DeValue::Array(items) => items.iter().filter_map(|item| self.origin(item)).collect(),
            _ => self.origin(value).into_iter().collect(),
        }
    }

    fn origin(&mut self, value: &Spanned<DeValue<'_>>) -> Option<(Piece, u32)> {
        let DeValue::Table(table) = value.get_ref() else {
            return self.string(value).map(|url| (url, 1));
        };
        self.refuse_unknown(table, &ORIGIN_KEYS);
        let weight = entry(table, "weight").map(|(_, value)| (value.span(), whole(value)));
        let weight = match weight {
            None => 1,
            Some((at, weight)) => {
                let most = limits::ORIGIN_WEIGHT_MAX;
                let weight = weight.and_then(|weight| u32::try_from(weight).ok());
                let Some(weight) = weight.filter(|weight| (1..=most).contains(weight)) else {
                    self.findings.push(Finding::fault(at, format!("expected a whole number from 1 to {most}")));
                    return None;
                };
                weight
            }
        };
        let Some((_, url)) = entry(table, "url") else {
            self.findings.push(Finding::fault(value.span(), "url = \"rtmp://..\" is missing"));
            return None;
        };
        self.string(url).map(|url| (url, weight))
    }

    /// Whether connections begin with a PROXY header, of which only version 2 is written.
    fn proxied(&mut self, table: &DeTable<'_>) -> bool {
        let Some((_, value)) = entry(table, "proxy-protocol") else { return false };
        let is_known = value.get_ref().as_str() == Some("v2");
        if !is_known {
            self.findings.push(Finding::fault(value.span(), "expected \"v2\"; leave the key out for none"));
        }
        is_known
    }

    pub(super) fn boolean(&mut self, value: &Spanned<DeValue<'_>>) -> bool {
        value.get_ref().as_bool().unwrap_or_else(|| {
            self.findings.push(Finding::fault(value.span(), "expected true or false, without quotes"));
            false
        })
    }

    fn seconds(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Duration> {
        let most = limits::FLAG_SECONDS_MAX;
        let seconds = whole(value).filter(|seconds| *seconds <= most);
        if seconds.is_none() {
            self.findings
                .push(Finding::fault(value.span(), format!("expected a whole number of seconds from 0 to {most}")));
        }
        seconds.map(Duration::from_secs)
    }
}

pub(super) fn entry<'a, 'i>(table: &'a DeTable<'i>, name: &str) -> Option<Entry<'a, 'i>> {
    table.iter().find(|(key, _)| key.get_ref() == name)
}

fn whole(value: &Spanned<DeValue<'_>>) -> Option<u64> {
    let number = value.get_ref().as_integer()?;
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}
