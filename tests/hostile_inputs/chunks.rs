//! The chunk layer: sizes, chunk streams, headers and control messages.

use std::time::Duration;

use crate::{
    common::{
        amf,
        rtmp::{
            ABORT, ACKNOWLEDGEMENT, COMMAND, DATA, Extended, Got, Message, SET_CHUNK_SIZE, USER_CONTROL,
            WINDOW_ACK_SIZE, basic_header, command, full_header, message, set_chunk_size, wide_basic_header,
        },
    },
    scene::{Pair, Scene, keyframe, video},
};

#[test]
fn chunk_size_zero_or_beyond_31_bits_is_closed() {
    let scene = Scene::new();
    for (count, value) in [(1, 0), (2, 0x8000_0000), (3, u32::MAX)] {
        let mut peer = scene.connected();
        peer.write(&set_chunk_size(value));
        scene.assert_closed_again(&mut peer, "chunk_size", count);
    }
    scene.assert_unharmed();
}

#[test]
fn the_largest_chunk_size_is_clamped_and_costs_no_memory() {
    let scene = Scene::new();
    let mut pair = scene.pair();
    pair.publisher.use_chunk_size(0x7FFF_FFFF);
    let large = keyframe(700_000, 1);
    let bytes = video(pair.stream, 0, large.clone()).chunks(pair.publisher.chunk_bytes);
    pair.arrives(&bytes, &large);
    scene.assert_memory_bounded();
    scene.assert_unharmed();
}

#[test]
fn a_large_message_in_chunks_of_one_byte_arrives() {
    let scene = Scene::new();
    let mut pair = scene.pair();
    pair.publisher.use_chunk_size(1);
    let large = keyframe(512 * 1024, 2);
    let bytes = video(pair.stream, 0, large.clone()).chunks(1);
    pair.arrives(&bytes, &large);
    scene.assert_unharmed();
}

#[test]
fn a_chunk_size_set_mid_message_counts_for_the_remaining_bytes() {
    let scene = Scene::new();
    let mut pair = scene.pair();
    let payload = keyframe(300, 3);
    let mut bytes = [full_header(6, 0, 300, 9, pair.stream), payload[..128].to_vec(), set_chunk_size(64)].concat();
    for part in payload[128..].chunks(64) {
        bytes.extend([basic_header(3, 6), part.to_vec()].concat());
    }
    pair.arrives(&bytes, &payload);
    scene.assert_unharmed();
}

#[test]
fn announced_lengths_cost_no_memory_and_received_ones_are_capped() {
    let scene = Scene::new();
    let mut peer = scene.connected();
    peer.use_chunk_size(1);
    for csid in 4..60 {
        peer.write(&[full_header(csid, 0, 0xFF_FFFF, DATA, 0), vec![1]].concat());
    }
    assert!(peer.is_served());
    scene.assert_memory_bounded();

    let mut peer = scene.connected();
    peer.use_chunk_size(1024 * 1024);
    for csid in 4..44 {
        // It is closed in the midst of this.
        peer.write(&[full_header(csid, 0, 0xFF_FFFF, DATA, 0), vec![1; 1024 * 1024]].concat());
    }
    scene.assert_closed(peer, "in_flight_bytes");
    scene.assert_unharmed();
}

#[test]
fn more_than_64_chunk_streams_are_closed() {
    let scene = Scene::new();
    let mut peer = scene.connected();
    for csid in 3..=80 {
        peer.write(&message(csid, ACKNOWLEDGEMENT, 0, 0, [0; 4]).chunks(128));
    }
    scene.assert_closed(peer, "chunk_streams");
    scene.assert_unharmed();
}

#[test]
fn a_chunk_stream_that_opens_without_a_full_header_is_closed() {
    let scene = Scene::new();
    for (count, bytes) in [(1, [basic_header(2, 9), vec![0; 3]].concat()), (2, basic_header(3, 9))] {
        let mut peer = scene.connected();
        peer.write(&bytes);
        scene.assert_closed_again(&mut peer, "chunk_format", count);
    }
    scene.assert_unharmed();
}

#[test]
fn librtmp_may_open_a_chunk_stream_with_fmt_1() {
    let scene = Scene::new();
    let mut peer = scene.connected();
    // A buffer length of 3,000 ms, as librtmp sends it.
    let event = [&[0, 3][..], &1u32.to_be_bytes(), &3_000u32.to_be_bytes()].concat();
    peer.write(&[basic_header(1, 9), vec![0, 0, 0, 0, 0, 10, USER_CONTROL], event].concat());
    assert!(peer.is_served());
    scene.assert_unharmed();
}

#[test]
fn another_length_in_the_midst_of_a_message_restarts_it() {
    let scene = Scene::new();
    let mut pair = scene.pair();
    let abandoned = [full_header(6, 0, 300, 9, pair.stream), vec![0xEE; 128]].concat();
    let payload = keyframe(50, 4);
    let bytes = [abandoned, video(pair.stream, 0, payload.clone()).chunks(128)].concat();
    pair.arrives(&bytes, &payload);
    scene.assert_unharmed();
}

#[test]
fn both_forms_of_a_csid_name_the_same_chunk_stream() {
    let scene = Scene::new();
    let mut pair = scene.pair();
    let payload = keyframe(200, 5);
    let first = [full_header(70, 0, 200, 9, pair.stream), payload[..128].to_vec()].concat();
    let bytes = [first, wide_basic_header(3, 70), payload[128..].to_vec()].concat();
    pair.arrives(&bytes, &payload);
    scene.assert_unharmed();
}

