//! Logs, windows and feeds: what is written is what is read, here and on another shard.

use std::sync::Arc;

use super::{
    feed::{FeedPosition, JoinChange},
    headers::HeaderSet,
    layout::Layout,
    log::{JoinBounds, LogWriter},
    segment::LogGauge,
    testing::{all_bytes, bytes_of, kind, log, parse, parse_some, payload, ping, slices},
    window::Window,
};
use crate::{
    limits::{FLUSH_BYTES_MAX, INDEX_ENTRIES_MAX},
    media::{Role, TrackSet},
    rtmp::message::{Kind, media_csid, type_id},
};

const TIMESTAMPS: [u32; 6] = [0, 0xFF_FFFE, 0xFF_FFFF, 0x100_0000, 0x8000_0000, u32::MAX];

/// Sizes around the ends of chunks, and one longer than a segment.
fn sizes(chunk: usize, segment: usize) -> Vec<usize> {
    vec![0, 1, chunk - 1, chunk, chunk + 1, 2 * chunk, 3 * chunk + 1, 7 * chunk - 1, segment + chunk / 2]
}

fn headers(payloads: &[(Kind, usize)]) -> Arc<HeaderSet> {
    payloads.iter().enumerate().fold(Arc::default(), |set: Arc<HeaderSet>, (seed, (kind, length))| {
        let tracks = TrackSet::single(seed as u8);
        set.with(*kind, Role::SequenceHeader, tracks, &payload(seed, *length)).expect("a change")
    })
}

fn bounds(gop_bytes_max: usize) -> JoinBounds {
    JoinBounds { gop_bytes_max }
}

/// A log of messages of many sizes.
fn varied(chunk: usize, segment: usize) -> LogWriter {
    let mut log = log(chunk, segment);
    for (index, size) in sizes(chunk, segment).into_iter().cycle().take(40).enumerate() {
        let timestamp = TIMESTAMPS[index % TIMESTAMPS.len()];
        log.append(kind(index), timestamp, index as u32 * 10, &payload(index, size));
    }
    log
}

#[test]
fn what_is_appended_is_exactly_what_a_reader_parses_at_every_size_and_timestamp() {
    for (chunk, segment) in [(128, 1_000), (128, 129), (4_096, 20_000), (61_000, 256 * 1024)] {
        for timestamp in TIMESTAMPS {
            let mut log = log(chunk, segment);
            let sizes = sizes(chunk, segment);
            for (index, size) in sizes.iter().enumerate() {
                log.append(kind(index), timestamp, 0, &payload(index, *size));
            }
            let messages = parse(&all_bytes(log.window_mut(), 0), chunk);
            assert_eq!(messages.len(), sizes.len());
            for (index, (header, body)) in messages.iter().enumerate() {
                let kind = kind(index);
                assert_eq!((header.timestamp, header.type_id, header.stream_id), (timestamp, kind.type_id(), 1));
                assert_eq!(header.csid, media_csid(kind, 1));
                assert_eq!(*body, payload(index, sizes[index]), "message {index}, chunk {chunk}");
                let (entry, copied) = log.window().payload(index as u64).expect("held");
                assert_eq!((entry.timestamp, entry.kind), (timestamp, kind));
                assert_eq!(copied, *body, "the window gives back message {index}, chunk {chunk}");
            }
            assert!(log.window().payload(sizes.len() as u64).is_none());
        }
    }
}

