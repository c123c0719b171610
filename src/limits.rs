//! Every bound of the program, once, with its unit in its name.
//!
//! What an operator would tune is a flag whose default stands here; the rest is fixed. What happens at each bound is
//! said where the bound is used and, for the reasons a connection is closed, in [`crate::shard::close`].

use std::time::Duration;

// Handshake and session.

/// From accept to the end of the handshake (C2 received).
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// From accept to `connect`.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// From accept to the first `publish` or `play`.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(20);
/// Bytes a peer may send between the handshake and `connect`.
pub const PRE_CONNECT_BYTES_MAX: u64 = 64 * 1024;
/// Unusable `connect`s on one connection before it is closed.
pub const CONNECT_ATTEMPTS_MAX: u32 = 3;
/// Bytes of tcUrl, app, and of a stream name with its query, each; what a JSON web token in a query needs and more.
pub const REQUEST_TEXT_BYTES_MAX: usize = 4 * 1024;
/// Letters kept of flashVer, swfUrl and pageUrl, each, where callbacks are told of them.
pub const CLIENT_WORD_LETTERS_MAX: usize = 256;
/// Message streams (createStream) open at once on one connection.
pub const MESSAGE_STREAMS_MAX: usize = 8;
/// Messages of unassigned types tolerated on one connection: with the next it is taken for garbage.
pub const UNKNOWN_MESSAGES_MAX: u32 = 2;
/// Messages of a connection in one second that are neither media nor acknowledgements: commands, pings. Clients send a few.
pub const ASIDES_PER_SECOND_MAX: u16 = 2_000;
/// Replies (pings, acknowledgements, command results) a connection may have waiting because it does not read them.
pub const REPLY_BYTES_MAX: usize = 64 * 1024;
/// A peer's Window Acknowledgement Size is raised to this.
pub const ACK_WINDOW_BYTES_MIN: u32 = 32 * 1024;
/// The acknowledgement window announced to peers, and assumed for those that announce none.
pub const ACK_WINDOW_BYTES_DEFAULT: u32 = 2_500_000;
/// Media messages tolerated on a message stream that is not publishing, before the connection is closed.
pub const STRAY_MEDIA_MESSAGES_MAX: u32 = 512;
/// Codecs kept of each list in a peer's Enhanced RTMP capabilities.
pub const FOUR_CCS_MAX: usize = 32;
/// A stream's identity (vhost, app and name together), in bytes of UTF-8.
pub const STREAM_KEY_BYTES_MAX: usize = 256;

// Chunk layer.

/// Chunk streams (csids) one connection may use towards us.
pub const CHUNK_STREAMS_MAX: usize = 64;
/// Inbound chunk size until the peer sets another (RTMP 1.0, 5.4.1).
pub const CHUNK_BYTES_DEFAULT: usize = 128;
/// Set Chunk Size values above this are clamped: no message is longer.
pub const CHUNK_BYTES_IN_MAX: usize = 0xFF_FFFF;
/// Outbound chunk size: smallest, default, and largest (a chunk and its header fit in one flush).
pub const CHUNK_BYTES_OUT_MIN: usize = 128;
pub const CHUNK_BYTES_OUT_DEFAULT: usize = 60_000;
pub const CHUNK_BYTES_OUT_MAX: usize = 61_000;
/// Bytes of partly received messages one connection may hold.
pub const IN_FLIGHT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Largest assembly buffer a sender of media keeps from one message to the next.
pub const ASSEMBLY_SPARE_BYTES_MAX: usize = 64 * 1024;
/// Smallest allocation for a message of several chunks.
pub const ASSEMBLY_BYTES_MIN: usize = 256;

// AMF.

/// Nesting of AMF0 values.
pub const AMF_DEPTH_MAX: usize = 32;
/// Values in one AMF0 message, properties included.
pub const AMF_ITEMS_MAX: usize = 4_096;
/// Bytes of one AMF0 message that is parsed.
pub const AMF_BYTES_MAX: usize = 256 * 1024;

// Media.

/// Tracks looked at in one Multitrack message (track ids are one byte).
pub const TRACKS_MAX: usize = 256;
/// Tracks one player can choose by their ids, video and audio together; it can have all.
pub const PICKED_TRACKS_MAX: usize = 6;
/// ModEx prefixes on one tag.
pub const MODEX_MAX: usize = 16;
/// Parts delivered of one aggregate message. Parts may be empty: without a bound, one message were a million.
pub const AGGREGATE_PARTS_MAX: u32 = 16_384;

// Stream log.

