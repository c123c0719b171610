//! STUB
use crate::rtmp::message::Header;
use bytes::BytesMut;

/// Writes messages as chunks with the shortest header the previous message on the csid allows.
#[derive(Debug, Default)]
pub struct ChunkWriter {}

impl ChunkWriter {
    /// Starts with the protocol's chunk size, 128.
    pub fn new() -> Self { Self {} }
    /// Writes Set Chunk Size for later messages and uses `bytes` from the next message on.
    pub fn set_chunk_bytes(&mut self, bytes: usize, out: &mut BytesMut) { let _ = (bytes, out); unimplemented!() }
    pub fn chunk_bytes(&self) -> usize { unimplemented!() }
    /// Appends one message; `header.length` is taken from `payload`.
    pub fn write(&mut self, header: Header, payload: &[u8], out: &mut BytesMut) { let _ = (header, payload, out); unimplemented!() }
}
