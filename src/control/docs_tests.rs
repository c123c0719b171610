//! Every command and every TOML file of `docs/relay.md` is read as the program would read it.

use std::{ffi::OsString, path::PathBuf};

use clap::CommandFactory;

use super::{
    Stop,
    args::{self, Answer, Args, Given},
    cores::Allowance,
    file::{ConfigFile, Text},
    relay, values,
};

const GUIDE: &str = include_str!("../../docs/relay.md");
const CALLBACKS: &str = include_str!("../../docs/callbacks.md");
const EXAMPLE: &str = include_str!("../../docs/relay.example.toml");

/// What stands in the guide's blocks of a language.
fn blocks(language: &str) -> Vec<&'static str> {
    blocks_of(GUIDE, language)
}

pub(super) fn blocks_of<'a>(guide: &'a str, language: &str) -> Vec<&'a str> {
    let open = format!("```{language}\n");
    guide.split(&open).skip(1).map(|rest| rest.split("```").next().expect("a block ends")).collect()
}

/// As a shell would split them; the variables in it have values.
pub(super) fn words(line: &str) -> Vec<OsString> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.trim().replace("{env:STREAM_KEY}", "key").chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().expect("never empty").push(c),
        }
    }
    words.into_iter().map(OsString::from).collect()
}

fn read(content: &str) -> ConfigFile {
    ConfigFile::parse(Text::of(PathBuf::from("docs/relay.md"), content), &Args::command())
}

#[test]
fn every_command_is_taken() {
    let allowance = Allowance { cpus: vec![0, 1], parallelism: 2 };
    let commands = blocks("sh");
    assert!(commands.len() >= 8, "{commands:?}");
    for command in commands {
        // Until sockets can be listened on.
        if command.contains("--rtmp unix:") && values::listen_addr("unix:/a").is_err() {
            continue;
        }
        let words = words(command);
        assert_eq!(words[0], "shardcast", "{command}");
        let given = Given::new(&words);
        let taken = match words[1].to_str() {
            Some("relay") => relay::settings(&given).map(drop),
            Some("check") => {
                assert!(words[2] == "docs/relay.example.toml", "{command}");
                Ok(())
            }
            _ => args::configure(&given, &allowance).map(drop).map_err(Stop::from),
        };
        if let Err(Stop::Text(line) | Stop::Fault(super::Fault(_, line))) = taken {
            panic!("{command}: {line}");
        }
    }
}

#[test]
fn every_file_is_without_findings() {
    let files = blocks("toml");
    assert!(files.len() >= 2, "{files:?}");
    for content in files.into_iter().chain([EXAMPLE]) {
        let file = read(content);
        let (pulls, _, of_rules) = file.rules(&file.secrets(), std::time::Duration::ZERO);
        let findings = file.findings.iter().chain(&of_rules).map(|finding| file.text.in_full(finding));
        assert_eq!(findings.collect::<Vec<_>>(), [""; 0]);
        assert!(!pulls.is_empty());
    }
}

#[test]
fn the_guides_name_every_flag_with_its_default() {
    let starts = [("upstream-", GUIDE), ("pull-", GUIDE), ("callback-", CALLBACKS), ("on-", CALLBACKS)];
    for arg in Args::command().get_arguments() {
        let Some(flag) = arg.get_long() else { continue };
        let Some((_, guide)) = starts.iter().find(|(start, _)| flag.starts_with(start)) else { continue };
        let in_its_place = |line: &&str| line.starts_with("| `--") && line.contains(&format!("--{flag}"));
        let anywhere = |line: &&str| line.contains(&format!("--{flag}"));
        let line = guide.lines().find(in_its_place).or_else(|| guide.lines().find(anywhere));
        let line = line.unwrap_or_else(|| panic!("--{flag} is in no guide"));
        for default in arg.get_default_values().iter().filter_map(|value| value.to_str()) {
            assert!(line.contains(default), "--{flag} {default}: {line}");
        }
    }
}

#[test]
fn a_command_that_is_wrong_would_be_found() {
    let given = Given::new(&words("shardcast --pull 'live/*=http://a/{stream}'"));
    let allowance = Allowance { cpus: vec![0], parallelism: 1 };
    let Err(Answer::Fault(line)) = args::configure(&given, &allowance) else { panic!("it was taken") };
    assert!(line.contains("character 8"), "{line}");
    assert!(!read("[[pull]]\nstreams = \"a\"").findings.is_empty());
}
