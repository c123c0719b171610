//! The digests Flash Player 9 and Flash Media Server added to the handshake: an HMAC-SHA256 somewhere in C1 and S1, and
//! one at the end of C2 and S2 that answers it. The specification leaves them out; the layout is the one all servers and
//! players share.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::PACKET_BYTES;

const DIGEST_BYTES: usize = 32;
/// Digests move within this many positions.
const POSITIONS: usize = 728;

pub(super) type Digest = [u8; DIGEST_BYTES];

/// What each side signs with. C1 and S1 take the text alone, C2 and S2 the text and the suffix.
#[derive(Clone, Copy, Debug)]
pub(super) enum Signer {
    Player,
    Server,
}

impl Signer {
    fn text(self) -> &'static [u8] {
        match self {
            Signer::Player => b"Genuine Adobe Flash Player 001",
            Signer::Server => b"Genuine Adobe Flash Media Server 001",
        }
    }
}

const SUFFIX: [u8; 32] = [
    0xF0, 0xEE, 0xC2, 0x4A, 0x80, 0x68, 0xBE, 0xE8, 0x2E, 0x00, 0xD0, 0xD1, 0x02, 0x9E, 0x7E, 0x57, 0x6E, 0xEC, 0x5D,
    0x2D, 0x29, 0x80, 0x6F, 0xAB, 0x93, 0xB8, 0xE6, 0x36, 0xCF, 0xEB, 0x31, 0xAE,
];

/// Where in C1 and S1 the digest is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// Scheme 0: the digest in the second half, behind 764 bytes of key.
    KeyFirst,
    /// Scheme 1: the digest in the first half.
    DigestFirst,
}

impl Scheme {
    pub(super) const ALL: [Self; 2] = [Self::KeyFirst, Self::DigestFirst];

    /// Where the digest is: the four bytes in front of its half add up to its place, modulo the positions there are.
    fn position(self, packet: &[u8; PACKET_BYTES]) -> usize {
        let half = match self {
            Scheme::KeyFirst => 772,
            Scheme::DigestFirst => 8,
        };
        let sum: usize = packet[half..half + 4].iter().map(|&byte| usize::from(byte)).sum();
        half + 4 + sum % POSITIONS
    }
}

/// Looks for the digest of `signer` in C1 or S1.
pub(super) fn find(packet: &[u8; PACKET_BYTES], signer: Signer) -> Option<(Scheme, Digest)> {
    Scheme::ALL.into_iter().find_map(|scheme| {
        let digest = of_packet(packet, scheme, signer);
        (packet[scheme.position(packet)..].first_chunk() == Some(&digest)).then_some((scheme, digest))
    })
}

/// Puts the digest of `signer` into C1 or S1.
pub(super) fn sign(packet: &mut [u8; PACKET_BYTES], scheme: Scheme, signer: Signer) {
    let digest = of_packet(packet, scheme, signer);
    let position = scheme.position(packet);
    packet[position..position + DIGEST_BYTES].copy_from_slice(&digest);
}

/// Makes the end of C2 or S2 answer the digest in the peer's S1 or C1.
pub(super) fn answer(packet: &mut [u8; PACKET_BYTES], peer: &Digest, signer: Signer) {
    let (body, end) = packet.split_at_mut(PACKET_BYTES - DIGEST_BYTES);
    let key = hmac(&[signer.text(), &SUFFIX].concat(), &[peer]);
    end.copy_from_slice(&hmac(&key, &[body]));
}

/// The HMAC of a packet without the place of the digest itself.
fn of_packet(packet: &[u8; PACKET_BYTES], scheme: Scheme, signer: Signer) -> Digest {
    let position = scheme.position(packet);
    hmac(signer.text(), &[&packet[..position], &packet[position + DIGEST_BYTES..]])
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Digest {
    // HMAC is defined for keys of every length, and so is this implementation.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}
