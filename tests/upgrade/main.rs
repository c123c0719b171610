//! A new process takes over from one that runs (`SIGUSR2`): nobody is refused, nothing else is inherited, and streams whose
//! publishers are still at the old one are played at the new one.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

#[macro_use]
#[path = "../common/mod.rs"]
mod common;

mod chain;
mod ends;
mod failing;
mod fenced;
mod sockets;
mod storm;
mod streams;
