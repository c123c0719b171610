//! Audio and video tags: FLV 10.1 (sections E.4.2 and E.4.3) and Enhanced RTMP v2 (Enhanced Audio, Enhanced Video).
//!
//! Looks through ModEx prefixes (at most [`MODEX_MAX`]) and at every track of a Multitrack message (at most
//! [`TRACKS_MAX`]), never into coded frames.

use super::TrackSet;
use crate::limits::{MODEX_MAX, TRACKS_MAX};

/// What a tag is to a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Coded frames, frame type 1. A join point for those who receive one of its tracks as their first.
    Keyframe,
    /// Other coded frames, all those of audio included.
    Coded,
    /// A decoder's configuration: sequence header, SequenceStart, MPEG2TSSequenceStart.
    SequenceHeader,
    /// MultichannelConfig.
    ChannelConfig,
    /// Video metadata, of which colorInfo is defined.
    ColorInfo,
    SequenceEnd,
    /// A video command frame: start or end of seeking.
    Command,
    /// No payload; from audio this means silence.
    Empty,
    /// A reserved packet type or multitrack type. It passes untouched.
    Unknown,
}

/// A tag's role and the tracks it is about: the default track unless it is a Multitrack message. Of a reserved multitrack
/// type the tracks cannot be known, and the set is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    pub role: Role,
    pub tracks: TrackSet,
    /// It is a Multitrack message, which [`super::multitrack`] takes apart.
    pub multitrack: bool,
}

/// Why a tag is dropped. Offsets are bytes from the start of the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    #[error("tag ends at byte {offset}, inside its {part}; send whole tags")]
    Truncated { offset: usize, part: &'static str },
    #[error("track {track} at byte {offset} announces {size} bytes of {left}; send whole tracks")]
    TrackOverrun { offset: usize, track: u8, size: usize, left: usize },
    #[error("more than {MODEX_MAX} ModEx prefixes at byte {offset}; send fewer")]
    ModExChain { offset: usize },
    #[error("more than {TRACKS_MAX} tracks at byte {offset}; send each track once")]
    Tracks { offset: usize },
    #[error("packet type {packet_type} at byte {offset} inside a Multitrack message; put it before Multitrack")]
    Nested { offset: usize, packet_type: u8 },
}

/// Frame types of video tags.
pub(super) mod frame {
    pub(super) const KEY: u8 = 1;
    pub(in crate::media) const COMMAND: u8 = 5;
}

const MOD_EX: u8 = 7;
pub(super) const AUDIO_MULTITRACK: u8 = 5;
pub(super) const VIDEO_MULTITRACK: u8 = 6;
const VIDEO_METADATA: u8 = 4;

const SOUND_AAC: u8 = 10;
const SOUND_ENHANCED: u8 = 9;
const CODEC_AVC: u8 = 7;

/// Tells what an audio message's payload is.
pub fn classify_audio(payload: &[u8]) -> Result<Tag, TagError> {
    let mut cursor = Cursor::at(payload, 0);
    let Some(&first) = payload.first() else { return Ok(default_track(Role::Empty)) };
    cursor.offset = 1;
    let packet_type = match first >> 4 {
        SOUND_ENHANCED => cursor.skip_mod_ex(first & 0xF)?,
        SOUND_AAC => {
            let role = match cursor.u8("AAC packet type")? {
                0 => Role::SequenceHeader,
                1 => Role::Coded,
                _ => Role::Unknown,
            };
            return Ok(default_track(role));
        }
        _ => return Ok(default_track(Role::Coded)),
    };
    cursor.enhanced(packet_type, AUDIO_MULTITRACK, |packet_type| match packet_type {
        0 => Role::SequenceHeader,
        1 => Role::Coded,
        2 => Role::SequenceEnd,
        4 => Role::ChannelConfig,
        _ => Role::Unknown,
    })
}

/// Tells what a video message's payload is.
pub fn classify_video(payload: &[u8]) -> Result<Tag, TagError> {
    let mut cursor = Cursor::at(payload, 0);
    let Some(&first) = payload.first() else { return Ok(default_track(Role::Empty)) };
    cursor.offset = 1;
    let frame_type = first >> 4 & 7;
    if first & 0x80 == 0 {
        return cursor.legacy_video(frame_type, first & 0xF).map(default_track);
    }
    let packet_type = cursor.skip_mod_ex(first & 0xF)?;
    if frame_type == frame::COMMAND && packet_type != VIDEO_METADATA {
        cursor.u8("video command")?;
        return Ok(default_track(Role::Command));
    }
    let mut tag = cursor.enhanced(packet_type, VIDEO_MULTITRACK, |packet_type| match packet_type {
        0 | 5 => Role::SequenceHeader,
        1 | 3 => Role::Coded,
        2 => Role::SequenceEnd,
        VIDEO_METADATA => Role::ColorInfo,
        _ => Role::Unknown,
    })?;
    if tag.role == Role::Coded && frame_type == frame::KEY {
        tag.role = Role::Keyframe;
    }
    Ok(tag)
}

