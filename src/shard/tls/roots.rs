//! Whose certificates other nodes may have: those of the system's authorities, or of the operator's.
//!
//! Certificates are always checked, by host name or address.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

/// How other nodes are checked, and servers of callbacks: by the certificates in the file `ca` alone, or by the system's. Reads
/// files. The error is for people.
pub fn client_config(ca: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let roots = match ca {
        Some(path) => roots_in(path).map_err(|why| format!("{}: {why}", path.display()))?,
        None => system_roots()?,
    };
    let provider = Arc::new(super::provider::provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn roots_in(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?;
    for certificate in found {
        let certificate = certificate.map_err(|error| format!("not PEM: {error}"))?;
        roots.add(certificate).map_err(|error| format!("not a root certificate: {error}"))?;
    }
    if roots.is_empty() {
        Err("it has no certificate in PEM (-----BEGIN CERTIFICATE-----)".to_owned())
    } else {
        Ok(roots)
    }
}

fn system_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // A system's store has some that no one can use; the others count.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(format!(
            "this machine has no root certificates{why}: install ca-certificates, or name a file by --upstream-ca"
        ));
    }
    Ok(roots)
}
