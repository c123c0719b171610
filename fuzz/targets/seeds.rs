//! Where the corpora begin: conversations of the project's own sessions, commands of other clients, odd chunks and tags.

use std::time::Duration;

use bytes::BytesMut;
use shardcast::rtmp::{
    amf0::{Encoder, Value},
    chunk::ChunkWriter,
    client::{ClientConfig, ClientEvent, ClientRole, ClientSession},
    handshake::{ClientHandshake, ServerHandshake},
    message::{Header, Kind, type_id},
    server::{ServerConfig, ServerEvent, ServerSession},
};

use super::HANDSHAKE;

pub type Seed = (&'static str, String, Vec<u8>);

/// Target, name and bytes of each.
pub fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    conversations(&mut seeds);
    commands(&mut seeds);
    chunks(&mut seeds);
    values(&mut seeds);
    amf3_values(&mut seeds);
    handshakes(&mut seeds);
    tags(&mut seeds);
    aggregates(&mut seeds);
    timestamps(&mut seeds);
    data_messages(&mut seeds);
    reconnect_urls(&mut seeds);
    proxy_headers(&mut seeds);
    splices(&mut seeds);
    approaches(&mut seeds);
    scripts(&mut seeds);
    seeds
}

const PROXY_HEADERS: [(&str, &[u8]); 6] = [
    ("v1-tcp4", b"PROXY TCP4 192.0.2.7 198.51.100.1 8080 1935\r\n\x03"),
    ("v1-tcp6", b"PROXY TCP6 2001:db8::9 2001:db8::1 65535 1935\r\n\x03"),
    ("v1-unknown", b"PROXY UNKNOWN\r\n\x03"),
    ("v2-local", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0\x03"),
    ("v2-tcp4", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\xC0\0\x02\x07\xC6\x33\x64\x01\x1F\x90\x07\x8F\x04\0\x01\0\x03"),
    ("none", b"\x03\0\0\0\0"),
];

fn proxy_headers(seeds: &mut Vec<Seed>) {
    for (name, bytes) in PROXY_HEADERS {
        add(seeds, &["proxy_header"], name, bytes);
    }
}

fn add(seeds: &mut Vec<Seed>, targets: &[&'static str], name: &str, bytes: &[u8]) {
    seeds.extend(targets.iter().map(|target| (*target, name.to_owned(), bytes.to_vec())));
}

const ON_METADATA: &[u8] =
    b"\x02\0\x0AonMetaData\x08\0\0\0\x02\0\x05width\0\x40\x94\0\0\0\0\0\0\0\x0CvideocodecidB\0\0\0\0\0\0\0\0\0\x09";

/// Short media as an encoder sends it: headers, a keyframe, audio, an inter frame, the end.
const MEDIA: [(Kind, u32, &[u8]); 7] = [
    (Kind::Video, 0, b"\x17\0\0\0\0\x01\x64\0\x1F\xFF\xE1\0\x04\x67\x64\0\x1F\x01\0\x02\x68\xEE"),
    (Kind::Audio, 0, b"\xAF\0\x12\x10"),
    (Kind::Video, 0, b"\x17\x01\0\0\0\0\0\0\x08\x65\x88\x84\0\x33\xFF\xFE\xF6"),
    (Kind::Audio, 0, b"\xAF\x01\x21\x10\x04\x60\x8C\x1C"),
    (Kind::Audio, 23, b"\xAF\x01\x21\x10\x04\x60\x8C\x1C"),
    (Kind::Video, 40, b"\x27\x01\0\0\x28\0\0\0\x04\x41\x9A\x24\x6C"),
    (Kind::Video, 80, b"\x17\x02\0\0\0"),
];

fn conversations(seeds: &mut Vec<Seed>) {
    for (role, name) in [(ClientRole::Publish, "publish"), (ClientRole::Play, "play")] {
        for stream in ["show", "other"] {
            let (to_server, to_client) = converse(role, stream);
            let name = format!("{name}-{stream}");
            add(seeds, &["chunk_reader", "server_session", "core_session"], &name, &to_server);
            add(seeds, &["chunk_reader", "client_session"], &format!("{name}-reply"), &to_client);
        }
    }
    let hops = ["a", "b", "c", "d", "e", "f", "g", "h", "i"].map(str::to_owned).to_vec();
    let relay = ClientConfig::new(ClientRole::Publish, "rtmp://host/live", "live", "show");
    let (to_server, _) = converse_as(ClientConfig { relay: true, hops, ..relay });
    add(seeds, &["server_session", "core_session"], "relay", &to_server);
    let mut refusal = BytesMut::new();
    Encoder::new(&mut refusal).string("_error").number(1.0).null().value(&Value::Object(vec![
        ("code".to_owned(), Value::String("NetConnection.Connect.Rejected".to_owned())),
        ("ex".to_owned(), Value::Object(vec![("redirect".to_owned(), Value::String("rtmp://other/live".to_owned()))])),
    ]));
    let mut bytes = BytesMut::new();
    let header = Header { csid: 3, timestamp: 0, length: 0, type_id: type_id::COMMAND_AMF0, stream_id: 0 };
    ChunkWriter::new().write(header, &refusal, &mut bytes);
    add(seeds, &["client_session"], "redirect", &bytes);
}

/// What a client and an obliging server say to each other after the handshake.
fn converse(role: ClientRole, name: &str) -> (Vec<u8>, Vec<u8>) {
    converse_as(ClientConfig::new(role, "rtmp://host/live", "live", name))
}

fn converse_as(config: ClientConfig) -> (Vec<u8>, Vec<u8>) {
    let now = Duration::ZERO;
    let config = ClientConfig { chunk_bytes: 4_096, ..config };
    let mut client = ClientSession::new(config, 1, now);
    let mut server = ServerSession::new(ServerConfig::new(4_096), 1, now);
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    loop {
        let output = client.take_output();
        to_server.extend_from_slice(&output);
        serve(&mut server, &output);
        let reply = server.take_output();
        to_client.extend_from_slice(&reply);
        let mut input = &reply[..];
        while let Some(event) = client.receive(&mut input, now).expect("own server") {
            match event {
                ClientEvent::Publishing => {
                    client.send_metadata(ON_METADATA);
                    MEDIA.iter().for_each(|(kind, at, payload)| client.send_media(*kind, *at, payload));
                    client.close();
                }
                ClientEvent::Playing => {
                    let mut media = BytesMut::new();
                    let mut writer = ChunkWriter::new();
                    for (kind, timestamp, payload) in MEDIA {
                        write(&mut writer, kind.type_id(), 6, 1, timestamp, payload, &mut media);
                    }
                    to_client.extend_from_slice(&media);
                    server.end_play(1);
                    client.close();
                }
                _ => {}
            }
        }
        if output.is_empty() && reply.is_empty() {
            return (to_server.split_off(HANDSHAKE.len()), to_client.split_off(HANDSHAKE.len()));
        }
    }
}

pub fn serve(server: &mut ServerSession, mut input: &[u8]) {
    loop {
        let (publish, play) = match server.receive(&mut input, Duration::ZERO).expect("own client") {
            Some(ServerEvent::Publish { stream, .. }) => (Some(stream), None),
            Some(ServerEvent::Play { stream, .. }) => (None, Some(stream)),
            Some(_) => (None, None),
            None => return,
        };
        publish.into_iter().for_each(|stream| server.accept_publish(stream));
        play.into_iter().for_each(|stream| server.start_play(stream));
    }
}

fn write(
    writer: &mut ChunkWriter,
    type_id: u8,
    csid: u32,
    stream_id: u32,
    timestamp: u32,
    payload: &[u8],
    out: &mut BytesMut,
) {
    writer.write(Header { csid, timestamp, length: 0, type_id, stream_id }, payload, out);
}

/// A client's messages, one after the other.
#[derive(Default)]
struct Script {
    writer: ChunkWriter,
    out: BytesMut,
}

impl Script {
    fn connected() -> Self {
        let script = Self::default();
        let mut body = BytesMut::new();
        let mut out = Encoder::new(&mut body);
        out.string("connect").number(1.0).object().key("app").string("live").key("tcUrl").string("rtmp://h/live");
        out.key("flashVer").string("LNX 9,0,124,2").key("capsEx").number(15.0).key("fourCcList").strict_array(1);
        out.string("*").end();
        script.message(type_id::COMMAND_AMF0, 0, &body).command(0, "createStream", 2.0, &[])
    }

    fn message(mut self, type_id: u8, stream: u32, payload: &[u8]) -> Self {
        write(&mut self.writer, type_id, 3, stream, 0, payload, &mut self.out);
        self
    }

    fn command(self, stream: u32, name: &str, transaction: f64, arguments: &[Value]) -> Self {
        let mut body = BytesMut::new();
        let mut out = Encoder::new(&mut body);
        out.string(name).number(transaction).null();
        for value in arguments {
            out.value(value);
        }
        self.message(type_id::COMMAND_AMF0, stream, &body)
    }
}

fn commands(seeds: &mut Vec<Seed>) {
    let text = |text: &str| [Value::String(text.to_owned())];
    let flag = |flag: bool| [Value::Boolean(flag)];
    let number = |number: f64| [Value::Number(number)];
    let aggregate = [
        b"\x09\0\0\x09\0\0\0\0\0\0\0",
        &MEDIA[2].2[..9],
        b"\0\0\0\x14\x08\0\0\x04\0\0\x17\0\0\0\0",
        MEDIA[1].2,
        b"\0\0\0\x0F",
    ]
    .concat();
    let scripts = [
        (
            "two-plays",
            Script::connected()
                .command(0, "createStream", 3.0, &[])
                .command(1, "play", 0.0, &text("show"))
                .command(2, "play", 0.0, &text("show"))
                .message(type_id::USER_CONTROL, 0, b"\0\x03\0\0\0\x01\0\0\x0B\xB8")
                .command(1, "receiveVideo", 0.0, &flag(false))
                .command(2, "receiveAudio", 0.0, &flag(false))
                .command(1, "pause", 0.0, &[Value::Boolean(true), Value::Number(0.0)])
                .command(1, "pause", 0.0, &flag(false))
                .command(1, "seek", 0.0, &number(0.0))
                .command(0, "deleteStream", 0.0, &number(1.0))
                .command(2, "closeStream", 0.0, &[]),
        ),
        (
            "eight-views",
            (2..9)
                .fold(Script::connected(), |script, id| script.command(0, "createStream", id.into(), &[]))
                .command(1, "play", 0.0, &text("show"))
                .command(2, "play", 0.0, &text("show"))
                .command(3, "play", 0.0, &text("nobody?token=1"))
                .command(8, "play2", 0.0, &[Value::Object(vec![("streamName".to_owned(), text("show")[0].clone())])]),
        ),
        (
            "publish-and-play-itself",
            Script::connected()
                .command(0, "FCPublish", 3.0, &text("own"))
                .command(0, "createStream", 3.0, &[])
                .command(1, "publish", 0.0, &text("own"))
                .command(2, "play", 0.0, &text("own"))
                .message(type_id::DATA_AMF0, 1, &[&b"\x02\0\x0D@setDataFrame"[..], ON_METADATA].concat())
                .message(type_id::VIDEO, 1, MEDIA[0].2)
                .message(type_id::VIDEO, 1, MEDIA[2].2)
                .message(type_id::AGGREGATE, 1, &aggregate)
                .message(type_id::DATA_AMF3, 1, b"\0\x02\0\x06onText\x05")
                .message(type_id::VIDEO, 1, b"end")
                .command(0, "FCUnpublish", 0.0, &text("own"))
                .command(1, "publish", 0.0, &text("own")),
        ),
        (
            "taken-and-bad-names",
            Script::connected()
                .command(1, "publish", 0.0, &text("show"))
                .command(1, "publish", 0.0, &text("../x"))
                .command(1, "play", 0.0, &text(""))
                .command(9, "play", 0.0, &text("show"))
                .command(1, "publish", 0.0, &[])
                .command(0, "FCUnpublish", 0.0, &text("show"))
                .command(0, "unheardOf", 7.0, &[])
                .message(type_id::VIDEO, 1, MEDIA[2].2)
                .message(type_id::AUDIO, 0, MEDIA[1].2),
        ),
        (
            "control",
            Script::connected()
                .message(type_id::WINDOW_ACK_SIZE, 0, &[0; 4])
                .message(type_id::SET_PEER_BANDWIDTH, 0, b"\0\0\0\x01\x02")
                .message(type_id::USER_CONTROL, 0, b"\0\x06\0\0\0\x07")
                .message(type_id::ACKNOWLEDGEMENT, 0, &[0xFF; 4])
                .message(type_id::SHARED_OBJECT_AMF0, 0, b"so")
                .message(7, 0, b"?")
                .message(type_id::SET_CHUNK_SIZE, 0, &[0; 4]),
        ),
    ];
    for (name, script) in scripts {
        add(seeds, &["chunk_reader", "server_session", "core_session"], name, &script.out);
    }
}

fn chunks(seeds: &mut Vec<Seed>) {
    let cases: [(&str, &[&[u8]]); 9] = [
        ("interleaved", &[b"\x04\0\0\x01\0\x01\0\x09\x01\0\0\0", &[7; 128], b"\x05\0\0\x01\0\0\x02\x08\x01\0\0\0ab\xC4", &[8; 128]]),
        ("extended", &[b"\x04\xFF\xFF\xFF\0\0\x81\x09\x01\0\0\0\x01\0\0\0", &[1; 128], b"\xC4\x01\0\0\0\x02\xC4\x01\0\0\0", &[3; 128]]),
        ("extended-omitted", &[b"\x04\xFF\xFF\xFF\0\0\x81\x09\x01\0\0\0\x01\0\0\0", &[1; 128], b"\xC4\x02\x84\0\0\x01\x04"]),
        ("short-headers", &[b"\x06\0\0\x0A\0\0\x01\x08\x01\0\0\0a\x46\0\0\x0A\0\0\x02\x08bc\x86\0\0\x05de\xC6fg\xC6hi"]),
        ("wide-csids", &[b"\0\0\0\0\0\0\0\x01\x08\0\0\0\0a\x01\0\x01\0\0\0\0\0\x01\x08\0\0\0\0b\x01\0\0\0\0\0\0\0\x01\x08\0\0\0\0c"]),
        ("size-in-a-message", &[b"\x04\0\0\0\0\0\x85\x09\x01\0\0\0", &[1; 128], b"\x02\0\0\0\0\0\x04\x01\0\0\0\0\0\0\0\x02\xC4ab\xC4cd\xC4e"]),
        ("aborted", &[b"\x04\0\0\0\0\0\x81\x09\x01\0\0\0", &[1; 128], b"\x02\0\0\0\0\0\x04\x02\0\0\0\0\0\0\0\x04\xC4", &[2; 128], b"\xC4z"]),
        ("restarted", &[b"\x04\0\0\0\0\0\x81\x09\x01\0\0\0", &[1; 128], b"\x44\0\0\x01\0\0\x01\x09x"]),
        ("librtmp-ping", &[b"\x42\0\0\0\0\0\x06\x04\0\x03\0\0\0\x01"]),
    ];
    for (name, parts) in cases {
        add(seeds, &["chunk_reader", "server_session"], name, &parts.concat());
    }
}

fn values(seeds: &mut Vec<Seed>) {
    let name = |name: &str| name.to_owned();
    let list = [
        ("number", Value::Number(f64::NAN)),
        ("long-string", Value::LongString("x".repeat(300))),
        ("xml", Value::XmlDocument(name("<a/>"))),
        ("date", Value::Date { unix_ms: 1e12, zone: -60 }),
        ("typed", Value::TypedObject { class: name("c"), properties: vec![(name(""), Value::Unsupported)] }),
        (
            "mixed",
            Value::EcmaArray(vec![
                (name("a"), Value::StrictArray(vec![Value::Null, Value::Undefined, Value::Boolean(true)])),
                (name("b"), Value::Object(vec![(name("c"), Value::String(name("é")))])),
            ]),
        ),
        ("deep", (0..31).fold(Value::Null, |inner, _| Value::StrictArray(vec![inner]))),
    ];
    for (name, value) in list {
        let mut body = BytesMut::new();
        Encoder::new(&mut body).value(&value).value(&Value::Boolean(false));
        add(seeds, &["amf0"], name, &body);
    }
    add(seeds, &["amf0"], "metadata", ON_METADATA);
    add(seeds, &["amf0"], "too-deep", &b"\x0A\0\0\0\x01".repeat(40));
    add(seeds, &["amf0"], "huge-count", b"\x0A\xFF\xFF\xFF\xFF\x05\x05\x05");
    add(seeds, &["amf0"], "reference", b"\x03\0\x01a\x07\0\0\0\0\x09");
    add(seeds, &["amf0"], "not-utf8", b"\x02\0\x02\xC3\x28\x05");
    let (to_server, _) = converse(ClientRole::Publish, "show");
    // The body of connect, whole in its chunk, behind Set Chunk Size.
    let length = usize::from(to_server[22]) | usize::from(to_server[21]) << 8;
    add(seeds, &["amf0"], "connect", &to_server[28..28 + length]);
}

fn amf3_values(seeds: &mut Vec<Seed>) {
    let list: [(&str, &[u8]); 18] = [
        ("simple", b"\0\x01\x02\x03\x04\x7F\x04\x81\x00\x04\xFF\xFF\xFF\xFF\x05\x3F\xF8\0\0\0\0\0\0"),
        ("strings", b"\x06\x0Bk\xC3\xA4se\x06\x00\x06\x01"),
        ("xml", b"\x07\x09<a/>\x0B\x09<b/>\x07\x00"),
        ("date", b"\x08\x01\x42\x6D\x1A\x94\xA2\0\0\0\x08\x00"),
        ("list", b"\x09\x05\x01\x02\x03"),
        ("mixed-array", b"\x09\x05\x03a\x01\x01\x02\x03"),
        ("objects", b"\x0A\x1B\x01\x03s\x01\x03d\x02\x01\x0A\x01\x03\x01\x0A\x00"),
        ("typed", b"\x0A\x13\x07a.B\x03s\x01\x0A\x01\x03"),
        ("bytes", b"\x0C\x07\x01\x02\x03\x0C\x00"),
        (
            "vectors",
            b"\x0D\x03\0\0\0\0\x07\x0E\x03\x01\xFF\xFF\xFF\xFF\x0F\x03\0\x3F\xF8\0\0\0\0\0\0\x10\x03\0\x03T\x01",
        ),
        ("dictionary", b"\x11\x05\0\x04\x01\x06\x03v\x06\x03k\x01"),
        ("cycle", b"\x09\x03\x01\x09\x00"),
        ("externalizable", b"\x0A\x07\x03Cxyz"),
        ("huge-count", b"\x09\xFF\xFF\xFF\xFF\x01"),
        ("unread-reference", b"\x06\x08"),
        ("not-utf8", b"\x06\x07a\xFFb"),
        ("connect", b"\x06\x0Fconnect\x04\x01\x0A\x0B\x01\x07app\x06\x09live\x0BtcUrl\x06\x1Brtmp://h/live\x01"),
        ("metadata", b"\x06\x15onMetaData\x0A\x0B\x01\x0Bwidth\x04\x8A\x00\x19videocodecid\x04\x07\x01"),
    ];
    for (name, bytes) in list {
        add(seeds, &["amf3"], name, bytes);
    }
    add(seeds, &["amf3"], "deep", &[&b"\x09\x03\x01".repeat(32)[..], b"\x01"].concat());
    add(seeds, &["amf3"], "too-deep", &b"\x0A\x0B\x01\x03a".repeat(40));
    let publish = b"\0\x02\0\x07publish\x11\x04\0\x05\x11\x06\x09show\x11\x06\x09live";
    let metadata = b"\0\x02\0\x0D@setDataFrame\x02\0\x0AonMetaData\x11\x0A\x0B\x01\x0Bwidth\x04\x8A\x00\x01";
    let flash = Script::connected()
        .message(type_id::COMMAND_AMF3, 1, publish)
        .message(type_id::DATA_AMF3, 1, metadata)
        .message(type_id::VIDEO, 1, MEDIA[2].2)
        .message(type_id::COMMAND_AMF3, 0, b"\x06\x19createStream\x04\x09\x01")
        .command(2, "receiveVideo", 0.0, &[Value::Boolean(false)])
        .command(2, "play", 0.0, &[Value::String("mp4:show%20x".to_owned())])
        .command(2, "play", 0.0, &[Value::String("show?vhost=v".to_owned())])
        .command(2, "pauseRaw", 0.0, &[Value::Boolean(true), Value::Number(0.0)])
        .command(2, "pauseRaw", 0.0, &[Value::Boolean(false), Value::Number(0.0)])
        .command(0, "checkBandwidth", 8.0, &[])
        .command(1, "publish", 0.0, &[Value::Boolean(false)]);
    add(seeds, &["chunk_reader", "server_session", "core_session"], "flash", &flash.out);
}

fn handshakes(seeds: &mut Vec<Seed>) {
    for digest in [false, true] {
        let (mut to_server, mut to_client) = (BytesMut::new(), BytesMut::new());
        let mut client = ClientHandshake::new(3, digest);
        let mut server = ServerHandshake::new(5);
        client.start(1, &mut to_server);
        let first = to_server.len();
        server.receive(&mut &to_server[..], 2, &mut to_client).expect("own client");
        client.receive(&mut &to_client[..], 3, &mut to_server).expect("own server");
        assert_eq!(first, 1_537);
        to_server.extend_from_slice(b"\x02rest");
        add(seeds, &["handshake"], if digest { "digest" } else { "simple" }, &to_server);
        add(seeds, &["handshake"], if digest { "digest-reply" } else { "simple-reply" }, &to_client);
        add(seeds, &["handshake"], if digest { "digest-cut" } else { "simple-cut" }, &to_server[..2_000]);
    }
    for (name, bytes) in [
        ("tls", &b"\x16\x03\x01\x02\0\x01"[..]),
        ("http", b"GET / HTTP/1.1\r\n"),
        ("http2", b"PRI * HTTP/2.0\r\n\r\n"),
        ("rtmpe", b"\x06\0\0\0\0"),
        ("almost-http", b"PO"),
    ] {
        add(seeds, &["handshake"], name, bytes);
    }
}

fn tags(seeds: &mut Vec<Seed>) {
    let tags: [(u8, &[u8]); 22] = [
        (1, b"\x90hvc1conf"),
        (1, b"\x91hvc1\0\0\0nalu"),
        (1, b"\xA3hvc1nalu"),
        (1, b"\x94av01\x02\0\x09colorInfo"),
        (1, b"\x95av01desc"),
        (1, b"\xD1\x00"),
        (1, b"\x97\x02\0\0\x05\x07\x00x\x10hvc1conf"),
        (1, b"\xA7\xFF\0\x01xy\x01hvc1nalu"),
        (1, b"\x97\x00x\x06\x03hvc1\x00nalu"),
        (1, b"\x96\x00hvc1\x07conf"),
        (1, b"\x96\x13hvc1\x00\0\0\x02ab\xFF\0\0\x03cde"),
        (1, b"\x96\x20hvc1\x00\0\0\x02abav01\x01\0\0\x01c"),
        (1, b"\x1C\x01\0\0\0nalu"),
        (1, b"\x12h263"),
        (0, b"\x94Opus\x01\x02"),
        (0, b"\x90OpusHead"),
        (0, b"\x97\x00x\x05\x01Opus\x03data"),
        (0, b"\x95\x11mp4a\x00\0\0\x01a\x01\0\0\x01b"),
        (0, b"\x2Fmp3"),
        (2, ON_METADATA),
        (2, b"\x02\0\x0F@clearDataFrame\x02\0\x0AonMetaData"),
        (2, b"\x02\0\x06onText\x05"),
    ];
    let message = |kind: u8, ms: u8, payload: &[u8]| [&[kind, ms, payload.len() as u8], payload].concat();
    for (index, (kind, payload)) in tags.iter().enumerate() {
        add(seeds, &["media_tags"], &format!("tag-{index}"), payload);
        let twice = [message(*kind, 9, payload), message(*kind, 40, payload)].concat();
        add(seeds, &["media_tags"], &format!("twice-{index}"), &twice);
    }
    let kinds = |kind: Kind| u8::from(kind == Kind::Video);
    let live: Vec<u8> = MEDIA.iter().flat_map(|(kind, _, payload)| message(kinds(*kind), 20, payload)).collect();
    let metadata = message(2, 0, ON_METADATA);
    add(seeds, &["media_tags"], "stream", &[&metadata[..], &live, &live].concat());
    let audio: Vec<u8> = (0..8).flat_map(|_| message(0, 250, MEDIA[3].2)).collect();
    add(seeds, &["media_tags"], "audio-only", &audio);
    add(seeds, &["media_tags"], "long", &message(1, 0, &[&b"\x17\x01\0\0\0"[..], &[5; 240]].concat()).repeat(6));
}

fn aggregates(seeds: &mut Vec<Seed>) {
    let tag = |kind: u8, time: u8, payload: &[u8]| {
        let head = [kind, 0, 0, payload.len() as u8, 0, 0, time, 0, 0, 0, 0];
        [&head[..], payload, &[0, 0, 0, payload.len() as u8 + 11]].concat()
    };
    let media = [tag(8, 5, b"\xAF\x01a"), tag(9, 7, b"\x17\x01\0\0\0v"), tag(18, 5, b"\x02\0\x01d")].concat();
    add(seeds, &["aggregate"], "media", &[&b"\0\0\x10\0"[..], &media].concat());
    add(seeds, &["aggregate"], "wrap-and-nested", &[&b"\xFF\xFF\xFF\xFE"[..], &tag(22, 0, &media), &media].concat());
    add(seeds, &["aggregate"], "overrun", &[&b"\0\0\0\0"[..], &media[..media.len() - 6]].concat());
}

/// Messages of the target timeline: what, track, timestamp or step, time passed.
fn timestamps(seeds: &mut Vec<Seed>) {
    let script = |messages: &[(u8, u8, u32, u16)]| -> Vec<u8> {
        let bytes = |&(what, track, step, passed): &(u8, u8, u32, u16)| {
            [&[what, track][..], &step.to_be_bytes()[..], &passed.to_be_bytes()[..]].concat()
        };
        messages.iter().flat_map(bytes).collect()
    };
    let (video, audio, header, data, republish, at) = (0, 3, 5, 6, 7, 0x80);
    let steady = [(video, 0, 40 << 16, 40), (audio, 0, 0, 0), (data, 0, 0, 0), (video, 0, 40 << 16, 40)];
    add(seeds, &["timeline"], "steady", &script(&steady));
    let restart = [(video | at, 0, 500_000, 0), (audio | at, 0, 500_010, 9), (header | at, 0, 0, 0)];
    let restarted = [(video | at, 0, 0, 40), (audio | at, 0, 500_031, 1), (audio | at, 0, 23, 1)];
    add(seeds, &["timeline"], "restart", &script(&[&restart[..], &restarted].concat()));
    let leap = [(video | at, 0, 1_000, 0), (audio | at, 1, 1_000, 0), (video | at, 0, 0x8000_03E8, 40)];
    add(seeds, &["timeline"], "leap", &script(&[&leap[..], &[(video | at, 0, 1_080, 40)]].concat()));
    add(seeds, &["timeline"], "republish", &script(&[&steady[..], &[(republish, 0, 0, 2_000)], &steady].concat()));
    add(seeds, &["timeline"], "wrap", &script(&[(video | at, 0, u32::MAX - 20, 0), (video, 0, 40 << 16, 40)]));
}

/// Messages of the target data_messages, each behind its length.
fn data_messages(seeds: &mut Vec<Seed>) {
    let script = |messages: &[&[u8]]| -> Vec<u8> {
        messages.iter().flat_map(|body| [&(body.len() as u16).to_be_bytes()[..], *body].concat()).collect()
    };
    let set = [b"\x02\0\x0D@setDataFrame", ON_METADATA].concat();
    let clear = [b"\x02\0\x0F@clearDataFrame", &ON_METADATA[..13]].concat();
    let cue: &[u8] = b"\x02\0\x0AonCuePoint\x05";
    add(seeds, &["data_messages"], "set-and-clear", &script(&[&set, cue, ON_METADATA, &clear, &set]));
    add(seeds, &["data_messages"], "others", &script(&[cue, b"\x02\0\x0AonTextData\x03\0\0\x09", b"\xFF\0", b""]));
}

fn reconnect_urls(seeds: &mut Vec<Seed>) {
    let base = "rtmps://u:p@old.example:1936/live/inst?token=s\n";
    let references =
        ["rtmp://new/app", "//[2001:db8::1]:19/a", "/a/./b/../c", "../x?y#z", "?q", "", "http://h/a", "//h:99999/a"];
    for (index, reference) in references.iter().enumerate() {
        add(seeds, &["reconnect_url"], &index.to_string(), format!("{base}{reference}").as_bytes());
    }
}

/// Scripts of the target seeded_session: what, who, and two more bytes each.
fn scripts(seeds: &mut Vec<Seed>) {
    let (publish, play, media, data, pass, raw, command, leave, ask) = (0, 1, 3, 8, 9, 10, 11, 12, 13);
    let begin = [[publish, 0, 0, 0], [play, 0, 0, 0], [play, 0, 0, 1], [media, 0, 0, 9], [media, 0, 8, 2]];
    let frames = [[media, 0, 1, 200], [media, 0, 9, 20], [media, 0, 2, 90], [pass, 0, 2, 0], [media, 0, 9, 20]];
    let live = [&begin[..], &frames].concat().concat();
    add(seeds, &["seeded_session"], "live", &[&live[..], &frames.concat()].concat());
    let back = [[leave, 0, 0, 0], [pass, 0, 50, 0], [publish, 0, 0, 1], [media, 2, 1, 9], [media, 2, 9, 9]];
    add(seeds, &["seeded_session"], "republish", &[&live[..], &back.concat()].concat());
    let jumps = [[media | 0x80, 0, 1, 0x80], [media, 0, 9, 1], [media | 0x80, 0, 2, 0], [media, 0, 9, 1]];
    add(seeds, &["seeded_session"], "jumps", &[&live[..], &jumps.concat(), &frames.concat()].concat());
    let odd = [[command, 1, 0, 1], [media, 0, 1, 9], [command, 1, 0, 0], [ask, 0, 3, 0], [command, 2, 1, 0]];
    add(seeds, &["seeded_session"], "pause-and-leave", &[&live[..], &odd.concat(), &frames.concat()].concat());
    let metadata = [&[data, 0, 0, ON_METADATA.len() as u8][..], ON_METADATA].concat();
    let garbage = [&[raw, 1, 0, 4][..], b"\xFF\x01\x02\x03"].concat();
    add(seeds, &["seeded_session"], "data-and-garbage", &[live, metadata, garbage, frames.concat()].concat());
}

/// Messages of the target splice: what, step or timestamp, time passed.
fn splices(seeds: &mut Vec<Seed>) {
    const SWITCH: u8 = 0x40;
    let message =
        |what: u8, step: u32, passed: u16| [&[what][..], &step.to_be_bytes(), &[0], &passed.to_be_bytes()].concat();
    let frames = |count: u8| -> Vec<u8> { (0..count).flat_map(|frame| message(frame % 3, 40 << 16, 40)).collect() };
    let headers: Vec<u8> = [3, 4, 5].iter().flat_map(|what| message(0x80 | what, 0, 0)).collect();
    let first = [&headers[..], &frames(9)].concat();
    let next =
        |at: u32| [&message(SWITCH | 0x80, at, 2_000), &headers[..], &message(0x80 | 1, at, 10), &frames(9)].concat();
    add(seeds, &["splice"], "shared", &[&first[..], &next(1_000)].concat());
    add(seeds, &["splice"], "foreign", &[&first[..], &next(3_000_000_000), &next(400)].concat());
    add(
        seeds,
        &["splice"],
        "sound",
        &[&first[..], &message(SWITCH, 0, 900), &message(2, 0, 0), &message(2, 0, 1_000)].concat(),
    );
    add(
        seeds,
        &["splice"],
        "other",
        &[&first[..], &message(7, 0, 0), &message(6, 0, 0), &message(SWITCH, 0, 0)].concat(),
    );
}

fn approaches(seeds: &mut Vec<Seed>) {
    let user = "[ AccessManager.Reject ] : [ code=403 need auth; authmod=adobe ] : ";
    let answer =
        "[ AccessManager.Reject ] : [ authmod=adobe ] : ?reason=needauth&user=camera&salt=a&challenge=b&opaque=c";
    let limelight = "[ AccessManager.Reject ] : [ authmod=llnw ] : ?reason=needauth&nonce=d";
    for (index, lines) in [
        ["rtmp://host/live", user, answer, "authmod=adobe ?reason=authfailed"],
        ["rtmps://host/live?token=t", limelight, ">rtmp://host/live", ">rtmps://other/live/show?key=n"],
        ["rtmp://host/live", ">rtmp://u:p@other/live", user, "!//third/live"],
        ["rtmp://host/live", "!", answer, "!/other"],
    ]
    .iter()
    .enumerate()
    {
        add(seeds, &["approach"], &index.to_string(), lines.join("\n").as_bytes());
    }
}