fn default_track(role: Role) -> Tag {
    Tag { role, tracks: TrackSet::DEFAULT_TRACK, multitrack: false }
}

/// Chinese encoders and CDNs send HEVC as legacy codec 12, laid out like AVC.
fn is_legacy_hevc(codec: u8) -> bool {
    codec == 12
}

pub(super) struct Cursor<'a> {
    payload: &'a [u8],
    pub(super) offset: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn at(payload: &'a [u8], offset: usize) -> Self {
        Self { payload, offset }
    }

    /// The tag from behind the ModEx prefixes on: a FourCC, or one or more tracks, each with the packet type's role.
    fn enhanced(&mut self, packet_type: u8, multitrack: u8, role: fn(u8) -> Role) -> Result<Tag, TagError> {
        if packet_type != multitrack {
            let role = role(packet_type);
            if role != Role::Unknown {
                self.skip(4, "FourCC")?;
            }
            return Ok(default_track(role));
        }
        let offset = self.offset;
        let byte = self.u8("multitrack type")?;
        let (form, packet_type) = (byte >> 4, byte & 0xF);
        if packet_type == multitrack || packet_type == MOD_EX {
            return Err(TagError::Nested { offset, packet_type });
        }
        let tracks = match form {
            0 => {
                self.skip(4, "FourCC")?;
                std::iter::once(self.u8("track id")?).collect()
            }
            1 => {
                self.skip(4, "FourCC")?;
                self.tracks(0)?
            }
            2 => self.tracks(4)?,
            _ => return Ok(Tag { role: Role::Unknown, tracks: TrackSet::EMPTY, multitrack: true }),
        };
        Ok(Tag { role: role(packet_type), tracks, multitrack: true })
    }

    /// The tracks up to the end of the payload, at least one, each behind a FourCC of so many bytes.
    fn tracks(&mut self, four_cc_bytes: usize) -> Result<TrackSet, TagError> {
        let mut tracks = TrackSet::EMPTY;
        for _ in 0..TRACKS_MAX {
            self.skip(four_cc_bytes, "FourCC")?;
            let offset = self.offset;
            let track = self.u8("track id")?;
            let size = self.u24("track size")?;
            let left = self.payload.len() - self.offset;
            if size > left {
                return Err(TagError::TrackOverrun { offset, track, size, left });
            }
            self.offset += size;
            tracks.insert(track);
            if size == left {
                return Ok(tracks);
            }
        }
        Err(TagError::Tracks { offset: self.offset })
    }

    /// Skips ModEx prefixes and returns the packet type behind them.
    pub(super) fn skip_mod_ex(&mut self, mut packet_type: u8) -> Result<u8, TagError> {
        for _ in 0..=MODEX_MAX {
            if packet_type != MOD_EX {
                return Ok(packet_type);
            }
            let mut size = usize::from(self.u8("ModEx size")?) + 1;
            if size == 256 {
                size = usize::from(self.u8("ModEx size")?) << 8;
                size += usize::from(self.u8("ModEx size")?) + 1;
            }
            self.skip(size, "ModEx data")?;
            packet_type = self.u8("ModEx type")? & 0xF;
        }
        Err(TagError::ModExChain { offset: self.offset })
    }

    fn legacy_video(&mut self, frame_type: u8, codec: u8) -> Result<Role, TagError> {
        let coded = if frame_type == frame::KEY { Role::Keyframe } else { Role::Coded };
        if frame_type == frame::COMMAND {
            return Ok(Role::Command);
        }
        if codec != CODEC_AVC && !is_legacy_hevc(codec) {
            return Ok(coded);
        }
        let role = match self.u8("AVC packet type")? {
            0 => Role::SequenceHeader,
            1 => coded,
            2 => return Ok(Role::SequenceEnd),
            _ => return Ok(Role::Unknown),
        };
        self.skip(3, "composition time")?;
        Ok(role)
    }

    pub(super) fn u8(&mut self, part: &'static str) -> Result<u8, TagError> {
        let byte = self.payload.get(self.offset);
        let &byte = byte.ok_or(TagError::Truncated { offset: self.payload.len(), part })?;
        self.offset += 1;
        Ok(byte)
    }

    pub(super) fn u24(&mut self, part: &'static str) -> Result<usize, TagError> {
        let mut value = 0;
        for _ in 0..3 {
            value = value << 8 | usize::from(self.u8(part)?);
        }
        Ok(value)
    }

    pub(super) fn skip(&mut self, bytes: usize, part: &'static str) -> Result<(), TagError> {
        if bytes > self.payload.len() - self.offset {
            return Err(TagError::Truncated { offset: self.payload.len(), part });
        }
        self.offset += bytes;
        Ok(())
    }
}

#[cfg(test)]
#[path = "tag_tests.rs"]
mod tests;
