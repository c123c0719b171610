//! A client's session against any server: the same events and requests at any split, its output bounded and whole.
//!
//! The input is what follows the server's handshake. It is said to a publisher and to a player.

use std::time::Duration;

use shardcast::{
    limits::{ACK_WINDOW_BYTES_MIN, REPLY_BYTES_MAX},
    rtmp::{
        client::{ClientConfig, ClientEvent, ClientRole, ClientSession, SessionError},
        message::Kind,
    },
};

use super::{HANDSHAKE, pieces::splits, whole_messages};

/// Connect, createStream and the request, and a reply.
const CONVERSATION_BYTES: usize = 4 * 1024;

#[derive(Debug, PartialEq)]
enum Seen {
    Media { kind: Kind, timestamp: u32, payload: Vec<u8> },
    Event(String),
}

#[derive(Debug, PartialEq)]
struct Outcome {
    seen: Vec<Seen>,
    error: Option<SessionError>,
    output: Vec<u8>,
}

pub fn run(data: &[u8]) {
    for role in [ClientRole::Publish, ClientRole::Play] {
        let whole = converse(role, [data]);
        let output = whole.output.get(HANDSHAKE.len()..).expect("C0, C1 and C2");
        assert!(output.len() <= REPLY_BYTES_MAX + CONVERSATION_BYTES, "{} bytes of output", output.len());
        whole_messages(output);
        // Acknowledgements depend on how bytes arrive; short of a window there are none.
        if data.len() < ACK_WINDOW_BYTES_MIN as usize {
            for split in splits(data) {
                let pieces = split.len();
                assert_eq!(converse(role, split), whole, "in {pieces} pieces");
            }
        }
    }
}

fn converse<'a>(role: ClientRole, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let now = Duration::from_secs(1);
    let config = ClientConfig { chunk_bytes: 200, ..ClientConfig::new(role, "rtmp://host/live", "live", "show") };
    let mut session = ClientSession::new(config, 1, now);
    let mut outcome = Outcome { seen: Vec::new(), error: None, output: Vec::new() };
    'session: for piece in [&HANDSHAKE[..]].into_iter().chain(pieces) {
        let mut input = piece;
        loop {
            let seen = match session.receive(&mut input, now) {
                Ok(Some(ClientEvent::Media { kind, timestamp, payload })) => {
                    Seen::Media { kind, timestamp, payload: payload.to_vec() }
                }
                Ok(Some(event)) => Seen::Event(format!("{event:?}")),
                Ok(None) => break,
                Err(error) => {
                    outcome.error = Some(error);
                    break 'session;
                }
            };
            if seen == Seen::Event("Publishing".to_owned()) && outcome.seen.len() < 8 {
                session.send_metadata(b"\x02\0\x0AonMetaData\x05");
                session.send_media(Kind::Video, 40, &[0x17; 300]);
            }
            outcome.seen.push(seen);
        }
        assert!(input.is_empty(), "without an event all of the input is taken");
    }
    session.close();
    outcome.output = session.take_output().to_vec();
    outcome
}
