//! The command line as a whole; each part has its own tests beside it.

use std::{ffi::OsString, time::Duration};

use super::*;
use crate::shard::config::Config;

fn words(line: &str) -> Vec<OsString> {
    std::iter::once("shardcast").chain(line.split_whitespace()).map(OsString::from).collect()
}

pub(super) fn settings_of(line: &str) -> Result<Settings, Answer> {
    let allowance = Allowance { cpus: vec![0, 1], parallelism: 2 };
    configure(&Given::new(&words(line)), &allowance)
}

pub(super) fn fault(line: &str) -> String {
    match settings_of(line) {
        Err(Answer::Fault(text)) => {
            assert_eq!(text.lines().count(), 1, "{text}");
            text
        }
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn the_command_is_sound() {
    Args::command().debug_assert();
}

#[test]
fn serve_is_the_default_command() {
    for line in ["", "serve"] {
        let settings = settings_of(line).unwrap();
        assert_eq!(settings.config.rtmp, [ListenAddr::Tcp("[::]:1935".parse().unwrap())]);
        assert_eq!(settings.admin, Some("127.0.0.1:9090".parse().unwrap()));
        assert_eq!(settings.config.cpus, [Some(0), Some(1)]);
    }
}

#[test]
fn defaults_are_the_configurations() {
    let ours = settings_of("--rtmp 1935 --no-pin --shards 1").unwrap().config;
    let mut theirs = Config { rtmp: ours.rtmp.clone(), ..Config::default() };
    theirs.relays.node.clone_from(&ours.relays.node);
    assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
}

#[test]
fn every_flag_reaches_its_setting() {
    let line = "serve --rtmp 1935,127.0.0.1:1936 --rtmp :1937,unix:/run/s.sock --shards 1 --cpus 1 --chunk-size 4096 --merge-ms 40 \
                --gop-cache off --gop-bytes-max 8M --tracks v1,a* --lag-ms-max 900 --join-wait-ms 3 --play-wait-s 0 \
                --idle-timeout-s 5 --unpublish-grace-s 6 --admin off --driver legacy --log debug --log-format json";
    let settings = settings_of(line).unwrap();
    let config = &settings.config;
    let ports = config.rtmp.iter().map(|addr| addr.tcp().map(|addr| addr.port())).collect::<Vec<_>>();
    assert_eq!(ports, [Some(1935), Some(1936), Some(1937), None]);
    assert_eq!(config.rtmp[3], ListenAddr::Unix("/run/s.sock".into()));
    assert_eq!((config.cpus.as_slice(), config.driver), (&[Some(1)][..], DriverChoice::Legacy));
    assert_eq!((config.chunk_bytes, config.gop_bytes_max, config.gop_cache), (4_096, 8 << 20, false));
    assert_eq!(config.merging, Merging::Fixed(Duration::from_millis(40)));
    assert_eq!((config.lag_max.as_millis(), config.join_wait.as_millis()), (900, 3));
    assert_eq!(config.play_wait, Duration::ZERO);
    assert_eq!(config.tracks.to_string(), "v1,a*");
    assert_eq!((config.publisher_idle.as_secs(), config.unpublish_grace.as_secs()), (5, 6));
    assert_eq!((settings.admin, settings.log.as_str(), settings.log_format), (None, "debug", LogFormat::Json));
}

#[test]
fn a_fault_names_the_flag_the_value_and_what_to_do() {
    assert_eq!(
        fault("--merge-ms 5000"),
        "--merge-ms \"5000\": expected auto, or a whole number of milliseconds from 0 to 1000"
    );
    assert!(fault("--merge-ms=x").starts_with("--merge-ms \"x\": expected"));
    assert!(fault("--rtmp 1935,nowhere").starts_with("--rtmp \"nowhere\": expected an IP address"));
    assert!(fault("--cpus 7").starts_with("--cpus \"7\": CPU 7 is not among"));
    assert!(fault("--rtmp 1935 --rtmp 1935").contains("given twice"));
    assert!(fault("--rtmp unix:a --rtmp unix:a").starts_with("--rtmp \"unix:a\": given twice"));
    assert!(fault("--rtmp unix:").contains("the path is missing"));
    assert!(fault("--rtmp /run/s.sock").ends_with("for a socket file write unix:/run/s.sock"));
    assert!(fault(&format!("--rtmp unix:{}", "a".repeat(108))).contains("at most 107 bytes"));
    assert!(fault("--rtmp 9090").starts_with("--admin \"127.0.0.1:9090\": --rtmp has that port"));
    assert!(settings_of("--rtmp 127.0.0.2:9090").is_ok());
    assert!(fault("--tracks video").starts_with("--tracks \"video\": expected tracks such as v1,a2"));
    assert!(fault("--driver epoll").contains("auto, uring or legacy"));
    assert!(fault("--shards 0").contains("from 1 to 64"));
}

#[test]
fn mistyped_words_get_a_hint() {
    assert!(fault("--merge-m 5").contains("did you mean --merge-ms?"));
    assert!(fault("--nonsense").starts_with("unknown option \"--nonsense\""));
    assert!(fault("play").starts_with("unknown command \"play\": expected serve (the default), check, relay"));
    assert!(fault("serve serve").starts_with("unknown argument \"serve\""));
    assert!(fault("--rtmp").starts_with("--rtmp needs a value"));
    assert!(fault("--merge-ms 1 --merge-ms 2").starts_with("--merge-ms is given more than once"));
    assert!(fault("--no-pin=1").contains("--no-pin"));
}

#[test]
fn help_names_every_variable() {
    let Err(Answer::Text(help)) = settings_of("--help") else { panic!("no help") };
    for arg in Args::command().get_arguments().filter(|arg| arg.get_long().is_some_and(|l| l != "help")) {
        let variable = arg.get_env().unwrap_or_else(|| panic!("{arg} has no variable")).to_str().unwrap();
        let flag = arg.get_long().unwrap();
        assert!(help.contains(variable) && help.contains(&format!("--{flag}")), "{flag}");
        assert_eq!(variable, format!("SHARDCAST_{}", flag.to_uppercase().replace('-', "_")));
    }
}
