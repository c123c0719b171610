//! Connections to other nodes: dialled, spoken to, closed.

use std::net::{Ipv4Addr, SocketAddr};

use super::{LegId, RelayId, prelude::Held, pull::Taken};
use crate::{
    relay::{
        puller::{Fault, Heard},
        pusher::PushHeard,
        upstream::Endpoint,
    },
    rtmp::{
        STREAM_NOT_FOUND,
        capabilities::Capabilities,
        client::{ClientConfig, ClientEvent, ClientRole, ClientSession, SessionError, approach::Approach},
        message::Kind,
    },
    shard::{
        close::CloseReason,
        conn::{Conn, ConnId, Standing},
        core::Core,
        dial::{Dial, DialError},
        proxy_header::Behalf,
        session::{Session, Upstream},
    },
};

/// What an upstream said that is not media.
enum Said {
    Publishing,
    Ended,
    Reconnect {
        tc_url: Option<String>,
    },
    /// After it had accepted the play.
    NotFound,
    Failed(SessionError),
}

/// How a leg gets to an upstream, and what it asks for there.
pub(super) struct Way {
    to: Endpoint,
    config: ClientConfig,
    header: Option<Behalf>,
    is_elsewhere: bool,
}

impl Way {
    /// `endpoint` is where the upstream is, unless it sent the leg elsewhere; `hops` are the nodes the stream has passed,
    /// this one last.
    pub(super) fn new(approach: &Approach, endpoint: &Endpoint, role: ClientRole, hops: Vec<String>) -> Self {
        let to = match approach.elsewhere() {
            Some(url) => Endpoint::Tcp { host: url.host().to_owned(), port: url.port(), secure: url.secure() },
            None => endpoint.clone(),
        };
        Self {
            to,
            config: ClientConfig { digest: true, hops, ..approach.config(role) },
            header: None,
            is_elsewhere: approach.elsewhere().is_some(),
        }
    }

    /// Begins with a PROXY header. Where a server sends the leg, there may be none that expects it.
    pub(super) fn with_header(self, header: Option<Behalf>) -> Self {
        Self { header: header.filter(|_| !self.is_elsewhere), ..self }
    }
}

impl Core {
    /// Begins a connection for a leg, which announces `capabilities`.
    pub(super) fn dial_leg(&mut self, leg: LegId, way: Way, capabilities: Capabilities) -> ConnId {
        let Way { to, config, header, .. } = way;
        let config = ClientConfig { chunk_bytes: self.config.chunk_bytes, ..config };
        let session = ClientSession::new(config, self.chance(), self.time.now()).announcing(capabilities);
        let upstream = Upstream { session, leg, dialled: false, greeted: false, bytes_out: 0 };
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let id =
            self.conns.insert(Box::new(Conn::new(Session::Upstream(Box::new(upstream)), nowhere, Standing::Client)));
        self.metrics.connections.add(1);
        self.metrics.upstream_dials.add(1);
        self.dials.push(Dial { id, to, header, patience: self.config.relays.timing.connect });
        id
    }

