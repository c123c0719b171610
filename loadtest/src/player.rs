//! One player. All parse until their first keyframe. Then verified ones go on to check every message, and the others
//! are drained: taken out of epoll, read now and then without copying, their bytes counted.
//!
//! One that still parses goes over to another server when it is asked to reconnect: it connects there first, and changes
//! where the new server's first keyframe is. Only verified ones announce that they can: the others would not hear of it.
//!
//! A drained player acknowledges what it received as RTMP asks for (5.4.3), which is also what tells a server that it
//! is alive.

use crate::chunks::ChunkCounter;
use crate::engine::Bench;
use crate::link::{Link, Received};
use crate::moving::Leg;
use crate::payload::{self, Tag, Track, is_keyframe};
use crate::publisher::session;
use crate::shared::Settings;
use crate::sys::{Ready, monotonic_ns};
use crate::verify::Verifier;
use shardcast::rtmp::capabilities::Capabilities;
use shardcast::rtmp::client::{ClientEvent, ClientRole, ClientSession};
use shardcast::rtmp::message::Kind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A drained player acknowledges after so many bytes, or after so long.
const ACK_BYTES: u64 = 2_500_000;
const ACK_NS: u64 = 10_000_000_000;

/// What a player is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Checks every message.
    Verified,
    /// Counts bytes.
    Drained,
    /// Counts bytes until the window begins, then reads nothing more.
    Stalled,
    /// Asks for a stream nobody publishes; it has joined when it has asked.
    Waiting,
}

pub struct Player {
    pub stream: usize,
    pub role: Role,
    stalled_ns: Option<u64>,
    link: Link,
    /// `None` once drained.
    session: Option<ClientSession>,
    verifier: Option<Verifier>,
    /// Of a verified player when publishers are unpaced.
    chunks: Option<Box<ChunkCounter>>,
    /// Video frames it has seen, for its publisher to know.
    seen: Option<Arc<AtomicU64>>,
    connect_ns: u64,
    playing: bool,
    joined: bool,
    pub bytes: u64,
    acknowledged_bytes: u64,
    acknowledged_ns: u64,
    tc_url: String,
    next: Option<Box<Next>>,
}

/// Media of another server, held until it goes on where this one's leaves off.
struct Next {
    leg: Leg,
    /// Sequence of the first keyframe.
    keyframe: Option<u64>,
    held: Vec<(Kind, u32, Vec<u8>)>,
}

/// What became of a player in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Same,
    /// It just got its first keyframe.
    Joined,
}

fn play_session(settings: &Settings, stream: usize, role: Role, now_ns: u64) -> ClientSession {
    let session = session(settings, stream, ClientRole::Play, now_ns);
    if role == Role::Verified { session } else { session.announcing(Capabilities::default()) }
}

impl Player {
    pub fn connect(s: &Settings, stream: usize, role: Role, token: u64, bench: &Bench) -> Result<Self, String> {
        let connect_ns = monotonic_ns();
        let receive_bytes = (role == Role::Stalled).then_some(s.stalled_receive_bytes);
        let link = Link::connect(s.address, &bench.epoll, token, receive_bytes)
            .and_then(|link| link.over_tls(s.secure))
            .map_err(|e| format!("connect: {e}"))?;
        Ok(Self {
            stream,
            role,
            stalled_ns: None,
            link,
            session: Some(play_session(s, stream, role, connect_ns ^ token << 20)),
            verifier: (role == Role::Verified).then(|| Verifier::new(u32::try_from(stream).unwrap_or(u32::MAX))),
            chunks: (s.unpaced && role == Role::Verified).then(|| Box::new(ChunkCounter::new())),
            seen: None,
            connect_ns,
            playing: false,
            joined: false,
            bytes: 0,
            acknowledged_bytes: 0,
            acknowledged_ns: connect_ns,
            tc_url: s.tc_url.clone(),
            next: None,
        })
    }

    pub fn joined(&self) -> bool {
        self.joined
    }

    pub fn verifier(&self) -> Option<&Verifier> {
        self.verifier.as_ref()
    }

    /// Its publisher learns from `seen` how far it is.
    pub fn report_to(&mut self, seen: Arc<AtomicU64>) {
        self.seen = Some(seen);
    }

