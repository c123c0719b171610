//! A player: a cursor into a window and the rules by which it moves.
//!
//! It joins at the newest join point, preceded by the headers in force there. If it lags and a newer join point exists it
//! finishes the message it is in and skips there. Driven by its connection, which asks for the next piece whenever it can
//! send and reports nothing back: a piece handed out is a piece the connection sends whole.

use std::time::Duration;

use bytes::Bytes;

use super::piece::Piece;
use crate::{
    limits::{LAG_BYTES_MAX, PROGRESS_DEADLINE, SKIP_WINDOW, SKIPS_MAX},
    rtmp::message::Kind,
    stream::window::{JoinPoint, Window},
};

/// What the operator set for all players.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    pub gop_cache: bool,
    pub lag_max: Duration,
    pub join_wait: Duration,
}

impl Policy {
    fn lag_ms(&self) -> u32 {
        u32::try_from(self.lag_max.as_millis()).unwrap_or(u32::MAX)
    }

    /// A lag that a player can only have by not taking what it is sent.
    fn stuck_ms(&self) -> u32 {
        u32::try_from((self.lag_max + PROGRESS_DEADLINE).as_millis()).unwrap_or(u32::MAX)
    }
}

/// What a player does next.
#[derive(Clone, Debug)]
pub enum Next {
    Send(Piece),
    /// Nothing to send until the window grows.
    Idle,
    /// Everything of an ended log was sent.
    End,
    /// It leaves, and has had all it is to have: no group of pictures is begun that it does not get whole.
    Left,
    /// It is too far behind to be helped.
    TooSlow(TooSlow),
}

/// Why a player is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooSlow {
    /// More bytes behind than are kept for it.
    Bytes,
    /// It does not finish the message it is in.
    NoProgress,
    /// It skips again and again.
    Skips,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Waits for a join point at or after the cursor.
    Seeking { since_ms: u32 },
    /// Catches up with the head: merging does not hold it back.
    Joining,
    /// In step: it is sent what is released.
    Live,
}

/// See the file's head. There are hundreds of thousands of them: times are milliseconds of the shard's, modulo 2^32.
#[derive(Debug)]
pub struct Player {
    cursor: u64,
    state: State,
    /// It waited for the log: it begins at the first join point, not at the newest.
    waited: bool,
    /// It leaves right before the next message it could begin at.
    leaving: bool,
    skips: u32,
    skips_since_ms: u32,
    skips_total: u32,
}

impl Player {
    /// A player that begins to watch `window` at `now`: at the newest join point, or at the next (`live`).
    pub fn new(window: &Window, live: bool, now: Duration) -> Self {
        Self {
            cursor: if live { window.head() } else { 0 },
            state: State::Seeking { since_ms: whole_ms(now) },
            waited: false,
            leaving: false,
            skips: 0,
            skips_since_ms: whole_ms(now),
            skips_total: 0,
        }
    }

    /// The player was there before the log was, so that nothing of it is to be missed.
    pub fn from_first(mut self) -> Self {
        self.waited = true;
        self
    }

    /// Leaves its place, to begin again at the newest join point behind it, or at the next.
    pub fn seek_anew(&mut self, now: Duration) {
        self.waited = false;
        self.state = State::Seeking { since_ms: whole_ms(now) };
    }

    /// Whether it leaves right before the next message it could begin at, so that what it has had is whole.
    pub fn set_leaving(&mut self, leaving: bool) {
        self.leaving = leaving;
    }

    pub fn is_leaving(&self) -> bool {
        self.leaving
    }

