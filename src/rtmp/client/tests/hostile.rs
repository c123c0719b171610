//! Servers that lie, stall and flood: a client is no softer than a server is to its clients.

use super::*;
use crate::{
    limits::{
        ACK_WINDOW_BYTES_MIN, AMF_DEPTH_MAX, AMF_ITEMS_MAX, CHUNK_STREAMS_MAX, PRE_CONNECT_BYTES_MAX, REQUEST_DEADLINE,
        STRAY_MEDIA_MESSAGES_MAX,
    },
    rtmp::{
        amf0::{AmfError, Encoder, Value},
        chunk::{ChunkError, ChunkReader},
        handshake::{HandshakeError, ServerHandshake},
    },
};

/// A server that says what a test wants, and the client it says it to.
struct Hostile {
    client: ClientSession,
    writer: ChunkWriter,
    reader: ChunkReader,
}

impl Hostile {
    /// After the handshake; the client has sent connect.
    fn shaken_hands(role: ClientRole) -> Self {
        let mut client = ClientSession::new(config(role, "show"), 8, T0);
        let (mut server, mut reply) = (ServerHandshake::new(7), BytesMut::new());
        let hello = client.take_output();
        server.receive(&mut &hello[..], 0, &mut reply).unwrap();
        assert_eq!(feed_client(&mut client, &reply), Ok(vec![]));
        let (c2, mut rest) = (client.take_output(), BytesMut::new());
        let mut input = &c2[..];
        assert!(server.receive(&mut input, 0, &mut rest).unwrap());
        let mut hostile = Self { client, writer: ChunkWriter::new(), reader: ChunkReader::new() };
        assert_eq!(hostile.names(input), ["connect"]);
        hostile
    }

    fn connected(role: ClientRole) -> Self {
        let mut hostile = Self::shaken_hands(role);
        assert_eq!(hostile.command("_result", 1.0, Value::Null), Ok(vec![]));
        hostile
    }

    fn requesting(role: ClientRole) -> Self {
        let mut hostile = Self::connected(role);
        assert_eq!(hostile.command("_result", 4.0, Value::Number(1.0)), Ok(vec![]));
        hostile
    }

    fn live(role: ClientRole) -> Self {
        let mut hostile = Self::requesting(role);
        let (code, event) = match role {
            ClientRole::Publish => ("NetStream.Publish.Start", "Publishing"),
            ClientRole::Play => ("NetStream.Play.Start", "Playing"),
        };
        assert_eq!(hostile.status("status", code), Ok(vec![event.to_owned()]));
        hostile
    }

    /// Commands the client has sent.
    fn names(&mut self, mut bytes: &[u8]) -> Vec<String> {
        let mut names = Vec::new();
        while let Some(message) = self.reader.read(&mut bytes).unwrap() {
            if message.header.type_id == type_id::COMMAND_AMF0 {
                names.push(crate::rtmp::command::Command::parse(&message).unwrap().name);
            }
        }
        names
    }

    fn message(&mut self, csid: u32, type_id: u8, payload: &[u8]) -> Result<Vec<String>, SessionError> {
        let mut bytes = BytesMut::new();
        let header = Header { csid, timestamp: 40, length: 0, type_id, stream_id: 1 };
        self.writer.write(header, payload, &mut bytes);
        feed_client(&mut self.client, &bytes)
    }

    fn command(&mut self, name: &str, transaction: f64, argument: Value) -> Result<Vec<String>, SessionError> {
        let mut body = BytesMut::new();
        Encoder::new(&mut body).string(name).number(transaction).null().value(&argument);
        self.message(3, type_id::COMMAND_AMF0, &body)
    }

    fn status(&mut self, level: &str, code: &str) -> Result<Vec<String>, SessionError> {
        self.command("onStatus", 0.0, object(&[("level", text(level)), ("code", text(code))]))
    }
}

fn text(text: &str) -> Value {
    Value::String(text.into())
}

