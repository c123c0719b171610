//! The flags for what a node takes at most.

use clap::{ArgAction, Args};

use super::super::values::{self, Bytes};
use crate::{
    access::network::Network,
    limits,
    shard::ceilings::{Ceilings, Rate},
};

#[derive(Args, Debug)]
#[command(next_help_heading = "Limits (see docs/limits.md)")]
pub(super) struct CeilingArgs {
    /// Connections at once; further ones are closed as they come. 0 stands for as many as the limit of open files allows, which
    /// nothing goes beyond
    #[arg(long, env = "SHARDCAST_CONNECTIONS_MAX", value_name = "N", default_value_t = 0)]
    #[arg(value_parser = count("connections"))]
    connections_max: u64,

    /// Connections at once from one IPv4 address or IPv6 /64; 0 for any number
    #[arg(long, env = "SHARDCAST_CONNECTIONS_PER_IP_MAX", value_name = "N", default_value_t = 0)]
    #[arg(value_parser = count("connections"))]
    connections_per_ip_max: u64,

    /// New connections per second from one IPv4 address or IPv6 /64, after BURST at once; 0 for any number
    #[arg(long, env = "SHARDCAST_CONNECTS_PER_IP", value_name = "RATE[:BURST]", value_parser = rate)]
    #[arg(default_value = "200:4000")]
    connects_per_ip: RateText,

    /// Addresses and networks that the two limits before are not for, such as 10.0.0.0/8 or that of a load balancer; none for
    /// none. Repeat it, or separate several by commas
    #[arg(long, env = "SHARDCAST_LIMITS_EXEMPT", value_name = "CIDR", value_delimiter = ',', value_parser = network)]
    #[arg(default_values = limits::EXEMPT_NETWORKS_DEFAULT)]
    limits_exempt: Vec<NetworkText>,

    /// Connections that have not sent their connect yet; with more, the oldest of them is closed. Never more than half of all.
    /// 0 for any number
    #[arg(long, env = "SHARDCAST_HANDSHAKES_MAX", value_name = "N")]
    #[arg(default_value_t = limits::HANDSHAKES_MAX_DEFAULT as u64, value_parser = count("connections"))]
    handshakes_max: u64,

    /// Publishers at once; further ones are refused. 0 for any number
    #[arg(long, env = "SHARDCAST_PUBLISHERS_MAX", value_name = "N", default_value_t = 0)]
    #[arg(value_parser = count("publishers"))]
    publishers_max: u64,

    /// Players of one stream on this node; further ones are refused. 0 for any number
    #[arg(long, env = "SHARDCAST_PLAYERS_PER_STREAM_MAX", value_name = "N", default_value_t = 0)]
    #[arg(value_parser = count("players"))]
    players_per_stream_max: u64,

    /// Bits per second one publisher may send (K, M suffixes for thousands and millions), over 5 seconds: it is warned of in the
    /// log, and closed if it is above in the next 5 too. 0 for any number
    #[arg(long, env = "SHARDCAST_PUBLISH_BITRATE_MAX", value_name = "BITS", default_value_t = 0)]
    #[arg(value_parser = bit_rate)]
    publish_bitrate_max: u64,

    /// Longest message taken (K, M suffixes), in steps of 64K; a longer one closes its connection as it begins. 0 for as long as
    /// RTMP allows, 16M
    #[arg(long, env = "SHARDCAST_MESSAGE_BYTES_MAX", value_name = "BYTES", default_value_t = Bytes(0))]
    #[arg(value_parser = message_bytes)]
    message_bytes_max: Bytes,

    /// Memory this node may use (M, G suffixes), or off. Before it is reached GOPs are kept shorter, then new players refused,
    /// slow ones closed, and new publishers refused. auto is 90 % of the memory of the control group, off without one
    #[arg(long, env = "SHARDCAST_MEMORY_MAX", value_name = "auto|off|BYTES", default_value = "auto")]
    #[arg(value_parser = memory)]
    memory_max: MemoryText,

    /// Whether a shard that has been full for seconds, or a node short of memory, sheds players and refuses new ones (on), or
    /// serves everybody as well as it can (off)
    #[arg(long, env = "SHARDCAST_OVERLOAD", value_name = "on|off", default_value = "on", action = ArgAction::Set)]
    #[arg(value_parser = values::on_off)]
    overload: bool,
}

impl CeilingArgs {
    pub(super) fn ceilings(self) -> Ceilings {
        let whole = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Ceilings {
            connections_max: (self.connections_max > 0).then(|| whole(self.connections_max)),
            connections_per_ip_max: small(self.connections_per_ip_max),
            connects_per_ip: self.connects_per_ip.0,
            exempt: self.limits_exempt.into_iter().filter_map(|text| text.0).collect(),
            handshakes_max: whole(self.handshakes_max),
            publishers_max: whole(self.publishers_max),
            players_per_stream_max: small(self.players_per_stream_max),
            publish_bitrate_max: self.publish_bitrate_max,
            message_bytes_max: self.message_bytes_max.0,
            memory_bytes_max: self.memory_max.0,
            sheds: self.overload,
        }
    }
}

