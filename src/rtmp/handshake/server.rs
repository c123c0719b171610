//! The server's side of the handshake. It takes the form the client chose: simple, or with digests if they verify.

use bytes::BytesMut;

use super::digest::{self, Signer};
use super::{Closing, HandshakeError, Noise, Opening, PACKET_BYTES, VERSION};

/// Flash Media Server 4.5.0.1: clients that know digests look for them in S1 from version 3 on.
const SERVER_VERSION: [u8; 4] = [4, 5, 0, 1];

/// The server's side of one handshake.
#[derive(Debug)]
pub struct ServerHandshake {
    noise: Noise,
    state: State,
}

#[derive(Debug)]
enum State {
    Opening(Opening),
    Closing(Closing),
}

impl ServerHandshake {
    /// `nonce` seeds the random bytes of S1 and S2.
    pub fn new(nonce: u64) -> Self {
        Self { noise: Noise(nonce), state: State::Opening(Opening::default()) }
    }

    /// Consumes handshake bytes from the front of `input`; true once C2 is consumed, with the rest left in `input`.
    /// Appends S0, S1 and S2 to `out` in one piece as soon as C0 and C1 are whole. `time_ms` is the host's time.
    pub fn receive(&mut self, input: &mut &[u8], time_ms: u32, out: &mut BytesMut) -> Result<bool, HandshakeError> {
        if let State::Opening(opening) = &mut self.state {
            let noise = &mut self.noise;
            if opening.receive(input, |c1| reply(c1, noise, time_ms, out))?.is_none() {
                return Ok(false);
            }
            self.state = State::Closing(Closing::new());
        }
        let State::Closing(closing) = &mut self.state else { return Ok(false) };
        Ok(closing.receive(input))
    }
}

/// Appends S0, S1 and S2.
fn reply(c1: &[u8; PACKET_BYTES], noise: &mut Noise, time_ms: u32, out: &mut BytesMut) {
    out.reserve(1 + 2 * PACKET_BYTES);
    out.extend_from_slice(&[VERSION]);
    let simple = c1[4..8] == [0; 4];
    match if simple { None } else { digest::find(c1, Signer::Player) } {
        Some((scheme, c1_digest)) => {
            if let Some(s1) = noise.push_packet(time_ms, SERVER_VERSION, out).first_chunk_mut() {
                digest::sign(s1, scheme, Signer::Server);
            }
            if let Some(s2) = noise.push_packet(time_ms, [0; 4], out).first_chunk_mut() {
                digest::answer(s2, &c1_digest, Signer::Server);
            }
        }
        None => {
            noise.push_packet(time_ms, [0; 4], out);
            echo_for_librtmp(c1, out);
        }
    }
}

/// S2 is C1 unchanged, without the time of receipt the specification has in bytes 4 to 8: librtmp compares all of it.
fn echo_for_librtmp(c1: &[u8; PACKET_BYTES], out: &mut BytesMut) {
    out.extend_from_slice(c1);
}
