//! The flags for the end of a node that others take over from.

use std::time::Duration;

use clap::Args;

use super::super::values;
use crate::{limits, rtmp::url::RtmpUrl};

#[derive(Args, Debug)]
#[command(next_help_heading = "Drain")]
pub(super) struct DrainArgs {
    /// On the first SIGTERM or Ctrl-C, ask clients that can (Enhanced RTMP v2, ReconnectRequest) to go on at this URL, such
    /// as rtmp://10.0.0.2/live, //10.0.0.2/live or /other-app. They are served until they have left; new connections are
    /// not taken
    #[arg(long, env = "SHARDCAST_DRAIN_RECONNECT_URL", value_name = "URL", value_parser = reference)]
    drain_reconnect_url: Option<String>,

    /// Seconds they have to leave before all streams end
    #[arg(long, env = "SHARDCAST_DRAIN_TIMEOUT_S", value_name = "S")]
    #[arg(value_parser = values::whole(0..=limits::FLAG_SECONDS_MAX, "seconds"))]
    #[arg(default_value_t = limits::DRAIN_TIMEOUT_DEFAULT.as_secs())]
    drain_timeout_s: u64,
}

/// What the first signal does before streams end.
#[derive(Clone, Debug)]
pub(crate) struct Drain {
    pub(crate) url: String,
    pub(crate) timeout: Duration,
}

impl DrainArgs {
    pub(super) fn drain(self) -> Option<Drain> {
        let timeout = Duration::from_secs(self.drain_timeout_s);
        self.drain_reconnect_url.map(|url| Drain { url, timeout })
    }
}

fn reference(text: &str) -> Result<String, String> {
    RtmpUrl::check_reference(text).map(|()| text.to_owned()).map_err(|why| why.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{fault, settings_of};

    #[test]
    fn a_drain_needs_a_url() {
        assert!(settings_of("--drain-timeout-s 5").unwrap().drain.is_none());
        let drain = settings_of("--drain-reconnect-url //b/live --drain-timeout-s 5").unwrap().drain.unwrap();
        assert_eq!((drain.url.as_str(), drain.timeout.as_secs()), ("//b/live", 5));
        assert!(fault("--drain-reconnect-url http://b/live").contains("rtmp://"));
    }
}