    fn begins_at<'a>(&self, window: &'a Window) -> Option<&'a JoinPoint> {
        let first = window.first_join().filter(|_| self.waited);
        first.or(window.join()).filter(|join| join.offset >= self.cursor)
    }

    /// The oldest offset the player still needs; `None` while it seeks.
    pub fn needs_from(&self) -> Option<u64> {
        (!self.is_seeking()).then_some(self.cursor)
    }

    pub fn is_seeking(&self) -> bool {
        matches!(self.state, State::Seeking { .. })
    }

    /// Whether it has caught up with the head since it joined.
    pub fn is_in_step(&self) -> bool {
        self.state == State::Live
    }

    /// How far what it was sent is behind what came in; nothing while it seeks.
    pub fn lag_ms(&self, window: &Window) -> u32 {
        if self.is_seeking() { 0 } else { window.lag_ms(self.cursor) }
    }

    /// Skips so far.
    pub fn skips(&self) -> u64 {
        self.skips_total.into()
    }

    /// Whether asking [`next`](Self::next) can give anything but [`Next::Idle`].
    pub fn has_next(&self, window: &Window) -> bool {
        match self.state {
            State::Seeking { .. } => self.leaving || window.ended() || self.begins_at(window).is_some(),
            State::Joining => true,
            State::Live => self.cursor < window.released() || window.ended(),
        }
    }

    /// The bytes to send next. `wanted` are the kinds in the player's view.
    pub fn next(&mut self, window: &mut Window, policy: &Policy, now: Duration, wanted: impl Fn(Kind) -> bool) -> Next {
        if self.leaving {
            return self.next_to_leave(window);
        }
        if self.is_seeking() {
            match self.seek(window, policy, now, &wanted) {
                Some(prologue) if prologue.is_empty() => {}
                Some(prologue) => return Next::Send(Piece::Own(prologue)),
                None if window.ended() => return Next::End,
                None => return Next::Idle,
            }
        }
        if self.cursor < window.start() || window.head() - self.cursor > LAG_BYTES_MAX {
            return Next::TooSlow(TooSlow::Bytes);
        }
        if self.is_late(window, policy) {
            return self.fall_behind(window, now, &wanted);
        }
        let upto = if self.state == State::Joining { window.head() } else { window.released() };
        match window.slice(self.cursor, upto) {
            Some(slice) => {
                self.cursor = slice.range.end;
                if self.cursor == window.head() {
                    self.state = State::Live;
                }
                Next::Send(Piece::Log(slice))
            }
            None if window.ended() && self.cursor == window.head() => Next::End,
            None => {
                if self.cursor == window.head() {
                    self.state = State::Live;
                }
                Next::Idle
            }
        }
    }

    /// As [`next`](Self::next), of a player that leaves.
    fn next_to_leave(&mut self, window: &mut Window) -> Next {
        let end = match window.join() {
            Some(join) if join.offset >= self.cursor => join.offset,
            _ if window.ended() => window.head(),
            _ => u64::MAX,
        };
        if self.is_seeking() || self.cursor == end {
            return Next::Left;
        }
        if self.cursor < window.start() || window.head() - self.cursor > LAG_BYTES_MAX {
            return Next::TooSlow(TooSlow::Bytes);
        }
        let upto = if self.state == State::Joining { window.head() } else { window.released() };
        match window.slice(self.cursor, upto.min(end)) {
            Some(slice) => {
                self.cursor = slice.range.end;
                Next::Send(Piece::Log(slice))
            }
            None => Next::Idle,
        }
    }

    /// Finds where to begin; the headers to send before that. Without a join point for `join_wait` the player begins at
    /// the next message.
    fn seek(
        &mut self,
        window: &mut Window,
        policy: &Policy,
        now: Duration,
        wanted: &impl Fn(Kind) -> bool,
    ) -> Option<Bytes> {
        if let Some(join) = self.begins_at(window).cloned() {
            self.cursor = join.offset;
            self.state = State::Joining;
            return Some(window.prologue(join.offset, join.timestamp, &join.headers, wanted));
        }
        if !self.join_wait_is_over(policy, now) || window.ended() {
            return None;
        }
        self.cursor = window.head();
        self.state = State::Joining;
        let timestamp = window.newest_entry().map_or(0, |entry| entry.timestamp);
        let headers = window.headers().clone();
        Some(window.prologue(self.cursor, timestamp, &headers, wanted))
    }

    /// Whether the player is late and a newer join point could help.
    fn is_late(&self, window: &Window, policy: &Policy) -> bool {
        let helps = window.join().is_some_and(|join| join.offset > self.cursor);
        helps && window.lag_ms(self.cursor) > policy.lag_ms()
    }

    /// Ends the message the player is in, then skips to the newest join point.
    fn fall_behind(&mut self, window: &mut Window, now: Duration, wanted: &impl Fn(Kind) -> bool) -> Next {
        if !window.is_message_boundary(self.cursor) {
            let end = window.message_end(self.cursor);
            if let Some(slice) = window.slice(self.cursor, end) {
                self.cursor = slice.range.end;
                return Next::Send(Piece::Log(slice));
            }
        }
        let Some(join) = window.join().cloned() else { return Next::Idle };
        if since(self.skips_since_ms, now) > SKIP_WINDOW {
            self.skips_since_ms = whole_ms(now);
            self.skips = 0;
        }
        self.skips += 1;
        self.skips_total += 1;
        if self.skips > SKIPS_MAX {
            return Next::TooSlow(TooSlow::Skips);
        }
        let changed = window.headers_at(self.cursor) != join.headers.version();
        self.cursor = join.offset;
        self.state = State::Joining;
        if changed {
            let prologue = window.prologue(join.offset, join.timestamp, &join.headers, wanted);
            return Next::Send(Piece::Own(prologue));
        }
        match window.slice(self.cursor, window.head()) {
            Some(slice) => {
                self.cursor = slice.range.end;
                Next::Send(Piece::Log(slice))
            }
            None => Next::Idle,
        }
    }

    /// Whether the player is so late that only a send that does not end explains it. Asked by the coarse timer.
    pub fn is_stuck(&self, window: &Window, policy: &Policy) -> Option<TooSlow> {
        if self.is_seeking() {
            return None;
        }
        if self.cursor < window.start() || window.head() - self.cursor.min(window.head()) > LAG_BYTES_MAX {
            return Some(TooSlow::Bytes);
        }
        let helpless = window.join().is_some_and(|join| join.offset > self.cursor);
        (helpless && window.lag_ms(self.cursor) > policy.stuck_ms()).then_some(TooSlow::NoProgress)
    }

    /// Whether a wait for a join point is over.
    pub fn join_wait_is_over(&self, policy: &Policy, now: Duration) -> bool {
        matches!(self.state, State::Seeking { since_ms } if since(since_ms, now) >= policy.join_wait)
    }
}

fn whole_ms(time: Duration) -> u32 {
    time.as_millis() as u32
}

fn since(then_ms: u32, now: Duration) -> Duration {
    Duration::from_millis(whole_ms(now).wrapping_sub(then_ms).into())
}
