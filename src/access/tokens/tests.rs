use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::*;
use crate::{access::Action, rtmp::key::StreamKey};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Made by OpenSSL, of keys of which only the public half is kept.
const RSA: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAzwVG2fjlVClA2NwHRn6D
i6Q40BFDRJdQCccNgdCHhbZql3J4iIwQrSsKvXHBnsWjVzB0t12/w03hLLZA6akr
0lP3e/VbtwW20WoCkVWPNhNsU1mOnf58hTxeWxiZSTbcvsGI3xrrx6l0KRI2olT4
Qla4irGOVVMVVf5jzXJsFVmMS9Cif8Dg0mhFQUTs1n+gNFIETZfYGLp0mfRNQ37t
s1/mrBoIZRgu3rYrWTaBMKCMrOHUPJy+z5wETtLVRWDL3/9Y6O+lOvhhuzabCFql
bTPI0eAyzumcoiLQL2D4IAxTNGFwTUc5QuewSDyye/UhJYzEqQRO1FY9BlVYkOjt
CQIDAQAB
-----END PUBLIC KEY-----
";
const RSA_PKCS1: &str = "-----BEGIN RSA PUBLIC KEY-----
MIIBCgKCAQEAzwVG2fjlVClA2NwHRn6Di6Q40BFDRJdQCccNgdCHhbZql3J4iIwQ
rSsKvXHBnsWjVzB0t12/w03hLLZA6akr0lP3e/VbtwW20WoCkVWPNhNsU1mOnf58
hTxeWxiZSTbcvsGI3xrrx6l0KRI2olT4Qla4irGOVVMVVf5jzXJsFVmMS9Cif8Dg
0mhFQUTs1n+gNFIETZfYGLp0mfRNQ37ts1/mrBoIZRgu3rYrWTaBMKCMrOHUPJy+
z5wETtLVRWDL3/9Y6O+lOvhhuzabCFqlbTPI0eAyzumcoiLQL2D4IAxTNGFwTUc5
QuewSDyye/UhJYzEqQRO1FY9BlVYkOjtCQIDAQAB
-----END RSA PUBLIC KEY-----
";
const ED25519: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAmlZm86mxBLPsCMs0XtnaHw8bwIDiFaetPP8A8GTIeIU=
-----END PUBLIC KEY-----
";
const RSA_1024: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCmuR7qw+Bujgtzy6pVPA4tbLwb
kmW/dt+PWA6t1+o9mbBLdNp9klGscKRsZgzZvn/qQadcly6VLM3u3XL5ezO2Zvj0
Yv/llLJZj8Jr8E2qu/Sc2AqsdBK/FoZTUu+NgbWvaEOnjNTGWopyFMZjy9ui4J34
CzxMabdsOMROZsqD2QIDAQAB
-----END PUBLIC KEY-----
";
const P256: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAER6qONOJbVTzRZi9fwQ6gyLjN+jS0
t3Ef7qBnImIqA3d7n5pHAFre+1lc9rdU4YBIJkL1vj0dGeOv4YSJhldgMA==
-----END PUBLIC KEY-----
";

