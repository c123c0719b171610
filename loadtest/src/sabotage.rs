//! Whole runs against a small relay that can be told to spoil what it relays: each fault has to show in the report, as
//! itself and as nothing else.

use crate::cli::{Cli, Command, LoadArgs, Url};
use crate::payload::AVC_SEQUENCE_HEADER;
use crate::report::RunReport;
use crate::run::{Plan, measure, measure_plan, settings};
use crate::storm::{Mode, storm};
use crate::tally::Tally;
use bytes::{Buf, BytesMut};
use clap::Parser;
use shardcast::rtmp::chunk::ChunkWriter;
use shardcast::rtmp::message::{Header, Kind, media_csid};
use shardcast::rtmp::server::{ServerConfig, ServerEvent, ServerSession};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const CHUNK_BYTES: usize = 60_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    DropOne,
    RepeatOne,
    FlipBit,
    TimestampBack,
    DropHeader,
    DropLast,
    Hold(Duration),
    RefusePublish,
    RefusePlay,
    ClosePlayers,
}

/// The message a fault befalls: well after all have joined, in the window.
const VICTIM: u64 = 180;

struct Peer {
    socket: TcpStream,
    session: ServerSession,
    output: BytesMut,
    writer: ChunkWriter,
    playing: bool,
}

struct Relay {
    fault: Fault,
    peers: Vec<Peer>,
    headers: Vec<(Kind, Vec<u8>)>,
    videos: u64,
    began: Instant,
    held: Vec<(Instant, Kind, u32, Vec<u8>)>,
}

impl Relay {
    fn turn(&mut self, listener: &TcpListener) {
        while let Ok((socket, _)) = listener.accept() {
            socket.set_nonblocking(true).unwrap();
            socket.set_nodelay(true).unwrap();
            let session = ServerSession::new(ServerConfig::new(CHUNK_BYTES), 1, self.began.elapsed());
            let mut writer = ChunkWriter::new();
            writer.set_chunk_bytes(CHUNK_BYTES, &mut BytesMut::new());
            self.peers.push(Peer { socket, session, output: BytesMut::new(), writer, playing: false });
        }
        for index in 0..self.peers.len() {
            self.read(index);
        }
        while self.held.first().is_some_and(|(due, ..)| *due <= Instant::now()) {
            let (_, kind, timestamp, payload) = self.held.remove(0);
            self.send(kind, timestamp, &payload);
        }
        self.peers.retain_mut(Peer::flush);
    }

    fn read(&mut self, index: usize) {
        let mut buffer = vec![0; 64 * 1024];
        let peer = &mut self.peers[index];
        let Ok(count) = peer.socket.read(&mut buffer) else { return };
        let (mut input, mut media) = (&buffer[..count], Vec::new());
        while let Ok(Some(event)) = peer.session.receive(&mut input, self.began.elapsed()) {
            match event {
                ServerEvent::Publish { .. } | ServerEvent::Play { .. }
                    if matches!(self.fault, Fault::RefusePublish | Fault::RefusePlay)
                        && matches!(event, ServerEvent::Publish { .. }) == (self.fault == Fault::RefusePublish) =>
                {
                    let _ = peer.socket.shutdown(std::net::Shutdown::Both);
                    return;
                }
                ServerEvent::Publish { stream, .. } => peer.session.accept_publish(stream),
                ServerEvent::Play { stream, .. } => {
                    peer.session.start_play(stream);
                    peer.output.extend_from_slice(&peer.session.take_output());
                    peer.playing = true;
                    self.headers.iter().for_each(|(kind, payload)| peer.send(*kind, 0, payload));
                }
                ServerEvent::Media { kind, timestamp, payload, .. } => media.push((kind, timestamp, payload.to_vec())),
                _ => {}
            }
        }
        peer.output.extend_from_slice(&peer.session.take_output());
        media.into_iter().for_each(|(kind, timestamp, payload)| self.relay(kind, timestamp, payload));
    }

    fn relay(&mut self, kind: Kind, timestamp: u32, mut payload: Vec<u8>) {
        if payload.get(1) == Some(&0) {
            if self.fault != Fault::DropHeader || payload != AVC_SEQUENCE_HEADER {
                self.headers.push((kind, payload));
            }
            return;
        }
        self.videos += u64::from(kind == Kind::Video);
        let victim = kind == Kind::Video && self.videos == VICTIM;
        match self.fault {
            Fault::DropOne if victim => return,
            Fault::DropLast if kind == Kind::Video && self.videos > VICTIM => return,
            Fault::FlipBit if victim => payload[100] ^= 0x10,
            Fault::RepeatOne if victim => self.send(kind, timestamp, &payload),
            Fault::TimestampBack if victim => return self.send(kind, timestamp - 200, &payload),
            Fault::ClosePlayers if victim => {
                self.peers.iter().filter(|peer| peer.playing).for_each(|peer| {
                    let _ = peer.socket.shutdown(std::net::Shutdown::Both);
                });
            }
            Fault::Hold(time) => return self.held.push((Instant::now() + time, kind, timestamp, payload)),
            _ => {}
        }
        self.send(kind, timestamp, &payload);
    }

