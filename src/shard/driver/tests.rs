use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{
        Arc,
        mpsc::{self, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rustls::{ALL_VERSIONS, ServerConfig, ServerConnection, StreamOwned};

use super::Slot;
use crate::{
    relay::upstream::Endpoint,
    rtmp::{
        amf0::Encoder,
        chunk::ChunkWriter,
        client::{ClientConfig, ClientEvent, ClientRole, ClientSession},
        message::{Header, Kind, type_id},
    },
    shard::{
        close::CloseReason,
        config::{Config, DriverChoice},
        fleet::{Fleet, FleetEnd},
        questions::{Decision, Desk, Event},
        testing::{Chain, Folder, black_hole},
    },
};

const PATIENCE: Duration = Duration::from_secs(20);
const DRIVERS: [DriverChoice; 2] = [DriverChoice::Auto, DriverChoice::Legacy];
const FRAMES: usize = 150;
const FRAME_BYTES: usize = 100_000;

/// One shard that dials, and serves whoever answers as if they had connected to it.
struct Node(Fleet);

impl Node {
    fn start(driver: DriverChoice, chain: &Chain) -> Self {
        Self::with(Config { driver, upstream_ca: Some(chain.root()), ..Config::default() })
    }

    fn with(config: Config) -> Self {
        Self(Fleet::start(config).expect("it starts"))
    }

    fn dial(&self, to: &Endpoint, patience: Duration) -> usize {
        let to = to.clone();
        self.0.act(move |driver| driver.with_core(|core| core.dial(to, patience)))
    }

    fn faults(&self) -> Vec<String> {
        self.0.act(|driver| driver.dials.faults.borrow().clone())
    }

    #[track_caller]
    fn wait(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let by = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < by, "waited in vain for {what}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until nothing is left of any connection.
    #[track_caller]
    fn wait_empty(&self) {
        self.wait("all connections to be forgotten", |node| {
            node.0.act(|driver| {
                let slots = driver.slots.borrow().iter().all(Option::is_none);
                slots && driver.dials.is_empty() && driver.secure.is_empty() && driver.metrics.connections.get() == 0
            })
        });
    }

    fn end(self) {
        self.0.shutdown();
        assert_eq!(self.0.wait(), FleetEnd::Orderly);
    }
}

trait Wire: Read + Write + Send {
    /// Says that no more will come.
    fn end(&mut self);
}

impl Wire for TcpStream {
    fn end(&mut self) {
        self.shutdown(std::net::Shutdown::Write).expect("it is connected");
    }
}

impl Wire for StreamOwned<ServerConnection, TcpStream> {
    fn end(&mut self) {
        self.conn.send_close_notify();
        self.flush().expect("it is connected");
        self.sock.end();
    }
}

/// Where a peer waits to be dialled, over TLS if it has a configuration for it.
fn endpoint(secure: bool) -> (TcpListener, Endpoint) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    (listener, Endpoint::Tcp { host: "127.0.0.1".to_owned(), port, secure })
}

fn accept(listener: &TcpListener, tls: Option<&Arc<ServerConfig>>) -> Box<dyn Wire> {
    let (stream, _) = listener.accept().expect("it is dialled");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    stream.set_write_timeout(Some(PATIENCE)).expect("an option");
    match tls {
        Some(config) => {
            Box::new(StreamOwned::new(ServerConnection::new(Arc::clone(config)).expect("a session"), stream))
        }
        None => Box::new(stream),
    }
}

/// An RTMP client on a connection that it was dialled by.
struct Peer {
    wire: Box<dyn Wire>,
    session: ClientSession,
}

impl Peer {
    fn new(wire: Box<dyn Wire>, role: ClientRole) -> Self {
        let config = ClientConfig { digest: true, ..ClientConfig::new(role, "rtmp://node/live", "live", "show") };
        Self { wire, session: ClientSession::new(config, 7, Duration::ZERO) }
    }

    fn flush(&mut self) -> io::Result<()> {
        let output = self.session.take_output();
        self.wire.write_all(&output)?;
        self.wire.flush()
    }

    /// Reads and hands `see` each event, until it has seen enough or the node ends the connection.
    fn read_until(&mut self, mut see: impl FnMut(ClientEvent<'_>) -> bool) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            self.flush()?;
            let count = self.wire.read(&mut buffer)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut input = &buffer[..count];
            let mut enough = false;
            while let Some(event) = self.session.receive(&mut input, Duration::ZERO).expect("sound RTMP") {
                enough |= see(event);
            }
            if enough {
                return Ok(());
            }
        }
    }
}

fn frame(number: usize) -> Vec<u8> {
    let tag = if number.is_multiple_of(50) { 0x17 } else { 0x27 };
    [&[tag, 1, 0, 0, 0][..], &crate::stream::testing::payload(number, FRAME_BYTES)].concat()
}

/// Plays the show, checks every frame of it, says so, and waits for the end.
fn play(wire: Box<dyn Wire>, seen: Sender<()>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut peer = Peer::new(wire, ClientRole::Play);
        let mut next = 0;
        let done = |event: ClientEvent<'_>| {
            if let ClientEvent::Media { kind: Kind::Video, payload, .. } = event {
                assert!(payload == frame(next), "frame {next} differs");
                next += 1;
            }
            next == FRAMES
        };
        peer.read_until(done).expect("all frames");
        seen.send(()).expect("it is heard");
        // Over TLS an end without a close_notify is an error.
        io::copy(&mut peer.wire, &mut io::sink()).expect("an orderly end");
    })
}

