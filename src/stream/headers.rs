//! The messages a decoder needs before media: metadata, sequence headers, channel configurations, colour information.
//!
//! There is one of a role for each (kind, track), whatever form it comes in: legacy, FourCC, Multitrack. A set is immutable
//! and shared; a change makes a new version. It is bounded in items and in bytes: the oldest of a further track
//! makes room, then the oldest.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    limits::{HEADERS_BYTES_MAX, HEADERS_MAX},
    media::{Role, TrackSet, multitrack},
    rtmp::message::Kind,
};

/// One cached message, payload as published (metadata without `@setDataFrame`).
#[derive(Clone, Debug)]
pub struct CachedHeader {
    pub kind: Kind,
    pub role: Role,
    pub tracks: TrackSet,
    pub payload: Bytes,
}

/// The headers in force at some place in a stream. `version` rises by one with each change within an epoch.
#[derive(Clone, Debug, Default)]
pub struct HeaderSet {
    version: u32,
    items: Vec<CachedHeader>,
}

impl HeaderSet {
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Metadata first, then sequence headers, then what refines them.
    pub fn in_order(&self) -> impl Iterator<Item = &CachedHeader> {
        let rank = |item: &CachedHeader| match (item.kind, item.role) {
            (Kind::Data, _) => 0,
            (_, Role::SequenceHeader) => 1,
            _ => 2,
        };
        (0..3).flat_map(move |wanted| self.items.iter().filter(move |item| rank(item) == wanted))
    }

    /// The stream's metadata, from the string "onMetaData" on.
    pub fn metadata(&self) -> Option<&Bytes> {
        self.items.iter().find(|item| item.kind == Kind::Data).map(|item| &item.payload)
    }

    /// The set with one message taken in: it replaces what it covers. `None` if the set holds the same bytes already.
    pub fn with(self: &Arc<Self>, kind: Kind, role: Role, tracks: TrackSet, payload: &[u8]) -> Option<Arc<Self>> {
        let same_slot = |item: &CachedHeader| item.kind == kind && item.role == role;
        // What came last of any of its tracks is in force; a message whose like was overridden since is no repeat.
        let newest = self.items.iter().rfind(|item| same_slot(item) && !item.tracks.intersection(&tracks).is_empty());
        let same = |item: &CachedHeader| item.tracks == tracks && item.payload == payload;
        if newest.or(self.items.iter().rfind(|item| same_slot(item))).is_some_and(same) {
            return None;
        }
        let mut items = self.items.clone();
        items.retain(|item| !(same_slot(item) && item.tracks.is_subset(&tracks)));
        items.push(CachedHeader { kind, role, tracks, payload: Bytes::copy_from_slice(payload) });
        while items.len() > 1 && (items.len() > HEADERS_MAX || bytes(&items) > HEADERS_BYTES_MAX) {
            items.remove(expendable(&items));
        }
        Some(Arc::new(Self { version: self.version.wrapping_add(1), items }))
    }

    /// The set after the end of a sequence on `tracks`: their sequence headers and channel configurations are void until
    /// the next ones. `None` if it has none of them.
    pub fn without_sequence(self: &Arc<Self>, kind: Kind, tracks: &TrackSet) -> Option<Arc<Self>> {
        let ends = |item: &CachedHeader| {
            item.kind == kind
                && matches!(item.role, Role::SequenceHeader | Role::ChannelConfig)
                && !item.tracks.intersection(tracks).is_empty()
        };
        if !self.items.iter().any(ends) {
            return None;
        }
        let items =
            self.items.iter().filter_map(|item| if ends(item) { item.without(tracks) } else { Some(item.clone()) });
        Some(Arc::new(Self { version: self.version.wrapping_add(1), items: items.collect() }))
    }

    /// The set without metadata; `None` if it has none.
    pub fn without_metadata(self: &Arc<Self>) -> Option<Arc<Self>> {
        self.metadata()?;
        let items = self.items.iter().filter(|item| item.kind != Kind::Data).cloned().collect();
        Some(Arc::new(Self { version: self.version.wrapping_add(1), items }))
    }
}

impl CachedHeader {
    /// What is left of it without `tracks`, if anything.
    fn without(&self, tracks: &TrackSet) -> Option<Self> {
        let left = self.tracks.difference(tracks);
        let mut payload = Vec::new();
        let kept = multitrack::keep_tracks(self.kind, &self.payload, &left, &mut payload);
        kept.then(|| Self { tracks: left, payload: payload.into(), ..self.clone() })
    }
}

/// The oldest of those most players can do without: metadata and what is about track 0 go last, the newest not at all.
fn expendable(items: &[CachedHeader]) -> usize {
    let older = items.split_last().map_or(items, |(_, older)| older);
    older.iter().position(|item| item.kind != Kind::Data && !item.tracks.contains(0)).unwrap_or(0)
}

