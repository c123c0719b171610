//! STUB
use std::time::Duration;
use bytes::BytesMut;
use super::{chunk::ChunkError, key::StreamKey, message::Kind};

/// The server's side of one RTMP connection.
pub struct ServerSession {}

/// What the host of a session sets.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Chunk size announced (once, in the reply to connect) and used for everything the session and the log write.
    pub chunk_bytes: usize,
}

/// What a peer asked for or sent. A `Publish` or `Play` is answered with one of the session's methods; until it is, the
/// host does not call `receive` (rule: while a decision is pending the connection is not read).
#[derive(Debug, PartialEq)]
pub enum ServerEvent<'a> {
    /// `publish` with a valid name, on message stream `stream`, which was idle.
    Publish { stream: u32, key: StreamKey },
    /// `play` (or play2) with a valid name. 
    Play { stream: u32, key: StreamKey },
    /// An audio, video or data message on a stream whose publish was accepted. AMF3 data (type 15) arrives as Kind::Data without its leading zero byte.
    Media { stream: u32, kind: Kind, timestamp: u32, payload: &'a [u8] },
    /// A publish or play ended by command: deleteStream, closeStream, FCUnpublish, or a second publish/play on the stream.
    Ended { stream: u32 },
    /// The player's receiveAudio / receiveVideo.
    Receive { stream: u32, kind: Kind, on: bool },
    /// pause / pauseRaw.
    Pause { stream: u32, on: bool },
}

#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Chunk(#[from] ChunkError),
}

/// Why a publish is refused, as the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishRefusal {
    /// NetStream.Publish.BadName: somebody else publishes it.
    NameTaken,
    /// NetStream.Publish.Denied / Rejected
    Denied,
}

/// Why a play is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlayRefusal {
    /// NetStream.Play.StreamNotFound
    NotFound,
    /// NetStream.Play.Failed
    Failed,
}

impl ServerSession {
    /// `nonce` seeds the handshake's random bytes; `now` starts the deadlines.
    pub fn new(config: ServerConfig, nonce: u64, now: Duration) -> Self { let _ = (config, nonce, now); unimplemented!() }
    /// Consumes from the front of `input` up to the next event (or all of it: None).
    pub fn receive<'a>(&'a mut self, input: &mut &'a [u8], now: Duration) -> Result<Option<ServerEvent<'a>>, SessionError> { let _ = (input, now); unimplemented!() }
    /// Bytes to send, control and command messages only (whole chunks); the host takes from it (split().freeze()).
    pub fn output(&mut self) -> &mut BytesMut { unimplemented!() }
    pub fn has_output(&self) -> bool { unimplemented!() }
    /// When `timeout` is to be called, if nothing else happens.
    pub fn deadline(&self) -> Option<Duration> { unimplemented!() }
    /// Err if a deadline has passed.
    pub fn timeout(&self, now: Duration) -> Result<(), SessionError> { let _ = now; unimplemented!() }
    pub fn accept_publish(&mut self, stream: u32) { let _ = stream; unimplemented!() }
    pub fn refuse_publish(&mut self, stream: u32, why: PublishRefusal, description: &str) { let _ = (stream, why, description); unimplemented!() }
    /// StreamBegin, Play.Reset, Play.Start, |RtmpSampleAccess, Data.Start: from here the host sends media.
    pub fn start_play(&mut self, stream: u32) { let _ = stream; unimplemented!() }
    pub fn refuse_play(&mut self, stream: u32, why: PlayRefusal, description: &str) { let _ = (stream, why, description); unimplemented!() }
    /// The stream a player watches ended: Play.UnpublishNotify and StreamEOF; the stream may start again (start_play).
    pub fn end_play(&mut self, stream: u32) { let _ = stream; unimplemented!() }
    /// The server is going away or gives the publisher up: NetStream.Publish... / Unpublish.Success style status and the stream is idle again.
    pub fn end_publish(&mut self, stream: u32, description: &str) { let _ = (stream, description); unimplemented!() }
}
