//! The configuration file: TOML, whose keys are the flags without their dashes, `[[pull]]` and `[[push]]`, `[[publish]]` and
//! `[[play]]`.
//!
//! [`ConfigFile::parse`] goes on after what is wrong, so that all of it can be said at once. Refused: unknown keys, values that
//! the flag would not take. Bound: [`CONFIG_BYTES_MAX`](crate::limits::CONFIG_BYTES_MAX).

mod access;
mod rules;
mod text;

use std::{collections::BTreeMap, ops::Range, path::Path, time::Duration};

use clap::{Arg, ArgAction, Command};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

pub(super) use self::text::Text;
use super::rules::{
    Finding, Maker, PullText, PushText,
    access::AccessText,
    hidden_pulls,
    secrets::{Secrets, veil},
};
use crate::{
    access::Action,
    limits,
    relay::rules::{PullRule, PushRule},
};

/// A setting's values, as its flag would take them, and where they stand.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) values: Vec<String>,
    at: Range<usize>,
}

/// What is in a file.
#[derive(Clone, Debug)]
pub(super) struct ConfigFile {
    pub(super) text: Text,
    /// By flag, without dashes.
    pub(super) settings: BTreeMap<String, Setting>,
    pub(super) pulls: Vec<PullText>,
    pub(super) pushes: Vec<PushText>,
    /// In the order of their places, both actions' together.
    pub(super) access: Vec<AccessText>,
    /// In the order of their places.
    pub(super) findings: Vec<Finding>,
}

/// Flags that make no sense in a file.
const NOT_IN_FILES: [&str; 5] = ["config", "help", "version", "pull", "push"];

impl ConfigFile {
    /// `command` has the flags. An error is one line.
    pub(super) fn read(path: &Path, command: &Command) -> Result<Self, String> {
        Text::read(path).map(|text| Self::parse(text, command))
    }

    pub(super) fn parse(text: Text, command: &Command) -> Self {
        let mut file = Self {
            text,
            settings: BTreeMap::new(),
            pulls: Vec::new(),
            pushes: Vec::new(),
            access: Vec::new(),
            findings: Vec::new(),
        };
        let content = file.text.content.clone();
        let (table, errors) = DeTable::parse_recoverable(&content);
        for error in errors {
            let at = error.span().unwrap_or(0..0);
            file.findings.push(Finding::fault(at, error.message().lines().collect::<Vec<_>>().join("; ")));
        }
        for (key, value) in table.get_ref().iter() {
            file.take(key, value, command);
        }
        file.findings.sort_by_key(|finding| finding.at.start);
        // An error in the syntax is said once for its place.
        file.findings.dedup_by_key(|finding| finding.at.clone());
        file
    }

    fn take(&mut self, key: &Spanned<std::borrow::Cow<'_, str>>, value: &Spanned<DeValue<'_>>, command: &Command) {
        let name = key.get_ref().as_ref();
        let known = |arg: &&Arg| arg.get_long().is_some_and(|long| !NOT_IN_FILES.contains(&long));
        let flags = || command.get_arguments().filter(known);
        match (name, flags().find(|arg| arg.get_long() == Some(name))) {
            ("pull", _) => self.take_tables(key.span(), value, "pull"),
            ("push", _) => self.take_tables(key.span(), value, "push"),
            ("publish", _) => self.take_access(key.span(), value, Action::Publish),
            ("play", _) => self.take_access(key.span(), value, Action::Play),
            (_, Some(arg)) => match values(arg, value) {
                Ok(values) => drop(self.settings.insert(name.to_owned(), Setting { values, at: value.span() })),
                Err(finding) => self.findings.push(finding),
            },
            _ => {
                let names = flags().filter_map(Arg::get_long).chain(["pull", "push", "publish", "play"]);
                self.findings
                    .push(Finding::fault(key.span(), unknown(name, names, "shardcast --help lists the settings")));
            }
        }
    }

    /// Those that its rules may name.
    pub(super) fn secrets(&self) -> Secrets {
        Secrets::new(self.text.folder())
    }

