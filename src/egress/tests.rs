//! Players against a window: every test reads the whole byte stream as a client would.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{Next, Piece, Player, Policy, TooSlow};
use crate::{
    limits::{LAG_BYTES_MAX, PROGRESS_DEADLINE, SKIP_WINDOW, SKIPS_MAX},
    media::{Role, TrackSet},
    rtmp::message::Kind,
    stream::{
        headers::HeaderSet,
        log::LogWriter,
        testing::{log, parse, parse_some, payload},
    },
};

const CHUNK: usize = 4_096;
const T0: Duration = Duration::from_secs(100);
const POLICY: Policy =
    Policy { gop_cache: true, lag_max: Duration::from_millis(5_000), join_wait: Duration::from_secs(10) };

/// A log, a player of it, and all that the player was sent.
struct Seat {
    log: LogWriter,
    player: Player,
    sent: Vec<u8>,
    now: Duration,
}

impl Seat {
    fn new(live: bool) -> Self {
        let log = log(CHUNK, 256 * 1024);
        let player = Player::new(log.window(), live, T0);
        Self { log, player, sent: Vec::new(), now: T0 }
    }

    fn append(&mut self, at_ms: u32, payload: &[u8]) -> u64 {
        let (offset, _) = self.log.append(Kind::Video, at_ms, at_ms, payload);
        self.log.window_mut().release();
        offset
    }

    /// A keyframe, which is a join point.
    fn key(&mut self, at_ms: u32, payload: &[u8]) -> u64 {
        let headers = self.log.window().headers().clone();
        let offset = self.append(at_ms, payload);
        self.log.mark_join(offset, at_ms, at_ms, headers);
        offset
    }

    fn set_header(&mut self, payload: &'static [u8]) {
        let set = self.log.window().headers().clone();
        let changed = set.with(Kind::Audio, Role::SequenceHeader, TrackSet::single(0), payload);
        self.log.set_headers(changed.expect("a change"));
    }

    fn next(&mut self) -> Next {
        let next = self.player.next(self.log.window_mut(), &POLICY, self.now, |_| true);
        if let Next::Send(piece) = &next {
            assert!(!piece.is_empty() && piece.len() == piece.as_slice().len());
            self.sent.extend_from_slice(piece.as_slice());
        }
        next
    }

    /// Sends what there is; what came after that.
    fn drain(&mut self) -> Next {
        for _ in 0..10_000 {
            match self.next() {
                Next::Send(_) => {}
                next => return next,
            }
        }
        panic!("a player that never rests");
    }

    /// The timestamps and payloads sent so far.
    fn received(&self) -> Vec<(u32, Vec<u8>)> {
        parse(&self.sent, CHUNK).into_iter().map(|(header, payload)| (header.timestamp, payload)).collect()
    }
}

fn message(timestamp: u32, payload: &[u8]) -> (u32, Vec<u8>) {
    (timestamp, payload.to_vec())
}

#[test]
fn a_player_joins_at_the_newest_join_point_behind_the_headers_in_force_there() {
    let mut seat = Seat::new(false);
    assert!(matches!(seat.next(), Next::Idle) && !seat.player.has_next(seat.log.window()));
    assert_eq!(seat.player.needs_from(), None);
    seat.key(0, b"old");
    seat.set_header(b"asc");
    seat.append(10, b"inter");
    let join = seat.key(20, b"key");
    seat.append(30, b"inter");
    assert!(seat.player.has_next(seat.log.window()));
    assert!(matches!(seat.drain(), Next::Idle));
    assert_eq!(seat.received(), [message(20, b"asc"), message(20, b"key"), message(30, b"inter")]);
    assert!(seat.player.needs_from() > Some(join) && !seat.player.has_next(seat.log.window()));
    seat.append(40, b"more");
    assert!(seat.player.has_next(seat.log.window()));
    seat.drain();
    assert_eq!(seat.received().last(), Some(&message(40, b"more")));
}

#[test]
fn without_gop_cache_a_player_waits_for_the_next_keyframe() {
    let mut seat = Seat::new(true);
    seat.key(0, b"before");
    seat.player = Player::new(seat.log.window(), true, T0);
    seat.append(1, b"inter");
    assert!(!seat.player.has_next(seat.log.window()));
    assert!(matches!(seat.drain(), Next::Idle));
    seat.key(40, b"next");
    assert!(seat.player.has_next(seat.log.window()));
    seat.drain();
    assert_eq!(seat.received(), [message(40, b"next")]);
}

#[test]
fn without_a_join_point_a_player_begins_at_the_next_message_after_a_while() {
    let mut seat = Seat::new(false);
    seat.set_header(b"asc");
    seat.append(500, b"inter");
    seat.now = T0 + POLICY.join_wait - Duration::from_millis(1);
    assert!(!seat.player.join_wait_is_over(&POLICY, seat.now));
    assert!(matches!(seat.drain(), Next::Idle) && seat.sent.is_empty());
    seat.now = T0 + POLICY.join_wait;
    assert!(seat.player.join_wait_is_over(&POLICY, seat.now));
    seat.drain();
    assert!(!seat.player.join_wait_is_over(&POLICY, seat.now));
    seat.append(540, b"next");
    seat.drain();
    assert_eq!(seat.received(), [message(500, b"asc"), message(540, b"next")]);
}

