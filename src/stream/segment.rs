//! A segment: a fixed block of a stream log that one writer appends to while any shard reads below the published head.
//!
//! Owns the only shared mutable bytes of the program. Bytes below `head` never change again; the block never moves. It
//! is `unsafe` because the alternative, a lock or a copy per player, is what the whole design avoids. Proof sketch: the
//! one [`SegmentWriter`] writes only at or above `head` and then stores `head` with `Release`; readers see `head` with
//! `Acquire` and touch only bytes below it. Loom checks that in `tests::loom`.

use std::{
    mem::MaybeUninit,
    ops::Range,
    sync::{
        Mutex,
        atomic::{AtomicU64 as StdAtomicU64, Ordering as StdOrdering},
    },
};

use crate::{
    limits::{SEGMENT_BYTES, SPARE_SEGMENTS_MAX},
    sync::{Arc, AtomicUsize, Ordering, UnsafeCell},
};

type Cells = Box<[UnsafeCell<MaybeUninit<u8>>]>;

/// Bytes held by all stream logs of a process. Clones count together, and share a few blocks that are free: a block given
/// back to the allocator comes again as pages to be faulted in.
#[derive(Clone, Debug, Default)]
pub struct LogGauge(std::sync::Arc<Gauge>);

#[derive(Debug, Default)]
struct Gauge {
    bytes: StdAtomicU64,
    /// At most [`SPARE_SEGMENTS_MAX`], each of [`SEGMENT_BYTES`]. Nobody waits for it: who finds it locked goes without.
    spare: Mutex<Vec<Cells>>,
}

impl LogGauge {
    /// Bytes of capacity of the segments alive.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(StdOrdering::Relaxed)
    }

    fn take(&self, capacity: usize) -> Cells {
        self.0.bytes.fetch_add(capacity as u64, StdOrdering::Relaxed);
        let spare = if capacity == SEGMENT_BYTES { self.0.spare.try_lock().ok() } else { None };
        spare.and_then(|mut spare| spare.pop()).unwrap_or_else(|| uninit(capacity))
    }

    fn give_back(&self, cells: Cells) {
        self.0.bytes.fetch_sub(cells.len() as u64, StdOrdering::Relaxed);
        if cells.len() == SEGMENT_BYTES
            && let Ok(mut spare) = self.0.spare.try_lock()
            && spare.len() < SPARE_SEGMENTS_MAX
        {
            spare.push(cells);
        }
    }
}

/// A block of the log. `base` is the log offset of its first byte.
#[derive(Debug)]
pub struct Segment {
    base: u64,
    cells: Cells,
    /// Bytes published, `0 <= head <= cells.len()`.
    head: AtomicUsize,
    gauge: LogGauge,
}

// SAFETY: the cells are written only by the unique `SegmentWriter`, above `head`, and read only below it; see the
// file's head.
unsafe impl Sync for Segment {}
// SAFETY: nothing in a segment is tied to a thread.
unsafe impl Send for Segment {}

impl Segment {
    /// The log offset of the first byte.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// The log offset after the last published byte.
    pub fn end(&self) -> u64 {
        self.base + self.head.load(Ordering::Acquire) as u64
    }

    /// Published bytes by their log offsets; `None` if any of `range` is not published here.
    #[cfg(not(loom))]
    pub fn get(&self, range: Range<u64>) -> Option<&[u8]> {
        let (start, end) = self.local(range)?;
        // SAFETY: `local` checked `start <= end <= head`; those bytes are initialised and never written again.
        let bytes = unsafe { std::slice::from_raw_parts(self.cells.as_ptr().add(start).cast::<u8>(), end - start) };
        Some(bytes)
    }

    #[cfg(loom)]
    pub fn get(&self, range: Range<u64>) -> Option<Vec<u8>> {
        let (start, end) = self.local(range)?;
        // SAFETY: as above.
        Some(self.cells[start..end].iter().map(|cell| cell.with(|byte| unsafe { (*byte).assume_init() })).collect())
    }

    fn local(&self, range: Range<u64>) -> Option<(usize, usize)> {
        let start = usize::try_from(range.start.checked_sub(self.base)?).ok()?;
        let end = usize::try_from(range.end.checked_sub(self.base)?).ok()?;
        (start <= end && end <= self.head.load(Ordering::Acquire)).then_some((start, end))
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.gauge.give_back(std::mem::take(&mut self.cells));
    }
}

/// The right to append to a segment. There is one per segment and it cannot be cloned.
#[derive(Debug)]
pub struct SegmentWriter {
    segment: Arc<Segment>,
    /// Bytes written, published or not: `head <= len <= capacity`.
    len: usize,
}

impl SegmentWriter {
    /// An empty segment of `capacity` bytes that begins at log offset `base`.
    pub fn new(base: u64, capacity: usize, gauge: &LogGauge) -> Self {
        let segment = Segment { base, cells: gauge.take(capacity), head: AtomicUsize::new(0), gauge: gauge.clone() };
        Self { segment: Arc::new(segment), len: 0 }
    }

    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    pub fn capacity(&self) -> usize {
        self.segment.cells.len()
    }

    /// Bytes that still fit.
    pub fn room(&self) -> usize {
        self.segment.cells.len() - self.len
    }

