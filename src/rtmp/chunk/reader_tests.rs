use super::*;
use crate::rtmp::chunk::ChunkWriter;
use crate::rtmp::chunk::header::EncodedHeader;
use bytes::BytesMut;

type Owned = (Header, Vec<u8>);

/// Reads all of `bytes`, handed over in the pieces that end at `splits`.
fn read_split(reader: &mut ChunkReader, bytes: &[u8], splits: &[usize]) -> Result<Vec<Owned>, ChunkError> {
    let mut messages = Vec::new();
    let mut start = 0;
    for &end in splits.iter().chain([&bytes.len()]) {
        let mut input = &bytes[start..end];
        while let Some(message) = reader.read(&mut input)? {
            messages.push((message.header, message.payload.to_vec()));
        }
        assert!(input.is_empty(), "None means that all of the input was consumed");
        start = end;
    }
    Ok(messages)
}

fn read_all(bytes: &[u8]) -> Result<Vec<Owned>, ChunkError> {
    read_split(&mut ChunkReader::new(), bytes, &[])
}

/// Reads `bytes` whole, at every split point and byte by byte; all must agree.
fn read_every_way(bytes: &[u8]) -> Vec<Owned> {
    let whole = read_all(bytes).unwrap();
    for split in 0..=bytes.len() {
        assert_eq!(read_split(&mut ChunkReader::new(), bytes, &[split]).as_ref(), Ok(&whole), "split at {split}");
    }
    let every: Vec<usize> = (0..bytes.len()).collect();
    assert_eq!(read_split(&mut ChunkReader::new(), bytes, &every).as_ref(), Ok(&whole), "byte by byte");
    whole
}

fn header(csid: u32, timestamp: u32, length: usize) -> Header {
    Header { csid, timestamp, length: length as u32, type_id: type_id::VIDEO, stream_id: 1 }
}

/// A message with this header in chunks of 128 bytes, from a fresh writer (fmt 0).
fn chunked(header: Header, payload: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    ChunkWriter::new().write(header, payload, &mut out);
    out.to_vec()
}

fn control(type_id: u8, body: &[u8]) -> Vec<u8> {
    chunked(Header { csid: 2, timestamp: 0, length: 0, type_id, stream_id: 0 }, body)
}

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + 3) as u8).collect()
}

#[test]
fn all_header_forms_and_csid_widths_round_trip_at_every_split() {
    let mut writer = ChunkWriter::new();
    let mut bytes = BytesMut::new();
    let mut expected = Vec::new();
    let body = payload(300);
    for csid in [3, 63, 64, 319, 320, 65_599] {
        for (timestamp, len) in [(10, 5), (30, 300), (51, 300), (72, 300), (71, 300), (0x0100_0000, 130), (5, 0)] {
            writer.write(header(csid, timestamp, 0), &body[..len], &mut bytes);
            expected.push((header(csid, timestamp, len), body[..len].to_vec()));
        }
    }
    assert_eq!(read_every_way(&bytes), expected);
}

#[test]
fn extended_timestamps_may_be_repeated_or_omitted_on_fmt_3() {
    let body = payload(300);
    for timestamp in [0xFF_FFFF, 0x0102_0304, u32::MAX] {
        let full = header(4, timestamp, 300);
        let with = chunked(full, &body);
        let mut without = EncodedHeader::full(&full).as_slice().to_vec();
        for (i, chunk) in body.chunks(128).enumerate() {
            without.extend_from_slice(if i == 0 { &[] } else { &[0xC4] });
            without.extend_from_slice(chunk);
        }
        assert_eq!(with.len(), without.len() + 8);
        for mut bytes in [with, without] {
            bytes.extend(chunked(header(5, 9, 1), b"x"));
            assert_eq!(read_every_way(&bytes), [(full, body.clone()), (header(5, 9, 1), b"x".to_vec())]);
        }
    }
}

#[test]
fn an_omitted_extended_timestamp_is_told_apart_in_one_byte_chunks() {
    // Payload and following headers share up to three bytes with the timestamp.
    let body = [1, 2, 1, 2, 3, 1, 2, 3, 9, 1];
    let mut bytes = control(type_id::SET_CHUNK_SIZE, &[0, 0, 0, 1]);
    let full = header(4, 0x01C4_02C5, body.len());
    bytes.extend_from_slice(EncodedHeader::full(&full).as_slice());
    for (i, byte) in body.iter().enumerate() {
        bytes.extend_from_slice(if i == 0 { &[] } else { &[0xC4] });
        bytes.push(*byte);
    }
    bytes.extend(chunked(header(5, 9, 1), b"x"));
    let messages = read_every_way(&bytes);
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[0], (full, body.to_vec()));
}

