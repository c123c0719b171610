//! What a fleet of shards is started with.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{
    ceilings::Ceilings, listen_addr::ListenAddr, merge::Merging, predecessor::Predecessor, questions::Callbacks,
    socket_options::SocketOptions, tls,
};
use crate::{
    access::{AccessInForce, Takeover, network::Network},
    limits,
    media::TrackChoice,
    relay::rules::RelayRules,
};

/// Which monoio driver the shards run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DriverChoice {
    /// io_uring, or the legacy (epoll) driver where io_uring is denied.
    #[default]
    Auto,
    /// io_uring or an error.
    Uring,
    /// epoll.
    Legacy,
}

/// Settings of one node. Each is a flag; the defaults are those of [`limits`].
#[derive(Clone, Debug)]
pub struct Config {
    /// Where every shard listens. Port 0 lets the system choose, once for all shards.
    pub rtmp: Vec<ListenAddr>,
    /// The same, for clients that speak TLS first; needs `tls`.
    pub rtmps: Vec<ListenAddr>,
    pub tls: Option<Arc<tls::server::Server>>,
    /// Networks whose connections begin with a PROXY header.
    pub balancers: Arc<[Network]>,
    /// One shard per item, pinned to that CPU if it names one. Never empty.
    pub cpus: Vec<Option<usize>>,
    pub driver: DriverChoice,
    /// Outbound chunk size, [`limits::CHUNK_BYTES_OUT_MIN`]..=[`limits::CHUNK_BYTES_OUT_MAX`].
    pub chunk_bytes: usize,
    pub merging: Merging,
    /// What [`Merging::Auto`] may cost a player in delay: the window and the pass that follows it.
    pub delay_target: Duration,
    /// How long audio may wait for the next video message to be sent with it.
    pub hold_audio: Duration,
    /// Whether joiners start at the newest keyframe already sent (true) or wait for the next (false).
    pub gop_cache: bool,
    /// Whether players in step are sent small pieces at once (true), or the kernel may join them while earlier ones are
    /// unacknowledged.
    pub tcp_nodelay: bool,
    pub gop_bytes_max: usize,
    /// For players whose play says nothing of tracks.
    pub tracks: TrackChoice,
    /// Bytes of one log segment. Not a flag: it decides how much memory is let go at a time, and nothing players see.
    pub segment_bytes: usize,
    /// Players of a stream that are woken with a message, and before other streams' are; at least one. Not a flag: it decides who
    /// is served first.
    pub wakes_at_once: usize,
    pub lag_max: Duration,
    pub join_wait: Duration,
    /// Zero waits for ever.
    pub play_wait: Duration,
    /// Publishers that send no media for this long are closed; zero never.
    pub publisher_idle: Duration,
    pub unpublish_grace: Duration,
    pub sockets: SocketOptions,
    /// What is pulled from and pushed to other nodes.
    pub relays: RelayRules,
    /// A file of root certificates (PEM) that other nodes' are checked by, in place of the system's.
    pub upstream_ca: Option<PathBuf>,
    pub ceilings: Ceilings,
    /// Who may publish and play.
    pub access: Arc<AccessInForce>,
    pub takeover: Takeover,
    /// The process that this one takes over from.
    pub predecessor: Option<Arc<Predecessor>>,
    /// Who is asked besides, and told.
    pub callbacks: Callbacks,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            rtmp: Vec::new(),
            rtmps: Vec::new(),
            tls: None,
            balancers: Arc::default(),
            cpus: vec![None],
            driver: DriverChoice::Auto,
            chunk_bytes: limits::CHUNK_BYTES_OUT_DEFAULT,
            merging: Merging::Auto,
            delay_target: limits::DELAY_TARGET_DEFAULT,
            hold_audio: Duration::ZERO,
            gop_cache: true,
            tcp_nodelay: false,
            gop_bytes_max: limits::GOP_BYTES_MAX_DEFAULT,
            tracks: TrackChoice::default(),
            segment_bytes: limits::SEGMENT_BYTES,
            wakes_at_once: limits::WAKES_AT_ONCE,
            lag_max: limits::LAG_MAX_DEFAULT,
            join_wait: limits::JOIN_WAIT_DEFAULT,
            play_wait: limits::PLAY_WAIT_DEFAULT,
            publisher_idle: limits::PUBLISHER_IDLE_DEFAULT,
            unpublish_grace: limits::UNPUBLISH_GRACE_DEFAULT,
            sockets: SocketOptions::default(),
            relays: RelayRules::default(),
            upstream_ca: None,
            ceilings: Ceilings::default(),
            access: Arc::default(),
            takeover: Takeover::default(),
            predecessor: None,
            callbacks: Callbacks::default(),
        }
    }
}
