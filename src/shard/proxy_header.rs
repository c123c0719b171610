//! The PROXY protocol, versions 1 and 2: what a load balancer says of a client before anything the client says.
//!
//! Bytes go in, an address comes out; whose word is taken, and until when it is waited for, is the driver's. Refused: whatever
//! does not begin as a header does, from the first byte that differs; addresses that are none; headers longer than
//! [`PROXY_V1_BYTES_MAX`] and [`PROXY_V2_BYTES_MAX`]; a checksum of version 2 that is wrong, where it
//! has addresses. What else version 2 says besides them is skipped.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use crate::limits::{PROXY_V1_BYTES_MAX, PROXY_V2_BYTES_MAX};

const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Start, version and command, family and protocol, length of the rest.
const V2_FIXED_BYTES: usize = V2_START.len() + 4;

/// PP2_TYPE_CRC32C, of which the value is that of the header with zeros in its place.
const V2_CHECKSUM: u8 = 0x03;
const V2_CHECKSUM_BYTES: usize = 4;

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    At(SocketAddr),
    /// Whoever connected: the balancer looks after its own health (LOCAL), or does not know, or its client has no address that
    /// TCP has.
    Itself,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error(
        "it does not begin with a PROXY header, though it comes from --proxy-trusted: have it send one (send-proxy-v2)"
    )]
    Absent,
    #[error("its PROXY header is broken: {0}")]
    Broken(&'static str),
}

/// A header as far as it has come.
#[derive(Debug, Default)]
pub struct HeaderReader {
    bytes: Vec<u8>,
}

impl HeaderReader {
    /// Takes from `input` what is the header's; what follows it is left. `None`: more of it is to come.
    pub fn receive(&mut self, input: &mut &[u8]) -> Result<Option<Client>, HeaderError> {
        while let Some((byte, rest)) = input.split_first() {
            *input = rest;
            self.bytes.push(*byte);
            if let Some(client) = self.read()? {
                return Ok(Some(client));
            }
        }
        Ok(None)
    }

    fn read(&self) -> Result<Option<Client>, HeaderError> {
        let bytes = &self.bytes[..];
        let begins = |start: &[u8]| bytes.iter().zip(start).all(|(byte, expected)| byte == expected);
        match (begins(V1_START), begins(V2_START)) {
            (true, _) if bytes.len() < V1_START.len() => Ok(None),
            (true, _) => read_v1(bytes),
            (_, true) => read_v2(bytes),
            _ => Err(HeaderError::Absent),
        }
    }
}

fn read_v1(bytes: &[u8]) -> Result<Option<Client>, HeaderError> {
    let Some(line) = bytes.strip_suffix(b"\r\n") else {
        return match bytes.len() {
            ..PROXY_V1_BYTES_MAX => Ok(None),
            _ => Err(HeaderError::Broken("its line does not end")),
        };
    };
    let broken = HeaderError::Broken;
    let line = str::from_utf8(line).map_err(|_| broken("it is not ASCII"))?;
    let mut words = line.split(' ').skip(1);
    let family = words.next();
    if family == Some("UNKNOWN") {
        return Ok(Some(Client::Itself));
    }
    let words = words.collect::<Vec<_>>();
    let &[source, destination, source_port, destination_port] = &words[..] else {
        return Err(broken("expected two addresses and two ports"));
    };
    let read: fn(&str) -> Option<IpAddr> = match family {
        Some("TCP4") => |text| Ipv4Addr::from_str(text).ok().map(IpAddr::V4),
        Some("TCP6") => |text| Ipv6Addr::from_str(text).ok().map(IpAddr::V6),
        _ => return Err(broken("expected TCP4, TCP6 or UNKNOWN")),
    };
    let (Some(source), Some(_)) = (read(source), read(destination)) else {
        return Err(broken("an address is none"));
    };
    let (Some(port), Some(_)) = (port(source_port), port(destination_port)) else {
        return Err(broken("a port is none"));
    };
    client(source, port).map(Some)
}

fn client(ip: IpAddr, port: u16) -> Result<Client, HeaderError> {
    match ip.to_canonical() {
        ip if ip.is_unspecified() => Err(HeaderError::Broken("nobody connects from the unspecified address")),
        ip => Ok(Client::At(SocketAddr::new(ip, port))),
    }
}

