//! The chunk reader: the same messages at any split, memory that follows what arrived, and what it read can be written.

use std::collections::BTreeSet;

use bytes::BytesMut;
use shardcast::{
    limits::{CHUNK_STREAMS_MAX, IN_FLIGHT_BYTES_MAX},
    rtmp::{
        chunk::{ChunkError, ChunkReader, ChunkWriter},
        message::Header,
    },
};

use super::{
    pieces::{Dice, splits},
    whole_messages,
};

#[derive(Debug, PartialEq)]
struct Outcome {
    messages: Vec<(Header, Vec<u8>)>,
    error: Option<ChunkError>,
}

pub fn run(data: &[u8]) {
    let whole = read([data]);
    for split in splits(data) {
        let pieces = split.len();
        assert_eq!(read(split), whole, "in {pieces} pieces");
    }
    write_again(&whole.messages, Dice::new(data).roll(300) + 1);
}

fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut reader = ChunkReader::new();
    let mut outcome = Outcome { messages: Vec::new(), error: None };
    let mut arrived = 0;
    for piece in pieces {
        arrived += piece.len();
        let mut input = piece;
        loop {
            match reader.read(&mut input) {
                Ok(Some(message)) => {
                    assert_eq!(message.header.length as usize, message.payload.len());
                    outcome.messages.push((message.header, message.payload.to_vec()));
                }
                Ok(None) => break,
                Err(error) => {
                    outcome.error = Some(error);
                    return outcome;
                }
            }
        }
        assert!(input.is_empty(), "without a message all of the input is taken");
        // At most twice what arrived, and a small buffer for each csid.
        let held = reader.in_flight_bytes();
        assert!(held <= (2 * arrived + 64 * 256).min(IN_FLIGHT_BYTES_MAX), "{held} bytes held of {arrived}");
    }
    outcome
}

/// Messages come back as they were, written in chunks of any size.
fn write_again(messages: &[(Header, Vec<u8>)], chunk_bytes: usize) {
    let csids: BTreeSet<u32> = messages.iter().map(|(header, _)| header.csid).collect();
    if csids.len() > CHUNK_STREAMS_MAX - 2 {
        // Set Chunk Size and the last message of `whole_messages` have csids of their own.
        return;
    }
    let mut writer = ChunkWriter::new();
    let mut out = BytesMut::new();
    writer.set_chunk_bytes(chunk_bytes, &mut out);
    for (header, payload) in messages {
        writer.write(*header, payload, &mut out);
    }
    assert_eq!(whole_messages(&out), messages);
}
