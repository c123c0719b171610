//! What this node shows to clients that connect over TLS: a chain of certificates with its key, and until when it counts.
//!
//! Refused: what is no PEM, a key of another certificate, a key that is itself encrypted. The files are the operator's;
//! whoever has read them asks here, and errors are the second half of a line that names the file.

use std::{fmt, sync::Arc};

use rustls::{
    client::verify_server_name,
    crypto::KeyProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem, pem::PemObject},
    server::ParsedCertificate,
    sign::CertifiedKey,
};

/// See the file's head.
#[derive(Clone)]
pub struct Pair {
    /// How the operator knows it.
    name: Arc<str>,
    pub(super) key: Arc<CertifiedKey>,
    expires_unix_s: i64,
}

impl fmt::Debug for Pair {
    /// Without its key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("name", &self.name).field("expires_unix_s", &self.expires_unix_s).finish()
    }
}

impl Pair {
    /// The chain in `chain`, the server's own certificate first, and the key in `key`, both PEM; they may be the same text.
    pub fn from_pem(name: &str, chain: &[u8], key: &[u8]) -> Result<Self, PairFault> {
        let chain = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| PairFault::Certificate(format!("not PEM: {error}")))?;
        if chain.is_empty() {
            let why = "it has no certificate in PEM (-----BEGIN CERTIFICATE-----)";
            return Err(PairFault::Certificate(why.to_owned()));
        }
        let encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| {
            PairFault::Key(match error {
                pem::Error::NoItemsFound if key.windows(encrypted.len()).any(|part| part == encrypted) => {
                    "the key is encrypted; write it out in the clear: openssl pkey -in FILE -out FILE.clear".to_owned()
                }
                pem::Error::NoItemsFound => "it has no private key in PEM (-----BEGIN PRIVATE KEY-----)".to_owned(),
                error => format!("not PEM: {error}"),
            })
        })?;
        Self::new(name, chain, key)
    }

    pub(super) fn new(
        name: &str,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, PairFault> {
        let unread = || PairFault::Certificate("its first certificate cannot be read".to_owned());
        let expires_unix_s = chain.first().and_then(|first| expiry_unix_s(first)).ok_or_else(unread)?;
        let provider: &'static dyn KeyProvider = super::provider::provider().key_provider;
        let key = provider.load_private_key(key).map_err(|error| PairFault::Key(format!("not a key: {error}")))?;
        let key = CertifiedKey::new(chain, key);
        key.keys_match().map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => PairFault::Key("it is the key of another certificate".to_owned()),
            error => PairFault::Certificate(error.to_string()),
        })?;
        Ok(Self { name: name.into(), key: Arc::new(key), expires_unix_s })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// It was made on the spot.
    pub fn is_self_signed(&self) -> bool {
        &*self.name == super::self_signed::NAME
    }

    /// Seconds since 1970.
    pub fn expires_unix_s(&self) -> i64 {
        self.expires_unix_s
    }

    /// SHA-256 of the server's own certificate, as `openssl x509 -fingerprint -sha256` shows it.
    pub fn fingerprint(&self) -> String {
        use sha2::{Digest, Sha256};
        let own = self.key.cert.first().map_or(&[][..], |own| own.as_ref());
        let pairs = Sha256::digest(own).iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>();
        pairs.join(":")
    }

    /// Whether it is made out for `host`, also by a wildcard.
    pub(super) fn is_for(&self, host: &ServerName<'_>) -> bool {
        let own = self.key.cert.first().and_then(|own| ParsedCertificate::try_from(own).ok());
        own.is_some_and(|own| verify_server_name(&own, host).is_ok())
    }
}

/// Which of a pair is not usable, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PairFault {
    Certificate(String),
    Key(String),
}

/// The end of a certificate's validity (RFC 5280, 4.1.2.5).
fn expiry_unix_s(certificate: &[u8]) -> Option<i64> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xA0;
    let (SEQUENCE, certificate, _) = element(certificate)? else { return None };
    let (SEQUENCE, mut rest, _) = element(certificate)? else { return None };
    if let (VERSION, _, after) = element(rest)? {
        rest = after;
    }
    // Serial number, signature's algorithm, issuer.
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (SEQUENCE, validity, _) = element(rest)? else { return None };
    let (tag, not_after, _) = element(element(validity)?.2)?;
    time_unix_s(tag, not_after)
}

/// Tag and contents of the first DER element, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, length], rest) = der.split_first_chunk()?;
    let (length, rest) = match usize::from(length) {
        short @ ..=0x7F => (short, rest),
        long @ 0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(long - 0x80)?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (contents, after) = rest.split_at_checked(length)?;
    Some((tag, contents, after))
}

/// UTCTime (YYMMDDHHMMSSZ) or GeneralizedTime (YYYYMMDDHHMMSSZ).
fn time_unix_s(tag: u8, text: &[u8]) -> Option<i64> {
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;
    let digits = text.strip_suffix(b"Z").filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let number = |digits: &[u8]| digits.iter().fold(0_i64, |number, digit| number * 10 + i64::from(digit - b'0'));
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let year = number(&digits[..2]);
            (year + if year < 50 { 2000 } else { 1900 }, &digits[2..])
        }
        (GENERALIZED_TIME, 14) => (number(&digits[..4]), &digits[4..]),
        _ => return None,
    };
    let [month, day, hour, minute, second] = std::array::from_fn(|index| number(&rest[2 * index..2 * index + 2]));
    Some(((days_from_1970(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

/// Days of the Gregorian calendar; years begin in March, so that the leap day is their last.
fn days_from_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

#[cfg(all(test, not(loom)))]
#[path = "certificate_tests.rs"]
mod tests;
