//! Video of several tracks as an encoder sends it (Enhanced RTMP v2, "Multitrack"), written apart from the code under test.
//! Players of the simulation announce nothing, so what they get is track 0 as if it were the only one.

use crate::model::Role;

const FOUR_CC: &[u8; 4] = b"hvc1";
const MULTITRACK: u8 = 6;
/// A message that players must never see.
const DECOY: [u8; 24] = [0xDE; 24];

/// The beginning of a message of one track.
pub(crate) fn tag(role: Role) -> [u8; 5] {
    let first = match role {
        Role::SequenceHeader => 0x90,
        Role::Keyframe => 0x93,
        _ => 0xA3,
    };
    let [a, b, c, d] = *FOUR_CC;
    [first, a, b, c, d]
}

/// A message as it is, or with Multitrack around it in one of its three forms, track 1 first where there is one.
pub(crate) fn wrap(payload: &[u8], index: u32) -> Vec<u8> {
    let (tag, body) = payload.split_at(5);
    let first = tag[0] & 0xF0 | MULTITRACK;
    let packet_type = tag[0] & 0x0F;
    let sized = |id: u8, body: &[u8]| [&[id][..], &(body.len() as u32).to_be_bytes()[1..], body].concat();
    match index % 4 {
        0 => payload.to_vec(),
        1 => [&[first, packet_type][..], FOUR_CC, &[0], body].concat(),
        2 => [&[first, 0x10 | packet_type][..], FOUR_CC, &sized(1, &DECOY), &sized(0, body)].concat(),
        _ => {
            let head = [first, 0x20 | packet_type];
            [&head[..], b"av01", &sized(1, &DECOY), FOUR_CC, &sized(0, body)].concat()
        }
    }
}
