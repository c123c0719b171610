//! The kernel's table of TCP sockets: whether a server on this machine still serves a connection.

use std::collections::HashSet;
use std::fs;

/// TCP_ESTABLISHED, as the table prints it.
const ESTABLISHED: &str = "01";

/// Remote ports of the connections that a server on `port` holds open; `None` if there is none, as for a server on
/// another machine.
pub fn served_ports(port: u16) -> Option<HashSet<u16>> {
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let mut known = false;
    let mut served = HashSet::new();
    for (local, remote, state) in tables.iter().flat_map(|table| table.lines()).filter_map(parse) {
        // The listener itself shows that the server is here.
        known |= local == port;
        if local == port && state == ESTABLISHED {
            served.insert(remote);
        }
    }
    known.then_some(served)
}

/// Local port, remote port and state of one line.
fn parse(line: &str) -> Option<(u16, u16, &str)> {
    let mut fields = line.split_whitespace().skip(1);
    let mut port = || u16::from_str_radix(fields.next()?.rsplit_once(':')?.1, 16).ok();
    let (local, remote) = (port()?, port()?);
    Some((local, remote, fields.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn lines_of_the_table_are_read() {
        let line =
            "   0: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000  0 0 1 1 0 20 4 30 10 -1";
        assert_eq!(parse(line), Some((0x1F90, 0xC350, "01")));
        assert_eq!(parse("  sl  local_address rem_address   st tx_queue"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn a_connection_is_served_until_the_server_closes_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let client_port = client.local_addr().unwrap().port();
        let accepted = listener.accept().unwrap().0;
        assert!(served_ports(port).unwrap().contains(&client_port));
        drop(accepted);
        assert!(!served_ports(port).unwrap().contains(&client_port));
    }
}
