//! Whether a connection may do what it asks for: the operator's rules say.

use super::{conn::ConnId, core::Core};
use crate::{
    access::{Action, Ask, Refusal, Verdict},
    limits::STREAM_LOG_LINES_PER_SECOND,
    rtmp::key::StreamKey,
};

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Asking {
    /// Seconds since 1970, as the driver said last.
    unix_s: u64,
}

impl Core {
    /// Says what the wall clock shows, in seconds since 1970. Rules that end at a time need it, and nothing else.
    pub fn set_wall(&mut self, unix_s: u64) {
        self.asking.unix_s = unix_s;
    }

    /// What the rules say of a client's request for `key`; `query` came with it.
    pub(super) fn judge(&self, id: ConnId, action: Action, key: &StreamKey, query: &str) -> Verdict {
        let Some(conn) = self.conns.get(id) else { return Verdict::Allowed(None) };
        let (app, tc_url) = (conn.session.app(), conn.session.tc_url());
        let ask = Ask { action, key, app, tc_url, query, peer: conn.peer().ip(), unix_s: self.asking.unix_s };
        self.config.access.get().decide(&ask)
    }

    pub(super) fn log_denied(&mut self, id: ConnId, action: Action, key: &StreamKey, refusal: &Refusal) {
        let Some(conn) = self.conns.get(id) else { return };
        if let Some(suppressed) = self.stream_lines.take(STREAM_LOG_LINES_PER_SECOND, self.time.now()) {
            let action = match action {
                Action::Publish => "publish",
                Action::Play => "play",
            };
            let Refusal { rule, why } = refusal;
            tracing::info!(peer = %conn.peer(), stream = %key, %rule, suppressed, "{action} refused: {why}");
        }
    }
}
