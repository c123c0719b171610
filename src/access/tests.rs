use std::net::IpAddr;

use super::{
    keys::Keys,
    network::Network,
    rules::{Proof, Rule, Takes},
    secrets::SignSecrets,
    tokens::Tokens,
    *,
};
use crate::{limits, relay::pattern::Pattern};

const KEY: &str = "correct-horse-battery";
const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn rule(streams: &str, takes: Takes) -> Rule {
    let pattern = (!streams.is_empty()).then(|| Pattern::parse(streams).unwrap());
    Rule { name: format!("rule {streams}").into(), streams: pattern, deny: Vec::new(), allow: Vec::new(), takes }
}

fn networks(texts: &[&str]) -> Vec<Network> {
    texts.iter().map(|text| Network::parse(text).unwrap()).collect()
}

fn keys() -> Option<Keys> {
    let line = keys::line("studio", KEY, "salt", &[]).unwrap();
    Some(Keys::parse(&line).unwrap())
}

/// Whom the rules let in: `action` is for `stream`, which may have a query.
fn decided(
    rules: &AccessInForce,
    action: Action,
    stream: &str,
    peer: &str,
    unix_s: u64,
) -> Result<Option<Credential>, String> {
    let (path, query) = crate::rtmp::key::split_query(stream);
    let (app, name) = path.rsplit_once('/').unwrap();
    let key = StreamKey::new("", app, &format!("{name}?{query}")).unwrap();
    let peer: IpAddr = peer.parse().unwrap();
    match rules.decide(&Ask { action, key: &key, app, tc_url: "", query, peer, unix_s }) {
        Verdict::Allowed(credential) => Ok(credential),
        Verdict::Refused(refusal) => Err(format!("{}: {}", refusal.rule, refusal.why)),
    }
}

fn publishes(rules: Vec<Rule>, stream: &str, peer: &str) -> Result<(), String> {
    let rules = AccessInForce::new(AccessRules { publish: rules, ..AccessRules::default() });
    assert_eq!(decided(&rules, Action::Play, stream, peer, 1), Ok(None), "these rules are not for players");
    decided(&rules, Action::Publish, stream, peer, 1).map(drop)
}

fn refused(result: Result<(), String>, by: &str) {
    let why = result.expect_err("it is let in");
    assert!(why.starts_with(by), "{why}");
}

#[test]
fn without_rules_everybody_may_and_with_rules_what_none_fits_is_refused() {
    assert_eq!(publishes(vec![], "live/show", "10.0.0.1"), Ok(()));
    let rules = || vec![rule("live/*", Takes::Everybody), rule("", Takes::Nobody)];
    assert_eq!(publishes(rules(), "live/show", "10.0.0.1"), Ok(()));
    refused(publishes(rules(), "vod/show", "10.0.0.1"), "rule : nobody may publish");
    refused(publishes(rules(), "live/show?vhost=v", "10.0.0.1"), "rule : nobody may publish");
    refused(publishes(rules()[..1].to_vec(), "vod/show", "10.0.0.1"), "publish rules: no rule says who");
    refused(publishes(vec![rule("*", Takes::Everybody)], "live/show?vhost=v", "10.0.0.1"), "publish rules: no rule");
}

#[test]
fn the_first_rule_that_fits_decides() {
    let rules = || vec![rule("live/a", Takes::Nobody), rule("live/*", Takes::Everybody), rule("live/b", Takes::Nobody)];
    refused(publishes(rules(), "live/a", "10.0.0.1"), "rule live/a");
    assert_eq!(publishes(rules(), "live/b", "10.0.0.1"), Ok(()));
}

#[test]
fn an_address_is_denied_before_it_is_allowed() {
    let rules = |allow: &[&str], deny: &[&str]| {
        vec![Rule { allow: networks(allow), deny: networks(deny), ..rule("", Takes::Everybody) }]
    };
    let (office, guests) = (&["10.0.0.0/8"][..], &["10.9.0.0/16"][..]);
    assert_eq!(publishes(rules(office, guests), "live/show", "10.0.0.1"), Ok(()));
    assert_eq!(publishes(rules(office, guests), "live/show", "::ffff:10.0.0.1"), Ok(()));
    refused(publishes(rules(office, guests), "live/show", "10.9.0.1"), "rule : not from this address");
    refused(publishes(rules(office, guests), "live/show", "192.0.2.1"), "rule : not from this address");
    assert_eq!(publishes(rules(&[], guests), "live/show", "192.0.2.1"), Ok(()));
    let both =
        vec![Rule { allow: networks(office), ..rule("", Takes::Proof(Proof { keys: keys(), ..Proof::default() })) }];
    refused(publishes(both.clone(), &format!("live/show?key={KEY}"), "192.0.2.1"), "rule : not from this address");
    refused(publishes(both.clone(), "live/show", "10.0.0.1"), "rule : a key (?key=..) is needed");
    assert_eq!(publishes(both, &format!("live/show?key={KEY}"), "10.0.0.1"), Ok(()));
}

