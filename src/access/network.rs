//! Networks in CIDR notation: `10.0.0.0/8`, `2001:db8::/32`, or an address alone.
//!
//! An IPv4 address written as IPv6 (`::ffff:10.0.0.1`), as a listener for both sees it, is the IPv4 address. Refused: host bits
//! that are set, for it is unclear what was meant.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Bits of the prefix that makes an IPv4 address an IPv6 one.
const MAPPED_BITS: u8 = 96;

/// How those are called that have no address, because they came by a socket file: no client of a network is called so, and no
/// [`Network`] has it.
pub const NO_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// See the file's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Without host bits.
    base: IpAddr,
    prefix_bits: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    #[error("expected an address or a network, such as 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32")]
    Address,
    #[error("expected 0 to {0} bits behind the slash")]
    Bits(u8),
    #[error("it has bits beyond those that count; did you mean {0}?")]
    HostBits(Network),
}

impl Network {
    pub fn parse(text: &str) -> Result<Self, NetworkError> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Address)?;
        let all_bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match bits {
            None => all_bits,
            // The standard library's reader takes a '+'.
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().ok().filter(|bits| *bits <= all_bits).ok_or(NetworkError::Bits(all_bits))?
            }
            Some(_) => return Err(NetworkError::Bits(all_bits)),
        };
        let (address, prefix_bits) = match address.to_canonical() {
            plain @ IpAddr::V4(_) if address.is_ipv6() && prefix_bits >= MAPPED_BITS => {
                (plain, prefix_bits - MAPPED_BITS)
            }
            _ => (address, prefix_bits),
        };
        let network = Self { base: masked(address, prefix_bits), prefix_bits };
        if network.base == address { Ok(network) } else { Err(NetworkError::HostBits(network)) }
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        if address == NO_ADDRESS {
            return false;
        }
        let contains = |address: IpAddr| {
            address.is_ipv4() == self.base.is_ipv4() && masked(address, self.prefix_bits) == self.base
        };
        // `::/0` has the addresses that are written as IPv6, too.
        contains(address.to_canonical()) || contains(address)
    }
}

/// What stands for an address where addresses are counted: of IPv6, a /64, which is what one customer has to choose from.
pub fn customer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        plain @ IpAddr::V4(_) => plain,
        long @ IpAddr::V6(_) => masked(long, 64),
    }
}

/// `address` with all but its first bits cleared.
fn masked(address: IpAddr, prefix_bits: u8) -> IpAddr {
    let prefix_bits = u32::from(prefix_bits);
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix_bits)).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(prefix_bits)).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all_bits = if self.base.is_ipv4() { 32 } else { 128 };
        if self.prefix_bits == all_bits {
            write!(f, "{}", self.base)
        } else {
            write!(f, "{}/{}", self.base, self.prefix_bits)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, address: &str) -> bool {
        Network::parse(network).unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn a_network_has_its_addresses() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", ["10.0.0.0", "10.255.255.255"], ["11.0.0.0", "9.255.255.255"]),
            ("192.0.2.7", ["192.0.2.7", "::ffff:192.0.2.7"], ["192.0.2.6", "::192.0.2.7"]),
            ("192.0.2.6/31", ["192.0.2.6", "192.0.2.7"], ["192.0.2.5", "192.0.2.8"]),
            ("0.0.0.0/0", ["1.2.3.4", "::ffff:1.2.3.4"], ["::1", "2001:db8::1"]),
            ("2001:db8::/32", ["2001:db8::", "2001:db8:ffff::1"], ["2001:db9::", "32.1.13.184"]),
            ("::1", ["::1", "0:0::1"], ["::2", "127.0.0.1"]),
            ("::ffff:10.0.0.0/104", ["10.1.2.3", "::ffff:10.1.2.3"], ["11.0.0.0", "::a01:203"]),
        ] {
            for address in inside {
                assert!(contains(network, address), "{network} {address}");
            }
            for address in outside {
                assert!(!contains(network, address), "{network} {address}");
            }
        }
        assert!(!["0.0.0.0/0", "0.0.0.0", "::/0"].iter().any(|network| contains(network, &NO_ADDRESS.to_string())));
        assert!(contains("::/0", "2001:db8::1") && contains("::/0", "::ffff:1.2.3.4"));
    }

    #[test]
    fn every_prefix_is_its_first_bits() {
        for bits in 0..=32 {
            let network = format!("{}/{bits}", masked("255.255.255.255".parse().unwrap(), bits));
            assert!(contains(&network, "255.255.255.255"), "{network}");
            let other = Ipv4Addr::from_bits(u32::MAX ^ (1 << 31 >> bits.saturating_sub(1)));
            assert_eq!(contains(&network, &other.to_string()), bits == 0, "{network} {other}");
        }
        for bits in 0..=128 {
            let network = format!("{}/{bits}", masked(Ipv6Addr::from_bits(u128::MAX).into(), bits));
            assert!(contains(&network, &Ipv6Addr::from_bits(u128::MAX).to_string()), "{network}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "x", "10.0.0", "10.0.0.0.0", "10.0.0.0:1", "[::1]", "fe80::1%eth0", " 10.0.0.1", "/8"] {
            assert_eq!(Network::parse(text), Err(NetworkError::Address), "{text}");
        }
        for text in ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/8/8", "10.0.0.0/999"] {
            assert_eq!(Network::parse(text), Err(NetworkError::Bits(32)), "{text}");
        }
        assert_eq!(Network::parse("::/129"), Err(NetworkError::Bits(128)));
        let why = Network::parse("10.1.0.0/8").unwrap_err().to_string();
        assert_eq!(why, "it has bits beyond those that count; did you mean 10.0.0.0/8?");
    }

    #[test]
    fn every_truncation_is_read_back_or_refused() {
        for text in ["192.168.100.128/25", "2001:db8:1234::/48", "::ffff:10.0.0.0/104"] {
            for end in 0..=text.len() {
                if let Ok(network) = Network::parse(&text[..end]) {
                    assert_eq!(Network::parse(&network.to_string()), Ok(network));
                }
            }
        }
    }
}
