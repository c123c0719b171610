//! In which order a stream's players are woken for what was released.
//!
//! Not all at once: a message that comes while a large audience is sent the one before would wait for the last of them. The
//! first are woken with each message, the others in portions, streams in turns, between which the driver does what else there
//! is: it sees to it that players have their share. A message that comes meanwhile begins at the first slot again, so that those
//! there wait for a portion, and who is reached late gets several messages in one send. Bounds: an entry in `waking` for each
//! stream, and those of streams that are gone until their turn; and messages pass nobody over for longer than [`limits::WAKE_ANEW`].

use std::time::Duration;

use super::core::Core;
use crate::limits;

/// How far the players of a stream are woken.
#[derive(Debug)]
pub(super) struct Waking {
    /// The first slot that was not looked at, if any.
    next: Option<usize>,
    /// Process time at which it began with nobody left out.
    began: Duration,
    /// There is more for those that were woken.
    again: bool,
}

impl Core {
    /// Wakes the stream's players that have something to be sent, or the first of them: see [`Core::wake_more`].
    pub(super) fn wake_watchers(&mut self, local: usize) {
        let now = self.time.process();
        let Some(stream) = self.streams.slab.get_mut(local) else { return };
        if let Some(waking) = &mut stream.waking
            && now >= waking.began + limits::WAKE_ANEW
        {
            waking.again = true;
            return;
        }
        let next = self.wake_portion(local, 0);
        let Some(stream) = self.streams.slab.get_mut(local) else { return };
        match &mut stream.waking {
            Some(waking) => waking.next = next,
            None if next.is_none() => {}
            None => {
                stream.waking = Some(Waking { next, began: now, again: false });
                self.streams.waking.push_back(local);
            }
        }
    }

    /// Whether [`Core::wake_more`] has something to do.
    pub fn is_waking(&self) -> bool {
        !self.streams.waking.is_empty()
    }

    /// Wakes further players, streams in turns, until it has woken `count` or a portion more.
    pub fn wake_more(&mut self, count: usize) {
        let enough = self.wakes.len() + count;
        while let Some(local) = self.streams.waking.pop_front() {
            self.wake_next(local);
            if self.wakes.len() >= enough {
                return;
            }
        }
    }

    /// The next portion of the stream whose turn it is.
    fn wake_next(&mut self, local: usize) {
        // Another stream may have taken the place of one that is gone.
        let Some(mut waking) = self.streams.slab.get_mut(local).and_then(|stream| stream.waking.take()) else { return };
        if waking.next.is_none() && waking.again {
            waking = Waking { next: Some(0), began: self.time.process(), again: false };
        }
        waking.next = waking.next.and_then(|from| self.wake_portion(local, from));
        let Some(stream) = self.streams.slab.get_mut(local) else { return };
        if waking.again || waking.next.is_some() {
            stream.waking = Some(waking);
            self.streams.waking.push_back(local);
        }
    }

    /// From that slot on. Returns the first that was not looked at, if there is one.
    fn wake_portion(&mut self, local: usize, from: usize) -> Option<usize> {
        let stream = self.streams.slab.get(local)?;
        let mut left = self.config.wakes_at_once;
        for at in from..stream.watchers.capacity() {
            let Some(watcher) = stream.watchers.get(at) else { continue };
            let Some(conn) = self.conns.get_mut(watcher.conn) else { continue };
            if !conn.parked {
                conn.has_more = true;
                continue;
            }
            if left == 0 {
                return Some(at);
            }
            if !stream.seeks_in_vain(watcher) {
                conn.wake();
                self.wakes.push(watcher.conn);
                left -= 1;
            }
        }
        None
    }
}