fn bytes(items: &[CachedHeader]) -> usize {
    items.iter().map(|item| item.payload.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(set: &Arc<HeaderSet>, kind: Kind, role: Role, payload: &[u8]) -> Arc<HeaderSet> {
        set.with(kind, role, TrackSet::single(0), payload).expect("changed")
    }

    #[test]
    fn what_was_overridden_in_part_is_no_repeat() {
        let both: TrackSet = [0, 1].into_iter().collect();
        let set =
            HeaderSet::with(&Arc::default(), Kind::Video, Role::SequenceHeader, both, b"X and Y").expect("changed");
        let set = take(&set, Kind::Video, Role::SequenceHeader, b"X'");
        let set = set.with(Kind::Video, Role::SequenceHeader, both, b"X and Y").expect("X is in force again");
        assert_eq!(set.in_order().map(|item| &item.payload[..]).collect::<Vec<_>>(), [b"X and Y"]);
    }

    #[test]
    fn an_unchanged_repeat_is_not_a_change() {
        let set = take(&Arc::default(), Kind::Video, Role::SequenceHeader, b"avcC");
        assert!(set.with(Kind::Video, Role::SequenceHeader, TrackSet::single(0), b"avcC").is_none());
        let changed = take(&set, Kind::Video, Role::SequenceHeader, b"avcD");
        assert_eq!(changed.in_order().count(), 1);
        assert_ne!(changed.version(), set.version());
    }

    #[test]
    fn tracks_and_roles_have_slots_of_their_own() {
        let set = take(&Arc::default(), Kind::Video, Role::SequenceHeader, b"a");
        let set = set.with(Kind::Video, Role::SequenceHeader, TrackSet::single(1), b"b").expect("changed");
        let set = take(&set, Kind::Video, Role::ColorInfo, b"c");
        let set = take(&set, Kind::Data, Role::Unknown, b"meta");
        let order: Vec<_> = set.in_order().map(|item| item.payload.clone()).collect();
        assert_eq!(order, ["meta", "a", "b", "c"]);
        assert!(set.without_metadata().expect("had metadata").metadata().is_none());
    }

    #[test]
    fn a_header_in_another_form_replaces_the_one_before() {
        let forms: [&[u8]; 3] = [b"\x17\0\0\0\0avcC", b"\x90avc1avcC", b"\x96\x00avc1\x00avcC"];
        let mut set: Arc<HeaderSet> = Arc::default();
        for payload in forms {
            let tracks = crate::media::classify_video(payload).expect("well-formed").tracks;
            set = set.with(Kind::Video, Role::SequenceHeader, tracks, payload).expect("changed");
            assert_eq!(set.in_order().map(|item| &item.payload[..]).collect::<Vec<_>>(), [payload]);
        }
    }

    #[test]
    fn the_end_of_a_sequence_voids_the_headers_of_its_tracks() {
        let many = b"\x96\x10avc1\x00\0\0\x01a\x01\0\0\x01b";
        let both: TrackSet = [0, 1].into_iter().collect();
        let set = take(&Arc::default(), Kind::Audio, Role::SequenceHeader, b"asc");
        let set = set.with(Kind::Video, Role::SequenceHeader, both, many).expect("changed");
        let set = take(&set, Kind::Video, Role::ColorInfo, b"hdr");
        let left = set.without_sequence(Kind::Video, &TrackSet::single(0)).expect("changed");
        assert_ne!(left.version(), set.version());
        let payloads = |set: &HeaderSet| set.in_order().map(|item| item.payload.to_vec()).collect::<Vec<_>>();
        assert_eq!(payloads(&left), [&b"asc"[..], b"\x96\x10avc1\x01\0\0\x01b", b"hdr"]);
        assert!(left.without_sequence(Kind::Video, &TrackSet::single(0)).is_none());
        let left = left.without_sequence(Kind::Video, &both).expect("changed");
        assert_eq!(payloads(&left), [&b"asc"[..], b"hdr"]);
        let left = left.without_sequence(Kind::Audio, &TrackSet::single(0)).expect("changed");
        assert_eq!(payloads(&left), [b"hdr"]);
    }

    #[test]
    fn spam_stays_within_the_bounds() {
        let set = take(&Arc::default(), Kind::Data, Role::Unknown, b"onMetaData");
        let mut set = take(&set, Kind::Video, Role::SequenceHeader, b"avcC");
        for track in 0..=255 {
            set = set.with(Kind::Audio, Role::SequenceHeader, TrackSet::single(track), &[0; 8192]).expect("changed");
        }
        assert!(set.items.len() <= HEADERS_MAX && bytes(&set.items) <= HEADERS_BYTES_MAX);
        let kept: Vec<_> = set.in_order().take(2).map(|item| &item.payload[..]).collect();
        assert_eq!(kept, [&b"onMetaData"[..], b"avcC"], "they are everybody's");
    }
}
