//! Hostile connections, opened over a time and held until told otherwise: one thread, one epoll. What they say is [`script`]'s
//! affair.
//!
//! Each comes from an address of its own in 127.0.0.0/8 where the server is on loopback, so that a limit per address does not
//! stand in for all the others; unless one address is asked for. They leave with a reset, which frees their port at once.

use super::script::{REPEAT_NS, Script, Then, script};
use crate::link::{DISCARD_BYTES, Link, Received};
use crate::shared::Settings;
use crate::sys::{self, Epoll, Ready, monotonic_ns};
use bytes::BytesMut;
use serde::Serialize;
use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What is due is looked for this often: those that repeat themselves do so one after the other, not all at once.
const LOOK_NS: u64 = 2_000_000;
/// Receive buffer of those that do not read: the less the kernel takes for them, the sooner the server has to.
const UNREAD_BYTES: usize = 4_096;

/// What became of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Fate {
    pub opened: u64,
    /// The server did not take the connection, or not in time.
    pub refused: u64,
    pub closed_by_server: u64,
    /// Still there at the end, or gone by itself as it was to.
    pub left: u64,
}

/// By kind.
pub type Fates = BTreeMap<&'static str, Fate>;

struct Connection {
    link: Link,
    script: Script,
    out: BytesMut,
    connected: bool,
    /// Its opening is out, and it is not read from.
    unwatched: bool,
    next_ns: u64,
    token: u64,
}

struct Flood<'a> {
    settings: &'a Settings,
    one_address: bool,
    epoll: Epoll,
    scratch: Vec<MaybeUninit<u8>>,
    slots: Vec<Option<Connection>>,
    fates: Fates,
}

/// How a flood goes.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    pub connections: u64,
    /// They are opened over the first half of it.
    pub lasts: Duration,
    pub one_address: bool,
    /// Of this one's first connection: names are not used twice.
    pub first: u64,
}

/// Carries out one flood, until its end or `over`. On a thread of its own: it stands back.
///
/// # Errors
/// epoll failed.
pub fn flood(settings: &Settings, course: Course, over: &AtomicBool) -> std::io::Result<Fates> {
    // What the audience sees is measured, so its workers go first.
    sys::stand_back();
    let flood = Flood {
        settings,
        one_address: course.one_address,
        epoll: Epoll::new()?,
        scratch: vec![MaybeUninit::uninit(); DISCARD_BYTES],
        slots: Vec::new(),
        fates: Fates::new(),
    };
    flood.run(course, over)
}

