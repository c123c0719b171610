//! Every command of `docs/access.md` does what it says there, in their order, and every TOML file of it is sound.

use std::{ffi::OsString, path::PathBuf};

use clap::CommandFactory;

use super::{
    Stop,
    args::{self, Args, Given},
    cores::Allowance,
    docs_tests::{blocks_of, words},
    file::{ConfigFile, Text},
    key, sign,
};

const GUIDE: &str = include_str!("../../docs/access.md");

/// The files that the guide's reader has or makes.
const FILES: [&str; 3] = ["keys.txt", "links.secret", "backend.pem"];

const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAmlZm86mxBLPsCMs0XtnaHw8bwIDiFaetPP8A8GTIeIU=\n-----END PUBLIC KEY-----\n";

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("shardcast-access-docs-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("backend.pem"), PUBLIC_KEY).unwrap();
    folder
}

#[test]
fn every_command_does_what_it_says() {
    let folder = folder("commands");
    let placed = |word: OsString| match word.to_str() {
        Some(name) if FILES.contains(&name) => folder.join(name).into_os_string(),
        _ => word,
    };
    let lines = blocks_of(GUIDE, "sh").into_iter().flat_map(str::lines).collect::<Vec<_>>();
    assert!(lines.len() >= 8, "{lines:?}");
    for line in lines {
        let (command, appended_to) = line.split_once(" >> ").map_or((line, None), |(line, file)| (line, Some(file)));
        let words = words(command).into_iter().map(placed).collect::<Vec<_>>();
        assert_eq!(words[0], "shardcast", "{line}");
        let given = Given::new(&words);
        let said = match words[1].to_str() {
            Some("key") => key::make(&given).map(|made| made.line),
            Some("sign") => sign::make(&given),
            _ => {
                let settings = args::configure(&given, &Allowance { cpus: vec![0], parallelism: 1 });
                settings.map_err(Stop::from).map(|settings| {
                    let access = settings.config.access.get();
                    assert_eq!(access.publish.len().max(access.play.len()), 1, "{line}");
                    String::new()
                })
            }
        };
        let said = match said {
            Ok(said) => said,
            Err(Stop::Text(why) | Stop::Fault(super::Fault(_, why))) => panic!("{line}: {why}"),
        };
        if let Some(file) = appended_to {
            let path = folder.join(file);
            let before = std::fs::read_to_string(&path).unwrap_or_default();
            std::fs::write(path, format!("{before}{said}\n")).unwrap();
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn every_file_is_without_findings() {
    let folder = folder("files");
    let line = crate::access::keys::line("studio", "correct-horse-battery", "salt", &[]).unwrap();
    std::fs::write(folder.join("keys.txt"), line).unwrap();
    std::fs::write(folder.join("links.secret"), "0123456789abcdef").unwrap();
    let files = blocks_of(GUIDE, "toml");
    assert!(!files.is_empty());
    for content in files {
        let file = ConfigFile::parse(Text::of(folder.join("node.toml"), content), &Args::command());
        let (made, of_access) = file.access();
        let findings = file.findings.iter().chain(&of_access).filter(|finding| !finding.text.contains("chmod"));
        assert_eq!(findings.map(|finding| file.text.in_full(finding)).collect::<Vec<_>>(), [""; 0]);
        assert!(!made.rules.publish.is_empty() && !made.rules.play.is_empty());
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_guide_names_every_flag() {
    let of_access = |flag: &&str| {
        flag.starts_with("jwt-")
            || ["keys", "signed", "jwt", "from"]
                .iter()
                .any(|way| *flag == format!("publish-{way}") || *flag == format!("play-{way}"))
    };
    let command = Args::command();
    let flags = command.get_arguments().filter_map(|arg| arg.get_long()).filter(of_access).collect::<Vec<_>>();
    assert_eq!(flags.len(), 10, "{flags:?}");
    for flag in flags {
        assert!(GUIDE.contains(&format!("--{flag}")), "--{flag} is not in docs/access.md");
    }
}