#[test]
fn who_has_no_address_is_in_no_network() {
    let by = |allow: &[&str], deny: &[&str]| {
        let rule = Rule { allow: networks(allow), deny: networks(deny), ..rule("", Takes::Everybody) };
        publishes(vec![rule], "live/show", &network::NO_ADDRESS.to_string())
    };
    refused(by(&["127.0.0.0/8", "0.0.0.0/0"], &[]), "rule : not from this address");
    assert_eq!(by(&[], &["0.0.0.0/0"]), Ok(()));
}

#[test]
fn of_several_ways_one_must_succeed() {
    let mut tokens = Tokens::default();
    tokens.add("a", SECRET).unwrap();
    let links = SignSecrets::parse(SECRET).unwrap();
    let key = StreamKey::new("", "live", "show").unwrap();
    let link = links::Link { action: Action::Publish, stream: &key, exp: 1_000, ip: "" }.signed(links.first().unwrap());
    let proof = Proof { keys: keys(), links: Some(links), tokens: Some(tokens) };
    let publishes =
        |query: &str| publishes(vec![rule("", Takes::Proof(proof.clone()))], &format!("live/show?{query}"), "10.0.0.1");
    assert_eq!(publishes(&link), Ok(()));
    assert_eq!(publishes(&format!("key={KEY}")), Ok(()));
    assert_eq!(publishes(&format!("token=x&{link}&key=wrong")), Ok(()));
    assert_eq!(publishes(&format!("token=x&key={KEY}")), Ok(()));
    refused(publishes("token=x"), "rule : the token is none");
    refused(publishes("sig=x&exp=1"), "rule : the link is not whole");
    refused(publishes("key=wrong"), "rule : the key is wrong");
    refused(publishes(""), "rule : a key (?key=..) or a signed link (?exp=..&sig=..) or a token (?token=..) is needed");
}

#[test]
fn no_reason_repeats_what_was_brought() {
    let mut tokens = Tokens::default();
    tokens.add("a", SECRET).unwrap();
    let proof = Proof { keys: keys(), links: Some(SignSecrets::parse(SECRET).unwrap()), tokens: Some(tokens) };
    for query in ["token=pearl", "sig=pearl", "key=pearl", "sig=AAAA&exp=1&ip=pearl", "kid=pearl"] {
        let rules = vec![rule("", Takes::Proof(proof.clone()))];
        let why = publishes(rules.clone(), &format!("live/show?{query}"), "10.0.0.1").unwrap_err();
        assert!(!why.contains("pearl"), "{why}");
        assert!(!format!("{rules:?}").contains(SECRET));
    }
}

