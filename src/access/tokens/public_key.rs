//! Public keys that verify tokens: RSA and Ed25519, as PEM (`BEGIN PUBLIC KEY`, or `BEGIN RSA PUBLIC KEY`).
//!
//! Read once, from the operator's files. Refused: private keys, which have no business on this node, certificates, other kinds
//! of keys, and RSA keys of fewer than [`RSA_BITS_MIN`] bits. Bound: [`VERIFY_KEYS_MAX`](crate::limits::VERIFY_KEYS_MAX).

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::signature::{ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

use super::Algorithm;
use crate::limits::{RSA_BITS_MAX, RSA_BITS_MIN, VERIFY_KEYS_MAX};

/// `rsaEncryption` (RFC 8017) and `id-Ed25519` (RFC 8410), as DER has them.
const RSA_ENCRYPTION: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01];
const ED25519_ID: &[u8] = &[0x2B, 0x65, 0x70];

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_ID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// See the file's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PublicKey {
    /// The DER of an `RSAPublicKey`.
    Rsa(Vec<u8>),
    Ed25519([u8; 32]),
}

impl PublicKey {
    pub(super) fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa(_) => Algorithm::Rs256,
            Self::Ed25519(_) => Algorithm::Ed25519,
        }
    }

    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match self {
            Self::Rsa(der) => UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der).verify(message, signature),
            Self::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature),
        };
        verified.is_ok()
    }
}

/// All keys of a file.
pub(super) fn of_pem(text: &str) -> Result<Vec<PublicKey>, String> {
    let mut keys = Vec::new();
    let mut rest = text;
    while let Some((_, begun)) = rest.split_once("-----BEGIN ") {
        let (label, body) = begun.split_once("-----").ok_or("a line with BEGIN is cut off")?;
        let (body, after) = body.split_once("-----END ").ok_or_else(|| format!("there is no END of the {label}"))?;
        keys.push(of_block(label, body)?);
        if keys.len() > VERIFY_KEYS_MAX {
            return Err(format!("more than {VERIFY_KEYS_MAX} keys"));
        }
        rest = after;
    }
    if keys.is_empty() { Err("there is no key in it".to_owned()) } else { Ok(keys) }
}

fn of_block(label: &str, body: &str) -> Result<PublicKey, String> {
    let is_spki = match label {
        "PUBLIC KEY" => true,
        "RSA PUBLIC KEY" => false,
        _ if label.contains("PRIVATE") => {
            return Err("this is a private key; give this node its public one only: openssl pkey -pubout".to_owned());
        }
        "CERTIFICATE" => {
            return Err("this is a certificate; its public key is needed: openssl x509 -noout -pubkey".to_owned());
        }
        _ => return Err("expected a PUBLIC KEY".to_owned()),
    };
    let body: String = body.chars().filter(|c| !c.is_whitespace()).collect();
    let der = STANDARD.decode(body).map_err(|_| format!("the {label} is not base64"))?;
    let broken = || format!("the {label} is broken");
    if !is_spki {
        return rsa(&der);
    }
    let mut spki = Der(&der).only(SEQUENCE).ok_or_else(broken)?;
    let mut algorithm = spki.next(SEQUENCE).ok_or_else(broken)?;
    let key = spki.next(BIT_STRING).filter(|_| spki.0.is_empty()).ok_or_else(broken)?;
    // Whole bytes only.
    let key = key.0.strip_prefix(&[0]).ok_or_else(broken)?;
    match algorithm.next(OBJECT_ID).ok_or_else(broken)?.0 {
        RSA_ENCRYPTION => rsa(key),
        ED25519_ID => key.try_into().map(PublicKey::Ed25519).map_err(|_| broken()),
        _ => Err("expected an RSA or Ed25519 key, for RS256 or EdDSA; tokens of other kinds are not taken".to_owned()),
    }
}

fn rsa(der: &[u8]) -> Result<PublicKey, String> {
    let broken = "the RSA key is broken";
    let mut key = Der(der).only(SEQUENCE).ok_or(broken)?;
    let modulus = key.next(INTEGER).ok_or(broken)?.0;
    key.next(INTEGER).filter(|_| key.0.is_empty()).ok_or(broken)?;
    let digits = modulus.strip_prefix(&[0]).unwrap_or(modulus);
    let bits = digits.first().map_or(0, |first| 8 * digits.len() - first.leading_zeros() as usize);
    if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
        return Err(format!("the RSA key has {bits} bits, expected {RSA_BITS_MIN} to {RSA_BITS_MAX}"));
    }
    Ok(PublicKey::Rsa(der.to_vec()))
}

/// DER values one behind the other, as far as public keys need them.
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The inside of the next value, if it has the tag.
    fn next(&mut self, tag: u8) -> Option<Der<'a>> {
        let rest = self.0.strip_prefix(&[tag])?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7F => (usize::from(first), rest),
            0x81 | 0x82 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
                (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
            }
            _ => return None,
        };
        let (inside, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(Der(inside))
    }

    /// As `next`, if nothing is behind it.
    fn only(mut self, tag: u8) -> Option<Der<'a>> {
        self.next(tag).filter(|_| self.0.is_empty())
    }
}
