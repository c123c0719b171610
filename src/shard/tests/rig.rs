//! A process of one to three cores, and clients joined to them in memory. Cores are driven as the driver does it: a
//! connection is asked for bytes until it parks, and again once it is woken.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};

use crate::{
    limits::TICK,
    rtmp::{
        amf0::Encoder,
        capabilities::Capabilities,
        chunk::{ChunkReader, ChunkWriter},
        client::{ClientConfig, ClientEvent, ClientRole, ClientSession},
        handshake::HANDSHAKE_BYTES,
        message::{Header, Kind, type_id},
    },
    shard::{
        close::{CloseReason, RefuseReason},
        config::Config,
        conn::{ConnId, Standing},
        core::{Core, Shared, Transmit},
        dial::Dial,
        listen_addr::SUCCESSOR_SHOWN_AS,
        mesh::{Bell, ports},
        metrics::ShardMetrics,
        questions::{Decision, Question, Ticket},
    },
};

pub(super) const KEY: &[u8] = b"\x17\x01\x00\x00\x00key";
pub(super) const INTER: &[u8] = b"\x27\x01\x00\x00\x00inter";
pub(super) const AVC: &[u8] = b"\x17\x00\x00\x00\x00avcC";
pub(super) const AAC: &[u8] = b"\xAF\x00asc";
pub(super) const SOUND: &[u8] = b"\xAF\x01sound";

/// A video frame of `length` bytes.
pub(super) fn frame(tag: &[u8], seed: usize, length: usize) -> Vec<u8> {
    [&tag[..5], &crate::stream::testing::payload(seed, length - 5)].concat()
}

struct CountingBell(Arc<AtomicU64>);

impl Bell for CountingBell {
    fn ring(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A message of media, and when it came.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) at: Duration,
    pub(super) kind: Kind,
    pub(super) timestamp: u32,
    pub(super) payload: Box<[u8]>,
}

/// A client and its connection.
pub(super) struct Peer {
    pub(super) core: usize,
    pub(super) id: ConnId,
    pub(super) session: ClientSession,
    /// All that the server sent, the handshake included.
    pub(super) raw: Vec<u8>,
    /// What it meant to the client, but for media.
    pub(super) events: Vec<String>,
    pub(super) heard: Vec<Heard>,
    /// Bytes it takes at once, and sends it takes until it is allowed more.
    pub(super) send_bytes: usize,
    pub(super) sends_allowed: usize,
    pub(super) parked: bool,
    pub(super) open: bool,
}

pub(super) struct Rig {
    pub(super) cores: Vec<Core>,
    pub(super) metrics: Vec<Arc<ShardMetrics>>,
    pub(super) shared: Shared,
    pub(super) peers: Vec<Peer>,
    pub(super) rings: Arc<AtomicU64>,
    /// Cores that do not turn.
    pub(super) hung: Vec<bool>,
    /// Connections whose players joined anew, by core.
    pub(super) hurried: Vec<(usize, ConnId)>,
    /// What cores want to connect to, and what they said of connections that no peer here has: see `world`.
    pub(super) dials: Vec<(usize, Dial)>,
    pub(super) woken: Vec<(usize, ConnId)>,
    pub(super) aborted: Vec<(usize, ConnId)>,
    /// What cores asked, in this order.
    pub(super) questions: Vec<Question>,
    pub(super) now: Duration,
}

impl Rig {
    pub(super) fn new(cores: usize) -> Self {
        Self::with(cores, |_| {})
    }

    pub(super) fn with(cores: usize, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config { chunk_bytes: 4_096, ..Config::default() };
        change(&mut config);
        let shared = Shared::new(config);
        let rings = Arc::new(AtomicU64::new(0));
        let bells = (0..cores).map(|_| Box::new(CountingBell(rings.clone())) as Box<dyn Bell>).collect();
        let metrics: Vec<_> = (0..cores).map(|_| Arc::new(ShardMetrics::default())).collect();
        let cores: Vec<_> =
            ports(bells).into_iter().zip(&metrics).map(|(port, of)| Core::new(&shared, port, of.clone(), 1)).collect();
        let hung = vec![false; cores.len()];
        Self {
            cores,
            metrics,
            shared,
            peers: Vec::new(),
            rings,
            hung,
            hurried: Vec::new(),
            dials: Vec::new(),
            woken: Vec::new(),
            aborted: Vec::new(),
            questions: Vec::new(),
            now: Duration::ZERO,
        }
    }