fn count(unit: &'static str) -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync + 'static {
    values::whole(0..=limits::FLAG_COUNT_MAX, unit)
}

#[derive(Clone, Copy, Debug)]
struct RateText(Option<Rate>);

/// `200`, or `200:4000`. Without a burst it is that of one second.
fn rate(text: &str) -> Result<RateText, String> {
    let most = limits::CONNECTS_PER_IP_MOST;
    let expected =
        || format!("expected 0, or connections per second such as 200, or 200:4000 with a burst, up to {most}");
    let number = |text: &str| text.trim().parse::<u32>().ok().filter(|n| *n <= most).ok_or_else(expected);
    let (rate, burst) = text.split_once(':').unwrap_or((text, text));
    let (per_second, burst) = (number(rate)?, number(burst)?);
    match (per_second, burst) {
        (0, _) if !text.contains(':') => Ok(RateText(None)),
        (0, _) | (_, 0) => Err(expected()),
        (per_second, burst) => Ok(RateText(Some(Rate { per_second, burst }))),
    }
}

/// `20M`, `500k` or `20000000`; 0 for none.
fn bit_rate(text: &str) -> Result<u64, String> {
    let upper = text.trim().to_ascii_uppercase();
    let units = [("K", 1_000), ("M", 1_000_000), ("G", 1_000_000_000)];
    let (digits, unit) = units
        .iter()
        .find_map(|(suffix, unit)| upper.strip_suffix(suffix).map(|digits| (digits, *unit)))
        .unwrap_or((&upper, 1));
    let range = limits::PUBLISH_BITRATE_MIN..=limits::PUBLISH_BITRATE_MOST;
    let rate = digits.trim().parse::<u64>().ok().and_then(|n| n.checked_mul(unit));
    rate.filter(|rate| *rate == 0 || range.contains(rate))
        .ok_or_else(|| "expected 0, or bits per second such as 20M, from 10K to 1000G".to_owned())
}

fn message_bytes(text: &str) -> Result<Bytes, String> {
    values::bytes_or_0(text, limits::MESSAGE_STEP_BYTES..=limits::MESSAGE_STEP_BYTES * limits::MESSAGE_STEPS_MAX)
}

/// As [`Ceilings::memory_bytes_max`].
#[derive(Clone, Copy, Debug)]
struct MemoryText(Option<u64>);

fn memory(text: &str) -> Result<MemoryText, String> {
    match text.trim() {
        "auto" => Ok(MemoryText(None)),
        "off" => Ok(MemoryText(Some(0))),
        text => values::bytes_or_0(text, limits::MEMORY_BYTES_MIN..=limits::MEMORY_BYTES_MOST)
            .map(|bytes| MemoryText(Some(bytes.0 as u64)))
            .map_err(|why| why.replacen("expected 0", "expected auto, off", 1)),
    }
}

/// One item of the list; "none" is an item that is no network.
#[derive(Clone, Debug)]
struct NetworkText(Option<Network>);

fn network(text: &str) -> Result<NetworkText, String> {
    match text.trim() {
        "none" => Ok(NetworkText(None)),
        text => Network::parse(text).map(|network| NetworkText(Some(network))).map_err(|why| format!("{why}, or none")),
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
        let line = "--connections-max 9 --connections-per-ip-max 8 --connects-per-ip 7:70 --limits-exempt 10.0.0.0/8,::1 \
                    --limits-exempt 192.0.2.1 --handshakes-max 6 --publishers-max 5 --players-per-stream-max 4 \
                    --publish-bitrate-max 20M --message-bytes-max 2M --memory-max 1G --overload off";
        let ceilings = settings_of(line).unwrap().config.ceilings;
        assert_eq!((ceilings.connections_max, ceilings.connections_per_ip_max), (Some(9), 8));
        assert_eq!(ceilings.connects_per_ip, Some(Rate { per_second: 7, burst: 70 }));
        let exempt = ceilings.exempt.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(exempt, ["10.0.0.0/8", "::1", "192.0.2.1"]);
        assert_eq!((ceilings.handshakes_max, ceilings.publishers_max, ceilings.players_per_stream_max), (6, 5, 4));
        assert_eq!((ceilings.memory_bytes_max, ceilings.sheds), (Some(1 << 30), false));
        assert_eq!(settings_of("--memory-max off").unwrap().config.ceilings.memory_bytes_max, Some(0));
        assert_eq!((ceilings.publish_bitrate_max, ceilings.message_bytes_max), (20_000_000, 2 << 20));
    }

    #[test]
    fn nought_and_none_are_no_limit() {
        let ceilings = settings_of("--connects-per-ip 0 --limits-exempt none").unwrap().config.ceilings;
        assert!(ceilings.connects_per_ip.is_none() && ceilings.exempt.is_empty());
        let burst = settings_of("--connects-per-ip 5").unwrap().config.ceilings.connects_per_ip;
        assert_eq!(burst, Some(Rate { per_second: 5, burst: 5 }));
    }

    #[test]
    fn bad_values_are_named() {
        for value in ["0:5", "5:0", "x", "1:2:3", "-1", "9999999"] {
            assert!(
                fault(&format!("--connects-per-ip={value}")).contains("expected 0, or connections per second"),
                "{value}"
            );
        }
        assert!(fault("--limits-exempt 10.1.0.0/8").contains("did you mean 10.0.0.0/8?"));
        assert!(fault("--limits-exempt home").contains(", or none"));
        assert!(fault("--publish-bitrate-max 5K").contains("from 10K to 1000G"));
        assert!(fault("--memory-max 1M").contains("expected auto, off or bytes such as"));
        assert!(fault("--message-bytes-max 1").contains("expected 0 or bytes such as"));
        assert!(fault("--connections-max many").contains("whole number of connections"));
    }
}
