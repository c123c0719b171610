//! An operator's HTTP server, which answers callbacks as a test wants.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::common::{seconds, wait_for};

/// A callback as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    pub signature: String,
    pub body: String,
}

impl Request {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.body))
    }

    /// The stream it is about, by the name at its end.
    pub fn is_of(&self, name: &str) -> bool {
        self.body.contains(&format!("\"name\":\"{name}\"")) || self.body.contains(&format!("&name={name}&"))
    }
}

pub enum Reply {
    Status(u16, &'static str),
    After(Duration, u16),
    /// The connection stays open, and quiet.
    Never,
    /// What is no HTTP, perhaps, and then the end.
    Raw(&'static str),
}

pub struct Backend {
    pub addr: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    connections: Arc<AtomicUsize>,
}

impl Backend {
    pub fn start(reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let backend = Self { addr, requests: Arc::default(), connections: Arc::default() };
        let (requests, connections, reply) =
            (Arc::clone(&backend.requests), Arc::clone(&backend.connections), Arc::new(reply));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                connections.fetch_add(1, Ordering::Relaxed);
                let (requests, reply) = (Arc::clone(&requests), Arc::clone(&reply));
                std::thread::spawn(move || serve(stream, &requests, &*reply));
            }
        });
        backend
    }

    /// The flag that calls it back for `event`.
    pub fn flag(&self, event: &str) -> String {
        format!("--on-{event}=http://{}/{event}", self.addr)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("nobody panics with it").clone()
    }

    pub fn paths(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.path).collect()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    #[track_caller]
    pub fn wait_for(&self, what: &str, patience: Duration, wanted: impl Fn(&Request) -> bool) -> Request {
        wait_for(what, patience, || self.requests().into_iter().find(|request| wanted(request)))
    }
}

fn serve(mut stream: TcpStream, requests: &Mutex<Vec<Request>>, reply: &(dyn Fn(&Request) -> Reply + Send + Sync)) {
    let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
    while let Some(request) = read(&mut reader) {
        requests.lock().expect("nobody panics with it").push(request.clone());
        let (status, body) = match reply(&request) {
            Reply::Status(status, body) => (status, body),
            Reply::After(time, status) => {
                std::thread::sleep(time);
                (status, "")
            }
            Reply::Never => {
                std::thread::sleep(seconds(30));
                return;
            }
            Reply::Raw(said) => {
                let _ = stream.write_all(said.as_bytes());
                return;
            }
        };
        let location = if status == 302 { "Location: /trap\r\n" } else { "" };
        let head = format!("HTTP/1.1 {status} Said\r\n{location}Content-Length: {}\r\n\r\n", body.len());
        if stream.write_all(format!("{head}{body}").as_bytes()).is_err() {
            return;
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<Request> {
    let (mut first, mut signature, mut length) = (None, String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        match line.split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.trim().parse().ok()?,
            Some((name, value)) if name.eq_ignore_ascii_case("x-shardcast-signature") => {
                signature = value.trim().to_owned();
            }
            _ => {}
        }
        if line == "\r\n" {
            break;
        }
        first.get_or_insert(line);
    }
    let path = first?.split(' ').nth(1)?.to_owned();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { path, signature, body: String::from_utf8(body).ok()? })
}
