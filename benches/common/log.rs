//! A stream's log by itself, without connections.

use std::{hint::black_box, time::Duration};

use shardcast::{
    egress::{Next, Player, Policy},
    ingress::{Broadcast, broadcast::BroadcastConfig},
    limits::{CHUNK_BYTES_OUT_DEFAULT, GOP_BYTES_MAX_DEFAULT},
    rtmp::message::Kind,
    stream::{segment::LogGauge, window::Window},
};

use super::frame;

pub(crate) const NOW: Duration = Duration::from_secs(1);
pub(crate) const POLICY: Policy =
    Policy { gop_cache: true, lag_max: Duration::from_secs(5), join_wait: Duration::from_secs(10) };

/// A stream and the time it has come to.
pub(crate) struct Log {
    stream: Broadcast,
    gauge: LogGauge,
    at_ms: u32,
}

impl Log {
    /// One that has had its sequence headers.
    pub(crate) fn new(chunk_bytes: usize) -> Self {
        let gauge = LogGauge::default();
        let config = BroadcastConfig::new(chunk_bytes, GOP_BYTES_MAX_DEFAULT, gauge.clone());
        let mut stream = Broadcast::new(config, None);
        let video = stream.publish(Kind::Video, 0, b"\x17\0\0\0\0\x01\x64\0\x1F\xFF", NOW, 0);
        let audio = stream.publish(Kind::Audio, 0, b"\xAF\0\x12\x10", NOW, 0);
        assert!(video.is_ok() && audio.is_ok());
        Self { stream, gauge, at_ms: 0 }
    }

    /// One with a GOP of about 440 KB behind its only keyframe.
    pub(crate) fn with_gop() -> Self {
        let mut log = Self::new(CHUNK_BYTES_OUT_DEFAULT);
        log.publish(&frame(40_000, true));
        (0..100).for_each(|_| log.publish(&frame(4_096, false)));
        log
    }

    /// Publishes a video message, releases it, and lets go of what lies before the newest join point.
    pub(crate) fn publish(&mut self, payload: &[u8]) {
        self.at_ms += 1;
        let now = NOW + Duration::from_millis(self.at_ms.into());
        black_box(self.stream.publish(Kind::Video, self.at_ms, payload, now, self.at_ms)).expect("a sound tag");
        let window = self.window();
        window.release();
        window.prune(window.head());
    }

    /// Publishes until the log has just begun a segment, so that the next messages do not.
    pub(crate) fn begin_segment(&mut self, payload: &[u8]) {
        let before = self.gauge.bytes();
        while self.gauge.bytes() <= before {
            self.publish(payload);
        }
    }

    pub(crate) fn window(&mut self) -> &mut Window {
        self.stream.views_mut()[0].log_mut().window_mut()
    }

    /// Players that have had everything.
    pub(crate) fn players(&mut self, count: u64) -> Vec<Player> {
        let window = self.window();
        let mut players: Vec<_> = (0..count).map(|_| Player::new(window, false, NOW)).collect();
        for player in &mut players {
            while let Next::Send(_) = player.next(window, &POLICY, NOW, |_| true) {}
        }
        players
    }
}
