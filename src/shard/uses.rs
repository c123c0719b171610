//! What the message streams of a connection are used for. Nearly always there is one use, so one needs no allocation; there
//! are at most as many as message streams.

use std::ops::Deref;

/// What one message stream of a connection is used for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Use {
    Publishing { stream: u32, local: usize, epoch: u64 },
    Playing { stream: u32, local: usize, watcher: usize },
}

impl Use {
    pub(super) fn stream(&self) -> u32 {
        match self {
            Use::Publishing { stream, .. } | Use::Playing { stream, .. } => *stream,
        }
    }
}

/// The uses of a connection; a slice for whoever reads.
#[derive(Debug)]
pub(super) enum Uses {
    AtMostOne(Option<Use>),
    /// The box keeps the enum at the size of one use.
    #[allow(clippy::box_collection, reason = "a vector is as large as a use")]
    Several(Box<Vec<Use>>),
}

impl Default for Uses {
    fn default() -> Self {
        Self::AtMostOne(None)
    }
}

impl Deref for Uses {
    type Target = [Use];

    fn deref(&self) -> &[Use] {
        match self {
            Self::AtMostOne(used) => used.as_slice(),
            Self::Several(uses) => uses,
        }
    }
}

impl Uses {
    pub(super) fn push(&mut self, used: Use) {
        match self {
            Self::AtMostOne(none @ None) => *none = Some(used),
            Self::AtMostOne(Some(first)) => *self = Self::Several(Box::new(vec![*first, used])),
            Self::Several(uses) => uses.push(used),
        }
    }

    pub(super) fn pop(&mut self) -> Option<Use> {
        match self {
            Self::AtMostOne(used) => used.take(),
            Self::Several(uses) => uses.pop(),
        }
    }

    /// Takes out the first use that `is_it`.
    pub(super) fn remove_where(&mut self, is_it: impl Fn(&Use) -> bool) -> Option<Use> {
        match self {
            Self::AtMostOne(used) => used.take_if(|used| is_it(used)),
            Self::Several(uses) => uses.iter().position(is_it).map(|index| uses.remove(index)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams(uses: &Uses) -> Vec<u32> {
        uses.iter().map(Use::stream).collect()
    }

    #[test]
    fn uses_keep_their_order() {
        let mut uses = Uses::default();
        assert_eq!((streams(&uses), uses.pop().is_none()), (vec![], true));
        for stream in 1..=4 {
            uses.push(Use::Playing { stream, local: 0, watcher: 0 });
            assert_eq!(streams(&uses), (1..=stream).collect::<Vec<_>>());
        }
        assert!(uses.remove_where(|used| used.stream() == 9).is_none());
        assert_eq!(uses.remove_where(|used| used.stream() == 2).map(|used| used.stream()), Some(2));
        assert_eq!(streams(&uses), [1, 3, 4]);
        assert_eq!(uses.pop().map(|used| used.stream()), Some(4));
        assert_eq!(streams(&uses), [1, 3]);
    }

    #[test]
    fn one_is_removed_if_it_is_the_one() {
        let mut uses = Uses::default();
        uses.push(Use::Publishing { stream: 1, local: 0, epoch: 1 });
        assert!(uses.remove_where(|used| used.stream() == 2).is_none());
        assert!(uses.remove_where(|used| used.stream() == 1).is_some());
        assert!(uses.is_empty());
    }
}
