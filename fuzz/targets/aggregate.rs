//! An aggregate message: the parts a publisher's session delivers are those an independent reader finds, however the bytes
//! are split, and a client that plays it hears the same.
//!
//! The input is a timestamp of four bytes and the aggregate's payload.

use std::time::Duration;

use bytes::BytesMut;
use shardcast::rtmp::{
    chunk::ChunkWriter,
    client::{ClientConfig, ClientEvent, ClientRole, ClientSession},
    error::SessionError,
    message::{Header, Kind, type_id},
    server::{ServerConfig, ServerEvent, ServerSession},
};

use super::{pieces::splits, seeds};

const CHUNK_BYTES: usize = 4_096;

type Parts = Vec<(Kind, u32, Vec<u8>)>;

pub fn run(data: &[u8]) {
    let Some((timestamp, payload)) = data.split_first_chunk::<4>() else { return };
    let timestamp = u32::from_be_bytes(*timestamp);
    let expected = read(timestamp, payload);
    let header = Header { csid: 6, timestamp, length: 0, type_id: type_id::AGGREGATE, stream_id: 1 };
    let mut bytes = BytesMut::new();
    write(header, payload, &mut bytes);
    let (parts, is_all) = published(&[&bytes]);
    assert!(if is_all { parts == expected } else { expected.starts_with(&parts) }, "{parts:?}, not {expected:?}");
    if bytes.len() < 1_024 {
        for pieces in splits(&bytes) {
            assert_eq!(published(&pieces).0, parts);
        }
    }
    assert_eq!(played(header, payload), expected);
}

/// FLV tags behind each other (RTMP 1.0, 7.1.6): whole ones of audio, video and data.
fn read(timestamp: u32, mut payload: &[u8]) -> Parts {
    let mut parts = Parts::new();
    let mut first = None;
    while let Some((header, rest)) = payload.split_at_checked(11) {
        let size = usize::from(header[1]) << 16 | usize::from(header[2]) << 8 | usize::from(header[3]);
        let own = u32::from_be_bytes([header[7], header[4], header[5], header[6]]);
        let Some((body, rest)) = rest.split_at_checked(size) else { break };
        let first = *first.get_or_insert(own);
        let kind = match header[0] {
            8 => Some(Kind::Audio),
            9 => Some(Kind::Video),
            18 => Some(Kind::Data),
            _ => None,
        };
        let time = timestamp.wrapping_add(own).wrapping_sub(first);
        parts.extend(kind.map(|kind| (kind, time, body.to_vec())));
        payload = rest.get(4..).unwrap_or_default();
    }
    parts
}

/// A client and a server that have agreed on what the client asks for.
fn pair(role: ClientRole) -> (ClientSession, ServerSession) {
    let config =
        ClientConfig { chunk_bytes: CHUNK_BYTES, ..ClientConfig::new(role, "rtmp://host/live", "live", "show") };
    let mut client = ClientSession::new(config, 1, Duration::ZERO);
    let mut server = ServerSession::new(ServerConfig::new(CHUNK_BYTES), 1, Duration::ZERO);
    loop {
        let output = client.take_output();
        seeds::serve(&mut server, &output);
        let reply = server.take_output();
        if output.is_empty() && reply.is_empty() {
            return (client, server);
        }
        let mut input = &reply[..];
        while client.receive(&mut input, Duration::ZERO).expect("own server").is_some() {}
    }
}

/// What a publisher's session makes of it, and whether it took all: parts that are none are counted, and many of them end
/// the connection.
fn published(pieces: &[&[u8]]) -> (Parts, bool) {
    let (_, mut session) = pair(ClientRole::Publish);
    let mut parts = Parts::new();
    for mut input in pieces.iter().copied() {
        loop {
            match session.receive(&mut input, Duration::ZERO) {
                Ok(Some(ServerEvent::Media { kind, timestamp, payload, .. })) => {
                    parts.push((kind, timestamp, payload.to_vec()));
                }
                Ok(Some(other)) => panic!("an aggregate is {other:?}"),
                Ok(None) => break,
                Err(SessionError::StrayMedia { .. }) => return (parts, false),
                Err(error) => panic!("{error}"),
            }
        }
        session.take_output();
    }
    (parts, true)
}

/// What a client that plays it hears.
fn played(header: Header, payload: &[u8]) -> Parts {
    let (mut client, mut server) = pair(ClientRole::Play);
    write(header, payload, server.output());
    let output = server.take_output();
    let (mut input, mut parts) = (&output[..], Parts::new());
    while let Some(event) = client.receive(&mut input, Duration::ZERO).expect("the message is well-formed") {
        let ClientEvent::Media { kind, timestamp, payload } = event else { panic!("an aggregate is {event:?}") };
        parts.push((kind, timestamp, payload.to_vec()));
    }
    parts
}

fn write(header: Header, payload: &[u8], out: &mut BytesMut) {
    let mut writer = ChunkWriter::new();
    writer.set_chunk_bytes(CHUNK_BYTES, out);
    writer.write(header, payload, out);
}
