use std::path::PathBuf;

use clap::CommandFactory;

use super::*;
use crate::{
    access::{keys, rules::Takes},
    control::{args::Args, file::Text},
};

/// A folder with files that rules name.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("shardcast-access-file-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let key = keys::line("studio", "correct-horse-battery", "salt", &[]).unwrap();
        std::fs::write(path.join("keys.txt"), key).unwrap();
        std::fs::write(path.join("links.secret"), "may 0123456789abcdef\n").unwrap();
        std::fs::write(path.join("bad.txt"), "# one\nstudio hunter2\n").unwrap();
        std::fs::write(path.join("empty.txt"), "").unwrap();
        Self(path)
    }

    fn read(&self, content: &str) -> ConfigFile {
        ConfigFile::parse(Text::of(self.0.join("f.toml"), content), &Args::command())
    }

    /// All that is found, each as `LINE:COLUMN: what`, but for what the umask of the tests brings with it.
    fn said(&self, content: &str) -> Vec<String> {
        let file = self.read(content);
        let (_, of_access) = file.access();
        let findings = file.findings.iter().chain(&of_access).filter(|finding| !finding.text.contains("chmod"));
        let start = self.0.join("f.toml").display().to_string().len() + 1;
        findings.map(|finding| file.text.in_short(finding)[start..].to_owned()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const WHOLE: &str = r#"
publish-from = "127.0.0.1"

[[publish]]
name = "the studio"
streams = "live/*"
allow = ["10.0.0.0/8", "2001:db8::/32"]
deny = "10.9.0.0/16"
keys = "keys.txt"
signed = "links.secret"

[[play]]
streams = "vip/*"
jwt = { keys = ["links.secret"], issuer = "backend", audience = "shardcast" }

[[play]]
streams = "vod/*"
jwt = "links.secret"

[[play]]
open = true
"#;

#[test]
fn a_whole_file_is_read() {
    let folder = Folder::new("whole");
    assert_eq!(folder.said(WHOLE), [""; 0]);
    let file = folder.read(WHOLE);
    let (made, _) = file.access();
    let [publish] = &made.rules.publish[..] else { panic!("{made:?}") };
    assert_eq!((&*publish.name, publish.allow.len(), publish.deny.len()), ("the studio", 2, 1));
    let Takes::Proof(proof) = &publish.takes else { panic!("{publish:?}") };
    assert!(proof.keys.is_some() && proof.links.is_some() && proof.tokens.is_none());
    let [vip, vod, rest] = &made.rules.play[..] else { panic!("{made:?}") };
    assert!(vip.name.starts_with("play rule at ") && vip.name.ends_with("f.toml:12"), "{}", vip.name);
    let Takes::Proof(proof) = &vip.takes else { panic!("{vip:?}") };
    assert_eq!(proof.tokens.as_ref().unwrap().issuer.as_deref(), Some("backend"));
    assert!(vod.streams.is_some() && rest.streams.is_none() && matches!(rest.takes, Takes::Everybody));
    let files = made.files.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(files, ["keys.txt", "links.secret", "links.secret", "links.secret"]);
    assert_eq!(file.settings["publish-from"].values, ["127.0.0.1"]);
}

#[test]
fn what_is_wrong_is_said_at_its_place() {
    let folder = Folder::new("wrong");
    for (content, expected) in [
        ("publish = \"live/*\"", "1:1: expected [[publish]] on a line"),
        ("[play]\nopen = true", "1:2: expected [[play]] on a line"),
        ("play = []", "1:1: expected [[play]] on a line"),
        ("play = [1]", "1:9: expected [[play]] on a line"),
        ("[[publish]]\nkey = \"x\"", "2:1: unknown key \"key\": did you mean keys?"),
        ("[[publish]]\nopen = true\nshards = 1", "3:1: shards is a setting of the node"),
        ("[[publish]]\nstreams = \"live/*\"", "1:1: whom does this rule let in?"),
        ("[[publish]]\ndeny = \"10.0.0.0/8\"", "1:1: whom does this rule let in?"),
        ("[[publish]]\nopen = true\nkeys = \"keys.txt\"", "1:1: open goes without keys"),
        ("[[publish]]\nopen = \"yes\"", "2:8: expected true or false"),
        ("[[publish]]\nopen = true\nstreams = \"live/../x\"", "3:17: no stream's name"),
        ("[[publish]]\nopen = true\nstreams = 1", "3:11: expected a string in quotes"),
        ("[[publish]]\nallow = []", "2:9: expected at least one"),
        (
            "[[publish]]\nallow = [\"10.1.0.0/8\"]",
            "2:11: it has bits beyond those that count; did you mean 10.0.0.0/8?",
        ),
        ("[[publish]]\nallow = [\"office\"]", "2:11: expected an address or a network"),
        ("[[publish]]\nkeys = \"nowhere.txt\"", "2:9: "),
        ("[[publish]]\nkeys = [\"keys.txt\"]", "2:8: expected a string in quotes, not a list"),
        ("[[play]]\njwt = {}", "2:7: keys = [\"FILE\"] is missing"),
        ("[[play]]\njwt = { keys = [] }", "2:7: keys = [\"FILE\"] is missing"),
        ("[[play]]\njwt = []", "2:7: keys = [\"FILE\"] is missing"),
        ("[[play]]\njwt = [1]", "2:8: expected a string in quotes"),
        ("[[play]]\njwt = { key = \"a\" }", "2:9: unknown key \"key\": did you mean keys?"),
        ("[[play]]\njwt = 1", "2:7: expected a string in quotes"),
        ("plays = 1", "1:1: unknown key \"plays\": did you mean play?"),
    ] {
        let said = folder.said(content);
        assert!(said.iter().any(|line| line.starts_with(expected)), "{content}\n{said:#?}");
    }
    let said = folder.said("[[publish]]\nkeys = \"bad.txt\"");
    assert!(
        said.len() == 1 && said[0].contains("bad.txt: line 2: expected NAME sha256") && !said[0].contains("hunter2")
    );
}

#[test]
fn what_counts_for_nothing_is_a_warning() {
    let folder = Folder::new("nothing");
    let said = folder.said("[[play]]\nopen = true\n[[play]]\nstreams = \"live/*\"\nopen = false\n");
    assert!(said.len() == 1 && said[0].starts_with("3:1: this rule never counts: the one for all streams"), "{said:?}");
    let said = folder.said("[[play]]\nkeys = \"empty.txt\"\n");
    assert!(said.len() == 1 && said[0].starts_with("2:9: there is no key in "), "{said:?}");
}

#[test]
fn a_rule_that_is_half_understood_is_none() {
    let folder = Folder::new("half");
    for content in [
        "[[play]]\nopen = true\ndenny = \"10.0.0.0/8\"",
        "[[play]]\nopen = true\ndeny = 10",
        "[[play]]\nopen = true\nstreams = []",
    ] {
        let file = folder.read(content);
        assert!(file.findings.iter().any(Finding::is_fault) && file.access.is_empty(), "{content}");
    }
}

#[test]
fn no_rule_is_left_out_without_a_word() {
    let folder = Folder::new("unsaid");
    let mut file = folder.read("[[play]]\njwt = \"links.secret\"\n[[play]]\nopen = true\n");
    // As if it had been read wrongly.
    file.access[0].tokens = Some(TokensText::default());
    let (made, findings) = file.access();
    let faults = findings.iter().filter(|finding| finding.is_fault()).collect::<Vec<_>>();
    assert_eq!((made.rules.play.len(), faults.len()), (1, 1));
    assert_eq!((faults[0].at.start, faults[0].text.as_str()), (0, "this rule cannot be used"));
}

#[test]
fn a_secret_that_all_can_read_is_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("modes");
    let found = |file: &str, key: &str, mode| {
        std::fs::set_permissions(folder.0.join(file), std::fs::Permissions::from_mode(mode)).unwrap();
        let (_, findings) = folder.read(&format!("[[play]]\n{key} = \"{file}\"\n")).access();
        findings.into_iter().map(|finding| finding.text).collect::<Vec<_>>().join("; ")
    };
    assert!(found("links.secret", "signed", 0o644).starts_with("every user can read "));
    assert!(found("links.secret", "jwt", 0o644).starts_with("every user can read "));
    assert_eq!([found("links.secret", "signed", 0o640), found("keys.txt", "keys", 0o644)], ["", ""]);
    assert!(found("keys.txt", "keys", 0o646).starts_with("every user can write "));
}

#[test]
fn every_truncation_is_read_or_said() {
    let folder = Folder::new("truncated");
    for end in (0..WHOLE.len()).filter(|end| WHOLE.is_char_boundary(*end)) {
        for content in [WHOLE[..end].to_owned(), format!("{}\"{}", &WHOLE[..end], &WHOLE[end..])] {
            let file = folder.read(&content);
            let (_, of_access) = file.access();
            for finding in file.findings.iter().chain(&of_access) {
                assert!(file.text.in_full(finding).ends_with("^\n"));
            }
        }
    }
}
