//! The client session against the server session, in memory.

mod hostile;

use super::*;
use crate::limits::{CONNECT_DEADLINE, HANDSHAKE_DEADLINE, REPLY_BYTES_MAX};
use crate::rtmp::chunk::ChunkWriter;
use crate::rtmp::message::type_id;
use crate::rtmp::server::{PlayRefusal, PublishRefusal, ServerConfig, ServerEvent, ServerSession};

const T0: Duration = Duration::from_secs(1_000);

fn config(role: ClientRole, name: &str) -> ClientConfig {
    let config = ClientConfig::new(role, "rtmp://host/live", "live", name);
    ClientConfig { chunk_bytes: 300, digest: role == ClientRole::Play, ..config }
}

fn server() -> ServerSession {
    ServerSession::new(ServerConfig::new(1_000), 7, T0)
}

/// Feeds a server, which accepts whatever it is asked for; what happened, in words.
fn feed_server(server: &mut ServerSession, bytes: &[u8]) -> Result<Vec<String>, SessionError> {
    enum Answer {
        Publish(u32),
        Play(u32),
        None,
    }
    let (mut input, mut events) = (bytes, Vec::new());
    loop {
        let answer = match server.receive(&mut input, T0)? {
            None => return Ok(events),
            Some(event) => {
                events.push(format!("{event:?}"));
                match event {
                    ServerEvent::Publish { stream, .. } => Answer::Publish(stream),
                    ServerEvent::Play { stream, .. } => Answer::Play(stream),
                    _ => Answer::None,
                }
            }
        };
        match answer {
            Answer::Publish(stream) => server.accept_publish(stream),
            Answer::Play(stream) => server.start_play(stream),
            Answer::None => {}
        }
    }
}

fn feed_client(client: &mut ClientSession, bytes: &[u8]) -> Result<Vec<String>, SessionError> {
    let (mut input, mut events) = (bytes, Vec::new());
    while let Some(event) = client.receive(&mut input, T0)? {
        events.push(format!("{event:?}"));
    }
    Ok(events)
}

/// A client and a server, all they said, and what it meant to each.
struct Pair {
    client: ClientSession,
    server: ServerSession,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    server_events: Vec<String>,
    client_events: Vec<String>,
}

impl Pair {
    fn new(config: ClientConfig) -> Self {
        Self {
            client: ClientSession::new(config, 8, T0),
            server: server(),
            to_server: Vec::new(),
            to_client: Vec::new(),
            server_events: Vec::new(),
            client_events: Vec::new(),
        }
    }

    /// Lets both talk until neither has anything to say.
    fn settle(&mut self) {
        loop {
            let (to_server, to_client) = (self.client.take_output(), self.server.take_output());
            if to_server.is_empty() && to_client.is_empty() {
                return;
            }
            self.to_server.extend_from_slice(&to_server);
            self.to_client.extend_from_slice(&to_client);
            self.server_events.extend(feed_server(&mut self.server, &to_server).unwrap());
            self.client_events.extend(feed_client(&mut self.client, &to_client).unwrap());
        }
    }
}

fn published() -> Pair {
    let mut pair = Pair::new(config(ClientRole::Publish, "show?token=s"));
    pair.settle();
    assert_eq!(pair.client_events, ["Publishing"]);
    pair.client.send_metadata(b"\x02\x00\x0aonMetaData\x08\0\0\0\0\0\0\x09");
    pair.client.send_media(Kind::Video, 0, &[0x17; 700]);
    pair.client.send_media(Kind::Audio, 5, b"");
    pair.client.send_media(Kind::Audio, 0xFFFF_FFF0, b"\xAF\x01late");
    pair.client.send_media(Kind::Audio, 3, b"\xAF\x01wrapped");
    pair.client.close();
    pair.settle();
    pair
}