    fn send(&mut self, kind: Kind, timestamp: u32, payload: &[u8]) {
        self.peers.iter_mut().filter(|peer| peer.playing).for_each(|peer| peer.send(kind, timestamp, payload));
    }
}

impl Peer {
    fn send(&mut self, kind: Kind, timestamp: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap();
        let csid = media_csid(kind, 1);
        let header = Header { csid, timestamp, length, type_id: kind.type_id(), stream_id: 1 };
        self.writer.write(header, payload, &mut self.output);
    }

    fn flush(&mut self) -> bool {
        while !self.output.is_empty() {
            match self.socket.write(&self.output) {
                Ok(count) => self.output.advance(count),
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
        true
    }
}

fn load() -> LoadArgs {
    let arguments = "t run --url rtmp://127.0.0.1/a/b --players 6 --sample 2 --bitrate 500k --fps 60 --gop 200ms \
                     --warmup 0.3s --duration 2s --drain-deadline 1s --late 10s";
    let Command::Run(args) = Cli::parse_from(arguments.split_whitespace()).command else { panic!("not run") };
    args.load
}

fn with(fault: Fault) -> Result<RunReport, String> {
    beside_relay(fault, |url| measure(&load(), url, &[], None, ""))
}

/// `test` with the URL of a relay that has `fault`.
fn beside_relay<T>(fault: Fault, test: impl FnOnce(&Url) -> T) -> T {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let url = Url {
        address,
        secure: false,
        tc_url: format!("rtmp://{address}/live"),
        app: "live".into(),
        name: "x".into(),
        publish_at: None,
    };
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (peers, headers, held) = (Vec::new(), Vec::new(), Vec::new());
            let mut relay = Relay { fault, peers, headers, videos: 0, began: Instant::now(), held };
            while !over.load(Ordering::Acquire) {
                relay.turn(&listener);
                thread::sleep(Duration::from_micros(500));
            }
        });
        let result = test(&url);
        over.store(true, Ordering::Release);
        result
    })
}

/// All problems of a run with `fault`.
fn problems(fault: Fault) -> Vec<String> {
    with(fault).unwrap().problems
}

#[test]
fn a_faithful_relay_has_no_problem() {
    let report = with(Fault::None).unwrap();
    assert_eq!(report.problems, [""; 0]);
    assert_eq!((report.verified.players, report.connect.play_ms.count, report.connect.keyframe_ms.count), (2, 6, 6));
    // Two players, 60 video frames and 43 audio frames a second, for two seconds.
    assert!((410..=416).contains(&report.delay_ms.count), "{}", report.delay_ms.count);
    // 628 kb/s for each of six players, and chunk headers.
    assert!((3.6..4.2).contains(&report.delivery.megabits_per_second), "{}", report.delivery.megabits_per_second);
}

#[test]
fn a_dropped_frame_is_lost_by_each_verified_player() {
    assert_eq!(problems(Fault::DropOne), ["2 frames lost"]);
}

#[test]
fn a_repeated_frame_is_disorder() {
    assert_eq!(problems(Fault::RepeatOne), ["2 frames repeated or out of order"]);
}

#[test]
fn a_flipped_bit_is_a_corrupt_message_and_so_a_lost_frame() {
    assert_eq!(problems(Fault::FlipBit), ["2 frames lost", "2 messages corrupt"]);
}

#[test]
fn a_timestamp_that_falls_is_seen() {
    assert_eq!(problems(Fault::TimestampBack), ["2 timestamps went backwards"]);
}

#[test]
fn a_missing_sequence_header_is_seen() {
    assert_eq!(problems(Fault::DropHeader), ["2 tracks began before their sequence header"]);
}

#[test]
fn frames_missing_at_the_end_are_lost_to_the_last() {
    let report = with(Fault::DropLast).unwrap();
    let sent = report.publishers.frames;
    assert!(report.verified.lost > 2 && report.verified.lost < 2 * sent && report.verified.lost.is_multiple_of(2));
}

