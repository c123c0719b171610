//! Certificates that openssl makes, and what ends TLS in front of a node, which has none of its own.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustls::{
    ServerConfig, ServerConnection,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::common::tool::{require, scratch};

/// A root authority, one in the middle, and servers' certificates of the latter.
pub struct Authority {
    folder: PathBuf,
}

impl Authority {
    pub fn new() -> Self {
        let authority = Self { folder: scratch("certificates") };
        std::fs::create_dir_all(&authority.folder).expect("the build's temporary folder can be written");
        // Two authorities are not to have the same name: one would be taken for a forgery of the other.
        let name = authority.folder.file_name().expect("it has one").to_string_lossy();
        authority.openssl(&format!(
            "req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2 -subj /CN={name} \
             -keyout root.key -out root.pem"
        ));
        authority.sign("middle", "root", "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign");
        authority
    }

    /// The only certificate that is to be trusted.
    pub fn root(&self) -> PathBuf {
        self.folder.join("root.pem")
    }

    /// A server for `name`, with a certificate that the one in the middle vouches for.
    pub fn server(&self, name: &str) -> Arc<ServerConfig> {
        self.sign(name, "middle", &format!("subjectAltName=DNS:{name}\nbasicConstraints=CA:FALSE"));
        let file = |name: &str, end: &str| self.folder.join(format!("{name}.{end}"));
        let certificate = |name| CertificateDer::from_pem_file(file(name, "pem")).expect("openssl made it");
        let key = PrivateKeyDer::from_pem_file(file(name, "key")).expect("openssl made it");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_no_client_auth()
            .with_single_cert(vec![certificate(name), certificate("middle")], key);
        Arc::new(config.expect("a key of that certificate"))
    }

    #[track_caller]
    fn openssl(&self, line: &str) {
        let mut command = Command::new(require("openssl"));
        let output = command.args(line.split_whitespace()).current_dir(&self.folder).output().expect("it is on PATH");
        assert!(output.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn sign(&self, name: &str, by: &str, extensions: &str) {
        std::fs::write(self.folder.join("extensions"), extensions).expect("the folder can be written");
        self.openssl(&format!(
            "req -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -subj /CN={name} -keyout {name}.key -out {name}.csr"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {by}.pem -CAkey {by}.key -CAcreateserial -days 2 -extfile extensions -out {name}.pem"
        ));
    }
}

/// How long a thread waits on one side before it looks at the other.
const TURN: Duration = Duration::from_millis(1);

/// Ends TLS in front of a node's plain port. Dropping it ends all of its connections.
pub struct Front {
    addr: SocketAddr,
    ended: Arc<AtomicBool>,
}

impl Front {
    pub fn start(config: Arc<ServerConfig>, node: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let ended = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ended);
        std::thread::spawn(move || {
            for outside in listener.incoming().map_while(Result::ok) {
                if flag.load(Ordering::Relaxed) {
                    return;
                }
                let (tls, flag) =
                    (ServerConnection::new(Arc::clone(&config)).expect("a sound config"), Arc::clone(&flag));
                // The other side may go at any time, as it does when it does not like the certificate.
                std::thread::spawn(move || drop(forward(tls, outside, node, &flag)));
            }
        });
        Self { addr, ended }
    }

    /// The URL of a stream behind it.
    pub fn url(&self, name: &str) -> String {
        format!("rtmps://localhost:{}/live/{name}", self.addr.port())
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect_timeout(&self.addr, Duration::from_millis(100));
    }
}

fn forward(
    mut tls: ServerConnection,
    mut outside: TcpStream,
    node: SocketAddr,
    ended: &AtomicBool,
) -> std::io::Result<()> {
    let mut node = TcpStream::connect(node)?;
    for socket in [&outside, &node] {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(TURN))?;
    }
    let mut block = vec![0; 64 * 1024];
    while !ended.load(Ordering::Relaxed) {
        if let Some(count) = nothing_yet(tls.read_tls(&mut outside))? {
            let state = tls.process_new_packets();
            // It says to the other side what is wrong.
            while tls.wants_write() {
                tls.write_tls(&mut outside)?;
            }
            state.map_err(std::io::Error::other)?;
            while let Some(read @ 1..) = nothing_yet(tls.reader().read(&mut block))? {
                node.write_all(&block[..read])?;
            }
            if count == 0 {
                return node.shutdown(Shutdown::Write);
            }
        }
        match nothing_yet(node.read(&mut block))? {
            Some(0) => tls.send_close_notify(),
            Some(read) => tls.writer().write_all(&block[..read])?,
            None => continue,
        }
        while tls.wants_write() {
            tls.write_tls(&mut outside)?;
        }
    }
    Ok(())
}

/// The outcome of a read, or nothing if there was nothing to read.
fn nothing_yet(outcome: std::io::Result<usize>) -> std::io::Result<Option<usize>> {
    match outcome {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
        outcome => outcome.map(Some),
    }
}
