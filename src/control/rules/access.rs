//! The operator's words for who may publish and play, made into rules, and the files they name read.
//!
//! What is wrong with a piece of text, or with the file it names, is said of its place. Bounds: [`limits::ACCESS_RULES_MAX`],
//! [`limits::NETWORKS_MAX`] and [`limits::ACCESS_FILE_BYTES_MAX`].

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use super::{super::small_file::SmallFile, Finding, Piece};
use crate::{
    access::{
        Action,
        keys::Keys,
        network::Network,
        rules::{AccessRules, Proof, Rule, Takes},
        secrets::SignSecrets,
        tokens::Tokens,
    },
    limits,
    relay::pattern::Pattern,
};

/// A rule as written.
#[derive(Clone, Debug)]
pub(in super::super) struct AccessText {
    pub(in super::super) action: Action,
    pub(in super::super) at: Range<usize>,
    /// How it is known, if it is not called otherwise.
    pub(in super::super) place: String,
    pub(in super::super) name: Option<Piece>,
    pub(in super::super) streams: Option<Piece>,
    pub(in super::super) allow: Vec<Piece>,
    pub(in super::super) deny: Vec<Piece>,
    /// Files.
    pub(in super::super) keys: Option<Piece>,
    pub(in super::super) links: Option<Piece>,
    pub(in super::super) tokens: Option<TokensText>,
    pub(in super::super) open: Option<bool>,
}

#[derive(Clone, Debug, Default)]
pub(in super::super) struct TokensText {
    /// Files.
    pub(in super::super) keys: Vec<Piece>,
    pub(in super::super) issuer: Option<Piece>,
    pub(in super::super) audience: Option<Piece>,
}

/// Rules, and the files that have a say in them.
#[derive(Debug, Default)]
pub(in super::super) struct AccessMade {
    pub(in super::super) rules: AccessRules,
    pub(in super::super) files: Vec<PathBuf>,
}

impl AccessMade {
    pub(in super::super) fn of(&mut self, action: Action) -> &mut Vec<Rule> {
        match action {
            Action::Publish => &mut self.rules.publish,
            Action::Play => &mut self.rules.play,
        }
    }
}

/// Makes rules of texts that all stand in one place.
pub(in super::super) struct AccessMaker<'a> {
    /// What a relative path starts at.
    pub(in super::super) folder: &'a Path,
    pub(in super::super) files: Vec<PathBuf>,
    pub(in super::super) findings: Vec<Finding>,
}

impl<'a> AccessMaker<'a> {
    pub(in super::super) fn new(folder: &'a Path) -> Self {
        Self { folder, files: Vec::new(), findings: Vec::new() }
    }

    /// `None` if something is wrong, which is among the findings then: a rule that went without a word would leave its streams
    /// to everybody.
    pub(in super::super) fn rule(&mut self, text: &AccessText) -> Option<Rule> {
        let before = self.findings.len();
        let rule = self.sound_rule(text);
        if rule.is_none() && !self.findings.iter().skip(before).any(Finding::is_fault) {
            self.fault(text.at.clone(), "this rule cannot be used");
        }
        rule
    }

    fn sound_rule(&mut self, text: &AccessText) -> Option<Rule> {
        let streams = text.streams.as_ref().map(|streams| {
            let parsed = Pattern::parse(&streams.text);
            parsed.map_err(|why| self.fault(streams.from(why.at), why.fault.to_string())).ok()
        });
        let (allow, deny) = (self.networks(&text.allow), self.networks(&text.deny));
        let keys = text.keys.as_ref().map(|file| self.keys(file));
        let links = text.links.as_ref().map(|file| self.links(file));
        let tokens = text.tokens.as_ref().map(|tokens| self.tokens(tokens));
        let takes = self.takes(text);
        let proof = Proof { keys: all(keys)?, links: all(links)?, tokens: all(tokens)? };
        Some(Rule {
            name: text.name.as_ref().map_or(text.place.as_str(), |name| &name.text).into(),
            streams: all(streams)?,
            allow: allow?,
            deny: deny?,
            takes: takes?.unwrap_or(Takes::Proof(proof)),
        })
    }

    /// Whom the rule lets in; `None` inside: who proves it.
    fn takes(&mut self, text: &AccessText) -> Option<Option<Takes>> {
        let proves = text.keys.is_some() || text.links.is_some() || text.tokens.is_some();
        match (text.open, proves) {
            (None, true) => Some(None),
            (Some(true), false) => Some(Some(Takes::Everybody)),
            (Some(false), false) => Some(Some(Takes::Nobody)),
            // Who is allowed by address needs nothing else.
            (None, false) if !text.allow.is_empty() => Some(Some(Takes::Everybody)),
            (None, false) => {
                let why = "whom does this rule let in? It needs keys, signed, jwt or allow; or open = true for all others, \
                           open = false for nobody";
                self.fault(text.at.clone(), why);
                None
            }
            (Some(_), true) => {
                let why =
                    "open goes without keys, signed and jwt: is this rule for everybody, or for those who have one?";
                self.fault(text.at.clone(), why);
                None
            }
        }
    }