/// Each is of `{"iss":"backend","sub":"ann","exp":2000000000,"stream":"live/*","action":["publish","play"]}`.
const BY_RSA: &str = "eyJhbGciOiAiUlMyNTYiLCAidHlwIjogIkpXVCJ9.eyJpc3MiOiAiYmFja2VuZCIsICJzdWIiOiAiYW5uIiwgImV4cCI6IDIwMDAwMDAwMDAsICJzdHJlYW0iOiAibGl2ZS8qIiwgImFjdGlvbiI6IFsicHVibGlzaCIsICJwbGF5Il19.I3dwGIFIYMXHL76IaCyETSnqRi6QxH_JE7l6FZzPSwcTDKWrhcXGDa4q-cEQhqe5CxvHqSGB1xM7-JmkHuWoLTGrpGZ9BZShnaEh_nLlEwBB8C9l6CJpYfxS_PqGC89Ombt-QoJVgwbX4hqEkDLRE8aJPkLGuEGp5UvDaxr0M6bh6uz45lE-eNID86SsZP8iULOBgMFj4YHIcRmJBOidD6vgU9rAVpxlhsFLtLpkFFtMR4XIrThrh9SNJ7TZ2p7oZYC_eS1NciurcZX0TiQHrv3VLaGpcikIXk8da1Fb6CbloxnC04jfNwOBfdAOch0HG6BtpNsb0Zo4vfenJHaAQQ";
const BY_ED25519: &str = "eyJhbGciOiAiRWREU0EiLCAidHlwIjogIkpXVCJ9.eyJpc3MiOiAiYmFja2VuZCIsICJzdWIiOiAiYW5uIiwgImV4cCI6IDIwMDAwMDAwMDAsICJzdHJlYW0iOiAibGl2ZS8qIiwgImFjdGlvbiI6IFsicHVibGlzaCIsICJwbGF5Il19.oVDoVXbSqmkUxFFIxG3mZlYNaGQY4f-8xFQMVUVVOk1OSoNcnJA3IJUAjkAMWGriKQWACvjFwKE9vY8e__quBA";
const BY_SECRET: &str = "eyJhbGciOiAiSFMyNTYiLCAidHlwIjogIkpXVCJ9.eyJpc3MiOiAiYmFja2VuZCIsICJzdWIiOiAiYW5uIiwgImV4cCI6IDIwMDAwMDAwMDAsICJzdHJlYW0iOiAibGl2ZS8qIiwgImFjdGlvbiI6IFsicHVibGlzaCIsICJwbGF5Il19.yek8tl38tzVJpYbxxiubHFtU6n_J7VIqkN5Er-PYjFc";

fn tokens(texts: &[&str]) -> Tokens {
    let mut tokens = Tokens::default();
    texts.iter().for_each(|text| tokens.add("file", text).unwrap());
    tokens
}

fn verified(tokens: &Tokens, token: &str, action: Action, stream: &str, unix_s: u64) -> Result<(), TokenFault> {
    let (app, name) = stream.rsplit_once('/').unwrap();
    let key = StreamKey::new("", app, name).unwrap();
    let peer = [127, 0, 0, 1].into();
    let ask = Ask { action, key: &key, app, tc_url: "", query: "", peer, unix_s };
    tokens.verify(token, &ask).map(drop)
}

fn plays(tokens: &Tokens, token: &str) -> Result<(), TokenFault> {
    verified(tokens, token, Action::Play, "live/show", 1_000)
}

