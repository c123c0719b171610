//! From a publisher's messages to stream logs.
//!
//! [`Broadcast`] is a stream on the shard that owns it: it classifies each message, keeps the headers in force and the
//! timeline, and appends to the common log and to every [`view`] of it, in each what its `form` has of the message. Nothing
//! here waits for anyone.

pub mod broadcast;
mod form;
pub mod view;

pub use broadcast::{Broadcast, Taken};
pub use view::{View, ViewKey};

#[cfg(all(test, not(loom)))]
mod tests;
#[cfg(all(test, not(loom)))]
mod track_tests;
