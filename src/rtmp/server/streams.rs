//! The message streams of one connection: which exist, and what each is used for.

use super::super::key::StreamKey;
use crate::limits::MESSAGE_STREAMS_MAX;

/// What a message stream is used for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Use {
    /// createStream has not made it.
    #[default]
    None,
    Idle,
    PublishAsked(StreamKey),
    Publishing(StreamKey),
    PlayAsked,
    Playing,
}

impl Use {
    /// Publishing or playing, or asking to.
    fn is_busy(&self) -> bool {
        !matches!(self, Use::None | Use::Idle)
    }
}

/// Message streams 1 to [`MESSAGE_STREAMS_MAX`].
#[derive(Debug, Default)]
pub(super) struct MessageStreams {
    uses: [Use; MESSAGE_STREAMS_MAX],
}

impl MessageStreams {
    /// Makes the stream with the lowest free id; `None` if all exist.
    pub(super) fn create(&mut self) -> Option<u32> {
        let index = self.uses.iter().position(|used| *used == Use::None)?;
        self.uses[index] = Use::Idle;
        u32::try_from(index + 1).ok()
    }

    /// The use of stream `id`; `Use::None` if there is no such stream.
    pub(super) fn get(&self, id: u32) -> &Use {
        index(id).and_then(|index| self.uses.get(index)).unwrap_or(&Use::None)
    }

    /// Changes what an existing stream is used for; of an unknown id nothing is remembered.
    pub(super) fn set(&mut self, id: u32, to: Use) {
        if let Some(slot) = index(id).and_then(|index| self.uses.get_mut(index))
            && *slot != Use::None
        {
            *slot = to;
        }
    }

    /// Whether any stream is publishing or playing, or asking to.
    pub(super) fn any_busy(&self) -> bool {
        self.uses.iter().any(Use::is_busy)
    }

    /// Puts an existing stream to `to` (idle, or none to delete it); true if that ended a publish or play.
    pub(super) fn end(&mut self, id: u32, to: Use) -> bool {
        let busy = self.get(id).is_busy();
        self.set(id, to);
        busy
    }

    /// The stream on which `key` is published.
    pub(super) fn publishing(&self, key: &StreamKey) -> Option<u32> {
        let published = |used: &Use| matches!(used, Use::Publishing(published) if published == key);
        (1u32..).zip(&self.uses).find_map(|(id, used)| published(used).then_some(id))
    }
}

fn index(id: u32) -> Option<usize> {
    usize::try_from(id).ok()?.checked_sub(1)
}
