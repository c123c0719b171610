//! Every publisher with every content, each watched by every player at once: what players receive is packet for packet
//! what was sent. A client that cannot is expected not to, in its own words. `docs/interop.md` says what came of it.
//!
//! A test for each publisher, so that one can be asked for by its name; the ledger's test needs them all.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

#[path = "../common/mod.rs"]
mod common;

mod contents;
mod ledger;
mod matrix;
mod players;
mod publishers;
mod verdict;

use matrix::assert_as_expected;
use publishers::Publisher;

#[test]
fn ffmpeg_5() {
    assert_as_expected(Publisher::Ffmpeg5);
}

#[test]
fn current_ffmpeg() {
    assert_as_expected(Publisher::FfmpegNew);
}

#[test]
fn pyav() {
    assert_as_expected(Publisher::PyAv);
}

#[test]
fn gstreamer_rtmp2sink() {
    assert_as_expected(Publisher::Rtmp2Sink);
}

#[test]
fn gstreamer_rtmpsink() {
    assert_as_expected(Publisher::RtmpSink);
}

#[test]
fn raw_timestamps() {
    assert_as_expected(Publisher::Raw);
}

#[test]
fn the_ledger_says_what_the_clients_did() {
    ledger::assert_committed();
}
