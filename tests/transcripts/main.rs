//! What encoders and players say, in the order each is documented to say it, against a running server: whole, byte by byte
//! and at odd places.
//!
//! The transcripts are reconstructed from the RTMP specification and from what is known of each client's order of messages;
//! none is a capture, and headers are written in the plainest form. Each publisher must get the answers it waits for before
//! it goes on, and a player beside it must get its media byte for byte.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

#[path = "../common/mod.rs"]
mod common;

mod players;
mod publishers;

use common::rtmp::{Message, Peer, message, set_chunk_size};

/// A part of a conversation: what the client sends at once, and the names or codes of what it waits for then, in order.
pub struct Turn {
    pub says: Vec<u8>,
    pub awaits: &'static [&'static str],
}

/// How a client's bytes are spread over writes.
#[derive(Clone, Copy, Debug)]
pub enum Split {
    Whole,
    Bytes,
    Odd,
}

pub const SPLITS: [Split; 3] = [Split::Whole, Split::Bytes, Split::Odd];

/// Writes a client's messages, in chunks of the size it last announced.
pub struct Script {
    turns: Vec<Turn>,
    says: Vec<u8>,
    chunk_bytes: usize,
}

impl Script {
    pub fn begin() -> Self {
        Self { turns: Vec::new(), says: Vec::new(), chunk_bytes: 128 }
    }

    pub fn say(mut self, csid: u32, type_id: u8, stream: u32, timestamp: u32, payload: impl Into<Vec<u8>>) -> Self {
        self.says.extend(message(csid, type_id, stream, timestamp, payload).chunks(self.chunk_bytes));
        self
    }

    pub fn chunk_size(mut self, bytes: u32) -> Self {
        self.says.extend(set_chunk_size(bytes));
        self.chunk_bytes = bytes as usize;
        self
    }

    pub fn awaits(mut self, names: &'static [&'static str]) -> Self {
        self.turns.push(Turn { says: std::mem::take(&mut self.says), awaits: names });
        self
    }

    pub fn end(self) -> Vec<Turn> {
        self.awaits(&[]).turns
    }
}

/// The name of a command the server sent, and the code of its status, if it has one.
pub fn matches(message: &Message, name: &str) -> bool {
    let values = message.values();
    let is_code = || values.iter().any(|value| value.get("code").is_some_and(|code| code.text() == name));
    values.first().is_some_and(|first| first.text() == name) || is_code()
}

/// Has a conversation; panics if the server does not say what the client waits for.
#[track_caller]
pub fn converse(peer: &mut Peer, turns: &[Turn], split: Split) {
    for turn in turns {
        match split {
            Split::Whole => assert!(peer.write(&turn.says), "closed"),
            Split::Bytes => turn.says.chunks(1).for_each(|byte| assert!(peer.write(byte), "closed")),
            Split::Odd => {
                let mut rest = &turn.says[..];
                for step in [1, 11, 3, 127, 2, 130, 5].into_iter().cycle() {
                    let (now, later) = rest.split_at(step.min(rest.len()));
                    peer.write(now);
                    rest = later;
                    if rest.is_empty() {
                        break;
                    }
                }
            }
        }
        for name in turn.awaits {
            let heard = peer.find(name, |message| matches(message, name).then_some(()));
            assert!(heard.is_some(), "closed before {name}");
        }
    }
}
