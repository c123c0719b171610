//! A publisher, a player in step with it, and what tests say to them.

use crate::common::{
    amf::{self, Value},
    rtmp::{COMMAND, DATA, Message, Peer, VIDEO, command, message},
    seconds,
    server::{Driver, Server},
};

/// The first frame of a scene.
const FIRST: &[u8] = b"\x17\x01\0\0\0first";
pub const SUCCESS: &str = "NetConnection.Connect.Success";

pub fn server() -> Server {
    Server::start(Driver::Auto, 1, &[])
}

/// `connect` to the application `live`, with other or further properties.
pub fn connect(more: &[(&str, Vec<u8>)]) -> Message {
    let mut properties = vec![("app", amf::string("live")), ("tcUrl", amf::string("rtmp://localhost/live"))];
    properties.retain(|(name, _)| more.iter().all(|(other, _)| name != other));
    properties.extend_from_slice(more);
    message(3, COMMAND, 0, 0, command("connect", 1.0, &[amf::object(&properties)]))
}

/// A connection that said `connect` with these.
#[track_caller]
pub fn connected_with(server: &Server, more: &[(&str, Vec<u8>)]) -> Peer {
    let mut peer = Peer::greeted(server.rtmp);
    peer.send(&connect(more));
    assert_eq!(peer.next_code().as_deref(), Some(SUCCESS));
    peer
}

/// A player that can take everything of Enhanced RTMP v2.
pub fn capable_player(server: &Server) -> Peer {
    let mut peer = connected_with(server, &[("capsEx", amf::number(15.0))]);
    let stream = peer.create_stream();
    peer.ask_play(stream, "show");
    peer
}

/// What a message is, in a word: a status's code, a command's or data message's name, or the number of its type.
pub fn word(message: &Message) -> String {
    let name = || message.values().first().map(|name| name.text().to_owned());
    match message.type_id {
        COMMAND | DATA => message.code().or_else(name).unwrap_or_default(),
        type_id => type_id.to_string(),
    }
}

/// All messages up to the one whose word is `last`, which is among them.
#[track_caller]
pub fn up_to(peer: &mut Peer, last: &str) -> Vec<Message> {
    let mut all = Vec::new();
    let found = peer.find(last, |message| {
        all.push(message.clone());
        (word(message) == last).then_some(())
    });
    assert!(found.is_some(), "closed before {last}");
    all
}

pub struct Scene {
    pub server: Server,
    pub publisher: Peer,
    pub stream: u32,
    /// In step since the first message, and without capabilities.
    pub player: Peer,
}

impl Scene {
    pub fn new() -> Self {
        let server = server();
        let player = Peer::player(server.rtmp, "show");
        server.wait_metric("shardcast_players", &[], |players| players == 1.0);
        let (publisher, stream) = Peer::publisher(server.rtmp, "show");
        let mut scene = Self { server, publisher, stream, player };
        scene.send(VIDEO, 0, FIRST);
        assert_eq!(scene.player.next_of_stream().payload, FIRST);
        scene
    }

    pub fn send(&mut self, type_id: u8, timestamp: u32, payload: &[u8]) {
        let csid = 4 + u32::from(type_id);
        assert!(self.publisher.send(&message(csid, type_id, self.stream, timestamp, payload)), "it was closed");
    }

    /// Everything was taken by the server.
    #[track_caller]
    pub fn settle(&mut self) {
        assert!(self.publisher.is_served());
    }

    /// It arrives at the player in step as it is, and next.
    #[track_caller]
    pub fn passes(&mut self, type_id: u8, timestamp: u32, payload: &[u8]) -> Message {
        self.send(type_id, timestamp, payload);
        let got = self.player.next_of_stream();
        let hex = |bytes: &[u8]| bytes.iter().take(40).map(|byte| format!("{byte:02X} ")).collect::<String>();
        assert!((got.type_id, &got.payload[..]) == (type_id, payload), "{} became {}", hex(payload), hex(&got.payload));
        got
    }

    pub fn joiner(&self) -> Peer {
        Peer::player(self.server.rtmp, "show")
    }

    /// The publisher goes; its name is free.
    pub fn publisher_leaves(&mut self) {
        drop(std::mem::replace(&mut self.publisher, Peer::dial(self.server.rtmp)));
        self.server.wait_gone("show", seconds(5));
    }
}

/// The number a status or result has under `key`.
pub fn number(values: &[Value], key: &str) -> Option<f64> {
    values.iter().find_map(|value| match value.get(key) {
        Some(Value::Number(number)) => Some(*number),
        _ => None,
    })
}
