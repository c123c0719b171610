//! Which certificate is shown to whom, over which versions, and what happens when its file changes.

use super::files::{Files, s_client, shown};
use crate::common::{
    media,
    packets::{self, Joined, Seen, assert_received, ffprobe},
    seconds,
    server::{Driver, Server, has_landlock},
    tool::require,
    wait_for,
};

fn start(files: &Files, names: &[&str], flags: &[&str]) -> Server {
    let pairs = names.iter().flat_map(|name| {
        let path = |end: &str| files.path(&format!("{name}.{end}"));
        ["--tls-cert".to_owned(), path("pem"), "--tls-key".to_owned(), path("key")]
    });
    let pairs = pairs.collect::<Vec<_>>();
    let all = ["--rtmps", "127.0.0.1:0", "--unpublish-grace-s", "1"].into_iter();
    let all = all.chain(pairs.iter().map(String::as_str)).chain(flags.iter().copied()).collect::<Vec<_>>();
    Server::start(Driver::Auto, 1, &all)
}

#[test]
fn the_name_that_a_client_asks_for_picks_the_certificate() {
    let files = Files::new();
    files.make("a", "first", &["a.example"], 30);
    files.make("b", "second", &["b.example", "*.c.example"], 30);
    let server = start(&files, &["a", "b"], &[]);
    for version in ["-tls1_2", "-tls1_3"] {
        for (host, common) in [
            (Some("a.example"), "first"),
            (Some("b.example"), "second"),
            (Some("B.Example"), "second"),
            (Some("live.c.example"), "second"),
            (Some("c.example"), "first"),
            (Some("x.live.c.example"), "first"),
            (Some("elsewhere.example"), "first"),
            (None, "first"),
        ] {
            assert_eq!(shown(server.secure(), host, version), common, "{host:?} {version}");
        }
    }
}

#[test]
fn old_versions_are_spoken_as_far_as_the_operator_lets_them() {
    let files = Files::new();
    files.make("a", "first", &["a.example"], 30);
    let (server, strict) = (start(&files, &["a"], &[]), start(&files, &["a"], &["--tls-min-version", "1.3"]));
    let speaks = |server: &Server, version: &str| !s_client(server.secure(), version).contains("Cipher is (NONE)");
    for (version, spoken, spoken_strictly) in
        [("-tls1_1", false, false), ("-tls1_2", true, false), ("-tls1_3", true, true)]
    {
        assert_eq!((speaks(&server, version), speaks(&strict, version)), (spoken, spoken_strictly), "{version}");
    }
}

#[test]
fn sessions_are_resumed_and_tickets_are_sent_only_if_asked_for() {
    let files = Files::new();
    files.make("a", "first", &["a.example"], 30);
    let server = start(&files, &["a"], &[]);
    let session = files.path("session");
    let begun = s_client(server.secure(), &format!("-tls1_2 -sess_out {session}"));
    assert!(begun.contains("New, TLSv1.2"), "{begun}");
    let resumed = s_client(server.secure(), &format!("-tls1_2 -sess_in {session}"));
    assert!(resumed.contains("Reused, TLSv1.2"), "{resumed}");
    // s_client prints each ticket that it gets.
    let ticket = "New Session Ticket";
    assert!(!s_client(server.secure(), "-tls1_3 -msg").contains(ticket));
}

#[test]
fn a_new_certificate_is_shown_from_then_on_and_drops_nobody() {
    let files = Files::new();
    files.make("a", "old", &["a.example"], 30);
    files.make("b", "new", &["a.example"], 60);
    let server = start(&files, &["a"], &[]);
    let left_days =
        |server: &Server| server.metrics().sum("shardcast_tls_certificate_expiry_seconds", &[]) / (24.0 * 60.0 * 60.0);
    assert!((29.0..=30.0).contains(&left_days(&server)), "{}", left_days(&server));
    let url = server.secure_url("swapped");
    let probe = ffprobe(&url);
    server.wait_metric("shardcast_players", &[], |waiting| waiting >= 1.0);
    let publisher = media::publish(require("ffmpeg"), media::av(), &url);
    server.wait_live("swapped");
    server.wait_metric("shardcast_tls_connections", &[], |open| open >= 2.0);
    files.replace("a", "b");
    wait_for("the new certificate", seconds(10), || (shown(server.secure(), None, "") == "new").then_some(()));
    assert!((59.0..=60.0).contains(&left_days(&server)), "{}", left_days(&server));

    // One of which nothing can be made: a key that is another certificate's, then no PEM at all.
    files.make("c", "third", &["a.example"], 30);
    std::fs::copy(files.path("c.pem"), files.path("a.pem")).expect("it is there");
    server.wait_said("it is the key of another certificate");
    std::fs::write(files.path("a.key"), "no key").expect("it can be written");
    server.signal("HUP");
    server.wait_said("it has no private key in PEM");
    assert_eq!(shown(server.secure(), None, ""), "new");
    files.replace("a", "c");
    server.signal("HUP");
    wait_for("the third", seconds(10), || (shown(server.secure(), None, "") == "third").then_some(()));
    let refusals = server.log().lines().filter(|line| line.contains("certificates stay as they were")).count();
    assert_eq!(refusals, 2, "{}", server.log());

    publisher.finish(seconds(media::SOURCE_SECONDS + 10));
    let received = packets::probed(&probe.finish(seconds(20)));
    assert_received("ffprobe", &media::av().packets, &received, Joined::Early, Seen::AsReceived);
    server.wait_metric("shardcast_tls_connections", &[], |open| open == 0.0);
}

#[test]
fn a_new_certificate_is_shown_though_other_files_are_out_of_reach() {
    if !has_landlock() {
        return;
    }
    let files = Files::new();
    files.make("a", "old", &["a.example"], 30);
    let server = start(&files, &["a"], &["--landlock", "on"]);
    files.make("b", "new", &["a.example"], 60);
    files.replace("a", "b");
    wait_for("the new certificate", seconds(10), || (shown(server.secure(), None, "") == "new").then_some(()));
}

#[test]
fn a_certificate_that_expires_soon_is_warned_of() {
    let files = Files::new();
    files.make("a", "soon", &["a.example"], 5);
    let server = start(&files, &["a"], &[]);
    server.wait_said("days; renew it");
}
