//! The message streams of one connection: which exist, and what each is used for.

use super::super::{key::StreamKey, message::Kind};
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

/// One message stream in a byte, because every connection keeps all of them: its use, and what it is not to receive.
#[derive(Clone, Copy, Debug, Default)]
struct Slot(u8);

impl Slot {
    const USE: u8 = 7;

    fn used(self) -> Use {
        match self.0 & Self::USE {
            1 => Use::Idle,
            2 => Use::PublishAsked,
            3 => Use::Publishing,
            4 => Use::PlayAsked,
            5 => Use::Playing,
            _ => Use::None,
        }
    }

    /// A stream that is not there any more leaves nothing to the next of its id.
    fn set(&mut self, used: Use) {
        self.0 = if used == Use::None { 0 } else { self.0 & !Self::USE | used as u8 };
    }

    fn unwanted(kind: Kind) -> u8 {
        match kind {
            Kind::Audio => 8,
            Kind::Video => 16,
            Kind::Data => 0,
        }
    }
}

/// Message streams 1 to [`MESSAGE_STREAMS_MAX`].
#[derive(Debug, Default)]
pub(super) struct MessageStreams {
    slots: [Slot; MESSAGE_STREAMS_MAX],
    /// What each publishes, asks to or was asked for last. Players have none.
    keys: Option<Box<[Option<StreamKey>; MESSAGE_STREAMS_MAX]>>,
}

impl MessageStreams {
    /// Makes the stream with the lowest free id; `None` if all exist.
    pub(super) fn create(&mut self) -> Option<u32> {
        let index = self.slots.iter().position(|slot| slot.used() == Use::None)?;
        self.slots[index].set(Use::Idle);
        u32::try_from(index + 1).ok()
    }

    /// The use of stream `id`; `Use::None` if there is no such stream.
    pub(super) fn get(&self, id: u32) -> Use {
        index(id).and_then(|index| self.slots.get(index)).map(|slot| slot.used()).unwrap_or_default()
    }

    fn existing(&mut self, id: u32) -> Option<&mut Slot> {
        index(id).and_then(|index| self.slots.get_mut(index)).filter(|slot| slot.used() != Use::None)
    }

    /// Changes what an existing stream is used for; of an unknown id nothing is remembered.
    pub(super) fn set(&mut self, id: u32, to: Use) {
        if let Some(slot) = self.existing(id) {
            slot.set(to);
        }
    }

    /// receiveAudio and receiveVideo, which hold until the stream is deleted. True if that changes what an existing stream
    /// receives.
    pub(super) fn choose(&mut self, id: u32, kind: Kind, on: bool) -> bool {
        let Some(slot) = self.existing(id) else { return false };
        let (before, unwanted) = (slot.0, Slot::unwanted(kind));
        slot.0 = if on { before & !unwanted } else { before | unwanted };
        slot.0 != before
    }

    /// Whether a stream is to receive messages of `kind`.
    pub(super) fn receives(&self, id: u32, kind: Kind) -> bool {
        let slot = index(id).and_then(|index| self.slots.get(index));
        slot.is_none_or(|slot| slot.0 & Slot::unwanted(kind) == 0)
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
        self.slots.iter().any(|slot| slot.used().is_busy())
    }

    /// Puts an existing stream to `to` (idle, or none to delete it); true if that ended a publish or play.
    pub(super) fn end(&mut self, id: u32, to: Use) -> bool {
        let busy = self.get(id).is_busy();
        self.set(id, to);
        busy
    }

    /// The stream on which `key` is published.
    pub(super) fn publishing(&self, key: &StreamKey) -> Option<u32> {
        let keys = self.keys.as_deref()?.iter().zip(&self.slots);
        let published =
            |(of, slot): (&Option<StreamKey>, &Slot)| slot.used() == Use::Publishing && of.as_ref() == Some(key);
        (1u32..).zip(keys).find_map(|(id, stream)| published(stream).then_some(id))
    }
}

fn index(id: u32) -> Option<usize> {
    usize::try_from(id).ok()?.checked_sub(1)
}