    /// A connection of a client that wants to publish or play `name`, which has not said anything yet.
    pub(super) fn connect(&mut self, core: usize, role: ClientRole, name: &str) -> usize {
        self.connect_from(core, ([127, 0, 0, 1], 1_935).into(), role, name)
    }

    /// As `connect`, from that address, or as the successor.
    pub(super) fn connect_from(&mut self, core: usize, from: SocketAddr, role: ClientRole, name: &str) -> usize {
        let config = ClientConfig { chunk_bytes: 100_000, ..ClientConfig::new(role, "rtmp://host/live", "live", name) };
        let standing = if from == SUCCESSOR_SHOWN_AS { Standing::Successor } else { Standing::Client };
        let id = self.cores[core].connect_as(standing, from);
        self.peers.push(Peer {
            core,
            id,
            session: ClientSession::new(config, 5, self.now),
            raw: Vec::new(),
            events: Vec::new(),
            heard: Vec::new(),
            send_bytes: usize::MAX,
            sends_allowed: usize::MAX,
            parked: false,
            open: true,
        });
        self.peers.len() - 1
    }

    /// As `connect`, of a client that says what it can do of Enhanced RTMP.
    pub(super) fn connect_announcing(
        &mut self,
        core: usize,
        role: ClientRole,
        name: &str,
        capabilities: Capabilities,
    ) -> usize {
        let index = self.connect(core, role, name);
        let peer = self.peers.remove(index);
        self.peers.push(Peer { session: peer.session.announcing(capabilities), ..peer });
        index
    }

    pub(super) fn publish(&mut self, core: usize, name: &str) -> usize {
        let peer = self.connect(core, ClientRole::Publish, name);
        self.settle();
        assert_eq!(self.peers[peer].events, ["Publishing"]);
        peer
    }

    pub(super) fn play(&mut self, core: usize, name: &str) -> usize {
        let peer = self.connect(core, ClientRole::Play, name);
        self.settle();
        assert_eq!(self.peers[peer].events, ["Playing"]);
        peer
    }

    /// A publisher sends one message, and everybody acts on it.
    pub(super) fn say(&mut self, peer: usize, kind: Kind, timestamp: u32, payload: &[u8]) {
        self.peers[peer].session.send_media(kind, timestamp, payload);
        self.settle();
    }

    /// Video messages that arrive in one read.
    pub(super) fn burst(&mut self, peer: usize, messages: &[(u32, Vec<u8>)]) {
        for (timestamp, payload) in messages {
            self.peers[peer].session.send_media(Kind::Video, *timestamp, payload);
        }
        self.settle();
    }

    pub(super) fn video(&mut self, peer: usize, timestamp: u32, payload: &[u8]) {
        self.say(peer, Kind::Video, timestamp, payload);
    }

    /// A message that the client session would not write: of any type, on any message stream, on a csid of its own.
    pub(super) fn inject(&mut self, peer: usize, type_id: u8, stream_id: u32, payload: &[u8]) {
        self.queue(peer, type_id, stream_id, payload);
        self.settle();
    }

    /// As `inject`, but it leaves with what the client says next.
    pub(super) fn queue(&mut self, peer: usize, type_id: u8, stream_id: u32, payload: &[u8]) {
        let header = Header { csid: 40, timestamp: 0, length: 0, type_id, stream_id };
        let mut out = BytesMut::new();
        ChunkWriter::new().write(header, payload, &mut out);
        self.peers[peer].session.output().extend_from_slice(&out);
    }

    pub(super) fn command(&mut self, peer: usize, stream: u32, name: &str, write: impl FnOnce(&mut Encoder<'_>)) {
        self.queue_command(peer, stream, name, write);
        self.settle();
    }

    /// As `command`, but it leaves with what the client says next.
    pub(super) fn queue_command(&mut self, peer: usize, stream: u32, name: &str, write: impl FnOnce(&mut Encoder<'_>)) {
        let mut payload = BytesMut::new();
        let mut encoder = Encoder::new(&mut payload);
        encoder.string(name).number(9.0).null();
        write(&mut encoder);
        assert!(payload.len() <= 128, "one chunk");
        self.queue(peer, type_id::COMMAND_AMF0, stream, &payload);
    }

    /// Answers the question that was asked last of all.
    pub(super) fn decide(&mut self, decision: Decision) {
        let ticket = self.questions.last().and_then(|question| question.ticket).expect("a question was asked");
        self.decide_as(ticket, decision);
    }

    pub(super) fn decide_as(&mut self, ticket: Ticket, decision: Decision) {
        self.cores[ticket.shard].decided(ticket, decision);
        self.settle();
    }

    /// The events that were asked or told about, and the client's streams.
    pub(super) fn asked(&self) -> Vec<String> {
        let name = |question: &Question| {
            let key = question.subject.key.as_ref().map_or(String::new(), |key| format!(" {key}"));
            format!("{}{key}", question.event.label())
        };
        self.questions.iter().map(name).collect()
    }

    /// Another message stream of the connection plays or publishes `name`.
    pub(super) fn also(&mut self, peer: usize, stream: u32, what: &str, name: &str) {
        self.command(peer, 0, "createStream", |_| {});
        self.command(peer, stream, what, |out| {
            out.string(name);
        });
    }

    /// The client is gone without a word.
    pub(super) fn lose(&mut self, peer: usize, reason: CloseReason) {
        let Peer { core, id, .. } = self.peers[peer];
        self.cores[core].peer_closed(id, reason);
        self.settle();
    }

    pub(super) fn allow(&mut self, peer: usize, sends: usize) {
        self.peers[peer].sends_allowed = sends;
        self.settle();
    }

    /// Lets time pass, tick by tick.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.tick((self.now + TICK).min(until));
            self.settle();
        }
    }