#[test]
fn headers_of_another_csid_may_hide_in_an_omitted_extended_timestamp() {
    // Chunks of one byte on csids 4, with an extended timestamp, and 5, without. The four bytes after 4's second header are
    // its payload, a chunk of 5, and the header of the next.
    let mut bytes = control(type_id::SET_CHUNK_SIZE, &[0, 0, 0, 1]);
    bytes.extend_from_slice(EncodedHeader::full(&header(4, 0x01C5_0207, 3)).as_slice());
    bytes.push(0xA0);
    bytes.extend_from_slice(EncodedHeader::full(&header(5, 9, 4)).as_slice());
    bytes.push(0xB0);
    bytes.extend_from_slice(&[0xC4, 0x01, 0xC5, 0x02, 0xC5, 0xC5, 0xC5, 0xB3, 0xC4, 0xA2]);
    bytes.extend(chunked(header(6, 9, 1), b"x"));
    let messages = read_every_way(&bytes);
    assert_eq!(messages[0], (header(5, 9, 4), vec![0xB0, 0x02, 0xC5, 0xB3]));
    assert_eq!(messages[1], (header(4, 0x01C5_0207, 3), vec![0xA0, 0x01, 0xA2]));
    assert_eq!(messages.len(), 3);
}

#[test]
fn extended_deltas_are_repeated_on_fmt_3_too() {
    let mut writer = ChunkWriter::new();
    let mut bytes = BytesMut::new();
    let body = payload(200);
    for timestamp in [0, 0x0100_0000, 0x0200_0000, 0x0300_0000] {
        writer.write(header(4, timestamp, 0), &body, &mut bytes);
    }
    let timestamps: Vec<u32> = read_every_way(&bytes).iter().map(|(header, _)| header.timestamp).collect();
    assert_eq!(timestamps, [0, 0x0100_0000, 0x0200_0000, 0x0300_0000]);
}

#[test]
fn fmt_3_repeats_the_last_delta_and_after_fmt_0_the_timestamp() {
    let bytes = [
        &b"\x04\0\0\x0A\0\0\x01\x09\x01\0\0\0a"[..], // fmt 0 at 10
        b"\xC4b",                                    // 20
        b"\x84\0\0\x05c",                            // fmt 2, 25
        b"\xC4d",                                    // 30
        b"\x44\0\0\x07\0\0\x02\x08ef",               // fmt 1, 37
        b"\xC4gh",                                   // 44
    ]
    .concat();
    let seen: Vec<_> = read_every_way(&bytes).into_iter().map(|(h, p)| (h.timestamp, h.type_id, p)).collect();
    let expected: [(u32, u8, &[u8]); 6] =
        [(10, 9, b"a"), (20, 9, b"b"), (25, 9, b"c"), (30, 9, b"d"), (37, 8, b"ef"), (44, 8, b"gh")];
    assert_eq!(seen, expected.map(|(t, k, p)| (t, k, p.to_vec())));
}

#[test]
fn deltas_wrap_at_2_to_the_32() {
    let mut bytes = EncodedHeader::full(&header(4, u32::MAX - 4, 1)).as_slice().to_vec();
    bytes.extend_from_slice(b"a\x84\0\0\x0Ab"); // + 10
    bytes.extend_from_slice(b"\x84\xFF\xFF\xFF\x80\0\0\0c"); // + 2^31
    bytes.extend_from_slice(b"\xC4\x80\0\0\0d"); // + 2^31 again
    let timestamps: Vec<u32> = read_every_way(&bytes).iter().map(|(header, _)| header.timestamp).collect();
    assert_eq!(timestamps, [u32::MAX - 4, 5, 0x8000_0005, 5]);
}

