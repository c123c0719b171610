use super::digest::{Scheme, Signer};
use super::*;

const FORMS: [Option<Scheme>; 3] = [None, Some(Scheme::KeyFirst), Some(Scheme::DigestFirst)];

fn opening(form: Option<Scheme>) -> BytesMut {
    let mut c0c1 = BytesMut::new();
    ClientHandshake::with_scheme(1, form).start(7, &mut c0c1);
    c0c1
}

fn packet(bytes: &[u8]) -> &[u8; PACKET_BYTES] {
    bytes.first_chunk().unwrap()
}

/// What a server answers to `c0c1` and any C2, with 4 bytes of chunk stream behind.
fn serve(c0c1: &[u8], split: usize) -> BytesMut {
    let bytes = [c0c1, &[0xEE; PACKET_BYTES], b"next"].concat();
    let mut server = ServerHandshake::new(2);
    let mut out = BytesMut::new();
    let mut input = &bytes[..split];
    let done = server.receive(&mut input, 9, &mut out).unwrap();
    assert_eq!(done, split > 2 * PACKET_BYTES);
    assert_eq!(out.is_empty(), split < 1 + PACKET_BYTES, "S0, S1 and S2 come in one piece");
    let mut input = &bytes[split - input.len()..];
    assert_eq!(server.receive(&mut input, 9, &mut out), Ok(true));
    assert_eq!(input, b"next");
    out
}

#[test]
fn every_form_is_answered_in_kind_at_every_split() {
    for form in FORMS {
        let c0c1 = opening(form);
        let whole = serve(&c0c1, 0);
        assert_eq!(whole.len(), 1 + 2 * PACKET_BYTES);
        assert_eq!(whole[0], VERSION);
        for split in 0..=c0c1.len() + PACKET_BYTES + 4 {
            assert_eq!(serve(&c0c1, split), whole, "split at {split}");
        }
        let (s1, s2) = (packet(&whole[1..]), packet(&whole[1 + PACKET_BYTES..]));
        assert_eq!(digest::find(s1, Signer::Server).map(|(scheme, _)| scheme), form);
        if let Some((_, c1_digest)) = digest::find(packet(&c0c1[1..]), Signer::Player) {
            let mut answered = *s2;
            digest::answer(&mut answered, &c1_digest, Signer::Server);
            assert_eq!(answered, *s2);
        } else {
            assert_eq!(s2[..], c0c1[1..]);
            assert_eq!(s1[4..8], [0; 4]);
        }
    }
}

#[test]
fn client_and_server_agree_at_every_split() {
    for form in FORMS {
        let (mut to_server, mut to_client) = (BytesMut::new(), BytesMut::new());
        let mut server = ServerHandshake::new(2);
        ClientHandshake::with_scheme(1, form).start(7, &mut to_server);
        assert_eq!(server.receive(&mut &to_server[..], 9, &mut to_client), Ok(false));
        let mut first = None;
        for split in 0..=to_client.len() {
            let mut client = ClientHandshake::with_scheme(1, form);
            let mut c2 = BytesMut::new();
            client.start(7, &mut c2);
            c2.clear();
            let done = client.receive(&mut &to_client[..split], 11, &mut c2).unwrap();
            assert_eq!(done, split == to_client.len());
            assert_eq!(c2.is_empty(), split < 1 + PACKET_BYTES, "C2 follows S1 at once");
            let mut rest = &to_client[split..];
            assert_eq!(client.receive(&mut rest, 11, &mut c2), Ok(true));
            assert!(rest.is_empty());
            assert_eq!(first.get_or_insert_with(|| c2.clone()), &c2);
        }
        let c2 = first.unwrap();
        match digest::find(packet(&to_client[1..]), Signer::Server) {
            Some((_, s1_digest)) => {
                let mut answered = *packet(&c2);
                digest::answer(&mut answered, &s1_digest, Signer::Player);
                assert_eq!(answered[..], c2[..]);
            }
            None => assert_eq!(c2[..], to_client[1..1 + PACKET_BYTES]),
        }
        assert_eq!(server.receive(&mut &c2[..], 11, &mut to_client), Ok(true));
    }
}

