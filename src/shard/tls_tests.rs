use rustls::{ALL_VERSIONS, ServerConfig, ServerConnection, version};

use super::*;
use crate::shard::testing::{Chain, Folder};

/// What a session has to send, if anything.
fn output(tls: &mut Tls) -> Option<Vec<u8>> {
    let mut block = Vec::new();
    tls.output(&mut block);
    (!block.is_empty()).then_some(block)
}

/// A session and its server, in memory.
struct Pair {
    client: Tls,
    server: ServerConnection,
    /// What each was told.
    received: Vec<u8>,
    heard: Vec<u8>,
    /// Bytes the client is given at a time.
    split: usize,
    /// The server has said that it says no more.
    closed: bool,
}

impl Pair {
    fn new(chain: &Chain, server: Arc<ServerConfig>, host: &'static str) -> Self {
        let config = client_config(Some(&chain.root())).expect("it has a root");
        let client = Tls::with_node(config, host.try_into().expect("a name")).expect("a session");
        let server = ServerConnection::new(server).expect("a session");
        Self { client, server, received: Vec::new(), heard: Vec::new(), split: usize::MAX, closed: false }
    }

    /// Lets both say all they have to.
    fn talk(&mut self) -> Result<(), TlsFault> {
        loop {
            let mut quiet = true;
            while let Some(output) = output(&mut self.client) {
                quiet = false;
                self.hear(&output);
            }
            let mut sealed = Vec::new();
            while self.server.wants_write() {
                self.server.write_tls(&mut sealed).expect("memory");
            }
            for part in sealed.chunks(self.split) {
                quiet = false;
                self.closed |= self.client.receive(part, |plain| self.received.extend_from_slice(plain))?;
            }
            if quiet {
                return Ok(());
            }
        }
    }

    fn hear(&mut self, mut sealed: &[u8]) {
        while !sealed.is_empty() {
            self.server.read_tls(&mut sealed).expect("room");
            // A client that breaks off is the client's to judge.
            let _ = self.server.process_new_packets();
            let mut plain = [0; 4_096];
            while let Ok(count @ 1..) = self.server.reader().read(&mut plain) {
                self.heard.extend_from_slice(&plain[..count]);
            }
        }
    }
}

/// How the handshake with a server of `days` under `host` ends.
fn verdict(chain: &Chain, days: u32, host: &'static str) -> Result<(), String> {
    let mut pair = Pair::new(chain, chain.server(days, ALL_VERSIONS), host);
    std::thread::sleep(std::time::Duration::from_millis(if days == 0 { 2_000 } else { 0 }));
    pair.talk().map_err(|fault| fault.to_string())
}

#[test]
fn servers_are_known_by_name_and_address_over_every_version() {
    let chain = Chain::new();
    for version in [&version::TLS12, &version::TLS13] {
        let server = chain.server(1, &[version]);
        for host in ["localhost", "origin.example", "127.0.0.1"] {
            let mut pair = Pair::new(&chain, Arc::clone(&server), host);
            assert!(pair.client.is_handshaking());
            pair.talk().expect("a sound chain");
            assert!(!pair.client.is_handshaking() && !pair.server.is_handshaking());
        }
    }
}

#[test]
fn servers_that_cannot_be_trusted_are_refused_with_what_to_do() {
    let (chain, other) = (Chain::new(), Chain::new());
    let wrong = verdict(&chain, 1, "elsewhere.example").expect_err("another name");
    assert!(
        wrong.contains("elsewhere.example") && wrong.ends_with("use the name that is on its certificate"),
        "{wrong}"
    );
    let expired = verdict(&chain, 0, "localhost").expect_err("expired");
    assert!(expired.contains("xpired") && expired.contains("must be renewed"), "{expired}");
    let mut pair = Pair::new(&other, chain.server(1, ALL_VERSIONS), "localhost");
    let unknown = pair.talk().expect_err("another root").to_string();
    assert!(unknown.contains("UnknownIssuer") && unknown.contains("--upstream-ca"), "{unknown}");
    assert!(output(&mut pair.client).is_some(), "an alert says why");
}

