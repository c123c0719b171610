//! What of each message belongs to the views of some tracks, and the headers in force in them.
//!
//! Views that differ in message stream or kinds only share a [`Form`], so a message is taken apart once for all of them.
//! Messages that are not Multitrack, and those that a form has whole, are never copied here.

use std::sync::Arc;

use crate::{
    limits::METADATA_BYTES_MAX,
    media::{self, DataRole, Picked, Role, Tag, TagError, TrackSet, Tracks, multitrack},
    rtmp::message::Kind,
    stream::headers::HeaderSet,
};

/// A message as it was published, looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Published<'a> {
    pub(super) kind: Kind,
    pub(super) tag: Tag,
    /// Metadata without `@setDataFrame`.
    pub(super) payload: &'a [u8],
    /// Players that join later need it, too.
    pub(super) is_header: bool,
}

impl<'a> Published<'a> {
    /// An audio, video or data message; `None` if it only clears the metadata.
    pub(super) fn read(kind: Kind, payload: &'a [u8]) -> Result<Option<Self>, TagError> {
        let tag = match kind {
            Kind::Audio => media::classify_audio(payload)?,
            Kind::Video => media::classify_video(payload)?,
            Kind::Data => return Ok(Self::read_data(payload)),
        };
        let is_header = matches!(tag.role, Role::SequenceHeader | Role::ChannelConfig | Role::ColorInfo);
        Ok(Some(Self { kind, tag, payload, is_header }))
    }

    fn read_data(payload: &'a [u8]) -> Option<Self> {
        let tag = Tag { role: Role::Unknown, tracks: TrackSet::DEFAULT_TRACK, multitrack: false };
        let (payload, is_header) = match media::classify_data(payload) {
            DataRole::Metadata { body } => (body, true),
            DataRole::Other { body } => (body, false),
            DataRole::ClearMetadata => return None,
        };
        Some(Self { kind: Kind::Data, tag, payload, is_header })
    }

    /// What `tracks` have of it, if anything: as it is, or rewritten into `scratch`.
    pub(super) fn part<'b>(&'b self, tracks: &Tracks, scratch: &'b mut Vec<u8>) -> Option<Part<'b>> {
        let Self { kind, tag: Tag { role, tracks: held, multitrack }, payload, .. } = *self;
        let (held, payload) = match tracks.of(kind) {
            Picked::All => (held, payload),
            Picked::Listed(ids) if !multitrack => (ids.contains(&0).then_some(held)?, payload),
            Picked::Listed([track]) => {
                scratch.clear();
                if !multitrack::unwrap_track(kind, payload, *track, scratch) {
                    return None;
                }
                (TrackSet::single(*track), &scratch[..])
            }
            Picked::Listed(ids) => {
                let both = held.intersection(&ids.iter().copied().collect());
                if both.is_empty() {
                    return None;
                }
                if both == held {
                    (held, payload)
                } else {
                    scratch.clear();
                    multitrack::keep_tracks(kind, payload, &both, scratch);
                    (both, &scratch[..])
                }
            }
        };
        let is_others_keyframe = role == Role::Keyframe && !held.contains(tracks.lead());
        let role = if is_others_keyframe { Role::Coded } else { role };
        Some(Part { kind, role, tracks: held, payload, is_header: self.is_header })
    }
}

/// What a form has of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    pub(super) kind: Kind,
    pub(super) role: Role,
    tracks: TrackSet,
    pub(super) payload: &'a [u8],
    is_header: bool,
}

/// What a message does to the headers in force.
#[derive(Debug)]
pub(super) enum Effect {
    /// It repeats one of them, unchanged; players have it.
    Repeats,
    None,
    Changes(Arc<HeaderSet>),
}

impl Part<'_> {
    pub(super) fn effect(&self, headers: &Arc<HeaderSet>) -> Effect {
        if self.is_header && self.kind == Kind::Data && self.payload.len() > METADATA_BYTES_MAX {
            // For the players of the moment; what was set before is void.
            return headers.without_metadata().map_or(Effect::None, Effect::Changes);
        }
        if self.is_header {
            let changed = headers.with(self.kind, self.role, self.tracks, self.payload);
            return changed.map_or(Effect::Repeats, Effect::Changes);
        }
        let changed = (self.role == Role::SequenceEnd).then(|| headers.without_sequence(self.kind, &self.tracks));
        changed.flatten().map_or(Effect::None, Effect::Changes)
    }
}

/// See the file's head.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) tracks: Tracks,
    pub(super) headers: Arc<HeaderSet>,
}

impl Form {
    pub(super) fn new(tracks: Tracks) -> Self {
        Self { tracks, headers: Arc::default() }
    }
}

/// What `tracks` have of the headers of a form that holds all of theirs.
pub(super) fn headers_of(tracks: &Tracks, whole: &HeaderSet) -> Arc<HeaderSet> {
    let mut headers: Arc<HeaderSet> = Arc::default();
    let mut scratch = Vec::new();
    for item in whole.in_order() {
        let Ok(Some(message)) = Published::read(item.kind, &item.payload) else { continue };
        if let Some(part) = message.part(tracks, &mut scratch)
            && let Effect::Changes(changed) = part.effect(&headers)
        {
            headers = changed;
        }
    }
    headers
}
