//! Sessions as real peers hold them, in an order nobody planned: several publishers and players of two streams on two
//! shards come, send, pause, stumble, are asked to leave and go. Nobody is sent a step back in time, nobody is sent what
//! was not published, and nothing is left when all have gone.
//!
//! The input is a script: actions of four bytes, some followed by bytes of their own.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use shardcast::{
    media::{Role, classify_audio, classify_video},
    rtmp::{
        amf0::Encoder,
        chunk::ChunkWriter,
        client::{ClientEvent, ClientRole},
        message::{Header, Kind, type_id},
    },
    shard::reconnect::ReconnectRequest,
};

use super::net::{Healthy, Net};

const ACTORS_MAX: usize = 8;
const NAMES: [&str; 2] = ["show", "other"];

/// Tags that encoders send, of one track.
const TAGS: [(Kind, &[u8]); 12] = [
    (Kind::Video, b"\x17\0\0\0\0\x01\x64\0\x1F"),
    (Kind::Video, b"\x17\x01\0\0\0"),
    (Kind::Video, b"\x27\x01\0\0\x28"),
    (Kind::Video, b"\x17\x02\0\0\0"),
    (Kind::Video, b"\x90hvc1"),
    (Kind::Video, b"\x91hvc1\0\0\0"),
    (Kind::Video, b"\xA3av01"),
    (Kind::Video, b"\x97\x02\0\0\x07\x01hvc1\0\0\0"),
    (Kind::Audio, b"\xAF\0\x12\x10"),
    (Kind::Audio, b"\xAF\x01\x21"),
    (Kind::Audio, b"\x91Opus"),
    (Kind::Audio, b""),
];

pub fn run(data: &[u8]) {
    let mut stage = Stage { net: Net::new(4_096), actors: Vec::new(), published: HashSet::new(), clock: 0, serial: 0 };
    let mut rest = data;
    while let Some(([what, who, a, b], after)) = rest.split_first_chunk::<4>() {
        rest = after;
        let own = usize::from(*b).min(rest.len());
        let takes_bytes = stage.act(*what, usize::from(*who), *a, *b, &rest[..own]);
        rest = &rest[if takes_bytes { own } else { 0 }..];
        stage.talk();
    }
    stage.empty();
}

struct Stage {
    net: Net,
    actors: Vec<Actor>,
    /// Every payload any publisher sent.
    published: HashSet<Vec<u8>>,
    clock: u32,
    serial: u32,
}

struct Actor {
    peer: Healthy,
    role: ClientRole,
    reads: bool,
    /// Bytes of no session were sent on its connection: what it hears means nothing.
    stumbled: bool,
    /// Last timestamp by kind, since it last began to play.
    last: HashMap<Kind, u32>,
}

impl Stage {
    /// One action; true if it took the bytes.
    fn act(&mut self, what: u8, who: usize, a: u8, b: u8, own: &[u8]) -> bool {
        match what % 16 {
            0 => self.come(ClientRole::Publish, a, b),
            1 | 2 => self.come(ClientRole::Play, a, b),
            3..=7 => self.publish(who, a, b, what & 0x80 != 0),
            8 => {
                self.send(who, Kind::Data, own.to_vec());
                return true;
            }
            9 => self.net.pass(Duration::from_millis(u64::from(a) * 20)),
            10 => {
                let Some(actor) = self.actor(who) else { return false };
                actor.stumbled = true;
                let at = actor.peer.at;
                self.net.receive(at, own);
                return true;
            }
            11 => self.command(who, a, b & 1 != 0),
            12 => self.leave(who),
            13 => self.ask_to_leave(a),
            14 => {
                if let Some(actor) = self.actor(who) {
                    actor.reads ^= true;
                }
            }
            _ => {
                if let Some(actor) = self.actor(who) {
                    actor.peer.session.close();
                }
            }
        }
        false
    }

    fn actor(&mut self, who: usize) -> Option<&mut Actor> {
        let count = self.actors.len();
        self.actors.get_mut(who.checked_rem(count)?)
    }

    fn come(&mut self, role: ClientRole, a: u8, b: u8) {
        if self.actors.len() < ACTORS_MAX {
            let peer = Healthy::connect(&mut self.net, usize::from(b & 1), role, NAMES[usize::from(a & 1)]);
            self.actors.push(Actor { peer, role, reads: true, stumbled: false, last: HashMap::new() });
        }
    }

    /// Media that no other equals, 20 ms after the last or anywhere.
    fn publish(&mut self, who: usize, a: u8, b: u8, jumps: bool) {
        self.clock = if jumps { u32::from(b).wrapping_mul(0x0101_0101) } else { self.clock.wrapping_add(20) };
        self.serial += 1;
        let (kind, tag) = TAGS[usize::from(a) % TAGS.len()];
        let mut payload = tag.to_vec();
        if !payload.is_empty() {
            payload.extend_from_slice(&self.serial.to_be_bytes());
            payload.resize(payload.len() + usize::from(b), a);
        }
        self.send(who, kind, payload);
    }

