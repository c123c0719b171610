//! The operator's words for what to pull and push, of flags and of the configuration file, made into rules.
//!
//! Both come here as pieces of text with the place where each stands, so that what is wrong with a piece is said there. Bounds:
//! [`limits::RELAY_RULES_MAX`], [`limits::SOURCES_MAX`] and [`limits::TARGETS_MAX`].

pub(super) mod access;
pub(super) mod secrets;

use std::{ops::Range, sync::Arc, time::Duration};

use self::secrets::Secrets;
use crate::{
    limits,
    relay::{
        lookup::{InOrder, Weighted},
        pattern::Pattern,
        rules::{Lookup, PullRule, PushRule},
        template::Template,
    },
};

/// Something to say about a place of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// Bytes of the text.
    pub(super) at: Range<usize>,
    grade: Grade,
    pub(super) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grade {
    Fault,
    Warning,
}

impl Finding {
    pub(super) fn fault(at: Range<usize>, text: impl Into<String>) -> Self {
        Self { at, grade: Grade::Fault, text: text.into() }
    }

    pub(super) fn warning(at: Range<usize>, text: impl Into<String>) -> Self {
        Self { at, grade: Grade::Warning, text: text.into() }
    }

    pub(super) fn is_fault(&self) -> bool {
        self.grade == Grade::Fault
    }
}

/// A text of the operator's, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) at: Range<usize>,
}

impl Piece {
    pub(super) fn new(text: &str, start: usize) -> Self {
        Self { text: text.to_owned(), at: start..start + text.len() }
    }

    /// The place of the character at a byte of the text, or of all of it where that is its end.
    fn from(&self, byte: usize) -> Range<usize> {
        match self.text.get(byte..).and_then(|rest| rest.chars().next()) {
            Some(c) => self.part(byte..byte + c.len_utf8()),
            None => self.at.clone(),
        }
    }

    /// The place of a part of the text, where its bytes stand as they are: not in a string with escapes.
    fn part(&self, part: Range<usize>) -> Range<usize> {
        match self.at.len() == self.text.len() {
            true => self.at.start + part.start..self.at.start + part.end,
            false => self.at.clone(),
        }
    }
}

/// Where a stream is pulled from, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sources {
    InOrder(Vec<Piece>),
    /// Spread over origins by weight.
    Spread {
        origins: Vec<(Piece, u32)>,
        backups: Vec<Piece>,
    },
}