fn publish(wire: Box<dyn Wire>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut peer = Peer::new(wire, ClientRole::Publish);
        peer.read_until(|event| event == ClientEvent::Publishing).expect("the name is free");
        for number in 0..FRAMES {
            peer.session.send_media(Kind::Video, number as u32, &frame(number));
            peer.flush().expect("it is connected");
        }
        peer.session.close();
        peer.flush().expect("it is connected");
        peer.wire.end();
        // The node need not answer.
        let _ = io::copy(&mut peer.wire, &mut io::sink());
    })
}

#[test]
fn what_is_dialled_is_served_with_and_without_tls_both_ways() {
    let chain = Chain::new();
    let server = chain.server(1, ALL_VERSIONS);
    for driver in DRIVERS {
        for tls in [None, Some(&server)] {
            let node = Node::start(driver, &chain);
            let (listener, to) = endpoint(tls.is_some());
            node.dial(&to, PATIENCE);
            let (say, seen) = mpsc::channel();
            let player = play(accept(&listener, tls), say);
            node.wait("the player to wait for its stream", |node| node.0.metrics()[0].players.get() == 1);
            node.dial(&to, PATIENCE);
            let publisher = publish(accept(&listener, tls));
            publisher.join().expect("it published all");
            seen.recv_timeout(PATIENCE).expect("it is sent all");
            assert!(node.faults().is_empty());
            node.end();
            player.join().expect("it is told of the end");
        }
    }
}

#[test]
fn all_of_an_audience_are_woken_though_not_at_once() {
    let chain = Chain::new();
    let server = chain.server(1, ALL_VERSIONS);
    for driver in DRIVERS {
        for tls in [None, Some(&server)] {
            let root = Some(chain.root());
            let node = Node::with(Config { driver, upstream_ca: root, wakes_at_once: 1, ..Config::default() });
            let (listener, to) = endpoint(tls.is_some());
            let (say, seen) = mpsc::channel();
            let dialled = || {
                node.dial(&to, PATIENCE);
                accept(&listener, tls)
            };
            let players: Vec<_> = (0..5).map(|_| play(dialled(), say.clone())).collect();
            let publisher = dialled();
            node.wait("the players", |node| node.0.metrics()[0].players.get() == 5);
            publish(publisher).join().expect("it published all");
            players.iter().for_each(|_| seen.recv_timeout(PATIENCE).expect("each is sent all"));
            node.end();
            players.into_iter().for_each(|player| player.join().expect("each is told of the end"));
        }
    }
}

#[test]
fn servers_that_cannot_be_trusted_are_faults_that_say_why() {
    let (chain, other) = (Chain::new(), Chain::new());
    let server = other.server(1, ALL_VERSIONS);
    for driver in DRIVERS {
        let node = Node::start(driver, &chain);
        let (listener, to) = endpoint(true);
        node.dial(&to, PATIENCE);
        let mut wire = accept(&listener, Some(&server));
        let alert = wire.read(&mut [0; 1]).expect_err("it is refused");
        assert!(alert.to_string().contains("UnknownCA"), "{alert}");
        node.wait_empty();
        let [fault] = &node.faults()[..] else { panic!("one fault, not {:?}", node.faults()) };
        assert!(fault.starts_with(&to.to_string()) && fault.contains("no TLS: ") && fault.contains("UnknownIssuer"));
        // Nothing of it is left to the next.
        node.dial(&Endpoint::Tcp { host: "elsewhere invalid".to_owned(), port: 1, secure: true }, PATIENCE);
        node.wait("a second fault", |node| node.faults().len() == 2);
        node.wait_empty();
        node.end();
    }
}

