//! The flags for who may publish and play: one rule for each of both, for all streams that no rule of the file is for.

use std::path::Path;

use clap::Args;

use super::{
    super::{
        file::ConfigFile,
        rules::{
            Finding, Piece,
            access::{AccessMade, AccessMaker, TokensText},
        },
    },
    Given,
};
use crate::access::{
    Action,
    rules::{Proof, Rule, Takes},
};

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Access (see docs/access.md)")]
pub(in super::super) struct AccessArgs {
    /// Let those publish who bring a key of this file, as in show?key=KEY. shardcast key makes its lines: NAME HASH, and
    /// streams if the key is not for all. Of several ways to prove a right, one is enough. Files are read again when they
    /// change
    #[arg(long, env = "SHARDCAST_PUBLISH_KEYS", value_name = "FILE")]
    publish_keys: Option<String>,

    /// Let those publish who have a link signed by a secret of this file, as shardcast sign makes it
    #[arg(long, env = "SHARDCAST_PUBLISH_SIGNED", value_name = "FILE")]
    publish_signed: Option<String>,

    /// Let those publish who bring a JSON web token, as in show?token=.., signed by a key of these files: public keys as
    /// PEM, or one file of secrets
    #[arg(long, env = "SHARDCAST_PUBLISH_JWT", value_name = "FILE", value_delimiter = ',')]
    publish_jwt: Vec<String>,

    /// Let publish from these networks only, such as 10.0.0.0/8,2001:db8::/32
    #[arg(long, env = "SHARDCAST_PUBLISH_FROM", value_name = "CIDR", value_delimiter = ',')]
    publish_from: Vec<String>,

    /// As --publish-keys, for players
    #[arg(long, env = "SHARDCAST_PLAY_KEYS", value_name = "FILE")]
    play_keys: Option<String>,

    /// As --publish-signed, for players
    #[arg(long, env = "SHARDCAST_PLAY_SIGNED", value_name = "FILE")]
    play_signed: Option<String>,

    /// As --publish-jwt, for players
    #[arg(long, env = "SHARDCAST_PLAY_JWT", value_name = "FILE", value_delimiter = ',')]
    play_jwt: Vec<String>,

    /// As --publish-from, for players
    #[arg(long, env = "SHARDCAST_PLAY_FROM", value_name = "CIDR", value_delimiter = ',')]
    play_from: Vec<String>,

    /// Take tokens of this issuer (iss) only
    #[arg(long, env = "SHARDCAST_JWT_ISSUER", value_name = "NAME")]
    jwt_issuer: Option<String>,

    /// Take tokens for this audience (aud) only; those that name one are not taken otherwise
    #[arg(long, env = "SHARDCAST_JWT_AUDIENCE", value_name = "NAME")]
    jwt_audience: Option<String>,
}

/// Where the rules of who may publish and play come from: flags, with their variables, and the file.
#[derive(Clone, Debug)]
pub(in super::super) struct AccessSource {
    args: AccessArgs,
    given: Given,
    file: Option<ConfigFile>,
}

impl AccessSource {
    pub(super) fn new(args: AccessArgs, given: &Given, file: Option<&ConfigFile>) -> Self {
        Self { args, given: given.clone(), file: file.cloned() }
    }

    /// The rules, with the files they name as those are now. The error is one line.
    pub(in super::super) fn make(&self, notes: &mut Vec<String>) -> Result<AccessMade, String> {
        self.args.rules(&self.given, self.file.as_ref(), notes)
    }

    /// The same start with the configuration file as it is now. The error is one line.
    pub(in super::super) fn again(&self) -> Result<Self, String> {
        if let Some(path) = self.file.as_ref().map(|file| &file.text.path).filter(|path| !path.is_file()) {
            return Err(format!("{}: not a file (any more): it cannot be read again", path.display()));
        }
        super::access(&self.given)
    }
}

