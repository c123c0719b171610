//! How single values of the command line are read.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

/// Where the streams are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub address: SocketAddr,
    /// Over TLS.
    pub secure: bool,
    pub tc_url: String,
    pub app: String,
    pub name: String,
    /// Where they are published, if not at `address`.
    pub publish_at: Option<SocketAddr>,
}

impl Url {
    /// Of a server that was started here.
    pub fn of(address: SocketAddr) -> Self {
        Self {
            address,
            secure: false,
            tc_url: format!("rtmp://{address}/live"),
            app: "live".into(),
            name: "load".into(),
            publish_at: None,
        }
    }

    /// The names of `streams` streams.
    pub fn names(&self, streams: u32) -> Vec<String> {
        match streams {
            1 => vec![self.name.clone()],
            _ => (0..streams).map(|stream| format!("{}-{stream}", self.name)).collect(),
        }
    }
}

/// The last part of the path is the name, all before it the app. Names are resolved once, here.
pub fn parse_url(text: &str) -> Result<Url, String> {
    let (scheme, rest) = text.split_once("://").unwrap_or_default();
    let (secure, port) = match scheme {
        "rtmp" => (false, 1935),
        "rtmps" => (true, 443),
        _ => return Err("a URL begins with rtmp:// or rtmps://".into()),
    };
    let (host, path) = rest.split_once('/').ok_or("a URL is rtmp://host:port/app/name: the app is missing")?;
    let (app, name) = path.rsplit_once('/').ok_or("a URL is rtmp://host:port/app/name: the name is missing")?;
    if app.is_empty() || name.is_empty() {
        return Err("neither app nor name may be empty".into());
    }
    let after_literal = host.rsplit_once(']').map_or(host, |(_, after)| after);
    let with_port = if after_literal.contains(':') { host.to_owned() } else { format!("{host}:{port}") };
    let mut addresses = with_port.to_socket_addrs().map_err(|error| format!("{with_port}: {error}"))?;
    let address = addresses.next().ok_or_else(|| format!("{with_port} has no address"))?;
    Ok(Url {
        address,
        secure,
        tc_url: format!("{scheme}://{host}/{app}"),
        app: app.to_owned(),
        name: name.to_owned(),
        publish_at: None,
    })
}

/// A share above 0, below 1.
pub fn parse_share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| *share > 0.0 && *share < 1.0);
    share.ok_or_else(|| format!("{text} is no share like 0.05"))
}

/// What `--merge-ms` of Shardcast takes, or `default`.
pub fn parse_merge(text: &str) -> Result<String, String> {
    let known = text == "auto" || text == "default" || text.parse::<u32>().is_ok();
    known.then(|| text.to_owned()).ok_or_else(|| format!("{text} is neither milliseconds nor auto nor default"))
}

/// A number with k, M or G behind it, or none.
pub fn parse_bitrate(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1_000),
        Some((at, 'm' | 'M')) => (&text[..at], 1_000_000),
        Some((at, 'g' | 'G')) => (&text[..at], 1_000_000_000),
        _ => (text, 1),
    };
    let bits = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    bits.filter(|bits| (1..=100_000_000_000).contains(bits)).ok_or_else(|| format!("{text} is no bit rate like 2500k"))
}

/// A number of seconds, or with ms, s or m behind it; at most a week.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, ms) = if let Some(number) = text.strip_suffix("ms") {
        (number, 1.0)
    } else if let Some(number) = text.strip_suffix('m') {
        (number, 60_000.0)
    } else {
        (text.strip_suffix('s').unwrap_or(text), 1_000.0)
    };
    let seconds = number.parse::<f64>().ok().map(|number| number * ms / 1_000.0);
    let seconds = seconds.filter(|seconds| (0.0..=604_800.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| format!("{text} is no time like 20s or 500ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_a_host_an_app_and_a_name() {
        let url = parse_url("rtmp://127.0.0.1:19350/live/deep/cam").unwrap();
        assert_eq!(url.address, "127.0.0.1:19350".parse().unwrap());
        assert_eq!((url.app.as_str(), url.name.as_str()), ("live/deep", "cam"));
        assert_eq!(url.tc_url, "rtmp://127.0.0.1:19350/live/deep");
        assert_eq!(url.names(2), ["cam-0", "cam-1"]);
        assert_eq!(parse_url("rtmp://[::1]/live/cam").unwrap().address, "[::1]:1935".parse().unwrap());
        for bad in [
            "http://a/b/c",
            "rtmp://127.0.0.1",
            "rtmp://127.0.0.1/live",
            "rtmp://127.0.0.1/live/",
            "rtmp://127.0.0.1//a",
        ] {
            assert!(parse_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bit_rates_and_times_take_units() {
        assert_eq!(parse_bitrate("2500k"), Ok(2_500_000));
        assert_eq!(parse_bitrate("6M"), Ok(6_000_000));
        assert_eq!(parse_bitrate("800000"), Ok(800_000));
        assert_eq!(parse_duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(parse_duration("15"), Ok(Duration::from_secs(15)));
        assert_eq!(parse_duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("40ms"), Ok(Duration::from_millis(40)));
        for bad in ["", "k", "-1k", "é", "99999999999999999999G"] {
            assert!(parse_bitrate(bad).is_err(), "{bad}");
        }
        for bad in ["", "s", "-1s", "NaN", "inf", "1h"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
