//! How a follower shard gets a log: the segments and the index of messages, never the bytes.
//!
//! A feed says everything that happened since the previous one, so a queue that was full delays and loses nothing. The first
//! is a snapshot from the newest join point on, or from a message that may become one. The owner holds a [`FeedPosition`]
//! per follower.

use std::sync::Arc;

use super::{
    headers::HeaderSet,
    layout::Layout,
    segment::Segment,
    window::{Entry, JoinPoint, Passed, Window},
};
use crate::sync;

/// What happened to a log since the follower's previous feed.
#[derive(Clone, Debug)]
pub struct Feed {
    /// The follower's window begins anew here.
    pub start: Option<Start>,
    pub segments: Vec<sync::Arc<Segment>>,
    pub entries: Vec<Entry>,
    pub join: JoinChange,
    /// The log's first join point, if it is below `head` and held.
    pub first: Option<JoinPoint>,
    /// A message that may yet become the join point: the follower holds on to it, too.
    pub hold: Option<u64>,
    pub headers: Arc<HeaderSet>,
    /// Released head; also the end of the last of `entries`.
    pub head: u64,
    pub ended: bool,
}

/// The newest join point, as far as the follower can see it.
#[derive(Clone, Debug)]
pub enum JoinChange {
    /// It lies above the released head: the one before it stays.
    Keep,
    Is(Option<JoinPoint>),
}

#[derive(Clone, Copy, Debug)]
pub struct Start {
    pub layout: Layout,
    pub offset: u64,
    pub passed: Passed,
}

/// How far a follower has been told.
#[derive(Clone, Copy, Debug, Default)]
pub struct FeedPosition {
    started: bool,
    /// Its players waited for the log: it begins at the first join point.
    from_first: bool,
    /// Sequence number of the next message to tell.
    sequence: u64,
    /// Offset after the last message told.
    head: u64,
    /// Base of the next segment to tell, or beyond.
    segment_base: u64,
    ended: bool,
}

impl FeedPosition {
    /// Of a follower that has been told nothing yet.
    pub fn new(from_first: bool) -> Self {
        Self { from_first, ..Self::default() }
    }

    /// Whether the window holds anything the follower has not been told.
    pub fn is_behind(&self, window: &Window) -> bool {
        !self.started || self.head < window.released() || (window.ended() && !self.ended)
    }

    /// The window must hold on to what lies from here on.
    pub fn holds_from(&self) -> Option<u64> {
        self.started.then_some(self.head)
    }
}

impl Window {
    /// What `position` lacks, up to the released head, and the position after it.
    pub fn feed(&self, position: FeedPosition) -> (Feed, FeedPosition) {
        let cut_off = position.sequence < self.first_sequence() || position.head < self.start();
        let fresh = !position.started || cut_off;
        let head = self.released();
        let join = self.join().filter(|join| join.offset < head);
        let (start, sequence, segment_base) = if fresh {
            let hold = self.hold().filter(|hold| *hold < head);
            let waited_for = self.first_join().filter(|join| position.from_first && join.offset < head);
            let offset = waited_for.or(join).map(|join| join.offset).or(hold).unwrap_or(head).max(self.start());
            let sequence = self.sequence_at(offset);
            let base =
                self.segments().rev().find(|segment| segment.base() <= offset).map_or(0, |segment| segment.base());
            (Some(Start { layout: self.layout(), offset, passed: self.passed_before(offset) }), sequence, base)
        } else {
            (None, position.sequence, position.segment_base)
        };
        let entries: Vec<_> = self.entries_from(sequence).take_while(|entry| entry.offset < head).copied().collect();
        let told = |segment: &&sync::Arc<Segment>| segment.base() >= segment_base && segment.base() < head;
        let segments: Vec<_> = self.segments().filter(told).cloned().collect();
        let after = FeedPosition {
            started: true,
            from_first: false,
            sequence: sequence + entries.len() as u64,
            head,
            segment_base: segments.last().map_or(segment_base, |segment| segment.base() + 1),
            ended: self.ended(),
        };
        let join = match self.join() {
            Some(join) if join.offset >= head => JoinChange::Keep,
            join => JoinChange::Is(join.cloned()),
        };
        let (hold, headers, ended) = (self.hold(), self.headers().clone(), self.ended());
        let first = self.first_join().filter(|join| join.offset < head).cloned();
        (Feed { start, segments, entries, join, first, hold, headers, head, ended }, after)
    }

    fn sequence_at(&self, offset: u64) -> u64 {
        let before = self.entries_from(0).take_while(|entry| entry.offset < offset).count();
        self.first_sequence() + before as u64
    }

    /// Takes in what the owner said. True if a segment came with it.
    pub fn apply(&mut self, feed: Feed) -> bool {
        if let Some(start) = feed.start {
            self.restart(start.offset, start.passed);
        }
        let grew = !feed.segments.is_empty();
        for segment in feed.segments {
            self.push_segment(segment);
        }
        let ends = feed.entries.iter().skip(1).map(|entry| entry.offset).chain([feed.head]);
        for (entry, end) in feed.entries.iter().zip(ends) {
            self.push_entry(*entry, end);
        }
        self.set_headers(feed.headers);
        self.set_first(feed.first);
        if let JoinChange::Is(join) = feed.join {
            self.set_join(join);
        }
        self.set_hold(feed.hold);
        self.release();
        if feed.ended {
            self.set_end();
        }
        grew
    }
}
