//! What clients bring along to be let in, and the files of the operator's that it is held against. The first line is a query,
//! or a network; what is behind it a file, or a token's claims.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use shardcast::{
    access::{
        AccessInForce, AccessRules, Action, Ask, Verdict,
        keys::{self, Keys},
        network::Network,
        rules::{Proof, Rule, Takes},
        secrets::SignSecrets,
        tokens::Tokens,
    },
    limits,
    rtmp::key::StreamKey,
};

pub const KEY: &str = "correct-horse-battery";
pub const SECRET: &str = "0123456789abcdef0123456789abcdef";
const NOW_S: u64 = 1_000;

pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (first, rest) = text.split_once('\n').unwrap_or((&text, &text));
    network(first);
    files(rest);
    query(first);
    claims(rest);
}

fn network(text: &str) {
    let Ok(network) = Network::parse(text) else { return };
    assert_eq!(Network::parse(&network.to_string()), Ok(network), "a network is read as it was written: {text:?}");
    if let Ok(address) = text.split('/').next().unwrap_or_default().parse() {
        assert!(network.contains(address), "{text:?}");
    }
}

fn files(text: &str) {
    if let Ok(keys) = Keys::parse(text) {
        assert!(keys.len() <= limits::KEYS_MAX);
        assert!(keys.check("", &stream()).is_err(), "nothing is no key");
    }
    if let Err(error) = Keys::parse(text) {
        assert!((1..=text.lines().count()).contains(&error.line));
    }
    if let Ok(secrets) = SignSecrets::parse(text) {
        let shown = format!("{secrets:?}");
        assert!(shown.len() <= limits::VERIFY_KEYS_MAX * (limits::KEY_NAME_BYTES_MAX + 4) + 2, "{shown}");
    }
    let mut tokens = Tokens::default();
    if tokens.add("file", text).is_ok() && text.contains("-----BEGIN") {
        assert!(!tokens.is_empty());
    }
}

fn stream() -> StreamKey {
    StreamKey::new("", "live", "show").expect("a name")
}

/// Players need one of a key, a link and a token.
fn rules(key: &str, secret: &str) -> AccessInForce {
    let line = keys::line("a", key, "salt", &[]).expect("a key");
    let mut tokens = Tokens::default();
    tokens.add("a", secret).expect("a secret");
    let proof = Proof { keys: Keys::parse(&line).ok(), links: SignSecrets::parse(secret).ok(), tokens: Some(tokens) };
    let takes = Takes::Proof(proof);
    let rule = Rule { name: "a".into(), streams: None, deny: Vec::new(), allow: Vec::new(), takes };
    AccessInForce::new(AccessRules { publish: Vec::new(), play: vec![rule] })
}

fn decide(rules: &AccessInForce, query: &str) -> Verdict {
    let key = stream();
    let peer = [10, 0, 0, 1].into();
    rules.decide(&Ask { action: Action::Play, key: &key, app: "live", tc_url: "", query, peer, unix_s: NOW_S })
}

/// Whether a player is let in by it.
pub fn opens(query: &str) -> bool {
    matches!(decide(&rules(KEY, SECRET), query), Verdict::Allowed(_))
}

fn query(query: &str) {
    if opens(query) {
        let other = decide(&rules("another-long-key", "another secret-of-others"), query);
        assert!(matches!(other, Verdict::Refused(_)), "what opens one node opens another: {query:?}");
    }
}

/// The claims count only if they say so in plain JSON, too.
fn claims(claims: &str) {
    let message = [r#"{"alg":"HS256"}"#, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length");
    let signature = URL_SAFE_NO_PAD.encode(mac.chain_update(&message).finalize().into_bytes());
    let verdict = decide(&rules(KEY, SECRET), &format!("token={message}.{signature}"));
    let Verdict::Allowed(credential) = verdict else { return };
    let claims: serde_json::Value = serde_json::from_str(claims).expect("claims that count are JSON");
    let leeway = limits::TOKEN_LEEWAY.as_secs_f64();
    assert!(claims["exp"].as_f64().is_some_and(|exp| exp + leeway > NOW_S as f64), "{claims}");
    assert!(claims["stream"].is_string() || claims["app"].is_string(), "{claims}");
    let plays = claims["action"] == "play"
        || claims["action"].as_array().is_some_and(|actions| actions.iter().any(|action| action == "play"));
    assert!(plays && claims["aud"].is_null(), "{claims}");
    assert_eq!(credential.is_some(), claims["sub"].is_string(), "{claims}");
}
