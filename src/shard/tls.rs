//! TLS towards other nodes, without sockets: ciphertext in and out, plaintext in and out.
//!
//! Certificates are always checked, by host name or address, against the system's roots or the operator's. Bounds: one
//! piece of at most [`limits::TLS_SEAL_BYTES_MAX`] is encrypted at a time, and what was decrypted is handed on at once.

use std::{
    io::{self, BufRead, Read, Write},
    path::Path,
    sync::Arc,
};

use bytes::{Bytes, BytesMut, buf::BufMut};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

use super::dial::TlsFault;
use crate::limits;

/// How other nodes are checked: by the certificates in the file `ca` alone, or by the system's. Reads files. The error is for
/// people.
pub(super) fn client_config(ca: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let roots = match ca {
        Some(path) => roots_in(path).map_err(|why| format!("{}: {why}", path.display()))?,
        None => system_roots()?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
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

/// One session, from its handshake to its close_notify.
#[derive(Debug)]
pub(super) struct Tls {
    session: ClientConnection,
    /// Its blocks are used again once their bytes were sent.
    sealed: BytesMut,
}

impl Tls {
    /// Begins with a handshake: [`Tls::output`] has its first message. `config` is [`client_config`]'s.
    pub(super) fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, TlsFault> {
        let mut session = ClientConnection::new(config, name).map_err(TlsFault::Protocol)?;
        // What is sealed at a time is bounded already; this leaves room for handshakes and headers beside it.
        session.set_buffer_limit(Some(2 * limits::TLS_SEAL_BYTES_MAX));
        Ok(Self { session, sealed: BytesMut::new() })
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    /// Ciphertext came in. `deliver` gets what it said, in order; there may be output after it. True: the peer said that this
    /// was all.
    pub(super) fn receive(&mut self, mut bytes: &[u8], mut deliver: impl FnMut(&[u8])) -> Result<bool, TlsFault> {
        while !bytes.is_empty() {
            // It takes what one record needs, and refuses more only while plaintext waits, which it never does here.
            let taken = self.session.read_tls(&mut bytes).map_err(|_| TlsFault::Truncated)?;
            let state = self.session.process_new_packets().map_err(TlsFault::Protocol)?;
            if state.plaintext_bytes_to_read() > 0 {
                let mut reader = self.session.reader();
                while let Ok(plain) = reader.fill_buf()
                    && !plain.is_empty()
                {
                    deliver(plain);
                    let count = plain.len();
                    reader.consume(count);
                }
            }
            if state.peer_has_closed() {
                return Ok(true);
            }
            if taken == 0 {
                break;
            }
        }
        Ok(false)
    }

    /// The connection ended. Errors: the peer did not say that it would.
    pub(super) fn end(&mut self) -> Result<(), TlsFault> {
        // Nothing is left to read, so the result is only how the session ended.
        let _ = self.session.read_tls(&mut io::empty());
        let _ = self.session.process_new_packets();
        match self.session.reader().read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(TlsFault::Truncated),
            _ if self.session.is_handshaking() => Err(TlsFault::Truncated),
            _ => Ok(()),
        }
    }

    /// Encrypts the beginning of `plain`, after the handshake; returns how much of it.
    pub(super) fn seal(&mut self, plain: &[u8]) -> usize {
        let part = &plain[..plain.len().min(limits::TLS_SEAL_BYTES_MAX)];
        // It buffers as far as its limit goes, and never fails.
        self.session.writer().write(part).unwrap_or(0)
    }

    /// Says that no more will come.
    pub(super) fn close(&mut self) {
        self.session.send_close_notify();
    }

    pub(super) fn wants_output(&self) -> bool {
        self.session.wants_write()
    }

    /// What is to be sent, if anything.
    pub(super) fn output(&mut self) -> Option<Bytes> {
        while self.session.wants_write() {
            // Memory takes all it is given.
            let Ok(1..) = self.session.write_tls(&mut (&mut self.sealed).writer()) else { break };
        }
        let output = self.sealed.split();
        (!output.is_empty()).then(|| output.freeze())
    }
}

#[cfg(all(test, not(loom)))]
#[path = "tls_tests.rs"]
mod tests;