#[test]
fn delay_counts_from_when_a_frame_was_due() {
    let report = with(Fault::Hold(Duration::from_millis(300))).unwrap();
    assert_eq!(report.problems, [""; 0]);
    assert!((299.0..450.0).contains(&report.delay_ms.p50), "{:?}", report.delay_ms);
}

#[test]
fn closed_players_are_failed_players() {
    let problems = problems(Fault::ClosePlayers);
    assert_eq!(problems[0], "6 players failed");
    assert!(problems[1].ends_with(" frames lost"), "what came after the end is lost: {problems:?}");
    assert!(problems.contains(&"the server closed a player's connection".to_owned()), "{problems:?}");
}

#[test]
fn refused_peers_end_the_run_or_count() {
    assert!(with(Fault::RefusePublish).unwrap_err().contains("publisher"));
    let problems = problems(Fault::RefusePlay);
    assert_eq!(problems[..2], ["6 players failed", "6 players never got a keyframe"]);
}

fn planned(fault: Fault, plan: &Plan) -> (RunReport, Tally) {
    beside_relay(fault, |url| measure_plan(&load(), url, &[], None, plan)).unwrap()
}

#[test]
fn players_that_stop_reading_are_neither_lost_nor_starved() {
    let plan = Plan { stalled: 3, stalled_receive_bytes: 4_096, ..Plan::default() };
    let (report, tally) = planned(Fault::None, &plan);
    assert_eq!(report.problems, [""; 0]);
    assert_eq!((tally.stalled_open, tally.stalled_closed.percentiles().count), (3, 0));
}

#[test]
fn stalled_players_that_are_let_go_are_counted_with_their_time() {
    let plan = Plan { stalled: 3, stalled_receive_bytes: 4_096, ..Plan::default() };
    let (_, tally) = planned(Fault::ClosePlayers, &plan);
    let closed = tally.stalled_closed.percentiles();
    assert_eq!((tally.stalled_open, closed.count), (0, 3));
    assert!(closed.max < 4_000.0, "{closed:?}");
}

#[test]
fn unpaced_publishers_outrun_their_schedule_without_loss() {
    let (report, tally) = planned(Fault::None, &Plan { unpaced: true, ..Plan::default() });
    assert_eq!((report.verified.lost, report.verified.corrupt, tally.chunks_lost), (0, 0, 0));
    let paced = 2 * (60 + 44);
    assert!(report.delay_ms.count > 2 * 2 * paced, "{} frames", report.delay_ms.count);
    let counted = tally.chunks;
    assert_eq!((counted.chunk_bytes_min, counted.chunk_bytes_max), (CHUNK_BYTES as u64, CHUNK_BYTES as u64));
    // Every frame of this load fits into one chunk.
    assert!(counted.chunks > 0 && counted.chunks.abs_diff(counted.messages) <= 4, "{counted:?}");
}

#[test]
fn storms_count_what_is_answered_and_what_is_refused() {
    let settings = |url: &Url| settings(&load(), url, &Plan::default());
    let half = Duration::from_millis(500);
    for mode in [Mode::AtOnce(3), Mode::Rate(40), Mode::Burst(5)] {
        let over = AtomicBool::new(false);
        let outcome = beside_relay(Fault::None, |url| storm(&settings(url), mode, half, &over, &|_| ())).unwrap();
        assert!(outcome.answered > 3 && outcome.failed == 0, "{mode:?}: {:?}", outcome.reasons);
        assert_eq!(outcome.answered + outcome.unfinished, outcome.begun);
        assert_eq!(outcome.connect.percentiles().count, outcome.answered);
    }
    let over = AtomicBool::new(false);
    let live = beside_relay(Fault::None, |url| storm(&settings(url), Mode::WholeGop, half, &over, &|_| ())).unwrap();
    assert!(live.whole.percentiles().count == 0 && live.failed == 0, "the relay caches nothing: {:?}", live.reasons);
    let marks = std::cell::RefCell::new(Vec::new());
    let mark = |on| marks.borrow_mut().push(on);
    let burst = beside_relay(Fault::None, |url| storm(&settings(url), Mode::Burst(5), half, &over, &mark)).unwrap();
    assert_eq!((burst.begun, marks.into_inner()), (5, vec![false, true, false]), "one burst, marked from begin to end");
    let refused =
        beside_relay(Fault::RefusePlay, |url| storm(&settings(url), Mode::Rate(40), half, &over, &|_| ())).unwrap();
    assert!(refused.answered == 0 && refused.failed > 3, "{} failed", refused.failed);
}
