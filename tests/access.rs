//! Who may publish and play, as clients meet it: keys, signed links and tokens let in whom they should, and nobody else; what
//! the operator changes counts without a restart; what clients bring is not shown.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

mod common;

use std::{path::PathBuf, process::Command, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use common::{
    amf, media,
    packets::{Joined, Seen, assert_received, ffprobe, probed},
    rtmp::Peer,
    seconds,
    server::{Driver, Server, binary},
    tool::{Client, new_ffmpeg, require, scratch},
    wait_for,
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const STARTED: &str = "NetStream.Publish.Start";
const DENIED: &str = "NetStream.Publish.Denied";

fn file(name: &str, content: &str) -> PathBuf {
    let path = scratch(name);
    std::fs::write(&path, content).expect("the folder can be written");
    path
}

fn text(path: &std::path::Path) -> &str {
    path.to_str().expect("a plain path")
}

/// What a command prints on stdout and stderr, without the newlines.
#[track_caller]
fn said(args: &[&str]) -> (String, String) {
    let ended = Client::spawn(Command::new(binary()).args(args)).finish(seconds(10));
    (ended.stdout.trim_end().to_owned(), ended.stderr.trim_end().to_owned())
}

/// A key, and the line that a file has for it.
fn made_key(name: &str, streams: &[&str]) -> (String, String) {
    let (line, told) = said(&[&["key", name], streams].concat());
    let (_, key) = told.rsplit_once(": ").expect("the key stands behind a colon");
    assert!(line.starts_with(&format!("{name} sha256:")) && !line.contains(key), "{line}");
    (key.to_owned(), line)
}

/// A token of these claims by HS256.
fn token(claims: &str) -> String {
    let message = [r#"{"alg":"HS256","typ":"JWT"}"#, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length");
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac.chain_update(&message).finalize().into_bytes()))
}

/// The answer to a publish of `live/name`, which may have a query.
#[track_caller]
fn publishes(server: &Server, name: &str) -> String {
    publishes_in(server, "live", name)
}

#[track_caller]
fn publishes_in(server: &Server, app: &str, name: &str) -> String {
    let mut peer = Peer::greeted(server.rtmp);
    assert_eq!(peer.connect(app).as_deref(), Some("NetConnection.Connect.Success"));
    let stream = peer.create_stream();
    peer.publish(stream, name).unwrap_or_default()
}

/// Why a player of `live/name` is refused.
#[track_caller]
fn refusal(server: &Server, name: &str) -> String {
    let mut peer = Peer::player(server.rtmp, name);
    let description = peer.find("the refusal", |message| {
        let failed = message.code()? == "NetStream.Play.Failed";
        failed.then(|| message.values()[3].get("description").map(amf::Value::text).unwrap_or_default().to_owned())
    });
    description.expect("it is refused")
}

#[test]
fn an_encoder_publishes_with_its_key_only() {
    let ((key, line), (visitor, of_visitor)) = (made_key("studio", &[]), made_key("visitor", &["live/visitor"]));
    let keys = file("keys.txt", &format!("{line}\n{of_visitor}\n"));
    let server = Server::start(Driver::Auto, 2, &["--publish-keys", text(&keys), "--log", "debug"]);
    for program in [require("ffmpeg"), new_ffmpeg()] {
        let refused =
            media::publish(program, media::av(), &server.url("show?key=not-the-key-at-all")).wait(seconds(20));
        assert!(!refused.status.success(), "{refused:?}");
        let mut publisher = media::publish(program, media::av(), &server.url(&format!("show?key={key}")));
        server.wait_running_for("show", 300);
        publisher.kill();
        server.wait_gone("show", seconds(20));
    }
    assert_eq!(publishes(&server, "show"), DENIED);
    assert_eq!(publishes(&server, &format!("show?key={visitor}")), DENIED);
    assert_eq!(publishes(&server, &format!("visitor?key={visitor}")), STARTED);
    // Wherever an encoder puts it.
    assert_eq!(publishes_in(&server, &format!("live?key={key}"), "other"), STARTED);
    server.wait_metric("shardcast_requests_refused_total", &[("reason", "access")], |refused| refused == 4.0);
    let log = server.log();
    for part in
        ["rule of --publish-keys", "the key is wrong", "the key is not for this stream", "a key (?key=..) is needed"]
    {
        assert!(log.contains(part), "{part}");
    }
    for secret in [key.as_str(), visitor.as_str(), "not-the-key-at-all"] {
        assert!(!log.contains(secret) && !server.get("/metrics").expect("an answer").1.contains(secret), "{secret}");
    }
}

#[test]
fn a_signed_link_plays_until_it_runs_out() {
    let secret = file("links.secret", &format!("{}\nold {SECRET}\n", said(&["key", "--secret", "may"]).0));
    let server = Server::start(Driver::Auto, 2, &["--play-signed", text(&secret), "--unpublish-grace-s", "1"]);
    let url = server.url("show");
    let sign = |args: &[&str]| said(&[&["sign"], args, &["--secret-file", text(&secret)]].concat()).0;
    let link = sign(&["play", &url, "--for", "1h", "--ip", "127.0.0.0/8"]);
    assert!(link.starts_with(&format!("{url}?exp=")) && link.contains("&kid=may&sig="), "{link}");
    let player = ffprobe(&link);
    server.wait_metric("shardcast_players", &[], |waiting| waiting == 1.0);
    let brief = sign(&["play", &url, "--for", "1s"]);
    media::publish(require("ffmpeg"), media::av(), &url).finish(seconds(media::SOURCE_SECONDS + 10));
    let received = probed(&player.finish(seconds(20)));
    assert_received("ffprobe", &media::av().packets, &received, Joined::Early, Seen::AsReceived);

    let name = |link: &str| link.rsplit_once('/').expect("a path").1.to_owned();
    assert!(refusal(&server, &name(&brief)).contains("the link has run out"));
    assert!(refusal(&server, &name(&link).replace("show", "other")).contains("signature does not fit"));
    let elsewhere = sign(&["play", &url, "--ip", "192.0.2.7"]);
    assert!(refusal(&server, &name(&elsewhere)).contains("for another address"));
    let to_publish = sign(&["publish", &url]);
    assert!(refusal(&server, &name(&to_publish)).contains("signature does not fit"));
    assert!(refusal(&server, "show").contains("a signed link (?exp=..&sig=..) is needed"));
}

#[test]
fn a_token_opens_what_it_says() {
    let secret = file("tokens.secret", SECRET);
    let flags = ["--publish-jwt", text(&secret), "--play-jwt", text(&secret), "--jwt-issuer", "backend"];
    let server = Server::start(Driver::Auto, 2, &flags);
    let good = token(r#"{"iss":"backend","exp":4000000000,"stream":"live/show","action":["publish","play"]}"#);
    let mut publisher = media::publish(require("ffmpeg"), media::av(), &server.url(&format!("show?token={good}")));
    server.wait_running_for("show", 300);
    let recording = scratch("token.flv");
    let player = media::play(require("ffmpeg"), &server.url(&format!("show?token={good}")), &recording);
    player.finish(seconds(media::SOURCE_SECONDS + 20));
    publisher.kill();
    assert!(!common::packets::of_file(&recording).is_empty());
    assert_eq!(publishes(&server, &format!("other?token={good}")), DENIED);
    for (claims, why) in [
        (r#"{"iss":"backend","exp":1000,"stream":"live/*","action":"play"}"#, "the token has run out"),
        (r#"{"iss":"backend","exp":4000000000,"stream":"live/*","action":"publish"}"#, "the token is not for this"),
        (r#"{"iss":"other","exp":4000000000,"stream":"live/*","action":"play"}"#, "another issuer"),
        (r#"{"iss":"backend","exp":4000000000,"sub":"ann"}"#, "for which streams"),
    ] {
        let refusal = refusal(&server, &format!("show?token={}", token(claims)));
        assert!(refusal.contains(why), "{refusal}");
    }
    let forged = format!("{}x", good);
    assert!(refusal(&server, &format!("show?token={forged}")).contains("the token"));
    assert!(!server.log().contains(&good));
}

#[test]
fn an_address_that_is_not_allowed_is_refused() {
    let server = Server::start(Driver::Auto, 1, &["--publish-from", "192.0.2.0/24,10.0.0.0/8"]);
    assert_eq!(publishes(&server, "show"), DENIED);
    let server = Server::start(Driver::Auto, 1, &["--publish-from", "192.0.2.0/24,127.0.0.0/8"]);
    assert_eq!(publishes(&server, "show"), STARTED);
}

/// HOSTILE, attack 49: guessing keys.
#[test]
fn who_guesses_keys_is_made_to_wait() {
    let (key, line) = made_key("studio", &[]);
    let keys = file("keys.txt", &line);
    let server = Server::start(Driver::Auto, 2, &["--publish-keys", text(&keys)]);
    for n in 0..11 {
        assert_eq!(publishes(&server, &format!("show?key=guess-{n}")), DENIED);
    }
    assert_eq!(publishes(&server, &format!("show?key={key}")), DENIED, "a right key is no exception");
    // All shards count together.
    server.wait_said("too many wrong keys came from this address");
    wait_for("the pause to end", seconds(20), || {
        (publishes(&server, &format!("show?key={key}")) == STARTED).then_some(())
    });
}

#[test]
fn what_the_operator_changes_counts_at_once_for_who_comes() {
    let ((key, line), (_, other)) = (made_key("a", &[]), made_key("b", &[]));
    let keys = file("keys.txt", &line);
    let config = file("node.toml", &format!("[[publish]]\nkeys = {:?}\n", text(&keys)));
    let server = Server::start(Driver::Auto, 2, &["--config", text(&config)]);
    let name = format!("show?key={key}");
    let (mut publisher, _) = Peer::publisher(server.rtmp, &name);
    let said = |part: &str, times: usize| {
        wait_for(&format!("{part} in the log {times} times"), seconds(20), || {
            (server.log().matches(part).count() == times).then_some(())
        });
    };
    let (again, kept) = ("access rules were read again", "access rules stay as they were");

    // What is wrong changes nothing.
    std::fs::write(&keys, "a hunter2").expect("written");
    said(kept, 1);
    assert!(
        server.log().contains("keys.txt: line 1: expected NAME sha256:SALT:HASH") && !server.log().contains("hunter2")
    );
    assert_eq!(publishes(&server, &name.replace("show", "two")), STARTED);

    // A key is taken out: who publishes goes on, and nobody comes by it again.
    std::fs::write(&keys, &other).expect("written");
    said(again, 1);
    assert_eq!(publishes(&server, &name.replace("show", "three")), DENIED);
    assert!(publisher.is_served() && server.stream("show").is_some());

    // The configuration file is read at SIGHUP, for its rules.
    std::fs::write(&config, "[[publish]]\nopen = maybe\n").expect("written");
    server.signal("HUP");
    said(kept, 2);
    assert!(server.log().contains("node.toml:2:8: "), "{}", server.log());
    std::fs::write(&config, "merge-ms = 40\n[[publish]]\nopen = true\n").expect("written");
    server.signal("HUP");
    said(again, 2);
    assert_eq!(publishes(&server, "four"), STARTED);
    assert!(server.log().contains("other settings of the configuration file need a restart"));
}

#[test]
fn check_says_what_rules_do() {
    let (_, line) = made_key("studio", &[]);
    let keys = file("keys.txt", &line);
    let name = keys.file_name().and_then(|name| name.to_str()).expect("a plain name");
    let rules = format!(
        "[[publish]]\nstreams = \"live/*\"\nkeys = \"{name}\"\nallow = \"10.0.0.0/8\"\n\n[[play]]\nopen = true\n"
    );
    let config = file("node.toml", &rules);
    let (told, _) = said(&["check", text(&config)]);
    for part in [
        "lets publish live/*: who has one of 1 keys, from 10.0.0.0/8; publish rule at ",
        "lets nobody publish other streams",
        "lets play all streams: everybody; play rule at ",
    ] {
        assert!(told.contains(part), "{told}");
    }
    std::fs::write(&keys, "studio hunter2").expect("written");
    let ended = Client::spawn(Command::new(binary()).args(["check", text(&config)])).wait(Duration::from_secs(10));
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.stderr.contains("node.toml:3:9: error: ") && !ended.stderr.contains("hunter2"), "{}", ended.stderr);
}
