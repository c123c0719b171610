//! Whether the addresses to listen on are apart from each other.

use std::net::SocketAddr;

use super::Given;
use crate::shard::listen_addr::ListenAddr;

/// The error is one line.
pub(super) fn check(
    rtmp: &[ListenAddr],
    rtmps: &[ListenAddr],
    admin: Option<SocketAddr>,
    given: &Given,
) -> Result<(), String> {
    for (flag, addrs) in [("--rtmp", rtmp), ("--rtmps", rtmps)] {
        for (index, addr) in addrs.iter().enumerate() {
            if is_certain(addr) && addrs[..index].contains(addr) {
                return Err(format!("{} \"{addr}\": given twice", given.origin(flag)));
            }
        }
    }
    if let Some(addr) = rtmps.iter().find(|addr| is_certain(addr) && rtmp.contains(addr)) {
        return Err(format!("{} \"{addr}\": --rtmp has that address too", given.origin("--rtmps")));
    }
    let Some(admin) = admin else { return Ok(()) };
    let meets = |addr: &SocketAddr| {
        let everywhere = addr.ip().is_unspecified() || admin.ip().is_unspecified();
        admin.port() != 0 && addr.port() == admin.port() && (everywhere || addr.ip() == admin.ip())
    };
    for (flag, addrs) in [("--rtmp", rtmp), ("--rtmps", rtmps)] {
        if addrs.iter().filter_map(ListenAddr::tcp).any(|addr| meets(&addr)) {
            return Err(format!("--admin \"{admin}\": {flag} has that port too; choose another for one of them"));
        }
    }
    Ok(())
}

/// The system does not choose its port.
fn is_certain(addr: &ListenAddr) -> bool {
    addr.tcp().is_none_or(|addr| addr.port() != 0)
}
