//! A new process in place of one that runs, without a connection refused in between: `SIGUSR2`.
//!
//! The old process ([`elder`]) starts the program that is now where its own was ([`program`]), gives it all listening sockets
//! over a socket pair ([`message`] says in what words, [`line`] is an end of it) and serves on until the new one ([`heir`]) says
//! that it listens. From then on the new one alone takes connections, from the very same sockets, and the old one serves those
//! it has until they leave. Streams whose publishers are still there come to the new one over connections between the two.
//!
//! Several upgrades make a chain. The new process gets the lines to all before it along with the sockets, so that the end of a
//! line says that nobody behind is left ([`behind`]): only then, and if it was not to be, are connections taken again.
//!
//! A new process that fails to start changes nothing, and one that would open the node does not start ([`guards`]). It inherits
//! the one end of the socket pair, as its standard input, and no other descriptor ([`descriptors`]).

mod behind;
pub(super) mod descriptors;
mod elder;
mod guards;
mod heir;
mod line;
mod message;
mod program;

pub(super) use self::{
    elder::{Upgrades, catch, refuse},
    guards::Guarding,
    heir::{Heir, pass_on, say_goodbye},
    program::Program,
};

/// The environment variable by which the new process knows what it is, and the version of what the two say to each other.
const VARIABLE: &str = "SHARDCAST_HANDOVER";
