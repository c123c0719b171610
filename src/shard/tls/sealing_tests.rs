//! What is encrypted here, heard by rustls with ring's own records.

use rustls::{
    RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{CryptoProvider, ring::default_provider},
    pki_types::ServerName,
    sign::SingleCertAndKey,
    version::{TLS12, TLS13},
};

use super::{certificate::Pair, provider::suites, *};

/// A session with a client, after the handshake, and what the client has heard.
struct Talk {
    tls: Tls,
    client: ClientConnection,
    heard: Vec<u8>,
    said: Vec<u8>,
}

impl Talk {
    /// By `suite`; no keys protect more than `limit` records.
    fn new(pair: &Pair, suite: SupportedCipherSuite, limit: u64) -> Self {
        let versions: &[&'static SupportedProtocolVersion] = &[suite.version()];
        let provider = CryptoProvider { cipher_suites: suites(limit), ..default_provider() };
        let server = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .expect("a version")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&pair.key))));
        let mut roots = RootCertStore::empty();
        roots.add(pair.key.cert[0].clone()).expect("a certificate");
        let provider = CryptoProvider { cipher_suites: vec![suite], ..default_provider() };
        let client = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .expect("a version")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = ClientConnection::new(Arc::new(client), ServerName::try_from("localhost").expect("a name"));
        let tls = Tls::with_client(Arc::new(server)).expect("a session");
        let mut talk = Self { tls, client: client.expect("a session"), heard: Vec::new(), said: Vec::new() };
        while talk.client.is_handshaking() || talk.tls.is_handshaking() {
            talk.answer();
        }
        talk
    }

    /// What the client has to say.
    fn flight(&mut self) -> Vec<u8> {
        let mut flight = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut flight).expect("memory");
        }
        flight
    }

    /// Lets the client say what it has to, and hear what there is to answer.
    fn answer(&mut self) {
        let flight = self.flight();
        self.tls.receive(&flight, |_| panic!("it says nothing")).expect("sound");
        let mut block = Vec::new();
        self.tls.output(&mut block);
        self.hear(&block);
    }

    /// Sends `count` bytes in one piece.
    fn say(&mut self, count: usize) -> Result<(), TlsFault> {
        let plain = (0..count).map(|n| (n % 251) as u8).collect::<Vec<_>>();
        let mut rest = &plain[..];
        while !rest.is_empty() {
            let mut block = Vec::new();
            let sealed = self.tls.seal(rest, &mut block)?;
            assert!(block.len() <= limits::TLS_BLOCK_BYTES_MAX, "{} bytes do not fit a block", block.len());
            self.said.extend_from_slice(&rest[..sealed]);
            rest = &rest[sealed..];
            self.hear(&block);
        }
        Ok(())
    }

    fn hear(&mut self, mut block: &[u8]) {
        while !block.is_empty() {
            self.client.read_tls(&mut block).expect("room");
            self.client.process_new_packets().expect("sound records");
            let mut plain = [0; 32 * 1024];
            while let Ok(count @ 1..) = self.client.reader().read(&mut plain) {
                self.heard.extend_from_slice(&plain[..count]);
            }
        }
    }

    #[track_caller]
    fn all_was_heard(&self) {
        assert!(self.heard == self.said, "{} bytes of {}", self.heard.len(), self.said.len());
    }
}

fn pair() -> Pair {
    Pair::self_signed("", &[]).expect("a certificate")
}

/// Those that its key (ECDSA) goes with.
fn every_suite() -> impl Iterator<Item = SupportedCipherSuite> {
    let goes = |suite: &SupportedCipherSuite| !format!("{:?}", suite.suite()).contains("_RSA_");
    default_provider().cipher_suites.into_iter().filter(goes)
}