/// Bytes of a log's first segment, or a chunk if that is more. Each further one is twice as large, up to `SEGMENT_BYTES`.
pub const SEGMENT_BYTES_FIRST: usize = 16 * 1024;
/// Bytes of one log segment.
pub const SEGMENT_BYTES: usize = 256 * 1024;
/// Free segments of a process kept for the next ones.
pub const SPARE_SEGMENTS_MAX: usize = 8;
/// Bytes of one send: two chunks of the default size, so that a keyframe of that size leaves in one pass over all players.
pub const FLUSH_BYTES_MAX: usize = 120 * 1024;
/// A join point further back than this many bytes is given up (`--gop-bytes-max`).
pub const GOP_BYTES_MAX_DEFAULT: usize = 32 * 1024 * 1024;
/// A join point older than this is given up.
pub const GOP_AGE_MAX: Duration = Duration::from_secs(60);
/// A player further behind than this skips to the newest join point (`--lag-ms-max`).
pub const LAG_MAX_DEFAULT: Duration = Duration::from_millis(5_000);
/// A player further behind than this many bytes is closed.
pub const LAG_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Messages a log keeps indexed; the oldest go first.
pub const INDEX_ENTRIES_MAX: usize = 262_144;
/// Messages looked at on either side of a join point for one of a header's kind.
pub const HEADER_ENTRIES_MAX: usize = 64;
/// Sequence headers, channel configurations and metadata cached for one stream: count and bytes together.
pub const HEADERS_MAX: usize = 64;
pub const HEADERS_BYTES_MAX: usize = 1024 * 1024;
/// Metadata longer than this is passed on, but not kept for those who join later.
pub const METADATA_BYTES_MAX: usize = 256 * 1024;
/// How long a player waits for a join point before it starts at the newest message (`--join-wait-ms`).
pub const JOIN_WAIT_DEFAULT: Duration = Duration::from_millis(10_000);
/// Spacing of join points in a stream without video.
pub const AUDIO_JOIN_INTERVAL: Duration = Duration::from_millis(1_000);
/// A step back in timestamps up to this is reordering and held at the last value; beyond it the encoder restarted.
pub const TIMESTAMP_REORDER_MAX_MS: u32 = 1_000;
/// A leap ahead of more than this, and of the time that passed, means that the encoder set its clock.
pub const TIMESTAMP_LEAP_MAX_MS: u32 = 24 * 60 * 60 * 1_000;
/// Timestamps this near to each other belong together, whatever clock they came by.
pub const TIMESTAMP_NEAR_MS: u32 = 10_000;
/// Views (forms of one stream other than the common one) at once.
pub const VIEWS_MAX: usize = 8;
/// How long a view outlives its last player.
pub const VIEW_LINGER: Duration = Duration::from_secs(5);
/// How long an owner keeps a stream's first messages for shards whose players waited for it.
pub const FOLLOW_WAIT: Duration = Duration::from_secs(2);
/// Without a video message for this long, a stream is joined at its audio.
pub const VIDEO_QUIET: Duration = Duration::from_secs(5);
/// Logs of one name a shard keeps for players that still drain the older ones.
pub const LOGS_MAX: usize = 4;

// Players and publishers.

/// A player with bytes to receive whose cursor has not moved for this long is closed.
pub const PROGRESS_DEADLINE: Duration = Duration::from_secs(10);
/// Skips within `SKIP_WINDOW` after which a player is closed.
pub const SKIPS_MAX: u32 = 30;
pub const SKIP_WINDOW: Duration = Duration::from_secs(60);
/// How long a player waits for a stream to be published (`--play-wait-s`).
pub const PLAY_WAIT_DEFAULT: Duration = Duration::from_secs(60);
/// A publisher that sends no media for this long is closed (`--idle-timeout-s`).
pub const PUBLISHER_IDLE_DEFAULT: Duration = Duration::from_secs(30);
/// How long players wait for a lost publisher to come back (`--unpublish-grace-s`).
pub const UNPUBLISH_GRACE_DEFAULT: Duration = Duration::from_secs(5);
/// How long a publisher waits for the one that it replaces to be ended.
pub const TAKEOVER_WAIT: Duration = Duration::from_secs(2);
/// How long whoever has replaced a publisher cannot be replaced.
pub const TAKEOVER_PAUSE: Duration = Duration::from_secs(1);
/// Time a closing connection has to take its last bytes.
pub const LINGER: Duration = Duration::from_secs(2);

// Shards.

