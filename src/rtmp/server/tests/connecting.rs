//! Connects that the host decides on, and what is kept of what a client says about itself.

use super::*;
use crate::limits::CLIENT_WORD_LETTERS_MAX;

fn asking() -> Peer {
    Peer::shaken_hands_with(ServerConfig { asks_connect: true, keeps_client: true, ..ServerConfig::new(CHUNK_BYTES) })
}

fn connect(peer: &mut Peer, words: &[(&str, &str)]) -> Result<Option<String>, SessionError> {
    let words = words.iter().map(|(name, word)| (*name, text(word)));
    let words: Vec<_> = [("app", text("live?a")), ("tcUrl", text("rtmp://h/live"))].into_iter().chain(words).collect();
    peer.command(0, &[text("connect"), Value::Number(1.0), object(&words)])
}

#[test]
fn a_connect_waits_for_the_host_and_is_answered_as_ever_once_accepted() {
    let mut peer = asking();
    assert_eq!(connect(&mut peer, &[]), Ok(Some("Connect".to_owned())));
    assert_eq!((peer.session.app(), peer.session.tc_url()), ("live?a", "rtmp://h/live"));
    assert!(!peer.session.has_output());
    // A host that does not wait gets nowhere, and its client nothing.
    let early = [0x03; 40];
    assert_eq!(peer.session.receive(&mut &early[..], T0), Ok(None));
    assert!(!peer.session.has_output());
    peer.session.accept_connect();
    let mut other = Peer::shaken_hands();
    assert_eq!(connect(&mut other, &[]), Ok(None));
    assert_eq!(peer.said(), other.said());
    assert_eq!(peer.call("createStream", 2.0, &[]), Ok(None));
    assert_eq!(peer.said(), [result(2.0, Value::Number(1.0))]);
    // A decision that comes twice changes nothing.
    peer.session.refuse_connect("too late");
    assert!(!peer.session.has_output());
    assert_eq!(peer.publish(1, "show"), Ok(Some(publish_event(1, "live/show"))));
}

#[test]
fn a_refused_connect_says_why_and_leaves_nothing() {
    let mut peer = asking();
    assert_eq!(connect(&mut peer, &[]), Ok(Some("Connect".to_owned())));
    peer.session.refuse_connect("not from there");
    let output = peer.session.take_output();
    assert!(output.windows(14).any(|part| part == b"not from there"));
    assert!(output.windows(30).any(|part| part == b"NetConnection.Connect.Rejected"));
    assert_eq!((peer.session.app(), peer.session.tc_url()), ("", ""));
    assert_eq!(peer.publish(1, "show"), refused(1, Refused::BeforeConnect));
    peer.session.accept_connect();
    assert_eq!(peer.publish(1, "show"), refused(1, Refused::BeforeConnect));
}

#[test]
fn what_cannot_be_used_is_not_asked_about() {
    let mut peer = asking();
    let incomplete = object(&[("app", text("live"))]);
    let answer = peer.command(0, &[text("connect"), Value::Number(1.0), incomplete]);
    assert_eq!(answer, refused(0, Refused::Connect));
    assert_eq!(peer.codes(), codes(0, &["NetConnection.Connect.InvalidApp"]));
}

#[test]
fn what_a_client_says_of_itself_is_kept_if_the_host_wants_it_within_bounds() {
    let long = "\u{e9}".repeat(CLIENT_WORD_LETTERS_MAX + 1);
    let words = [("flashVer", "FMLE/3.0\0\r\n"), ("swfUrl", long.as_str()), ("capsEx", "no number")];
    let mut peer = asking();
    connect(&mut peer, &words).expect("a connect");
    peer.session.accept_connect();
    let kept = peer.session.client();
    assert_eq!((kept.flash_version.as_str(), kept.page_url.as_str()), ("FMLE/3.0", ""));
    assert_eq!(kept.swf_url, "\u{e9}".repeat(CLIENT_WORD_LETTERS_MAX));
    assert_eq!(peer.session.hops().count(), 0);
    let mut other = Peer::shaken_hands();
    connect(&mut other, &words).expect("a connect");
    assert_eq!(other.session.client(), ClientWords::default());
    // What lies behind it is found with it and without.
    for mut peer in [asking(), Peer::shaken_hands()] {
        let capable = object(&[
            ("app", text("live")),
            ("tcUrl", text("rtmp://h/live")),
            ("flashVer", text("x")),
            ("capsEx", Value::Number(3.0)),
        ]);
        peer.command(0, &[text("connect"), Value::Number(1.0), capable]).expect("a connect");
        assert_eq!(peer.session.caps_ex(), 3);
    }
}