    pub(in super::super) fn networks(&mut self, pieces: &[Piece]) -> Option<Vec<Network>> {
        let networks = pieces
            .iter()
            .map(|piece| Network::parse(&piece.text).map_err(|why| self.fault(piece.at.clone(), why.to_string())).ok());
        let networks = networks.collect::<Vec<_>>().into_iter().collect::<Option<Vec<_>>>()?;
        if networks.len() > limits::NETWORKS_MAX {
            let why = format!("{} networks, at most {} are taken", networks.len(), limits::NETWORKS_MAX);
            self.fault(pieces[0].at.clone(), why);
            return None;
        }
        Some(networks)
    }

    pub(in super::super) fn keys(&mut self, file: &Piece) -> Option<Keys> {
        // Of hashes nothing can be learned.
        let text = self.read(file, false)?;
        let keys = Keys::parse(&text).map_err(|why| self.fault_in(file, &why.to_string())).ok()?;
        if keys.is_empty() {
            self.warn_of_nothing(file, "no key", "shardcast key NAME");
        }
        Some(keys)
    }

    pub(in super::super) fn links(&mut self, file: &Piece) -> Option<SignSecrets> {
        let text = self.read(file, true)?;
        let secrets = SignSecrets::parse(&text).map_err(|why| self.fault_in(file, &why.to_string())).ok()?;
        if secrets.is_empty() {
            self.warn_of_nothing(file, "no secret", "shardcast key --secret");
        }
        Some(secrets)
    }

    pub(in super::super) fn tokens(&mut self, text: &TokensText) -> Option<Tokens> {
        let own = |piece: &Option<Piece>| piece.as_ref().map(|piece| piece.text.clone());
        let mut tokens = Tokens::default();
        (tokens.issuer, tokens.audience) = (own(&text.issuer), own(&text.audience));
        let mut sound = true;
        for file in &text.keys {
            let name = Path::new(&file.text).file_stem().unwrap_or_default().to_string_lossy();
            let added = self.read(file, true).map(|text| tokens.add(&name, &text));
            if let Some(Err(why)) = &added {
                self.fault_in(file, why);
            }
            sound &= matches!(added, Some(Ok(())));
        }
        if sound && tokens.is_empty() {
            // Whoever makes such a text sees to it that it names a file.
            let file = text.keys.last()?;
            self.warn_of_nothing(file, "no key", "shardcast key --secret");
        }
        sound.then_some(tokens)
    }

    fn read(&mut self, file: &Piece, is_secret: bool) -> Option<String> {
        let path = self.folder.join(&file.text);
        let read = SmallFile::read(&path, limits::ACCESS_FILE_BYTES_MAX);
        self.files.push(path.clone());
        let read = read.and_then(|read| Ok((read.others_read(), read.others_write(), read.into_text()?)));
        match read {
            Ok((others_read, others_write, text)) => {
                let shown = path.display();
                if is_secret && others_read && !text.contains("-----BEGIN") {
                    self.warn(file, format!("every user can read {shown}: chmod o= {shown}"));
                } else if others_write {
                    self.warn(file, format!("every user can write {shown}: chmod o= {shown}"));
                }
                Some(text)
            }
            Err(why) => {
                self.fault_in(file, &why);
                None
            }
        }
    }

    fn fault(&mut self, at: Range<usize>, why: impl Into<String>) {
        self.findings.push(Finding::fault(at, why));
    }

    fn fault_in(&mut self, file: &Piece, why: &str) {
        let path = self.folder.join(&file.text);
        self.fault(file.at.clone(), format!("{}: {why}", path.display()));
    }

    fn warn(&mut self, file: &Piece, why: String) {
        self.findings.push(Finding::warning(file.at.clone(), why));
    }

    fn warn_of_nothing(&mut self, file: &Piece, nothing: &str, maker: &str) {
        let path = self.folder.join(&file.text);
        let why = format!("there is {nothing} in {}, so nobody has one; {maker} makes one", path.display());
        self.warn(file, why);
    }
}

/// What is there has to be sound; what is not there may be missing.
fn all<T>(made: Option<Option<T>>) -> Option<Option<T>> {
    match made {
        Some(None) => None,
        made => Some(made.flatten()),
    }
}

/// Whether `earlier` has all streams of `later`.
pub(in super::super) fn covers(earlier: &Rule, later: &Rule) -> bool {
    match (&earlier.streams, &later.streams) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(earlier), Some(later)) => earlier.covers(later),
    }
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
