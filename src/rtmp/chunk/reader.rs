//! STUB
use crate::rtmp::message::Message;

/// What is wrong with a peer's chunk stream, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    #[error("stub")]
    Stub,
}

/// Reassembles messages from chunks. Applies Set Chunk Size and Abort itself; both are consumed, not delivered.
#[derive(Debug, Default)]
pub struct ChunkReader {}

impl ChunkReader {
    pub fn new() -> Self { Self {} }
    /// Consumes bytes from the front of `input` until one message is whole, or all of `input` is consumed (`None`).
    /// A payload that lies whole inside one chunk of `input` is borrowed from it, without a copy.
    pub fn read<'a>(&'a mut self, input: &mut &'a [u8]) -> Result<Option<Message<'a>>, ChunkError> { let _ = input; unimplemented!() }
    /// Bytes held for partly received messages (allocated, not announced).
    pub fn in_flight_bytes(&self) -> usize { unimplemented!() }
    /// The peer's current chunk size.
    pub fn chunk_bytes(&self) -> usize { unimplemented!() }
}
