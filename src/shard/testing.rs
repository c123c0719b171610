//! What the tests of the shards' sockets share.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{self, Command},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rustls::{
    ServerConfig, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use socket2::{Domain, Socket, Type};

/// A new folder of its own, removed with all that is in it.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(name: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("shardcast-{name}-{}-{number}", process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for temporary files");
        Self(folder)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A root authority, one in the middle, and servers' certificates of the latter, made by openssl.
pub(super) struct Chain {
    folder: Folder,
}

impl Chain {
    pub(super) fn new() -> Self {
        let chain = Self { folder: Folder::new("chain") };
        let name = chain.folder.0.file_name().expect("it has one").to_string_lossy();
        chain.openssl(&format!(
            "req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2 -subj /CN={name} \
             -keyout root.key -out root.pem"
        ));
        chain.sign("middle", "root", "2", "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign");
        chain
    }

    /// The only root certificate that vouches for it.
    pub(super) fn root(&self) -> PathBuf {
        self.folder.path("root.pem")
    }

    fn openssl(&self, line: &str) {
        let output = Command::new("openssl").args(line.split_whitespace()).current_dir(&self.folder.0).output();
        let output = output.expect("openssl is on PATH");
        assert!(output.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn sign(&self, name: &str, by: &str, days: &str, extensions: &str) {
        std::fs::write(self.folder.path("extensions"), extensions).expect("a file");
        self.openssl(&format!(
            "req -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -subj /CN={name} -keyout {name}.key -out {name}.csr"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {by}.pem -CAkey {by}.key -CAcreateserial -days {days} -extfile extensions \
             -out {name}.pem"
        ));
    }

    /// A server for localhost, 127.0.0.1 and origin.example. After zero `days` its certificate expires within a second.
    pub(super) fn server(&self, days: u32, versions: &[&'static SupportedProtocolVersion]) -> Arc<ServerConfig> {
        let names = "subjectAltName=DNS:localhost,DNS:origin.example,IP:127.0.0.1\nbasicConstraints=CA:FALSE";
        let name = format!("server{days}");
        self.sign(&name, "middle", &days.to_string(), names);
        let certificate = |name: &str| {
            CertificateDer::from_pem_file(self.folder.path(&format!("{name}.pem"))).expect("openssl made it")
        };
        let key = PrivateKeyDer::from_pem_file(self.folder.path(&format!("{name}.key"))).expect("openssl made it");
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(versions)
            .expect("versions ring has")
            .with_no_client_auth()
            .with_single_cert(vec![certificate(&name), certificate("middle")], key);
        Arc::new(config.expect("a key of that certificate"))
    }
}

/// A listener whose backlog is full: further connections are neither accepted nor refused. The sockets fill it.
pub(super) fn black_hole(ip: Ipv4Addr) -> (Socket, u16, Vec<Socket>) {
    let hole = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    hole.bind(&SocketAddr::from((ip, 0)).into()).expect("a free port");
    hole.listen(0).expect("it listens");
    let addr = hole.local_addr().expect("bound");
    let fill = (0..4)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.set_nonblocking(true).expect("a flag");
            let _ = socket.connect(&addr);
            socket
        })
        .collect();
    thread::sleep(Duration::from_millis(50));
    (hole, addr.as_socket().expect("IPv4").port(), fill)
}
