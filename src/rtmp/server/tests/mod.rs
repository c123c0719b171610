//! A server session against hand-written peers: what they say, and what they hear.

mod connecting;
mod hostile;
mod sound;

use super::*;
use crate::{
    limits::{
        ACK_WINDOW_BYTES_DEFAULT, ACK_WINDOW_BYTES_MIN, AMF_DEPTH_MAX, AMF_ITEMS_MAX, CONNECT_ATTEMPTS_MAX,
        CONNECT_DEADLINE, HANDSHAKE_DEADLINE, MESSAGE_STREAMS_MAX, PRE_CONNECT_BYTES_MAX, REPLY_BYTES_MAX,
        REQUEST_DEADLINE, STRAY_MEDIA_MESSAGES_MAX,
    },
    rtmp::{
        amf0::{AmfError, Decoder, Encoder, Value},
        chunk::{ChunkError, ChunkWriter},
        handshake::{ClientHandshake, HandshakeError},
        message::{Header, type_id},
    },
};

const T0: Duration = Duration::from_secs(1_000);
const CHUNK_BYTES: usize = 4_096;

/// A peer that says what a test wants, and the session it says it to.
struct Peer {
    session: ServerSession,
    writer: ChunkWriter,
    reader: ChunkReader,
    now: Duration,
}

/// A message of the server's: a command as its values, anything else as it is.
#[derive(Debug, PartialEq)]
enum Said {
    Command(u32, Vec<Value>),
    Data(u32, Vec<Value>),
    Control(u8, Vec<u8>),
}

fn text(text: &str) -> Value {
    Value::String(text.into())
}