    /// What it counted goes to the tally; its publisher need not wait for it any more.
    pub fn leave(&mut self, bench: &mut Bench) {
        if let Some(seen) = self.seen.take() {
            seen.store(u64::MAX, Ordering::Release);
        }
        if let Some(chunks) = self.chunks.take() {
            bench.tally.chunks.add(&chunks.counted);
            bench.tally.chunks_lost += u64::from(!chunks.follows());
        }
    }

    pub fn into_verifier(self) -> Option<Verifier> {
        self.verifier
    }

    /// Whether it is to be read by [`Player::drain`].
    pub fn drained(&self) -> bool {
        self.session.is_none() && self.stalled_ns.is_none()
    }

    /// Reads nothing from now on; epoll tells when the server resets or ends the connection.
    pub fn stall(&mut self, bench: &Bench, now_ns: u64) -> Result<(), String> {
        if self.session.is_none() && self.stalled_ns.is_none() {
            self.link.watch_end(&bench.epoll).map_err(|e| format!("player: {e}"))?;
            self.stalled_ns = Some(now_ns);
        }
        Ok(())
    }

    /// Since when it has not read.
    pub fn stalled_ns(&self) -> Option<u64> {
        self.stalled_ns
    }

    /// The port it connected from.
    pub fn local_port(&self) -> Option<u16> {
        self.link.local_port()
    }

    /// Reads, parses and answers what it can.
    pub fn ready(&mut self, ready: Ready, settings: &Settings, bench: &mut Bench) -> Result<Step, String> {
        let joined_before = self.joined;
        if ready.write {
            self.link.writable().map_err(|e| format!("connect: {e}"))?;
        }
        let mut asked = None;
        let heard = if ready.read { self.read(bench, &mut asked) } else { Ok(()) };
        if let Some(reference) = asked {
            self.follow(reference.as_deref(), settings, ready.token, bench);
        }
        if let Err(reason) = self.read_next(ready, bench) {
            self.next = None;
            bench.tally.reason(format!("asked to reconnect: {reason}"));
        }
        match (heard, &self.next) {
            // The stream has left the old server: it ends there.
            (Err(_), Some(next)) if next.keyframe.is_some() => self.move_on(bench),
            (heard, _) => heard?,
        }
        let Some(session) = &mut self.session else { return Ok(Step::Same) };
        // The last deadline of a player's session ends when it sends `play`.
        self.joined |= self.role == Role::Waiting && session.deadline().is_none();
        self.link.flush(&bench.epoll, session.output()).map_err(|e| format!("player: {e}"))?;
        if self.joined && self.verifier.is_none() && session.output().is_empty() {
            self.link.unwatch(&bench.epoll).map_err(|e| format!("player: {e}"))?;
            self.session = None;
            self.acknowledged_ns = monotonic_ns();
        }
        Ok(if self.joined && !joined_before { Step::Joined } else { Step::Same })
    }

    fn follow(&mut self, reference: Option<&str>, settings: &Settings, token: u64, bench: &mut Bench) {
        match Leg::to(reference, &self.tc_url, settings, self.stream, ClientRole::Play, token, bench) {
            Ok(leg) => self.next = Some(Box::new(Next { leg, keyframe: None, held: Vec::new() })),
            Err(reason) => bench.tally.reason(reason),
        }
    }

    /// Holds what comes from the server it was asked to go to, and goes over once that goes on where this one is.
    fn read_next(&mut self, ready: Ready, bench: &mut Bench) -> Result<(), String> {
        let Some(Next { leg, keyframe, held }) = self.next.as_deref_mut() else { return Ok(()) };
        let count = leg.receive(ready, bench)?;
        self.bytes += count as u64;
        bench.player_bytes += count as u64;
        let (mut input, now) = (&bench.buffer[..count], Duration::from_nanos(monotonic_ns()));
        while let Some(event) = leg.session.receive(&mut input, now).map_err(|e| e.to_string())? {
            let ClientEvent::Media { kind, timestamp, payload } = event else { continue };
            if kind == Kind::Video
                && keyframe.is_none()
                && let Ok(Tag::Frame(stamp)) = payload::verify(Track::Video, payload)
            {
                *keyframe = Some(stamp.sequence).filter(|_| stamp.keyframe);
            }
            held.push((kind, timestamp, payload.to_vec()));
        }
        leg.flush(bench)?;
        let reached =
            |keyframe| self.verifier.as_ref().is_none_or(|v| v.next_video().is_none_or(|next| next >= keyframe));
        if keyframe.is_some_and(reached) {
            self.move_on(bench);
        }
        Ok(())
    }

