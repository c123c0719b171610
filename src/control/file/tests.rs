use std::path::PathBuf;

use clap::CommandFactory;

use super::*;
use crate::control::{args::Args, rules::Sources};

fn parse(content: &str) -> ConfigFile {
    ConfigFile::parse(Text::of(PathBuf::from("f.toml"), content), &Args::command())
}

/// All that is found, each as `LINE:COLUMN: what`.
fn said(content: &str) -> Vec<String> {
    let file = parse(content);
    let (_, _, of_rules) = file.rules(&file.secrets(), Duration::ZERO);
    let findings = file.findings.iter().chain(&of_rules);
    findings.map(|finding| file.text.in_short(finding)["f.toml:".len()..].to_owned()).collect()
}

const WHOLE: &str = r#"
rtmp = ["127.0.0.1:1935", "[::1]:1936"]
admin = false
merge-ms = 40
gop-cache = false
no-pin = true
gop-bytes-max = "8M"

[[pull]]
streams = "live/*"
sources = ["rtmp://a/live/{stream}", 'rtmp://b/live/{stream}']
linger-s = 3

[[pull]]
streams = "vod/*"
origins = [{ url = "rtmp://c/vod/{stream}", weight = 2 }, "rtmp://d/vod/{stream}"]
backups = ["rtmp://e/vod/{stream}"]

[[pull]]
streams = "news/main"
sources = "rtmp://f/news/main"
always-on = true

[[push]]
streams = "live/show"
targets = ["rtmps://g/app/x", "rtmp://h/app/y"]
"#;