impl Flood<'_> {
    fn run(mut self, course: Course, over: &AtomicBool) -> std::io::Result<Fates> {
        let lasts_ns = u64::try_from(course.lasts.as_nanos()).unwrap_or(u64::MAX / 4);
        let start_ns = monotonic_ns();
        let (mut ready, mut next_look_ns) = (Vec::new(), start_ns);
        loop {
            let now_ns = monotonic_ns();
            let into_ns = now_ns - start_ns;
            if into_ns >= lasts_ns || over.load(Ordering::Acquire) {
                break;
            }
            let due = u128::from(course.connections) * u128::from(into_ns) / u128::from((lasts_ns / 2).max(1));
            let due = u64::try_from(due).unwrap_or(u64::MAX).min(course.connections);
            while (self.slots.len() as u64) < due {
                self.open(course.first);
            }
            if now_ns >= next_look_ns {
                next_look_ns = now_ns + LOOK_NS;
                self.repeat_due(now_ns);
            }
            self.epoll.wait(Duration::from_millis(2), &mut ready)?;
            ready.iter().for_each(|event| self.handle(*event));
        }
        for slot in 0..self.slots.len() {
            self.ends(slot, |fate| fate.left += 1);
        }
        Ok(self.fates)
    }

    fn open(&mut self, first: u64) {
        let token = self.slots.len() as u64;
        let number = first + token;
        let name = self.settings.names.first().map_or("", String::as_str);
        let script = script(&self.settings.app, name, number);
        let receive_bytes = (!script.reads).then_some(UNREAD_BYTES);
        let (address, from) = (self.settings.address, self.source(number));
        let linked = Link::connect_from(from, address, &self.epoll, token, receive_bytes)
            .and_then(|link| link.reset_on_drop().map(|()| link));
        let fate = self.fates.entry(script.kind).or_default();
        let connection = linked.map(|link| Connection {
            link,
            out: BytesMut::from(&script.opening[..]),
            script,
            connected: false,
            unwatched: false,
            next_ns: 0,
            token,
        });
        fate.opened += 1;
        fate.refused += u64::from(connection.is_err());
        self.slots.push(connection.ok());
    }

    /// Where a connection comes from; `None` lets the kernel choose.
    fn source(&self, number: u64) -> Option<IpAddr> {
        let spread = !self.one_address && matches!(self.settings.address.ip(), IpAddr::V4(to) if to.is_loopback());
        // Not 127.0.0.x: the audience's is among those.
        let [.., b, c, d] = number.to_be_bytes();
        spread.then(|| Ipv4Addr::new(127, 1 + b % 200, c, d).into())
    }

    fn handle(&mut self, ready: Ready) {
        let slot = usize::try_from(ready.token).unwrap_or(usize::MAX);
        let Some(Some(connection)) = self.slots.get_mut(slot) else { return };
        debug_assert_eq!(connection.token, ready.token, "slots are used once");
        let was_connected = connection.connected;
        match connection.ready(ready, &self.epoll, &mut self.scratch) {
            Ok(true) => {}
            Ok(false) => self.ends(slot, |fate| fate.left += 1),
            Err(()) if was_connected => self.ends(slot, |fate| fate.closed_by_server += 1),
            Err(()) => self.ends(slot, |fate| fate.refused += 1),
        }
    }

    fn repeat_due(&mut self, now_ns: u64) {
        for slot in 0..self.slots.len() {
            let Some(connection) = &mut self.slots[slot] else { continue };
            if connection.repeat(now_ns, &self.epoll).is_err() {
                self.ends(slot, |fate| fate.closed_by_server += 1);
            }
        }
    }

    fn ends(&mut self, slot: usize, count: impl FnOnce(&mut Fate)) {
        if let Some(connection) = self.slots[slot].take() {
            count(self.fates.entry(connection.script.kind).or_default());
        }
    }
}

impl Connection {
    /// Whether it stays. The error: the server closed it, or never took it.
    fn ready(&mut self, ready: Ready, epoll: &Epoll, scratch: &mut [MaybeUninit<u8>]) -> Result<bool, ()> {
        if ready.write {
            self.link.writable().map_err(drop)?;
            self.connected = true;
        }
        if ready.read {
            if self.unwatched {
                // It is told of the end alone.
                return Err(());
            }
            // Those that do not read later are read from until their opening is out: a few answers.
            if matches!(self.link.discard(scratch).map_err(drop)?, Received::End) {
                return Err(());
            }
        }
        self.link.flush(epoll, &mut self.out).map_err(drop)?;
        if !self.connected || !self.out.is_empty() || self.unwatched {
            return Ok(true);
        }
        if self.script.then == Then::Leave {
            return Ok(false);
        }
        if !self.script.reads {
            self.link.unwatch(epoll).and_then(|()| self.link.watch_end(epoll)).map_err(drop)?;
            self.unwatched = true;
        }
        Ok(true)
    }

    fn repeat(&mut self, now_ns: u64, epoll: &Epoll) -> Result<(), ()> {
        let Then::Repeat(again) = &self.script.then else { return Ok(()) };
        if !self.connected || !self.out.is_empty() || now_ns < self.next_ns {
            return Ok(());
        }
        self.next_ns = now_ns + REPEAT_NS;
        if self.unwatched {
            // What the kernel does not take is lost, and that is as hostile.
            return match self.link.send_now(again) {
                Err(error) if error.kind() != std::io::ErrorKind::WriteZero => Err(()),
                _ => Ok(()),
            };
        }
        self.out.extend_from_slice(again);
        self.link.flush(epoll, &mut self.out).map_err(drop)
    }
}
