//! A connection's second leg: to the server that a ReconnectRequest names (Enhanced RTMP v2, "Reconnect Request"), beside
//! the first until a keyframe, and what is left of the first afterwards. Both share an epoll token.

use crate::engine::Bench;
use crate::link::{Link, Received};
use crate::shared::Settings;
use crate::sys::{Ready, monotonic_ns};
use shardcast::rtmp::client::{ClientConfig, ClientRole, ClientSession};
use shardcast::rtmp::url::RtmpUrl;
use std::net::ToSocketAddrs;
use std::time::Duration;

/// One connection and where it leads.
pub struct Leg {
    pub link: Link,
    pub session: ClientSession,
    pub tc_url: String,
}

impl Leg {
    /// Begins to connect to where `reference` leads from `tc_url`. Errors: nowhere that can be reached.
    pub fn to(
        reference: Option<&str>,
        tc_url: &str,
        settings: &Settings,
        stream: usize,
        role: ClientRole,
        token: u64,
        bench: &Bench,
    ) -> Result<Self, String> {
        let failed = |why: &dyn std::fmt::Display| format!("asked to reconnect to {reference:?}: {why}");
        let url = RtmpUrl::parse(tc_url).and_then(|url| url.resolve(reference)).map_err(|e| failed(&e))?;
        let mut addresses = (url.host(), url.port()).to_socket_addrs().map_err(|e| failed(&e))?;
        let address = addresses.next().ok_or_else(|| failed(&"the host has no address"))?;
        let config = ClientConfig {
            chunk_bytes: settings.chunk_bytes,
            ..ClientConfig::new(role, url.to_string(), url.app(), &settings.names[stream])
        };
        let now_ns = monotonic_ns();
        let session = ClientSession::new(config, now_ns ^ token, Duration::from_nanos(now_ns));
        let link = Link::connect(address, &bench.epoll, token, None)
            .and_then(|link| link.over_tls(url.secure()))
            .map_err(|e| failed(&e))?;
        Ok(Self { link, session, tc_url: url.to_string() })
    }

    /// Takes note of readiness and receives into the bench's buffer; how many bytes.
    pub fn receive(&mut self, ready: Ready, bench: &mut Bench) -> Result<usize, String> {
        if ready.write {
            self.link.writable().map_err(|e| format!("connect: {e}"))?;
        }
        match self.link.receive(&mut bench.buffer).map_err(|e| e.to_string())? {
            Received::Bytes(count) => Ok(count),
            Received::Nothing => Ok(0),
            Received::End => Err("the server ended the connection".into()),
        }
    }

    pub fn flush(&mut self, bench: &Bench) -> Result<(), String> {
        self.link.flush(&bench.epoll, self.session.output()).map_err(|e| e.to_string())
    }
}

/// A connection that has said its goodbye. It is kept until the server has read it and closed: closing with something
/// unread would reset it, and what was sent last would be lost.
pub struct Leaving {
    leg: Leg,
    finished: bool,
}

impl Leaving {
    pub fn from(mut leg: Leg) -> Self {
        leg.session.close();
        Self { leg, finished: false }
    }

    /// False once it is over.
    pub fn ready(&mut self, bench: &mut Bench) -> bool {
        let quiet = Ready { token: 0, read: true, write: false };
        let open = self.leg.receive(quiet, bench).is_ok() && self.leg.flush(bench).is_ok();
        if open && !self.finished && self.leg.session.output().is_empty() {
            self.finished = true;
            return self.leg.link.finish().is_ok();
        }
        open
    }
}
