//! Why a connection ended or a request was refused. Each reason is a label of `shardcast_connections_closed_total` or
//! `shardcast_requests_refused_total`.

use crate::{
    egress::TooSlow,
    rtmp::{
        chunk::ChunkError,
        handshake::HandshakeError,
        server::{Refused, SessionError},
    },
};

/// Declares the reasons with their metric labels and one line each for the log.
macro_rules! reasons {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident => $label:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every reason, in the order of its discriminant.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The value of the metric's `reason` label.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }
        }
    };
}

reasons! {
    /// Why a connection was closed.
    CloseReason {
        /// The peer sent FIN after an orderly end, or at any other time.
        PeerClosed => "peer_closed",
        /// The peer's RST, or another error of the socket.
        PeerReset => "peer_reset",
        /// What came was no TLS, or ended without the close_notify that says that it is whole.
        Tls => "tls",
        /// A load balancer did not say on whose behalf it connects.
        ProxyHeader => "proxy_header",
        HandshakeVersion => "handshake_version",
        NotRtmp => "not_rtmp",
        HandshakeTimeout => "handshake_timeout",
        ConnectTimeout => "connect_timeout",
        RequestTimeout => "request_timeout",
        /// Its address has too many connections, which came out after it was accepted.
        TurnedAway => "turned_away",
        /// Of those that have not connected yet there are too many, and it was the oldest.
        Handshakes => "handshakes",
        PreConnectBytes => "pre_connect_bytes",
        ChunkSize => "chunk_size",
        ChunkStreams => "chunk_streams",
        ChunkFormat => "chunk_format",
        ControlLength => "control_length",
        InFlightBytes => "in_flight_bytes",
        UnknownMessages => "unknown_messages",
        /// So many commands and control messages that nothing else would be served.
        Flood => "flood",
        Amf => "amf",
        Connect => "connect_rejected",
        StrayMedia => "stray_media",
        ReplyBacklog => "reply_backlog",
        /// Behind a request that is not decided yet: no driver of this program reads as much.
        UnreadBytes => "unread_bytes",
        PlayRefused => "play_refused",
        /// It asked again and again for what it may not.
        Denied => "denied",
        PublisherIdle => "publisher_idle",
        /// Another publisher has its name now.
        Replaced => "replaced",
        /// The node has too much to do, and it was further behind than others.
        Overload => "overload",
        /// Messages that are not whole take too much memory, and it held more of them than others.
        AssemblyBytes => "assembly_bytes",
        PublishBitrate => "publish_bitrate",
        MessageBytes => "message_bytes",
        StreamNotFound => "stream_not_found",
        NoProgress => "no_progress",
        LagBytes => "lag_bytes",
        Skips => "skips",
        Shutdown => "shutdown",
        /// The node leaves service: it was let go between groups of pictures.
        Drained => "drained",
        /// To another node: it is not needed any more, or another one is in its place.
        RelayDone => "relay_done",
        UpstreamUnreachable => "upstream_unreachable",
        UpstreamNotFound => "upstream_not_found",
        UpstreamRefused => "upstream_refused",
        /// The node that a stream is pushed to has another publisher of the name, or does not know yet that it is gone.
        UpstreamNameTaken => "upstream_name_taken",
        /// The node that a stream is pushed to ended it.
        UpstreamEnded => "upstream_ended",
    }
}

reasons! {
    /// Why a request on a connection that lives on was refused.
    RefuseReason {
        NameTaken => "name_taken",
        BadName => "bad_name",
        Connect => "connect",
        BeforeConnect => "before_connect",
        StreamBusy => "stream_busy",
        NoSuchMessageStream => "no_such_message_stream",
        MessageStreams => "message_streams",
        Views => "views",
        Tracks => "tracks",
        WaitedNames => "waited_names",
        NotFound => "not_found",
        Publishers => "publishers",
        Audience => "audience",
        Overload => "overload",
        /// The stream has come by this node before.
        Loop => "loop",
        /// A rule or a callback says no, or it cannot be found out who may.
        Access => "access",
    }
}

reasons! {
    /// Why a connection was closed as it was accepted, or as soon as it was known whom it comes from.
    TurnedAway {
        Connections => "connections",
        ConnectionsPerIp => "connections_per_ip",
        ConnectRate => "connect_rate",
        /// There is no descriptor for it.
        Descriptors => "descriptors",
    }
}

impl From<&SessionError> for CloseReason {
    fn from(error: &SessionError) -> Self {
        match error {
            SessionError::Handshake(HandshakeError::Version { .. }) => Self::HandshakeVersion,
            SessionError::Handshake(HandshakeError::Tls | HandshakeError::Http) => Self::NotRtmp,
            SessionError::Chunk(ChunkError::ChunkSize { .. }) => Self::ChunkSize,
            SessionError::Chunk(ChunkError::ChunkStreams { .. }) => Self::ChunkStreams,
            SessionError::Chunk(ChunkError::Format { .. }) => Self::ChunkFormat,
            SessionError::Chunk(ChunkError::ControlLength { .. }) => Self::ControlLength,
            SessionError::Chunk(ChunkError::InFlightBytes { .. }) => Self::InFlightBytes,
            SessionError::Chunk(ChunkError::MessageBytes { .. }) => Self::MessageBytes,
            SessionError::HandshakeTimeout => Self::HandshakeTimeout,
            SessionError::ConnectTimeout => Self::ConnectTimeout,
            SessionError::RequestTimeout => Self::RequestTimeout,
            SessionError::PreConnectBytes { .. } => Self::PreConnectBytes,
            SessionError::ControlLength { .. } => Self::ControlLength,
            SessionError::UnknownMessages { .. } => Self::UnknownMessages,
            SessionError::Flood { .. } => Self::Flood,
            SessionError::Amf { .. } => Self::Amf,
            SessionError::ConnectRejected | SessionError::Refused { .. } => Self::Connect,
            SessionError::StrayMedia { .. } => Self::StrayMedia,
            SessionError::ReplyBacklog { .. } => Self::ReplyBacklog,
        }
    }
}

impl From<TooSlow> for CloseReason {
    fn from(why: TooSlow) -> Self {
        match why {
            TooSlow::Bytes => Self::LagBytes,
            TooSlow::NoProgress => Self::NoProgress,
            TooSlow::Skips => Self::Skips,
        }
    }
}

impl From<Refused> for RefuseReason {
    fn from(reason: Refused) -> Self {
        match reason {
            Refused::BeforeConnect => Self::BeforeConnect,
            Refused::Connect => Self::Connect,
            Refused::StreamBusy => Self::StreamBusy,
            Refused::NoSuchMessageStream => Self::NoSuchMessageStream,
            Refused::MessageStreams => Self::MessageStreams,
            Refused::BadName(_) => Self::BadName,
        }
    }
}
