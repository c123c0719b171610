//! The client's side of the handshake, for the load generator and for tests against the server's side.

use bytes::BytesMut;

use super::digest::{self, Scheme, Signer};
use super::{Closing, HandshakeError, Noise, Opening, PACKET_BYTES, VERSION};

/// Flash Player 9.0.124.2, the first generation that signs.
const PLAYER_VERSION: [u8; 4] = [9, 0, 124, 2];

/// The client's side of one handshake.
#[derive(Debug)]
pub struct ClientHandshake {
    noise: Noise,
    /// Where C1 carries a digest, if it does.
    scheme: Option<Scheme>,
    state: State,
}

#[derive(Debug)]
enum State {
    Opening(Opening),
    Closing(Closing),
}

impl ClientHandshake {
    /// `nonce` seeds the random bytes; with `digest`, C1 carries one (as FFmpeg and Flash Player do).
    pub fn new(nonce: u64, digest: bool) -> Self {
        Self::with_scheme(nonce, digest.then_some(Scheme::DigestFirst))
    }

    pub(super) fn with_scheme(nonce: u64, scheme: Option<Scheme>) -> Self {
        Self { noise: Noise(nonce), scheme, state: State::Opening(Opening::default()) }
    }

    /// Appends C0 and C1; `time_ms` is the host's time.
    pub fn start(&mut self, time_ms: u32, out: &mut BytesMut) {
        out.extend_from_slice(&[VERSION]);
        let version = if self.scheme.is_some() { PLAYER_VERSION } else { [0; 4] };
        let c1 = self.noise.push_packet(time_ms, version, out);
        if let (Some(scheme), Some(c1)) = (self.scheme, c1.first_chunk_mut()) {
            digest::sign(c1, scheme, Signer::Player);
        }
    }

    /// Consumes handshake bytes from the front of `input`; true once S2 is consumed, with the rest left in `input`.
    /// Appends C2 to `out` as soon as S0 and S1 are whole.
    pub fn receive(&mut self, input: &mut &[u8], time_ms: u32, out: &mut BytesMut) -> Result<bool, HandshakeError> {
        if let State::Opening(opening) = &mut self.state {
            let (noise, signs) = (&mut self.noise, self.scheme.is_some());
            if opening.receive(input, |s1| reply(s1, noise, signs, time_ms, out))?.is_none() {
                return Ok(false);
            }
            self.state = State::Closing(Closing::new());
        }
        let State::Closing(closing) = &mut self.state else { return Ok(false) };
        Ok(closing.receive(input))
    }
}

/// Appends C2: the answer to the server's digest, or S1 again if it has none.
fn reply(s1: &[u8; PACKET_BYTES], noise: &mut Noise, signs: bool, time_ms: u32, out: &mut BytesMut) {
    match if signs { digest::find(s1, Signer::Server) } else { None } {
        Some((_, s1_digest)) => {
            if let Some(c2) = noise.push_packet(time_ms, [0; 4], out).first_chunk_mut() {
                digest::answer(c2, &s1_digest, Signer::Player);
            }
        }
        None => out.extend_from_slice(s1),
    }
}