    fn move_on(&mut self, bench: &mut Bench) {
        let Some(next) = self.next.take() else { return };
        let Next { leg, held, .. } = *next;
        (self.link, self.session, self.tc_url) = (leg.link, Some(leg.session), leg.tc_url);
        self.chunks = None;
        let Some(verifier) = &mut self.verifier else { return };
        verifier.moved();
        let now_ns = monotonic_ns();
        for (kind, timestamp, payload) in held {
            let stamp = verifier.message(kind, timestamp, &payload);
            if let Some(stamp) = stamp.filter(|stamp| bench.window.contains(&stamp.due_ns)) {
                bench.tally.record_delay(now_ns.saturating_sub(stamp.due_ns), bench.part);
            }
        }
    }

    fn read(&mut self, bench: &mut Bench, asked: &mut Option<Option<String>>) -> Result<(), String> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let count = match self.link.receive(&mut bench.buffer).map_err(|e| format!("player: {e}"))? {
            Received::Bytes(count) => count,
            Received::Nothing => return Ok(()),
            Received::End => return Err("the server closed a player's connection".into()),
        };
        self.bytes += count as u64;
        bench.player_bytes += count as u64;
        let now_ns = monotonic_ns();
        if let Some(chunks) = &mut self.chunks {
            chunks.receive(&bench.buffer[..count], bench.window.contains(&now_ns));
        }
        let mut at = 0;
        // What comes after the keyframe of a player that is not verified need not be parsed.
        while self.verifier.is_some() || !self.joined {
            let mut input = &bench.buffer[at..count];
            let event =
                session.receive(&mut input, Duration::from_nanos(now_ns)).map_err(|e| format!("player: {e}"))?;
            at = count - input.len();
            match event {
                None => break,
                Some(ClientEvent::Playing) if !self.playing => {
                    self.playing = true;
                    bench.tally.play.record_ns(now_ns - self.connect_ns);
                }
                Some(ClientEvent::Media { kind, timestamp, payload }) => {
                    if !self.joined && kind == Kind::Video && is_keyframe(payload) {
                        self.joined = true;
                        bench.tally.keyframe.record_ns(now_ns - self.connect_ns);
                    }
                    let stamp = self.verifier.as_mut().and_then(|v| v.message(kind, timestamp, payload));
                    if let (Some(seen), Some(stamp)) = (&self.seen, &stamp)
                        && stamp.track == Track::Video
                    {
                        seen.store(stamp.sequence + 1, Ordering::Release);
                    }
                    if let Some(stamp) = stamp.filter(|stamp| bench.window.contains(&stamp.due_ns)) {
                        bench.tally.record_delay(now_ns.saturating_sub(stamp.due_ns), bench.part);
                    }
                }
                Some(ClientEvent::Reconnect { tc_url, .. }) => *asked = Some(tc_url),
                Some(ClientEvent::Status { code, description, level }) if level == "error" => {
                    return Err(format!("the server refused a player: {code} {description}"));
                }
                Some(ClientEvent::Ended) => return Err("the server ended a player's stream".into()),
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Takes what has arrived for a drained player.
    pub fn drain(&mut self, bench: &mut Bench, now_ns: u64) -> Result<(), String> {
        match self.link.discard(&mut bench.scratch).map_err(|e| format!("player: {e}"))? {
            Received::Bytes(count) => {
                self.bytes += count as u64;
                bench.player_bytes += count as u64;
            }
            Received::Nothing => {}
            Received::End => return Err("the server closed a player's connection".into()),
        }
        let due = self.bytes - self.acknowledged_bytes >= ACK_BYTES || now_ns - self.acknowledged_ns >= ACK_NS;
        if due {
            self.acknowledged_bytes = self.bytes;
            self.acknowledged_ns = now_ns;
            self.link.send_now(&acknowledgement(self.bytes)).map_err(|e| format!("player: {e}"))?;
        }
        Ok(())
    }
}

/// A whole Acknowledgement message in one fmt 0 chunk on csid 2; the count is modulo 2^32 (RTMP 1.0, 5.4.3).
fn acknowledgement(bytes: u64) -> [u8; 16] {
    let count = (bytes as u32).to_be_bytes();
    [2, 0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0, count[0], count[1], count[2], count[3]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_count_modulo_two_to_the_32() {
        assert_eq!(acknowledgement(0x1_0203_0405), [2, 0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0, 2, 3, 4, 5]);
    }
}
