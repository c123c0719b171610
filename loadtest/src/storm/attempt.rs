//! One connection of a storm: it connects, asks to play, and stays for as long as it is told.

use super::cached::{Cached, Waiting};
use crate::link::{Link, Received};
use crate::publisher::session;
use crate::shared::Settings;
use crate::sys::{Epoll, Ready, monotonic_ns};
use shardcast::rtmp::client::{ClientEvent, ClientRole, ClientSession};
use std::mem::MaybeUninit;
use std::time::Duration;

/// How long an attempt stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    /// Until `play` is answered.
    Answer,
    /// Until then, and on to this moment.
    Until(u64),
    /// Until it has all that was cached.
    Whole,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Stays,
    Leaves(Option<Cached>),
}

pub struct Attempt {
    link: Link,
    session: ClientSession,
    waiting: Option<Waiting>,
    frame_ns: u64,
    pub stay: Stay,
    pub due_ns: u64,
    /// When it sent `play`.
    pub play_ns: Option<u64>,
    pub answered: bool,
    /// Tells events of this attempt from those of the slot's earlier ones.
    pub token: u64,
}

impl Attempt {
    /// `frame_ns` is the time from video frame to video frame.
    ///
    /// # Errors
    /// The kernel's.
    pub fn connect(
        settings: &Settings,
        epoll: &Epoll,
        due_ns: u64,
        token: u64,
        stay: Stay,
        frame_ns: u64,
    ) -> std::io::Result<Self> {
        let link = Link::connect(settings.address, epoll, token, None)?.over_tls(settings.secure)?;
        link.reset_on_drop()?;
        let session = session(settings, 0, ClientRole::Play, due_ns ^ token << 20);
        Ok(Self { link, session, waiting: None, frame_ns, stay, due_ns, play_ns: None, answered: false, token })
    }

    /// Reads and writes what it can.
    ///
    /// # Errors
    /// Why it has failed.
    pub fn ready(
        &mut self,
        ready: Ready,
        epoll: &Epoll,
        buffer: &mut [u8],
        scratch: &mut [MaybeUninit<u8>],
    ) -> Result<Step, String> {
        let fault = |error: std::io::Error| format!("connect: {error}");
        if ready.write {
            self.link.writable().map_err(fault)?;
        }
        if ready.read && self.answered && self.stay != Stay::Whole {
            return match self.link.discard(scratch).map_err(|error| format!("read: {error}"))? {
                Received::End => Err("the server closed a connection it had answered".into()),
                _ => Ok(Step::Stays),
            };
        }
        let step = if ready.read { self.read(buffer)? } else { Step::Stays };
        // The last deadline of a player's session ends when it sends `play`.
        if self.play_ns.is_none() && self.session.deadline().is_none() {
            let now_ns = monotonic_ns();
            self.play_ns = Some(now_ns);
            self.waiting = Some(Waiting::new(now_ns, self.frame_ns));
        }
        if step == Step::Stays {
            self.link.flush(epoll, self.session.output()).map_err(fault)?;
        }
        Ok(step)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<Step, String> {
        let count = match self.link.receive(buffer).map_err(|error| format!("read: {error}"))? {
            Received::Bytes(count) => count,
            Received::Nothing => return Ok(Step::Stays),
            Received::End => return Err("the server closed the connection before it answered".into()),
        };
        let mut input = &buffer[..count];
        let now = Duration::from_nanos(monotonic_ns());
        while let Some(event) = self.session.receive(&mut input, now).map_err(|error| error.to_string())? {
            match event {
                ClientEvent::Playing => {
                    self.answered = true;
                    match self.stay {
                        Stay::Answer => return Ok(Step::Leaves(None)),
                        Stay::Until(_) => return Ok(Step::Stays),
                        Stay::Whole => {}
                    }
                }
                ClientEvent::Media { kind, payload, .. } if self.stay == Stay::Whole => {
                    let cached = self.waiting.as_mut().map(|waiting| waiting.message(kind, payload)).transpose()?;
                    if let Some(cached) = cached.flatten() {
                        return Ok(Step::Leaves(Some(cached)));
                    }
                }
                ClientEvent::Status { code, level, .. } if level == "error" => {
                    return Err(format!("the server refused to play: {code}"));
                }
                _ => {}
            }
        }
        Ok(Step::Stays)
    }
}
