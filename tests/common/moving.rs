//! Clients that can be asked to go on at another server, and numbered frames: they show whether one is lost, or comes twice,
//! on the way from one server to the next.

use std::net::SocketAddr;

use super::{
    amf::Value,
    rtmp::{Message, Peer, VIDEO, message},
};

const REQUEST: &str = "NetConnection.Connect.ReconnectRequest";

/// Every so many frames there is a keyframe.
pub const GOP: u32 = 10;

/// A connection whose client announces (capsEx bit 1) that it takes requests to reconnect.
#[track_caller]
pub fn able(addr: SocketAddr) -> Peer {
    Peer::announcing(addr, Some(1.0))
}

#[track_caller]
pub fn able_player(addr: SocketAddr, name: &str) -> Peer {
    able(addr).playing(name)
}

#[track_caller]
pub fn able_publisher(addr: SocketAddr, name: &str) -> (Peer, u32) {
    able(addr).publishing(name)
}

/// Frame `number` of a stream with a keyframe every [`GOP`] frames.
pub fn frame(stream: u32, number: u32) -> Message {
    let tag = if number.is_multiple_of(GOP) { 0x17 } else { 0x27 };
    let payload = [&[tag, 1, 0, 0, 0][..], &number.to_be_bytes(), &[0x55; 200]].concat();
    message(6, VIDEO, stream, number * 40, payload)
}

/// Which frame a message is, if it is one.
pub fn number(message: &Message) -> Option<u32> {
    let is_ours = message.type_id == VIDEO;
    let bytes = message.payload.get(5..9).filter(|_| is_ours)?;
    Some(u32::from_be_bytes(bytes.try_into().expect("four bytes")))
}

/// The number of the next frame; none if the connection closed.
#[track_caller]
pub fn next_number(player: &mut Peer) -> Option<u32> {
    player.next_media().map(|message| number(&message).expect("a frame of ours"))
}

/// Where a client is asked to go, if this message asks for it: an onStatus of the connection itself, transaction 0.
#[track_caller]
pub fn asked_to(message: &Message) -> Option<String> {
    (message.code()? == REQUEST).then(|| {
        let values = message.values();
        assert_eq!((message.stream, &values[1]), (0, &Value::Number(0.0)));
        assert_eq!(values[3].get("level").map(Value::text), Some("status"));
        values[3].get("tcUrl").map(|url| url.text().to_owned()).unwrap_or_default()
    })
}

/// Where a client is asked to go; none if the connection closed.
#[track_caller]
pub fn wait_asked(peer: &mut Peer) -> Option<String> {
    peer.find("a ReconnectRequest", asked_to)
}
