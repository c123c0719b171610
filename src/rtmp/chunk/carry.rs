//! The few bytes the reader keeps between two inputs.

use super::header::HEADER_BYTES_MAX;

/// The bytes of a chunk header that `input` ended in. When an extended timestamp turns out to be omitted, up to four of
/// them are payload or more headers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Carry {
    bytes: [u8; HEADER_BYTES_MAX],
    len: u8,
}

impl Carry {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Never full: [`HEADER_BYTES_MAX`] bytes always make a header, which is then taken out.
    pub(super) fn push(&mut self, byte: u8) {
        self.bytes[usize::from(self.len)] = byte;
        self.len += 1;
    }

    pub(super) fn discard(&mut self, front: usize) {
        self.bytes.copy_within(front..usize::from(self.len), 0);
        self.len -= front as u8;
    }
}
