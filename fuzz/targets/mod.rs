//! What the fuzz targets check, free of the fuzzer: `fuzz_targets/*.rs` call these from libFuzzer, `tests/fuzz_corpora.rs`
//! with every file of the corpora. Each `run` panics if a promise is broken.

#![allow(dead_code, unreachable_pub, reason = "each fuzz target and the tests use their own part, and export nothing")]

pub mod access;
pub mod aggregate;
pub mod amf0;
pub mod amf3;
pub mod approach;
pub mod chunk_reader;
pub mod client_session;
pub mod core_session;
pub mod data_messages;
pub mod handshake;
pub mod media_tags;
mod net;
pub mod pieces;
pub mod proxy_header;
pub mod reconnect_url;
pub mod seeded_session;
pub mod seeds;
pub mod server_session;
pub mod splice;
pub mod timeline;

use shardcast::rtmp::{
    chunk::ChunkReader,
    message::{Header, Message, type_id},
};

/// The simple handshake as either side may send it: version, and two packets that say nothing.
pub const HANDSHAKE: [u8; 3_073] = {
    let mut bytes = [0; 3_073];
    bytes[0] = 3;
    bytes
};

/// The messages of bytes that one of our own sides wrote: whole chunks, no message left unfinished.
pub fn whole_messages(bytes: &[u8]) -> Vec<(Header, Vec<u8>)> {
    // A message that is only found if the reader stands between two chunks.
    const LAST: &[u8] = b"\x3F\0\0\0\0\0\x01\x08\0\0\0\0!";
    let mut reader = ChunkReader::new();
    let mut messages = Vec::new();
    for mut input in [bytes, LAST] {
        while let Some(Message { header, payload }) = reader.read(&mut input).expect("own output is well-formed") {
            messages.push((header, payload.to_vec()));
        }
    }
    let (header, payload) = messages.pop().expect("the last message");
    assert!(header.csid == 63 && header.type_id == type_id::AUDIO && payload == b"!", "output ends inside a chunk");
    assert_eq!(reader.in_flight_bytes(), 0, "output ends inside a message");
    messages
}
