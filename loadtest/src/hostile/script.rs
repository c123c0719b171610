//! What hostile connections say: each kind is an opening, and what it goes on with. Everything is said without waiting for an
//! answer, as a server takes a handshake, `connect` and what follows in one segment.

use bytes::{BufMut, Bytes, BytesMut};
use shardcast::rtmp::amf0::Encoder;

/// What a connection does once its opening is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    Stay,
    Leave,
    /// Says this again and again, as fast as [`REPEAT_NS`] and the server let it.
    Repeat(Bytes),
}

/// From one repetition to the next.
pub const REPEAT_NS: u64 = 100_000_000;

#[derive(Clone, Debug)]
pub struct Script {
    pub kind: &'static str,
    pub opening: Bytes,
    pub then: Then,
    /// Whether it reads what it is sent.
    pub reads: bool,
}

const SET_CHUNK_SIZE: u8 = 1;
const USER_CONTROL: u8 = 4;
const WINDOW_ACK_SIZE: u8 = 5;
const VIDEO: u8 = 9;
const COMMAND: u8 = 20;
const AGGREGATE: u8 = 22;
/// The id that the first createStream of a connection is answered with.
const STREAM: u32 = 1;
const CHUNK_BYTES: usize = 128;

fn header(fmt: u8, csid: u8) -> u8 {
    fmt << 6 | csid
}

/// A message in chunks of the size that counts until another is set; `announced` is its length if that is a lie.
fn chunks(csid: u8, kind: u8, stream: u32, announced: Option<usize>, payload: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_u8(header(0, csid));
    out.put_uint(0, 3);
    out.put_uint(announced.unwrap_or(payload.len()) as u64, 3);
    out.put_u8(kind);
    out.put_u32_le(stream);
    for (at, chunk) in payload.chunks(CHUNK_BYTES).enumerate() {
        if at > 0 {
            out.put_u8(header(3, csid));
        }
        out.put_slice(chunk);
    }
    out
}

fn message(csid: u8, kind: u8, stream: u32, payload: &[u8]) -> BytesMut {
    chunks(csid, kind, stream, None, payload)
}

/// C0 and C1, and a C2 that echoes nothing.
fn handshake() -> BytesMut {
    let mut out = BytesMut::zeroed(1 + 1_536 + 1_536);
    out[0] = 3;
    out
}