/// Shards in one process (a mesh bitmap is one word per shard pair direction).
pub const SHARDS_MAX: usize = 64;
/// Messages in the queue from one shard to another.
pub const MESH_QUEUE_MESSAGES: usize = 64;
/// Pause before what a full mesh queue did not take is offered again.
pub const MESH_RETRY: Duration = Duration::from_millis(1);
/// Names with waiting players, process-wide.
pub const WAITED_NAMES_MAX: usize = 100_000;
/// Connections taken from one listener before the shard does something else.
pub const ACCEPT_BUDGET: usize = 64;
/// Readable connections looked at before the shard does something else.
pub const READY_BUDGET: usize = 256;
/// How long a shard reads before it does something else: whatever is read, players are not kept waiting for longer.
pub const READ_TURN: Duration = Duration::from_millis(5);
/// Players of a stream that are woken with a message, and before other streams' are: half a millisecond of sends.
pub const WAKES_AT_ONCE: usize = 64;
/// For so long new messages begin at a stream's first players again before the last have been reached.
pub const WAKE_ANEW: Duration = Duration::from_millis(10);
/// Bytes of one read.
pub const READ_BYTES: usize = 64 * 1024;
/// Bytes read from one connection before the shard does something else.
pub const READ_BUDGET_BYTES: usize = 256 * 1024;
/// Pause after accept failed for want of descriptors or memory, and before a shut listener is said to be lost.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Bytes kept of a connection whose request is not decided: what a read, and a TLS record begun before it, had behind it.
pub const UNREAD_BYTES_MAX: usize = READ_BYTES + TLS_RECORD_BYTES_MAX;
/// How much longer than callbacks may take a shard waits for their outcome.
pub const DECISION_GRACE: Duration = Duration::from_millis(500);
/// Coarse timers run this often.
pub const TICK: Duration = Duration::from_millis(100);
/// The shard's time advances by at most this per turn, so a stopped process does not time everybody out.
pub const TIME_STEP_MAX: Duration = Duration::from_secs(1);
/// A turn that took longer than this is counted.
pub const SLOW_TURN: Duration = Duration::from_millis(100);
/// How long the other shards have to end their streams after one panicked or hung.
pub const PANIC_GRACE: Duration = Duration::from_secs(1);
/// How long SIGTERM waits for players to take their last messages.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
/// Submission queue entries of a shard's ring.
pub const RING_ENTRIES: u32 = 4_096;
/// Log lines about streams published and unpublished per second and shard.
pub const STREAM_LOG_LINES_PER_SECOND: u32 = 50;
/// Log lines about one kind of closed connection per second and shard.
pub const CLOSE_LOG_LINES_PER_SECOND: u32 = 10;

// Relays.

/// From the dial of another node to the end of the handshake (`--upstream-connect-ms`).
pub const UPSTREAM_CONNECT_DEFAULT: Duration = Duration::from_secs(2);
/// From then to its first media (`--upstream-first-byte-ms`).
pub const UPSTREAM_FIRST_BYTE_DEFAULT: Duration = Duration::from_secs(2);
/// From one message of media to the next (`--upstream-stall-ms`).
pub const UPSTREAM_STALL_DEFAULT: Duration = Duration::from_secs(2);
/// How long a pull outlives its last player (`--pull-linger-s`).
pub const PULL_LINGER_DEFAULT: Duration = Duration::from_secs(10);
/// Pause after every source, or a target, failed: the first, doubled each time up to the last, each with jitter.
pub const BACK_OFF_FIRST: Duration = Duration::from_secs(1);
pub const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// How often a primary that failed is tried again while a backup serves: the pause doubles as above.
pub const RETURN_FIRST: Duration = Duration::from_secs(5);
/// Sources of one stream.
pub const SOURCES_MAX: usize = 16;
/// Largest weight of an origin among several.
pub const ORIGIN_WEIGHT_MAX: u32 = 100;
/// Nodes known to be out of reach, per shard.
pub const HEALTH_ENDPOINTS_MAX: usize = 1_024;
/// Placeholders in one upstream's URL.
pub const PLACEHOLDERS_MAX: usize = 8;
/// How long a stream that was found nowhere is refused at most; who asks after that has it looked for again.
pub const MISS_MEMORY_MAX: Duration = Duration::from_secs(5);
/// A stream that was live within this time is waited for, not refused.
pub const LIVE_LATELY: Duration = Duration::from_secs(10);
/// A connection that served for this long was no fluke: when it breaks, all begins anew without a pause.
pub const RELAY_STEADY: Duration = Duration::from_secs(5);
/// How long a better source must have sent before a stream returns to it, and how long it has to send a keyframe.
pub const RETURN_PROOF: Duration = Duration::from_secs(1);
pub const RETURN_PATIENCE: Duration = Duration::from_secs(30);
/// Streams pulled at once by one shard.
pub const PULLS_MAX: usize = 10_000;
/// How long sound of another source waits for its first video.
pub const SPLICE_VIDEO_WAIT: Duration = Duration::from_secs(1);
/// What is kept of a source until the stream is taken from it: messages, bytes, and audio of one without video.
pub const PRELUDE_MESSAGES_MAX: usize = 256;
pub const PRELUDE_BYTES_MAX: usize = 1024 * 1024;
pub const PRELUDE_AUDIO_MS: u32 = 500;
/// What is held back of a stream, at most, while it goes over to a source that is a little behind.
pub const HANDOVER_MAX: Duration = Duration::from_secs(1);
pub const HANDOVER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What the bit rate of a relay is an average of.
pub const RATE_WINDOW: Duration = Duration::from_secs(1);
/// Letters shown of what another node says, and the least that a secret in it has to be hidden.
pub const SAID_LETTERS_MAX: usize = 300;
pub const SECRET_LETTERS_MIN: usize = 4;
/// Nodes a stream may pass.
pub const HOPS_MAX: usize = 8;
/// Bytes of a node's name in the list of hops.
pub const NODE_NAME_BYTES_MAX: usize = 64;
/// Bounds of `--upstream-connect-ms`, `--upstream-first-byte-ms` and `--upstream-stall-ms`.
pub const UPSTREAM_MS_MIN: u64 = 50;
pub const UPSTREAM_MS_MAX: u64 = 600_000;
/// Redirects and reconnect requests followed, and rounds of authentication, for one stream of one target within
/// `REDIRECT_WINDOW`.
pub const REDIRECTS_MAX: u32 = 4;
pub const REDIRECT_WINDOW: Duration = Duration::from_secs(60);

