//! Counters one shard writes and the control thread reads. Relaxed atomics with a single writer: an increment is a plain
//! add for the shard.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::close::{CloseReason, RefuseReason, TurnedAway};

/// A counter that only its shard increments.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A level that only its shard moves.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    pub fn add(&self, n: i64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    pub fn set(&self, n: i64) {
        self.0.store(n, Ordering::Relaxed);
    }

    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one shard counts.
#[derive(Debug)]
pub struct ShardMetrics {
    pub connections_accepted: Counter,
    pub connections: Gauge,
    /// Those of `connections` that the process which took over made.
    pub successors: Gauge,
    pub publishers: Gauge,
    pub players: Gauge,
    /// Those of `players` that wait for a stream or a join point, as of the last tick.
    pub players_waiting: Gauge,
    pub bytes_received: Counter,
    pub bytes_sent: Counter,
    pub messages_received: Counter,
    /// Media messages dropped because their tag is malformed.
    pub tags_malformed: Counter,
    /// Sends given to the kernel.
    pub sends: Counter,
    pub skips: Counter,
    pub takeovers: Counter,
    pub joins: Counter,
    pub mesh_messages: Counter,
    /// Mesh messages put off because a queue was full.
    pub mesh_full: Counter,
    /// Doorbells rung for other shards.
    pub doorbells: Counter,
    /// Clients asked to go on at another server.
    pub reconnect_requests: Counter,
    /// Those asked, or to be asked, that are still connected.
    pub reconnecting: Gauge,
    /// Clients that are to leave and cannot be asked: publishers, and all others.
    pub leaving_publishers: Gauge,
    pub leaving_players: Gauge,
    /// Accepts that failed for want of descriptors or memory.
    pub accept_failures: Counter,
    /// Listeners that somebody else has shut.
    pub listeners_shut: Gauge,
    /// Share of its time the shard was busy lately, in thousandths.
    pub load_permille: Gauge,
    /// How long messages are gathered, in microseconds.
    pub merge_window_us: Gauge,
    /// Turns of the shard that took longer than 100 ms.
    pub slow_turns: Counter,
    /// Ticks of the shard's clock, which the watchdog looks at.
    pub turns: Counter,
    /// Connections to other nodes begun.
    pub upstream_dials: Counter,
    /// Streams taken from a source, once for each time they went over to one.
    pub pulls_begun: Counter,
    /// Streams that were asked for and that no source had.
    pub pulls_missed: Counter,
    /// Streams that a target began to take.
    pub pushes_begun: Counter,
    /// Connections that have not sent their connect yet.
    pub handshakes: Gauge,
    /// See [`super::overload::Level`].
    pub overload_level: Gauge,
    /// Bytes held of messages that are not whole, and of what came behind requests that are not decided.
    pub assembly_bytes: Gauge,
    /// Connections over TLS, those to other nodes included.
    pub tls_connections: Gauge,
    /// Publishers that were found above the bit rate they may have.
    pub publish_rate_warnings: Counter,
    turned_away: [Counter; TurnedAway::ALL.len()],
    closed: [Counter; CloseReason::ALL.len()],
    refused: [Counter; RefuseReason::ALL.len()],
}

impl Default for ShardMetrics {
    fn default() -> Self {
        Self {
            connections_accepted: Counter::default(),
            connections: Gauge::default(),
            successors: Gauge::default(),
            publishers: Gauge::default(),
            players: Gauge::default(),
            players_waiting: Gauge::default(),
            bytes_received: Counter::default(),
            bytes_sent: Counter::default(),
            messages_received: Counter::default(),
            tags_malformed: Counter::default(),
            sends: Counter::default(),
            skips: Counter::default(),
            takeovers: Counter::default(),
            joins: Counter::default(),
            mesh_messages: Counter::default(),
            mesh_full: Counter::default(),
            doorbells: Counter::default(),
            reconnect_requests: Counter::default(),
            reconnecting: Gauge::default(),
            leaving_publishers: Gauge::default(),
            leaving_players: Gauge::default(),
            accept_failures: Counter::default(),
            listeners_shut: Gauge::default(),
            load_permille: Gauge::default(),
            merge_window_us: Gauge::default(),
            slow_turns: Counter::default(),
            turns: Counter::default(),
            upstream_dials: Counter::default(),
            pulls_begun: Counter::default(),
            pulls_missed: Counter::default(),
            pushes_begun: Counter::default(),
            handshakes: Gauge::default(),
            overload_level: Gauge::default(),
            assembly_bytes: Gauge::default(),
            tls_connections: Gauge::default(),
            publish_rate_warnings: Counter::default(),
            turned_away: std::array::from_fn(|_| Counter::default()),
            closed: std::array::from_fn(|_| Counter::default()),
            refused: std::array::from_fn(|_| Counter::default()),
        }
    }
}

impl ShardMetrics {
    pub fn closed(&self, reason: CloseReason) -> &Counter {
        &self.closed[reason as usize]
    }

    pub fn turned_away(&self, reason: TurnedAway) -> &Counter {
        &self.turned_away[reason as usize]
    }

    pub fn refused(&self, reason: RefuseReason) -> &Counter {
        &self.refused[reason as usize]
    }
}