#[test]
fn the_prologue_is_exactly_what_a_reader_parses() {
    let chunk = 128;
    let kinds = [Kind::Data, Kind::Video, Kind::Audio];
    let set =
        headers(&sizes(chunk, 700).into_iter().zip(kinds.into_iter().cycle()).map(|(a, b)| (b, a)).collect::<Vec<_>>());
    for timestamp in TIMESTAMPS {
        let layout = Layout { stream_id: 8, chunk_bytes: chunk, published: false };
        let messages = parse(&layout.prologue(&set, |_| timestamp, |_| true), chunk);
        assert_eq!(messages.len(), set.in_order().count());
        for ((header, body), item) in messages.iter().zip(set.in_order()) {
            let expected = if item.kind == Kind::Data { 0 } else { timestamp };
            assert_eq!((header.timestamp, header.stream_id), (expected, 8));
            assert_eq!((header.csid, &body[..]), (media_csid(item.kind, 8), &item.payload[..]));
        }
        let without_audio = parse(&layout.prologue(&set, |_| timestamp, |kind| kind != Kind::Audio), chunk);
        assert!(without_audio.iter().all(|(header, _)| header.type_id != type_id::AUDIO));
        assert!(without_audio.len() < messages.len());
    }
}

#[test]
fn headers_come_no_later_than_messages_that_may_follow_whoever_forgot_what_was_before() {
    let mut log = log(128, 1_000);
    for timestamp in [980, 990] {
        log.append(Kind::Audio, timestamp, 0, b"audio");
    }
    let (join, _) = log.append(Kind::Video, 1_000, 0, b"keyframe");
    let set = headers(&[(Kind::Audio, 9), (Kind::Video, 9)]);
    log.mark_join(join, 1_000, 0, set.clone());
    log.window_mut().release();
    let mut follower = Follower::new(log.window().layout());
    follower.feed(log.window());
    log.window_mut().prune(join);
    let forgotten = log.window_mut().prologue(join, 1_000, &set, |_| true);
    let followed = follower.window.prologue(join, 1_000, &set, |_| true);
    for prologue in [forgotten, followed] {
        let messages = parse(&prologue, 128);
        let headers: Vec<_> = messages.iter().map(|(header, _)| (header.type_id, header.timestamp)).collect();
        assert_eq!(headers, [(type_id::AUDIO, 990), (type_id::VIDEO, 1_000)]);
    }
}

#[test]
fn chunk_boundaries_are_where_the_chunks_end() {
    for timestamp in TIMESTAMPS {
        let layout = Layout { stream_id: 1, chunk_bytes: 128, published: false };
        let extended = if timestamp >= 0xFF_FFFF { 4 } else { 0 };
        let first = 1_000 + 12 + extended + 128;
        let second = first + 1 + extended + 128;
        assert_eq!(layout.chunk_boundary(1_000, timestamp, first - 1), None);
        assert_eq!(layout.chunk_boundary(1_000, timestamp, first), Some(first));
        assert_eq!(layout.chunk_boundary(1_000, timestamp, second - 1), Some(first));
        assert_eq!(layout.chunk_boundary(1_000, timestamp, second), Some(second));
        assert_eq!(layout.chunk_boundary(1_000, timestamp, 999), None);
    }
}

#[test]
fn a_control_message_fits_behind_every_slice() {
    for (chunk, segment) in [(128, 256 * 1024), (60_000, 256 * 1024), (61_000, 62_000), (4_096, 70_000)] {
        let mut log = log(chunk, segment);
        let sizes = [500, 200_000, 0, 59_000, 61_440, 30_000, 30_000, 5, 700_000, 1, 61_428, 128];
        for (index, size) in sizes.iter().enumerate() {
            log.append(kind(index), TIMESTAMPS[index % TIMESTAMPS.len()], 0, &payload(index, *size));
        }
        let mut stream = Vec::new();
        let head = log.window().head();
        let slices = slices(log.window_mut(), 0, head);
        for slice in &slices {
            let bytes = bytes_of(slice);
            assert!(bytes.len() <= FLUSH_BYTES_MAX);
            stream.extend_from_slice(bytes);
            stream.extend_from_slice(&ping());
        }
        let messages = parse(&stream, chunk);
        let (pings, media): (Vec<_>, Vec<_>) = messages.iter().partition(|(header, _)| header.csid == 2);
        assert_eq!(pings.len(), slices.len());
        assert_eq!(media.len(), sizes.len());
        // Tracks overtake nothing: the messages are whole and in order.
        for (index, (_, body)) in media.iter().enumerate() {
            assert_eq!(*body, payload(index, sizes[index]), "message {index}, chunk {chunk}");
        }
    }
}

