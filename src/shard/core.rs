//! A shard without its sockets: connections, streams and mesh as one deterministic state machine.
//!
//! The driver (a monoio runtime, or a simulation) says what happened: a connection came, sent bytes, closed, took a
//! piece; mail may have come; time passed. After each call it drains [`Core::take_questions`], [`Core::take_holds`],
//! [`Core::take_wakes`], [`Core::take_aborts`], [`Core::take_hurries`] and [`Core::take_dials`], and before it waits it calls
//! [`Core::before_sleep`]. While the core [`is_waking`](Core::is_waking) the driver calls [`Core::wake_more`] whenever all else
//! that was ready has had its turn. For each connection it keeps asking [`Core::transmit`] for the next piece until told to
//! park. Sends are one at a time per connection and always reported by [`Core::sent`], which may say that this was all
//! (`sending`).

use std::{net::SocketAddr, sync::Arc, time::Duration};

use slab::Slab;

pub use super::sending::Transmit;
use super::{
    admission::{Admission, handshakes::Handshakes},
    asking::Asking,
    bitrate::Bitrates,
    close::{CloseReason, RefuseReason, TurnedAway},
    close_log::{CloseLog, LineBudget},
    config::Config,
    conn::{Closing, Conn, ConnId, Standing},
    dial::Dial,
    leaving::Leaving,
    merge::MergeWindows,
    mesh::Port,
    metrics::ShardMetrics,
    overload::{Assembly, Overload, memory::Memory},
    questions::Event,
    reconnect::Reconnecting,
    relaying::Relays,
    session::Session,
    streams::Streams,
    takeover::Takeovers,
    time::ShardTime,
    uses::Use,
};
use crate::{
    egress::Policy,
    limits,
    rtmp::server::{ServerConfig, ServerEvent, ServerSession},
    stream::{directory::Directory, segment::LogGauge},
};

/// What all shards of a process share.
#[derive(Clone, Debug)]
pub struct Shared {
    pub config: Arc<Config>,
    pub directory: Arc<Directory>,
    pub gauge: LogGauge,
    pub merge_windows: MergeWindows,
    pub admission: Arc<Admission>,
    pub memory: Arc<Memory>,
}

impl Shared {
    /// For the shards of a process that begins.
    pub fn new(config: Config) -> Self {
        let ceilings = &config.ceilings;
        let memory = Memory::new(ceilings.memory_bytes_max.unwrap_or(0), config.gop_bytes_max, ceilings.sheds);
        Self {
            memory: Arc::new(memory),
            admission: Arc::new(Admission::new(config.ceilings.clone())),
            config: Arc::new(config),
            directory: Arc::default(),
            gauge: LogGauge::default(),
            merge_windows: MergeWindows::default(),
        }
    }
}

/// See the file's head.
#[derive(Debug)]
pub struct Core {
    pub(super) conns: Slab<Box<Conn>>,
    pub(super) streams: Streams,
    pub(super) port: Port,
    pub(super) directory: Arc<Directory>,
    pub(super) config: Arc<Config>,
    pub(super) policy: Policy,
    pub(super) metrics: Arc<ShardMetrics>,
    pub(super) time: ShardTime,
    pub(super) close_log: CloseLog,
    /// Of lines about streams published and unpublished.
    pub(super) stream_lines: LineBudget,
    pub(super) wakes: Vec<ConnId>,
    pub(super) aborts: Vec<ConnId>,
    hurries: Vec<ConnId>,
    pub(super) dials: Vec<Dial>,
    pub(super) relays: Relays,
    pub(super) takeovers: Takeovers,
    /// Who is being asked to go elsewhere.
    pub(super) reconnecting: Option<Box<Reconnecting>>,
    /// Set while the node leaves service.
    pub(super) leaving: Option<Box<Leaving>>,
    pub(super) admission: Arc<Admission>,
    pub(super) handshakes: Handshakes,
    pub(super) memory: Arc<Memory>,
    pub(super) overload: Overload,
    pub(super) assembly: Assembly,
    pub(super) bitrates: Bitrates,
    /// Of lines about connections turned away, for each reason.
    pub(super) turned_away_lines: [LineBudget; TurnedAway::ALL.len()],
    /// Seeds the next connection's handshake.
    nonce: u64,
    ending: bool,
    pub(super) asking: Asking,
}

