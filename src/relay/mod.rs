//! Pull and push: what is fetched from or sent to other nodes, in what order, and when it is tried again.
//!
//! State machines without sockets: [`crate::shard`] opens the connections they order and tells them what came of it. Time
//! goes in as a `Duration` since the process's start; chance comes in as a seed.
//!
//! [`rules`] are what the operator said: which streams ([`pattern`]), and where each of them is elsewhere ([`template`],
//! [`lookup`], [`upstream`]). A [`puller`] keeps one stream coming as long as somebody wants it, a [`pusher`] one stream
//! going to one target; [`backoff`] and [`health`] keep both from asking too often.

pub mod backoff;
pub mod health;
pub mod lookup;
pub mod pattern;
pub mod puller;
#[cfg(test)]
mod puller_sim_tests;
pub mod pusher;
pub mod rules;
pub mod splice;
pub mod template;
pub mod upstream;
