//! Sets of track ids.

/// Which tracks a message speaks of, a bit for each of the 256 ids there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrackSet([u64; 4]);

impl TrackSet {
    pub const EMPTY: Self = Self([0; 4]);
    /// Track 0, which a message without track ids is about (Enhanced RTMP v2, Multitrack).
    pub const DEFAULT_TRACK: Self = Self([1, 0, 0, 0]);

    pub fn insert(&mut self, track: u8) {
        let (word, bit) = Self::place(track);
        self.0[word] |= bit;
    }

    /// The set of one track.
    pub fn single(track: u8) -> Self {
        let mut set = Self::EMPTY;
        set.insert(track);
        set
    }

    /// The lowest id; 0 if there is none.
    pub fn first(&self) -> u8 {
        let lowest = (0..4_u8).find_map(|word| {
            let bits = self.0[usize::from(word)];
            (bits != 0).then(|| word * 64 + bits.trailing_zeros() as u8)
        });
        lowest.unwrap_or(0)
    }

    pub fn is_subset(&self, of: &Self) -> bool {
        self.0.iter().zip(&of.0).all(|(own, theirs)| own & !theirs == 0)
    }

    /// What both hold.
    pub fn intersection(&self, with: &Self) -> Self {
        let mut both = *self;
        both.0.iter_mut().zip(&with.0).for_each(|(own, theirs)| *own &= theirs);
        both
    }

    /// What this one holds and `without` does not.
    pub fn difference(&self, without: &Self) -> Self {
        let mut rest = *self;
        rest.0.iter_mut().zip(&without.0).for_each(|(own, theirs)| *own &= !theirs);
        rest
    }

    pub fn contains(&self, track: u8) -> bool {
        let (word, bit) = Self::place(track);
        self.0[word] & bit != 0
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }

    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The ids, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u8> + use<> {
        let set = *self;
        (0..=u8::MAX).filter(move |&track| set.contains(track))
    }

    fn place(track: u8) -> (usize, u64) {
        (usize::from(track / 64), 1 << (track % 64))
    }
}

impl FromIterator<u8> for TrackSet {
    fn from_iter<T: IntoIterator<Item = u8>>(tracks: T) -> Self {
        let mut set = Self::EMPTY;
        tracks.into_iter().for_each(|track| set.insert(track));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_exactly_what_was_inserted() {
        let ids = [0, 1, 63, 64, 127, 128, 200, 255];
        let set: TrackSet = ids.into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), ids);
        assert_eq!(set.len(), ids.len());
        assert_eq!((TrackSet::single(200).first(), set.first(), TrackSet::EMPTY.first()), (200, 0, 0));
        assert!(TrackSet::single(64).is_subset(&set) && !set.is_subset(&TrackSet::single(64)));
        assert!(!set.contains(2) && !set.is_empty() && TrackSet::EMPTY.is_empty());
        assert_eq!(TrackSet::DEFAULT_TRACK, [0].into_iter().collect());
        let other: TrackSet = [1, 2, 200].into_iter().collect();
        assert_eq!(set.intersection(&other), [1, 200].into_iter().collect());
        assert_eq!(other.difference(&set), [2].into_iter().collect());
    }
}