#[test]
fn a_slice_ends_between_messages_unless_one_is_longer_than_a_flush() {
    let mut log = varied(4_096, 256 * 1024);
    let head = log.window().head();
    for slice in slices(log.window_mut(), 0, head) {
        let window = log.window();
        let at_segment_end = window.segments().any(|segment| segment.base() == slice.range.end);
        let longer = window.message_end(slice.range.start) > slice.range.start + FLUSH_BYTES_MAX as u64;
        assert!(window.is_message_boundary(slice.range.end) || at_segment_end || longer, "{:?}", slice.range);
    }
}

#[test]
fn the_slice_players_share_is_the_one_that_was_asked_for() {
    let mut log = varied(128, 1_000);
    let head = log.window().head();
    let whole = all_bytes(log.window_mut(), 0);
    for slice in slices(log.window_mut(), 0, head) {
        for upto in [slice.range.end, head, slice.range.start + 1] {
            let cut = log.window_mut().slice(slice.range.start, upto).expect("bytes");
            assert_eq!(bytes_of(&cut), &whole[cut.range.start as usize..cut.range.end as usize]);
            assert!(cut.range.end <= upto);
        }
    }
    assert!(log.window_mut().slice(head, head).is_none());
    assert!(log.window_mut().slice(head + 1, head + 2).is_none());
}

#[test]
fn whole_flushes_are_released_between_messages_and_what_is_left_is_less_than_one() {
    for size in [0, 100, 5_000, 30_000, 61_000, 61_440, 200_000] {
        let mut log = log(60_000, 256 * 1024);
        for index in 0..30 {
            log.append(kind(index), 0, 0, &payload(index, size));
            let released = log.window().released();
            let grew = log.window_mut().release_whole_flushes();
            let window = log.window();
            assert_eq!(grew, window.released() > released);
            assert!(window.is_message_boundary(window.released()));
            assert!(window.head() - window.released() < FLUSH_BYTES_MAX as u64, "size {size}, message {index}");
            if grew && size < 61_000 {
                let flush = window.released() - released;
                assert!(flush > (FLUSH_BYTES_MAX - size - 18) as u64, "a flush of {flush} at size {size}");
            }
        }
        log.window_mut().release();
        assert_eq!(log.window().released(), log.window().head());
    }
}

#[test]
fn pruning_keeps_what_is_needed_and_the_join_point() {
    let mut log = varied(128, 1_000);
    let whole = all_bytes(log.window_mut(), 0);
    let head = log.window().head();
    let offsets: Vec<u64> = log.window().entries_from(0).map(|entry| entry.offset).collect();
    log.mark_join(offsets[20], 0, 0, Arc::default());
    let mut last_start = 0;
    for keep in (0..head).step_by(37) {
        log.window_mut().prune(keep);
        let window = log.window_mut();
        let needed = keep.min(offsets[20]);
        assert!(window.start() <= needed && window.start() >= last_start);
        last_start = window.start();
        assert!(window.slice(needed, head).is_some());
        let first = window.first_sequence() as usize;
        assert!(offsets[first] <= needed, "the message that is needed is indexed");
        assert_eq!(window.entries_from(0).next().map(|entry| entry.offset), Some(offsets[first]));
        assert_eq!(window.next_sequence(), offsets.len() as u64);
        let from = slices(window, needed, head).iter().flat_map(|slice| bytes_of(slice).to_vec()).collect::<Vec<_>>();
        assert_eq!(from, &whole[needed as usize..]);
    }
    assert_eq!(last_start, offsets[20]);
    log.window_mut().set_join(None);
    log.window_mut().prune(u64::MAX);
    assert!(log.window().held_bytes() <= 1_000, "only the newest segment stays");
    assert!(log.window_mut().slice(offsets[20], head).is_none());
}

