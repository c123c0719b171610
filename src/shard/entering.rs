//! Connections that come and go, as far as there are limits to them: what [`super::admission`] decides, done and said.

use std::net::SocketAddr;

use super::{
    admission::Place,
    close::{CloseReason, RefuseReason, TurnedAway},
    conn::{Conn, ConnId, Standing},
    core::Core,
    overload::Level,
};
use crate::{limits, rtmp::key::StreamKey};

impl Core {
    /// A connection was accepted. `None`: it is one too many, and is to be closed at once. `named`: its client is at the other
    /// end, not behind a load balancer that is yet to say who it is.
    pub fn admit(&mut self, standing: Standing, peer: SocketAddr, named: bool) -> Option<ConnId> {
        let ip = (named && standing == Standing::Client).then(|| peer.ip());
        let place = match standing {
            // It stands for clients that are counted where they are.
            Standing::Successor => Ok(Place::None),
            _ => self.admission.admit(ip, self.time.process()),
        };
        match place {
            Ok(place) => {
                let id = self.connect_as(standing, peer);
                if let Some(conn) = self.conns.get_mut(id) {
                    conn.place = place;
                }
                Some(id)
            }
            Err(why) => {
                self.note_turned_away(peer, why);
                None
            }
        }
    }

    /// The load balancer has said who the client of a connection is. False: it is one too many of that address, and closed.
    pub fn name_client(&mut self, id: ConnId, peer: SocketAddr) -> bool {
        let Some(conn) = self.conns.get_mut(id) else { return false };
        conn.set_peer(peer);
        match self.admission.name(conn.place, peer.ip(), self.time.process()) {
            Ok(place) => {
                conn.place = place;
                true
            }
            Err(why) => {
                self.note_turned_away(peer, why);
                self.close(id, CloseReason::TurnedAway, true);
                false
            }
        }
    }

    /// A connection could not be taken, or was closed before anything came of it.
    pub fn note_turned_away(&mut self, peer: SocketAddr, why: TurnedAway) {
        self.metrics.turned_away(why).add(1);
        let lines = &mut self.turned_away_lines[why as usize];
        if let Some(suppressed) = lines.take(limits::TURNED_AWAY_LOG_LINES_PER_SECOND, self.time.now()) {
            let (reason, advice) = (why.label(), advice(why));
            tracing::warn!(%peer, shard = self.port.shard(), reason, suppressed, "turned away: {advice}");
        }
    }

    pub(super) fn give_place_back(&self, conn: &Conn) {
        if conn.place != Place::None {
            self.admission.release(conn.place, conn.peer().ip(), self.time.process());
        }
    }

    /// A new connection has yet to send its connect; another may have to go for it.
    pub(super) fn begin_handshake(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.is_new = true;
        }
        if let Some(oldest) = self.handshakes.enter(id) {
            let what = "more connections are new than --handshakes-max, and it was the first of them";
            self.log_close(oldest, CloseReason::Handshakes, what);
            self.close(oldest, CloseReason::Handshakes, true);
        }
    }

    /// To be called when bytes came: it may be a client by now.
    pub(super) fn note_connected(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.is_new) else { return };
        if conn.session.has_connected() {
            conn.is_new = false;
            self.handshakes.leave(id);
        }
    }

    /// Whether one more may publish; why not, if it may not. To be asked right before it does.
    pub(super) fn publish_within_limits(&self) -> Result<(), (RefuseReason, String)> {
        if self.overload() >= Level::Publishers {
            return Err((RefuseReason::Overload, "this node is overloaded; publish to another one".to_owned()));
        }
        match self.admission.publishers_full() {
            Some(most) => {
                let description = format!("{most} streams are being published here, as many as may be");
                Err((RefuseReason::Publishers, description))
            }
            None => Ok(()),
        }
    }

    /// Whether one more may play `key`; why not, if it may not. To be asked right before it does.
    pub(super) fn play_within_limits(&self, key: &StreamKey) -> Result<(), (RefuseReason, String)> {
        if self.overload() >= Level::Players {
            return Err((RefuseReason::Overload, "this node is overloaded; try another one".to_owned()));
        }
        match self.admission.audience_full(key) {
            Some(most) => {
                Err((RefuseReason::Audience, format!("the stream has {most} players, as many as it may have")))
            }
            None => Ok(()),
        }
    }
}

fn advice(why: TurnedAway) -> &'static str {
    match why {
        TurnedAway::Connections => {
            "the node has as many connections as it may: raise --connections-max or the limit of open files"
        }
        TurnedAway::ConnectionsPerIp => {
            "its address has as many connections as it may: raise --connections-per-ip-max, or name a network that is trusted in \
             --limits-exempt"
        }
        TurnedAway::ConnectRate => {
            "its address connects too often: raise --connects-per-ip, or name a network that is trusted in --limits-exempt"
        }
        TurnedAway::Descriptors => "there are no descriptors left: raise the limit of open files, or end connections",
    }
}