    pub(super) fn tick(&mut self, now: Duration) {
        self.now = now;
        for (core, hung) in self.cores.iter_mut().zip(&self.hung) {
            core.advance(self.now);
            if !hung {
                if core.due_at() <= self.now {
                    core.timers();
                }
                core.tick();
            }
        }
    }

    pub(super) fn pass_ms(&mut self, ms: u64) {
        self.pass(Duration::from_millis(ms));
    }

    /// Lets clients, cores and mesh act until none has anything to do.
    pub(super) fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 10_000, "they never rest");
            let mut busy = false;
            for index in 0..self.peers.len() {
                busy |= self.serve(index);
            }
            for core in 0..self.cores.len() {
                if !self.hung[core] {
                    busy |= !self.cores[core].before_sleep() || self.cores[core].is_waking();
                    self.cores[core].wake_more(1);
                }
                self.pass_on(core);
            }
            if !busy && self.peers.iter().all(|peer| !peer.is_ready()) {
                return;
            }
        }
    }

    fn pass_on(&mut self, core: usize) {
        let wakes: Vec<_> = self.cores[core].take_wakes().drain(..).collect();
        let aborts: Vec<_> = self.cores[core].take_aborts().drain(..).collect();
        self.questions.append(self.cores[core].take_questions());
        self.cores[core].take_holds().clear();
        self.hurried.extend(self.cores[core].take_hurries().drain(..).map(|id| (core, id)));
        self.dials.extend(self.cores[core].take_dials().drain(..).map(|dial| (core, dial)));
        let is_peers = |id: &ConnId| self.peers.iter().any(|peer| peer.core == core && peer.open && peer.id == *id);
        self.woken.extend(wakes.iter().filter(|id| !is_peers(id)).map(|id| (core, *id)));
        self.aborted.extend(aborts.iter().filter(|id| !is_peers(id)).map(|id| (core, *id)));
        for peer in self.peers.iter_mut().filter(|peer| peer.core == core && peer.open) {
            if wakes.contains(&peer.id) {
                assert!(std::mem::take(&mut peer.parked), "woken without having parked");
            }
            if aborts.contains(&peer.id) {
                peer.open = false;
                self.cores[core].remove(peer.id);
            }
        }
    }

    /// Sends what the client has to say and takes what the server sends. True if there was anything.
    fn serve(&mut self, index: usize) -> bool {
        let peer = &mut self.peers[index];
        if !peer.open {
            return false;
        }
        let core = &mut self.cores[peer.core];
        let said = if core.is_held(peer.id) { Bytes::new() } else { peer.session.take_output() };
        if !said.is_empty() {
            core.receive(peer.id, &said);
        }
        let mut busy = !said.is_empty();
        while peer.is_ready() {
            busy = true;
            match core.transmit(peer.id) {
                Transmit::Send(piece) => {
                    let count = piece.len().min(peer.send_bytes);
                    let bytes = piece.as_slice()[..count].to_vec();
                    peer.sends_allowed = peer.sends_allowed.saturating_sub(1);
                    peer.parked = core.sent(peer.id, piece, count);
                    peer.hear(&bytes, self.now);
                }
                Transmit::Park => peer.parked = true,
                Transmit::Close => {
                    peer.open = false;
                    core.remove(peer.id);
                }
            }
        }
        let of = self.peers[index].core;
        self.pass_on(of);
        busy
    }

    /// Connections closed for `reason`, on all cores.
    pub(super) fn closed(&self, reason: CloseReason) -> u64 {
        self.metrics.iter().map(|of| of.closed(reason).get()).sum()
    }

    pub(super) fn refused(&self, reason: RefuseReason) -> u64 {
        self.metrics.iter().map(|of| of.refused(reason).get()).sum()
    }

    /// Video payloads a client received on a message stream.
    pub(super) fn seen(&self, peer: usize, stream: u32) -> Vec<Vec<u8>> {
        self.peers[peer].media(stream).into_iter().filter(|(kind, ..)| *kind == type_id::VIDEO).map(|at| at.2).collect()
    }

    /// All leave; nothing may be left of them a while later.
    pub(super) fn empty(&mut self) {
        for peer in 0..self.peers.len() {
            if self.peers[peer].open {
                self.lose(peer, CloseReason::PeerReset);
            }
        }
        self.pass(Duration::from_secs(15));
        for (core, metrics) in self.cores.iter().zip(&self.metrics) {
            assert!(core.asking.is_empty(), "clients that are gone");
            assert!(core.conns.is_empty() && core.streams.slab.is_empty() && core.streams.by_key.is_empty());
            assert!(
                core.streams.dirty.is_empty()
                    && core.streams.replies.is_empty()
                    && core.streams.merger.next_due().is_none()
            );
            assert_eq!((metrics.connections.get(), metrics.publishers.get(), metrics.players.get()), (0, 0, 0));
        }
        assert_eq!(self.shared.gauge.bytes(), 0, "bytes of logs nobody has");
        assert_eq!(self.shared.directory.waited_names(), 0);
        let closed: u64 = CloseReason::ALL.iter().map(|reason| self.closed(*reason)).sum();
        assert_eq!(closed, self.peers.len() as u64, "each connection is counted once");
    }
}