fn object(properties: &[(&str, Value)]) -> Value {
    Value::Object(properties.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

fn body(values: &[Value]) -> BytesMut {
    let mut body = BytesMut::new();
    let mut encoder = Encoder::new(&mut body);
    for value in values {
        encoder.value(value);
    }
    body
}

impl Peer {
    fn shaken_hands() -> Self {
        Self::shaken_hands_with(ServerConfig::new(CHUNK_BYTES))
    }

    fn shaken_hands_with(config: ServerConfig) -> Self {
        let mut session = ServerSession::new(config, 7, T0);
        let (mut client, mut bytes) = (ClientHandshake::new(8, false), BytesMut::new());
        client.start(0, &mut bytes);
        assert_eq!(session.receive(&mut &bytes[..], T0), Ok(None));
        let (reply, mut c2) = (session.take_output(), BytesMut::new());
        assert_eq!(reply.len(), 3_073);
        assert_eq!(client.receive(&mut &reply[..], 0, &mut c2), Ok(true));
        assert_eq!(session.receive(&mut &c2[..], T0), Ok(None));
        Self { session, writer: ChunkWriter::new(), reader: ChunkReader::new(), now: T0 }
    }

    fn connected() -> Self {
        let mut peer = Self::shaken_hands();
        let connect = object(&[("app", text("live")), ("tcUrl", text("rtmp://host/live"))]);
        assert_eq!(peer.command(0, &[text("connect"), Value::Number(1.0), connect]), Ok(None));
        peer.said();
        peer
    }

    /// Connected, with message stream 1.
    fn with_stream() -> Self {
        let mut peer = Self::connected();
        assert_eq!(peer.call("createStream", 2.0, &[]), Ok(None));
        assert_eq!(peer.said(), [result(2.0, Value::Number(1.0))]);
        peer
    }

    fn publishing() -> Self {
        let mut peer = Self::with_stream();
        assert_eq!(peer.publish(1, "show"), Ok(Some(publish_event(1, "live/show"))));
        peer.session.accept_publish(1);
        peer.said();
        peer
    }

    fn playing() -> Self {
        let mut peer = Self::with_stream();
        assert_eq!(peer.play(1, "show"), Ok(Some(play_event(1, "live/show"))));
        peer.session.start_play(1);
        peer.said();
        peer
    }

    /// Sends one message; the event, media written out.
    fn message(&mut self, stream_id: u32, type_id: u8, payload: &[u8]) -> Result<Option<String>, SessionError> {
        let mut bytes = BytesMut::new();
        let csid = if type_id < 8 { 2 } else { 3 };
        self.writer.write(Header { csid, timestamp: 40, length: 0, type_id, stream_id }, payload, &mut bytes);
        self.receive(&bytes)
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<Option<String>, SessionError> {
        let mut input = bytes;
        let event = self.session.receive(&mut input, self.now)?.map(|event| format!("{event:?}"));
        assert!(input.is_empty() || event.is_some());
        Ok(event)
    }

    fn command(&mut self, stream: u32, values: &[Value]) -> Result<Option<String>, SessionError> {
        self.message(stream, type_id::COMMAND_AMF0, &body(values))
    }

    fn call(&mut self, name: &str, transaction: f64, arguments: &[Value]) -> Result<Option<String>, SessionError> {
        self.call_on(0, name, transaction, arguments)
    }

    fn call_on(
        &mut self,
        stream: u32,
        name: &str,
        transaction: f64,
        arguments: &[Value],
    ) -> Result<Option<String>, SessionError> {
        self.command(stream, &[&[text(name), Value::Number(transaction), Value::Null], arguments].concat())
    }

    fn publish(&mut self, stream: u32, name: &str) -> Result<Option<String>, SessionError> {
        self.call_on(stream, "publish", 5.0, &[text(name), text("live")])
    }

    fn play(&mut self, stream: u32, name: &str) -> Result<Option<String>, SessionError> {
        self.call_on(stream, "play", 5.0, &[text(name)])
    }

    /// What the server said since the last call.
    fn said(&mut self) -> Vec<Said> {
        let bytes = self.session.take_output();
        let (mut input, mut said) = (&bytes[..], Vec::new());
        while let Some(message) = self.reader.read(&mut input).unwrap() {
            let Header { type_id, stream_id, csid, .. } = message.header;
            let mut decoder = Decoder::new(message.payload);
            let mut values = || std::iter::from_fn(|| decoder.next_value().unwrap()).collect();
            said.push(match type_id {
                type_id::COMMAND_AMF0 => Said::Command(stream_id, values()),
                type_id::DATA_AMF0 => Said::Data(stream_id, values()),
                _ => Said::Control(type_id, message.payload.to_vec()),
            });
            assert_eq!(csid, if type_id < 8 { 2 } else { 3 });
        }
        said
    }

    /// The codes of the commands the server said since the last call, with the stream each was about.
    fn codes(&mut self) -> Vec<(u32, String)> {
        let said = self.said();
        let code = |values: &[Value]| Some(values.last()?.get("code")?.as_str()?.to_owned());
        said.iter()
            .filter_map(|said| match said {
                Said::Command(stream, values) => Some((*stream, code(values)?)),
                _ => None,
            })
            .collect()
    }
}

fn result(transaction: f64, value: Value) -> Said {
    Said::Command(0, vec![text("_result"), Value::Number(transaction), Value::Null, value])
}

fn key(name: &str) -> StreamKey {
    StreamKey::new("", "", name).unwrap()
}

fn publish_event(stream: u32, name: &str) -> String {
    format!("{:?}", ServerEvent::Publish { stream, key: key(name), query: String::new() })
}

fn play_event(stream: u32, name: &str) -> String {
    format!("{:?}", ServerEvent::Play { stream, key: key(name), query: String::new() })
}

fn refused(stream: u32, reason: Refused) -> Result<Option<String>, SessionError> {
    Ok(Some(format!("{:?}", ServerEvent::Refused { stream, reason })))
}

fn media(stream: u32, kind: Kind, payload: &[u8]) -> Result<Option<String>, SessionError> {
    Ok(Some(format!("{:?}", ServerEvent::Media { stream, kind, timestamp: 40, payload })))
}

fn codes(stream: u32, codes: &[&str]) -> Vec<(u32, String)> {
    codes.iter().map(|code| (stream, (*code).to_owned())).collect()
}