#[test]
fn interleaved_chunk_streams_are_kept_apart() {
    let (video, audio) = (payload(300), payload(200));
    let mut bytes = EncodedHeader::full(&header(6, 40, 300)).as_slice().to_vec();
    bytes.extend_from_slice(&video[..128]);
    bytes.extend_from_slice(EncodedHeader::full(&header(5, 41, 200)).as_slice());
    bytes.extend_from_slice(&audio[..128]);
    bytes.push(0xC6);
    bytes.extend_from_slice(&video[128..256]);
    bytes.push(0xC5);
    bytes.extend_from_slice(&audio[128..]);
    bytes.push(0xC6);
    bytes.extend_from_slice(&video[256..]);
    assert_eq!(read_every_way(&bytes), [(header(5, 41, 200), audio), (header(6, 40, 300), video)]);
}

#[test]
fn a_payload_inside_one_chunk_is_borrowed() {
    let bytes = chunked(header(4, 0, 100), &payload(100));
    let mut reader = ChunkReader::new();
    let mut input = &bytes[..];
    let message = reader.read(&mut input).unwrap().unwrap();
    assert!(bytes.as_ptr_range().contains(&message.payload.as_ptr()));
    assert_eq!(reader.in_flight_bytes(), 0);
}

#[test]
fn zero_length_messages_are_delivered() {
    let mut bytes = chunked(header(4, 7, 0), b"");
    bytes.push(0xC4);
    assert_eq!(read_every_way(&bytes), [(header(4, 7, 0), vec![]), (header(4, 14, 0), vec![])]);
}

#[test]
fn illegal_chunk_sizes_are_refused() {
    for value in [0, 0x8000_0000, u32::MAX] {
        let bytes = control(type_id::SET_CHUNK_SIZE, &u32::to_be_bytes(value));
        let error = read_split(&mut ChunkReader::starting_at(3_073), &bytes, &[]).unwrap_err();
        assert_eq!(error, ChunkError::ChunkSize { offset: 3_089, csid: 2, value });
    }
}

#[test]
fn a_huge_chunk_size_is_clamped_and_allocates_nothing() {
    let mut reader = ChunkReader::new();
    let bytes = control(type_id::SET_CHUNK_SIZE, &[0x7F, 0xFF, 0xFF, 0xFF]);
    assert_eq!(read_split(&mut reader, &bytes, &[]), Ok(vec![]));
    assert_eq!(reader.chunk_bytes(), 0xFF_FFFF);
    let mut bytes = EncodedHeader::full(&header(4, 0, 0xFF_FFFF)).as_slice().to_vec();
    bytes.push(0);
    assert_eq!(read_split(&mut reader, &bytes, &[]), Ok(vec![]));
    assert!((1..=ASSEMBLY_BYTES_MIN).contains(&reader.in_flight_bytes()));
}

#[test]
fn one_byte_chunks_of_a_large_message_take_linear_time() {
    let body = payload(2_000_000);
    let mut writer = ChunkWriter::new();
    let mut bytes = BytesMut::new();
    writer.set_chunk_bytes(1, &mut bytes);
    writer.write(header(4, 0, 0), &body, &mut bytes);
    let mut reader = ChunkReader::new();
    let start = std::time::Instant::now();
    let messages = read_split(&mut reader, &bytes, &[]).unwrap();
    assert_eq!(messages[0].1, body);
    // Quadratic work (2 * 10^12 byte moves) takes minutes.
    assert!(start.elapsed() < std::time::Duration::from_secs(10));
}

#[test]
fn an_error_behind_small_chunks_names_its_byte() {
    let mut bytes = chunked(header(5, 0, 300), &payload(300));
    let offset = bytes.len() as u64;
    bytes.push(0xC7);
    let every: Vec<usize> = (0..bytes.len()).collect();
    for splits in [&[][..], &every] {
        let read = read_split(&mut ChunkReader::new(), &bytes, splits);
        assert_eq!(read, Err(ChunkError::Format { offset, csid: 7, fmt: 3 }));
    }
}

#[test]
fn a_chunk_size_change_governs_the_rest_of_a_message_in_flight() {
    let body = payload(300);
    let mut bytes = EncodedHeader::full(&header(4, 0, 300)).as_slice().to_vec();
    bytes.extend_from_slice(&body[..128]);
    bytes.extend(control(type_id::SET_CHUNK_SIZE, &[0, 0, 0, 150]));
    bytes.push(0xC4);
    bytes.extend_from_slice(&body[128..278]);
    bytes.push(0xC4);
    bytes.extend_from_slice(&body[278..]);
    assert_eq!(read_every_way(&bytes), [(header(4, 0, 300), body)]);
}

