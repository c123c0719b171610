//! What clients that connect over TLS meet: the certificates in force, the versions spoken, sessions to resume.
//!
//! One for the process. New certificates replace the old ones for the handshakes that follow and disturb nobody else.
//! Bounds: [`limits::TLS_PAIRS_MAX`] pairs, [`limits::TLS_RESUMABLE_MAX`] sessions remembered.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::{
    AlertDescription, Error as RustlsError, ServerConfig, SupportedProtocolVersion,
    pki_types::{DnsName, ServerName},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerSessionMemoryCache},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};

use super::Tls;
pub use super::certificate::{Pair, PairFault};
use crate::{limits, shard::dial::TlsFault};

/// The oldest version spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Oldest {
    #[default]
    Tls12,
    Tls13,
}

/// See the file's head.
#[derive(Debug)]
pub struct Server {
    config: Arc<ServerConfig>,
    in_force: Arc<InForce>,
}

impl Server {
    /// Shows `pairs`, of which the first is for clients that ask for no name, or for one that no pair has. `tickets`: clients of
    /// TLS 1.3 get one, to resume their session with.
    pub fn new(pairs: Vec<Pair>, oldest: Oldest, tickets: bool) -> Result<Self, String> {
        let versions: &[&'static SupportedProtocolVersion] = match oldest {
            Oldest::Tls12 => &[&TLS13, &TLS12],
            Oldest::Tls13 => &[&TLS13],
        };
        let in_force = Arc::new(InForce(RwLock::new(pairs.into())));
        let mut config = ServerConfig::builder_with_provider(Arc::new(super::provider::provider()))
            .with_protocol_versions(versions)
            .map_err(|error| error.to_string())?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&in_force) as Arc<dyn ResolvesServerCert>);
        // librtmp takes a ticket, which comes before the first answer, for an end of what can be read.
        config.send_tls13_tickets = usize::from(tickets);
        config.session_storage = match (oldest, tickets) {
            (Oldest::Tls13, false) => Arc::new(NoServerSessionStorage {}),
            _ => ServerSessionMemoryCache::new(limits::TLS_RESUMABLE_MAX),
        };
        Ok(Self { config: Arc::new(config), in_force })
    }

    /// From the next handshake on, these are shown.
    pub fn replace(&self, pairs: Vec<Pair>) {
        *self.in_force.0.write().unwrap_or_else(PoisonError::into_inner) = pairs.into();
    }

    pub fn pairs(&self) -> Arc<[Pair]> {
        self.in_force.get()
    }

    /// A session with a client that has connected.
    pub(in super::super) fn session(&self) -> Result<Tls, TlsFault> {
        Tls::with_client(Arc::clone(&self.config))
    }
}

/// The certificates shown, which may be replaced while they are.
#[derive(Debug)]
struct InForce(RwLock<Arc<[Pair]>>);

impl InForce {
    fn get(&self) -> Arc<[Pair]> {
        // Whoever panicked with it held replaced it whole or not at all.
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for InForce {
    /// The first for the name whose key the client can check; else the first whose key it can.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let pairs = self.get();
        let can_check = |pair: &&Pair| pair.key.key.choose_scheme(hello.signature_schemes()).is_some();
        let host = hello.server_name().and_then(|name| DnsName::try_from(name).ok()).map(ServerName::DnsName);
        let named = host.and_then(|host| pairs.iter().filter(can_check).find(|pair| pair.is_for(&host)));
        named.or_else(|| pairs.iter().find(can_check)).map(|pair| Arc::clone(&pair.key))
    }
}

/// Why a client's session ended, for the log, with what to do.
pub(in super::super) fn client_fault(fault: &TlsFault) -> String {
    let error = match fault {
        TlsFault::Truncated => return "it left in the middle of the TLS handshake".to_owned(),
        TlsFault::Protocol(error) => error,
        other => return other.to_string(),
    };
    let advice = match error {
        RustlsError::InvalidMessage(_) => "it speaks no TLS, or broke it; rtmp:// has a port of its own (--rtmp)",
        RustlsError::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::UnsupportedCertificate,
        ) => "it does not trust this node's certificate (--tls-cert)",
        RustlsError::AlertReceived(_) => "the client broke it off",
        RustlsError::PeerIncompatible(_) => "its TLS is too old (--tls-min-version), or lacks every common cipher",
        _ => "the client does not keep to TLS",
    };
    format!("{error}: {advice}")
}

#[cfg(all(test, not(loom)))]
#[path = "server_tests.rs"]
mod tests;