#[test]
fn too_many_wrong_keys_and_none_is_taken_for_a_while() {
    let keyed = rule("live", Takes::Proof(Proof { keys: keys(), ..Proof::default() }));
    let publish = vec![keyed, rule("", Takes::Everybody)];
    let rules = AccessInForce::new(AccessRules { publish, ..AccessRules::default() });
    let publishes = |stream: &str, peer: &str, unix_s| decided(&rules, Action::Publish, stream, peer, unix_s).map(drop);
    let (right, wrong) = (format!("live/show?key={KEY}"), "live/show?key=wrong");
    for _ in 0..limits::WRONG_KEYS_MAX {
        refused(publishes(wrong, "10.0.0.1", 1_000), "rule live: the key is wrong");
    }
    refused(
        publishes(wrong, "10.0.0.1", 1_000),
        "rule live: too many wrong keys came from this address; the next is looked at in 5 s",
    );
    refused(publishes(&right, "10.0.0.1", 1_004), "rule live: too many wrong keys");
    assert_eq!(publishes(&right, "10.0.0.2", 1_004), Ok(()));
    assert_eq!(publishes("vod/show", "10.0.0.1", 1_004), Ok(()));
    // Nothing brought is nothing guessed.
    refused(publishes("live/show", "10.0.0.1", 1_004), "rule live: a key");
    // None is looked at meanwhile.
    let key = StreamKey::new("", "live", "show").unwrap();
    let of = |peer: [u8; 4], query| {
        let peer = peer.into();
        rules.work(&Ask { action: Action::Publish, key: &key, app: "", tc_url: "", query, peer, unix_s: 1_004 })
    };
    assert_eq!((of([10, 0, 0, 1], "key=x"), of([10, 0, 0, 2], "key=x"), of([10, 0, 0, 2], "")), (0, 1, 0));
    // Those that are refused unseen are looked for all the same, and links are looked at.
    let links = Some(SignSecrets::parse(SECRET).unwrap());
    let of_links = vec![rule("", Takes::Proof(Proof { links, keys: keys(), ..Proof::default() }))];
    let many = (0..limits::RULES_PER_WORK).map(|n| rule(&format!("vod{n}"), Takes::Nobody));
    let publish = many.chain(of_links).collect();
    let before = rules.get();
    rules.replace(AccessRules { publish, ..AccessRules::default() });
    let paused = |query| of([10, 0, 0, 1], query);
    assert_eq!((paused("key=x"), paused("sig=x&exp=1")), (1, 1 + limits::SIGNATURE_WORK));
    assert_eq!(of([10, 0, 0, 2], "key=x"), 2 + limits::SIGNATURE_WORK);
    rules.replace(AccessRules { publish: before.publish.clone(), ..AccessRules::default() });
    // New rules do not forgive.
    rules.replace(AccessRules { publish: rules.get().publish.clone(), ..AccessRules::default() });
    refused(publishes(&right, "10.0.0.1", 1_004), "rule live: too many wrong keys");
    assert_eq!(publishes(&right, "10.0.0.1", 1_005), Ok(()));
    refused(publishes(wrong, "10.0.0.1", 1_005), "rule live: the key is wrong");
    refused(publishes(&right, "10.0.0.1", 1_014), "rule live: too many wrong keys");
}

#[test]
fn wrong_tokens_count_as_wrong_keys_do_but_not_those_that_have_run_out() {
    let mut tokens = Tokens::default();
    tokens.add("a", SECRET).unwrap();
    let publish = vec![rule("", Takes::Proof(Proof { tokens: Some(tokens), ..Proof::default() }))];
    let rules = AccessInForce::new(AccessRules { publish, ..AccessRules::default() });
    let publishes = |token: &str, peer: &str| {
        decided(&rules, Action::Publish, &format!("live/show?token={token}"), peer, 1_000).map(drop)
    };
    let old = tokens::tests::of_secret(r#"{"alg":"HS256"}"#, r#"{"exp":1,"stream":"*","action":"publish"}"#, SECRET);
    let strange = tokens::tests::of_secret(r#"{"alg":"HS256"}"#, r#"{"exp":2000}"#, "another secret-of-others");
    let good =
        tokens::tests::of_secret(r#"{"alg":"HS256"}"#, r#"{"exp":2000,"stream":"*","action":"publish"}"#, SECRET);
    for _ in 0..2 * limits::WRONG_KEYS_MAX {
        refused(publishes(&old, "10.0.0.1"), "rule : the token has run out");
    }
    assert_eq!(publishes(&good, "10.0.0.1"), Ok(()));
    for _ in 0..limits::WRONG_KEYS_MAX {
        refused(publishes(&strange, "10.0.0.2"), "rule : the token's signature does not fit");
    }
    refused(publishes(&good, "10.0.0.2"), "rule : too many wrong keys");
    assert_eq!(publishes(&good, "10.0.0.1"), Ok(()));
}

#[test]
fn credentials_are_those_of_who_brings_them() {
    assert_ne!(Credential::of("key", &[b"ab", b"c"]), Credential::of("key", &[b"a", b"bc"]));
    assert_ne!(Credential::of("key", &[b"a"]), Credential::of("link", &[b"a"]));
    let proof = || Takes::Proof(Proof { keys: keys(), ..Proof::default() });
    let rules = AccessRules { publish: vec![rule("a", proof()), rule("b", proof())], ..AccessRules::default() };
    let rules = AccessInForce::new(rules);
    let publishes =
        |stream: &str| decided(&rules, Action::Publish, &format!("{stream}?key={KEY}"), "10.0.0.1", 1).unwrap();
    assert!(publishes("a/x").is_some() && publishes("a/x") == publishes("b/y"));
}
