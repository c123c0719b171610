//! Shardcast: a data-plane proxy for live streams.
//!
//! One process, one thread per core, nothing shared on the hot path but append-only bytes. The modules form one way
//! down; `tests/architecture.rs` enforces it:
//!
//! ```text
//! main -> control -> shard -> { egress, ingress, relay, access } -> stream -> { rtmp, media } -> limits
//! ```
//!
//! * [`rtmp`] and [`media`] are the protocol core. They do no I/O: bytes and time go in, bytes, events and deadlines
//!   come out.
//! * [`stream`] is the append-only stream log, its join points and the directory of names.
//! * [`ingress`] turns a publisher's messages into log entries, [`egress`] turns a player's cursor into bytes; [`relay`]
//!   says what is pulled from and pushed to other nodes; [`access`] who may publish and play.
//! * [`shard`] owns sockets, runtime and timers; [`control`] the command line, the admin listener and the signals.

pub mod access;
#[cfg(not(loom))]
pub mod control;
pub mod egress;
pub mod ingress;
pub mod limits;
pub mod media;
pub mod relay;
pub mod rtmp;
pub mod shard;
pub mod stream;
mod sync;