fn played() -> Pair {
    let mut pair = Pair::new(config(ClientRole::Play, "show"));
    pair.settle();
    let mut writer = ChunkWriter::new();
    let mut media = BytesMut::new();
    writer.set_chunk_bytes(1_000, &mut media);
    media.clear();
    for (kind, timestamp, payload) in
        [(Kind::Data, 0, vec![2, 0, 1, b'd']), (Kind::Video, 0, vec![1; 2_500]), (Kind::Audio, 9, vec![2; 50])]
    {
        let header = Header { csid: media_csid(kind, 1), timestamp, length: 0, type_id: kind.type_id(), stream_id: 1 };
        writer.write(header, &payload, &mut media);
    }
    pair.server.output().extend_from_slice(&media);
    pair.settle();
    pair.server.end_play(1);
    pair.server.start_play(1);
    pair.settle();
    pair.client.close();
    pair.settle();
    pair
}

#[test]
fn a_client_publishes_to_the_server() {
    let pair = published();
    let media =
        |kind, timestamp, payload: &[u8]| format!("{:?}", ServerEvent::Media { stream: 1, kind, timestamp, payload });
    let events = &pair.server_events;
    assert_eq!(events[0], r#"Publish { stream: 1, key: "live/show", query: "token=s" }"#);
    let metadata = b"\x02\x00\x0d@setDataFrame\x02\x00\x0aonMetaData\x08\0\0\0\0\0\0\x09";
    assert_eq!(events[1], media(Kind::Data, 0, metadata));
    assert_eq!(events[2], media(Kind::Video, 0, &[0x17; 700]));
    assert_eq!(events[3], media(Kind::Audio, 5, b""));
    assert_eq!(events[4], media(Kind::Audio, 0xFFFF_FFF0, b"\xAF\x01late"));
    assert_eq!(events[5], media(Kind::Audio, 3, b"\xAF\x01wrapped"));
    assert_eq!(events[6..], ["Ended { stream: 1 }"]);
}

#[test]
fn a_client_plays_from_the_server() {
    let pair = played();
    assert_eq!(pair.server_events, [r#"Play { stream: 1, key: "live/show", query: "" }"#, "Ended { stream: 1 }"]);
    let media = |kind, timestamp, payload: &[u8]| format!("{:?}", ClientEvent::Media { kind, timestamp, payload });
    let reset = r#"Status { code: "NetStream.Play.Reset", description: "Playing and resetting.", level: "status" }"#;
    let expected = [
        reset.to_owned(),
        "Playing".to_owned(),
        media(Kind::Data, 0, &[2, 0, 1, b'd']),
        media(Kind::Video, 0, &[1; 2_500]),
        media(Kind::Audio, 9, &[2; 50]),
        "Ended".to_owned(),
        reset.to_owned(),
        "Playing".to_owned(),
    ];
    assert_eq!(pair.client_events, expected);
}

#[test]
fn every_split_of_what_a_client_says_means_the_same_to_the_server() {
    for pair in [published(), played()] {
        let replies = |split: usize| {
            let mut server = server();
            let (first, second) = pair.to_server.split_at(split);
            let mut events = feed_server(&mut server, first).unwrap();
            let mut replies = server.take_output().to_vec();
            events.extend(feed_server(&mut server, second).unwrap());
            replies.extend_from_slice(&server.take_output());
            assert_eq!(events, pair.server_events, "split at {split}");
            replies
        };
        let unsplit = replies(0);
        for split in 1..pair.to_server.len() {
            assert!(replies(split) == unsplit, "split at {split}");
        }
    }
}

#[test]
fn every_split_of_what_a_server_says_means_the_same_to_the_client() {
    for (pair, role, name) in [(published(), ClientRole::Publish, "show?token=s"), (played(), ClientRole::Play, "show")]
    {
        let events = |split: usize| {
            let mut client = ClientSession::new(config(role, name), 8, T0);
            let (first, second) = pair.to_client.split_at(split);
            let mut events = feed_client(&mut client, first).unwrap();
            events.extend(feed_client(&mut client, second).unwrap());
            (events, client.take_output())
        };
        let unsplit = events(0);
        assert!(unsplit.0.starts_with(&pair.client_events));
        for split in 1..pair.to_client.len() {
            assert!(events(split) == unsplit, "split at {split}");
        }
    }
}

#[test]
fn one_byte_at_a_time_means_the_same() {
    let pair = published();
    let mut server = server();
    let mut events = Vec::new();
    for byte in &pair.to_server {
        events.extend(feed_server(&mut server, &[*byte]).unwrap());
    }
    assert_eq!(events, pair.server_events);
}

#[test]
fn damaged_bytes_are_an_error_or_an_event_and_never_a_panic() {
    let (mut errors, mut seed) = (0, 1u64);
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    for pair in [published(), played()] {
        for round in 0..2_000 {
            let mut to_server = pair.to_server.clone();
            let mut to_client = pair.to_client.clone();
            for bytes in [&mut to_server, &mut to_client] {
                for _ in 0..=round % 4 {
                    let at = 3_073 + random(bytes.len() - 3_073);
                    bytes[at] = random(256) as u8;
                }
            }
            errors += usize::from(feed_server(&mut server(), &to_server).is_err());
            let mut client = ClientSession::new(config(ClientRole::Play, "show"), 8, T0);
            errors += usize::from(feed_client(&mut client, &to_client).is_err());
        }
    }
    assert!(errors > 500, "{errors}");
}

/// A server that answers its first request with `refuse`, and what its client makes of it.
fn refused_by(role: ClientRole, refuse: impl Fn(&mut ServerSession)) -> SessionError {
    let mut client = ClientSession::new(config(role, "show"), 8, T0);
    let mut server = server();
    for _ in 0..10 {
        let bytes = client.take_output();
        let mut input = &bytes[..];
        while server.receive(&mut input, T0).unwrap().is_some() {}
        refuse(&mut server);
        if let Err(error) = feed_client(&mut client, &server.take_output()) {
            return error;
        }
    }
    panic!("never refused")
}

fn refusal(code: &str, description: &str, redirect: Option<&str>) -> SessionError {
    let (code, description, redirect) = (code.into(), description.into(), redirect.map(Into::into));
    SessionError::Refused { code, description, redirect }
}

#[test]
fn refusals_end_the_client_with_their_code() {
    let error = refused_by(ClientRole::Publish, |server| server.refuse_publish(1, PublishRefusal::NameTaken, "taken"));
    assert_eq!(error, refusal("NetStream.Publish.BadName", "taken", None));
    assert!(!error.is_not_found());
    let error = refused_by(ClientRole::Play, |server| server.refuse_play(1, PlayRefusal::NotFound, "none"));
    assert_eq!(error, refusal("NetStream.Play.StreamNotFound", "none", None));
    assert!(error.is_not_found());
}

#[test]
fn a_publisher_given_up_by_the_server_hears_of_it() {
    let mut pair = Pair::new(config(ClientRole::Publish, "show"));
    pair.settle();
    pair.server.end_publish(1, "replaced");
    pair.settle();
    assert_eq!(pair.client_events, ["Publishing", "Ended"]);
}

#[test]
fn a_silent_server_ends_at_a_deadline() {
    let mut pair = Pair::new(config(ClientRole::Publish, "show"));
    assert_eq!(pair.client.deadline(), Some(T0 + HANDSHAKE_DEADLINE));
    assert_eq!(pair.client.timeout(T0 + HANDSHAKE_DEADLINE), Err(SessionError::HandshakeTimeout));
    let hello = pair.client.take_output();
    feed_server(&mut pair.server, &hello).unwrap();
    let reply = pair.server.take_output();
    feed_client(&mut pair.client, &reply).unwrap();
    assert_eq!(pair.client.timeout(T0 + CONNECT_DEADLINE), Err(SessionError::ConnectTimeout));
    pair.settle();
    assert_eq!(pair.client.deadline(), None);
}

#[test]
fn a_servers_ping_flood_fills_no_memory() {
    let mut pair = Pair::new(config(ClientRole::Play, "show"));
    pair.settle();
    let mut bytes = BytesMut::new();
    let mut writer = ChunkWriter::new();
    for _ in 0..20_000 {
        let header = Header { csid: 2, timestamp: 0, length: 0, type_id: type_id::USER_CONTROL, stream_id: 0 };
        writer.write(header, &[0, 6, 0, 0, 0, 0], &mut bytes);
    }
    feed_client(&mut pair.client, &bytes).unwrap();
    let replies = pair.client.take_output().len();
    assert!((REPLY_BYTES_MAX..REPLY_BYTES_MAX + 100).contains(&replies), "{replies}");
}

#[test]
fn an_aggregate_from_a_server_is_played_part_by_part() {
    let mut pair = Pair::new(config(ClientRole::Play, "show"));
    pair.settle();
    let tag = |kind: u8, time: u8, byte: u8| vec![kind, 0, 0, 1, 0, 0, time, 0, 0, 0, 0, byte, 0, 0, 0, 12];
    let mut bytes = BytesMut::new();
    let header = Header { csid: 6, timestamp: 70, length: 0, type_id: type_id::AGGREGATE, stream_id: 1 };
    ChunkWriter::new().write(header, &[tag(8, 5, 1), tag(9, 7, 3)].concat(), &mut bytes);
    let media = |kind, timestamp, byte: u8| format!("{:?}", ClientEvent::Media { kind, timestamp, payload: &[byte] });
    let expected = [media(Kind::Audio, 70, 1), media(Kind::Video, 72, 3)];
    assert_eq!(feed_client(&mut pair.client, &bytes).unwrap(), expected);
}

#[test]
fn capabilities_reach_the_next_server_as_the_publisher_said_them() {
    let said = Capabilities { caps_ex: 5, video_function: 2, ..Capabilities::of_relay() };
    let mut pair = Pair::new(config(ClientRole::Publish, "show"));
    pair.client = pair.client.announcing(said.clone());
    pair.settle();
    assert_eq!(pair.server.capabilities(), Some(said));
    assert_eq!(pair.client.server_capabilities(), Some(&Capabilities::of_relay()));
}

#[test]
fn a_client_that_is_asked_to_reconnect_hears_where_and_is_served_on() {
    for (tc_url, expected) in [(Some("//new/live"), r#"Some("//new/live")"#), (None, "None")] {
        let mut pair = Pair::new(config(ClientRole::Publish, "show"));
        assert!(!pair.server.request_reconnect(tc_url, "too early"), "nobody is connected");
        pair.settle();
        assert!(pair.server.request_reconnect(tc_url, "moving"));
        pair.settle();
        let asked = format!(r#"Reconnect {{ tc_url: {expected}, description: "moving" }}"#);
        assert_eq!(pair.client_events, ["Publishing".to_owned(), asked]);
        pair.client.send_media(Kind::Audio, 5, b"\xAF\x01more");
        pair.settle();
        assert!(pair.server_events.last().unwrap().starts_with("Media"));
    }
}

#[test]
fn a_relay_says_what_it_can_and_where_the_stream_has_been() {
    let hops = ["encoder", "ingest-1"].map(str::to_owned).to_vec();
    let mut pair = Pair::new(ClientConfig { relay: true, hops, ..config(ClientRole::Publish, "show") });
    pair.settle();
    assert_eq!(pair.server.capabilities(), Some(Capabilities::of_relay()));
    assert_eq!(pair.server.hops().collect::<Vec<_>>(), ["encoder", "ingest-1"]);
    assert!(!pair.server.has_more_hops());
    let mut pair = Pair::new(config(ClientRole::Play, "show"));
    pair.settle();
    assert_eq!((pair.server.hops().count(), pair.server.has_more_hops()), (0, false));
}

#[test]
fn what_a_client_is_for_shows_no_secret() {
    let config = ClientConfig::new(ClientRole::Publish, "rtmp://host/live?token=secret", "live?secret", "secret");
    let mut client = ClientSession::new(config.clone(), 8, T0);
    client.conversation.connect();
    assert!(!format!("{config:?} {client:?}").contains("secret"));
    assert!(client.has_output());
    client.take_output();
    assert!(!client.has_output());
}
