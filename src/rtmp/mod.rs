//! RTMP without I/O: handshake, chunk stream, AMF, commands, and the two sessions built from them.
//!
//! Everything here is deterministic. Bytes and `now` (the time since any fixed start) go in; bytes, events and deadlines
//! come out. Nothing here knows a socket, a runtime, a clock or a random source.
//!
//! A peer's bytes pass [`handshake`] once, then [`chunk`] turns them into messages ([`message`]); command messages are
//! [`amf0`] (which reads AMF3 where a peer switches to it) and mean something to a [`server`] or a [`client`] session, which
//! exchange their [`capabilities`]. A stream's identity is a [`key::StreamKey`], a place to connect to a [`url::RtmpUrl`];
//! [`hex`] is how digests are written.

mod aggregate;
mod amf;
pub mod amf0;
mod amf3;
pub mod capabilities;
pub mod chunk;
pub mod client;
mod command;
mod control;
pub mod error;
pub mod handshake;
pub mod hex;
pub mod key;
pub mod message;
pub mod server;
pub mod url;

/// Of connect's object: names of the nodes that a stream has passed, parted by commas.
const HOPS: &str = "shardcastHops";
/// The code of a play of what nobody publishes.
pub const STREAM_NOT_FOUND: &str = "NetStream.Play.StreamNotFound";
/// The code of a ReconnectRequest, an onStatus of the connection itself.
const RECONNECT_REQUEST: &str = "NetConnection.Connect.ReconnectRequest";
