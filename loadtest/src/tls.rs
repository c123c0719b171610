//! TLS from the client's side, for `rtmps://`. Certificates are not checked: what is measured is the server's work, whoever it
//! says it is.

use bytes::{Buf, BytesMut};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};
use std::io::{self, ErrorKind, Read, Write};
use std::sync::{Arc, OnceLock};

/// One session.
pub struct Tls(Box<ClientConnection>);

impl Tls {
    pub fn new() -> io::Result<Self> {
        static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
        let config = Arc::clone(CONFIG.get_or_init(|| Arc::new(config())));
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        ClientConnection::new(config, name).map(|session| Self(Box::new(session))).map_err(io::Error::other)
    }

    /// As a read of `socket`, of what it says.
    pub fn receive(&mut self, socket: &mut (impl Read + Write), buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // Whoever hangs up need not say so.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                read => return read,
            }
            if self.0.read_tls(socket)? == 0 {
                return Ok(0);
            }
            self.0.process_new_packets().map_err(io::Error::other)?;
            self.flush(socket, &mut BytesMut::new())?;
        }
    }

    /// Writes what the kernel takes of `out`, which waits for the handshake. True: something is left.
    pub fn flush(&mut self, socket: &mut impl Write, out: &mut BytesMut) -> io::Result<bool> {
        loop {
            let count = self.0.writer().write(out)?;
            out.advance(count);
            while self.0.wants_write() {
                match self.0.write_tls(socket) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                    Err(error) => return Err(error),
                }
            }
            if count == 0 || out.is_empty() {
                return Ok(!out.is_empty());
            }
        }
    }
}

fn config() -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unchecked(provider)))
        .with_no_client_auth()
}

#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
