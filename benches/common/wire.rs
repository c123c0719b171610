//! Bytes as peers send them.

use bytes::{Bytes, BytesMut};
use shardcast::rtmp::{
    amf0::{Decoder, Encoder},
    chunk::{ChunkReader, ChunkWriter},
    handshake::{ClientHandshake, ServerHandshake},
    message::{Header, type_id},
};

pub(crate) fn header(timestamp: u32) -> Header {
    Header { csid: 6, timestamp, length: 0, type_id: type_id::VIDEO, stream_id: 1 }
}

/// One message in chunks of a size that the reader has been told.
pub(crate) fn chunked(payload_bytes: usize, chunk_bytes: usize) -> (ChunkReader, Bytes) {
    let (mut writer, mut reader) = (ChunkWriter::new(), ChunkReader::new());
    let mut set = BytesMut::new();
    writer.set_chunk_bytes(chunk_bytes, &mut set);
    assert_eq!(reader.read(&mut &set[..]), Ok(None));
    let mut bytes = BytesMut::new();
    writer.write(header(0), &vec![0x27; payload_bytes], &mut bytes);
    (reader, bytes.freeze())
}

/// A writer that uses chunks of this size, and room for what it writes.
pub(crate) fn writer(chunk_bytes: usize) -> (ChunkWriter, BytesMut) {
    let mut writer = ChunkWriter::new();
    let mut out = BytesMut::with_capacity(128 * 1_024);
    writer.set_chunk_bytes(chunk_bytes, &mut out);
    (writer, out)
}

/// Returns the payload's length.
pub(crate) fn read_message(reader: &mut ChunkReader, mut bytes: &[u8]) -> usize {
    reader.read(&mut bytes).expect("well-formed").expect("whole").payload.len()
}

/// What FFmpeg says of itself.
pub(crate) fn connect_body() -> Bytes {
    let mut body = BytesMut::new();
    let mut out = Encoder::new(&mut body);
    out.string("connect").number(1.0).object().key("app").string("live").key("type").string("nonprivate");
    out.key("flashVer").string("FMLE/3.0 (compatible; FMSc/1.0)").key("swfUrl").string("rtmp://host/live");
    out.key("tcUrl").string("rtmp://host/live").key("capabilities").number(239.0).end();
    body.freeze()
}

/// Returns how many values there are.
pub(crate) fn decode_amf0(body: &[u8]) -> usize {
    let mut decoder = Decoder::new(body);
    let mut values = 0;
    while let Some(value) = decoder.next_value().expect("well-formed") {
        std::hint::black_box(value);
        values += 1;
    }
    values
}

/// A client's C0 and C1.
pub(crate) fn handshake_opening(digest: bool) -> Bytes {
    let mut opening = BytesMut::new();
    ClientHandshake::new(1, digest).start(0, &mut opening);
    opening.freeze()
}

/// Answers C0 and C1.
pub(crate) fn shake_hands(opening: &[u8], out: &mut BytesMut) {
    let mut server = ServerHandshake::new(2);
    server.receive(&mut &opening[..], 0, out).expect("own client");
}
