//! The configuration file as its operator meets it: what goes before what, `check`, secrets, and `relay` beside it.

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

/// Far longer than anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// The program without what the environment of the tests may say to it.
fn shardcast(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardcast"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SHARDCAST_")) {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null());
    command
}

/// A file of this test, in a folder of its own that is removed with it.
struct File(PathBuf);

impl File {
    fn new(name: &str, content: &str) -> Self {
        let folder =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("configuration-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = Self(folder.join("node.toml"));
        std::fs::write(&file.0, content).unwrap();
        file
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0.parent().unwrap());
    }
}

fn texts(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn check_says_all_that_is_wrong_and_exits_with_2() {
    let content =
        "merge-mz = 1\n[[pull]]\nstreams = \"live/*\"\nsources = [\"http://a/b/c\", \"rtmp://u:pearl@h/a/{strm}\"]\n";
    let file = File::new("wrong", content);
    let (code, stdout, stderr) = texts(&shardcast(&["check", file.path()]).output().unwrap());
    assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
    for part in [
        &format!("{}:1:1: error: unknown key \"merge-mz\": did you mean merge-ms?\n", file.path()),
        "\n1 | merge-mz = 1\n  | ^^^^^^^^\n",
        &format!("{}:4:13: error: ", file.path()),
        &format!("{}:4:48: error: ", file.path()),
        "3 errors",
    ] {
        assert!(stderr.contains(part), "{part:?} is not in\n{stderr}");
    }
    assert!(!stderr.contains("pearl"), "{stderr}");
}

#[test]
fn check_says_what_a_node_would_do_without_its_secrets() {
    let content = "merge-ms = 40\nshards = 1\nrtmp = \"127.0.0.1:1935\"\nrtmps = \"127.0.0.1:1936\"\ntls-self-signed = true\n\n\
                   [[pull]]\nstreams = \"live/*\"\nsources = [\"rtmp://a/live/{stream}\"]\n\n\
                   [[push]]\nstreams = \"live/show\"\ntargets = [\"rtmps://b/app/{env:PEARL}\", \"rtmp://c/app/{file:key}\"]\n";
    let file = File::new("sound", content);
    let key = file.0.with_file_name("key");
    std::fs::write(&key, "oyster\n").unwrap();
    let output = shardcast(&["check", file.path()]).env("PEARL", "nacre").output().unwrap();
    let (code, stdout, stderr) = texts(&output);
    assert_eq!(code, Some(0), "{stderr}");
    for part in [
        "listens on 127.0.0.1:1935, 127.0.0.1:1936 (TLS) with",
        "merge-ms 40",
        "pulls live/* from rtmp://a/live/{stream}; while",
        "{env:PEARL} and rtmp://c/app/{file:key}",
    ] {
        assert!(stdout.contains(part), "{part:?} is not in\n{stdout}");
    }
    assert!(!stdout.contains("nacre") && !stdout.contains("oyster"), "{stdout}");

    std::fs::remove_file(&key).unwrap();
    let (code, _, stderr) = texts(&shardcast(&["check", file.path()]).output().unwrap());
    assert!(code == Some(2) && stderr.contains("no such variable") && stderr.contains("No such file"), "{stderr}");
}

#[test]
fn check_says_what_a_node_would_warn_of_and_each_thing_once() {
    let keys = "[[publish]]\nkeys = \"key\"\n";
    let content = format!("proxy-trusted = \"10.0.0.0/8\"\ndrain-window-s = 60\nshards = 1\n{keys}{keys}");
    let file = File::new("doubtful", &content);
    std::fs::write(file.0.with_file_name("key"), format!("name sha256:salt:{}\n", "0".repeat(64))).unwrap();
    let (code, stdout, stderr) = texts(&shardcast(&["check", file.path()]).output().unwrap());
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("no errors"), "{stdout}");
    for part in [
        &format!("{}: warning: --proxy-trusted does nothing without --proxy-protocol\n", file.path()),
        &format!("{}: warning: --drain-window-s 60 is more than --drain-timeout-s 30: ", file.path()),
        "this rule never counts: ",
    ] {
        assert_eq!(stderr.matches(part).count(), 1, "{part:?} in\n{stderr}");
    }
}

