//! Why an outgoing connection was not made: what, where, and what to do.

use std::{fmt, io, net::SocketAddr, time::Duration};

use rustls::{CertificateError, Error as RustlsError};

use super::Question;

/// `to` is the endpoint as it was asked for, `address` the one of its addresses that failed last.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("cannot find {host}: {why}: check the name, and this machine's name servers (/etc/resolv.conf)")]
    Resolve { host: String, why: String },
    #[error("{host} has no address: check the name")]
    NoAddress { host: String },
    #[error("{to}{} refuses connections: nothing listens there; start that server or correct the port", At(*address))]
    Refused { to: String, address: Option<SocketAddr> },
    #[error("{to}: {stage} took longer than {patience:?}: {}", stage.advice())]
    TimedOut { to: String, stage: Stage, patience: Duration },
    #[error("{to}: no TLS: {fault}")]
    Tls { to: String, fault: TlsFault },
    #[error("cannot connect to {to}{}: {source}: {}", At(*address), advice(source))]
    Io { to: String, address: Option<SocketAddr>, source: io::Error },
}

struct At(Option<SocketAddr>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |address| write!(f, " at {address}"))
    }
}

fn advice(error: &io::Error) -> &'static str {
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::NotFound, _) => "start the node that listens there, or correct the path",
        (io::ErrorKind::PermissionDenied, _) => "this user may not, by the file's mode or a firewall",
        (_, Some(libc::EMFILE | libc::ENFILE)) => "raise the limit of open files",
        (io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable, _) => "check this machine's routes",
        (io::ErrorKind::AddrNotAvailable, _) => "this machine has no address, or no free port, to connect from",
        (io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset, _) => "that server closed the connection",
        _ => "check the address and the network between",
    }
}

/// What was being waited for when the patience ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The address lookup.
    Names,
    /// Root certificates being read.
    Roots,
    /// The connection; how many addresses were tried.
    Connect { addresses: usize },
    /// The TLS handshake.
    Tls,
}

impl Stage {
    pub(super) fn of(question: &Question) -> Self {
        match question {
            Question::Addresses(_) => Self::Names,
            Question::Roots => Self::Roots,
        }
    }

    fn advice(&self) -> &'static str {
        match self {
            Self::Names => "check this machine's name servers (/etc/resolv.conf)",
            Self::Roots => "check the disk the certificates are on",
            Self::Connect { .. } => "nothing answers there; check the address, and firewalls between",
            Self::Tls => "check that the port speaks TLS",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Names => f.write_str("looking up its name"),
            Self::Roots => f.write_str("reading root certificates"),
            Self::Connect { addresses: 1 } => f.write_str("connecting"),
            Self::Connect { addresses } => write!(f, "connecting to {addresses} addresses"),
            Self::Tls => f.write_str("the TLS handshake"),
        }
    }
}

/// Why there is no TLS session, or no more.
#[derive(Clone, Debug, PartialEq)]
pub enum TlsFault {
    /// The endpoint's host cannot be on a certificate.
    Name,
    /// There is nothing to check certificates by.
    Roots(String),
    /// The peer closed the connection without saying so first: what it sent may be cut short.
    Truncated,
    /// The keys have protected as many records as they may, and TLS 1.2 knows no way to others.
    KeysSpent,
    Protocol(RustlsError),
}

impl From<RustlsError> for TlsFault {
    fn from(error: RustlsError) -> Self {
        Self::Protocol(error)
    }
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = match self {
            Self::Name => return f.write_str("its host is neither a DNS name nor an address"),
            Self::Roots(why) => return f.write_str(why),
            Self::Truncated => return f.write_str("the connection was closed without a close_notify"),
            Self::KeysSpent => {
                return f.write_str(
                    "its keys may protect no more records; TLS 1.3 changes keys, TLS 1.2 has to connect again",
                );
            }
            Self::Protocol(error) => error,
        };
        let advice = match error {
            RustlsError::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                "no root certificate known here vouches for it; name its authority's by --upstream-ca"
            }
            RustlsError::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
                "its certificate must be renewed, or this machine's clock is wrong"
            }
            RustlsError::InvalidCertificate(
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
            ) => "this machine's clock may be wrong",
            RustlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => "use the name that is on its certificate",
            RustlsError::InvalidMessage(_) => "check that the port speaks TLS (rtmps://)",
            RustlsError::AlertReceived(_) => "that server broke it off",
            RustlsError::PeerIncompatible(_) => "that server's TLS is older than 1.2, or lacks every common cipher",
            _ => "that server does not keep to TLS",
        };
        write!(f, "{error}: {advice}")
    }
}