// Access: who may publish and play.

/// Rules for one action, and networks of one rule.
pub const ACCESS_RULES_MAX: usize = 1_000;
pub const NETWORKS_MAX: usize = 1_000;
/// Bytes of a file with keys or secrets.
pub const ACCESS_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Keys of one file: each is hashed for each request that brings one.
pub const KEYS_MAX: usize = 1_000;
/// Bytes of the name and of the salt of a key.
pub const KEY_NAME_BYTES_MAX: usize = 64;
/// Shortest key that is taken: what is hashed but once must be too long to be guessed.
pub const KEY_BYTES_MIN: usize = 16;
/// Longest key that is hashed to see whether it is one; nothing longer is made.
pub const KEY_BYTES_MAX: usize = 256;
/// Bytes of the random keys and secrets that `shardcast key` makes.
pub const KEY_RANDOM_BYTES: usize = 24;
/// Secrets of signed links, and keys of tokens, that count at once: the new ones and those on their way out.
pub const VERIFY_KEYS_MAX: usize = 16;
/// Shortest secret of signed links and tokens.
pub const SIGN_SECRET_BYTES_MIN: usize = 16;
/// Bits of an RSA key for tokens.
pub const RSA_BITS_MIN: usize = 2_048;
pub const RSA_BITS_MAX: usize = 4_096;
/// Public keys that one token is held against, where its `kid` names none.
pub const TOKEN_KEYS_TRIED_MAX: usize = 4;
/// How far the clock of who makes tokens may be off.
pub const TOKEN_LEEWAY: Duration = Duration::from_secs(30);
/// How long a link that `shardcast sign` makes is good, unless `--for` says otherwise.
pub const LINK_LIFE_DEFAULT: Duration = Duration::from_secs(60 * 60);
/// And at most: it cannot be taken back but with its secret.
pub const LINK_LIFE_MAX: Duration = Duration::from_secs(3_650 * 24 * 60 * 60);
/// Wrong keys from one address, each within `WRONG_KEYS_WINDOW` of the one before, until none is taken from it for a while: for
/// `KEY_PAUSE_FIRST`, twice as long with each further one, up to `KEY_PAUSE_MAX`.
pub const WRONG_KEYS_MAX: u32 = 10;
pub const WRONG_KEYS_WINDOW: Duration = Duration::from_secs(60);
pub const KEY_PAUSE_FIRST: Duration = Duration::from_secs(5);
pub const KEY_PAUSE_MAX: Duration = Duration::from_secs(300);
/// Addresses whose wrong keys are remembered; the one that was quiet for longest is forgotten first.
pub const WRONG_KEY_ADDRESSES_MAX: usize = 4_096;
/// Of these, those among which one is forgotten for another.
pub const WRONG_KEY_ADDRESSES_LOOKED_AT: usize = 16;
/// Work of a shard between two ticks on what clients bring along to prove their rights, in keys hashed; the next ones wait.
pub const ACCESS_WORK_PER_TICK: u32 = 25_000;
/// What a signature of a token or link costs of it.
pub const SIGNATURE_WORK: u32 = 100;
/// How many rules that are looked through cost as much as a key that is hashed.
pub const RULES_PER_WORK: usize = 16;
/// Requests of one connection that are denied before it is closed.
pub const DENIALS_MAX: u8 = 8;
/// How long a request waits for its turn to be looked at.
pub const JUDGEMENT_PATIENCE: Duration = Duration::from_secs(10);

// Outgoing connections.