impl Peer {
    fn is_ready(&self) -> bool {
        self.open && !self.parked && self.sends_allowed > 0
    }

    fn hear(&mut self, bytes: &[u8], now: Duration) {
        self.raw.extend_from_slice(bytes);
        let mut input = bytes;
        loop {
            match self.session.receive(&mut input, now) {
                Ok(Some(ClientEvent::Media { kind, timestamp, payload })) => {
                    self.heard.push(Heard { at: now, kind, timestamp, payload: payload.into() });
                }
                Ok(Some(ClientEvent::Status { code, .. })) if code == "NetStream.Play.Reset" => {}
                Ok(Some(ClientEvent::Status { code, .. })) => self.events.push(code),
                Ok(Some(event)) => self.events.push(format!("{event:?}")),
                Ok(None) => return,
                Err(error) => {
                    self.events.push(error.to_string());
                    return;
                }
            }
        }
    }

    /// Every message after the handshake, read independently of the client session.
    pub(super) fn messages(&self) -> Vec<(Header, Vec<u8>)> {
        let mut reader = ChunkReader::new();
        let mut input = self.raw.get(HANDSHAKE_BYTES as usize..).unwrap_or_default();
        let mut messages = Vec::new();
        while let Some(message) = reader.read(&mut input).expect("valid chunks") {
            messages.push((message.header, message.payload.to_vec()));
        }
        messages
    }

    /// Type, timestamp and payload of the media on a message stream.
    pub(super) fn media(&self, stream: u32) -> Vec<(u8, u32, Vec<u8>)> {
        let own = [&b"\x02\x00\x11|RtmpSampleAccess"[..], b"\x02\x00\x08onStatus"];
        let is_media = |header: &Header, payload: &[u8]| {
            header.stream_id == stream
                && matches!(header.type_id, type_id::AUDIO | type_id::VIDEO | type_id::DATA_AMF0)
                && !own.iter().any(|own| payload.starts_with(own))
        };
        let messages = self.messages().into_iter().filter(|(header, payload)| is_media(header, payload));
        messages.map(|(header, payload)| (header.type_id, header.timestamp, payload)).collect()
    }

    /// The codes of the statuses on a message stream.
    pub(super) fn statuses(&self, stream: u32) -> Vec<String> {
        let of_stream = self.messages().into_iter().filter(|(header, _)| header.stream_id == stream);
        let commands = of_stream.filter(|(header, _)| header.type_id == type_id::COMMAND_AMF0);
        let code = |payload: Vec<u8>| {
            let text = String::from_utf8_lossy(&payload).into_owned();
            let start = text.find("NetStream.").or_else(|| text.find("NetConnection."))?;
            let code = text[start..].chars().take_while(|letter| letter.is_alphanumeric() || *letter == '.');
            Some(code.collect())
        };
        commands.filter_map(|(_, payload)| code(payload)).collect()
    }
}
