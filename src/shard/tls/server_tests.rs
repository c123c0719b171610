use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, client::Resumption, crypto::ring};

use super::*;

/// A client that knows `server`'s certificate and speaks one version.
fn client_of(server: &Server, version: &'static SupportedProtocolVersion) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for pair in server.pairs().iter() {
        roots.add(pair.key.cert[0].clone()).expect("a certificate");
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(4);
    config
}

/// Lets both shake hands, and the server say `said`; the client's session, and what it heard.
fn shake_hands(server: &Server, config: &Arc<ClientConfig>, said: &[u8]) -> (ClientConnection, Vec<u8>) {
    let name = ServerName::try_from("localhost").expect("a name");
    let mut client = ClientConnection::new(Arc::clone(config), name).expect("a session");
    let mut tls = server.session().expect("a session");
    assert!(tls.is_with_client() && !tls.has_heard());
    let (mut heard, mut left) = (Vec::new(), said);
    loop {
        let mut flight = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut flight).expect("memory");
        }
        assert!(!tls.receive(&flight, |_| panic!("nothing was said")).expect("sound"));
        let mut answer = Vec::new();
        if !tls.is_handshaking() && !left.is_empty() {
            let count = tls.seal(left, &mut answer).expect("keys");
            assert!((1..=limits::TLS_SEAL_BYTES_MAX).contains(&count));
            left = &left[count..];
        }
        tls.output(&mut answer);
        assert!(answer.len() <= limits::TLS_BLOCK_BYTES_MAX, "{} bytes do not fit a block", answer.len());
        if flight.is_empty() && answer.is_empty() {
            assert!(!tls.is_handshaking() && tls.has_heard());
            return (client, heard);
        }
        let mut rest = &answer[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).expect("room");
            client.process_new_packets().expect("sound");
            let mut plain = vec![0; 64 * 1024];
            while let Ok(count @ 1..) = std::io::Read::read(&mut client.reader(), &mut plain) {
                heard.extend_from_slice(&plain[..count]);
            }
        }
    }
}

#[test]
fn what_is_sealed_a_block_at_a_time_arrives() {
    let server = Server::new(vec![Pair::self_signed("", &[]).unwrap()], Oldest::Tls12, false).unwrap();
    let said = (0..300_000_u32).map(|n| (n % 251) as u8).collect::<Vec<_>>();
    for version in [&TLS12, &TLS13] {
        let (_, heard) = shake_hands(&server, &Arc::new(client_of(&server, version)), &said);
        assert!(heard == said, "{version:?}");
    }
}

#[test]
fn sessions_of_tls_1_2_are_resumed_and_those_of_1_3_with_tickets_only() {
    for (version, tickets, resumed) in [(&TLS12, false, true), (&TLS13, false, false), (&TLS13, true, true)] {
        let server = Server::new(vec![Pair::self_signed("", &[]).unwrap()], Oldest::Tls12, tickets).unwrap();
        let config = Arc::new(client_of(&server, version));
        let (first, _) = shake_hands(&server, &config, b"a");
        assert_eq!(first.handshake_kind(), Some(HandshakeKind::Full));
        let (second, _) = shake_hands(&server, &config, b"a");
        assert_eq!(second.handshake_kind() == Some(HandshakeKind::Resumed), resumed, "{version:?} {tickets}");
    }
}

#[test]
fn new_pairs_are_for_the_handshakes_that_follow() {
    let pair = || Pair::self_signed("", &[]).unwrap();
    let server = Server::new(vec![pair()], Oldest::Tls12, false).unwrap();
    let before = server.pairs()[0].fingerprint();
    server.replace(vec![pair(), pair()]);
    assert!(server.pairs().len() == 2 && server.pairs()[0].fingerprint() != before);
    shake_hands(&server, &Arc::new(client_of(&server, &TLS13)), b"");
}

#[test]
fn faults_of_clients_say_what_to_do() {
    use rustls::{InvalidMessage, PeerIncompatible};
    for (fault, part) in [
        (TlsFault::Truncated, "in the middle of the TLS handshake"),
        (TlsFault::Protocol(InvalidMessage::InvalidContentType.into()), "--rtmp)"),
        (TlsFault::Protocol(RustlsError::AlertReceived(AlertDescription::UnknownCA)), "does not trust"),
        (TlsFault::Protocol(PeerIncompatible::NoCipherSuitesInCommon.into()), "--tls-min-version"),
    ] {
        let line = client_fault(&fault);
        assert!(line.contains(part) && line.lines().count() == 1, "{line}");
    }
}