#[test]
fn peers_that_break_the_handshake_off_answer_otherwise_or_not_at_all_are_faults() {
    let chain = Chain::new();
    for driver in DRIVERS {
        let node = Node::start(driver, &chain);
        let (listener, to) = endpoint(true);
        node.dial(&to, PATIENCE);
        drop(accept(&listener, None));
        node.wait("the first fault", |node| node.faults().len() == 1);
        node.dial(&to, PATIENCE);
        let mut plain = accept(&listener, None);
        plain.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("it is connected");
        node.wait("the second fault", |node| node.faults().len() == 2);
        node.dial(&to, Duration::from_millis(300));
        let mut silent = accept(&listener, None);
        node.wait("the third fault", |node| node.faults().len() == 3);
        // A ClientHello came, and then the end.
        io::copy(&mut silent, &mut io::sink()).expect("a FIN");
        node.wait_empty();
        let faults = node.faults();
        assert!(faults[0].contains("without a close_notify"), "{}", faults[0]);
        assert!(faults[1].contains("check that the port speaks TLS"), "{}", faults[1]);
        assert!(faults[2].contains("the TLS handshake took longer than 300ms"), "{}", faults[2]);
        node.end();
    }
}

#[test]
fn a_session_cut_short_is_a_reason_of_its_own() {
    let chain = Chain::new();
    let server = chain.server(1, ALL_VERSIONS);
    for driver in DRIVERS {
        let node = Node::start(driver, &chain);
        let (listener, to) = endpoint(true);
        node.dial(&to, PATIENCE);
        let mut peer = Peer::new(accept(&listener, Some(&server)), ClientRole::Publish);
        peer.read_until(|event| event == ClientEvent::Publishing).expect("the name is free");
        drop(peer);
        node.wait_empty();
        assert!(node.faults().is_empty(), "it was there");
        assert_eq!(node.0.metrics()[0].closed(CloseReason::Tls).get(), 1);
        node.end();
    }
}

#[test]
fn a_dial_that_the_core_aborts_ends_without_a_word() {
    let chain = Chain::new();
    for driver in DRIVERS {
        let node = Node::start(driver, &chain);
        // In its handshake, and before its socket has connected.
        let (listener, to) = endpoint(true);
        let in_handshake = node.dial(&to, PATIENCE);
        let mut wire = accept(&listener, None);
        let (_hole, port, _fill) = black_hole(Ipv4Addr::new(127, 0, 0, 2));
        let dialling = node.dial(&Endpoint::Tcp { host: "127.0.0.2".to_owned(), port, secure: false }, PATIENCE);
        let abort = move |driver: &super::Driver| {
            for id in [in_handshake, dialling] {
                driver.with_core(|core| core.peer_closed(id, CloseReason::Shutdown));
            }
        };
        node.0.act(abort);
        io::copy(&mut wire, &mut io::sink()).expect("a FIN");
        node.wait_empty();
        assert!(node.faults().is_empty(), "{:?}", node.faults());
        node.end();
    }
}

#[test]
fn a_socket_file_is_dialled() {
    let chain = Chain::new();
    let folder = Folder::new("driver");
    let path = folder.path("node.sock");
    for driver in DRIVERS {
        let node = Node::start(driver, &chain);
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("a new file");
        node.dial(&Endpoint::Unix(path.clone()), PATIENCE);
        let (mut wire, _) = listener.accept().expect("it is dialled");
        wire.set_read_timeout(Some(PATIENCE)).expect("an option");
        wire.write_all(&[3; 1_537]).expect("C0 and C1");
        wire.read_exact(&mut [0; 3_073]).expect("S0, S1 and S2");
        drop(wire);
        node.wait_empty();
        std::fs::remove_file(&path).expect("it is there");
        node.end();
    }
}

