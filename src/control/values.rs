//! What a flag's value means: pure functions from text to a checked value.
//!
//! Every error is the second half of one line (`--flag "value": ...`) and says what would be taken instead.

use std::{
    collections::HashSet,
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

use rustix::thread::CpuSet;
use tracing_subscriber::EnvFilter;

use crate::{
    limits,
    shard::{config::DriverChoice, listen_addr::ListenAddr, merge::Merging},
};

/// Where to take RTMP on: `unix:PATH` for a socket file, or an address as in [`listen_addr`].
pub(super) fn rtmp_addr(text: &str) -> Result<ListenAddr, String> {
    match text.strip_prefix("unix:") {
        Some("") => Err("the path is missing: write unix:/run/shardcast.sock".to_owned()),
        Some(path) if path.contains('\0') || path.ends_with('/') => {
            Err("expected the path of a file to make, such as unix:/run/shardcast.sock".to_owned())
        }
        Some(path) if path.len() > limits::UNIX_PATH_BYTES_MAX => {
            Err(format!("the path of a socket file has at most {} bytes", limits::UNIX_PATH_BYTES_MAX))
        }
        Some(path) => Ok(ListenAddr::Unix(PathBuf::from(path))),
        None => listen_addr(text).map(ListenAddr::Tcp).map_err(|why| match text.starts_with('/') {
            true => format!("{why}; for a socket file write unix:{text}"),
            false => why,
        }),
    }
}

/// An address to listen on: `ADDR:PORT`, or a port alone (`1935`, `:1935`) for every IPv6 and IPv4 address.
pub(super) fn listen_addr(text: &str) -> Result<SocketAddr, String> {
    let bare = text.strip_prefix(':').unwrap_or(text);
    if !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_digit()) {
        let port = bare.parse().map_err(|_| "a port is at most 65535".to_owned())?;
        return Ok(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port));
    }
    let expected = "expected an IP address and port (127.0.0.1:1935, [::1]:1935) or a port (1935)";
    text.parse().map_err(|_| match text.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(ip) => format!("the port is missing: write {}", SocketAddr::new(ip, 1935)),
        Err(_) => expected.to_owned(),
    })
}

/// Where the admin listener is, if anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AdminAddr(pub(super) Option<SocketAddr>);

/// `off`, or an address as in [`listen_addr`]; a port alone means loopback, because the listener has no passwords.
pub(super) fn admin_addr(text: &str) -> Result<AdminAddr, String> {
    if text == "off" {
        return Ok(AdminAddr(None));
    }
    let mut addr = listen_addr(text).map_err(|why| format!("{why}, or 'off'"))?;
    if !text.starts_with('[') && addr.is_ipv6() {
        addr.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    Ok(AdminAddr(Some(addr)))
}

/// CPU numbers in ascending or any other order, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CpuList(pub(super) Vec<usize>);

/// `0,2-5` in the kernel's list format, without duplicates. Numbers are below the size of the kernel's affinity mask,
/// so a range cannot ask for much memory.
pub(super) fn cpu_list(text: &str) -> Result<CpuList, String> {
    let expected = || "expected CPU numbers and ranges such as 0,2-5".to_owned();
    let number = |digits: &str| -> Result<usize, String> {
        let cpu = digits.trim().parse().map_err(|_| expected())?;
        if cpu < CpuSet::MAX_CPU { Ok(cpu) } else { Err(format!("CPU numbers are below {}", CpuSet::MAX_CPU)) }
    };
    let mut listed = HashSet::new();
    let mut cpus = Vec::new();
    for item in text.split(',') {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!("the range {first}-{last} runs backwards"));
        }
        if let Some(cpu) = (first..=last).find(|cpu| !listed.insert(*cpu)) {
            return Err(format!("CPU {cpu} is listed twice"));
        }
        cpus.extend(first..=last);
    }
    Ok(CpuList(cpus))
}

/// A number of bytes that prints as it is written, `32M`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) usize);

const UNITS: [(char, usize); 3] = [('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((suffix, unit)) => write!(f, "{}{suffix}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Bytes within `--gop-bytes-max`'s bounds.
pub(super) fn gop_bytes(text: &str) -> Result<Bytes, String> {
    let range = limits::GOP_BYTES_MAX_MIN..=limits::GOP_BYTES_MAX_MAX;
    let expected = || format!("expected bytes such as 32M, from {} to {}", Bytes(*range.start()), Bytes(*range.end()));
    bytes(text).filter(|bytes| range.contains(&bytes.0)).ok_or_else(expected)
}

/// 0, or bytes in `range`.
pub(super) fn bytes_or_0(text: &str, range: RangeInclusive<usize>) -> Result<Bytes, String> {
    let (least, most) = (Bytes(*range.start()), Bytes(*range.end()));
    let expected = || format!("expected 0 or bytes such as 512K, from {least} to {most}");
    bytes(text).filter(|bytes| bytes.0 == 0 || range.contains(&bytes.0)).ok_or_else(expected)
}

/// Bytes, with K, M or G for powers of 1024: `32M`, `32MiB` and `32m` are the same.
fn bytes(text: &str) -> Option<Bytes> {
    let upper = text.trim().to_ascii_uppercase();
    let upper = upper.strip_suffix("IB").or_else(|| upper.strip_suffix('B')).unwrap_or(&upper);
    let (digits, unit) = UNITS
        .iter()
        .find_map(|(suffix, unit)| upper.strip_suffix(*suffix).map(|digits| (digits, *unit)))
        .unwrap_or((upper, 1));
    digits.trim().parse::<usize>().ok().and_then(|n| n.checked_mul(unit)).map(Bytes)
}

/// `auto`, or milliseconds up to [`limits::MERGE_MS_MAX`].
pub(super) fn merging(text: &str) -> Result<Merging, String> {
    if text.trim() == "auto" {
        return Ok(Merging::Auto);
    }
    let window_ms = whole(0..=limits::MERGE_MS_MAX, "milliseconds")(text);
    window_ms
        .map(|window_ms| Merging::Fixed(Duration::from_millis(window_ms)))
        .map_err(|why| why.replacen("expected", "expected auto, or", 1))
}

/// A parser of whole numbers in `range`; `unit` names what is counted.
pub(super) fn whole(
    range: RangeInclusive<u64>,
    unit: &'static str,
) -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync + 'static {
    move |text| {
        text.trim()
            .parse()
            .ok()
            .filter(|n| range.contains(n))
            .ok_or_else(|| format!("expected a whole number of {unit} from {} to {}", range.start(), range.end()))
    }
}

pub(super) fn on_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("expected on or off".to_owned()),
    }
}