#[test]
fn an_index_that_is_full_forgets_the_oldest_messages_and_a_join_point_among_them() {
    let mut log = log(128, 256 * 1024);
    log.mark_join(0, 0, 0, Arc::default());
    for index in 0..INDEX_ENTRIES_MAX + 10 {
        log.append(Kind::Audio, 0, index as u32, b"");
    }
    let window = log.window_mut();
    assert_eq!(window.next_sequence() - window.first_sequence(), INDEX_ENTRIES_MAX as u64);
    assert_eq!(window.first_sequence(), 10);
    let oldest = window.entries_from(0).next().expect("an entry").offset;
    assert_eq!(window.start(), oldest);
    assert!(window.slice(oldest - 1, window.head()).is_none());
    assert!(window.join().is_none_or(|join| join.offset >= window.start()), "nobody can begin at what is gone");
}

#[test]
fn lag_and_age_are_told_by_arrival_across_the_wrap() {
    let mut log = log(128, 10_000);
    assert_eq!((log.window().lag_ms(0), log.window().arrived_within(5)), (0, 0));
    let arrivals = [u32::MAX - 99, u32::MAX, 0, 100];
    let offsets: Vec<u64> = arrivals.iter().map(|at| log.append(Kind::Video, 0, *at, &[1; 300]).0).collect();
    let window = log.window();
    let head = window.head();
    assert_eq!(offsets.iter().map(|offset| window.lag_ms(*offset)).collect::<Vec<_>>(), [200, 101, 100, 0]);
    assert_eq!((window.lag_ms(offsets[1] - 1), window.lag_ms(offsets[1] + 1), window.lag_ms(head)), (200, 101, 0));
    assert_eq!(
        [0, 99, 100, 101, 199, 200].map(|age| window.arrived_within(age)),
        [offsets[3], offsets[3], offsets[2], offsets[1], offsets[1], offsets[0]]
    );
    assert_eq!(window.message_end(0), offsets[1]);
    assert_eq!(window.message_end(offsets[1] - 1), offsets[1]);
    assert_eq!(window.message_end(offsets[1]), offsets[2]);
    assert_eq!((window.message_end(offsets[3]), window.message_end(head)), (head, head));
    assert!(window.is_message_boundary(offsets[2]) && window.is_message_boundary(head));
    assert!(!window.is_message_boundary(offsets[2] + 1) && !window.is_message_boundary(head - 1));
    log.window_mut().prune(offsets[2]);
    assert_eq!(log.window().lag_ms(0), u32::MAX, "what is gone is infinitely late");
}

#[test]
fn headers_are_in_force_from_the_message_after_the_change() {
    let mut log = log(128, 10_000);
    log.append(Kind::Video, 0, 0, b"before");
    let changed = headers(&[(Kind::Video, 9)]);
    log.set_headers(changed.clone());
    let (after, _) = log.append(Kind::Video, 0, 0, b"after");
    let window = log.window();
    assert_eq!([0, after - 1, after, window.head()].map(|at| window.headers_at(at)), [0, 0, 1, 1]);
    assert_eq!(window.headers().version(), changed.version());
}

#[test]
fn a_join_point_expires_by_bytes_and_by_age() {
    let mut log = log(128, 10_000);
    log.mark_join(0, 0, u32::MAX, Arc::default());
    log.append(Kind::Video, 0, u32::MAX, &[0; 100]);
    log.expire_join(59_999, bounds(112));
    assert!(log.window().join().is_some(), "exactly at both bounds");
    log.expire_join(60_000, bounds(112));
    assert!(log.window().join().is_none(), "a millisecond too old");
    log.mark_join(0, 0, 0, Arc::default());
    log.expire_join(0, bounds(111));
    assert!(log.window().join().is_none(), "a byte too far back");
}

/// A follower of one log and what it has been told.
struct Follower {
    position: FeedPosition,
    window: Window,
    segments: usize,
}