fn object(properties: &[(&str, Value)]) -> Value {
    Value::Object(properties.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

const ROLES: [ClientRole; 2] = [ClientRole::Publish, ClientRole::Play];

#[test]
fn what_is_no_rtmp_server_is_left() {
    let cases: [(&[u8], HandshakeError); 3] = [
        (&[6, 0, 0, 0], HandshakeError::Version { version: 6 }),
        (&[0x16, 3, 1, 2], HandshakeError::Tls),
        (b"HTTP/1.1 400 Bad Request\r\n", HandshakeError::Version { version: b'H' }),
    ];
    for (bytes, expected) in cases {
        let mut client = ClientSession::new(config(ClientRole::Play, "show"), 8, T0);
        assert_eq!(feed_client(&mut client, bytes), Err(SessionError::Handshake(expected)));
    }
}

#[test]
fn a_server_without_a_digest_and_with_a_wrong_s2_is_taken() {
    let mut client = ClientSession::new(config(ClientRole::Play, "show"), 8, T0);
    client.take_output();
    let reply = [&[3][..], &[0xEE; 1_536], &[0xDD; 1_536]].concat();
    assert_eq!(feed_client(&mut client, &reply), Ok(vec![]));
    assert!(client.take_output().starts_with(&[0xEE; 1_536]), "C2 is S1 again");
    assert_eq!(client.deadline(), Some(T0 + CONNECT_DEADLINE));
}

#[test]
fn each_silence_ends_at_its_deadline_whatever_dribbles_in() {
    let check = |client: &ClientSession, after: Duration, error: SessionError| {
        assert_eq!(client.deadline(), Some(T0 + after));
        assert_eq!(client.timeout(T0 + after - Duration::from_millis(1)), Ok(()));
        assert_eq!(client.timeout(T0 + after), Err(error));
    };
    let mut dribbled = ClientSession::new(config(ClientRole::Play, "show"), 8, T0);
    for second in 0..5 {
        dribbled.receive(&mut &[3][..], T0 + Duration::from_secs(second)).unwrap();
    }
    check(&dribbled, HANDSHAKE_DEADLINE, SessionError::HandshakeTimeout);
    for role in ROLES {
        check(&Hostile::shaken_hands(role).client, CONNECT_DEADLINE, SessionError::ConnectTimeout);
        check(&Hostile::connected(role).client, REQUEST_DEADLINE, SessionError::RequestTimeout);
        assert_eq!(Hostile::live(role).client.deadline(), None);
    }
    check(&Hostile::requesting(ClientRole::Publish).client, REQUEST_DEADLINE, SessionError::RequestTimeout);
    assert_eq!(Hostile::requesting(ClientRole::Play).client.deadline(), None, "it may wait for its stream");
}

#[test]
fn bytes_before_connect_is_answered_are_limited() {
    let mut hostile = Hostile::shaken_hands(ClientRole::Play);
    let mut bytes = BytesMut::new();
    let header = Header { csid: 6, timestamp: 0, length: 0, type_id: type_id::VIDEO, stream_id: 0 };
    hostile.writer.write(header, &vec![0; PRE_CONNECT_BYTES_MAX as usize + 1], &mut bytes);
    let mut fed = 0;
    let error = bytes.chunks(1_000).find_map(|piece| {
        fed += piece.len() as u64;
        feed_client(&mut hostile.client, piece).err()
    });
    assert_eq!(error, Some(SessionError::PreConnectBytes { bytes: fed }));
    assert!(fed <= PRE_CONNECT_BYTES_MAX + 1_000);
}

#[test]
fn media_before_play_start_and_to_publishers_is_dropped_and_bounded() {
    for mut hostile in [Hostile::requesting(ClientRole::Play), Hostile::live(ClientRole::Publish)] {
        let kinds = [type_id::AUDIO, type_id::VIDEO, type_id::DATA_AMF0, type_id::AGGREGATE];
        for message in 0..STRAY_MEDIA_MESSAGES_MAX as usize {
            assert_eq!(hostile.message(6, kinds[message % 4], b"\x17\x01"), Ok(vec![]));
        }
        assert_eq!(hostile.message(6, type_id::VIDEO, b""), Err(SessionError::StrayMedia { stream: 1 }));
    }
    let mut hostile = Hostile::live(ClientRole::Play);
    let parts = [0x63; 16].repeat(STRAY_MEDIA_MESSAGES_MAX as usize);
    assert_eq!(hostile.message(6, type_id::VIDEO, b"\x17\x01").unwrap().len(), 1);
    assert_eq!(hostile.message(6, type_id::AGGREGATE, &parts), Ok(vec![]), "an overrun ends an aggregate");
}

#[test]
fn aggregates_of_what_is_no_media_are_bounded() {
    let mut hostile = Hostile::live(ClientRole::Play);
    let part = [22, 0, 0, 1, 0, 0, 5, 0, 0, 0, 0, 7, 0, 0, 0, 12];
    let parts = part.repeat(STRAY_MEDIA_MESSAGES_MAX as usize + 1);
    assert_eq!(hostile.message(6, type_id::AGGREGATE, &parts), Err(SessionError::StrayMedia { stream: 1 }));
}

#[test]
fn control_messages_too_short_for_their_fields_end_it() {
    for role in ROLES {
        for type_id in [3, 4, 5, 6] {
            for length in 0..4 {
                let error = SessionError::ControlLength { type_id, csid: 2, length };
                assert_eq!(Hostile::live(role).message(2, type_id, &[0; 3][..length]), Err(error));
            }
        }
        for type_id in [1, 2] {
            let error = Hostile::live(role).message(2, type_id, &[0; 3]).unwrap_err();
            assert!(matches!(error, SessionError::Chunk(ChunkError::ControlLength { .. })), "{error}");
        }
        let ping = Hostile::live(role).message(2, 4, &[0, 6, 0, 0, 0]);
        assert_eq!(ping, Err(SessionError::ControlLength { type_id: 4, csid: 2, length: 5 }));
        // What is longer than its fields is read as far as they go.
        assert_eq!(Hostile::live(role).message(2, 5, &[0xFF; 4_000]), Ok(vec![]));
    }
}

#[test]
fn chunks_out_of_bounds_end_it() {
    for size in [[0; 4], [0xFF; 4]] {
        let error = Hostile::live(ClientRole::Play).message(2, 1, &size).unwrap_err();
        assert!(matches!(error, SessionError::Chunk(ChunkError::ChunkSize { .. })), "{error}");
    }
    let mut hostile = Hostile::connected(ClientRole::Play);
    let error = (3..).find_map(|csid| hostile.message(csid, type_id::SHARED_OBJECT_AMF0, b"x").err().zip(Some(csid)));
    let (error, csid) = error.unwrap();
    assert!(matches!(error, SessionError::Chunk(ChunkError::ChunkStreams { .. })), "{error}");
    assert!(csid <= CHUNK_STREAMS_MAX as u32 + 3, "{csid}");
    // A length that is announced on many csids, and one byte of each.
    let mut client = Hostile::connected(ClientRole::Play).client;
    for csid in 3..40 {
        let bytes = [csid, 0, 0, 0, 0xFF, 0xFF, 0xFF, type_id::VIDEO, 1, 0, 0, 0];
        assert_eq!(feed_client(&mut client, &[&bytes[..], &[0; 128]].concat()), Ok(vec![]));
    }
    assert!(client.reader.in_flight_bytes() < 40 * 1_024, "{}", client.reader.in_flight_bytes());
    let error = feed_client(&mut Hostile::connected(ClientRole::Play).client, &[0xC7]).unwrap_err();
    assert!(matches!(error, SessionError::Chunk(ChunkError::Format { .. })), "{error}");
}

#[test]
fn zeros_and_unknown_types_end_it() {
    let error = feed_client(&mut Hostile::connected(ClientRole::Play).client, &[0; 4_096]).unwrap_err();
    assert_eq!(error, SessionError::UnknownMessages { type_id: 0, csid: 64 });
    let mut hostile = Hostile::live(ClientRole::Play);
    for type_id in [0, 7] {
        assert_eq!(hostile.message(3, type_id, b"junk"), Ok(vec![]));
    }
    let error = hostile.message(3, 200, b"junk");
    assert_eq!(error, Err(SessionError::UnknownMessages { type_id: 200, csid: 3 }));
}

#[test]
fn amf_out_of_bounds_ends_it() {
    let amf = |error: SessionError| match error {
        SessionError::Amf { source, csid: 3, stream: 1 } => source,
        other => panic!("{other}"),
    };
    let head = b"\x02\0\x08onStatus\0\0\0\0\0\0\0\0\0\x05";
    let fed = |value: &[u8]| {
        let mut hostile = Hostile::requesting(ClientRole::Play);
        hostile.message(3, type_id::COMMAND_AMF0, &[&head[..], value].concat())
    };
    let deep = fed(&[0x0A, 0, 0, 0, 1].repeat(AMF_DEPTH_MAX + 1)).unwrap_err();
    assert!(matches!(amf(deep), AmfError::Depth { .. }));
    let many = fed(&[&[0x0A, 0xFF, 0xFF, 0xFF, 0xFF][..], &vec![5; AMF_ITEMS_MAX]].concat()).unwrap_err();
    assert!(matches!(amf(many), AmfError::Items { .. }));
    let whole = b"\x03\0\x04code\x02\0\x01x\0\0\x09";
    for end in 1..whole.len() {
        assert!(matches!(amf(fed(&whole[..end]).unwrap_err()), AmfError::Truncated { .. }), "{end}");
    }
    assert!(fed(whole).is_ok());
    // A reply without what it is to hold, and one with what it cannot be.
    for id in [Value::Undefined, Value::Number(f64::NAN), Value::Number(-1.0), Value::Number(1e300)] {
        let mut hostile = Hostile::connected(ClientRole::Publish);
        assert_eq!(hostile.command("_result", 4.0, id), Ok(vec![]));
        let said = hostile.client.take_output();
        assert_eq!(hostile.names(&said).last().map(String::as_str), Some("publish"));
    }
}

#[test]
fn floods_are_answered_within_bounds() {
    let mut hostile = Hostile::live(ClientRole::Play);
    hostile.client.take_output();
    // A tiny window is raised.
    hostile.message(2, type_id::WINDOW_ACK_SIZE, &[0, 0, 0, 1]).unwrap();
    for _ in 0..10_000 {
        hostile.message(2, type_id::USER_CONTROL, &[0, 6, 0, 0, 0, 0]).unwrap();
        hostile.message(6, type_id::VIDEO, &[0; 100]).unwrap();
    }
    let replies = hostile.client.take_output();
    assert!(replies.len() < REPLY_BYTES_MAX + 100, "{}", replies.len());
    let media = vec![0; 4 * ACK_WINDOW_BYTES_MIN as usize];
    hostile.message(6, type_id::VIDEO, &media).unwrap();
    assert_eq!(hostile.client.take_output().len(), 16, "one acknowledgement");
}

#[test]
fn replies_nobody_waits_for_change_nothing() {
    for role in ROLES {
        let mut hostile = Hostile::live(role);
        hostile.client.take_output();
        for transaction in [0.0, 1.0, 4.0, 5.0, 77.0] {
            assert_eq!(hostile.command("_result", transaction, Value::Number(9.0)), Ok(vec![]));
        }
        for name in ["onBWDone", "close", "onFCPublish", "", "connect", "publish"] {
            assert_eq!(hostile.command(name, 9.0, Value::Null), Ok(vec![]), "{name}");
        }
        assert!(!hostile.client.has_output());
    }
    // releaseStream and FCPublish are answered with _error by servers that do not know them.
    let mut hostile = Hostile::connected(ClientRole::Publish);
    for transaction in [2.0, 3.0] {
        assert_eq!(hostile.command("_error", transaction, Value::Null), Ok(vec![]));
    }
}

#[test]
fn a_refusal_is_one_at_any_level_and_says_where_to_go() {
    let ex = object(&[("code", Value::Number(302.0)), ("redirect", text("rtmp://other/live"))]);
    let code = "NetConnection.Connect.Rejected";
    let rejected = object(&[("level", text("status")), ("code", text(code)), ("ex", ex)]);
    for name in ["_error", "onStatus"] {
        let mut hostile = Hostile::shaken_hands(ClientRole::Play);
        let error = hostile.command(name, 1.0, rejected.clone()).unwrap_err();
        assert_eq!(error, refusal(code, "", Some("rtmp://other/live")));
    }
    for (code, is_not_found) in [("NetStream.Play.StreamNotFound", true), ("NetStream.Play.Failed", false)] {
        for level in ["status", "error"] {
            let error = Hostile::requesting(ClientRole::Play).status(level, code).unwrap_err();
            assert_eq!(error.is_not_found(), is_not_found, "{code}");
        }
        // While it plays, it is for the host to say what that means.
        let events = Hostile::live(ClientRole::Play).status("error", code).unwrap();
        assert!(events[0].starts_with("Status"), "{events:?}");
    }
}

#[test]
fn a_stream_ends_once_and_may_come_back() {
    let mut hostile = Hostile::live(ClientRole::Play);
    assert_eq!(hostile.status("status", "NetStream.Play.UnpublishNotify"), Ok(vec!["Ended".to_owned()]));
    assert_eq!(hostile.message(2, type_id::USER_CONTROL, &[0, 1, 0, 0, 0, 1]), Ok(vec![]));
    assert_eq!(hostile.status("status", "NetStream.Play.Stop"), Ok(vec![]));
    assert_eq!(hostile.status("status", "NetStream.Play.PublishNotify"), Ok(vec!["Playing".to_owned()]));
    assert_eq!(hostile.status("status", "NetConnection.Connect.Closed"), Ok(vec!["Ended".to_owned()]));
}
