//! The message streams of one connection: which exist, and what each is used for.

use super::super::key::StreamKey;
use crate::limits::MESSAGE_STREAMS_MAX;

/// What a message stream is used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Use {
    /// createStream has not made it.
    #[default]
    None,
    Idle,
    PublishAsked,
    Publishing,
    PlayAsked,
    Playing,
}

impl Use {
    /// Publishing or playing, or asking to.
    fn is_busy(self) -> bool {
        !matches!(self, Use::None | Use::Idle)
    }
}

/// Message streams 1 to [`MESSAGE_STREAMS_MAX`].
#[derive(Debug, Default)]
pub(super) struct MessageStreams {
    uses: [Use; MESSAGE_STREAMS_MAX],
    /// What each publishes, asks to or was asked for last. Players have none.
    keys: Option<Box<[Option<StreamKey>; MESSAGE_STREAMS_MAX]>>,
}

impl MessageStreams {
    /// Makes the stream with the lowest free id; `None` if all exist.
    pub(super) fn create(&mut self) -> Option<u32> {
        let index = self.uses.iter().position(|used| *used == Use::None)?;
        self.uses[index] = Use::Idle;
        u32::try_from(index + 1).ok()
    }

    /// The use of stream `id`; `Use::None` if there is no such stream.
    pub(super) fn get(&self, id: u32) -> Use {
        index(id).and_then(|index| self.uses.get(index)).copied().unwrap_or_default()
    }

    /// Changes what an existing stream is used for; of an unknown id nothing is remembered.
    pub(super) fn set(&mut self, id: u32, to: Use) {
        if let Some(slot) = index(id).and_then(|index| self.uses.get_mut(index))
            && *slot != Use::None
        {
            *slot = to;
        }
    }

    /// An existing stream asks to publish `key`.
    pub(super) fn ask_publish(&mut self, id: u32, key: StreamKey) {
        self.set(id, Use::PublishAsked);
        if let Some(slot) = index(id).and_then(|index| self.keys.get_or_insert_default().get_mut(index)) {
            *slot = Some(key);
        }
    }

    /// Whether any stream is publishing or playing, or asking to.
    pub(super) fn any_busy(&self) -> bool {
        self.uses.iter().any(|used| used.is_busy())
    }

    /// Puts an existing stream to `to` (idle, or none to delete it); true if that ended a publish or play.
    pub(super) fn end(&mut self, id: u32, to: Use) -> bool {
        let busy = self.get(id).is_busy();
        self.set(id, to);
        busy
    }

    /// The stream on which `key` is published.
    pub(super) fn publishing(&self, key: &StreamKey) -> Option<u32> {
        let keys = self.keys.as_deref()?.iter().zip(&self.uses);
        let published = |(of, used): (&Option<StreamKey>, &Use)| *used == Use::Publishing && of.as_ref() == Some(key);
        (1u32..).zip(keys).find_map(|(id, stream)| published(stream).then_some(id))
    }
}

fn index(id: u32) -> Option<usize> {
    usize::try_from(id).ok()?.checked_sub(1)
}
