//! A stream, serialised once.
//!
//! A publisher's messages are written as ready-to-send chunks into [`segment`]s, the blocks of a stream log ([`log`]).
//! What a shard holds of a log is a [`window`]: segments, an index of messages, the newest join point and the [`headers`]
//! in force there. The owner's window grows by appending, a follower's by [`feed`]s from the owner. A player is a cursor
//! into a window. [`timeline`] keeps what players see from ever going back; [`directory`] says which shard owns a name.

pub mod directory;
pub mod feed;
pub mod headers;
pub mod layout;
pub mod log;
pub mod segment;
pub mod timeline;
pub mod window;

#[cfg(all(test, not(loom)))]
mod log_tests;
#[cfg(all(test, not(loom)))]
pub(crate) mod testing;