    fn send(&mut self, who: usize, kind: Kind, payload: Vec<u8>) {
        let clock = self.clock;
        let Some(actor) = self.actor(who) else { return };
        if actor.role == ClientRole::Publish && actor.peer.live {
            actor.peer.session.send_media(kind, clock, &payload);
            let set: &[u8] = b"\x02\0\x0D@setDataFrame";
            self.published
                .insert(payload.strip_prefix(set).filter(|_| kind == Kind::Data).unwrap_or(&payload).to_vec());
            self.published.insert(payload);
        }
    }

    /// What players say while they play.
    fn command(&mut self, who: usize, a: u8, on: bool) {
        let name = ["pause", "receiveAudio", "receiveVideo", "seek", "play", "closeStream"][usize::from(a) % 6];
        let Some(actor) = self.actor(who) else { return };
        let (mut payload, mut out) = (BytesMut::new(), BytesMut::new());
        let mut encoder = Encoder::new(&mut payload);
        encoder.string(name).number(0.0).null();
        match name {
            "play" => encoder.string(NAMES[usize::from(on)]),
            "seek" => encoder.number(0.0),
            _ => encoder.boolean(on),
        };
        let header = Header { csid: 40, timestamp: 0, length: 0, type_id: type_id::COMMAND_AMF0, stream_id: 1 };
        ChunkWriter::new().write(header, &payload, &mut out);
        let at = actor.peer.at;
        actor.last.clear();
        self.net.receive(at, &out);
    }

    fn leave(&mut self, who: usize) {
        if let Some(index) = who.checked_rem(self.actors.len()) {
            let actor = self.actors.swap_remove(index);
            self.net.remove(actor.peer.at);
        }
    }

    fn ask_to_leave(&mut self, a: u8) {
        let over = Duration::from_millis(u64::from(a) * 10);
        let tc_url = (a & 1 != 0).then(|| "//other/live".to_owned());
        let request =
            Arc::new(ReconnectRequest { tc_url, description: "moving".to_owned(), over, after_players: false });
        let shard = usize::from(a >> 1 & 1);
        self.net.cores[shard].request_reconnect(request);
    }

    fn talk(&mut self) {
        for _ in 0..2 {
            self.net.turn();
            let Self { net, actors, published, .. } = self;
            actors.retain_mut(|actor| {
                let stays = actor.talk(net, published);
                if !stays {
                    net.remove(actor.peer.at);
                }
                stays
            });
        }
    }

    fn empty(mut self) {
        while !self.actors.is_empty() {
            self.leave(0);
        }
        let counts = [
            self.net.count(|metrics| metrics.connections.get()),
            self.net.count(|metrics| metrics.publishers.get()),
            self.net.count(|metrics| metrics.players.get()),
            self.net.count(|metrics| metrics.reconnecting.get()),
        ];
        assert_eq!(counts, [0; 4], "connections, publishers, players and those asked to leave, when all have gone");
        for _ in 0..15 {
            self.net.pass(Duration::from_secs(1));
        }
        assert_eq!(self.net.shared.directory.waited_names(), 0);
        assert_eq!(self.net.shared.gauge.bytes(), 0, "bytes of logs nobody publishes or watches");
    }
}

impl Actor {
    /// Exchanges what there is with the server; false once the connection is over.
    fn talk(&mut self, net: &mut Net, published: &HashSet<Vec<u8>>) -> bool {
        let output = self.peer.session.take_output();
        if !output.is_empty() {
            net.receive(self.peer.at, &output);
        }
        if !self.reads {
            return true;
        }
        let Some(bytes) = net.take(self.peer.at) else { return false };
        let mut input = &bytes[..];
        while let Ok(Some(event)) = self.peer.session.receive(&mut input, Duration::ZERO) {
            match event {
                ClientEvent::Publishing => self.peer.live = true,
                ClientEvent::Playing => {
                    self.peer.live = true;
                    self.last.clear();
                }
                ClientEvent::Ended => self.peer.live = false,
                ClientEvent::Media { kind, timestamp, payload } => {
                    assert!(self.stumbled || published.contains(payload), "{kind:?} nobody published: {payload:?}");
                    // Metadata comes at timestamp 0 to who joins, on a skip too. Headers before the first media may be far
                    // ahead of it.
                    let counts = kind != Kind::Data && (self.last.contains_key(&kind) || is_coded(kind, payload));
                    if counts && !self.stumbled {
                        let before = self.last.insert(kind, timestamp).unwrap_or(timestamp);
                        let back = before.wrapping_sub(timestamp);
                        assert!(back == 0 || back >= 1 << 30, "{kind:?} went from {before} back to {timestamp}");
                    }
                }
                ClientEvent::Status { .. } | ClientEvent::Reconnect { .. } => {}
            }
        }
        true
    }
}

fn is_coded(kind: Kind, payload: &[u8]) -> bool {
    let tag = if kind == Kind::Audio { classify_audio(payload) } else { classify_video(payload) };
    tag.is_ok_and(|tag| matches!(tag.role, Role::Keyframe | Role::Coded))
}
