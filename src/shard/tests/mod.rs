//! Cores without sockets: what publishers and players see, on one shard and across shards.

mod asking;
mod closing;
mod ends;
mod entering;
mod judging;
mod leaving;
mod liar;
mod merging;
mod overload;
mod players;
mod publishing;
mod reconnecting;
mod relay_sim;
mod relays;
mod rig;
mod shards;
mod takeover;
mod tracks;
mod waking;
mod world;