/// From the begin of one attempt to connect to that of the next, unless it failed before (RFC 8305, section 5).
pub const DIAL_ATTEMPT_PAUSE: Duration = Duration::from_millis(250);
/// Addresses of one name that are tried.
pub const DIAL_ADDRESSES_MAX: usize = 16;
/// Pause before a Unix socket whose listener has its hands full is tried again.
pub const UNIX_DIAL_RETRY: Duration = Duration::from_millis(20);
/// Threads of the process that look names up and read certificates.
pub const BLOCKING_THREADS_MAX: usize = 16;
/// Names of the process that wait for such a thread.
pub const BLOCKING_QUESTIONS_MAX: usize = 1_024;
/// How long such a thread waits for the next name before it ends.
pub const BLOCKING_THREAD_IDLE: Duration = Duration::from_secs(10);

// The PROXY protocol.

/// Bytes of a header: of version 1 with its line's end, as the protocol has it, and of version 2 with all that it says besides.
pub const PROXY_V1_BYTES_MAX: usize = 107;
pub const PROXY_V2_BYTES_MAX: usize = 4 * 1024;
/// Networks of `--proxy-trusted`: each is looked at for each connection.
pub const PROXY_TRUSTED_MAX: usize = 64;

// TLS.

/// Longest record: 2^14 bytes, and what encryption may add to them (RFC 5246, 6.2.3).
pub const TLS_RECORD_BYTES_MAX: usize = 18 * 1024;
/// What a record may carry (RFC 8446, 5.1).
pub const TLS_RECORD_PLAIN_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a send that are encrypted at a time, a record and a half: what is held encrypted for one connection while it is sent.
/// With the rest of its session, a player is to take 40 KiB at most.
pub const TLS_SEAL_BYTES_MAX: usize = 24 * 1024;
/// A block for encrypted bytes that there is no room for: a send's, with records' headers. And how many of them a shard keeps.
pub const TLS_BLOCK_BYTES_MAX: usize = 25 * 1024;
pub const TLS_BLOCKS_SPARE_MAX: usize = 64;
/// Connections over TLS that are sent to before the shard does something else: 4 ms where each has much to get.
pub const TLS_TURNS_BUDGET: usize = 32;
/// Sends to one of them at a time, while what concerns it is in the CPU's cache.
pub const TLS_SENDS_PER_TURN: usize = 6;
/// Sessions of the process that clients may resume.
pub const TLS_RESUMABLE_MAX: usize = 8 * 1024;
/// Pairs of certificate and key (`--tls-cert`): each is looked at for each handshake.
pub const TLS_PAIRS_MAX: usize = 256;
/// Bytes of a file with certificates or a key.
pub const TLS_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// How long the certificate of `--tls-self-signed` counts.
pub const TLS_SELF_SIGNED_LIFE: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// A certificate that expires within this time is warned of.
pub const TLS_EXPIRY_WARNING: Duration = Duration::from_secs(14 * 24 * 60 * 60);

// Sockets.

/// How long a node that begins waits for a killed one's listener to vanish from its socket file, and how often it looks.
pub const UNIX_STALE_PATIENCE: Duration = Duration::from_secs(1);
pub const UNIX_STALE_POLL: Duration = Duration::from_millis(20);
/// Longest path of a socket file (`sun_path` without its end).
pub const UNIX_PATH_BYTES_MAX: usize = 107;
/// Connections that may wait to be accepted, per shard and address (`--backlog`).
pub const LISTEN_BACKLOG_DEFAULT: i32 = 4_096;
pub const LISTEN_BACKLOG_MAX: i32 = 1_048_576;
/// Unsent bytes the kernel may hold for a player before the send waits (`--notsent-lowat`): two flushes.
pub const NOTSENT_LOWAT_BYTES_DEFAULT: u32 = 128 * 1024;
pub const NOTSENT_LOWAT_BYTES_MIN: u32 = 4 * 1024;
pub const NOTSENT_LOWAT_BYTES_MAX: u32 = 64 * 1024 * 1024;
/// Bounds of `--sndbuf`; the kernel doubles it, in an `i32`.
pub const SNDBUF_BYTES_MIN: usize = 16 * 1024;
pub const SNDBUF_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Longest `--busy-poll-us`: beyond it a shard asks the network card longer than a pass should take.
pub const BUSY_POLL_US_MAX: u32 = 10_000;
/// Longest name of a congestion control (the kernel's TCP_CA_NAME_MAX without its end).
pub const CONGESTION_NAME_BYTES_MAX: usize = 15;

/// What `--merge-ms auto` may cost a player in delay (`--delay-target-ms`).
pub const DELAY_TARGET_DEFAULT: Duration = Duration::from_millis(100);
/// While messages are merged, publishers are read from once in this share of the window, and at least this often.
pub const READ_PAUSE_DIVISOR: u32 = 8;
pub const READ_PAUSE_MAX: Duration = Duration::from_millis(5);
/// Share of one core from which on `--merge-ms auto` merges, and from which on as much as the delay target lets it.
pub const MERGE_LOAD_START: f64 = 0.3;
pub const MERGE_LOAD_FULL: f64 = 0.5;
/// What one send to a player costs, as measured at 2.5 Mb/s: what a shard is busy with beyond its sends, no window spares.
pub const MERGE_SEND_COST: Duration = Duration::from_micros(7);
/// A shard's load is averaged over this long.
pub const MERGE_LOAD_TIME: Duration = Duration::from_secs(1);