#[test]
fn announced_lengths_cost_nothing_until_bytes_arrive() {
    let mut reader = ChunkReader::new();
    for csid in 3..3 + CHUNK_STREAMS_MAX as u32 {
        let mut bytes = EncodedHeader::full(&header(csid, 0, 0xFF_FFFF)).as_slice().to_vec();
        bytes.extend_from_slice(&[0; 128]);
        assert_eq!(read_split(&mut reader, &bytes, &[]), Ok(vec![]));
    }
    assert!(reader.in_flight_bytes() <= CHUNK_STREAMS_MAX * ASSEMBLY_BYTES_MIN);
}

#[test]
fn unfinished_messages_are_capped_together() {
    let mut reader = ChunkReader::new();
    let bytes = control(type_id::SET_CHUNK_SIZE, &[0, 0xFF, 0xFF, 0xFE]);
    assert_eq!(read_split(&mut reader, &bytes, &[]), Ok(vec![]));
    let most = vec![0; 0xFF_FFFE];
    for csid in 3..5 {
        let mut bytes = EncodedHeader::full(&header(csid, 0, 0xFF_FFFF)).as_slice().to_vec();
        bytes.extend_from_slice(&most);
        assert!(read_split(&mut reader, &bytes, &[]).unwrap().is_empty());
        assert!(reader.in_flight_bytes() <= IN_FLIGHT_BYTES_MAX);
    }
    let mut bytes = EncodedHeader::full(&header(5, 0, 0xFF_FFFF)).as_slice().to_vec();
    bytes.extend_from_slice(&[0; 300]);
    let error = read_split(&mut reader, &bytes, &[]).unwrap_err();
    assert!(matches!(error, ChunkError::InFlightBytes { csid: 5, .. }), "{error}");
}

#[test]
fn one_csid_too_many_is_refused() {
    let mut bytes = Vec::new();
    for csid in 0..CHUNK_STREAMS_MAX as u32 {
        bytes.extend(chunked(header(csid + 50, 0, 1), b"a"));
    }
    assert_eq!(read_all(&bytes).map(|messages| messages.len()), Ok(CHUNK_STREAMS_MAX));
    let offset = bytes.len() as u64;
    bytes.extend(chunked(header(65_599, 0, 1), b"a"));
    let expected = ChunkError::ChunkStreams { offset, csid: 65_599, limit: CHUNK_STREAMS_MAX };
    assert_eq!(read_all(&bytes), Err(expected));
}

#[test]
fn a_csid_begins_with_fmt_0_or_as_librtmp_begins_it() {
    assert_eq!(read_all(b"\x84\0\0\x0Aa"), Err(ChunkError::Format { offset: 0, csid: 4, fmt: 2 }));
    assert_eq!(read_all(b"\xC4"), Err(ChunkError::Format { offset: 0, csid: 4, fmt: 3 }));
    let ping = [0x42, 0, 0, 5, 0, 0, 6, type_id::USER_CONTROL, 0, 7, 0, 0, 0, 9];
    let expected = Header { csid: 2, timestamp: 5, length: 6, type_id: type_id::USER_CONTROL, stream_id: 0 };
    assert_eq!(read_every_way(&ping), [(expected, vec![0, 7, 0, 0, 0, 9])]);
}

#[test]
fn a_header_in_mid_message_restarts_the_message() {
    let body = payload(400);
    let mut begun = EncodedHeader::full(&header(4, 100, 400)).as_slice().to_vec();
    begun.extend_from_slice(&body[..128]);
    let fmt_0 = chunked(header(4, 140, 200), &body[..200]);
    let fmt_1 = [b"\x44\0\0\x28\0\0\x64\x09", &body[..100]].concat();
    for (restart, len) in [(fmt_0, 200), (fmt_1, 100)] {
        let bytes = [&begun[..], &restart].concat();
        assert_eq!(read_every_way(&bytes), [(header(4, 140, len), body[..len].to_vec())]);
    }
}

#[test]
fn non_minimal_csids_name_the_same_chunk_stream() {
    let mut bytes = EncodedHeader::full(&header(70, 3, 200)).as_slice().to_vec();
    let body = payload(200);
    bytes.extend_from_slice(&body[..128]);
    bytes.extend_from_slice(&[0xC1, 6, 0]);
    bytes.extend_from_slice(&body[128..]);
    assert_eq!(read_every_way(&bytes), [(header(70, 3, 200), body)]);
}