#[test]
fn a_late_player_skips_only_to_a_newer_join_point() {
    let mut seat = Seat::new(false);
    seat.key(0, b"key");
    seat.drain();
    seat.append(40, b"late");
    seat.append(9_000, b"now");
    seat.drain();
    assert_eq!((seat.player.skips(), seat.received().len()), (0, 3), "nowhere to skip to");
    seat.append(9_040, b"on time");
    seat.key(14_040, b"key2");
    seat.drain();
    assert_eq!((seat.player.skips(), seat.received().len()), (0, 5), "exactly at the bound");
    seat.append(14_080, b"given up");
    seat.key(19_081, b"key3");
    seat.append(19_090, b"after");
    seat.drain();
    assert_eq!(seat.player.skips(), 1);
    assert_eq!(seat.received()[5..], [message(19_081, b"key3"), message(19_090, b"after")]);
}

#[test]
fn a_late_player_finishes_the_message_it_is_in_before_it_skips() {
    let long = payload(3, 200_000);
    for pieces in 0..4 {
        let mut seat = Seat::new(false);
        seat.key(0, b"key");
        seat.drain();
        seat.append(40, &long);
        seat.append(80, b"given up");
        for _ in 0..pieces {
            assert!(matches!(seat.next(), Next::Send(_)));
        }
        seat.key(9_000, b"key2");
        seat.drain();
        let finished = if pieces > 0 { vec![message(40, &long)] } else { vec![] };
        assert_eq!(seat.received(), [vec![message(0, b"key")], finished, vec![message(9_000, b"key2")]].concat());
        assert_eq!(seat.player.skips(), 1);
    }
}

#[test]
fn a_skip_repeats_the_headers_only_if_they_changed() {
    for changes in [false, true] {
        let mut seat = Seat::new(false);
        seat.set_header(b"asc");
        seat.key(0, b"key");
        seat.drain();
        seat.append(40, b"given up");
        if changes {
            seat.set_header(b"other");
        }
        seat.key(9_000, b"key2");
        seat.drain();
        let again = if changes { vec![message(9_000, b"other")] } else { vec![] };
        let expected = [vec![message(0, b"asc"), message(0, b"key")], again, vec![message(9_000, b"key2")]].concat();
        assert_eq!(seat.received(), expected);
    }
}

#[test]
fn a_player_that_skips_again_and_again_is_given_up() {
    let mut seat = Seat::new(false);
    seat.key(0, b"key");
    seat.drain();
    let skip = |seat: &mut Seat, round: u32| {
        seat.append(round * 10_000, b"late");
        seat.key(round * 10_000 + 9_000, b"key");
        seat.drain()
    };
    for round in 1..=SKIPS_MAX {
        assert!(matches!(skip(&mut seat, round), Next::Idle), "round {round}");
    }
    seat.now += SKIP_WINDOW + Duration::from_millis(1);
    for round in SKIPS_MAX + 1..=2 * SKIPS_MAX {
        assert!(matches!(skip(&mut seat, round), Next::Idle), "a new window at round {round}");
    }
    assert!(matches!(skip(&mut seat, 2 * SKIPS_MAX + 1), Next::TooSlow(TooSlow::Skips)));
}

#[test]
fn a_player_too_many_bytes_behind_is_given_up() {
    let mut seat = Seat::new(false);
    seat.key(0, b"key");
    seat.drain();
    let large = vec![0; 1 << 20];
    let from = seat.log.window().head();
    while seat.log.window().head() - from <= LAG_BYTES_MAX {
        assert_eq!(seat.player.is_stuck(seat.log.window(), &POLICY), None);
        assert!(matches!(seat.player.needs_from(), Some(at) if at == from));
        seat.append(1, &large);
    }
    assert_eq!(seat.player.is_stuck(seat.log.window(), &POLICY), Some(TooSlow::Bytes));
    assert!(matches!(seat.next(), Next::TooSlow(TooSlow::Bytes)));
}

#[test]
fn a_player_whose_bytes_are_gone_is_given_up() {
    let mut seat = Seat::new(false);
    seat.key(0, b"key");
    seat.drain();
    seat.append(10, b"a");
    seat.append(20, b"b");
    seat.append(30, b"c");
    seat.log.mark_join(seat.log.window().head(), 30, 30, Arc::default());
    let head = seat.log.window().head();
    seat.log.window_mut().prune(head);
    assert_eq!(seat.player.is_stuck(seat.log.window(), &POLICY), Some(TooSlow::Bytes));
    assert!(matches!(seat.next(), Next::TooSlow(TooSlow::Bytes)));
}

