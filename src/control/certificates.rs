//! The files with this node's certificates and keys: read at start, and again when they change.
//!
//! All of them are read before any is shown. A set with a file that cannot be used, or with a certificate that has expired, does
//! not replace one that works. Bound: [`TLS_FILE_BYTES_MAX`] bytes of a file.

use std::{
    fmt::Write as _,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use super::reload::Reload;
use crate::{
    limits::{TLS_EXPIRY_WARNING, TLS_FILE_BYTES_MAX, TLS_PAIRS_MAX},
    shard::tls::server::{Pair, PairFault, Server},
};

/// See the file's head.
#[derive(Clone, Debug)]
pub(super) struct CertificateFiles {
    /// With the file of its key, if that is another.
    pairs: Vec<(PathBuf, Option<PathBuf>)>,
}

/// What is wrong with a file.
#[derive(Debug)]
pub(super) struct FileFault {
    /// It is of `--tls-key`.
    pub(super) is_key: bool,
    pub(super) path: PathBuf,
    pub(super) why: String,
}

impl CertificateFiles {
    /// `keys` has a file for each of `certificates`, or none.
    pub(super) fn new(certificates: &[PathBuf], keys: &[PathBuf]) -> Self {
        let keys = keys.iter().cloned().map(Some).chain(std::iter::repeat(None));
        Self { pairs: certificates.iter().cloned().zip(keys).collect() }
    }

    pub(super) fn read(&self) -> Result<Vec<Pair>, FileFault> {
        if let Some((path, _)) = self.pairs.get(TLS_PAIRS_MAX) {
            let why = format!("more than {TLS_PAIRS_MAX} certificates");
            return Err(FileFault { is_key: false, path: path.clone(), why });
        }
        for (index, (path, _)) in self.pairs.iter().enumerate() {
            if self.pairs[..index].iter().any(|(before, _)| before == path) {
                return Err(FileFault { is_key: false, path: path.clone(), why: "given twice".to_owned() });
            }
        }
        self.pairs.iter().map(|(certificate, key)| read_pair(certificate, key.as_deref())).collect()
    }

    /// What replaces the certificates of `server` when the files change.
    pub(super) fn reload(self, server: Arc<Server>) -> Reload {
        let paths = self.pairs.iter().flat_map(|(certificate, key)| std::iter::once(certificate).chain(key)).cloned();
        Reload::new("certificates", paths.collect(), move |_| {
            let pairs = self.read().map_err(|fault| format!("{}: {}", fault.path.display(), fault.why))?;
            let serves_expired = server.pairs().iter().any(|pair| left_s(pair) <= 0);
            if let Some(expired) = pairs.iter().find(|pair| left_s(pair) <= 0).filter(|_| !serves_expired) {
                return Err(format!("{}: it has expired", expired.name()));
            }
            for note in expiry_notes(&pairs) {
                tracing::warn!("{note}");
            }
            let count = pairs.len();
            server.replace(pairs);
            tracing::info!(count, "certificates were read again and count from now on");
            Ok(None)
        })
    }
}

fn read_pair(certificate: &Path, key: Option<&Path>) -> Result<Pair, FileFault> {
    let chain = read(certificate).map_err(|why| FileFault { is_key: false, path: certificate.to_owned(), why })?;
    let of_key = key.map(|path| read(path).map_err(|why| FileFault { is_key: true, path: path.to_owned(), why }));
    let of_key = of_key.transpose()?;
    Pair::from_pem(&certificate.display().to_string(), &chain, of_key.as_ref().unwrap_or(&chain)).map_err(
        |fault| match (fault, key) {
            (PairFault::Certificate(why), _) => FileFault { is_key: false, path: certificate.to_owned(), why },
            (PairFault::Key(why), Some(key)) => FileFault { is_key: true, path: key.to_owned(), why },
            (PairFault::Key(why), None) => {
                let why = format!("{why}; name the file of its key by --tls-key");
                FileFault { is_key: false, path: certificate.to_owned(), why }
            }
        },
    )
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(TLS_FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Ok(count) if count as u64 > TLS_FILE_BYTES_MAX => Err(format!("longer than {TLS_FILE_BYTES_MAX} bytes")),
        Ok(_) => Ok(bytes),
        Err(error) => Err(error.to_string()),
    }
}

/// Seconds until it expires.
fn left_s(pair: &Pair) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    pair.expires_unix_s().saturating_sub_unsigned(now)
}

/// Of those that have expired, or soon will.
pub(super) fn expiry_notes(pairs: &[Pair]) -> Vec<String> {
    let note = |pair: &Pair| {
        let (name, left) = (pair.name(), left_s(pair));
        let days = left / (24 * 60 * 60);
        match left {
            ..=0 => Some(format!("the certificate {name} has expired; clients refuse it until it is renewed")),
            _ if left.unsigned_abs() <= TLS_EXPIRY_WARNING.as_secs() => {
                Some(format!("the certificate {name} expires in {days} days; renew it"))
            }
            _ => None,
        }
    };
    pairs.iter().filter_map(note).collect()
}

/// For `/metrics`.
pub(super) fn expose(out: &mut String, server: &Server) {
    let name = "shardcast_tls_certificate_expiry_seconds";
    // Writing to a String does not fail.
    let _ = writeln!(out, "# HELP {name} Seconds until the certificate expires; less than 0 once it has.");
    let _ = writeln!(out, "# TYPE {name} gauge");
    for pair in server.pairs().iter() {
        let certificate = pair.name().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = writeln!(out, "{name}{{certificate=\"{certificate}\"}} {}", left_s(pair));
    }
}

#[cfg(test)]
#[path = "certificates_tests.rs"]
mod tests;