#[test]
fn abort_drops_the_unfinished_message_and_ignores_unknown_csids() {
    let body = payload(300);
    let mut begun = EncodedHeader::full(&header(4, 10, 300)).as_slice().to_vec();
    begun.extend_from_slice(&body[..128]);
    let mut reader = ChunkReader::new();
    let abort_other = control(type_id::ABORT, &[0, 0, 9, 9]);
    assert_eq!(read_split(&mut reader, &[&begun[..], &abort_other].concat(), &[]), Ok(vec![]));
    assert!(reader.in_flight_bytes() > 0);
    assert_eq!(read_split(&mut reader, &control(type_id::ABORT, &[0, 0, 0, 4]), &[]), Ok(vec![]));
    assert_eq!(reader.in_flight_bytes(), 0);
    let next = chunked(header(4, 50, 300), &body);
    assert_eq!(read_split(&mut reader, &next, &[]), Ok(vec![(header(4, 50, 300), body)]));
}

#[test]
fn short_control_bodies_are_refused() {
    for kind in [type_id::SET_CHUNK_SIZE, type_id::ABORT] {
        for length in 0..4 {
            let bytes = control(kind, &[0, 0, 1][..length]);
            let offset = bytes.len() as u64;
            let expected = ChunkError::ControlLength { offset, csid: 2, type_id: kind, length };
            assert_eq!(read_all(&bytes), Err(expected));
        }
    }
}

#[test]
fn a_truncated_stream_gives_the_messages_before_the_cut() {
    let mut writer = ChunkWriter::new();
    let mut bytes = BytesMut::new();
    for timestamp in [0, 20, 40, 0x0100_0000] {
        writer.write(header(4, timestamp, 0), &payload(200), &mut bytes);
    }
    let whole = read_all(&bytes).unwrap();
    for cut in 0..bytes.len() {
        let messages = read_all(&bytes[..cut]).unwrap();
        assert!(messages.len() < whole.len());
        assert_eq!(messages, whole[..messages.len()]);
    }
}

#[test]
fn arbitrary_bytes_mean_the_same_however_they_are_split() {
    let mut random = Random(7);
    for _ in 0..300 {
        // Few csids and types, so that most of it gets past the headers.
        let bytes: Vec<u8> = (0..200).map(|_| [0, 1, 2, 4, 0xC4, 0x44, 0x84, 0xFF][random.below(8)]).collect();
        let collect = |splits: &[usize]| {
            let mut reader = ChunkReader::new();
            let (mut messages, mut start) = (Vec::new(), 0);
            for &end in splits.iter().chain([&bytes.len()]) {
                let mut input = &bytes[start..end];
                loop {
                    match reader.read(&mut input) {
                        Ok(Some(message)) => messages.push((message.header, message.payload.to_vec())),
                        Ok(None) => break,
                        Err(error) => return (messages, Some(error)),
                    }
                }
                start = end;
            }
            (messages, None)
        };
        let whole = collect(&[]);
        for split in 0..=bytes.len() {
            assert_eq!(collect(&[split]), whole, "split at {split} of {bytes:?}");
        }
    }
}

#[test]
fn many_interleaved_chunk_streams_round_trip_at_random_splits() {
    for seed in 0..40 {
        let mut random = Random(seed);
        let csids: Vec<u32> = (0..=random.below(20)).map(|i| 3 + (i as u32 * 3_277) % 65_000).collect();
        let (bytes, expected) = interleave(&mut random, &csids);
        let mut splits: Vec<usize> = (0..random.below(60)).map(|_| random.below(bytes.len() + 1)).collect();
        splits.sort_unstable();
        let mut reader = ChunkReader::new();
        assert_eq!(read_split(&mut reader, &bytes, &splits), Ok(expected), "seed {seed}");
        assert_eq!(reader.in_flight_bytes(), 0, "seed {seed}");
    }
}

