//! Clients that can be asked to reconnect and clients that cannot, numbered frames, and the admin pages.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use super::common::{
    amf,
    rtmp::{Message, Peer, VIDEO, message},
    seconds,
    server::{Driver, Server},
};

pub const REQUEST: &str = "NetConnection.Connect.ReconnectRequest";

/// Every so many frames there is a keyframe.
pub const GOP: u32 = 10;

/// A connection whose client announces (capsEx bit 1) that it takes requests to reconnect.
#[track_caller]
pub fn able(addr: SocketAddr) -> Peer {
    let mut peer = Peer::greeted(addr);
    let tc_url = amf::string(format!("rtmp://{addr}/live"));
    let arguments = amf::object(&[("app", amf::string("live")), ("tcUrl", tc_url), ("capsEx", amf::number(1.0))]);
    assert_eq!(peer.connect_with(&arguments).as_deref(), Some("NetConnection.Connect.Success"));
    peer
}

#[track_caller]
pub fn able_player(addr: SocketAddr, name: &str) -> Peer {
    let mut peer = able(addr);
    let stream = peer.create_stream();
    peer.ask_play(stream, name);
    peer
}

#[track_caller]
pub fn able_publisher(addr: SocketAddr, name: &str) -> (Peer, u32) {
    let mut peer = able(addr);
    let stream = peer.create_stream();
    assert_eq!(peer.publish(stream, name).as_deref(), Some("NetStream.Publish.Start"));
    (peer, stream)
}

pub fn frame(stream: u32, number: u32) -> Message {
    let tag = if number.is_multiple_of(GOP) { 0x17 } else { 0x27 };
    let payload = [&[tag, 1, 0, 0, 0][..], &number.to_be_bytes(), &[0x55; 200]].concat();
    message(6, VIDEO, stream, number * 40, payload)
}

pub fn number(message: &Message) -> Option<u32> {
    let is_ours = message.type_id == VIDEO;
    let bytes = message.payload.get(5..9).filter(|_| is_ours)?;
    Some(u32::from_be_bytes(bytes.try_into().expect("four bytes")))
}

/// Where a client is asked to go, if this message asks for it.
pub fn asked_to(message: &Message) -> Option<String> {
    (message.code()? == REQUEST).then(|| {
        let values = message.values();
        values[3].get("tcUrl").map(|url| url.text().to_owned()).unwrap_or_default()
    })
}

/// Where a client is asked to go.
#[track_caller]
pub fn wait_asked(peer: &mut Peer) -> Option<String> {
    peer.find("a ReconnectRequest", asked_to)
}

/// Status and body of a request to an admin page.
pub fn request(server: &Server, method: &str, path: &str, headers: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(server.admin).expect("the admin listener");
    stream.set_read_timeout(Some(seconds(10))).expect("a TCP socket");
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: a\r\n{headers}Content-Length: 0\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status"), body.to_owned())
}

/// What GET /api/drain says.
pub fn report(server: &Server) -> serde_json::Value {
    let (status, body) = request(server, "GET", "/api/drain", "");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).expect("JSON")
}

pub fn readiness(server: &Server) -> u16 {
    server.get("/readyz").expect("the admin listener answers").0
}

/// Whether the node takes connections.
pub fn accepts(server: &Server) -> bool {
    TcpStream::connect(server.rtmp).is_ok()
}

pub fn start(shards: usize, flags: &str) -> Server {
    Server::start(Driver::Auto, shards, &flags.split_whitespace().collect::<Vec<_>>())
}
