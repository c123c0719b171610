//! What is told of a puller: why an upstream failed, and how the stream is doing.

use std::time::Duration;

/// Why an upstream is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It does not have the stream.
    #[error("stream not found")]
    NotFound,
    /// It does not want us: wrong credentials, a loop, too many connections.
    #[error("refused")]
    Refused,
    /// No connection, no TLS or no handshake in time.
    #[error("unreachable")]
    Unreachable,
    /// No media in time after the handshake.
    #[error("silent")]
    Silent,
    /// No more media, no keyframe in time, or bytes that are not taken.
    #[error("stalled")]
    Stalled,
    /// The connection broke, or the peer broke the protocol.
    #[error("broken")]
    Broken,
    /// It said that the stream ended.
    #[error("ended")]
    Ended,
}

impl Fault {
    /// Whether it says something of the whole node when it comes before the handshake's end.
    pub(super) fn is_of_node(self) -> bool {
        matches!(self, Self::Unreachable | Self::Silent | Self::Stalled | Self::Broken)
    }
}

/// A puller for those who look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PullReport {
    /// `idle`, `connecting`, `live` (from the first source), `backup` (from another one), `waiting` or `missing`.
    pub state: &'static str,
    /// The source that is connected or being connected.
    pub source: Option<usize>,
    pub since: Duration,
    pub attempts: u64,
    pub last_fault: Option<Fault>,
}