// Admission (docs/limits.md).

/// New connections per second from one address, and how many at once before that counts (`--connects-per-ip`).
pub const CONNECTS_PER_IP_PER_SECOND: u32 = 200;
pub const CONNECTS_PER_IP_BURST: u32 = 4_000;
/// Largest numbers of `--connects-per-ip`.
pub const CONNECTS_PER_IP_MOST: u32 = 1_000_000;
/// What the bit rate of a publisher is an average of: above `--publish-bitrate-max` in one, it is warned of, in two, closed.
pub const PUBLISH_RATE_WINDOW: Duration = Duration::from_secs(5);
/// Bounds of `--publish-bitrate-max`, in bits per second.
pub const PUBLISH_BITRATE_MIN: u64 = 10_000;
pub const PUBLISH_BITRATE_MOST: u64 = 1_000_000_000_000;
/// Lengths of messages are limited in steps of this (`--message-bytes-max`): what has a length of its own arrives in several
/// reads, and a step fits in a byte.
pub const MESSAGE_STEP_BYTES: usize = 64 * 1024;
pub const MESSAGE_STEPS_MAX: usize = 255;
/// Shares of `--memory-max` at which new players are refused, players closed, and new publishers refused; a level is left this
/// much below.
pub const MEMORY_PLAYERS_PERCENT: u64 = 80;
pub const MEMORY_LAGGARDS_PERCENT: u64 = 90;
pub const MEMORY_PUBLISHERS_PERCENT: u64 = 95;
pub const MEMORY_RELIEF_PERCENT: u64 = 5;
/// From this share on the GOPs kept for joiners are halved each time it is weighed; below this one they grow, a step of an eighth
/// in this time: logs take a while to become as long as they may.
pub const MEMORY_GOPS_CUT_PERCENT: u64 = 75;
pub const MEMORY_GOPS_GROW_PERCENT: u64 = 60;
pub const GOP_STEP: Duration = Duration::from_secs(5);
/// What is free is given back from the first share on, once what is resident and not accounted for has grown by this share.
pub const MEMORY_GIVE_BACK_PERCENT: u64 = 2;
/// How often the memory is weighed.
pub const MEMORY_WEIGH_PAUSE: Duration = Duration::from_millis(250);
/// Bounds of `--memory-max`.
pub const MEMORY_BYTES_MIN: usize = 64 * 1024 * 1024;
pub const MEMORY_BYTES_MOST: usize = 1 << 50;
/// What a connection is reckoned to take besides what is counted: its session, its task, its place in tables.
pub const CONNECTION_BYTES: u64 = 4 * 1024;
/// And that over TLS besides: keys, buffers of records. What is being sent to it (25 KiB at most) is not reckoned with.
pub const TLS_CONNECTION_BYTES: u64 = 10 * 1024;
/// Share of a core from which on a shard is full, below which it has slack, and for how long, before overload goes a level up or
/// down.
pub const CPU_FULL: f64 = 0.95;
pub const CPU_RELIEF: f64 = 0.85;
pub const CPU_STEP: Duration = Duration::from_secs(5);
/// Of the players that are late this part is closed at a time: for memory each time it is weighed, and only those as many bytes
/// behind as a segment has; for load once in this pause.
pub const SHED_SHARE_DIVISOR: usize = 8;
pub const SHED_LAG_BYTES_MIN: u64 = SEGMENT_BYTES as u64;
pub const SHED_PAUSE: Duration = Duration::from_secs(1);
/// Bytes of messages that are not whole, over all connections, where memory has no limit; and a shard's part at least.
pub const ASSEMBLY_BYTES_ALL_MAX: usize = 1024 * 1024 * 1024;
pub const ASSEMBLY_BYTES_SHARD_MIN: usize = 4 * 1024 * 1024;
/// What a publisher may hold of them however many others do: a long keyframe.
pub const PUBLISHER_IN_FLIGHT_BYTES_FAIR: usize = 1024 * 1024;
/// Networks that limits by address are not for (`--limits-exempt`).
pub const EXEMPT_NETWORKS_DEFAULT: [&str; 2] = ["127.0.0.0/8", "::1"];
/// Addresses without connections that are remembered because of what they did, and how often it is looked whether any of them
/// can be forgotten when there are too many.
pub const ADDRESSES_IDLE_MAX: usize = 131_072;
pub const ADDRESSES_SWEEP_PAUSE: Duration = Duration::from_millis(100);
/// Connections that have not sent their `connect` (`--handshakes-max`), and at most this share of all connections.
pub const HANDSHAKES_MAX_DEFAULT: usize = 4_096;
pub const HANDSHAKES_SHARE_DIVISOR: usize = 2;
/// Largest number of `--connections-max`, `--handshakes-max`, `--publishers-max` and `--players-per-stream-max`.
pub const FLAG_COUNT_MAX: u64 = 100_000_000;
/// What of its control group's memory a process takes by itself (`--memory-max auto`).
pub const MEMORY_OF_GROUP_PERCENT: u64 = 90;
/// Descriptors of a process that are not for its clients: so many, and so many more for each shard.
pub const RESERVED_FILES: usize = 48;
pub const RESERVED_FILES_PER_SHARD: usize = 16;
/// Descriptors the admin listener holds ready for the time when there are no others: a connection and what answering takes.
pub const ADMIN_RESERVED_FILES: usize = 4;
/// Log lines about accepts that fail, per second and shard.
pub const ACCEPT_LOG_LINES_PER_SECOND: u32 = 1;
/// Log lines about connections turned away, for each reason, per second and shard.
pub const TURNED_AWAY_LOG_LINES_PER_SECOND: u32 = 1;

