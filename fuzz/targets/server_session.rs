//! A server's session against any client: the same events and replies at any split, replies bounded and whole.
//!
//! The input is what follows the client's handshake. The host answers each request at once, some with a refusal.

use std::time::Duration;

use shardcast::{
    limits::{ACK_WINDOW_BYTES_MIN, REPLY_BYTES_MAX},
    rtmp::{
        handshake::HANDSHAKE_BYTES,
        message::{Kind, csid},
        server::{PlayRefusal, PublishRefusal, ServerConfig, ServerEvent, ServerSession, SessionError},
    },
};

use super::{HANDSHAKE, pieces::splits, whole_messages};

/// The longest reply to one message, and the host's own.
const ONE_TURN_BYTES: usize = 8 * 1024;

#[derive(Debug, PartialEq)]
enum Seen {
    Media { stream: u32, kind: Kind, timestamp: u32, payload: Vec<u8> },
    Event(String),
}

#[derive(Debug, PartialEq)]
struct Outcome {
    seen: Vec<Seen>,
    error: Option<SessionError>,
    output: Vec<u8>,
}

pub fn run(data: &[u8]) {
    let whole = converse([data]);
    let replies = whole.output.get(HANDSHAKE_BYTES as usize..).expect("S0, S1 and S2");
    assert!(replies.len() <= REPLY_BYTES_MAX + ONE_TURN_BYTES, "{} bytes of replies", replies.len());
    for (header, _) in whole_messages(replies) {
        assert!(matches!(header.csid, csid::CONTROL | csid::COMMAND), "the session has csids of its own");
    }
    // Acknowledgements depend on how bytes arrive; short of a window there are none.
    if data.len() < ACK_WINDOW_BYTES_MIN as usize {
        for split in splits(data) {
            let pieces = split.len();
            assert_eq!(converse(split), whole, "in {pieces} pieces");
        }
    }
}

fn converse<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let now = Duration::from_secs(1);
    let mut session = ServerSession::new(ServerConfig::new(200), 1, now);
    let mut outcome = Outcome { seen: Vec::new(), error: None, output: Vec::new() };
    'session: for piece in [&HANDSHAKE[..]].into_iter().chain(pieces) {
        let mut input = piece;
        loop {
            let (seen, answer) = match session.receive(&mut input, now) {
                Ok(Some(event)) => (record(&event), Answer::to(&event)),
                Ok(None) => break,
                Err(error) => {
                    outcome.error = Some(error);
                    break 'session;
                }
            };
            outcome.seen.push(seen);
            answer.give(&mut session);
        }
        assert!(input.is_empty(), "without an event all of the input is taken");
    }
    outcome.output = session.take_output().to_vec();
    outcome
}

fn record(event: &ServerEvent<'_>) -> Seen {
    match event {
        ServerEvent::Media { stream, kind, timestamp, payload } => {
            Seen::Media { stream: *stream, kind: *kind, timestamp: *timestamp, payload: payload.to_vec() }
        }
        other => Seen::Event(format!("{other:?}")),
    }
}

enum Answer {
    None,
    AcceptPublish(u32),
    RefusePublish(u32, PublishRefusal),
    StartPlay(u32),
    RefusePlay(u32, PlayRefusal),
    Restart(u32),
    EndPublish(u32),
}

impl Answer {
    fn to(event: &ServerEvent<'_>) -> Self {
        match event {
            ServerEvent::Publish { stream, key, .. } => match key.as_str().len() % 4 {
                0 => Self::RefusePublish(*stream, PublishRefusal::NameTaken),
                _ => Self::AcceptPublish(*stream),
            },
            ServerEvent::Play { stream, key, .. } => match key.as_str().len() % 4 {
                0 => Self::RefusePlay(*stream, PlayRefusal::NotFound),
                _ => Self::StartPlay(*stream),
            },
            ServerEvent::Pause { stream, .. } => Self::Restart(*stream),
            ServerEvent::Media { stream, payload, .. } if payload.starts_with(b"end") => Self::EndPublish(*stream),
            _ => Self::None,
        }
    }

    fn give(self, session: &mut ServerSession) {
        match self {
            Self::None => {}
            Self::AcceptPublish(stream) => session.accept_publish(stream),
            Self::RefusePublish(stream, why) => session.refuse_publish(stream, why, "refused"),
            Self::StartPlay(stream) => session.start_play(stream),
            Self::RefusePlay(stream, why) => session.refuse_play(stream, why, "refused"),
            Self::Restart(stream) => {
                session.end_play(stream);
                session.start_play(stream);
            }
            Self::EndPublish(stream) => session.end_publish(stream, "asked to"),
        }
    }
}
