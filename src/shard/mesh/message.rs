//! What shards say to each other. Every message names the stream and the epoch it is about; a receiver that knows
//! another epoch drops it.

use crate::{ingress::ViewKey, rtmp::key::StreamKey, stream::feed::Feed};

#[derive(Debug)]
pub enum MeshMessage {
    /// Owner to followers: the name is published by the sender's shard from now on.
    Announce { key: StreamKey, epoch: u64 },
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
}
