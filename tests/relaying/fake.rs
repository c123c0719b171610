//! A server of this test's own that counts who comes, and says no or yes in the way it was made for.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::common::{
    amf::{self, Value},
    rtmp::{COMMAND, Got, Peer, command, message},
    seconds,
};

/// What it does with those who come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Closes each connection at once.
    Closes,
    /// Says of each stream that it is not there.
    NotFound,
    /// Lets everybody publish.
    Accepts,
}

/// What is shared with the threads that serve.
#[derive(Default)]
struct Book {
    connections: AtomicUsize,
    commands: Mutex<Vec<String>>,
    ended: AtomicBool,
}

/// Dropping it ends it, with its next connection or within a second.
pub struct Fake {
    pub rtmp: SocketAddr,
    book: Arc<Book>,
}

impl Fake {
    pub fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let rtmp = listener.local_addr().expect("it is bound");
        let book = Arc::new(Book::default());
        let shared = Arc::clone(&book);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.ended.load(Ordering::Relaxed) {
                    return;
                }
                shared.connections.fetch_add(1, Ordering::Relaxed);
                let book = Arc::clone(&shared);
                if manner != Manner::Closes {
                    std::thread::spawn(move || serve(stream, manner, &book));
                }
            }
        });
        Self { rtmp, book }
    }

    pub fn url(&self, name: &str) -> String {
        format!("rtmp://{}/live/{name}", self.rtmp)
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.book.connections.load(Ordering::Relaxed)
    }

    /// The names of all commands so far; at the end of a connection, what it ended with: `FIN`.
    pub fn commands(&self) -> Vec<String> {
        self.book.commands.lock().expect("nobody panics with it").clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.book.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect_timeout(&self.rtmp, Duration::from_millis(100));
    }
}

fn serve(stream: TcpStream, manner: Manner, book: &Book) {
    let Some(mut peer) = Peer::accepted(stream) else { return };
    let note = |what: &str| book.commands.lock().expect("nobody panics with it").push(what.to_owned());
    while !book.ended.load(Ordering::Relaxed) {
        let message = match peer.next(seconds(1)) {
            Got::Message(message) => message,
            Got::Closed => return note("FIN"),
            Got::TimedOut => continue,
        };
        if message.type_id != COMMAND {
            continue;
        }
        let values = message.values();
        let name = values[0].text();
        note(name);
        let transaction = if let Some(Value::Number(number)) = values.get(1) { *number } else { 0.0 };
        match (name, manner) {
            ("connect", _) => {
                let code = amf::object(&[("code", amf::string("NetConnection.Connect.Success"))]);
                answer(&mut peer, 0, "_result", transaction, &[amf::null(), code]);
            }
            ("createStream", _) => answer(&mut peer, 0, "_result", transaction, &[amf::null(), amf::number(1.0)]),
            ("play", _) => status(&mut peer, "error", "NetStream.Play.StreamNotFound"),
            ("publish", Manner::Accepts) => status(&mut peer, "status", "NetStream.Publish.Start"),
            ("publish", _) => status(&mut peer, "error", "NetStream.Publish.BadName"),
            _ => {}
        }
    }
}

fn answer(peer: &mut Peer, stream: u32, name: &str, transaction: f64, rest: &[Vec<u8>]) {
    peer.send(&message(3, COMMAND, stream, 0, command(name, transaction, rest)));
}

fn status(peer: &mut Peer, level: &str, code: &str) {
    let info = amf::object(&[("level", amf::string(level)), ("code", amf::string(code))]);
    answer(peer, 1, "onStatus", 0.0, &[amf::null(), info]);
}
