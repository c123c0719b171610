//! What the benches measure: set up once here, timed by criterion and counted by callgrind.

#![allow(dead_code, reason = "each bench uses its own part")]

pub(crate) mod log;
pub(crate) mod stage;
pub(crate) mod wire;

/// A coded AVC frame of so many bytes.
pub(crate) fn frame(bytes: usize, keyframe: bool) -> Vec<u8> {
    let mut frame = vec![if keyframe { 0x17 } else { 0x27 }, 1, 0, 0, 0];
    frame.resize(bytes, 0x55);
    frame
}