fn command(stream: u32, name: &str, transaction: f64, arguments: impl FnOnce(&mut Encoder<'_>)) -> BytesMut {
    let mut payload = BytesMut::new();
    let mut encoder = Encoder::new(&mut payload);
    encoder.string(name).number(transaction);
    arguments(&mut encoder);
    message(3, COMMAND, stream, &payload)
}

fn connected(app: &str) -> BytesMut {
    let mut out = handshake();
    out.extend(command(0, "connect", 1.0, |amf| {
        amf.object().key("app").string(app).key("tcUrl").string(&format!("rtmp://localhost/{app}")).end();
    }));
    out
}

fn create_stream() -> BytesMut {
    command(0, "createStream", 2.0, |amf| {
        amf.null();
    })
}

fn asking(app: &str, what: &str, name: &str) -> BytesMut {
    let mut out = connected(app);
    out.extend(create_stream());
    out.extend(command(STREAM, what, 3.0, |amf| {
        amf.null().string(name);
    }));
    out
}

/// Bytes that look like nothing, the same in each run.
fn noise(count: usize) -> BytesMut {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// One of each kind. `name` is what the audience plays and nobody else may publish; `number` tells the connections apart.
pub fn script(app: &str, name: &str, number: u64) -> Script {
    let kinds: [fn(&str, &str, u64) -> Script; KINDS] = [
        |_, _, _| quiet("silent", BytesMut::new()),
        |_, _, _| repeating("dribbled handshake", BytesMut::from(&[3][..]), BytesMut::zeroed(1)),
        |_, _, _| quiet("garbage", noise(8_192)),
        |_, _, _| quiet("zeros behind the handshake", joined([handshake(), BytesMut::zeroed(8_192)])),
        |_, _, _| quiet("TLS hello", BytesMut::from(&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and so on"[..])),
        |_, _, _| quiet("HTTP", BytesMut::from(&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..])),
        |_, _, _| leaving("half a handshake", handshake().split_to(800)),
        |app, _, _| leaving("connect and leave", connected(app)),
        |app, _, _| quiet("lengths announced on all chunk streams", joined([connected(app), announcements()])),
        |app, _, _| quiet("too many chunk streams", joined([connected(app), chunk_streams()])),
        |app, _, _| quiet("headers out of nowhere", joined([connected(app), BytesMut::from(&[header(3, 40)][..])])),
        |app, _, _| {
            quiet("chunk size 0", joined([connected(app), message(2, SET_CHUNK_SIZE, 0, &0_u32.to_be_bytes())]))
        },
        |app, _, _| {
            let size = message(2, SET_CHUNK_SIZE, 0, &1_u32.to_be_bytes());
            repeating("chunks of one byte", joined([connected(app), size]), BytesMut::from(&tiny_chunks()[..]))
        },
        |app, _, _| repeating("pings, not reading", connected(app), pings()).not_reading(),
        |app, _, _| {
            let window = message(2, WINDOW_ACK_SIZE, 0, &1_u32.to_be_bytes());
            repeating("acknowledgement window of 1", joined([connected(app), window]), pings())
        },
        |_, _, _| quiet("nested AMF", joined([handshake(), message(3, COMMAND, 0, &nested())])),
        |_, _, _| quiet("AMF count of 2^32 - 1", joined([handshake(), message(3, COMMAND, 0, &counted())])),
        |app, _, _| repeating("createStream without end", connected(app), create_stream()),
        |app, name, _| quiet("the publisher's name", asking(app, "publish", name)),
        |app, _, _| quiet("a hostile name", asking(app, "publish", "../../\u{7}\r\n")),
        |app, _, number| {
            let torn = chunks(6, VIDEO, STREAM, Some(100_000), &noise(1_000));
            leaving("publisher, gone within a frame", joined([asking(app, "publish", &format!("torn-{number}")), torn]))
        },
        |app, _, number| {
            let tags = joined([message(6, VIDEO, STREAM, &noise(600)), message(4, AGGREGATE, STREAM, &noise(600))]);
            repeating("publisher of malformed tags", asking(app, "publish", &format!("junk-{number}")), tags)
        },
        |app, _, number| quiet("player of nothing", asking(app, "play", &format!("nothing-{number}"))),
        |app, name, _| quiet("player that never reads", asking(app, "play", name)).not_reading(),
        |app, name, _| {
            repeating("player that sends junk", asking(app, "play", name), message(6, VIDEO, 7, &noise(400)))
        },
    ];
    kinds[(number % KINDS as u64) as usize](app, name, number)
}

pub const KINDS: usize = 25;

fn joined<const N: usize>(parts: [BytesMut; N]) -> BytesMut {
    parts.into_iter().flatten().collect()
}

fn quiet(kind: &'static str, opening: BytesMut) -> Script {
    Script { kind, opening: opening.freeze(), then: Then::Stay, reads: true }
}

fn leaving(kind: &'static str, opening: BytesMut) -> Script {
    Script { then: Then::Leave, ..quiet(kind, opening) }
}

fn repeating(kind: &'static str, opening: BytesMut, again: BytesMut) -> Script {
    Script { then: Then::Repeat(again.freeze()), ..quiet(kind, opening) }
}

impl Script {
    fn not_reading(self) -> Self {
        Self { reads: false, ..self }
    }
}

/// 16 MiB each, of which one byte comes.
fn announcements() -> BytesMut {
    (5..60).flat_map(|csid| chunks(csid, VIDEO, STREAM, Some(0xFF_FFFF), &[0])).collect()
}

/// Two-byte basic headers, for more than may be used.
fn chunk_streams() -> BytesMut {
    let chunk = |csid: u8| {
        let mut bytes = chunks(0, VIDEO, STREAM, Some(2), &[0]);
        bytes.truncate(1);
        bytes.put_u8(csid);
        bytes.extend(&chunks(0, VIDEO, STREAM, Some(2), &[0])[1..]);
        bytes
    };
    (0..100).flat_map(chunk).collect()
}

/// A message of 200 bytes in chunks of one.
fn tiny_chunks() -> Vec<u8> {
    let whole = chunks(5, 200, 0, Some(200), &[0]);
    whole.into_iter().chain((1..200).flat_map(|_| [header(3, 5), 0])).collect()
}

fn pings() -> BytesMut {
    let ping = message(2, USER_CONTROL, 0, &[0, 6, 0, 0, 0, 0]);
    (0..50).flat_map(|_| ping.clone()).collect()
}

/// Arrays within arrays.
fn nested() -> Vec<u8> {
    b"\x02\x00\x07connect".iter().copied().chain((0..70_000 / 5).flat_map(|_| [0x0A, 0, 0, 0, 1])).collect()
}

fn counted() -> Vec<u8> {
    b"\x02\x00\x07connect\x0A\xFF\xFF\xFF\xFF\x05\x08\xFF\xFF\xFF\xFF".to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_kind_is_another_and_all_come_in_turn() {
        let kinds: BTreeSet<&str> = (0..KINDS as u64).map(|number| script("live", "x", number).kind).collect();
        assert_eq!(kinds.len(), KINDS);
        assert_eq!(script("live", "x", 3).kind, script("live", "x", 3 + KINDS as u64).kind);
    }

    #[test]
    fn messages_are_cut_into_chunks() {
        let long = message(3, COMMAND, 1, &[7; 300]);
        assert_eq!(long.len(), 12 + 300 + 2);
        assert_eq!((long[0], long[12 + 128], long[12 + 128 + 1 + 128]), (3, 0xC3, 0xC3));
        assert_eq!(long[1..12], [0, 0, 0, 0, 1, 44, 20, 1, 0, 0, 0]);
        assert_eq!(tiny_chunks().len(), 12 + 1 + 199 * 2);
    }
}