#[test]
fn what_is_said_arrives_however_it_is_split() {
    let chain = Chain::new();
    let server = chain.server(1, ALL_VERSIONS);
    let said = (0..100_000_u32).map(|n| (n % 251) as u8).collect::<Vec<_>>();
    for split in [1, 2, 3, 5, 1_000, 16_389, usize::MAX] {
        let mut pair = Pair::new(&chain, Arc::clone(&server), "localhost");
        pair.split = split;
        pair.talk().expect("a sound chain");
        for part in said.chunks(10_000) {
            pair.server.writer().write_all(part).expect("room");
            pair.talk().expect("sound");
        }
        assert_eq!(pair.received, said, "split {split}");
        let mut rest = &said[..];
        while !rest.is_empty() {
            let mut block = Vec::new();
            let count = pair.client.seal(rest, &mut block).expect("keys");
            assert!((1..=limits::TLS_SEAL_BYTES_MAX).contains(&count));
            rest = &rest[count..];
            pair.hear(&block);
            pair.talk().expect("sound");
        }
        assert!(pair.heard == said, "split {split}");
        pair.client.close();
        pair.talk().expect("sound");
        assert_eq!(pair.server.reader().read(&mut [0]).ok(), Some(0), "an orderly end");
    }
}

#[test]
fn an_end_without_notice_is_a_truncation_at_every_byte() {
    let chain = Chain::new();
    let server = chain.server(1, ALL_VERSIONS);
    // What a server says in a session: its handshake, some bytes, and its close_notify.
    let session = |take: usize| {
        let mut pair = Pair::new(&chain, Arc::clone(&server), "localhost");
        let (mut fed, mut closed, mut said) = (0, false, false);
        loop {
            while let Some(output) = output(&mut pair.client) {
                pair.hear(&output);
            }
            if !said && !pair.server.is_handshaking() {
                said = true;
                pair.server.writer().write_all(b"some bytes").expect("room");
                pair.server.send_close_notify();
            }
            let mut sealed = Vec::new();
            while pair.server.wants_write() {
                pair.server.write_tls(&mut sealed).expect("memory");
            }
            sealed.truncate(take - fed);
            if sealed.is_empty() {
                return (pair.client.end(), fed, closed);
            }
            fed += sealed.len();
            closed |= pair.client.receive(&sealed, |_| {}).expect("sound");
        }
    };
    let (ended, whole, closed) = session(usize::MAX);
    assert_eq!((ended, closed), (Ok(()), true));
    // The length of a signature varies: stay clear of the close_notify, 24 bytes.
    for take in (0..whole - 30).step_by(7).chain(whole - 60..whole - 30) {
        let (ended, ..) = session(take);
        assert_eq!(ended, Err(TlsFault::Truncated), "after {take} of {whole} bytes");
    }
}

#[test]
fn whoever_speaks_no_tls_is_told_from_who_does() {
    let chain = Chain::new();
    for answer in
        [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], &[3; 1_537], &[0; 64], &[0xFF; 64], &[21, 3, 3, 0, 2, 2, 40]]
    {
        let mut pair = Pair::new(&chain, chain.server(1, ALL_VERSIONS), "localhost");
        for byte in answer.chunks(1) {
            match pair.client.receive(byte, |_| panic!("nothing was said")) {
                Ok(closed) => assert!(!closed),
                Err(fault) => {
                    let text = fault.to_string();
                    assert!(text.contains("speaks TLS") || text.contains("broke it off"), "{text}");
                    pair.closed = true;
                    break;
                }
            }
        }
        assert!(pair.closed, "{answer:?} was taken for TLS");
    }
}

#[test]
fn a_file_without_certificates_is_no_authority() {
    let folder = Folder::new("roots");
    let path = folder.path("ca.pem");
    let fault = || client_config(Some(&path)).expect_err("no certificate");
    assert!(fault().contains("ca.pem: "), "{}", fault());
    for (content, part) in [
        ("", "no certificate in PEM"),
        ("words", "no certificate in PEM"),
        ("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n", "not PEM"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "not a root certificate"),
    ] {
        std::fs::write(&path, content).expect("a file");
        assert!(fault().contains(part), "{content:?}: {}", fault());
    }
}
