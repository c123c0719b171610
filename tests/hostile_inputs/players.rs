//! Players that take nothing, or talk all the time.

use crate::{
    common::{
        rtmp::{AUDIO, DATA, Peer, VIDEO, message},
        seconds,
    },
    scene::{Scene, keyframe, video},
};

/// The kernel keeps little for a player, so that what happens is the node's doing.
const RECEIVE_BYTES: usize = 8 * 1_024;

#[test]
fn a_player_with_a_closed_window_is_let_go_by_time() {
    let scene = Scene::with(&["--sndbuf", "32K"]);
    let mut pair = scene.pair();
    pair.publisher.use_chunk_size(60_000);
    let _deaf = Peer::player_with_buffer(scene.server.rtmp, "subject", RECEIVE_BYTES);
    for second in 1..=14 {
        let payload = keyframe(400_000, second as u8);
        let bytes = video(pair.stream, second * 1_000, payload.clone()).chunks(60_000);
        pair.arrives(&bytes, &payload);
        std::thread::sleep(seconds(1));
    }
    assert_eq!(scene.closed("no_progress"), 1);
    scene.assert_memory_bounded();
    scene.assert_unharmed();
}

#[test]
fn what_a_player_sends_is_read_and_forgotten() {
    let scene = Scene::new();
    let mut pair = scene.pair();
    // Of types that have no business here: data, sound of a stream that is not there, and what has no type.
    let junk = [(DATA, 1), (DATA, 9), (AUDIO, 9)].map(|(kind, stream)| message(5, kind, stream, 0, vec![0xEE; 4_000]));
    for message in &junk {
        for _ in 0..100 {
            assert!(pair.player.write(&message.chunks(128)), "the player was closed");
        }
    }
    pair.assert_flows();
    scene.assert_memory_bounded();
    // There is an end to that: it is no player.
    let flood = message(6, VIDEO, 9, 0, vec![0xEE; 100]).chunks(128).repeat(1_000);
    pair.player.write(&flood);
    scene.assert_closed(pair.player, "stray_media");
    scene.assert_unharmed();
}