fn port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_number)
}

fn read_v2(bytes: &[u8]) -> Result<Option<Client>, HeaderError> {
    let Some((fixed, rest)) = bytes.split_at_checked(V2_FIXED_BYTES) else { return Ok(None) };
    let &[version_and_command, family, high, low] = &fixed[V2_START.len()..] else { return Ok(None) };
    let is_local = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(HeaderError::Broken("expected version 2 and LOCAL or PROXY")),
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if V2_FIXED_BYTES + length > PROXY_V2_BYTES_MAX {
        return Err(HeaderError::Broken("it is too long"));
    }
    if rest.len() < length {
        return Ok(None);
    }
    let too_short = HeaderError::Broken("it is too short for its addresses");
    // Source and destination address, source and destination port.
    let at = match family {
        _ if is_local => return Ok(Some(Client::Itself)),
        0x11 => {
            let (address, rest) = rest.split_first_chunk::<4>().ok_or(too_short)?;
            (IpAddr::from(*address), rest.get(4..8))
        }
        0x21 => {
            let (address, rest) = rest.split_first_chunk::<16>().ok_or(too_short)?;
            (IpAddr::from(*address), rest.get(16..20))
        }
        _ => return Ok(Some(Client::Itself)),
    };
    let (address, Some(&[high, low, _, _])) = at else { return Err(too_short) };
    let addresses_bytes = if address.is_ipv4() { 12 } else { 36 };
    check_rest(bytes, V2_FIXED_BYTES + addresses_bytes)?;
    client(address, u16::from_be_bytes([high, low])).map(Some)
}

/// Of a whole header, in which what it says besides addresses begins at `at`: it has to be whole, and a checksum right.
fn check_rest(header: &[u8], mut at: usize) -> Result<(), HeaderError> {
    while at < header.len() {
        let broken = HeaderError::Broken("what it says besides addresses is cut off");
        let &[kind, high, low] = header.get(at..at + 3).ok_or(broken)? else { return Err(broken) };
        let value = at + 3;
        let end = value + usize::from(u16::from_be_bytes([high, low]));
        let said = header.get(value..end).ok_or(broken)?;
        if kind == V2_CHECKSUM {
            let parts = header.iter().take(value).chain(&[0; V2_CHECKSUM_BYTES]).chain(header.iter().skip(end));
            if said != crc32c(parts).to_be_bytes() {
                return Err(HeaderError::Broken("its checksum is wrong"));
            }
        }
        at = end;
    }
    Ok(())
}

/// CRC-32C (RFC 3720, B.4). One bit after another: for a few hundred bytes, once a connection.
fn crc32c<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    !bytes.fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg()))
    })
}

/// For whom this node connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behalf {
    Own,
    Of(SocketAddr),
}

impl Behalf {
    /// The header, version 2, of a connection to `peer`.
    pub fn header(self, peer: SocketAddr) -> Vec<u8> {
        version_2(match self {
            Self::Own => None,
            Self::Of(client) => Some((client, peer)),
        })
    }
}

/// The header, version 2, of a connection from `source` to `destination`; without them, of one that this node makes for itself.
pub fn version_2(ends: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let mut addresses = Vec::new();
    let (command, family) = match ends {
        None => (0x20, 0),
        Some((SocketAddr::V4(source), SocketAddr::V4(destination))) => {
            addresses.extend(source.ip().octets());
            addresses.extend(destination.ip().octets());
            (0x21, 0x11)
        }
        Some((source, destination)) => {
            for end in [source, destination] {
                let ip = match end.ip() {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                    IpAddr::V6(ip) => ip,
                };
                addresses.extend(ip.octets());
            }
            (0x21, 0x21)
        }
    };
    if let Some((source, destination)) = ends {
        addresses.extend(source.port().to_be_bytes());
        addresses.extend(destination.port().to_be_bytes());
    }
    let mut header = V2_START.to_vec();
    header.extend([command, family, 0, addresses.len() as u8]);
    header.extend(addresses);
    header
}

#[cfg(test)]
#[path = "proxy_header_tests.rs"]
mod tests;