#[test]
fn aborting_an_unknown_chunk_stream_is_ignored() {
    let scene = Scene::new();
    let mut peer = scene.connected();
    for csid in [0, 50, 100_000, u32::MAX] {
        peer.write(&message(2, ABORT, 0, 0, csid.to_be_bytes()).chunks(128));
    }
    assert!(peer.is_served());
    scene.assert_unharmed();
}

#[test]
fn a_control_message_too_short_for_its_fields_is_closed() {
    let scene = Scene::new();
    for (count, type_id) in [(1, SET_CHUNK_SIZE), (2, ABORT), (3, ACKNOWLEDGEMENT), (4, WINDOW_ACK_SIZE)] {
        let mut peer = scene.connected();
        peer.write(&message(2, type_id, 0, 0, [0, 0, 1]).chunks(128));
        scene.assert_closed_again(&mut peer, "control_length", count);
    }
    scene.assert_unharmed();
}

#[test]
fn extended_timestamps_may_be_absent_from_continuations() {
    let scene = Scene::new();
    // Names of their own: a publisher that comes back has its timestamps moved on.
    for (extended, name) in [(Extended::Repeated, "repeated"), (Extended::Omitted, "omitted")] {
        let mut pair = Pair::new(&scene.server, name);
        let payload = keyframe(400, 6);
        let bytes = video(pair.stream, 0x0100_0000, payload.clone()).chunks_with(128, extended);
        let got = pair.arrives(&bytes, &payload);
        assert_eq!(got.timestamp, 0x0100_0000);
    }
    scene.assert_unharmed();
}

#[test]
fn zeros_and_unassigned_types_are_closed() {
    let scene = Scene::new();
    let mut zeros = scene.connected();
    zeros.write(&[0; 4096]);
    scene.assert_closed_again(&mut zeros, "unknown_messages", 1);
    let mut peer = scene.connected();
    for type_id in [7, 99] {
        peer.write(&message(5, type_id, 0, 0, *b"junk").chunks(128));
    }
    assert!(peer.is_served(), "two are tolerated");
    peer.write(&message(5, 200, 0, 0, *b"junk").chunks(128));
    scene.assert_closed_again(&mut peer, "unknown_messages", 2);
    scene.assert_unharmed();
}

#[test]
fn a_tiny_acknowledgement_window_is_raised() {
    let scene = Scene::new();
    let mut pair = scene.pair();
    for window in [0u32, 1] {
        pair.publisher.write(&message(2, WINDOW_ACK_SIZE, 0, 0, window.to_be_bytes()).chunks(128));
    }
    let block = video(pair.stream, 0, keyframe(1_000, 7)).chunks(128);
    for _ in 0..100 {
        pair.publisher.write(&block);
    }
    let transaction = pair.publisher.send_command(0, "_checkbw", &[amf::null()]);
    let mut acknowledgements = 0;
    let answered = pair.publisher.find("answer", |message| {
        acknowledgements += u32::from(message.type_id == ACKNOWLEDGEMENT);
        (message.values().get(1) == Some(&amf::Value::Number(transaction))).then_some(())
    });
    assert!(answered.is_some());
    // 100 KB at a floor of 32 KiB.
    assert!((1..=4).contains(&acknowledgements), "{acknowledgements} acknowledgements of 100 KB");
    scene.assert_unharmed();
}

#[test]
fn a_player_that_never_acknowledges_is_served() {
    let scene = Scene::new();
    let mut pair = scene.pair();
    pair.publisher.use_chunk_size(60_000);
    for n in 0..40u8 {
        let payload = keyframe(200_000, n);
        let bytes = video(pair.stream, u32::from(n) * 40, payload.clone()).chunks(60_000);
        pair.arrives(&bytes, &payload);
    }
    scene.assert_unharmed();
}

fn ping(value: u32) -> Message {
    message(2, USER_CONTROL, 0, 0, [&[0, 6][..], &value.to_be_bytes()].concat())
}

#[test]
fn pings_are_answered_and_a_flood_of_them_is_bounded() {
    let scene = Scene::new();
    let mut peer = scene.connected();
    peer.send(&ping(77));
    let answer = peer.find("ping response", |message| {
        (message.type_id == USER_CONTROL && message.payload.starts_with(&[0, 7])).then(|| message.payload.clone())
    });
    assert_eq!(answer.as_deref(), Some(&[0, 7, 0, 0, 0, 77][..]));

    // More than any client sends, and nobody reads the answers.
    let flood: Vec<u8> = ping(1).chunks(128).repeat(60_000);
    for _ in 0..30 {
        if peer.flood(&flood, Duration::from_secs(2)) < flood.len() {
            break;
        }
    }
    scene.assert_memory_bounded();
    scene.server.wait_metric("shardcast_connections_closed_total", &[("reason", "flood")], |count| count >= 1.0);
    scene.assert_unharmed();
}

#[test]
fn any_buffer_length_is_taken() {
    let scene = Scene::new();
    let mut pair = scene.pair();
    for length in [0, 1, u32::MAX] {
        let event = [&[0, 3][..], &1u32.to_be_bytes(), &length.to_be_bytes()].concat();
        pair.player.write(&message(2, USER_CONTROL, 0, 0, event).chunks(128));
    }
    pair.assert_flows();
    scene.assert_unharmed();
}

#[test]
fn a_command_split_over_many_chunks_is_understood() {
    let scene = Scene::new();
    let mut peer = scene.connected();
    let padding = amf::string(vec![b'x'; 1_000]);
    let bytes = message(3, COMMAND, 0, 0, command("createStream", 5.0, &[amf::null(), padding])).chunks(128);
    for part in bytes.chunks(7) {
        peer.write(part);
    }
    assert!(peer.answer(5.0).is_some());
    assert_eq!(peer.next(Duration::from_millis(100)), Got::TimedOut);
    scene.assert_unharmed();
}