impl Core {
    pub fn new(shared: &Shared, port: Port, metrics: Arc<ShardMetrics>, nonce: u64) -> Self {
        let config = shared.config.clone();
        let relays = Relays::new(&config, port.shards(), nonce);
        let shards = port.shards();
        let handshakes = Handshakes::new(config.ceilings.handshakes_in_force(), shards);
        Self {
            conns: Slab::new(),
            streams: Streams::new(shared, port.shard()),
            port,
            directory: shared.directory.clone(),
            policy: Policy { gop_cache: config.gop_cache, lag_max: config.lag_max, join_wait: config.join_wait },
            config,
            metrics,
            time: ShardTime::default(),
            close_log: CloseLog::default(),
            stream_lines: LineBudget::default(),
            wakes: Vec::new(),
            aborts: Vec::new(),
            hurries: Vec::new(),
            dials: Vec::new(),
            relays,
            takeovers: Takeovers::default(),
            reconnecting: None,
            leaving: None,
            admission: shared.admission.clone(),
            handshakes,
            memory: shared.memory.clone(),
            overload: Overload::default(),
            assembly: Assembly::new(shared.memory.most(), shards),
            bitrates: Bitrates::default(),
            turned_away_lines: Default::default(),
            nonce,
            ending: false,
            asking: Asking::default(),
        }
    }

    /// Says what the process's clock shows.
    pub fn advance(&mut self, process: Duration) {
        self.time.advance(process);
    }

    /// What it showed last.
    pub fn process_time(&self) -> Duration {
        self.time.process()
    }

    /// A client's connection was accepted.
    pub fn connect(&mut self, peer: SocketAddr) -> ConnId {
        self.connect_as(Standing::Client, peer)
    }

    pub(super) fn connect_as(&mut self, standing: Standing, peer: SocketAddr) -> ConnId {
        let callbacks = &self.config.callbacks;
        let config = ServerConfig {
            asks_connect: callbacks.concern(Event::Connect),
            keeps_client: callbacks.any(),
            chunk_bytes: self.config.chunk_bytes,
        };
        let nonce = self.chance();
        let session = ServerSession::new(config, nonce, self.time.now());
        let session = session.limiting_messages(self.config.ceilings.message_bytes_max);
        self.metrics.connections_accepted.add(1);
        self.metrics.connections.add(1);
        if standing == Standing::Successor {
            self.metrics.successors.add(1);
        }
        let id = self.conns.insert(Box::new(Conn::new(Session::Client(session), peer, standing)));
        self.begin_handshake(id);
        id
    }

    /// The driver has let go of the connection's socket.
    pub fn remove(&mut self, id: ConnId) {
        self.close(id, CloseReason::PeerClosed, true);
        if let Some(conn) = self.conns.try_remove(id) {
            self.give_place_back(&conn);
            self.forget_assembly(conn.session.in_flight_bytes());
            self.metrics.connections.add(-1);
            if conn.is_successor() && conn.session.upstream().is_none() {
                self.metrics.successors.add(-1);
            }
            self.forget_client(id);
            self.bitrates.forget(id);
        }
    }

    /// Numbers that differ and repeat with the seed; no secrets.
    pub(super) fn chance(&mut self) -> u64 {
        self.nonce = self.nonce.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.nonce
    }

    /// Bytes came in. The caller reads no more of a connection that [`Core::is_held`] after it.
    pub fn receive(&mut self, id: ConnId, bytes: &[u8]) {
        self.metrics.bytes_received.add(bytes.len() as u64);
        self.take_in(id, bytes);
    }

