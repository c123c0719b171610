//! A certificate made on the spot, for trying out: nobody vouches for it, and its key is gone with the process.

use std::{net::SocketAddr, time::Duration};

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use super::certificate::Pair;
use crate::limits;

/// In place of a file's.
pub(super) const NAME: &str = "self-signed";

impl Pair {
    /// For this machine by its name `host`, localhost, and the addresses it listens on.
    pub fn self_signed(host: &str, listens: &[SocketAddr]) -> Result<Self, String> {
        let mut names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
        if !host.is_empty() {
            names.push(host.to_owned());
        }
        names.extend(listens.iter().filter(|addr| !addr.ip().is_unspecified()).map(|addr| addr.ip().to_string()));
        names.sort_unstable();
        names.dedup();
        let made = KeyPair::generate().and_then(|key| {
            let mut params = CertificateParams::new(names)?;
            params.distinguished_name.push(DnType::CommonName, "shardcast, self-signed");
            // A clock that is a little behind is no reason to refuse it.
            params.not_before = std::time::SystemTime::now().into();
            params.not_before -= Duration::from_secs(24 * 60 * 60);
            params.not_after = params.not_before + limits::TLS_SELF_SIGNED_LIFE;
            Ok((params.self_signed(&key)?, key))
        });
        let (certificate, key) = made.map_err(|error| format!("cannot make a certificate: {error}"))?;
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        Self::new(NAME, chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
            .map_err(|fault| format!("cannot use the certificate that was made: {fault:?}"))
    }
}
