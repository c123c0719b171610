//! STUB
/// Longest chunk header: 3 bytes of basic header, 11 of message header, 4 of extended timestamp.
pub const HEADER_BYTES_MAX: usize = 18;

/// An encoded chunk header.
#[derive(Clone, Copy, Debug)]
pub struct EncodedHeader {
    bytes: [u8; HEADER_BYTES_MAX],
    len: u8,
}

impl EncodedHeader {
    /// A fmt 0 header, which stands on its own: absolute timestamp (extended from 0xFFFFFF on).
    pub fn full(header: &crate::rtmp::message::Header) -> Self { let _ = header; unimplemented!() }
    /// The fmt 3 header of the later chunks of a message begun with `timestamp` in a fmt 0 header.
    pub fn continuation(csid: u32, timestamp: u32) -> Self { let _ = (csid, timestamp); unimplemented!() }
    pub fn as_slice(&self) -> &[u8] { &self.bytes[..usize::from(self.len)] }
}