/// Messages on `csids` whose chunks come in any order, and the messages in the order they end in.
fn interleave(random: &mut Random, csids: &[u32]) -> (Vec<u8>, Vec<Owned>) {
    let chunk_bytes = 1 + random.below(400);
    let mut bytes = control(type_id::SET_CHUNK_SIZE, &(chunk_bytes as u32).to_be_bytes());
    // Each csid's chunks as its own writer makes them, cut at chunk boundaries.
    let mut queues: Vec<std::collections::VecDeque<(Vec<u8>, Option<Owned>)>> = Vec::new();
    for &csid in csids {
        let (mut writer, mut scratch) = (ChunkWriter::new(), BytesMut::new());
        writer.set_chunk_bytes(chunk_bytes, &mut scratch);
        let mut queue = std::collections::VecDeque::new();
        let mut timestamp = random.next() as u32;
        for _ in 0..random.below(12) {
            timestamp = timestamp.wrapping_add([0, 20, 20, 0x0123_4567, u32::MAX][random.below(5)]);
            let body = payload([0, 10, 10, random.below(3_000)][random.below(4)]);
            scratch.clear();
            writer.write(header(csid, timestamp, 0), &body, &mut scratch);
            let later = EncodedHeader::continuation(csid, 0).as_slice().len();
            let chunks = body.len().div_ceil(chunk_bytes).max(1);
            let mut whole = scratch.to_vec();
            // From the back: every chunk but the first is a fmt 3 header, maybe extended, and payload.
            let mut cut = Vec::new();
            let first_header = scratch.len()
                - body.len()
                - (chunks - 1) * (later + extended_bytes(&scratch, body.len(), chunks, later));
            for index in (1..chunks).rev() {
                let extended = extended_bytes(&scratch, body.len(), chunks, later);
                let at = first_header + index * chunk_bytes + (index - 1) * (later + extended);
                cut.push(whole.split_off(at));
            }
            cut.push(whole);
            cut.reverse();
            let last = cut.len() - 1;
            for (index, chunk) in cut.into_iter().enumerate() {
                let done = (index == last).then(|| (header(csid, timestamp, body.len()), body.clone()));
                queue.push_back((chunk, done));
            }
        }
        queues.push(queue);
    }
    let mut expected = Vec::new();
    while queues.iter().any(|queue| !queue.is_empty()) {
        let index = random.below(queues.len());
        for _ in 0..1 + random.below(4) {
            if let Some((chunk, done)) = queues[index].pop_front() {
                bytes.extend(chunk);
                expected.extend(done);
            }
        }
    }
    (bytes, expected)
}

/// Whether the chunks after the first carry an extended timestamp: 4 or 0 bytes, found from the message's total.
fn extended_bytes(chunked: &[u8], body: usize, chunks: usize, later: usize) -> usize {
    let headers = chunked.len() - body;
    let plain = match chunked[0] >> 6 {
        0 => 11,
        1 => 7,
        2 => 3,
        _ => 0,
    } + later
        + (chunks - 1) * later;
    if headers > plain { 4 } else { 0 }
}

#[test]
fn a_connection_that_only_plays_costs_little() {
    let mut reader = ChunkReader::new();
    for csid in [2, 3, 8] {
        let mut bytes = chunked(header(csid, 0, 0), &payload(700));
        bytes[7] = type_id::COMMAND_AMF0;
        assert_eq!(read_split(&mut reader, &bytes, &[]).map(|messages| messages.len()), Ok(1));
    }
    let streams = reader.streams.capacity() * size_of::<ChunkStream>();
    assert!(size_of::<ChunkReader>() + streams + reader.delivered.capacity() < 640);
}

/// A small deterministic generator (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

#[test]
fn a_message_longer_than_it_may_be_is_refused_as_it_begins() {
    let of_length = |fmt: u8, length: u32| {
        let mut header = vec![fmt << 6 | 5, 0, 0, 0];
        header.extend_from_slice(&length.to_be_bytes()[1..]);
        header.push(9);
        if fmt == 0 {
            header.extend_from_slice(&1_u32.to_le_bytes());
        }
        header
    };
    for (fmt, limit, length, fits) in [
        (0, 65_536, 65_536, true),
        (0, 65_536, 65_537, false),
        (0, 1, 65_536, true),
        (1, 65_536, 65_537, false),
        (0, 0, 0xFF_FFFF, true),
        (0, usize::MAX, 0xFF_0001, false),
    ] {
        let mut reader = ChunkReader::new();
        reader.limit_messages(limit);
        let outcome = reader.read(&mut &of_length(fmt, length)[..]).map(|message| message.is_some());
        match outcome {
            Ok(whole) => assert!(fits && !whole, "{fmt} {limit} {length}"),
            Err(error) => assert!(!fits && matches!(error, ChunkError::MessageBytes { .. }), "{error}"),
        }
        assert_eq!(reader.in_flight_bytes(), 0);
    }
}