#[test]
fn a_player_that_could_skip_and_does_not_is_stuck() {
    let mut seat = Seat::new(false);
    assert_eq!(seat.player.is_stuck(seat.log.window(), &POLICY), None, "it seeks");
    seat.key(0, b"key");
    seat.drain();
    let stuck_ms = (POLICY.lag_max + PROGRESS_DEADLINE).as_millis() as u32;
    seat.append(10, b"late");
    seat.append(10 + stuck_ms + 1, b"now");
    assert_eq!(seat.player.is_stuck(seat.log.window(), &POLICY), None, "nowhere to skip to");
    let mut other = Seat::new(false);
    other.key(0, b"key");
    other.drain();
    other.append(10, b"late");
    other.key(10 + stuck_ms, b"key");
    assert_eq!(other.player.is_stuck(other.log.window(), &POLICY), None);
    other.append(11 + stuck_ms, b"now");
    assert_eq!(other.player.is_stuck(other.log.window(), &POLICY), Some(TooSlow::NoProgress));
}

#[test]
fn merging_holds_back_players_in_step_and_not_those_that_join() {
    let mut seat = Seat::new(false);
    seat.key(0, b"key");
    seat.log.append(Kind::Video, 10, 10, b"merged");
    seat.drain();
    assert_eq!(seat.received().len(), 2, "a joiner is sent up to the head");
    seat.log.append(Kind::Video, 20, 20, b"merged too");
    assert!(!seat.player.has_next(seat.log.window()));
    seat.drain();
    assert_eq!(seat.received().len(), 2, "now it is in step");
    seat.log.window_mut().release();
    assert!(seat.player.has_next(seat.log.window()));
    seat.drain();
    assert_eq!(seat.received().len(), 3);
}

#[test]
fn everything_of_an_ended_log_is_sent_before_its_end() {
    let long = payload(1, 150_000);
    for drained in [false, true] {
        let mut seat = Seat::new(false);
        seat.key(0, b"key");
        if drained {
            seat.drain();
        }
        seat.log.append(Kind::Video, 10, 10, &long);
        seat.log.append(Kind::Video, 20, 20, b"");
        seat.log.end();
        assert!(matches!(seat.drain(), Next::End));
        assert_eq!(seat.received(), [message(0, b"key"), message(10, &long), message(20, b"")]);
        assert!(matches!(seat.next(), Next::End), "and again when asked again");
    }
    let mut seeking = Seat::new(false);
    seeking.append(0, b"inter");
    seeking.log.end();
    seeking.now = T0 + POLICY.join_wait;
    assert!(seeking.player.has_next(seeking.log.window()));
    assert!(matches!(seeking.drain(), Next::End), "nobody begins behind the end");
}

#[test]
fn pieces_of_a_skipping_player_leave_whole_chunks_for_the_session_to_write_between() {
    let mut seat = Seat::new(false);
    seat.key(0, &payload(0, 100_000));
    for round in 1..6 {
        for _ in 0..round {
            let _ = seat.next();
            let ping = crate::stream::testing::ping();
            let (messages, _) = parse_some(&[&seat.sent[..], &ping].concat(), CHUNK);
            assert_eq!(messages.last().map(|(header, _)| header.csid), Some(2));
        }
        seat.append(round * 10_000, &payload(1, 150_000));
        seat.key(round * 10_000 + 9_000, &payload(2, 100_000));
    }
    seat.drain();
    let received = seat.received();
    assert!(seat.player.skips() > 0);
    assert!(
        received.iter().all(|(_, body)| *body == payload(0, 100_000)
            || *body == payload(1, 150_000)
            || *body == payload(2, 100_000))
    );
}

#[test]
fn a_piece_gives_up_what_was_sent_of_it() {
    let mut log = log(CHUNK, 100_000);
    log.append(Kind::Video, 0, 0, &payload(0, 1_000));
    let head = log.window().head();
    let slice = log.window_mut().slice(0, head).expect("bytes");
    let whole = slice.segment.get(slice.range.clone()).expect("published").to_vec();
    for mut piece in [Piece::Log(slice), Piece::Own(Bytes::from(whole.clone()))] {
        assert_eq!(piece.as_slice(), whole);
        for count in [0, 1, 700] {
            piece.advance(count);
        }
        assert_eq!((piece.as_slice(), piece.len()), (&whole[701..], whole.len() - 701));
        piece.advance(usize::MAX);
        assert!(piece.is_empty() && piece.as_slice().is_empty());
    }
}

#[test]
fn an_empty_prologue_is_not_sent() {
    let mut seat = Seat::new(false);
    let headers: Arc<HeaderSet> = Arc::default();
    assert_eq!(headers.in_order().count(), 0);
    seat.key(0, b"key");
    assert!(matches!(seat.next(), Next::Send(Piece::Log(_))));
}