impl Follower {
    fn new(layout: Layout) -> Self {
        Self { position: FeedPosition::default(), window: Window::new(layout, 0), segments: 0 }
    }

    fn feed(&mut self, owner: &Window) {
        if !self.position.is_behind(owner) {
            return;
        }
        let (feed, after) = owner.feed(self.position);
        self.segments += feed.segments.len();
        self.window.apply(feed);
        self.position = after;
    }
}

#[test]
fn a_follower_fed_in_any_batches_reads_what_the_owner_reads() {
    for batch in 1..12 {
        let mut log = log(128, 1_000);
        let mut follower = Follower::new(log.window().layout());
        follower.feed(log.window());
        for index in 0..120 {
            if index % 17 == 3 {
                let set = log.window().headers().clone();
                let next = set.with(Kind::Video, Role::SequenceHeader, TrackSet::single(0), &[index as u8]);
                log.set_headers(next.expect("a change"));
            }
            let headers = log.window().headers().clone();
            let (offset, _) = log.append(kind(index), index as u32, index as u32, &payload(index, index * 13 % 400));
            if index % 10 == 5 {
                log.mark_join(offset, index as u32, index as u32, headers);
            }
            log.window_mut().release();
            if index % batch == 0 {
                follower.feed(log.window());
                assert!(!follower.position.is_behind(log.window()));
                assert_eq!(follower.position.holds_from(), Some(log.window().head()));
            }
        }
        log.end();
        follower.feed(log.window());
        let (own, its) = (log.window(), &follower.window);
        assert!(its.ended() && (its.head(), its.released()) == (own.head(), own.released()));
        assert_eq!(its.entries_from(0).collect::<Vec<_>>(), own.entries_from(0).collect::<Vec<_>>());
        assert_eq!(its.headers().version(), own.headers().version());
        assert_eq!(its.join().map(|join| join.offset), own.join().map(|join| join.offset));
        assert_eq!(follower.segments, own.segments().count(), "each segment comes once");
        let from = own.start().max(its.start());
        assert_eq!(all_bytes(log.window_mut(), from), all_bytes(&mut follower.window, from));
        assert!(!follower.position.is_behind(log.window()), "the end is told once");
    }
}

#[test]
fn a_snapshot_begins_at_the_join_point() {
    let mut log = varied(128, 1_000);
    let entry = *log.window().entries_from(25).next().expect("there");
    log.mark_join(entry.offset, entry.timestamp, entry.arrived_ms, Arc::default());
    log.window_mut().release();
    let mut follower = Follower::new(log.window().layout());
    follower.feed(log.window());
    assert_eq!(follower.window.start(), entry.offset);
    assert_eq!(follower.window.entries_from(0).next(), Some(&entry));
    assert_eq!(all_bytes(log.window_mut(), entry.offset), all_bytes(&mut follower.window, entry.offset));
    log.append(Kind::Video, 0, 0, b"more");
    log.window_mut().release();
    follower.feed(log.window());
    assert_eq!(all_bytes(log.window_mut(), entry.offset), all_bytes(&mut follower.window, entry.offset));
}

#[test]
fn a_join_point_being_merged_is_told_once_it_is_released() {
    let mut log = log(128, 1_000);
    let (first, _) = log.append(Kind::Video, 0, 0, &[1; 50]);
    log.mark_join(first, 0, 0, Arc::default());
    log.window_mut().release();
    let mut follower = Follower::new(log.window().layout());
    follower.feed(log.window());
    log.append(Kind::Audio, 0, 0, &[1; 50]);
    log.window_mut().release();
    let (second, _) = log.append(Kind::Video, 0, 0, &[1; 50]);
    log.mark_join(second, 0, 0, Arc::default());
    let (feed, after) = log.window().feed(follower.position);
    assert!(matches!(feed.join, JoinChange::Keep));
    follower.window.apply(feed);
    follower.position = after;
    assert_eq!(follower.window.join().map(|join| join.offset), Some(first));
    assert_eq!(follower.window.head(), second);
    log.window_mut().release();
    follower.feed(log.window());
    assert_eq!(follower.window.join().map(|join| join.offset), Some(second));
}