    /// The rules, and what is wrong with them. Pulls outlive their last player by `linger` if they do not say otherwise.
    pub(super) fn rules(&self, secrets: &Secrets, linger: Duration) -> (Vec<PullRule>, Vec<PushRule>, Vec<Finding>) {
        let mut maker = Maker { secrets, linger, findings: Vec::new() };
        let made = self.pulls.iter().map(|text| (text, maker.pull(text))).collect::<Vec<_>>();
        let pushes = self.pushes.iter().filter_map(|text| maker.push(text)).collect();
        let (texts, pulls): (Vec<_>, Vec<_>) = made.into_iter().filter_map(|(text, rule)| Some((text, rule?))).unzip();
        let mut findings = maker.findings;
        for (later, earlier) in hidden_pulls(&pulls) {
            let (line, hiding) = (self.text.place(texts[earlier].streams.at.start), &pulls[earlier].pattern);
            let why =
                format!("this rule never counts: the one for {hiding} has its streams ({line}); move this above it");
            findings.push(Finding::warning(texts[later].streams.at.clone(), why));
        }
        if self.text.others_read {
            self.warn_of_passwords(&mut findings);
        }
        if self.pulls.len().max(self.pushes.len()) > limits::RELAY_RULES_MAX {
            let why = format!("more than {} rules of one kind", limits::RELAY_RULES_MAX);
            findings.push(Finding::fault(0..0, why));
        }
        findings.sort_by_key(|finding| finding.at.start);
        (pulls, pushes, findings)
    }

    /// Passwords that stand in the file itself, which every user can read.
    fn warn_of_passwords(&self, findings: &mut Vec<Finding>) {
        let sources = self.pulls.iter().flat_map(|text| text.sources.pieces());
        for url in sources.chain(self.pushes.iter().flat_map(|text| &text.targets)) {
            if veil(&url.text, false) != url.text {
                let path = self.text.path.display();
                let why =
                    format!("every user can read what is secret here: chmod o= {path}, or write {{file:PATH}} for it");
                findings.push(Finding::warning(url.at.clone(), why));
            }
        }
    }

    /// A fault in one line, with where to read on.
    pub(super) fn advised(&self, fault: &Finding) -> String {
        format!("{} (shardcast check {} shows it)", self.text.in_short(fault), self.text.path.display())
    }

    /// For [`Given`](super::args::Given): how a fault names what stands here.
    pub(super) fn places(&self) -> BTreeMap<String, String> {
        let place = |(name, setting): (&String, &Setting)| {
            (format!("--{name}"), format!("{}: {name}", self.text.place(setting.at.start)))
        };
        self.settings.iter().map(place).collect()
    }

    /// `command` with the file's values in place of the defaults, so that flags and variables go before them.
    pub(super) fn as_defaults(&self, command: Command) -> Command {
        command.mut_args(|arg| match arg.get_long().and_then(|long| self.settings.get(long)) {
            Some(setting) => arg.default_values(setting.values.clone()),
            None => arg,
        })
    }
}

/// What is said of an unknown key.
fn unknown<'a>(name: &str, names: impl Iterator<Item = &'a str>, or_else: &str) -> String {
    let likeness = |known: &&str| strsim::jaro_winkler(name, known);
    let nearest = names.max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match nearest.filter(|known| likeness(known) > 0.8) {
        Some(known) => format!("unknown key {name:?}: did you mean {known}?"),
        None => format!("unknown key {name:?}; {or_else}"),
    }
}

/// What `arg` would be given on the command line to mean `value`.
fn values(arg: &Arg, value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, Finding> {
    let is_list = matches!(arg.get_action(), ArgAction::Append);
    match value.get_ref() {
        DeValue::Array(items) if is_list && items.is_empty() => {
            Err(Finding::fault(value.span(), "expected at least one; leave the key out for the default"))
        }
        DeValue::Array(items) if is_list => items.iter().map(|item| one(arg, item)).collect(),
        DeValue::Array(_) => Err(Finding::fault(value.span(), "expected one value, not a list")),
        _ => one(arg, value).map(|value| vec![value]),
    }
}

fn one(arg: &Arg, value: &Spanned<DeValue<'_>>) -> Result<String, Finding> {
    let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
    let fault = |why: String| Finding::fault(value.span(), why);
    let text = match value.get_ref() {
        DeValue::Boolean(on) if is_switch => return Ok(on.to_string()),
        _ if is_switch => return Err(fault("expected true or false".to_owned())),
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(true) => "on".to_owned(),
        DeValue::Boolean(false) => "off".to_owned(),
        other => return Err(fault(format!("expected a value, not {}", what(other)))),
    };
    // The flag's own reader says what it takes, without its variable and without the other flags.
    let value = Arg::new("value").allow_hyphen_values(true).value_parser(arg.get_value_parser().clone());
    match Command::new("value").no_binary_name(true).arg(value).try_get_matches_from([&text]) {
        Ok(_) => Ok(text),
        Err(error) => Err(fault(std::error::Error::source(&error).map_or_else(
            || "this value is not taken".to_owned(),
            |why| format!("{}: {why}", arg.get_long().unwrap_or_default()),
        ))),
    }
}

/// How a value is called.
fn what(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests;