// Control: command line, log and admin listener.

/// From asking to the answer of a callback (`--callback-timeout-ms`), and its bounds.
pub const CALLBACK_TIMEOUT_DEFAULT: Duration = Duration::from_millis(2_000);
pub const CALLBACK_TIMEOUT_MS_MIN: u64 = 50;
pub const CALLBACK_TIMEOUT_MS_MAX: u64 = 10_000;
/// Callbacks under way at once (`--callback-concurrency`), and the most it may be.
pub const CALLBACK_CONCURRENCY_DEFAULT: usize = 64;
pub const CALLBACK_CONCURRENCY_MAX: usize = 1_024;
/// Callbacks that wait for one of them to end: of those that are asked, and of those that are only told. Further ones fail, or
/// are not told.
pub const CALLBACKS_QUEUED_MAX: usize = 4_096;
/// Of those, questions about the clients of one address.
pub const CALLBACKS_ASKED_PER_ADDRESS_MAX: usize = 1_024;
/// Events of one client that wait to be told; beyond it the oldest is not.
pub const CALLBACKS_TOLD_PER_CLIENT_MAX: usize = 32;
/// Bytes of an answer to a callback.
pub const CALLBACK_ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Letters of its reason that reach the client.
pub const CALLBACK_REASON_LETTERS_MAX: usize = 200;
/// How long a connection to a callback's server is kept without a use.
pub const CALLBACK_IDLE: Duration = Duration::from_secs(30);
/// Names of callbacks' servers that are looked up at once.
pub const CALLBACK_LOOKUPS_MAX: usize = 8;
/// How long the end of the process waits for its last callbacks, and how often it looks.
pub const CALLBACK_FLUSH_DEADLINE: Duration = Duration::from_secs(2);
pub const CALLBACK_FLUSH_POLL: Duration = Duration::from_millis(10);
/// Bytes that the secret of `--callback-secret` has at least.
pub const CALLBACK_SECRET_BYTES_MIN: usize = 16;
/// Log lines about callbacks that fail, per second.
pub const CALLBACK_LOG_LINES_PER_SECOND: u32 = 5;
/// Log lines about callbacks that there is no room for, per second.
pub const CALLBACK_OVERFLOW_LOG_LINES_PER_SECOND: u32 = 1;

