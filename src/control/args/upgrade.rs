//! The flags for a process that another one takes over from.

use std::time::Duration;

use clap::Args;

use super::super::values;
use crate::limits;

#[derive(Args, Debug)]
#[command(next_help_heading = "Upgrade")]
pub(super) struct UpgradeArgs {
    /// After SIGUSR2 has started a new process, which takes all connections from then on, the old one serves those it has
    /// until they leave: at most this many seconds
    #[arg(long, env = "SHARDCAST_UPGRADE_TIMEOUT_S", value_name = "S")]
    #[arg(value_parser = values::whole(0..=limits::FLAG_SECONDS_MAX, "seconds"))]
    #[arg(default_value_t = limits::UPGRADE_TIMEOUT_DEFAULT.as_secs())]
    upgrade_timeout_s: u64,
}

impl UpgradeArgs {
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs(self.upgrade_timeout_s)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::settings_of;
    use crate::limits::UPGRADE_TIMEOUT_DEFAULT;

    #[test]
    fn an_old_process_stays_as_long_as_it_is_told() {
        assert_eq!(settings_of("").unwrap().upgrade_timeout, UPGRADE_TIMEOUT_DEFAULT);
        assert_eq!(settings_of("--upgrade-timeout-s 5").unwrap().upgrade_timeout.as_secs(), 5);
    }
}
