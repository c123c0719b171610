//! The messages a decoder needs before media: metadata, sequence headers, channel configurations, colour information.
//!
//! A set is immutable and shared; a change makes a new version. It is bounded in items and in bytes, the oldest item
//! making room.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    limits::{HEADERS_BYTES_MAX, HEADERS_MAX},
    media::{Role, TrackSet},
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
        if self.items.iter().any(|item| same_slot(item) && item.tracks == tracks && item.payload == payload) {
            return None;
        }
        let mut items = self.items.clone();
        items.retain(|item| !(same_slot(item) && item.tracks.is_subset(&tracks)));
        items.push(CachedHeader { kind, role, tracks, payload: Bytes::copy_from_slice(payload) });
        while items.len() > 1 && (items.len() > HEADERS_MAX || bytes(&items) > HEADERS_BYTES_MAX) {
            items.remove(0);
        }
        Some(Arc::new(Self { version: self.version.wrapping_add(1), items }))
    }

    /// The set without metadata; `None` if it has none.
    pub fn without_metadata(self: &Arc<Self>) -> Option<Arc<Self>> {
        self.metadata()?;
        let items = self.items.iter().filter(|item| item.kind != Kind::Data).cloned().collect();
        Some(Arc::new(Self { version: self.version.wrapping_add(1), items }))
    }
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
    fn spam_stays_within_the_bounds() {
        let mut set: Arc<HeaderSet> = Arc::default();
        for track in 0..=255 {
            set = set.with(Kind::Audio, Role::SequenceHeader, TrackSet::single(track), &[0; 8192]).expect("changed");
        }
        assert!(set.items.len() <= HEADERS_MAX && bytes(&set.items) <= HEADERS_BYTES_MAX);
    }
}