#[test]
fn a_file_with_a_mistake_starts_nothing() {
    let file = File::new("mistake", "rtmp = \"127.0.0.1:0\"\nshards = \"many\"\n");
    let (code, stdout, stderr) = texts(&shardcast(&["--config", file.path()]).output().unwrap());
    assert_eq!((code, stdout.as_str(), stderr.lines().count()), (Some(2), "", 1), "{stderr}");
    assert!(stderr.contains(&format!("{}:2:10: shards: expected a whole number", file.path())), "{stderr}");
}

/// A running program. Killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts it and reads lines until one `is_last`. Returns them and, after `signal`, exit code and log.
fn run(command: &mut Command, is_last: impl Fn(&str) -> bool, signal: Signal) -> (Vec<String>, Option<i32>, String) {
    let mut running = Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let stdout = BufReader::new(running.0.stdout.take().unwrap());
    let (sender, received) = mpsc::channel();
    std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let mut lines: Vec<String> = Vec::new();
    while !lines.last().is_some_and(|line| is_last(line)) {
        lines.push(received.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("it ended, or hangs, after {lines:?}")));
    }
    kill_process(Pid::from_child(&running.0), signal).unwrap();
    let mut log = String::new();
    running.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    (lines, running.0.wait().unwrap().code(), log)
}

#[test]
fn a_flag_goes_before_its_variable_and_both_before_the_file() {
    let file = File::new("order", "rtmp = [\"127.0.0.1:0\"]\nadmin = false\nshards = 2\nno-pin = true\n");
    let shards = |command: &mut Command| {
        let (banner, code, log) = run(command, |line| line == "ready", Signal::TERM);
        assert_eq!(code, Some(0), "{log}");
        assert!(banner.iter().any(|line| line == "admin:  off"), "{banner:?}");
        let line = banner.iter().find_map(|line| line.strip_prefix("shards: ")).unwrap();
        line.split(',').next().unwrap().to_owned()
    };
    assert_eq!(shards(&mut shardcast(&["--config", file.path()])), "2");
    assert_eq!(shards(shardcast(&[]).env("SHARDCAST_CONFIG", file.path()).env("SHARDCAST_SHARDS", "3")), "3");
    let flags = ["--config", file.path(), "--shards", "1"];
    assert_eq!(shards(shardcast(&flags).env("SHARDCAST_SHARDS", "3")), "1");
}

#[test]
fn warnings_are_logged_and_show_no_secrets() {
    let content = "rtmp = \"127.0.0.1:0\"\nadmin = \"off\"\nshards = 1\nno-pin = true\n[[pull]]\nstreams = \"live/*\"\n\
                   sources = \"rtmp://u:pearl@127.0.0.1:1/live/{stream}\"\n[[pull]]\nstreams = \"live/a\"\nsources = \"rtmp://127.0.0.1:1\"\n";
    let file = File::new("warnings", content);
    let (_, code, log) = run(&mut shardcast(&["--config", file.path()]), |line| line == "ready", Signal::TERM);
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains(&format!("{}:9:12: this rule never counts", file.path())), "{log}");
    assert!(!log.contains("pearl"), "{log}");
}

#[test]
fn relay_goes_on_until_ctrl_c_and_exits_with_0() {
    let target = "rtmp://127.0.0.1:1/live/{env:PEARL}";
    let mut command = shardcast(&["relay", "rtmp://127.0.0.1:1/live/show", target]);
    let (lines, code, log) = run(command.env("PEARL", "nacre"), |line| line.contains("until Ctrl-C"), Signal::INT);
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(lines[0], format!("rtmp://127.0.0.1:1/live/show -> {target}"));
    assert!(!log.contains("nacre") && !lines.concat().contains("nacre"), "{log}");
}
