//! The flags for the end of a node that others take over from.

use std::time::Duration;

use clap::Args;

use super::super::{course::Mode, values};
use crate::{limits, rtmp::url::RtmpUrl};

#[derive(Args, Debug)]
#[command(next_help_heading = "Drain")]
pub(super) struct DrainArgs {
    /// On the first SIGTERM or Ctrl-C, leave service in order instead of ending at once. anycast: clients move away first,
    /// then /readyz turns 503 and connections are taken until the route has gone. lb (behind a load balancer): /readyz turns
    /// 503 first, then clients move. POST /api/drain does the same at any time [default: anycast, if --drain-reconnect-url
    /// is given]
    #[arg(long, env = "SHARDCAST_DRAIN_MODE", value_name = "anycast|lb", value_parser = mode)]
    drain_mode: Option<Mode>,

    /// Where clients go that can be asked to (Enhanced RTMP v2, ReconnectRequest), such as rtmp://10.0.0.2/live,
    /// //10.0.0.2/live or /other-app. Without it lb sends them to their own URL again, and anycast treats them as all others,
    /// who are let go at a keyframe
    #[arg(long, env = "SHARDCAST_DRAIN_RECONNECT_URL", value_name = "URL", value_parser = reference)]
    drain_reconnect_url: Option<String>,

    /// Seconds after which a node that drains ends, whoever is still there
    #[arg(long, env = "SHARDCAST_DRAIN_TIMEOUT_S", value_name = "S")]
    #[arg(value_parser = values::whole(0..=limits::FLAG_SECONDS_MAX, "seconds"))]
    #[arg(default_value_t = limits::DRAIN_TIMEOUT_DEFAULT.as_secs())]
    drain_timeout_s: u64,

    /// Seconds over which clients are moved: players in the first three quarters, publishers in the last
    #[arg(long, env = "SHARDCAST_DRAIN_WINDOW_S", value_name = "S")]
    #[arg(value_parser = values::whole(0..=limits::FLAG_SECONDS_MAX, "seconds"))]
    #[arg(default_value_t = limits::DRAIN_WINDOW_DEFAULT.as_secs())]
    drain_window_s: u64,

    /// Seconds for which connections are still taken after /readyz turned 503, because routes and balancers need time to
    /// follow it
    #[arg(long, env = "SHARDCAST_DRAIN_CONVERGE_S", value_name = "S")]
    #[arg(value_parser = values::whole(0..=limits::FLAG_SECONDS_MAX, "seconds"))]
    #[arg(default_value_t = limits::DRAIN_CONVERGE_DEFAULT.as_secs())]
    drain_converge_s: u64,
}

/// How a node leaves service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Drain {
    pub(crate) mode: Mode,
    pub(crate) url: Option<String>,
    pub(crate) timeout: Duration,
    pub(crate) window: Duration,
    pub(crate) converge: Duration,
}

/// What the flags say.
#[derive(Clone, Debug)]
pub(crate) struct DrainSettings {
    pub(crate) plan: Drain,
    /// The first signal drains; else it ends the streams at once.
    pub(crate) at_signal: bool,
}

impl Drain {
    /// The same, of a node whose listeners another process has taken: clients that connect again to where they are get there.
    pub(crate) fn succeeded(&self, timeout: Duration) -> Self {
        Self { mode: Mode::Successor, url: None, timeout, ..self.clone() }
    }

    /// Over which clients are moved: they need time to go, too.
    pub(crate) fn move_over(&self) -> Duration {
        self.window.min(self.timeout / 2)
    }
}

impl Default for DrainSettings {
    fn default() -> Self {
        let (window, converge) = (limits::DRAIN_WINDOW_DEFAULT, limits::DRAIN_CONVERGE_DEFAULT);
        let timeout = limits::DRAIN_TIMEOUT_DEFAULT;
        Self { plan: Drain { mode: Mode::Anycast, url: None, timeout, window, converge }, at_signal: false }
    }
}

impl DrainArgs {
    pub(super) fn drain(self, notes: &mut Vec<String>) -> DrainSettings {
        let at_signal = self.drain_mode.is_some() || self.drain_reconnect_url.is_some();
        let plan = Drain {
            mode: self.drain_mode.unwrap_or(Mode::Anycast),
            url: self.drain_reconnect_url,
            timeout: Duration::from_secs(self.drain_timeout_s),
            window: Duration::from_secs(self.drain_window_s),
            converge: Duration::from_secs(self.drain_converge_s),
        };
        // A short timeout alone means that the window is to be, too.
        if plan.window > plan.timeout && plan.window != limits::DRAIN_WINDOW_DEFAULT {
            notes.push(format!(
                "--drain-window-s {} is more than --drain-timeout-s {}: clients are moved within half of the latter",
                plan.window.as_secs(),
                plan.timeout.as_secs()
            ));
        }
        DrainSettings { plan, at_signal }
    }
}

/// A mode that an operator may ask for.
pub(crate) fn mode(text: &str) -> Result<Mode, String> {
    match text {
        "anycast" => Ok(Mode::Anycast),
        "lb" => Ok(Mode::Lb),
        _ => Err("expected anycast or lb".to_owned()),
    }
}

/// A URL that clients may be sent to.
pub(crate) fn reference(text: &str) -> Result<String, String> {
    RtmpUrl::check_reference(text).map(|()| text.to_owned()).map_err(|why| why.to_string())
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{fault, settings_of},
        *,
    };

    #[test]
    fn a_signal_drains_if_a_mode_or_a_url_is_given() {
        let drain = |line: &str| settings_of(line).unwrap().drain;
        assert!(!drain("--drain-timeout-s 5").at_signal);
        let given = drain("--drain-reconnect-url //b/live --drain-timeout-s 5 --drain-window-s 3 --drain-converge-s 2");
        let seconds = Duration::from_secs;
        let plan = Drain {
            mode: Mode::Anycast,
            url: Some("//b/live".into()),
            timeout: seconds(5),
            window: seconds(3),
            converge: seconds(2),
        };
        assert!(given.at_signal);
        assert_eq!(given.plan, plan);
        assert_eq!(given.plan.move_over(), Duration::from_millis(2_500));
        let given = drain("--drain-mode lb");
        assert!(given.at_signal && given.plan.mode == Mode::Lb && given.plan.url.is_none());
        let notes = |line: &str| settings_of(line).unwrap().notes;
        let [note] = &notes("--drain-window-s 31")[..] else { panic!("one note") };
        assert!(note.starts_with("--drain-window-s 31 is more than --drain-timeout-s 30: "), "{note}");
        assert_eq!(notes("--drain-window-s 30 --drain-timeout-s 30"), notes("--drain-timeout-s 5"));
        assert!(fault("--drain-reconnect-url http://b/live").contains("rtmp://"));
        assert!(fault("--drain-mode later").ends_with("expected anycast or lb"));
    }
}