impl AccessArgs {
    /// The rules of the file, and behind them those that the flags are. The error is one line.
    fn rules(&self, given: &Given, file: Option<&ConfigFile>, notes: &mut Vec<String>) -> Result<AccessMade, String> {
        let mut made = AccessMade::default();
        if let Some(file) = file {
            let (of_file, findings) = file.access();
            if let Some(fault) = findings.iter().find(|finding| finding.is_fault()) {
                return Err(file.advised(fault));
            }
            notes.extend(findings.iter().map(|finding| file.text.in_short(finding)));
            made = of_file;
        }
        for action in [Action::Publish, Action::Play] {
            let mut reader = Reader { given, file, notes, files: &mut made.files, flags: Vec::new() };
            let rule = self.rule(action, &mut reader)?;
            let Some(rule) = rule else { continue };
            if let Some(hiding) = made.of(action).iter().find(|earlier| earlier.streams.is_none()) {
                notes.push(format!("the {} never counts: the {} is for all streams", rule.name, hiding.name));
            }
            made.of(action).push(rule);
        }
        if (self.jwt_issuer.is_some() || self.jwt_audience.is_some())
            && self.publish_jwt.is_empty()
            && self.play_jwt.is_empty()
        {
            notes.push("--jwt-issuer and --jwt-audience count with --publish-jwt and --play-jwt only".to_owned());
        }
        Ok(made)
    }

    fn rule(&self, action: Action, reader: &mut Reader<'_>) -> Result<Option<Rule>, String> {
        let (keys, links, tokens, from) = match action {
            Action::Publish => (&self.publish_keys, &self.publish_signed, &self.publish_jwt, &self.publish_from),
            Action::Play => (&self.play_keys, &self.play_signed, &self.play_jwt, &self.play_from),
        };
        let flag = |what| format!("--{}-{what}", action.name());
        let piece = |text: &String| Piece::new(text, 0);
        let keys = keys.as_ref().map(|file| reader.read(flag("keys"), file, |maker| maker.keys(&piece(file))));
        let keys = keys.transpose()?;
        let links = links.as_ref().map(|file| reader.read(flag("signed"), file, |maker| maker.links(&piece(file))));
        let links = links.transpose()?;
        let (issuer, audience) = (self.jwt_issuer.as_ref().map(piece), self.jwt_audience.as_ref().map(piece));
        let text = TokensText { keys: tokens.iter().map(piece).collect(), issuer, audience };
        let tokens = match tokens.is_empty() {
            true => None,
            false => Some(reader.read(flag("jwt"), &tokens.join(","), |maker| maker.tokens(&text))?),
        };
        let networks = from.iter().map(piece).collect::<Vec<_>>();
        let allow = match from.is_empty() {
            true => Vec::new(),
            false => reader.read(flag("from"), &from.join(","), |maker| maker.networks(&networks))?,
        };
        let proof = Proof { keys, links, tokens };
        if proof.is_empty() && allow.is_empty() {
            return Ok(None);
        }
        let takes = if proof.is_empty() { Takes::Everybody } else { Takes::Proof(proof) };
        let name = format!("rule of {}", reader.flags.join(" and ")).into();
        Ok(Some(Rule { name, streams: None, deny: Vec::new(), allow, takes }))
    }
}

/// Reads what flags name.
struct Reader<'a> {
    given: &'a Given,
    file: Option<&'a ConfigFile>,
    notes: &'a mut Vec<String>,
    files: &'a mut Vec<std::path::PathBuf>,
    /// Those that are given.
    flags: Vec<String>,
}

