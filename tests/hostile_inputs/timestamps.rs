//! Timestamps that wrap, step back and leap: players see them only go forward.

use crate::scene::{Pair, Scene, keyframe, video};

/// What the player sees for each sent timestamp.
#[track_caller]
fn seen(pair: &mut Pair, sent: &[u32]) -> Vec<u32> {
    let mut seen = Vec::new();
    for (index, timestamp) in sent.iter().enumerate() {
        let payload = keyframe(100, index as u8);
        let bytes = video(pair.stream, *timestamp, payload.clone()).chunks(128);
        seen.push(pair.arrives(&bytes, &payload).timestamp);
    }
    seen
}

#[test]
fn a_wrap_passes_unharmed() {
    let scene = Scene::new();
    let mut pair = scene.pair();
    let sent = [0xFFFF_FF00, 0xFFFF_FF28, 0x0000_0010, 0x0000_0038];
    let seen = seen(&mut pair, &sent);
    let steps = |times: &[u32]| times.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect::<Vec<_>>();
    assert_eq!(steps(&seen), steps(&sent));
    scene.assert_unharmed();
}

#[test]
fn steps_back_and_leaps_of_2_to_the_31_never_go_backwards() {
    let scene = Scene::new();
    let mut pair = scene.pair();
    let seen = seen(&mut pair, &[100_000, 100_040, 100_000, 5, 45, 0x8000_002D, 0x8000_0055, 0, 40]);
    for pair in seen.windows(2) {
        // 2^31 is as far ahead as it is behind.
        assert!(pair[1].wrapping_sub(pair[0]) <= 1 << 31, "{seen:?}");
    }
    scene.assert_unharmed();
}