/// Longest `--merge-ms`: beyond it players see stutter, not savings.
pub const MERGE_MS_MAX: u64 = 1_000;
/// Bounds of `--delay-target-ms`.
pub const DELAY_TARGET_MS_MIN: u64 = 10;
pub const DELAY_TARGET_MS_MAX: u64 = 1_000;
/// Longest `--hold-audio-ms`: players buffer more than that.
pub const HOLD_AUDIO_MS_MAX: u64 = 100;
/// Bounds of `--gop-bytes-max`: a joiner must start nearer than a lagging player is closed.
pub const GOP_BYTES_MAX_MIN: usize = 64 * 1024;
pub const GOP_BYTES_MAX_MAX: usize = LAG_BYTES_MAX as usize;
/// Bounds of `--lag-ms-max` in milliseconds.
pub const LAG_MS_MAX_MIN: u64 = 100;
pub const LAG_MS_MAX_MAX: u64 = 600_000;
/// Longest `--join-wait-ms`.
pub const JOIN_WAIT_MS_MAX: u64 = 600_000;
/// Longest value of a flag in seconds: one day.
pub const FLAG_SECONDS_MAX: u64 = 86_400;
/// Bytes of a configuration file.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes of a file that a `{file:PATH}` names.
pub const SECRET_BYTES_MAX: u64 = 4 * 1024;
/// Rules of one kind, `--pull` or `--push`: each is looked at for each stream.
pub const RELAY_RULES_MAX: usize = 1_000;
/// Targets of one `--push` rule.
pub const TARGETS_MAX: usize = 16;
/// How often files that are read again when they change are looked at.
pub const RELOAD_POLL: Duration = Duration::from_secs(1);
/// Log lines that wait for stderr; further ones are dropped and counted.
pub const LOG_LINES_QUEUED_MAX: usize = 4_096;
/// How long the end of the process waits for stderr to take the last log lines.
pub const LOG_FLUSH_DEADLINE: Duration = Duration::from_secs(1);
/// Connections the admin listener serves at once; the next ones wait in its backlog.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// From accept to the end of a request's head on the admin listener.
pub const ADMIN_HEAD_DEADLINE: Duration = Duration::from_secs(2);
/// From accept to the last byte of the answer on the admin listener.
pub const ADMIN_CONNECTION_DEADLINE: Duration = Duration::from_secs(10);
/// Bytes of a request's line and headers on the admin listener.
pub const ADMIN_HEAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a request's body on the admin listener.
pub const ADMIN_BODY_BYTES_MAX: usize = 16 * 1024;
/// Clients asked to reconnect are asked over this long, unless `over_ms` says otherwise; and at most.
pub const RECONNECT_OVER_DEFAULT: Duration = Duration::from_secs(5);
pub const RECONNECT_OVER_MAX_MS: u64 = 600_000;
/// How long a shard of a process that was replaced has to say whose streams it plays, before publishers are asked.
pub const RECONNECT_SAYING: Duration = TICK.saturating_mul(5);
/// How long a node that drains takes for it at most (`--drain-timeout-s`).
pub const DRAIN_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// Over how long clients are moved (`--drain-window-s`).
pub const DRAIN_WINDOW_DEFAULT: Duration = Duration::from_secs(10);
/// For how long connections are taken after readiness has gone (`--drain-converge-s`).
pub const DRAIN_CONVERGE_DEFAULT: Duration = Duration::from_secs(5);
/// How long those have, of a drain's time, that are still there when the listeners close.
pub const DRAIN_REST: Duration = Duration::from_secs(3);
/// A publisher that has sent nothing for so long is let go without waiting for a keyframe.
pub const DRAIN_SILENCE: Duration = Duration::from_secs(1);
/// Orders to leave, or to stay, that may wait; more are refused.
pub const DRAIN_ORDERS: usize = 4;
/// How often a node that drains looks whether its clients have left.
pub const DRAIN_POLL: Duration = Duration::from_millis(100);
/// For what was asked of the admin listener before the end.
pub const ADMIN_GRACE: Duration = Duration::from_millis(500);
/// Sources or targets that have series of their own in `/metrics`; the rest are counted together.
pub const RELAY_LABELS_MAX: usize = 32;
/// How often `shardcast relay` says how it goes: on a terminal, and elsewhere.
pub const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
pub const PROGRESS_PLAIN_INTERVAL: Duration = Duration::from_secs(10);
/// How long `/api/streams` and `/api/relays` wait for the shards.
pub const STREAMS_PATIENCE: Duration = Duration::from_secs(2);
/// How long after the first signal the control thread gives up waiting for the shards.
pub const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(10);

// Successors: a new process that takes over from one that runs.

/// Bytes of one message between the two, and descriptors that come with it (the kernel's own limit is 253).
pub const HANDOVER_MESSAGE_BYTES_MAX: usize = 4 * 1024;
pub const HANDOVER_DESCRIPTORS_MAX: usize = 64;
/// From the start of the new process until it listens.
pub const SUCCESSOR_PATIENCE: Duration = Duration::from_secs(10);
/// How often the process that is to be replaced looks whether the new one still runs.
pub const SUCCESSOR_POLL: Duration = Duration::from_millis(50);
/// How long the exit status is waited for of a new process that has closed its end of the socket pair.
pub const SUCCESSOR_END_PATIENCE: Duration = Duration::from_secs(1);
/// Connections of one shard to the process before that have brought nothing yet: names that nobody publishes cost no more.
pub const PREDECESSOR_TRIES_MAX: usize = 16;
/// Processes in a chain of upgrades whose clients have different numbers, for those who are told of them. From the 17th
/// that lives at a time on, numbers may repeat.
pub const GENERATIONS: u8 = 16;
/// How long those who stay are served by a process that was replaced (`--upgrade-timeout-s`).
pub const UPGRADE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(3_600);

// The watchdog.

/// How often it looks, and looks in vain before a shard counts as hung.
pub const WATCHDOG_TICK: Duration = Duration::from_millis(100);
pub const WATCHDOG_TICKS_MAX: u32 = 50;