#[test]
fn a_follower_that_was_cut_off_begins_anew_and_never_at_what_is_gone() {
    for (keep, merged) in [(0.3, false), (0.9, false), (0.9, true)] {
        let mut log = varied(128, 1_000);
        log.mark_join(0, 0, 0, Arc::default());
        log.window_mut().release();
        let mut follower = Follower::new(log.window().layout());
        follower.feed(log.window());
        let fed = follower.position.holds_from().expect("started");
        for index in 0..40 {
            log.append(kind(index), 0, 0, &payload(index, 5_000));
        }
        log.window_mut().set_join(None);
        log.window_mut().release();
        if merged {
            let (offset, _) = log.append(Kind::Video, 0, 0, &[1; 50]);
            log.mark_join(offset, 0, 0, Arc::default());
        }
        let newer = (log.window().head() - fed) as f64 * keep;
        log.window_mut().prune(fed + newer as u64);
        follower.feed(log.window());
        let window = &mut follower.window;
        assert_eq!(window.head(), log.window().released());
        assert!(window.join().is_none_or(|join| join.offset >= window.start()), "a join point that is gone");
        log.append(Kind::Video, 0, 0, &payload(1, 3_000));
        log.window_mut().release();
        follower.feed(log.window());
        let start = follower.window.start();
        assert!(follower.window.is_message_boundary(start));
        assert_eq!(all_bytes(&mut follower.window, start), all_bytes(log.window_mut(), start));
    }
}

#[test]
fn a_follower_is_cut_off_by_a_message_whose_beginning_is_gone() {
    let mut log = log(128, 1_000);
    log.append(Kind::Video, 0, 0, &[1; 50]);
    log.window_mut().release();
    let mut follower = Follower::new(log.window().layout());
    follower.feed(log.window());
    log.append(Kind::Video, 0, 0, &payload(1, 5_000));
    log.window_mut().release();
    let middle = log.window().head() - 500;
    log.window_mut().prune(middle);
    assert!(log.window().start() > follower.position.holds_from().expect("started"));
    follower.feed(log.window());
    log.append(Kind::Video, 0, 0, &payload(2, 50));
    log.window_mut().release();
    follower.feed(log.window());
    let start = follower.window.start();
    assert_eq!(parse(&all_bytes(&mut follower.window, start), 128).len(), 1);
}

#[test]
fn memory_returns_when_a_log_and_its_followers_are_gone() {
    let gauge = LogGauge::default();
    let mut log = LogWriter::new(Layout { stream_id: 1, chunk_bytes: 128, published: false }, 1_000, &gauge);
    let mut follower = Follower::new(log.window().layout());
    for index in 0..50 {
        log.append(kind(index), 0, 0, &payload(index, 300));
        log.window_mut().release();
        follower.feed(log.window());
        let head = log.window().head();
        log.window_mut().prune(head);
        follower.window.prune(head);
        assert!(gauge.bytes() <= 2_000, "{} bytes for nobody", gauge.bytes());
    }
    drop(log);
    assert!(gauge.bytes() > 0, "the follower still reads");
    drop(follower);
    assert_eq!(gauge.bytes(), 0);
}

#[test]
fn a_stream_cut_anywhere_between_slices_leaves_whole_chunks() {
    let mut log = varied(128, 1_000);
    let head = log.window().head();
    let mut stream = Vec::new();
    for slice in slices(log.window_mut(), 0, head) {
        stream.extend_from_slice(bytes_of(&slice));
        let (messages, in_flight) = parse_some(&[&stream[..], &ping()].concat(), 128);
        assert_eq!(messages.last().expect("the ping").0.csid, 2, "a ping behind {in_flight} bytes in flight");
    }
}