#[test]
fn a_whole_file_is_read() {
    let file = parse(WHOLE);
    assert_eq!(said(WHOLE), [""; 0]);
    let values = |name: &str| file.settings[name].values.join(" ");
    assert_eq!(values("rtmp"), "127.0.0.1:1935 [::1]:1936");
    assert_eq!([values("admin"), values("merge-ms"), values("gop-cache")], ["off", "40", "off"]);
    assert_eq!([values("no-pin"), values("gop-bytes-max")], ["true", "8M"]);
    let (pulls, pushes, _) = file.rules(&file.secrets(), Duration::from_secs(9));
    let lingers = pulls.iter().map(|rule| rule.linger.as_secs()).collect::<Vec<_>>();
    assert_eq!(lingers, [3, 9, 9]);
    assert_eq!(pulls.iter().map(|rule| rule.always).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!((pushes.len(), pushes[0].targets.len()), (1, 2));
    let Sources::Spread { origins, backups } = &file.pulls[1].sources else { panic!("{:?}", file.pulls[1]) };
    assert_eq!((origins.iter().map(|origin| origin.1).collect::<Vec<_>>(), backups.len()), (vec![2, 1], 1));
    assert_eq!(file.places()["--merge-ms"], "f.toml:4:12: merge-ms");
}

#[test]
fn what_is_wrong_is_said_at_its_place() {
    for (content, expected) in [
        ("merge-mz = 1", "1:1: unknown key \"merge-mz\": did you mean merge-ms?"),
        ("gop_cache = true", "1:1: unknown key \"gop_cache\": did you mean gop-cache?"),
        ("zzz = 1", "1:1: unknown key \"zzz\"; shardcast --help lists the settings"),
        ("config = \"x\"", "1:1: unknown key \"config\""),
        ("\nshards = 0", "2:10: shards: expected a whole number of shards from 1 to 64"),
        ("shards = 1.5", "1:10: shards: expected a whole number"),
        ("shards = [1]", "1:10: expected one value, not a list"),
        ("rtmp = []", "1:8: expected at least one"),
        ("shards = {}", "1:10: expected a value, not a table"),
        ("no-pin = \"yes\"", "1:10: expected true or false"),
        ("rtmp = [\"1935\", \"nowhere\"]", "1:17: rtmp: expected an IP address"),
        ("pull = \"live/*=rtmp://a\"", "1:1: expected [[pull]] on a line"),
        ("[push]\nstreams = \"a\"", "1:2: expected [[push]] on a line"),
        ("[[pull]]\nsources = []", "1:1: streams = \"app/name\" is missing"),
        ("[[pull]]\nstreams = \"a/*\"", "1:1: sources = [\"rtmp://..\"] is missing"),
        ("[[pull]]\nstreams = \"a/*\"\nsources = []", "2:12: it has 0 sources, expected 1 to 16"),
        ("[[pull]]\nstreams = 1\nsources = []", "2:11: expected a string in quotes, not a number"),
        ("[[pull]]\nstreams = \"a\"\nsources = []\norigins = []", "1:1: expected sources (tried in order) or origins"),
        ("[[pull]]\nstreams = \"a\"\nsources = []\nbackups = []", "4:1: sources are in order of preference"),
        ("[[pull]]\nstreams = \"a\"\norigins = [{ weight = 0, url = \"rtmp://a\" }]", "3:23: expected a whole number"),
        ("[[pull]]\nstreams = \"a\"\norigins = [{ wait = 1, url = \"rtmp://a\" }]", "3:14: unknown key \"wait\""),
        ("[[pull]]\nstreams = \"a\"\norigins = [{ weight = 1 }]", "3:12: url = \"rtmp://..\" is missing"),
        ("[[pull]]\nstreams = \"a\"\nsource = \"rtmp://a\"", "3:1: unknown key \"source\": did you mean sources?"),
        ("[[pull]]\nstreams = \"a/b\"\nsources = \"rtmp://a/b/c\"\nshards = 1", "4:1: shards is a setting of the node"),
        ("[[pull]]\nstreams = \"a/*\"\nsources = \"rtmp://a/b/c\"\nalways-on = true", "2:12: a stream that is always"),
        ("[[pull]]\nstreams = \"a/b\"\nsources = \"rtmp://a/b/c\"\nalways-on = 1", "4:13: expected true or false"),
        (
            "[[pull]]\nstreams = \"a/b\"\nsources = \"rtmp://a/b/c\"\nlinger-s = -1",
            "4:12: expected a whole number of sec",
        ),
        ("[[push]]\nstreams = \"a/b\"\ntargets = \"rtmp://a/b/c\"\nproxy-protocol = \"v1\"", "4:18: expected \"v2\""),
        ("[[push]]\nstreams = \"a/b\"", "1:1: targets = [\"rtmp://..\"] is missing"),
        ("[[push]]\nstreams = \"a/b\"\ntargets = [\"http://a\"]", "3:13: "),
        (
            "[[push]]\nstreams = \"a/b\"\ntargets = [\"rtmp://a/{env:SHARDCAST_NO}\"]",
            "3:22: {env:SHARDCAST_NO}: there is",
        ),
    ] {
        let said = said(content);
        assert!(said.iter().any(|line| line.starts_with(expected)), "{content}\n{said:#?}");
    }
}

#[test]
fn all_that_is_wrong_is_said() {
    let content =
        "merge-mz = 1\nshards = 0\nlag-ms-max = \n[[pull]]\nstreams = \"a/*\"\nsources = [\"http://x\", \"ftp://y\"]\n";
    let said = said(content);
    for start in ["1:1: ", "2:10: ", "3:", "6:13: ", "6:25: "] {
        assert!(said.iter().any(|line| line.starts_with(start)), "{start}: {said:#?}");
    }
}

#[test]
fn a_rule_behind_a_wider_one_is_a_warning() {
    let rule = |streams: &str| format!("[[pull]]\nstreams = \"{streams}\"\nsources = \"rtmp://a/b/{{stream}}\"\n");
    let content = [rule("live/*"), rule("vod/x"), rule("live/show")].concat();
    let said = said(&content);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("8:12: this rule never counts: the one for live/* has its streams (f.toml:2:12)"));
    let file = parse(&content);
    let (pulls, _, findings) = file.rules(&file.secrets(), Duration::ZERO);
    assert!(pulls.len() == 3 && !findings[0].is_fault());
}

#[test]
fn a_password_in_a_file_that_all_can_read_is_a_warning() {
    let content = "[[pull]]\nstreams = \"a/b\"\nsources = [\"rtmp://a/b/c\", \"rtmp://u:pearl@a/b/c\"]\n";
    let said = said(content);
    assert!(
        said.len() == 1 && said[0].starts_with("3:29: every user can read") && !said[0].contains("pearl"),
        "{said:?}"
    );
}

#[test]
fn every_truncation_is_read_or_said() {
    for end in (0..WHOLE.len()).filter(|end| WHOLE.is_char_boundary(*end)) {
        for content in [WHOLE[..end].to_owned(), format!("{}\"{}", &WHOLE[..end], &WHOLE[end..])] {
            let file = parse(&content);
            let (_, _, of_rules) = file.rules(&file.secrets(), Duration::ZERO);
            for finding in file.findings.iter().chain(&of_rules) {
                assert!(file.text.in_full(finding).ends_with("^\n"));
            }
        }
    }
}

#[test]
fn what_nests_deeply_is_a_fault() {
    let file = parse(&format!("rtmp = {}", "[".repeat(100_000)));
    assert!(file.findings.iter().any(Finding::is_fault));
}
