//! What the tests of logs and their players share: an independent reading of the bytes, and messages that tell
//! themselves apart.

use bytes::BytesMut;

use super::{
    layout::Layout,
    log::LogWriter,
    segment::LogGauge,
    window::{LogSlice, Window},
};
use crate::rtmp::{
    chunk::{ChunkReader, ChunkWriter},
    message::{Header, Kind, csid, type_id},
};

/// Every message in `bytes`, which must end with one.
pub(crate) fn parse(bytes: &[u8], chunk_bytes: usize) -> Vec<(Header, Vec<u8>)> {
    let (messages, in_flight) = parse_some(bytes, chunk_bytes);
    assert_eq!(in_flight, 0, "the bytes end inside a message");
    messages
}

/// The whole messages in `bytes`, and what is held of those not whole.
pub(crate) fn parse_some(bytes: &[u8], chunk_bytes: usize) -> (Vec<(Header, Vec<u8>)>, usize) {
    let mut reader = ChunkReader::new();
    let mut announced = BytesMut::new();
    ChunkWriter::new().set_chunk_bytes(chunk_bytes, &mut announced);
    assert!(reader.read(&mut &announced[..]).expect("valid").is_none());
    let mut input = bytes;
    let mut messages = Vec::new();
    while let Some(message) = reader.read(&mut input).expect("valid chunks") {
        messages.push((message.header, message.payload.to_vec()));
    }
    (messages, reader.in_flight_bytes())
}

/// A ping, as the session would put it between two slices.
pub(crate) fn ping() -> Vec<u8> {
    let mut out = BytesMut::new();
    let header = Header { csid: csid::CONTROL, timestamp: 0, length: 0, type_id: type_id::USER_CONTROL, stream_id: 0 };
    ChunkWriter::new().write(header, &[0, 6, 0, 0, 0, 9], &mut out);
    out.to_vec()
}

/// `length` bytes that differ from those of another `seed`.
pub(crate) fn payload(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|index| (seed.wrapping_mul(31) ^ index.wrapping_mul(7) ^ index >> 8) as u8).collect()
}

pub(crate) fn log(chunk_bytes: usize, segment_bytes: usize) -> LogWriter {
    LogWriter::new(Layout { stream_id: 1, chunk_bytes, published: false }, segment_bytes, &LogGauge::default())
}

pub(crate) fn bytes_of(slice: &LogSlice) -> &[u8] {
    slice.segment.get(slice.range.clone()).expect("slices are cut from published bytes")
}

/// The slices from `from` to `upto`, each of which must begin where the one before ended.
pub(crate) fn slices(window: &mut Window, from: u64, upto: u64) -> Vec<LogSlice> {
    let mut at = from;
    let mut slices = Vec::new();
    while let Some(slice) = window.slice(at, upto) {
        assert!(slice.range.start == at && slice.range.end > at && slice.range.end <= upto);
        at = slice.range.end;
        slices.push(slice);
    }
    assert_eq!(at, upto, "the slices reach the end");
    slices
}

/// All bytes from `from` to the head.
pub(crate) fn all_bytes(window: &mut Window, from: u64) -> Vec<u8> {
    let head = window.head();
    slices(window, from, head).iter().flat_map(|slice| bytes_of(slice).to_vec()).collect()
}

/// The kind of message number `index`, in turn.
pub(crate) fn kind(index: usize) -> Kind {
    [Kind::Video, Kind::Audio, Kind::Data][index % 3]
}