/// The value of a switch's environment variable.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "on" | "yes" => Ok(true),
        "0" | "false" | "off" | "no" | "" => Ok(false),
        _ => Err("expected 1 or 0".to_owned()),
    }
}

pub(super) fn driver(text: &str) -> Result<DriverChoice, String> {
    match text {
        "auto" => Ok(DriverChoice::Auto),
        "uring" => Ok(DriverChoice::Uring),
        "legacy" => Ok(DriverChoice::Legacy),
        _ => Err("expected auto, uring or legacy".to_owned()),
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogFormat {
    Text,
    Json,
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("expected text or json".to_owned()),
    }
}

/// A level, or a filter such as `info,shardcast::shard=debug`. A single word must be a level: as a filter it would be
/// the name of a module and silence everything else.
pub(super) fn log_filter(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let expected = "expected error, warn, info, debug, trace, off, or a filter such as info,shardcast::shard=debug";
    let level = LEVELS.contains(&text.to_ascii_lowercase().as_str());
    let filter = text.contains(['=', ',']) && EnvFilter::try_new(text).is_ok();
    if level || filter { Ok(text.to_owned()) } else { Err(expected.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_every_address() {
        for text in ["1935", ":1935"] {
            assert_eq!(listen_addr(text), Ok("[::]:1935".parse().unwrap()));
        }
        assert_eq!(listen_addr("127.0.0.1:0"), Ok("127.0.0.1:0".parse().unwrap()));
        assert_eq!(listen_addr("[::1]:1935"), Ok("[::1]:1935".parse().unwrap()));
    }

    #[test]
    fn a_bad_address_says_what_to_write() {
        assert!(listen_addr("127.0.0.1").unwrap_err().contains("127.0.0.1:1935"));
        assert!(listen_addr("[::1]").unwrap_err().contains("[::1]:1935"));
        assert!(listen_addr("70000").unwrap_err().contains("65535"));
        for text in ["", ":", "localhost:1935", "rtmp://127.0.0.1:1935", "::1:99999", "1935 "] {
            assert!(listen_addr(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_admin_port_alone_is_loopback() {
        assert_eq!(admin_addr("9090"), Ok(AdminAddr(Some("127.0.0.1:9090".parse().unwrap()))));
        assert_eq!(admin_addr("[::]:9090"), Ok(AdminAddr(Some("[::]:9090".parse().unwrap()))));
        assert_eq!(admin_addr("0.0.0.0:1"), Ok(AdminAddr(Some("0.0.0.0:1".parse().unwrap()))));
        assert_eq!(admin_addr("off"), Ok(AdminAddr(None)));
        assert!(admin_addr("on").unwrap_err().contains("'off'"));
    }

    #[test]
    fn cpu_lists_are_the_kernels() {
        assert_eq!(cpu_list("0,2-5"), Ok(CpuList(vec![0, 2, 3, 4, 5])));
        assert_eq!(cpu_list("3,1"), Ok(CpuList(vec![3, 1])));
        assert!(cpu_list("0,0").unwrap_err().contains("twice"));
        assert!(cpu_list("5-2").unwrap_err().contains("backwards"));
        for text in ["", ",", "1-", "-1", "a", "0-18446744073709551615", "1-2-3"] {
            assert!(cpu_list(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn bytes_take_suffixes_and_print_them() {
        for text in ["33554432", "32768K", "32M", "32MiB", "32mb", " 32 M "] {
            assert_eq!(gop_bytes(text), Ok(Bytes(32 << 20)), "{text:?}");
        }
        assert_eq!(Bytes(32 << 20).to_string(), "32M");
        assert_eq!(Bytes(65_537).to_string(), "65537");
        for text in ["", "M", "1", "1G", "99999999999999999999", "18014398509481985K", "-1M"] {
            assert!(gop_bytes(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn whole_numbers_keep_to_their_range() {
        let parse = whole(128..=61_000, "bytes");
        assert_eq!((parse("128"), parse("61000")), (Ok(128), Ok(61_000)));
        for text in ["127", "61001", "1.5", "", "x"] {
            assert_eq!(parse(text), Err("expected a whole number of bytes from 128 to 61000".to_owned()));
        }
    }

    #[test]
    fn a_single_word_in_the_log_filter_is_a_level() {
        for text in ["info", "TRACE", "off", "info,shardcast::shard=debug", "shardcast=trace"] {
            assert_eq!(log_filter(text), Ok(text.to_owned()));
        }
        for text in ["verbose", "", "info,shardcast=loud"] {
            assert!(log_filter(text).is_err(), "{text:?}");
        }
    }
}
