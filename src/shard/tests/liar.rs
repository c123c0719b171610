//! A node that takes what is asked of it and does not do it.

use std::time::Duration;

use bytes::BytesMut;

use super::rig::{AAC, AVC};
use crate::rtmp::{
    chunk::ChunkWriter,
    message::{Header, type_id},
    server::{ServerConfig, ServerEvent, ServerSession},
};

/// How it lies to who plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    /// It accepts, and sends nothing.
    Mute,
    /// It accepts, and says at once that the stream has ended.
    EndsAtOnce,
    /// It accepts, and sends what is not RTMP.
    Garbage,
    /// It accepts, sends headers, and no frame ever.
    HeadersOnly,
    /// It accepts, and sends metadata for ever.
    Chatter,
}

impl Lie {
    pub(super) const ALL: [Self; 5] = [Self::Mute, Self::EndsAtOnce, Self::Garbage, Self::HeadersOnly, Self::Chatter];
}

pub(super) const META: &[u8] = b"\x02\0\x0AonMetaData\x08\0\0\0\0\0\0\x09";
const CHATTER_PAUSE: Duration = Duration::from_millis(500);

/// See the file's head.
#[derive(Debug)]
pub(super) struct Liar {
    session: ServerSession,
    lie: Lie,
    /// The message stream it plays on.
    plays: Option<u32>,
    chatters_at: Duration,
}

impl Liar {
    pub(super) fn new(lie: Lie, now: Duration) -> Self {
        let session = ServerSession::new(ServerConfig::new(4_096), 7, now);
        Self { session, lie, plays: None, chatters_at: Duration::ZERO }
    }

    pub(super) fn hear(&mut self, bytes: &[u8], now: Duration) {
        let mut input = bytes;
        let mut asked = None;
        while let Ok(Some(event)) = self.session.receive(&mut input, now) {
            if let ServerEvent::Play { stream, .. } = event {
                asked = Some(stream);
                break;
            }
        }
        let Some(stream) = asked else { return };
        self.session.start_play(stream);
        match self.lie {
            Lie::Mute => {}
            Lie::EndsAtOnce => self.session.end_play(stream),
            Lie::Garbage => self.session.output().extend_from_slice(&[0xFF; 64]),
            Lie::HeadersOnly => {
                self.send(stream, type_id::DATA_AMF0, META);
                self.send(stream, type_id::VIDEO, AVC);
                self.send(stream, type_id::AUDIO, AAC);
            }
            Lie::Chatter => self.plays = Some(stream),
        }
    }

    /// What it has to say by now.
    pub(super) fn speak(&mut self, now: Duration) -> Vec<u8> {
        if let Some(stream) = self.plays.filter(|_| self.chatters_at <= now) {
            self.chatters_at = now + CHATTER_PAUSE;
            self.send(stream, type_id::DATA_AMF0, META);
        }
        self.session.take_output().to_vec()
    }

    fn send(&mut self, stream_id: u32, type_id: u8, payload: &[u8]) {
        let header = Header { csid: 40, timestamp: 0, length: 0, type_id, stream_id };
        let mut out = BytesMut::new();
        ChunkWriter::new().write(header, payload, &mut out);
        self.session.output().extend_from_slice(&out);
    }
}
