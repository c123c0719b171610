//! Certificates that openssl signs with their own keys, and what its client sees of a server.

use std::{net::SocketAddr, path::PathBuf, process::Command};

use crate::common::{
    seconds,
    tool::{Client, require, scratch},
};

/// A folder with certificates and keys.
pub struct Files(PathBuf);

impl Files {
    pub fn new() -> Self {
        let folder = scratch("certificates");
        std::fs::create_dir_all(&folder).expect("the build's temporary folder can be written");
        Self(folder)
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a name in UTF-8").to_owned()
    }

    /// `NAME.pem` and `NAME.key`, for `hosts`, whose common name is `common`.
    pub fn make(&self, name: &str, common: &str, hosts: &[&str], days: u32) {
        let hosts = hosts.iter().map(|host| format!("DNS:{host}")).collect::<Vec<_>>().join(",");
        let line = format!(
            "req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days {days} -subj /CN={common} \
             -addext subjectAltName={hosts} -keyout {name}.key -out {name}.pem"
        );
        let output = Command::new(require("openssl")).args(line.split_whitespace()).current_dir(&self.0).output();
        let output = output.expect("it is on PATH");
        assert!(output.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// As certbot does: a new file takes the place of the old one.
    pub fn replace(&self, name: &str, by: &str) {
        for end in ["pem", "key"] {
            std::fs::copy(self.path(&format!("{by}.{end}")), self.path("next")).expect("it is there");
            std::fs::rename(self.path("next"), self.path(&format!("{name}.{end}"))).expect("the same folder");
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What `openssl s_client` prints, with further `flags`; it says nothing and goes at once.
pub fn s_client(addr: SocketAddr, flags: &str) -> String {
    let mut client = Command::new(require("openssl"));
    client.args(["s_client", "-connect", &addr.to_string()]).args(flags.split_whitespace());
    let ended = Client::spawn(&mut client).wait(seconds(20));
    ended.stdout + &ended.stderr
}

/// The common name of the certificate that a client sees which asks for `host`.
pub fn shown(addr: SocketAddr, host: Option<&str>, flags: &str) -> String {
    let host = host.map_or_else(|| "-noservername".to_owned(), |host| format!("-servername {host}"));
    let printed = s_client(addr, &format!("{host} {flags}"));
    let subject = printed.lines().find_map(|line| line.strip_prefix("subject=")).unwrap_or_default();
    let (_, common) = subject.split_once("CN").unwrap_or_else(|| panic!("no certificate in {printed}"));
    common.trim_start_matches([' ', '=']).to_owned()
}
