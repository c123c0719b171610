//! What the program says on stdout once it listens: where, on what, and the commands to try it with.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use super::cores;
use crate::shard::{
    fleet::ShardFacts,
    listen_addr::ListenAddr,
    tls::server::{Pair, Server},
};

/// What the banner tells.
pub(super) struct Banner<'a> {
    pub(super) rtmp: &'a [ListenAddr],
    pub(super) rtmps: &'a [ListenAddr],
    /// What clients meet there.
    pub(super) tls: Option<&'a Server>,
    pub(super) shards: &'a [ShardFacts],
    /// Why io_uring is not used, if it was wanted.
    pub(super) uring_denied: Option<&'a str>,
    pub(super) kernel: &'a str,
    pub(super) admin: Option<SocketAddr>,
    pub(super) pid: u32,
}

impl Banner<'_> {
    /// Ends with the line `ready`.
    pub(super) fn text(&self) -> String {
        let list = |addrs: &[ListenAddr]| addrs.iter().map(ListenAddr::to_string).collect::<Vec<_>>().join(", ");
        let rtmp = list(self.rtmp);
        let admin = self.admin.map_or_else(|| "off".to_owned(), |addr| format!("http://{}/", reachable(addr)));
        let driver = self.shards.first().map_or("no driver", |facts| facts.driver);
        let mut text = format!("shardcast {}\n", env!("CARGO_PKG_VERSION"));
        // Writing to a String does not fail.
        let _ = writeln!(text, "rtmp:   {rtmp}");
        if !self.rtmps.is_empty() {
            let _ = writeln!(text, "rtmps:  {}", list(self.rtmps));
        }
        let _ = writeln!(text, "shards: {}; {driver} on Linux {}", placement(self.shards), self.kernel);
        if let Some(why) = self.uring_denied {
            let why = why.replace(['\n', '\r'], " ");
            let _ = writeln!(text, "note:   io_uring is denied here ({why}); epoll is used, at more CPU per player");
        }
        let _ = writeln!(text, "admin:  {admin}");
        if let Some(addr) = self.rtmp.iter().find_map(ListenAddr::tcp) {
            text.push_str(&trial(addr));
        }
        if let Some((addr, pair)) = self.rtmps.iter().find_map(ListenAddr::tcp).zip(self.self_signed()) {
            text.push_str(&secure_trial(addr, &pair));
        }
        let _ = writeln!(text, "\nStop it: Ctrl-C or kill {}. All options: shardcast --help", self.pid);
        text.push_str("ready\n");
        text
    }

    fn self_signed(&self) -> Option<Pair> {
        self.tls.and_then(|server| server.pairs().iter().find(|pair| pair.is_self_signed()).cloned())
    }
}

/// How to connect to `addr`, where `pair` was made on the spot.
fn secure_trial(addr: SocketAddr, pair: &Pair) -> String {
    format!(
        "
Over TLS, with a certificate that was made just now and that no client trusts unless told to:
  ffplay -tls_verify 0 -fflags nobuffer rtmps://{}/live/show
Its SHA-256 fingerprint: {}
",
        reachable(addr),
        pair.fingerprint()
    )
}

/// The commands that publish and play over `addr`.
fn trial(addr: SocketAddr) -> String {
    let url = format!("rtmp://{}/live/show", reachable(addr));
    format!(
        "
Publish a test picture and tone:
  ffmpeg -re -f lavfi -i testsrc2=size=1280x720:rate=30 -f lavfi -i sine=frequency=440:sample_rate=48000 \\
    -c:v libx264 -preset veryfast -tune zerolatency -pix_fmt yuv420p -g 60 -c:a aac -f flv {url}
Play it, in another terminal:
  ffplay -fflags nobuffer {url}
"
    )
}

/// An address this machine can connect to: loopback in place of "every address".
fn reachable(addr: SocketAddr) -> SocketAddr {
    match addr.ip().is_unspecified() {
        true => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), addr.port()),
        false => addr,
    }
}

fn placement(shards: &[ShardFacts]) -> String {
    let mut cpus = shards.iter().filter_map(|facts| facts.cpu).collect::<Vec<_>>();
    cpus.sort_unstable();
    cpus.dedup();
    match cpus.len() {
        0 => format!("{}, not pinned", shards.len()),
        1 => format!("{}, on CPU {}", shards.len(), cores::list(&cpus)),
        _ => format!("{}, on CPUs {}", shards.len(), cores::list(&cpus)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::tls::server::Oldest;

    fn shard(shard: usize, cpu: Option<usize>) -> ShardFacts {
        ShardFacts { shard, cpu, driver: "io_uring" }
    }

    #[test]
    fn it_says_what_runs_and_what_to_try() {
        let shards = [shard(0, Some(1)), shard(1, Some(0))];
        let tcp = |addr: &str| ListenAddr::Tcp(addr.parse().unwrap());
        let rtmp = [ListenAddr::Unix("/run/s.sock".into()), tcp("[::]:1936"), tcp("10.0.0.1:1935")];
        let pair = Pair::self_signed("", &[]).unwrap();
        let server = Server::new(vec![pair], Oldest::default(), false).unwrap();
        let text = Banner {
            rtmp: &rtmp,
            rtmps: &[tcp("[::]:1937")],
            tls: Some(&server),
            shards: &shards,
            uring_denied: None,
            kernel: "6.1.0",
            admin: Some("0.0.0.0:9090".parse().unwrap()),
            pid: 42,
        }
        .text();
        for part in [
            "rtmp:   unix:/run/s.sock, [::]:1936, 10.0.0.1:1935\n",
            "rtmps:  [::]:1937\n",
            "ffplay -tls_verify 0 -fflags nobuffer rtmps://127.0.0.1:1937/live/show\n",
            "SHA-256 fingerprint: ",
            "shards: 2, on CPUs 0-1; io_uring on Linux 6.1.0\n",
            "admin:  http://127.0.0.1:9090/\n",
            "-f flv rtmp://127.0.0.1:1936/live/show\n",
            "ffplay -fflags nobuffer rtmp://127.0.0.1:1936/live/show\n",
            "kill 42",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(text.ends_with("\nready\n") && !text.contains("denied"));
    }

    #[test]
    fn denied_io_uring_is_one_line() {
        let text = Banner {
            rtmp: &[ListenAddr::Tcp("[::1]:1935".parse().unwrap())],
            rtmps: &[],
            tls: None,
            shards: &[ShardFacts { shard: 0, cpu: None, driver: "epoll (legacy)" }],
            uring_denied: Some("Operation not\npermitted"),
            kernel: "6.1.0",
            admin: None,
            pid: 1,
        }
        .text();
        assert!(text.contains("denied here (Operation not permitted); epoll is used"), "{text}");
        assert!(text.contains("1, not pinned; epoll (legacy)") && text.contains("admin:  off"), "{text}");
        assert!(text.contains("rtmp://[::1]:1935/live/show"), "{text}");
    }
}
