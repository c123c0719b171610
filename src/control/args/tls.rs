//! The flags for clients that connect over TLS: where, with which certificates, and how.

use std::{path::PathBuf, sync::Arc};

use clap::{ArgAction, Args};

use super::{
    super::{
        certificates::{self, CertificateFiles},
        values,
    },
    Given,
};
use crate::shard::{
    listen_addr::ListenAddr,
    tls::server::{Oldest, Pair, Server},
};

#[derive(Args, Debug)]
#[command(next_help_heading = "TLS (see docs/tls.md)")]
pub(super) struct TlsArgs {
    /// Address to take publishers and players on that speak TLS (rtmps://), as --rtmp has it. Needs --tls-cert or
    /// --tls-self-signed
    #[arg(long, env = "SHARDCAST_RTMPS", value_name = "ADDR", value_delimiter = ',', value_parser = values::rtmp_addr)]
    pub(super) rtmps: Vec<ListenAddr>,

    /// PEM file with this server's certificate and those between it and its authority. Repeat it for several: a client gets
    /// the first that has the name it asks for, else the first. Changed files are read again while the node runs
    #[arg(long, env = "SHARDCAST_TLS_CERT", value_name = "FILE", value_delimiter = ',')]
    tls_cert: Vec<PathBuf>,

    /// PEM file with the key of the certificate in the same place of the order [default: the key is in the certificate's file]
    #[arg(long, env = "SHARDCAST_TLS_KEY", value_name = "FILE", value_delimiter = ',')]
    tls_key: Vec<PathBuf>,

    /// Make a certificate on the spot, for trying out: no client trusts it unless told to
    #[arg(long, env = "SHARDCAST_TLS_SELF_SIGNED", action = ArgAction::SetTrue, value_parser = values::switch)]
    tls_self_signed: bool,

    /// Oldest version of TLS that is spoken: 1.2 or 1.3
    #[arg(long, env = "SHARDCAST_TLS_MIN_VERSION", value_name = "1.2|1.3", default_value = "1.2", value_parser = oldest)]
    tls_min_version: Oldest,

    /// Whether clients of TLS 1.3 get a ticket to resume their session with. Programs that use librtmp break on it. Sessions of
    /// TLS 1.2 can always be resumed
    #[arg(long, env = "SHARDCAST_TLS_TICKETS", value_name = "on|off", default_value = "off", action = ArgAction::Set)]
    #[arg(value_parser = values::on_off)]
    tls_tickets: bool,
}

fn oldest(text: &str) -> Result<Oldest, String> {
    match text {
        "1.2" => Ok(Oldest::Tls12),
        "1.3" => Ok(Oldest::Tls13),
        _ => Err("expected 1.2 or 1.3".to_owned()),
    }
}

/// How TLS is served.
#[derive(Debug, Default)]
pub(super) struct Served {
    pub(super) server: Option<Arc<Server>>,
    /// What its certificates were read from.
    pub(super) files: Option<CertificateFiles>,
}

impl TlsArgs {
    /// Reads the certificates. The error is one line.
    pub(super) fn served(&self, given: &Given, notes: &mut Vec<String>) -> Result<Served, String> {
        let (cert, key) = (given.origin("--tls-cert"), given.origin("--tls-key"));
        if self.rtmps.is_empty() {
            if self.tls_self_signed || !self.tls_cert.is_empty() {
                notes.push("no address speaks TLS; name one by --rtmps, such as --rtmps 1936".to_owned());
            }
            return Ok(Served::default());
        }
        let (pairs, files) = match (self.tls_cert.is_empty(), self.tls_self_signed) {
            (true, false) => {
                return Err(format!(
                    "{}: TLS needs a certificate; name its file by --tls-cert, or try out with --tls-self-signed",
                    given.origin("--rtmps")
                ));
            }
            (false, true) => return Err(format!("{cert}: with --tls-self-signed there is no other; leave one out")),
            (true, true) => (vec![self.self_signed()?], None),
            (false, false) if ![0, self.tls_cert.len()].contains(&self.tls_key.len()) => {
                let (certs, keys) = (self.tls_cert.len(), self.tls_key.len());
                return Err(format!(
                    "{key}: {keys} for {certs} certificates; name one for each --tls-cert, in the same order, or none if each \
                     is in its certificate's file"
                ));
            }
            (false, false) => {
                let files = CertificateFiles::new(&self.tls_cert, &self.tls_key);
                let pairs = files.read().map_err(|fault| {
                    let flag = if fault.is_key { &key } else { &cert };
                    format!("{flag} {:?}: {}", fault.path, fault.why)
                })?;
                (pairs, Some(files))
            }
        };
        notes.extend(certificates::expiry_notes(&pairs));
        let server = Server::new(pairs, self.tls_min_version, self.tls_tickets)?;
        Ok(Served { server: Some(Arc::new(server)), files })
    }

    fn self_signed(&self) -> Result<Pair, String> {
        let listens = self.rtmps.iter().filter_map(ListenAddr::tcp).collect::<Vec<_>>();
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Pair::self_signed(&host, &listens)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{fault, settings_of};

    #[test]
    fn a_certificate_made_on_the_spot_is_enough() {
        let settings =
            settings_of("--rtmps 127.0.0.1:1936,[::1]:1936 --tls-self-signed --tls-min-version 1.3").unwrap();
        assert_eq!(settings.config.rtmps.len(), 2);
        let server = settings.config.tls.unwrap();
        assert_eq!(server.pairs().len(), 1);
        assert!(settings.certificates.is_none(), "there are no files to read again");
    }

    #[test]
    fn without_addresses_there_is_no_tls() {
        let settings = settings_of("--tls-self-signed").unwrap();
        assert!(settings.config.tls.is_none() && settings.notes.iter().any(|note| note.contains("--rtmps 1936")));
        assert!(settings_of("").unwrap().notes.is_empty());
    }

    #[test]
    fn faults_say_what_to_do() {
        assert!(fault("--rtmps 1936").starts_with("--rtmps: TLS needs a certificate; name its file by --tls-cert"));
        assert!(fault("--rtmps 1936 --tls-self-signed --tls-cert a").starts_with("--tls-cert: with --tls-self-signed"));
        assert!(fault("--rtmps 1936 --tls-cert a --tls-cert b --tls-key k").starts_with("--tls-key: 1 for 2"));
        assert!(fault("--rtmps 1936 --tls-cert /nowhere.pem").starts_with("--tls-cert \"/nowhere.pem\": "));
        assert!(fault("--tls-min-version 1.1").contains("expected 1.2 or 1.3"));
        assert!(fault("--rtmp 1936 --rtmps 1936 --tls-self-signed").contains("--rtmp has that address too"));
        assert!(fault("--rtmps 1936 --rtmps 1936 --tls-self-signed").contains("given twice"));
    }
}