impl Sources {
    /// All URLs.
    pub(super) fn pieces(&self) -> Vec<&Piece> {
        match self {
            Self::InOrder(sources) => sources.iter().collect(),
            Self::Spread { origins, backups } => origins.iter().map(|(url, _)| url).chain(backups).collect(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PullText {
    pub(super) streams: Piece,
    pub(super) sources: Sources,
    pub(super) always: bool,
    /// The node's, unless it has its own.
    pub(super) linger: Option<Duration>,
    /// Its sources expect a PROXY header.
    pub(super) proxied: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PushText {
    pub(super) streams: Piece,
    pub(super) targets: Vec<Piece>,
    /// They expect a PROXY header.
    pub(super) proxied: bool,
}

/// The rules of one value of `--pull`, or of `--push` (then all URLs are meant at once): `STREAMS=URL[,URL..]`, several apart
/// by blanks.
pub(super) fn of_flag(value: &str) -> Result<Vec<(Piece, Vec<Piece>)>, Finding> {
    let mut rules = Vec::new();
    for rule in words(value) {
        let text = &value[rule.clone()];
        let Some((streams, urls)) = text.split_once('=') else {
            let example = "expected STREAMS=URL, such as live/*=rtmp://origin/live/{stream}";
            return Err(Finding::fault(rule, example));
        };
        let pieces = of_list(urls, rule.start + streams.len() + 1)?;
        rules.push((Piece::new(streams, rule.start), pieces));
    }
    match rules.is_empty() {
        true => Err(Finding::fault(0..value.len(), "expected STREAMS=URL")),
        false => Ok(rules),
    }
}

/// URLs separated by commas; the first byte is at `start`.
pub(super) fn of_list(urls: &str, mut start: usize) -> Result<Vec<Piece>, Finding> {
    let mut pieces = Vec::new();
    for url in urls.split(',') {
        if url.is_empty() {
            return Err(Finding::fault(start..start, "expected a URL; a comma in one is written %2C"));
        }
        pieces.push(Piece::new(url, start));
        start += url.len() + 1;
    }
    Ok(pieces)
}

/// Where the words of a text stand.
fn words(text: &str) -> Vec<Range<usize>> {
    text.split_whitespace()
        .map(|word| {
            let start = word.as_ptr().addr() - text.as_ptr().addr();
            start..start + word.len()
        })
        .collect()
}

/// Makes rules of texts that all stand in one place, a flag's value or a file.
pub(super) struct Maker<'a> {
    pub(super) secrets: &'a Secrets,
    pub(super) linger: Duration,
    pub(super) findings: Vec<Finding>,
}

impl Maker<'_> {
    /// `None` if something is wrong, which is among the findings then.
    pub(super) fn pull(&mut self, text: &PullText) -> Option<PullRule> {
        let pattern = self.pattern(&text.streams);
        let origins: Option<Arc<dyn Lookup>> = match &text.sources {
            Sources::InOrder(sources) => {
                let sound = self.count(&text.streams, sources.len(), limits::SOURCES_MAX, "sources");
                let sources = self.templates(sources, true, text.proxied);
                sources.filter(|_| sound).map(|sources| Arc::new(InOrder(sources)) as Arc<dyn Lookup>)
            }
            Sources::Spread { origins, backups } => {
                let all = origins.len().saturating_add(backups.len());
                let sound = self.count(&text.streams, all, limits::SOURCES_MAX, "origins and backups");
                let weights = origins.iter().map(|(_, weight)| *weight).collect::<Vec<_>>();
                let pieces = origins.iter().map(|(piece, _)| piece.clone()).collect::<Vec<_>>();
                let (origins, backups) =
                    (self.templates(&pieces, true, text.proxied), self.templates(backups, true, text.proxied));
                origins.zip(backups).filter(|_| sound).map(|(origins, backups)| {
                    let origins = origins.into_iter().zip(weights).collect();
                    Arc::new(Weighted { origins, backups }) as Arc<dyn Lookup>
                })
            }
        };
        let pattern = pattern?;
        if text.always && !pattern.is_exact() {
            let why = "a stream that is always pulled is named in full: without *, and not by its app alone";
            self.findings.push(Finding::fault(text.streams.at.clone(), why));
            return None;
        }
        Some(PullRule { pattern, origins: origins?, always: text.always, linger: text.linger.unwrap_or(self.linger) })
    }

    pub(super) fn push(&mut self, text: &PushText) -> Option<PushRule> {
        let pattern = self.pattern(&text.streams);
        let sound = self.count(&text.streams, text.targets.len(), limits::TARGETS_MAX, "targets");
        let targets = self.templates(&text.targets, false, text.proxied);
        for (index, target) in text.targets.iter().enumerate() {
            if text.targets[..index].iter().any(|earlier| earlier.text == target.text) {
                self.findings.push(Finding::fault(target.at.clone(), "this target stands there twice"));
                return None;
            }
        }
        Some(PushRule { pattern: pattern?, targets: targets.filter(|_| sound)? })
    }

    fn count(&mut self, streams: &Piece, count: usize, most: usize, what: &str) -> bool {
        if (1..=most).contains(&count) {
            return true;
        }
        self.findings.push(Finding::fault(streams.at.clone(), format!("it has {count} {what}, expected 1 to {most}")));
        false
    }

    fn pattern(&mut self, streams: &Piece) -> Option<Pattern> {
        let parsed = Pattern::parse(&streams.text);
        parsed.map_err(|why| self.findings.push(Finding::fault(streams.from(why.at), why.fault.to_string()))).ok()
    }

    /// All of them, or none: each that is wrong is among the findings.
    fn templates(&mut self, pieces: &[Piece], names_are_shown: bool, proxied: bool) -> Option<Vec<Template>> {
        let made = pieces.iter().map(|piece| Some(self.template(piece, names_are_shown)?.behind_proxy(proxied)));
        let made = made.collect::<Vec<_>>();
        made.into_iter().collect()
    }

    fn template(&mut self, piece: &Piece, names_are_shown: bool) -> Option<Template> {
        let mut found = Vec::new();
        let filled = self.secrets.fill(&piece.text, names_are_shown, &mut found);
        let placed = found.into_iter().map(|finding| Finding { at: piece.part(finding.at.clone()), ..finding });
        self.findings.extend(placed);
        let filled = filled?;
        match (Template::parse(&filled.text), Template::parse(&filled.veiled)) {
            (Ok(template), _) => Some(template),
            (Err(_), Err(why)) => {
                self.findings.push(Finding::fault(piece.from(why.at), why.fault.to_string()));
                None
            }
            // What is wrong is a secret.
            (Err(_), Ok(_)) => {
                let why = "what {env:..} or {file:..} stands for does not fit into the URL there";
                self.findings.push(Finding::fault(piece.at.clone(), why));
                None
            }
        }
    }
}

/// See [`hidden`].
pub(super) fn hidden_pulls(rules: &[PullRule]) -> Vec<(usize, usize)> {
    hidden(rules, |earlier, later| earlier.pattern.covers(&later.pattern))
}

/// Which rules never count because an earlier one `covers` all of their streams: pairs of the hidden and the hiding.
pub(super) fn hidden<R>(rules: &[R], covers: impl Fn(&R, &R) -> bool) -> Vec<(usize, usize)> {
    let hiding = |later: &R, before: &[R]| before.iter().position(|earlier| covers(earlier, later));
    let pairs = rules.iter().enumerate().map(|(index, later)| (index, hiding(later, &rules[..index])));
    pairs.filter_map(|(index, earlier)| Some((index, earlier?))).collect()
}

#[cfg(test)]
mod tests;