    pub(super) fn take_in(&mut self, id: ConnId, bytes: &[u8]) {
        let mut consumed = 0;
        let held = self.conns.get(id).map_or(0, |conn| conn.session.in_flight_bytes());
        while let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.listens()) {
            let mut input = &bytes[consumed..];
            let Session::Client(session) = &mut conn.session else {
                self.hear_upstream(id, bytes);
                return;
            };
            let event = session.receive(&mut input, self.time.now());
            consumed = bytes.len() - input.len();
            match event {
                Ok(Some(ServerEvent::Media { stream, kind, timestamp, payload })) => {
                    self.metrics.messages_received.add(1);
                    let publishing = conn.uses.iter().find_map(|used| match used {
                        Use::Publishing { stream: of, local, epoch } if *of == stream => Some((*local, *epoch)),
                        _ => None,
                    });
                    let Some((local, epoch)) = publishing else { continue };
                    let flows = || self.streams.video_flows(local, epoch, self.time.now_ms());
                    if self.leaving.as_ref().is_some_and(|leaving| leaving.ends_before(id, kind, payload, flows)) {
                        self.let_publisher_go(id, stream);
                        continue;
                    }
                    if self.streams.publish(local, epoch, kind, timestamp, payload, &self.time).is_err() {
                        self.metrics.tags_malformed.add(1);
                    }
                }
                Ok(Some(ServerEvent::Publish { stream, key, query })) => {
                    self.start_publish(id, stream, key, &query);
                }
                Ok(Some(ServerEvent::Connect)) => self.start_connect(id),
                Ok(Some(ServerEvent::Play { stream, key, query })) => self.start_play(id, stream, key, &query),
                Ok(Some(ServerEvent::Ended { stream })) => self.end_use(id, stream),
                Ok(Some(ServerEvent::Receive { stream, kind, on })) => self.choose_kinds(id, stream, kind, on),
                Ok(Some(ServerEvent::Pause { stream, on })) => self.pause(id, stream, on),
                Ok(Some(ServerEvent::Refused { reason, .. })) => {
                    self.metrics.refused(RefuseReason::from(reason)).add(1);
                }
                Ok(None) => break,
                Err(error) => {
                    let reason = CloseReason::from(&error);
                    self.log_close(id, reason, &error.to_string());
                    self.close(id, reason, false);
                    break;
                }
            }
        }
        self.note_connected(id);
        self.note_assembly(id, held);
        if consumed < bytes.len() {
            self.keep_unread(id, &bytes[consumed..]);
        }
        self.flush_touched();
        self.wake_if_output(id);
    }

    /// Whether the connection's messages are for a log, so that [`Core::read_pause`] is for it.
    pub fn publishes(&self, id: ConnId) -> bool {
        let publishes = |used: &Use| matches!(used, Use::Publishing { .. });
        self.conns.get(id).is_some_and(|conn| conn.uses.iter().any(publishes) || conn.is_source())
    }

    /// How long publishers may be left alone between reads.
    pub fn read_pause(&self) -> Duration {
        self.streams.merger.read_pause()
    }

    /// The peer closed its side, or the socket failed.
    pub fn peer_closed(&mut self, id: ConnId, reason: CloseReason) {
        self.close(id, reason, true);
        self.drive_relays();
    }

    /// The driver does not serve the connection any longer, because of `what` its peer did; it may get its last bytes.
    pub fn reject(&mut self, id: ConnId, reason: CloseReason, what: &str) {
        self.log_close(id, reason, what);
        self.close(id, reason, false);
    }

    /// Ends a connection. `abort`: at once; else it gets its last bytes first.
    pub(super) fn close(&mut self, id: ConnId, reason: CloseReason, abort: bool) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let first = conn.closing().is_none();
        if first {
            let ends = conn.loose_ends();
            ends.closing = Some(Closing { deadline: self.time.now() + limits::LINGER, aborted: abort });
            let pending = ends.pending.take();
            if let Some(pending) = pending {
                // It is to be seen when its peer closes, too.
                self.asking.release(id);
                self.forget_assembly(pending.unread_bytes());
                self.abandon(id, &pending);
            }
            self.metrics.closed(reason).add(1);
            self.handshakes.leave(id);
            self.note_left(id);
            self.note_leaving(id);
            let Some(conn) = self.conns.get_mut(id) else { return };
            if let Some(upstream) = conn.session.upstream() {
                self.relays.note_closed(upstream.leg, id, reason);
            }
            self.stop_waiting(id);
            while let Some(used) = self.conns.get_mut(id).and_then(|conn| conn.uses.pop()) {
                self.detach(id, used);
            }
        }
        let Some(conn) = self.conns.get_mut(id) else { return };
        if abort && (first || conn.closing().is_some_and(|closing| !closing.aborted)) {
            if let Some(closing) = &mut conn.loose_ends().closing {
                closing.aborted = true;
            }
            self.aborts.push(id);
        }
        self.wake(id);
    }

    /// Not of connections to other nodes: `relaying` says of which stream they were.
    pub(super) fn log_close(&mut self, id: ConnId, reason: CloseReason, what: &str) {
        let conn = self.conns.get(id).filter(|conn| conn.closing().is_none() && conn.session.upstream().is_none());
        if let Some(conn) = conn {
            self.close_log.line(self.port.shard(), conn.peer(), reason, what, self.time.now());
        }
    }

    pub(super) fn wake(&mut self, id: ConnId) {
        if self.conns.get_mut(id).is_some_and(|conn| conn.wake()) {
            self.wakes.push(id);
        }
    }

    pub(super) fn wake_if_output(&mut self, id: ConnId) {
        if self.conns.get(id).is_some_and(|conn| conn.session.has_output()) {
            self.wake(id);
        }
    }

    /// Connections to ask for their next piece again. The caller empties the list.
    pub fn take_wakes(&mut self) -> &mut Vec<ConnId> {
        &mut self.wakes
    }

    /// Connections whose sockets are to be shut down both ways. The caller empties the list.
    pub fn take_aborts(&mut self) -> &mut Vec<ConnId> {
        &mut self.aborts
    }

    /// A player of the connection is to join anew.
    pub(super) fn hurry(&mut self, id: ConnId) {
        if !self.config.tcp_nodelay {
            self.hurries.push(id);
        }
    }

    /// Connections whose small sends are to leave at once again: see [`Core::may_join_small_sends`]. The caller empties the
    /// list.
    pub fn take_hurries(&mut self) -> &mut Vec<ConnId> {
        &mut self.hurries
    }

    /// Connections to other nodes that are to be made. The caller empties the list.
    pub fn take_dials(&mut self) -> &mut Vec<Dial> {
        &mut self.dials
    }

    /// A connection to another node, which then is served as if it had connected.
    #[cfg(all(test, not(loom)))]
    pub(super) fn dial(&mut self, to: crate::relay::upstream::Endpoint, patience: Duration) -> ConnId {
        let id = self.connect(super::listen_addr::UNIX_PEER);
        self.dials.push(Dial { id, to, header: None, patience });
        id
    }

    /// Takes in what other shards said, tells them what is new, and rings the sleepers among them.
    pub fn turn(&mut self) {
        self.receive_mail();
        self.drive_relays();
        self.tell_others();
        let rung = self.port.ring();
        self.metrics.doorbells.add(rung);
    }

    /// The last turn before the driver waits for its bell. False: take another turn instead.
    pub fn before_sleep(&mut self) -> bool {
        self.turn();
        self.port.sleep()
    }

    /// Process time at which [`Core::timers`] must be called; for ever if only ticks are due.
    pub fn due_at(&self) -> Duration {
        let retry = self.takeovers.are_to_be_told().then(|| self.time.process() + limits::MESH_RETRY);
        self.streams.next_timer(&self.time).into_iter().chain(retry).min().unwrap_or(Duration::MAX)
    }

    /// Begins the orderly end: publishers are let go, players get what is left and their end of stream.
    pub fn shutdown(&mut self) {
        self.ending = true;
        self.end_everything();
    }

    pub fn is_ending(&self) -> bool {
        self.ending
    }

    /// Whether an ending shard has nothing left to do.
    pub fn has_ended(&self) -> bool {
        self.ending && self.conns.is_empty() && self.streams.dirty.is_empty() && self.streams.replies.is_empty()
    }
}
