//! The RTMP handshake (RTMP 1.0, section 5.2), simple and with digests, for both sides.
//!
//! C0/S0 is one version byte, C1, S1, C2 and S2 are 1,536 bytes each. Owned here: the state up to the last byte of C2 (or
//! S2), at most 1,537 bytes of memory, none before the first byte and none once the peer's first packet is whole.
//! Refused: other versions, and TLS or HTTP that went to the wrong port. What a peer echoes in C2 or S2 is not checked.
//! Random bytes are expanded from a nonce the host chooses; the time comes from the host too.

mod client;
mod digest;
mod server;

use bytes::BytesMut;

pub use client::ClientHandshake;
pub use server::ServerHandshake;

/// The only version there is without encryption.
const VERSION: u8 = 3;
/// Bytes of C1, S1, C2 and S2.
const PACKET_BYTES: usize = 1536;

/// Bytes each side sends in a handshake: where the chunk stream starts.
pub const HANDSHAKE_BYTES: u64 = 1 + 2 * PACKET_BYTES as u64;

/// Why the first bytes of a connection are no RTMP handshake. The byte meant is the first one of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    #[error("the first byte asks for RTMP version {version}, not 3; use plain RTMP (6 is RTMPE, which is not served)")]
    Version { version: u8 },
    #[error("a TLS ClientHello came to the RTMP port; use rtmp:// instead of rtmps:// or https:// here")]
    Tls,
    #[error("an HTTP request came to the RTMP port; use an RTMP client (RTMPT is not served)")]
    Http,
}

/// The peer's version byte and first packet, gathered from whatever pieces they come in.
#[derive(Debug, Default)]
struct Opening {
    /// Allocated only if the bytes do not come in one piece.
    pending: Vec<u8>,
}

impl Opening {
    /// Takes bytes from `input` until the opening is whole, then calls `then` with the packet (without the version).
    /// `None` if there is more to come.
    fn receive<T>(
        &mut self,
        input: &mut &[u8],
        then: impl FnOnce(&[u8; PACKET_BYTES]) -> T,
    ) -> Result<Option<T>, HandshakeError> {
        if self.pending.is_empty() {
            check_start(input)?;
            if let Some((packet, rest)) = input.get(1..).and_then(<[u8]>::split_first_chunk) {
                *input = rest;
                return Ok(Some(then(packet)));
            }
        }
        let (more, rest) = input.split_at(input.len().min(1 + PACKET_BYTES - self.pending.len()));
        self.pending.extend_from_slice(more);
        *input = rest;
        check_start(&self.pending)?;
        let Some(packet) = self.pending.get(1..).and_then(<[u8]>::first_chunk) else { return Ok(None) };
        let result = then(packet);
        self.pending = Vec::new();
        Ok(Some(result))
    }
}

/// Refuses what is not RTMP, as soon as the first bytes of the connection tell what it is.
fn check_start(bytes: &[u8]) -> Result<(), HandshakeError> {
    const METHODS: [&[u8]; 10] = [
        b"GET ",
        b"POST ",
        b"HEAD ",
        b"PUT ",
        b"OPTIONS ",
        b"CONNECT ",
        b"DELETE ",
        b"PATCH ",
        b"TRACE ",
        b"PRI * HTTP/2.0",
    ];
    match *bytes {
        [] | [VERSION, ..] | [0x16] => Ok(()),
        [0x16, 0x03, ..] => Err(HandshakeError::Tls),
        _ if METHODS.iter().any(|method| bytes.starts_with(method)) => Err(HandshakeError::Http),
        _ if METHODS.iter().any(|method| method.starts_with(bytes)) => Ok(()),
        [version, ..] => Err(HandshakeError::Version { version }),
    }
}

/// Counts the last packet of a handshake down; its content does not matter.
#[derive(Debug)]
struct Closing {
    missing: usize,
}

impl Closing {
    fn new() -> Self {
        Self { missing: PACKET_BYTES }
    }

    /// Whether the packet is whole.
    fn receive(&mut self, input: &mut &[u8]) -> bool {
        let (taken, rest) = input.split_at(input.len().min(self.missing));
        self.missing -= taken.len();
        *input = rest;
        self.missing == 0
    }
}

/// Bytes that differ from connection to connection: splitmix64 from a nonce. Nothing secret depends on them.
#[derive(Debug)]
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Appends a packet of noise behind `time_ms` and four bytes of version.
    fn push_packet<'a>(&mut self, time_ms: u32, version: [u8; 4], out: &'a mut BytesMut) -> &'a mut [u8] {
        let start = out.len();
        out.extend_from_slice(&time_ms.to_be_bytes());
        out.extend_from_slice(&version);
        for _ in 0..(PACKET_BYTES - 8) / 8 {
            out.extend_from_slice(&self.next().to_be_bytes());
        }
        &mut out[start..]
    }
}

#[cfg(test)]
mod tests;
