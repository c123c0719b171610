//! TLS without sockets: ciphertext in and out, plaintext in and out. A session is with another node that this one checks
//! (`roots`), or with a client that checks this one ([`server`]).
//!
//! rustls shakes hands, reads, and says what TLS says by itself; what a connection is sent is encrypted here (`sealer`), straight
//! into the caller's block. Bounds: one piece of at most [`limits::TLS_SEAL_BYTES_MAX`] at a time, of which a session keeps nothing;
//! what was decrypted is handed on at once; after the handshake, one answer to however many changes of keys, and an alert.

mod certificate;
mod provider;
mod roots;
mod sealer;
mod self_signed;
pub mod server;

use std::{
    io::{self, BufRead, Read, Write},
    sync::Arc,
};

use rustls::{
    ClientConfig, ClientConnection, Connection, ContentType, ProtocolVersion, ServerConfig, ServerConnection,
    pki_types::ServerName,
};

pub use self::roots::client_config;
use self::{provider::noting, sealer::Sealer};
use super::{dial::TlsFault, prefetch::prefetch};
use crate::limits;

/// One session, from its handshake to its close_notify.
#[derive(Debug)]
pub(super) struct Tls {
    /// Apart: a send touches what else is here, and of this nothing.
    session: Box<Connection>,
    /// Whether `session` has something to say.
    has_output: bool,
    /// What is sent is encrypted with it, once the handshake is over and until an error.
    sealer: Option<Arc<Sealer>>,
    /// The peer has said something.
    heard: bool,
}

impl Tls {
    /// Begins with a handshake: [`Tls::output`] has its first message. `config` is [`client_config`]'s.
    pub(super) fn with_node(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, TlsFault> {
        ClientConnection::new(config, name).map(|session| Self::new(session.into())).map_err(TlsFault::Protocol)
    }

    /// The client begins.
    fn with_client(config: Arc<ServerConfig>) -> Result<Self, TlsFault> {
        ServerConnection::new(config).map(|session| Self::new(session.into())).map_err(TlsFault::Protocol)
    }

    fn new(session: Connection) -> Self {
        Self { has_output: session.wants_write(), session: Box::new(session), sealer: None, heard: false }
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    /// Whether the peer is a client of this node.
    pub(super) fn is_with_client(&self) -> bool {
        matches!(*self.session, Connection::Server(_))
    }

    /// Whether the peer has said anything.
    pub(super) fn has_heard(&self) -> bool {
        self.heard
    }

    /// Ciphertext came in. `deliver` gets what it said, in order; there may be output after it. True: the peer said that this
    /// was all.
    pub(super) fn receive(&mut self, mut bytes: &[u8], mut deliver: impl FnMut(&[u8])) -> Result<bool, TlsFault> {
        self.heard |= !bytes.is_empty();
        while !bytes.is_empty() {
            // It takes what one record needs, and refuses more only while plaintext waits, which it never does here.
            let taken = self.session.read_tls(&mut bytes).map_err(|_| TlsFault::Truncated)?;
            let state = self.noting(Connection::process_new_packets)?;
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
        let _ = self.noting(Connection::process_new_packets);
        match self.session.reader().read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(TlsFault::Truncated),
            _ if self.session.is_handshaking() => Err(TlsFault::Truncated),
            _ => Ok(()),
        }
    }

    /// Appends to `block` what TLS has to say by itself, then the beginning of `plain`, encrypted, and returns how much of it. For
    /// after the handshake. Errors: no more may be encrypted, and nothing was.
    pub(super) fn seal(&mut self, plain: &[u8], block: &mut Vec<u8>) -> Result<usize, TlsFault> {
        let part = &plain[..plain.len().min(limits::TLS_SEAL_BYTES_MAX)];
        let mut sealed = 0;
        for record in part.chunks(limits::TLS_RECORD_PLAIN_BYTES_MAX) {
            match self.seal_record(record, block) {
                Ok(()) => sealed += record.len(),
                Err(fault) if sealed == 0 => return Err(fault),
                // The next call says why.
                Err(_) => break,
            }
        }
        Ok(sealed)
    }

    fn seal_record(&mut self, plain: &[u8], block: &mut Vec<u8>) -> Result<(), TlsFault> {
        if self.sealer.as_ref().is_some_and(|sealer| sealer.is_spent()) {
            if self.session.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
                return Err(TlsFault::KeysSpent);
            }
            self.noting(Connection::refresh_traffic_keys)?;
        }
        if self.sealer.is_some() && self.has_output {
            self.output(block);
        }
        let sealer = self.sealer.as_ref().ok_or(rustls::Error::HandshakeNotComplete)?;
        Ok(sealer.seal(ContentType::ApplicationData, plain, block)?)
    }

    /// Lets the session do something that may change the keys that are written with.
    fn noting<R>(&mut self, act: impl FnOnce(&mut Connection) -> Result<R, rustls::Error>) -> Result<R, TlsFault> {
        let (result, newest) = noting(|| act(&mut self.session));
        // rustls does not count its word that new keys follow.
        self.has_output = self.has_output || self.session.wants_write() || newest.is_some();
        self.sealer = newest.or(self.sealer.take());
        if result.is_err() {
            // Nothing may follow the alert that says so.
            self.sealer = None;
        }
        Ok(result?)
    }

    /// Says that no more will come.
    pub(super) fn close(&mut self) {
        self.session.send_close_notify();
        self.has_output = self.session.wants_write();
    }

    /// [`Tls::seal`] comes soon: has the CPU fetch the keys.
    pub(super) fn prefetch_keys(&self) {
        if let Some(sealer) = &self.sealer {
            prefetch(&**sealer);
        }
    }

    pub(super) fn wants_output(&self) -> bool {
        self.has_output
    }

    /// Appends what is to be sent to `block`.
    pub(super) fn output(&mut self, block: &mut Vec<u8>) {
        // rustls keeps its word that new keys follow until it is given something to send, and until then gives no other: a peer
        // that goes on changing keys and takes nothing has one waiting for it.
        let _ = self.session.writer().write(&[]);
        while self.session.wants_write() {
            // Memory takes all it is given.
            let Ok(1..) = self.session.write_tls(block) else { break };
        }
        self.has_output = false;
    }
}

#[cfg(all(test, not(loom)))]
mod sealing_tests;
#[cfg(all(test, not(loom)))]
#[path = "tls_tests.rs"]
mod tests;
