//! One contiguous send: the session's own bytes, or a slice of a log shared with every other player.

use bytes::Bytes;

use crate::stream::window::LogSlice;

/// Bytes to send, kept alive until the send has completed.
#[derive(Clone, Debug)]
pub enum Piece {
    Own(Bytes),
    Log(LogSlice),
}

impl Piece {
    #[cfg(not(loom))]
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Piece::Own(bytes) => bytes,
            // A slice is cut from published bytes only.
            Piece::Log(slice) => slice.segment.get(slice.range.clone()).unwrap_or_default(),
        }
    }

    /// Loom's cells have no slices; its models send nothing.
    #[cfg(loom)]
    pub fn as_slice(&self) -> &[u8] {
        unreachable!("no model sends a piece")
    }

    pub fn len(&self) -> usize {
        match self {
            Piece::Own(bytes) => bytes.len(),
            Piece::Log(slice) => (slice.range.end - slice.range.start) as usize,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops the first `count` bytes, which were sent.
    pub fn advance(&mut self, count: usize) {
        let count = count.min(self.len());
        match self {
            Piece::Own(bytes) => drop(bytes.split_to(count)),
            Piece::Log(slice) => slice.range.start += count as u64,
        }
    }
}
