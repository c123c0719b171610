//! TLS for a [`Peer`](super::rtmp::Peer) that takes any certificate.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::{Arc, LazyLock},
};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, Stream,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::ring::default_provider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// One session of a client, whose socket is another's.
pub struct Secure(ClientConnection);

impl Secure {
    pub fn new() -> Self {
        static CONFIG: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
            let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
                .with_safe_default_protocol_versions()
                .expect("ring has them")
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Any))
                .with_no_client_auth();
            Arc::new(config)
        });
        let name = ServerName::try_from("localhost").expect("a name");
        Self(ClientConnection::new(Arc::clone(&CONFIG), name).expect("a session"))
    }

    pub fn write_all(&mut self, socket: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
        let mut stream = Stream::new(&mut self.0, socket);
        stream.write_all(bytes)?;
        stream.flush()
    }

    /// New keys from here on, and the server is asked for the same.
    pub fn change_keys(&mut self, socket: &mut TcpStream) -> io::Result<()> {
        self.0.refresh_traffic_keys().map_err(io::Error::other)?;
        Stream::new(&mut self.0, socket).flush()
    }

    pub fn read(&mut self, socket: &mut TcpStream, block: &mut [u8]) -> io::Result<usize> {
        Stream::new(&mut self.0, socket).read(block)
    }
}

#[derive(Debug)]
struct Any;

impl ServerCertVerifier for Any {
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
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}
