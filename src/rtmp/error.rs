//! What ends a session: one variant for each reason a connection is closed by its peer's bytes or silence.

use super::{STREAM_NOT_FOUND, amf0::AmfError, chunk::ChunkError, handshake::HandshakeError};
use crate::limits::{
    ASIDES_PER_SECOND_MAX, CONNECT_ATTEMPTS_MAX, CONNECT_DEADLINE, HANDSHAKE_DEADLINE, PRE_CONNECT_BYTES_MAX,
    REPLY_BYTES_MAX, REQUEST_DEADLINE, STRAY_MEDIA_MESSAGES_MAX, UNKNOWN_MESSAGES_MAX,
};

/// Why a session cannot go on. Its output may still hold an answer that tells the peer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    #[error("the handshake did not end within {HANDSHAKE_DEADLINE:?}: the peer is silent, slow or does not speak RTMP")]
    HandshakeTimeout,
    #[error("no usable connect within {CONNECT_DEADLINE:?}: the peer is silent or does not speak RTMP")]
    ConnectTimeout,
    #[error("nothing was published or played for {REQUEST_DEADLINE:?}: the client is idle or waits for a reply")]
    RequestTimeout,
    #[error(
        "{bytes} bytes came before connect or its reply, at most {PRE_CONNECT_BYTES_MAX} are taken: send that first"
    )]
    PreConnectBytes { bytes: u64 },
    #[error("control message of type {type_id} on csid {csid} is {length} bytes long, too short for its fields")]
    ControlLength { type_id: u8, csid: u32, length: usize },
    #[error(
        "message of unassigned type {type_id} on csid {csid}, more than {UNKNOWN_MESSAGES_MAX} on this connection: \
         the chunk stream is out of step or not RTMP"
    )]
    UnknownMessages { type_id: u8, csid: u32 },
    #[error(
        "more than {ASIDES_PER_SECOND_MAX} messages in one second that are no media, the last of type {type_id}: it does not \
         behave like a client"
    )]
    Flood { type_id: u8 },
    #[error("command on csid {csid}, message stream {stream}: {source}")]
    Amf { csid: u32, stream: u32, source: AmfError },
    #[error("connect was rejected {CONNECT_ATTEMPTS_MAX} times on one connection: it needs an app and a tcUrl")]
    ConnectRejected,
    #[error(
        "media on message stream {stream}, which carries none, more than {STRAY_MEDIA_MESSAGES_MAX} messages: send none \
         before NetStream.Publish.Start or NetStream.Play.Start, nor to a publisher"
    )]
    StrayMedia { stream: u32 },
    #[error("{bytes} bytes of replies wait to be read by the peer, at most {REPLY_BYTES_MAX} are kept")]
    ReplyBacklog { bytes: usize },
    /// A client's connect, publish or play was refused by the server. `redirect`: the tcUrl it should be tried at.
    #[error("the server refused with {code}: {description}")]
    Refused { code: Box<str>, description: Box<str>, redirect: Option<Box<str>> },
}

impl SessionError {
    /// Whether the server says that there is no such stream, rather than that it failed.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if **code == *STREAM_NOT_FOUND)
    }
}