    /// The driver has a connection for what [`Core::take_dials`] gave it.
    pub fn dialed(&mut self, id: ConnId, peer: SocketAddr) {
        let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.closing().is_none()) else { return };
        conn.set_peer(peer);
        if let Some(upstream) = conn.session.upstream_mut() {
            upstream.dialled = true;
        }
    }

    /// There will be no connection. The driver removes it next.
    pub fn dial_failed(&mut self, id: ConnId, error: &DialError) {
        if let Some(leg) = self.leg_of(id) {
            self.note_fault(leg, id, error.to_string());
            self.close(id, CloseReason::UpstreamUnreachable, true);
            self.drive_relays();
        }
    }

    pub(super) fn leg_of(&self, id: ConnId) -> Option<LegId> {
        let conn = self.conns.get(id).filter(|conn| conn.closing().is_none())?;
        conn.session.upstream().map(|upstream| upstream.leg)
    }

    /// Bytes came from another node.
    pub(in crate::shard) fn hear_upstream(&mut self, id: ConnId, bytes: &[u8]) {
        let mut input = bytes;
        let now = self.time.now();
        // Audio or video: who sends data alone has no stream.
        let mut media = None;
        while let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.closing().is_none()) {
            let Some(upstream) = conn.session.upstream_mut() else { return };
            let leg = upstream.leg;
            if !upstream.greeted && upstream.session.has_shaken_hands() {
                upstream.greeted = true;
                self.leg_greeted(leg, id);
                continue;
            }
            let said = match upstream.session.receive(&mut input, now) {
                Ok(Some(ClientEvent::Media { kind, timestamp, payload })) => {
                    self.metrics.messages_received.add(1);
                    let RelayId::Pull(index) = leg.relay else { continue };
                    let Some(pull) = self.relays.pulls.get_mut(index) else { continue };
                    if kind != Kind::Data {
                        media = Some(leg);
                    }
                    match pull.take(leg.leg, kind, timestamp, payload, now) {
                        Taken::Publish { local, epoch, timestamp } => {
                            if self.streams.publish(local, epoch, kind, timestamp, payload, &self.time).is_err() {
                                self.metrics.tags_malformed.add(1);
                            }
                        }
                        Taken::Nothing => {}
                        Taken::Apart => pull.hear(leg.leg, Heard::Apart, now, &mut self.relays.health),
                        Taken::Reached { leg } => {
                            let message = Held { kind, timestamp, payload: payload.into() };
                            self.go_over(index, leg, message);
                        }
                        Taken::Overdue => self.end_handover(index),
                        Taken::Begins => self.begin_at(index, leg.leg),
                    }
                    continue;
                }
                Ok(Some(ClientEvent::Publishing)) => Said::Publishing,
                Ok(Some(ClientEvent::Ended)) => Said::Ended,
                Ok(Some(ClientEvent::Reconnect { tc_url, .. })) => Said::Reconnect { tc_url },
                Ok(Some(ClientEvent::Playing)) => continue,
                Ok(Some(ClientEvent::Status { code, .. })) if code == STREAM_NOT_FOUND => Said::NotFound,
                Ok(Some(ClientEvent::Status { .. })) => continue,
                Ok(None) => break,
                Err(error) => Said::Failed(error),
            };
            self.upstream_said(leg, id, said);
        }
        if let Some(LegId { relay: RelayId::Pull(index), leg }) = media
            && let Some(pull) = self.relays.pulls.get_mut(index)
        {
            pull.hear(leg, Heard::Media { begins: false }, now, &mut self.relays.health);
        }
        self.drive_relays();
        self.flush_touched();
        self.wake_if_output(id);
    }

    fn leg_greeted(&mut self, leg: LegId, id: ConnId) {
        let now = self.time.now();
        match leg.relay {
            RelayId::Pull(index) => {
                if let Some(pull) = self.relays.pulls.get_mut(index).filter(|pull| pull.has(leg.leg, id)) {
                    pull.hear(leg.leg, Heard::Connected, now, &mut self.relays.health);
                }
            }
            RelayId::Push(index) => {
                if let Some(push) = self.relays.pushes.get_mut(index).filter(|push| push.has(id)) {
                    push.pusher.hear(PushHeard::Connected, now);
                }
            }
        }
        self.relays.rouse(leg.relay);
    }

    fn upstream_said(&mut self, leg: LegId, id: ConnId, said: Said) {
        let now = self.time.now();
        match (said, leg.relay) {
            (Said::Publishing, RelayId::Push(index)) => self.push_accepted(index, id),
            (Said::Ended, RelayId::Pull(index)) => {
                if let Some(pull) = self.relays.pulls.get_mut(index).filter(|pull| pull.has(leg.leg, id)) {
                    pull.fault = Some("it said that the stream has ended".to_owned());
                    pull.hear(leg.leg, Heard::Ended, now, &mut self.relays.health);
                }
            }
            (Said::Ended, RelayId::Push(_)) => {
                self.note_fault(leg, id, "it ended the stream".to_owned());
                self.close(id, CloseReason::UpstreamEnded, true);
            }
            (Said::NotFound, _) => {
                self.note_fault(leg, id, "it has no such stream".to_owned());
                self.close(id, CloseReason::UpstreamNotFound, true);
            }
            (Said::Reconnect { tc_url }, RelayId::Pull(index)) => self.pull_moved(index, leg, id, tc_url.as_deref()),
            (Said::Reconnect { tc_url }, RelayId::Push(index)) => self.push_moved(index, id, tc_url.as_deref()),
            (Said::Failed(error), relay) => {
                let again = match relay {
                    RelayId::Pull(index) => self.pull_refused(index, leg, id, &error),
                    RelayId::Push(index) => self.push_refused(index, id, &error),
                };
                if !again {
                    self.note_fault(leg, id, error.to_string());
                    self.close(id, reason_of(&error), true);
                }
            }
            (Said::Publishing, RelayId::Pull(_)) => {}
        }
        self.relays.rouse(leg.relay);
    }

    /// Keeps what went wrong for reports, and says it.
    pub(super) fn note_fault(&mut self, leg: LegId, id: ConnId, what: String) {
        // What is published nowhere is asked of the process before, too: that it has not got it is nothing to tell.
        let mut quiet = false;
        let (stream, upstream, fault) = match leg.relay {
            RelayId::Pull(index) => {
                let Some(pull) = self.relays.pulls.get_mut(index).filter(|pull| pull.has(leg.leg, id)) else { return };
                let Some(source) = pull.source_of(leg.leg).cloned() else { return };
                quiet = pull.inherited && pull.log.is_none();
                (pull.key.clone(), source, &mut pull.fault)
            }
            RelayId::Push(index) => {
                let Some(push) = self.relays.pushes.get_mut(index).filter(|push| push.has(id)) else { return };
                (push.key.clone(), push.target.clone(), &mut push.fault)
            }
        };
        let what = upstream.shown(&what);
        if quiet {
            tracing::debug!(%stream, upstream = upstream.label, "relay: {what}");
        } else if let Some(suppressed) =
            self.stream_lines.take(crate::limits::STREAM_LOG_LINES_PER_SECOND, self.time.now())
        {
            tracing::warn!(%stream, upstream = upstream.label, suppressed, "relay: {what}");
        }
        *fault = Some(what);
    }

    /// A leg is about to be closed for what it has not done in time.
    pub(super) fn note_late(&mut self, leg: LegId, id: ConnId, fault: Fault) {
        let what = match (fault, leg.relay) {
            (Fault::Unreachable, _) => "the handshake was not over in time (--upstream-connect-ms)",
            (Fault::Silent, RelayId::Pull(_)) => "no media came in time (--upstream-first-byte-ms)",
            (Fault::Silent, RelayId::Push(_)) => "it did not take or refuse the stream in time",
            _ => "no more media, or no keyframe, came in time (--upstream-stall-ms)",
        };
        self.note_fault(leg, id, what.to_owned());
    }

    /// A leg's connection is gone, by whomever it was closed.
    pub(super) fn leg_closed(&mut self, leg: LegId, id: ConnId, reason: CloseReason) {
        let fault = match reason {
            CloseReason::UpstreamUnreachable => Fault::Unreachable,
            CloseReason::UpstreamNotFound => Fault::NotFound,
            CloseReason::UpstreamRefused | CloseReason::UpstreamNameTaken => Fault::Refused,
            _ => Fault::Broken,
        };
        match reason {
            CloseReason::PeerClosed | CloseReason::PeerReset => {
                self.note_fault(leg, id, "it closed the connection".to_owned());
            }
            CloseReason::NoProgress | CloseReason::LagBytes | CloseReason::Skips => {
                self.note_fault(leg, id, "it does not take what it is sent fast enough".to_owned());
            }
            _ => {}
        }
        match leg.relay {
            RelayId::Pull(index) => self.pull_leg_closed(index, leg.leg, id, fault),
            RelayId::Push(index) => self.push_leg_closed(index, id, fault, reason),
        }
        self.relays.rouse(leg.relay);
    }
}

/// Why a connection to another node ends by `error`.
fn reason_of(error: &SessionError) -> CloseReason {
    match error {
        error if error.is_not_found() => CloseReason::UpstreamNotFound,
        SessionError::Refused { code, .. } if **code == *"NetStream.Publish.BadName" => CloseReason::UpstreamNameTaken,
        SessionError::Refused { .. } => CloseReason::UpstreamRefused,
        error => CloseReason::from(error),
    }
}