    /// Appends `bytes`, unseen until [`publish`](Self::publish). False, and nothing is written, if they do not fit.
    #[must_use]
    pub fn write(&mut self, bytes: &[u8]) -> bool {
        if bytes.len() > self.room() {
            return false;
        }
        let cells = &self.segment.cells[self.len..self.len + bytes.len()];
        #[cfg(not(loom))]
        // SAFETY: `cells` lies above `head`, so no reader touches it, and `self` is the only writer. The source cannot
        // overlap: published bytes are below `head`, and nobody holds a reference above it.
        unsafe {
            let target = UnsafeCell::raw_get(cells.as_ptr()).cast::<u8>();
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len());
        }
        #[cfg(loom)]
        for (cell, byte) in cells.iter().zip(bytes) {
            // SAFETY: as above.
            cell.with_mut(|target| unsafe { (*target).write(*byte) });
        }
        self.len += bytes.len();
        true
    }

    /// Lets readers see everything written.
    pub fn publish(&mut self) {
        self.segment.head.store(self.len, Ordering::Release);
    }
}

#[cfg(not(loom))]
fn uninit(capacity: usize) -> Cells {
    // SAFETY: a cell of `MaybeUninit` needs no initialisation; pages stay untouched until written.
    unsafe { Box::new_uninit_slice(capacity).assume_init() }
}

#[cfg(loom)]
fn uninit(capacity: usize) -> Cells {
    (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn readers_see_only_what_is_published() {
        let gauge = LogGauge::default();
        let mut writer = SegmentWriter::new(100, 8, &gauge);
        let segment = writer.segment().clone();
        assert!(writer.write(b"abc"));
        assert_eq!(segment.get(100..101), None);
        writer.publish();
        assert_eq!(segment.get(100..103), Some(&b"abc"[..]));
        assert_eq!(segment.get(101..101), Some(&b""[..]));
        assert_eq!(segment.get(99..101), None);
        assert_eq!(segment.get(102..104), None);
        assert_eq!(segment.end(), 103);
    }

    #[test]
    fn a_few_free_blocks_are_kept_for_the_next_segments_and_show_nothing_of_the_last() {
        let gauge = LogGauge::default();
        let mut writers: Vec<_> = (0..20).map(|_| SegmentWriter::new(0, SEGMENT_BYTES, &gauge)).collect();
        for writer in &mut writers {
            assert!(writer.write(b"old"));
            writer.publish();
        }
        drop(writers);
        assert_eq!((gauge.bytes(), gauge.0.spare.lock().expect("free").len()), (0, SPARE_SEGMENTS_MAX));
        let again = SegmentWriter::new(7, SEGMENT_BYTES, &gauge);
        assert_eq!(gauge.0.spare.lock().expect("free").len(), SPARE_SEGMENTS_MAX - 1);
        assert_eq!((again.segment().get(7..8), again.room()), (None, SEGMENT_BYTES));
        assert_eq!(gauge.bytes(), SEGMENT_BYTES as u64);
        drop(SegmentWriter::new(0, 16, &gauge));
        assert_eq!(gauge.0.spare.lock().expect("free").len(), SPARE_SEGMENTS_MAX - 1, "small ones are not kept");
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let gauge = LogGauge::default();
        let mut writer = SegmentWriter::new(0, 4, &gauge);
        assert!(!writer.write(b"abcde"));
        assert!(writer.write(b"abcd"));
        assert_eq!(writer.room(), 0);
        assert!(!writer.write(b"e"));
        writer.publish();
        assert_eq!(writer.segment().get(0..4), Some(&b"abcd"[..]));
    }

    #[test]
    fn the_gauge_counts_segments_alive() {
        let gauge = LogGauge::default();
        let writer = SegmentWriter::new(0, 64, &gauge);
        let reader = writer.segment().clone();
        assert_eq!(gauge.bytes(), 64);
        drop(writer);
        assert_eq!(gauge.bytes(), 64);
        drop(reader);
        assert_eq!(gauge.bytes(), 0);
    }

    #[test]
    fn a_reader_on_another_thread_never_sees_a_torn_byte() {
        let gauge = LogGauge::default();
        let total = if cfg!(miri) { 200 } else { 100_000 };
        let mut writer = SegmentWriter::new(0, total, &gauge);
        let segment = writer.segment().clone();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut seen = 0;
                while seen < total as u64 {
                    let end = segment.end();
                    let bytes = segment.get(seen..end).expect("published");
                    for (offset, byte) in (seen..).zip(bytes) {
                        assert_eq!(u64::from(*byte), offset % 251);
                    }
                    seen = end;
                    std::hint::spin_loop();
                }
            });
            for offset in 0..total {
                assert!(writer.write(&[(offset % 251) as u8]));
                writer.publish();
            }
        });
    }
}

#[cfg(all(test, loom))]
mod tests {
    use super::*;

    #[test]
    fn loom_published_bytes_are_whole() {
        loom::model(|| {
            let gauge = LogGauge::default();
            let mut writer = SegmentWriter::new(0, 4, &gauge);
            let segment = writer.segment().clone();
            let reader = loom::thread::spawn(move || {
                let end = segment.end();
                let bytes = segment.get(0..end).expect("published");
                assert_eq!(bytes, &[1, 2, 3, 4][..bytes.len()]);
            });
            assert!(writer.write(&[1, 2]));
            writer.publish();
            assert!(writer.write(&[3, 4]));
            writer.publish();
            reader.join().unwrap();
        });
    }
}