pub(in crate::access) fn of_secret(header: &str, claims: &str, secret: &str) -> String {
    let secrets = SignSecrets::parse(secret).unwrap();
    let message = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let signature = URL_SAFE_NO_PAD.encode(secrets.first().unwrap().sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn claiming(claims: &str) -> String {
    of_secret(r#"{"alg":"HS256"}"#, claims, SECRET)
}

#[test]
fn each_kind_of_key_verifies_its_tokens_and_no_others() {
    for (keys, good) in [
        (RSA, BY_RSA),
        (RSA_PKCS1, BY_RSA),
        (ED25519, BY_ED25519),
        (SECRET, BY_SECRET),
        ("name 0123456789abcdef0123456789abcdef", BY_SECRET),
    ] {
        let tokens = tokens(&[keys]);
        assert_eq!(plays(&tokens, good), Ok(()));
        for other in [BY_RSA, BY_ED25519, BY_SECRET].into_iter().filter(|other| *other != good) {
            assert_eq!(plays(&tokens, other), Err(TokenFault::Algorithm));
        }
    }
    let all = tokens(&[&[RSA, ED25519].concat(), SECRET]);
    for token in [BY_RSA, BY_ED25519, BY_SECRET] {
        assert_eq!(plays(&all, token), Ok(()));
    }
}

#[test]
fn a_token_of_another_key_is_refused() {
    let tokens = tokens(&[&SECRET.replace('0', "1")]);
    assert_eq!(plays(&tokens, BY_SECRET), Err(TokenFault::Signature));
    let swapped = |token: &str, with: &str| {
        let (message, _) = token.rsplit_once('.').unwrap();
        let (_, signature) = with.rsplit_once('.').unwrap();
        format!("{message}.{signature}")
    };
    assert_eq!(plays(&super::tests::tokens(&[RSA]), &swapped(BY_RSA, BY_ED25519)), Err(TokenFault::Signature));
}

#[test]
fn the_key_decides_the_algorithm() {
    let claims = r#"{"exp":2000,"stream":"*","action":"play"}"#;
    // As if the public key's text were a secret.
    let confused =
        of_secret(r#"{"alg":"HS256"}"#, claims, "MCowBQYDK2VwAyEAmlZm86mxBLPsCMs0XtnaHw8bwIDiFaetPP8A8GTIeIU=");
    assert_eq!(plays(&tokens(&[ED25519]), &confused), Err(TokenFault::Algorithm));
    for alg in ["none", "None", "HS384", "hs256", "RS256", "EdDSA", ""] {
        let token = of_secret(&format!(r#"{{"alg":"{alg}"}}"#), claims, SECRET);
        assert_eq!(plays(&tokens(&[SECRET]), &token), Err(TokenFault::Algorithm), "{alg}");
    }
    let unsigned = format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode(claims));
    assert_eq!(plays(&tokens(&[SECRET]), &unsigned), Err(TokenFault::Algorithm));
    let critical = of_secret(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, claims, SECRET);
    assert_eq!(plays(&tokens(&[SECRET]), &critical), Err(TokenFault::Critical));
}

#[test]
fn a_key_may_be_chosen_by_name() {
    let mut tokens = Tokens::default();
    tokens.add("a", &format!("new {SECRET}2\nold {SECRET}")).unwrap();
    let claims = r#"{"exp":2000,"stream":"*","action":"play"}"#;
    for (kid, expected) in [("old", Ok(())), ("unknown", Ok(())), ("new", Err(TokenFault::Signature))] {
        let token = of_secret(&format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#), claims, SECRET);
        assert_eq!(plays(&tokens, &token), expected, "{kid}");
    }
}

#[test]
fn a_token_counts_for_its_time() {
    let tokens = tokens(&[SECRET]);
    let at = |claims: &str, unix_s| {
        let claims = format!(r#"{{{claims}"stream":"*","action":"play"}}"#);
        verified(&tokens, &claiming(&claims), Action::Play, "live/show", unix_s)
    };
    assert_eq!(at("", 0), Err(TokenFault::Endless));
    assert_eq!(at(r#""exp":null,"#, 0), Err(TokenFault::Endless));
    assert_eq!(at(r#""exp":"2000","#, 0), Err(TokenFault::Form));
    assert_eq!((at(r#""exp":1000,"#, 1_029), at(r#""exp":1000.5,"#, 1_030)), (Ok(()), Ok(())));
    assert_eq!(at(r#""exp":1000,"#, 1_030), Err(TokenFault::Expired));
    assert_eq!(at(r#""exp":-1e300,"#, 0), Err(TokenFault::Expired));
    assert_eq!(at(r#""exp":2000,"nbf":1000,"#, 969), Err(TokenFault::Early));
    assert_eq!(at(r#""exp":2000,"nbf":1000,"#, 970), Ok(()));
}

#[test]
fn a_token_counts_for_its_streams_and_actions() {
    let tokens = tokens(&[SECRET]);
    let may = |claims: &str, action, stream: &str| {
        verified(&tokens, &claiming(&format!(r#"{{"exp":2000,{claims}}}"#)), action, stream, 0)
    };
    let (play, publish) = (Action::Play, Action::Publish);
    assert_eq!(may(r#""stream":"live/show","action":"play""#, play, "live/show"), Ok(()));
    assert_eq!(may(r#""stream":"live/show","action":"play""#, play, "live/shows"), Err(TokenFault::OtherStream));
    assert_eq!(may(r#""stream":"live/show","action":"play""#, publish, "live/show"), Err(TokenFault::OtherAction));
    assert_eq!(may(r#""app":"live","action":["play","publish"]"#, publish, "live/show"), Ok(()));
    assert_eq!(may(r#""app":"live","stream":"show","action":"play""#, play, "live/show"), Ok(()));
    assert_eq!(
        may(r#""app":"live","stream":"show","action":"play""#, play, "live/other"),
        Err(TokenFault::OtherStream)
    );
    assert_eq!(
        may(r#""app":"live","stream":"live/show","action":"play""#, play, "live/show"),
        Err(TokenFault::OtherStream)
    );
    assert_eq!(may(r#""stream":"*","action":"play""#, play, "live?vhost=v/show"), Err(TokenFault::OtherStream));
    assert_eq!(may(r#""action":"play""#, play, "live/show"), Err(TokenFault::NoStreams));
    assert_eq!(may(r#""stream":"","action":"play""#, play, "live/show"), Err(TokenFault::Streams));
    assert_eq!(may(r#""stream":"live/..","action":"play""#, play, "live/show"), Err(TokenFault::Streams));
    assert_eq!(may(r#""stream":"*""#, play, "live/show"), Err(TokenFault::OtherAction));
    assert_eq!(may(r#""stream":"*","action":"""#, play, "live/show"), Err(TokenFault::OtherAction));
    assert_eq!(may(r#""stream":"*","action":"play","stream":"live/x""#, play, "live/show"), Err(TokenFault::Form));
}

#[test]
fn issuer_and_audience_are_held_against_what_is_expected() {
    let checked = |issuer: Option<&str>, audience: Option<&str>, claims: &str| {
        let mut tokens = tokens(&[SECRET]);
        (tokens.issuer, tokens.audience) = (issuer.map(str::to_owned), audience.map(str::to_owned));
        plays(&tokens, &claiming(&format!(r#"{{"exp":2000,{claims}"stream":"*","action":"play"}}"#)))
    };
    assert_eq!(checked(Some("a"), None, r#""iss":"a","#), Ok(()));
    assert_eq!(checked(Some("a"), None, r#""iss":"b","#), Err(TokenFault::Issuer));
    assert_eq!(checked(Some("a"), None, ""), Err(TokenFault::Issuer));
    assert_eq!(checked(None, Some("a"), r#""aud":"a","#), Ok(()));
    assert_eq!(checked(None, Some("a"), r#""aud":["b","a"],"#), Ok(()));
    assert_eq!(checked(None, Some("a"), r#""aud":["b"],"#), Err(TokenFault::Audience));
    assert_eq!(checked(None, Some("a"), ""), Err(TokenFault::Audience));
    assert_eq!(checked(None, None, r#""aud":"a","#), Err(TokenFault::Audience));
    assert_eq!(checked(None, None, r#""iss":"a","#), Ok(()));
}

#[test]
fn a_subject_is_a_credential() {
    let tokens = tokens(&[SECRET]);
    let key = StreamKey::new("", "live", "show").unwrap();
    let peer = [127, 0, 0, 1].into();
    let ask = Ask { action: Action::Play, key: &key, app: "", tc_url: "", query: "", peer, unix_s: 0 };
    let credential = |claims: &str| {
        tokens.verify(&claiming(&format!(r#"{{{claims}"exp":2000,"stream":"*","action":"play"}}"#)), &ask).unwrap()
    };
    let ann = credential(r#""sub":"ann","#);
    assert!(ann.is_some() && ann == credential(r#""sub":"ann","nbf":1,"#));
    assert_ne!(ann, credential(r#""sub":"bob","#));
    assert_ne!(ann, credential(r#""sub":"ann","iss":"x","#));
    assert_eq!(credential(""), None);
}

#[test]
fn no_change_of_a_token_is_good() {
    for (keys, good) in [(RSA, BY_RSA), (ED25519, BY_ED25519), (SECRET, BY_SECRET)] {
        let tokens = tokens(&[keys]);
        for end in 0..good.len() {
            assert!(plays(&tokens, &good[..end]).is_err(), "{end}");
        }
        for at in (0..good.len()).step_by(7) {
            for new in ["A", "b", "-", ".", "=", "ä"] {
                let changed = format!("{}{new}{}", &good[..at], &good[at + 1..]);
                assert!(changed == good || plays(&tokens, &changed).is_err(), "{changed}");
            }
        }
    }
}

#[test]
fn what_is_no_token_is_refused() {
    let tokens = tokens(&[SECRET]);
    let deep = "[".repeat(100_000);
    let token = |header: &str, claims: &str| of_secret(header, claims, SECRET);
    for text in [
        String::new(),
        "..".to_owned(),
        "a.b".to_owned(),
        format!("{BY_SECRET}.x"),
        format!("{BY_SECRET}="),
        token("{}", "{}"),
        token("[]", "{}"),
        token(r#"{"alg":1}"#, "{}"),
        token(r#"{"alg":"HS256","alg":"HS256"}"#, "{}"),
        token(&deep, "{}"),
        claiming(&deep),
        claiming("1"),
        claiming(r#"{"exp":1e999}"#),
    ] {
        assert_eq!(plays(&tokens, &text), Err(TokenFault::Form), "{:.80}", text);
    }
}

#[test]
fn files_that_are_no_use_are_refused_and_say_what_to_do() {
    for (text, expected) in [
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "this is a private key"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "this is a certificate"),
        ("-----BEGIN SSH KEY-----\nAAAA\n-----END SSH KEY-----", "expected a PUBLIC KEY"),
        ("-----BEGIN PUBLIC KEY-----\nA*AA\n-----END PUBLIC KEY-----", "the PUBLIC KEY is not base64"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "the PUBLIC KEY is broken"),
        ("-----BEGIN RSA PUBLIC KEY-----\nAAAA\n-----END RSA PUBLIC KEY-----", "the RSA key is broken"),
        ("-----BEGIN PUBLIC KEY", "a line with BEGIN is cut off"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA", "there is no END of the PUBLIC KEY"),
        (RSA_1024, "the RSA key has 1024 bits, expected 2048"),
        (P256, "expected an RSA or Ed25519 key"),
        ("short", "line 1: a secret has 16 bytes"),
    ] {
        let said = Tokens::default().add("file", text).unwrap_err();
        assert!(said.starts_with(expected), "{text}: {said}");
    }
    assert!(tokens(&[SECRET]).add("b", SECRET).unwrap_err().starts_with("only one file has secrets"));
    let many = ED25519.repeat(VERIFY_KEYS_MAX + 1);
    assert!(Tokens::default().add("a", &many).unwrap_err().starts_with("more than 16 keys"));
    // A token that names its file is held against all keys in it.
    let mut some = Tokens::default();
    for name in ["a", "b", "c", "d"] {
        assert_eq!(some.add(name, &ED25519.repeat(TOKEN_KEYS_TRIED_MAX)), Ok(()));
    }
    assert!(some.add("e", ED25519).unwrap_err().starts_with("more than 16 keys"));
    let refused = "more than 4 public keys in files of the name a: split them up";
    assert_eq!(Tokens::default().add("a", &ED25519.repeat(TOKEN_KEYS_TRIED_MAX + 1)), Err(refused.to_owned()));
    assert!(Tokens::default().is_empty() && !tokens(&[RSA]).is_empty());
}

#[test]
fn every_truncation_of_a_key_is_read_or_refused() {
    for text in [RSA, RSA_PKCS1, ED25519] {
        for end in 0..text.find("-----END ").unwrap() + 9 {
            assert!(public_key::of_pem(&text[..end]).is_err(), "{end}");
        }
        // The same of what is inside.
        let (head, rest) = text.split_once("-----\n").unwrap();
        let (body, foot) = rest.split_once("-----END").unwrap();
        let der = base64::engine::general_purpose::STANDARD.decode(body.replace('\n', "")).unwrap();
        for end in 0..der.len() {
            let body = base64::engine::general_purpose::STANDARD.encode(&der[..end]);
            assert!(public_key::of_pem(&format!("{head}-----\n{body}\n-----END{foot}")).is_err(), "{end}");
        }
    }
}

#[test]
fn secrets_are_not_shown() {
    assert!(!format!("{:?}", tokens(&[SECRET])).contains(SECRET));
}
