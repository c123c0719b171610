//! The flag for what becomes of a second publisher of a live name.

use clap::Args;

use crate::access::Takeover;

#[derive(Args, Debug)]
#[command(next_help_heading = "Streams")]
pub(super) struct TakeoverArgs {
    /// What becomes of a second publisher of a name: reject refuses it; replace ends the first, and players go on with the
    /// second; replace-if-same-credential does so if both came with the same key, the same signed link or tokens of the same
    /// subject (see docs/takeover.md)
    #[arg(long, env = "SHARDCAST_TAKEOVER", value_name = "HOW", default_value = "reject", value_parser = takeover)]
    pub(super) takeover: Takeover,
}

fn takeover(text: &str) -> Result<Takeover, String> {
    match text {
        "reject" => Ok(Takeover::Reject),
        "replace" => Ok(Takeover::Replace),
        "replace-if-same-credential" => Ok(Takeover::ReplaceIfSameCredential),
        _ => Err("expected reject, replace or replace-if-same-credential".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{fault, settings_of};
    use super::*;

    #[test]
    fn a_live_name_is_kept_unless_the_flag_says_otherwise() {
        let taken = |line| settings_of(line).unwrap().config.takeover;
        assert_eq!(taken(""), Takeover::Reject);
        assert_eq!(taken("--takeover replace"), Takeover::Replace);
        assert_eq!(taken("--takeover replace-if-same-credential"), Takeover::ReplaceIfSameCredential);
        assert!(fault("--takeover steal").contains("expected reject, replace or replace-if-same-credential"));
    }
}