impl Reader<'_> {
    fn read<T>(
        &mut self,
        flag: String,
        value: &str,
        make: impl FnOnce(&mut AccessMaker<'_>) -> Option<T>,
    ) -> Result<T, String> {
        let origin = self.given.origin(&flag);
        // As what else a configuration file names, its files stand beside it.
        let folder = match self.file.filter(|file| file.places().get(&flag) == Some(&origin)) {
            Some(file) => file.text.folder(),
            None => Path::new(""),
        };
        self.flags.push(flag);
        let mut maker = AccessMaker::new(folder);
        let made = make(&mut maker);
        self.files.append(&mut maker.files);
        let said = |finding: &Finding| format!("{origin} {value:?}: {}", finding.text);
        if let Some(fault) = maker.findings.iter().find(|finding| finding.is_fault()) {
            return Err(said(fault));
        }
        self.notes.extend(maker.findings.iter().map(said));
        made.ok_or_else(|| format!("{origin} {value:?}: expected the name of a file"))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{fault, settings_of},
        *,
    };

    fn file(name: &str, content: &str) -> String {
        let path = std::env::temp_dir().join(format!("shardcast-access-args-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    #[test]
    fn flags_are_a_rule_for_all_streams() {
        let keys = file("keys", &crate::access::keys::line("a", "correct-horse-battery", "s", &[]).unwrap());
        let secret = file("secret", "0123456789abcdef");
        let line = format!(
            "--publish-keys {keys} --publish-from 10.0.0.0/8,::1 --play-signed {secret} --play-jwt {secret} \
             --jwt-issuer me --jwt-audience you"
        );
        let settings = settings_of(&line).unwrap();
        let access = settings.config.access.get();
        let [publish] = &access.publish[..] else { panic!("{access:?}") };
        assert_eq!(&*publish.name, "rule of --publish-keys and --publish-from");
        assert!(publish.streams.is_none() && publish.allow.len() == 2);
        let [Rule { takes: Takes::Proof(proof), .. }] = &access.play[..] else { panic!("{access:?}") };
        assert!(proof.keys.is_none() && proof.links.is_some());
        let tokens = proof.tokens.as_ref().unwrap();
        assert_eq!((tokens.issuer.as_deref(), tokens.audience.as_deref()), (Some("me"), Some("you")));
        // Everybody may read what the umask lets them.
        assert!(settings.notes.iter().all(|note| note.contains("chmod o=")), "{:?}", settings.notes);
        [keys, secret].iter().for_each(|file| std::fs::remove_file(file).unwrap());
        let without = settings_of("").unwrap().config.access.get();
        assert!(without.publish.is_empty() && without.play.is_empty());
    }

    #[test]
    fn files_stand_beside_what_names_them() {
        let folder = std::env::temp_dir().join(format!("shardcast-access-beside-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("links.secret"), "0123456789abcdef").unwrap();
        let config = folder.join("node.toml");
        std::fs::write(&config, "play-signed = \"links.secret\"\n").unwrap();
        let config = config.to_str().unwrap();
        let settings = settings_of(&format!("--config {config}")).unwrap();
        assert_eq!(settings.config.access.get().play.len(), 1);
        assert_eq!(settings.access.unwrap().files, [folder.join("links.secret")]);
        // The flag goes before it, and starts where the node does.
        let said = fault(&format!("--config {config} --play-signed links.secret"));
        assert!(said.starts_with("--play-signed \"links.secret\": links.secret: No such file"), "{said}");
        std::fs::write(folder.join("links.secret"), "short").unwrap();
        let said = fault(&format!("--config {config}"));
        assert!(said.starts_with(&format!("{config}:1:15: play-signed \"links.secret\": ")), "{said}");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn bad_values_are_named() {
        assert!(
            fault("--publish-keys /nowhere/keys")
                .starts_with("--publish-keys \"/nowhere/keys\": /nowhere/keys: No such")
        );
        assert!(fault("--play-jwt /").contains("not a file"));
        assert!(fault("--play-from 10.1.0.0/8").ends_with("did you mean 10.0.0.0/8?"));
        let bad = file("bad", "studio hunter2\n");
        let said = fault(&format!("--publish-keys {bad}"));
        assert!(said.contains("line 1: expected NAME sha256:SALT:HASH") && !said.contains("hunter2"), "{said}");
        std::fs::remove_file(bad).unwrap();
    }

    #[test]
    fn an_issuer_without_tokens_is_worth_a_note() {
        assert!(settings_of("--jwt-issuer me").unwrap().notes.iter().any(|note| note.contains("--play-jwt")));
    }
}
