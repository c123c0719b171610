//! The flags for load balancers that say on whose behalf they connect.

use std::sync::Arc;

use clap::{ArgAction, Args};

use super::{super::values, Given};
use crate::{access::network::Network, limits};

#[derive(Args, Debug)]
#[command(next_help_heading = "Behind a load balancer (see docs/tls.md)")]
pub(super) struct ProxiedArgs {
    /// Take the client's address from the PROXY header (version 1 or 2) that connections from --proxy-trusted begin with. One
    /// without it is closed
    #[arg(long, env = "SHARDCAST_PROXY_PROTOCOL", action = ArgAction::SetTrue, value_parser = values::switch)]
    proxy_protocol: bool,

    /// Addresses or networks of the load balancers, such as 10.0.0.0/8. Others are served as who they are, and no header of
    /// theirs is read. Repeat it, or separate several by commas
    #[arg(long, env = "SHARDCAST_PROXY_TRUSTED", value_name = "CIDR", value_delimiter = ',', value_parser = network)]
    proxy_trusted: Vec<Network>,
}

fn network(text: &str) -> Result<Network, String> {
    Network::parse(text).map_err(|error| error.to_string())
}

impl ProxiedArgs {
    /// Whose headers are read. The error is one line.
    pub(super) fn balancers(&self, given: &Given, notes: &mut Vec<String>) -> Result<Arc<[Network]>, String> {
        let most = limits::PROXY_TRUSTED_MAX;
        match (self.proxy_protocol, self.proxy_trusted.len()) {
            (true, 0) => Err(format!(
                "{}: whoever may say so could take any address; name your load balancers by --proxy-trusted, such as \
                 10.0.0.0/8",
                given.origin("--proxy-protocol")
            )),
            (true, count) if count > most => {
                Err(format!("{}: {count} networks, at most {most} are taken", given.origin("--proxy-trusted")))
            }
            (true, _) => Ok(self.proxy_trusted.as_slice().into()),
            (false, 0) => Ok(Arc::default()),
            (false, _) => {
                notes.push("--proxy-trusted does nothing without --proxy-protocol".to_owned());
                Ok(Arc::default())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{fault, settings_of};

    #[test]
    fn headers_are_believed_of_those_named_only() {
        let line = "--proxy-protocol --proxy-trusted 10.0.0.0/8,192.0.2.7 --proxy-trusted ::1";
        let balancers = settings_of(line).unwrap().config.balancers;
        let shown = balancers.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(shown, ["10.0.0.0/8", "192.0.2.7", "::1"]);
        assert!(fault("--proxy-protocol").starts_with("--proxy-protocol: whoever may say so"));
        assert!(fault("--proxy-protocol --proxy-trusted here").starts_with("--proxy-trusted \"here\": expected"));
        let unused = settings_of("--proxy-trusted 10.0.0.0/8").unwrap();
        assert!(
            unused.config.balancers.is_empty() && unused.notes.iter().any(|note| note.contains("--proxy-protocol"))
        );
    }
}
