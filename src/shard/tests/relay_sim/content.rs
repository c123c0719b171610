//! What publishers of the simulation send: every message says whose it is and which, so that it is known again anywhere.

use crate::{
    rtmp::message::Kind,
    shard::tests::{liar::META, rig::Heard},
};

/// A publisher's time on air: no two are of the same origin and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Session {
    pub(super) origin: u8,
    pub(super) number: u8,
    /// Which sequence headers belong to it. Encoders that are set alike have the same.
    pub(super) header: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Metadata,
    Header(u8),
    Frame { of: Session, key: bool, number: u32 },
}

/// Milliseconds from one frame to the next, of audio too, which is a little later than the video beside it.
pub(super) const FRAME_MS: u32 = 40;
pub(super) const AUDIO_AFTER_MS: u32 = 5;
/// Frames from one keyframe to the next.
pub(super) const GOP: u32 = 25;

impl Content {
    pub(super) fn payload(self, kind: Kind) -> Vec<u8> {
        let tag: &[u8] = match (kind, self) {
            (Kind::Data, _) => return META.to_vec(),
            (Kind::Video, Self::Frame { key: true, .. }) => b"\x17\x01\x00\x00\x00",
            (Kind::Video, Self::Frame { .. }) => b"\x27\x01\x00\x00\x00",
            (Kind::Video, _) => b"\x17\x00\x00\x00\x00",
            (Kind::Audio, Self::Frame { .. }) => b"\xAF\x01",
            (Kind::Audio, _) => b"\xAF\x00",
        };
        let rest = match self {
            Self::Metadata => Vec::new(),
            Self::Header(header) => vec![header],
            Self::Frame { of, number, .. } => {
                [&[of.origin, of.number, of.header][..], &number.to_be_bytes(), &[0xA5; 40]].concat()
            }
        };
        [tag, &rest].concat()
    }

    /// What a player heard; `None` if nobody has said it.
    pub(super) fn of(heard: &Heard) -> Option<Self> {
        let rest = match heard.kind {
            Kind::Data => return (*heard.payload == *META).then_some(Self::Metadata),
            Kind::Video => heard.payload.get(5..)?,
            Kind::Audio => heard.payload.get(2..)?,
        };
        let is_header = heard.payload[1] == 0;
        match rest {
            [header] if is_header => Some(Self::Header(*header)),
            // Those of a liar.
            b"avcC" | b"asc" if is_header => Some(Self::Header(u8::MAX)),
            [origin, session, header, a, b, c, d, ..] if !is_header => Some(Self::Frame {
                of: Session { origin: *origin, number: *session, header: *header },
                key: heard.payload[0] == 0x17,
                number: u32::from_be_bytes([*a, *b, *c, *d]),
            }),
            _ => None,
        }
    }
}