#[test]
fn every_cipher_of_every_version_protects_pieces_of_every_size() {
    let pair = pair();
    let mut tried = 0;
    for suite in every_suite() {
        let mut talk = Talk::new(&pair, suite, u64::MAX);
        for bytes in [1, 15, 16, 17, 4_096, 16_383, 16_384, 16_385, 24_576, 24_577, 100_000] {
            talk.say(bytes).expect("keys");
            talk.all_was_heard();
        }
        talk.tls.close();
        talk.answer();
        assert_eq!(talk.client.reader().read(&mut [0]).ok(), Some(0), "{suite:?}: an orderly end");
        tried += 1;
    }
    assert_eq!(tried, 6, "three ciphers, two versions");
}

#[test]
fn new_keys_are_announced_before_they_are_used() {
    let pair = pair();
    for suite in every_suite().filter(|suite| suite.version() == &TLS13) {
        let mut talk = Talk::new(&pair, suite, u64::MAX);
        for _ in 0..5 {
            talk.say(20_000).expect("keys");
            talk.client.refresh_traffic_keys().expect("TLS 1.3");
            let before = talk.tls.sealer.clone().expect("keys");
            talk.answer();
            let after = talk.tls.sealer.clone().expect("keys");
            assert!(!Arc::ptr_eq(&before, &after), "it was asked for new ones");
        }
        talk.say(20_000).expect("keys");
        talk.all_was_heard();
    }
}

/// A client that changes its keys again and again, says something in between, and takes nothing.
#[test]
fn changes_of_keys_leave_one_answer_waiting() {
    let pair = pair();
    for suite in every_suite().filter(|suite| suite.version() == &TLS13) {
        let mut talk = Talk::new(&pair, suite, u64::MAX);
        for _ in 0..500 {
            talk.client.refresh_traffic_keys().expect("TLS 1.3");
            talk.client.writer().write_all(b"!").expect("memory");
            let flight = talk.flight();
            talk.tls.receive(&flight, |plain| assert_eq!(plain, b"!")).expect("sound");
        }
        let mut block = Vec::new();
        talk.tls.output(&mut block);
        assert!((1..64).contains(&block.len()), "{} bytes waited", block.len());
        talk.hear(&block);
        talk.say(20_000).expect("keys");
        talk.all_was_heard();
    }
}

#[test]
fn nothing_follows_an_alert() {
    let pair = pair();
    for suite in every_suite() {
        let mut talk = Talk::new(&pair, suite, u64::MAX);
        let forged = [&[23, 3, 3, 0, 32][..], &[0; 32]].concat();
        let fault = talk.tls.receive(&forged, |_| panic!("it says nothing")).expect_err("no key made that");
        assert!(matches!(fault, TlsFault::Protocol(rustls::Error::DecryptError)), "{fault}");
        let mut block = Vec::new();
        assert!(talk.tls.seal(b"more", &mut block).is_err() && block.is_empty());
        talk.tls.output(&mut block);
        talk.client.read_tls(&mut &block[..]).expect("room");
        let told = talk.client.process_new_packets().expect_err("an alert");
        assert_eq!(told, rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac), "{suite:?}");
    }
}

#[test]
fn spent_keys_are_replaced() {
    let pair = pair();
    for suite in every_suite().filter(|suite| suite.version() == &TLS13) {
        let mut talk = Talk::new(&pair, suite, 3);
        for _ in 0..10 {
            talk.say(30_000).expect("new keys");
        }
        talk.all_was_heard();
    }
}

#[test]
fn spent_keys_of_tls_1_2_end_the_session_in_order() {
    let pair = pair();
    for suite in every_suite().filter(|suite| suite.version() == &TLS12) {
        // The keys end within a piece, or between two.
        for (limit, bytes) in [(3, 1_000), (4, 20_000), (5, 20_000)] {
            let mut talk = Talk::new(&pair, suite, limit);
            let fault = (0..10).find_map(|_| talk.say(bytes).err()).expect("there are no new keys");
            assert_eq!(fault, TlsFault::KeysSpent);
            talk.all_was_heard();
            talk.tls.close();
            talk.answer();
            assert_eq!(talk.client.reader().read(&mut [0]).ok(), Some(0), "{suite:?}: an orderly end");
        }
    }
}
