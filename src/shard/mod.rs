//! The shards: the only place that owns sockets.
//!
//! [`core::Core`] is a shard without its sockets, a deterministic state machine; `asking`, `judging`, `telling`, `publish`,
//! `play`, `waking`, `sending`, `follow`, [`reconnect`] and `timers` are its parts, [`questions`] is what it asks about clients,
//! [`relaying`] is what it pulls and pushes, [`merge`] says when messages are let go, [`mesh`] is how cores talk. `driver`
//! (with `poller`, `socket`, `load` and [`proxy_header`]) and `listener` (with `sockopt`, `steering` and `unix_file`) put a core
//! on a monoio runtime of its own thread; [`dial`] is its outgoing connections, [`tls`] what some of them speak. [`fleet`] is
//! all of them, as the control thread sees them, and `watchdog` sees that they turn. [`inherited`], [`passing`] and
//! [`predecessor`] are what a node has from the process it takes over from.

pub mod admission;
mod asking;
mod bell;
mod bitrate;
pub mod ceilings;
pub mod close;
mod close_log;
pub mod config;
pub mod conn;
pub mod core;
pub mod dial;
mod driver;
mod entering;
pub mod fleet;
mod follow;
pub mod inherited;
mod judging;
pub mod leaving;
pub mod listen_addr;
mod listener;
mod load;
mod local;
pub mod merge;
pub mod mesh;
pub mod metrics;
pub mod overload;
pub mod passing;
mod play;
mod poller;
pub mod predecessor;
mod prefetch;
pub mod proxy_header;
mod publish;
pub mod questions;
pub mod reconnect;
pub mod relaying;
mod report;
mod runtime;
mod sending;
mod session;
mod socket;
pub mod socket_options;
mod sockopt;
mod steering;
mod streams;
mod takeover;
mod telling;
pub mod time;
mod timers;
pub mod tls;
mod unix_file;
mod uses;
mod waking;
mod watchdog;

pub use self::close_log::LineBudget;

#[cfg(all(test, not(loom)))]
mod testing;
#[cfg(all(test, not(loom)))]
mod tests;
