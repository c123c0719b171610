//! What rustls computes with: ring, but for records that are written, which a [`Sealer`] protects that the session gets to know.
//!
//! rustls does not say which session it makes keys for. It makes them within the calls that hand it what the peer said, on the
//! same thread: [`noting`] has those made last, which are the ones in force once the handshake is over.

use std::{
    cell::Cell,
    sync::{Arc, LazyLock},
};

use ring::aead::{AES_128_GCM, AES_256_GCM, Algorithm, CHACHA20_POLY1305};
use rustls::{
    CipherSuite, ConnectionTrafficSecrets, SupportedCipherSuite, Tls12CipherSuite, Tls13CipherSuite,
    crypto::{
        CipherSuiteCommon, CryptoProvider,
        cipher::{
            AeadKey, Iv, KeyBlockShape, MessageDecrypter, MessageEncrypter, NONCE_LEN, Tls12AeadAlgorithm,
            Tls13AeadAlgorithm, UnsupportedOperationError,
        },
        ring::default_provider,
    },
};

use super::sealer::{Form, Sealer, Shared};

thread_local! {
    static NEWEST: Cell<Option<Arc<Sealer>>> = const { Cell::new(None) };
}

/// For sessions of [`Tls`](super::Tls).
pub(super) fn provider() -> CryptoProvider {
    static SUITES: LazyLock<Vec<SupportedCipherSuite>> = LazyLock::new(|| suites(u64::MAX));
    CryptoProvider { cipher_suites: SUITES.clone(), ..default_provider() }
}

/// ring's, but for their records, of which no keys protect more than `limit`. Made for as long as the process runs.
pub(super) fn suites(limit: u64) -> Vec<SupportedCipherSuite> {
    default_provider().cipher_suites.into_iter().filter_map(|suite| noted(suite, limit)).collect()
}

/// What `act` returns, and the keys for writing that rustls made last within it, if any.
pub(super) fn noting<R>(act: impl FnOnce() -> R) -> (R, Option<Arc<Sealer>>) {
    NEWEST.take();
    let result = act();
    (result, NEWEST.take())
}

fn note(sealer: Sealer) -> Box<dyn MessageEncrypter> {
    let sealer = Arc::new(sealer);
    NEWEST.set(Some(Arc::clone(&sealer)));
    Box::new(Shared(sealer))
}

fn noted(suite: SupportedCipherSuite, limit: u64) -> Option<SupportedCipherSuite> {
    let algorithm = match suite.suite() {
        CipherSuite::TLS13_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => &AES_128_GCM,
        CipherSuite::TLS13_AES_256_GCM_SHA384
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => &AES_256_GCM,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => &CHACHA20_POLY1305,
        _ => return None,
    };
    Some(match suite {
        SupportedCipherSuite::Tls13(suite) => {
            let limit = suite.common.confidentiality_limit.min(limit);
            SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
                common: common(&suite.common),
                hkdf_provider: suite.hkdf_provider,
                aead_alg: Box::leak(Box::new(Noted { inner: suite.aead_alg, algorithm, limit })),
                quic: None,
            })))
        }
        SupportedCipherSuite::Tls12(suite) => {
            let limit = suite.common.confidentiality_limit.min(limit);
            SupportedCipherSuite::Tls12(Box::leak(Box::new(Tls12CipherSuite {
                common: common(&suite.common),
                prf_provider: suite.prf_provider,
                kx: suite.kx,
                sign: suite.sign,
                aead_alg: Box::leak(Box::new(Noted { inner: suite.aead_alg, algorithm, limit })),
            })))
        }
    })
}

fn common(of: &CipherSuiteCommon) -> CipherSuiteCommon {
    CipherSuiteCommon {
        suite: of.suite,
        hash_provider: of.hash_provider,
        confidentiality_limit: of.confidentiality_limit,
    }
}

/// An algorithm whose keys for writing are noted.
struct Noted<A: ?Sized + 'static> {
    inner: &'static A,
    algorithm: &'static Algorithm,
    limit: u64,
}

impl Tls13AeadAlgorithm for Noted<dyn Tls13AeadAlgorithm> {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        note(Sealer::new(self.algorithm, &key, iv, Form::Tls13, self.limit))
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        self.inner.decrypter(key, iv)
    }

    fn key_len(&self) -> usize {
        self.inner.key_len()
    }

    fn extract_keys(&self, key: AeadKey, iv: Iv) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.inner.extract_keys(key, iv)
    }
}

impl Tls12AeadAlgorithm for Noted<dyn Tls12AeadAlgorithm> {
    fn encrypter(&self, key: AeadKey, iv: &[u8], extra: &[u8]) -> Box<dyn MessageEncrypter> {
        let form = if extra.is_empty() { Form::Tls12ChaCha20 } else { Form::Tls12Gcm };
        // Both parts, whose lengths are those of `key_block_shape`, are as long as a nonce.
        let mut whole = [0; NONCE_LEN];
        whole.iter_mut().zip(iv.iter().chain(extra)).for_each(|(to, from)| *to = *from);
        note(Sealer::new(self.algorithm, &key, Iv::new(whole), form, self.limit))
    }

    fn decrypter(&self, key: AeadKey, iv: &[u8]) -> Box<dyn MessageDecrypter> {
        self.inner.decrypter(key, iv)
    }

    fn key_block_shape(&self) -> KeyBlockShape {
        self.inner.key_block_shape()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: &[u8],
        explicit: &[u8],
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.inner.extract_keys(key, iv, explicit)
    }
}
