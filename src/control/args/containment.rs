//! The flags for what the process gives up once it listens.

use std::path::PathBuf;

use clap::Args;

use super::super::containment::{Account, Containment, Landlock};

#[derive(Args, Debug)]
#[command(next_help_heading = "Containment (see docs/containment.md)")]
pub(super) struct ContainmentArgs {
    /// Once it listens, become this user: NAME, NAME:GROUP, or their numbers. It has to be started as root; nothing leads
    /// back. root keeps root, without the warning
    #[arg(long, env = "SHARDCAST_USER", value_name = "NAME[:GROUP]", value_parser = Account::read)]
    user: Option<Account>,

    /// Whether the files that a node does not need are out of its reach once it listens (Landlock, Linux 5.13): on, or it does
    /// not start; auto, as far as the kernel can; off
    #[arg(long, env = "SHARDCAST_LANDLOCK", value_name = "on|off|auto", default_value = "auto", value_parser = landlock)]
    landlock: Landlock,
}

impl ContainmentArgs {
    pub(super) fn containment(self, config_file: Option<PathBuf>, secrets: Vec<PathBuf>) -> Containment {
        Containment { user: self.user, landlock: self.landlock, config_file, secrets }
    }
}

fn landlock(text: &str) -> Result<Landlock, String> {
    match text {
        "on" => Ok(Landlock::On),
        "off" => Ok(Landlock::Off),
        "auto" => Ok(Landlock::Auto),
        _ => Err("expected on, off or auto".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{fault, settings_of},
        *,
    };

    #[test]
    fn every_flag_reaches_its_setting() {
        let containment = settings_of("--user root:root --landlock on").unwrap().containment;
        assert_eq!(
            (containment.user.unwrap().to_string(), containment.landlock),
            ("root:root (0:0)".into(), Landlock::On)
        );
        assert_eq!(settings_of("").unwrap().containment.landlock, Landlock::Auto);
    }

    #[test]
    fn bad_values_are_named() {
        assert!(fault("--user no-such-user").starts_with("--user \"no-such-user\": there is no user"));
        assert_eq!(fault("--landlock maybe"), "--landlock \"maybe\": expected on, off or auto");
    }
}
