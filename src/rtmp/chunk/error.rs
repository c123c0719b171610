//! What a peer's chunk stream can have wrong. A connection does not outlive one of these.

/// What is wrong with a peer's chunk stream, and where: `offset` is the position of the offending chunk's header (for a
/// control message: of the byte after it) in the bytes of the connection, counted from [`super::ChunkReader::starting_at`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    #[error("Set Chunk Size of {value:#x} on csid {csid} before byte {offset}; send 1 to 0x7fffffff")]
    ChunkSize { offset: u64, csid: u32, value: u32 },
    #[error("csid {csid} at byte {offset} is one more than the {limit} chunk streams allowed; reuse chunk streams")]
    ChunkStreams { offset: u64, csid: u32, limit: usize },
    #[error("fmt {fmt} header at byte {offset} is the first on csid {csid}; begin a chunk stream with fmt 0")]
    Format { offset: u64, csid: u32, fmt: u8 },
    #[error("control message of type {type_id} on csid {csid} before byte {offset} has {length} bytes; send 4")]
    ControlLength { offset: u64, csid: u32, type_id: u8, length: usize },
    #[error(
        "message of {length} bytes on csid {csid} at byte {offset}, more than the {limit} allowed; send shorter ones"
    )]
    MessageBytes { offset: u64, csid: u32, length: usize, limit: usize },
    #[error("csid {csid} at byte {offset} takes unfinished messages to {bytes} bytes, more than {limit}; finish some")]
    InFlightBytes { offset: u64, csid: u32, bytes: usize, limit: usize },
}