#[test]
fn the_public_digest_client_signs_where_ffmpeg_does() {
    let mut out = BytesMut::new();
    ClientHandshake::new(5, true).start(0, &mut out);
    assert_eq!(digest::find(packet(&out[1..]), Signer::Player).map(|found| found.0), Some(Scheme::DigestFirst));
    out.clear();
    ClientHandshake::new(5, false).start(0, &mut out);
    assert_eq!(out[5..9], [0; 4]);
}

#[test]
fn the_keyed_hashes_are_those_every_other_server_computes() {
    // Computed with an independent implementation over a packet of bytes i % 251.
    let mut c1: [u8; PACKET_BYTES] = std::array::from_fn(|i| (i % 251) as u8);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    digest::sign(&mut c1, Scheme::DigestFirst, Signer::Player);
    assert_eq!(hex(&c1[50..82]), "b7be42fcc7bb33c851f763986ba29397638de143f0a028ba635bcf7141307b64");
    let mut s1: [u8; PACKET_BYTES] = std::array::from_fn(|i| (i % 251) as u8);
    digest::sign(&mut s1, Scheme::KeyFirst, Signer::Server);
    assert_eq!(hex(&s1[858..890]), "5cfb46affbdb33668ecefd5b0f556a43405c092c3f986c1d47cb35d50b3ac646");
    let mut s2: [u8; PACKET_BYTES] = std::array::from_fn(|i| (i % 251) as u8);
    digest::answer(&mut s2, &[0xAB; 32], Signer::Server);
    assert_eq!(hex(&s2[PACKET_BYTES - 32..]), "3642121cd9d98a581eb54648b50b7967368dfc7b27ca2eecdf807f55f5589ec9");
    digest::answer(&mut s2, &[0xAB; 32], Signer::Player);
    assert_eq!(hex(&s2[PACKET_BYTES - 32..]), "5d8a4b72c442a6aa0173de132ae022dec21f61f30864234d8f9fae76574009fd");
}

#[test]
fn a_digest_that_does_not_verify_means_simple() {
    // The four bytes name the places furthest out, beyond the 728 there are.
    for fill in [0xFF, 0x5A] {
        let mut c0c1 = vec![fill; 1 + PACKET_BYTES];
        c0c1[0] = VERSION;
        let out = serve(&c0c1, 0);
        assert_eq!(out[1 + PACKET_BYTES..], c0c1[1..]);
        assert_eq!(out[5..9], [0; 4]);
    }
    let mut c0c1 = opening(Some(Scheme::KeyFirst));
    c0c1[100] ^= 1;
    assert_eq!(serve(&c0c1, 0)[1 + PACKET_BYTES..], c0c1[1..]);
}

#[test]
fn what_is_not_rtmp_is_recognised_from_its_first_bytes() {
    let cases: [(&[u8], usize, HandshakeError); 8] = [
        (b"\x16\x03\x01\x02\0", 2, HandshakeError::Tls),
        (b"\x16\x02", 2, HandshakeError::Version { version: 0x16 }),
        (b"GET / HTTP/1.1\r\n", 4, HandshakeError::Http),
        (b"POST /open/1 HTTP/1.1\r\n", 5, HandshakeError::Http),
        (b"PRI * HTTP/2.0\r\n", 14, HandshakeError::Http),
        (b"GOT", 2, HandshakeError::Version { version: b'G' }),
        (b"\x06abc", 1, HandshakeError::Version { version: 6 }),
        (b"\0", 1, HandshakeError::Version { version: 0 }),
    ];
    for (bytes, decided_at, error) in cases {
        assert_eq!(ServerHandshake::new(0).receive(&mut &bytes[..], 0, &mut BytesMut::new()), Err(error));
        let mut server = ServerHandshake::new(0);
        for (index, byte) in bytes[..decided_at].iter().enumerate() {
            let expected = if index + 1 == decided_at { Err(error) } else { Ok(false) };
            assert_eq!(server.receive(&mut &[*byte][..], 0, &mut BytesMut::new()), expected, "{bytes:?} at {index}");
        }
    }
}

#[test]
fn no_buffer_outlives_the_opening() {
    let c0c1 = opening(None);
    let mut server = ServerHandshake::new(0);
    assert_eq!(server.receive(&mut &c0c1[..1000], 0, &mut BytesMut::new()), Ok(false));
    assert_eq!(server.receive(&mut &c0c1[1000..], 0, &mut BytesMut::new()), Ok(false));
    assert!(format!("{server:?}").contains("Closing"));
    assert!(size_of::<ServerHandshake>() <= 64);
}
