//! What shards say to each other. Every message about a publisher's stream names the stream and the epoch; a receiver
//! that knows another epoch drops it.

use std::sync::Arc;

use crate::{ingress::ViewKey, rtmp::key::StreamKey, shard::relaying::Provenance, stream::feed::Feed};

#[derive(Debug)]
pub enum MeshMessage {
    /// Owner to followers: the name is published by the sender's shard from now on.
    Announce { key: StreamKey, epoch: u64, provenance: Arc<Provenance> },
    /// Follower to owner: feed me this view.
    Follow { key: StreamKey, epoch: u64, view: ViewKey },
    /// Follower to owner: no more of it.
    Unfollow { key: StreamKey, epoch: u64, view: ViewKey },
    /// Owner to follower: what happened to the view.
    Feed { key: StreamKey, epoch: u64, view: ViewKey, feed: Box<Feed> },
    /// Owner to follower: the stream has as many views as it may.
    Refused { key: StreamKey, epoch: u64, view: ViewKey },
    /// Owner to follower: that publisher has left and its log is gone.
    Gone { key: StreamKey, epoch: u64 },
    /// To an owner: end that publisher, the sender has another one of the name.
    Yield { key: StreamKey, epoch: u64, heir: u64 },
    /// From the owner: it has ended, the name is the heir's.
    Yielded { key: StreamKey, heir: u64 },
    /// To a stream's home: the sender has players of it, or none any more.
    Demand { key: StreamKey, wanted: bool, provenance: Option<Arc<Provenance>> },
    /// From a stream's home: no node has it.
    Missing { key: StreamKey },
}
