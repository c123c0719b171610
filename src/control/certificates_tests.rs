use base64::Engine;
use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::{control::reload::Cause, shard::tls::server::Oldest};

/// `der` as PEM.
fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("shardcast-certificates-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    /// `name.pem` and `name.key`, which count for so many more days.
    fn make(&self, name: &str, days: i64) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).expect("a name");
        let day = std::time::Duration::from_secs(24 * 60 * 60);
        params.not_after = SystemTime::now().into();
        let days_away = day * u32::try_from(days.unsigned_abs()).expect("few");
        if days < 0 {
            params.not_after -= days_away
        } else {
            params.not_after += days_away
        }
        let chain = pem("CERTIFICATE", params.self_signed(&key).expect("sound").der());
        std::fs::write(self.0.join(format!("{name}.pem")), chain).expect("a file");
        let key = pem("PRIVATE KEY", &key.serialize_der());
        std::fs::write(self.0.join(format!("{name}.key")), key).expect("a file");
    }

    fn files(&self, name: &str) -> CertificateFiles {
        CertificateFiles::new(&[self.0.join(format!("{name}.pem"))], &[self.0.join(format!("{name}.key"))])
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn one_that_has_expired_does_not_replace_one_that_counts() {
    let folder = Folder::new("expired");
    folder.make("a", 30);
    let files = folder.files("a");
    let server = Arc::new(Server::new(files.read().unwrap(), Oldest::default(), false).unwrap());
    let before = server.pairs()[0].fingerprint();
    let mut reload = files.reload(Arc::clone(&server));
    folder.make("a", -1);
    let refused = reload.reload(Cause::Hangup).expect_err("expired");
    assert!(refused.contains("a.pem: it has expired"), "{refused}");
    assert_eq!(server.pairs()[0].fingerprint(), before);
    folder.make("a", 60);
    assert_eq!(reload.reload(Cause::Hangup), Ok(()));
    assert_ne!(server.pairs()[0].fingerprint(), before);
}

#[test]
fn a_node_that_serves_an_expired_one_takes_any() {
    let folder = Folder::new("late");
    folder.make("a", -2);
    let files = folder.files("a");
    let server = Arc::new(Server::new(files.read().unwrap(), Oldest::default(), false).unwrap());
    folder.make("a", -1);
    assert_eq!(files.reload(Arc::clone(&server)).reload(Cause::Hangup), Ok(()));
}

#[test]
fn what_expires_is_said_in_time() {
    let folder = Folder::new("soon");
    for (days, part) in [(-1, Some("has expired")), (5, Some("; renew it")), (15, None)] {
        folder.make("a", days);
        let notes = expiry_notes(&folder.files("a").read().unwrap());
        assert_eq!(notes.first().map(|note| note.contains(part.unwrap_or("?"))), part.map(|_| true), "{notes:?}");
    }
}

#[test]
fn faults_name_the_file() {
    let folder = Folder::new("faults");
    folder.make("a", 30);
    folder.make("b", 30);
    let path = |name: &str| folder.0.join(name);
    for (certificate, key, is_key, part) in [
        ("a.pem", Some("b.key"), true, "the key of another certificate"),
        ("a.pem", None, false, "name the file of its key by --tls-key"),
        ("a.pem", Some("no.key"), true, "No such file"),
        ("no.pem", Some("a.key"), false, "No such file"),
    ] {
        let keys = key.map(path).into_iter().collect::<Vec<_>>();
        let fault = CertificateFiles::new(&[path(certificate)], &keys).read().expect_err("unusable");
        assert!(fault.is_key == is_key && fault.why.contains(part), "{fault:?}");
        assert_eq!(fault.path, path(if is_key { key.unwrap() } else { certificate }));
    }
    std::fs::write(path("long.pem"), vec![b'\n'; TLS_FILE_BYTES_MAX as usize + 1]).expect("a file");
    assert!(CertificateFiles::new(&[path("long.pem")], &[]).read().expect_err("too long").why.contains("longer than"));
    let many = vec![path("a.pem"); TLS_PAIRS_MAX + 1];
    assert!(CertificateFiles::new(&many, &[]).read().expect_err("too many").why.contains("more than"));
}
