//! `[[publish]]` and `[[play]]` of a configuration file.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{ConfigFile, rules::entry};
use crate::{
    access::Action,
    control::rules::{
        Finding, Piece,
        access::{AccessMade, AccessMaker, AccessText, TokensText, covers},
        hidden,
    },
    limits,
};

const RULE_KEYS: [&str; 8] = ["name", "streams", "allow", "deny", "keys", "signed", "jwt", "open"];
const TOKEN_KEYS: [&str; 3] = ["keys", "issuer", "audience"];

impl ConfigFile {
    /// All tables for an action.
    pub(super) fn take_access(&mut self, key: Range<usize>, value: &Spanned<DeValue<'_>>, action: Action) {
        let items = match value.get_ref() {
            DeValue::Array(items) => Some(items),
            _ => None,
        };
        // Of an empty list everybody would be let in, where nobody may have been meant.
        let Some(items) = items.filter(|items| !items.is_empty()) else {
            let name = action.name();
            let why = format!("expected [[{name}]] on a line, and below it streams = \"..\" and who may {name} them");
            self.findings.push(Finding::fault(key, why));
            return;
        };
        for item in items.iter() {
            match item.get_ref() {
                DeValue::Table(table) => {
                    let text = self.access_rule(item.span(), table, action);
                    self.access.extend(text);
                }
                _ => {
                    let why = format!("expected [[{}]] on a line", action.name());
                    self.findings.push(Finding::fault(item.span(), why));
                }
            }
        }
        self.access.sort_by_key(|text| text.at.start);
    }

    fn access_rule(&mut self, at: Range<usize>, table: &DeTable<'_>, action: Action) -> Option<AccessText> {
        let before = self.findings.len();
        self.refuse_unknown(table, &RULE_KEYS);
        let string = |file: &mut Self, key| entry(table, key).and_then(|(_, value)| file.string(value));
        let (name, streams) = (string(self, "name"), string(self, "streams"));
        let (keys, links) = (string(self, "keys"), string(self, "signed"));
        let strings = |file: &mut Self, key| {
            let Some((_, value)) = entry(table, key) else { return Vec::new() };
            let strings = file.strings(value);
            if strings.is_empty() {
                // Which would let everybody in, where nobody may have been meant.
                file.findings.push(Finding::fault(value.span(), "expected at least one; leave the key out for all"));
            }
            strings
        };
        let (allow, deny) = (strings(self, "allow"), strings(self, "deny"));
        let tokens = entry(table, "jwt").and_then(|(_, value)| self.tokens(value));
        let open = entry(table, "open").map(|(_, value)| self.boolean(value));
        let line = self.text.place(at.start);
        let line = line.rsplit_once(':').map_or(line.as_str(), |(line, _)| line);
        let place = format!("{} rule at {line}", action.name());
        let text = AccessText { action, at, place, name, streams, allow, deny, keys, links, tokens, open };
        // One that lacks what could not be read might let more in than was meant.
        (self.findings.len() == before).then_some(text)
    }

    /// A table, or only its files.
    fn tokens(&mut self, value: &Spanned<DeValue<'_>>) -> Option<TokensText> {
        let DeValue::Table(table) = value.get_ref() else {
            let keys = self.token_keys(value, Some(value))?;
            return Some(TokensText { keys, ..TokensText::default() });
        };
        self.refuse_unknown(table, &TOKEN_KEYS);
        let keys = self.token_keys(value, entry(table, "keys").map(|(_, value)| value))?;
        let mut string = |key| entry(table, key).and_then(|(_, value)| self.string(value));
        Some(TokensText { keys, issuer: string("issuer"), audience: string("audience") })
    }

    /// The files in `keys`, of which `whole` needs one at least.
    fn token_keys(&mut self, whole: &Spanned<DeValue<'_>>, keys: Option<&Spanned<DeValue<'_>>>) -> Option<Vec<Piece>> {
        let before = self.findings.len();
        let keys = keys.map(|keys| self.strings(keys)).unwrap_or_default();
        if keys.is_empty() && self.findings.len() == before {
            let why = "keys = [\"FILE\"] is missing: a public key as PEM, or secrets";
            self.findings.push(Finding::fault(whole.span(), why));
        }
        Some(keys).filter(|keys| !keys.is_empty())
    }

    /// The rules, and what is wrong with them and with the files they name.
    pub(in super::super) fn access(&self) -> (AccessMade, Vec<Finding>) {
        let mut maker = AccessMaker::new(self.text.folder());
        let mut made = AccessMade::default();
        let mut findings = Vec::new();
        for action in [Action::Publish, Action::Play] {
            let texts = self.access.iter().filter(|text| text.action == action);
            let rules = texts.filter_map(|text| Some((text, maker.rule(text)?)));
            let (texts, rules): (Vec<_>, Vec<_>) = rules.unzip();
            for (later, earlier) in hidden(&rules, covers) {
                let line = self.text.place(texts[earlier].at.start);
                let streams = rules[earlier].streams.as_ref().map_or("all streams".to_owned(), ToString::to_string);
                let why = format!(
                    "this rule never counts: the one for {streams} has its streams ({line}); move this above it"
                );
                findings.push(Finding::warning(texts[later].at.clone(), why));
            }
            if rules.len() > limits::ACCESS_RULES_MAX {
                let why = format!("more than {} rules of who may {}", limits::ACCESS_RULES_MAX, action.name());
                findings.push(Finding::fault(0..0, why));
            }
            *made.of(action) = rules;
        }
        made.files = maker.files;
        findings.extend(maker.findings);
        findings.sort_by_key(|finding| finding.at.start);
        (made, findings)
    }
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
