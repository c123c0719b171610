//! Both sides of the handshake: the same bytes in, out and left over at any split, and never more than the handshake.

use bytes::BytesMut;
use shardcast::rtmp::handshake::{ClientHandshake, HANDSHAKE_BYTES, HandshakeError, ServerHandshake};

use super::pieces::splits;

#[derive(Debug, PartialEq)]
struct Outcome {
    result: Result<bool, HandshakeError>,
    consumed: usize,
    output: BytesMut,
}

pub fn run(data: &[u8]) {
    let server = || {
        let mut handshake = ServerHandshake::new(1);
        move |input: &mut &[u8], out: &mut BytesMut| handshake.receive(input, 7, out)
    };
    check(data, server, 3_073);
    for digest in [false, true] {
        let client = || {
            let mut handshake = ClientHandshake::new(1, digest);
            handshake.start(7, &mut BytesMut::new());
            move |input: &mut &[u8], out: &mut BytesMut| handshake.receive(input, 7, out)
        };
        check(data, client, 1_536);
    }
    if let Some(nonce) = data.first_chunk() {
        agree(u64::from_le_bytes(*nonce));
    }
}

fn check<S, R>(data: &[u8], side: S, reply_bytes: usize)
where
    S: Fn() -> R,
    R: FnMut(&mut &[u8], &mut BytesMut) -> Result<bool, HandshakeError>,
{
    let whole = shake([data], side());
    for split in splits(data).into_iter().skip(if data.len() > 8_000 { 1 } else { 0 }) {
        let pieces = split.len();
        assert_eq!(shake(split, side()), whole, "in {pieces} pieces");
    }
    assert!(whole.output.is_empty() || whole.output.len() == reply_bytes);
    match whole.result {
        Ok(true) => assert_eq!(whole.consumed as u64, HANDSHAKE_BYTES),
        Ok(false) => assert_eq!(whole.consumed, data.len()),
        Err(_) => assert!(whole.output.is_empty()),
    }
}

fn shake<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    mut receive: impl FnMut(&mut &[u8], &mut BytesMut) -> Result<bool, HandshakeError>,
) -> Outcome {
    let mut output = BytesMut::new();
    let mut consumed = 0;
    for piece in pieces {
        let mut input = piece;
        match receive(&mut input, &mut output) {
            Ok(false) => consumed += piece.len() - input.len(),
            Ok(true) => return Outcome { result: Ok(true), consumed: consumed + piece.len() - input.len(), output },
            // How much was taken of what is no handshake does not matter.
            Err(error) => return Outcome { result: Err(error), consumed: 0, output },
        }
    }
    Outcome { result: Ok(false), consumed, output }
}

/// The two sides, whatever their noise, end a handshake with each other.
fn agree(nonce: u64) {
    for digest in [false, true] {
        let (mut to_server, mut to_client) = (BytesMut::new(), BytesMut::new());
        let mut client = ClientHandshake::new(nonce, digest);
        let mut server = ServerHandshake::new(!nonce);
        client.start(1, &mut to_server);
        assert_eq!(server.receive(&mut &to_server.split()[..], 2, &mut to_client), Ok(false));
        assert_eq!(client.receive(&mut &to_client[..], 3, &mut to_server), Ok(true));
        assert_eq!(server.receive(&mut &to_server[..], 4, &mut to_client), Ok(true));
    }
}
