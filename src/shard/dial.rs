//! What a core asks of its driver: a connection to another node.

use std::time::Duration;

use super::conn::ConnId;
use crate::relay::upstream::Endpoint;

/// A connection to be made. The driver answers with [`Core::dialed`](super::core::Core::dialed) or
/// [`Core::dial_failed`](super::core::Core::dial_failed).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    pub id: ConnId,
    pub to: Endpoint,
    /// Names, connecting and TLS are to be done within.
    pub patience: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum DialError { #[error("stub")] TimedOut { to: String, patience: Duration }, #[error("stub")] Connect { to: String, source: std::io::Error } }