/// A publisher over TCP and TLS that sends on without waiting for the decision about it: nothing is lost, or read early.
#[test]
fn what_is_sent_while_a_decision_is_awaited_is_read_after_it() {
    let chain = Chain::new();
    let server = chain.server(1, ALL_VERSIONS);
    for driver in DRIVERS {
        for tls in [None, Some(&server)] {
            let (say, questions) = mpsc::channel();
            let mut config = Config { driver, upstream_ca: Some(chain.root()), ..Config::default() };
            config.callbacks.events[Event::Publish as usize] = true;
            config.callbacks.patience = PATIENCE;
            config.callbacks.desk = Some(Desk::new(move |question| say.send(question.ticket).is_ok()));
            let node = Node(Fleet::start(config).expect("it starts"));
            let (listener, to) = endpoint(tls.is_some());
            node.dial(&to, PATIENCE);
            let mut wire = accept(&listener, tls);
            let script = unanswered_publish(&mut wire);
            let ticket = questions.recv_timeout(PATIENCE).expect("it asks").expect("it waits");
            let sender = thread::spawn(move || {
                wire.write_all(&script).and_then(|()| wire.flush()).expect("it is taken in the end");
                wire
            });
            thread::sleep(Duration::from_millis(300));
            let metrics = &node.0.metrics()[0];
            assert!(metrics.bytes_received.get() < 200_000, "{} bytes were read", metrics.bytes_received.get());
            assert_eq!((metrics.publishers.get(), metrics.messages_received.get()), (0, 0));
            node.0.decide(ticket, Decision::Allowed);
            node.wait("all frames", |node| node.0.metrics()[0].messages_received.get() == FRAMES as u64);
            assert_eq!(node.0.metrics()[0].tags_malformed.get(), 0);
            let mut wire = sender.join().expect("it sent all");
            wire.end();
            let _ = io::copy(&mut wire, &mut io::sink());
            node.end();
        }
    }
}

/// Speaks up to `publish`, and returns what to send then without having read an answer: all frames.
fn unanswered_publish(wire: &mut Box<dyn Wire>) -> Vec<u8> {
    let mut handshake = crate::rtmp::handshake::ClientHandshake::new(8, false);
    let mut out = BytesMut::new();
    handshake.start(0, &mut out);
    wire.write_all(&out).and_then(|()| wire.flush()).expect("it is connected");
    let mut reply = [0; 3_073];
    wire.read_exact(&mut reply).expect("S0, S1 and S2");
    out.clear();
    assert_eq!(handshake.receive(&mut &reply[..], 0, &mut out), Ok(true));
    let mut writer = ChunkWriter::new();
    let mut command = |stream_id, name: &str, write: &dyn Fn(&mut Encoder<'_>)| {
        let mut payload = BytesMut::new();
        let mut encoder = Encoder::new(&mut payload);
        encoder.string(name).number(1.0);
        write(&mut encoder);
        let header = Header { csid: 3, timestamp: 0, length: 0, type_id: type_id::COMMAND_AMF0, stream_id };
        writer.write(header, &payload, &mut out);
    };
    command(0, "connect", &|out| {
        out.object().key("app").string("live").key("tcUrl").string("rtmp://node/live").end();
    });
    command(0, "createStream", &|out| {
        out.null();
    });
    command(1, "publish", &|out| {
        out.null().string("show").string("live");
    });
    let mut frames = BytesMut::new();
    for number in 0..FRAMES {
        let header = Header { csid: 6, timestamp: number as u32, length: 0, type_id: type_id::VIDEO, stream_id: 1 };
        writer.write(header, &frame(number), &mut frames);
    }
    // The first frame is cut in two: its beginning is in the read that ends with the publish.
    out.extend_from_slice(&frames.split_to(1_000));
    wire.write_all(&out).and_then(|()| wire.flush()).expect("it is connected");
    frames.to_vec()
}

/// There is one for each player.
#[test]
fn a_slot_is_small() {
    assert!(size_of::<Option<Slot>>() <= 24, "a slot has {} bytes", size_of::<Option<Slot>>());
}

/// As on a shard that has too much to send.
#[test]
fn what_is_due_is_done_though_tasks_never_rest() {
    for driver in DRIVERS {
        let node = Node::start(driver, &Chain::new());
        let turns = |node: &Node| node.0.act(|driver| driver.metrics.turns.get());
        node.0.act(|driver| {
            let driver = driver.me.upgrade().expect("it runs");
            monoio::spawn(async move {
                while !driver.core.borrow().is_ending() {
                    driver.let_all_run().await;
                }
            });
        });
        let before = turns(&node);
        node.wait("ticks", |node| turns(node) >= before + 3);
        let (slept, sleeps) = mpsc::channel();
        node.0.act(move |_| {
            monoio::spawn(async move {
                monoio::time::sleep(Duration::from_millis(1)).await;
                slept.send(()).expect("it is heard");
            });
        });
        sleeps.recv_timeout(PATIENCE).expect("timers go on");
        node.end();
    }
}
