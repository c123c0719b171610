use base64::Engine;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::pki_types::PrivatePkcs8KeyDer;

use super::*;

/// `der` as PEM.
fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

/// A certificate for `hosts` that counts until a day, with its key, both PEM.
fn made(hosts: &[&str], year: i32, month: u8, day: u8) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let hosts = hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>();
    let mut params = CertificateParams::new(hosts).expect("names");
    params.not_after = date_time_ymd(year, month, day);
    let chain = pem("CERTIFICATE", params.self_signed(&key).expect("sound").der());
    (chain, pem("PRIVATE KEY", &key.serialize_der()))
}

#[test]
fn the_end_of_validity_is_read_in_both_of_its_forms() {
    for (date, expected) in [
        ((1999, 12, 31), 946_598_400),
        ((2000, 2, 29), 951_782_400),
        ((2026, 11, 28), 1_795_824_000),
        ((2049, 12, 31), 2_524_521_600),
        // From 2050 on, with a year of four digits.
        ((2050, 1, 1), 2_524_608_000),
        ((2100, 3, 1), 4_107_542_400),
        ((4096, 1, 1), 67_090_118_400),
    ] {
        let (chain, key) = made(&["a.example"], date.0, date.1, date.2);
        let pair = Pair::from_pem("a", chain.as_bytes(), key.as_bytes()).expect("sound");
        assert_eq!(pair.expires_unix_s(), expected, "{date:?}");
    }
}

#[test]
fn a_part_of_a_certificate_has_no_end() {
    let (chain, _) = made(&["a.example"], 2030, 1, 1);
    let der = CertificateDer::from_pem_slice(chain.as_bytes()).expect("PEM");
    assert!(expiry_unix_s(&der).is_some());
    for end in 0..der.len() {
        assert_eq!(expiry_unix_s(&der[..end]), None, "of {end} bytes");
    }
    for text in ["", "Z", "3001010000Z", "3001010000000Z", "30010100000xZ", "300101000000"] {
        assert_eq!(time_unix_s(0x17, text.as_bytes()), None, "{text}");
    }
}

#[test]
fn certificate_and_key_may_be_one_text() {
    let (chain, key) = made(&["a.example"], 2030, 1, 1);
    for text in [format!("{chain}{key}"), format!("{key}{chain}")] {
        assert!(Pair::from_pem("a", text.as_bytes(), text.as_bytes()).is_ok());
    }
}

#[test]
fn what_cannot_be_used_is_told_apart() {
    let (chain, key) = made(&["a.example"], 2030, 1, 1);
    let (_, other_key) = made(&["a.example"], 2030, 1, 1);
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let fault = |chain: &str, key: &str| Pair::from_pem("a", chain.as_bytes(), key.as_bytes()).expect_err("unusable");
    for (found, part) in [(fault("", &key), "no certificate in PEM"), (fault(broken, &key), "cannot be read")] {
        assert!(matches!(&found, PairFault::Certificate(why) if why.contains(part)), "{found:?}");
    }
    for (found, part) in [
        (fault(&chain, ""), "no private key in PEM"),
        (fault(&chain, &chain), "no private key in PEM"),
        (fault(&chain, encrypted), "openssl pkey"),
        (fault(&chain, &other_key), "the key of another certificate"),
    ] {
        assert!(matches!(&found, PairFault::Key(why) if why.contains(part)), "{found:?}");
    }
}

#[test]
fn names_and_wildcards_are_those_of_the_certificate() {
    let (chain, key) = made(&["a.example", "*.b.example"], 2030, 1, 1);
    let pair = Pair::from_pem("a", chain.as_bytes(), key.as_bytes()).expect("sound");
    let is_for = |host: &'static str| pair.is_for(&ServerName::try_from(host).expect("a name"));
    assert!(is_for("a.example") && is_for("live.b.example"));
    assert!(!is_for("b.example") && !is_for("x.live.b.example") && !is_for("b.a.example"));
}

#[test]
fn secrets_are_not_shown() {
    let key = KeyPair::generate().expect("a key");
    let chain = CertificateParams::new(vec!["a.example".to_owned()]).expect("a name").self_signed(&key).expect("sound");
    let der = PrivatePkcs8KeyDer::from(key.serialize_der());
    let pair = Pair::new("a.pem", vec![chain.der().clone()], der.into()).expect("sound");
    assert_eq!(format!("{pair:?}"), format!("Pair {{ name: \"a.pem\", expires_unix_s: {} }}", pair.expires_unix_s()));
    assert_eq!(pair.fingerprint().len(), 32 * 3 - 1);
}
