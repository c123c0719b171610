//! A raw RTMP peer on a blocking socket. It can keep the rules or break any of them: handshake and chunks are built by
//! hand, apart from the crate's own.

use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    time::{Duration, Instant},
};

use super::{
    amf::{self, Value},
    seconds,
    secure::Secure,
};

pub const SET_CHUNK_SIZE: u8 = 1;
pub const ABORT: u8 = 2;
pub const ACKNOWLEDGEMENT: u8 = 3;
pub const USER_CONTROL: u8 = 4;
pub const WINDOW_ACK_SIZE: u8 = 5;
pub const AUDIO: u8 = 8;
pub const VIDEO: u8 = 9;
pub const DATA: u8 = 18;
pub const COMMAND: u8 = 20;

/// How long an answer may take on a busy machine.
const PATIENCE: Duration = seconds(10);

/// The chunk size in force until someone sets another.
const CHUNK_BYTES_DEFAULT: usize = 128;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub csid: u32,
    pub timestamp: u32,
    pub type_id: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// A message ready to be cut into chunks.
pub fn message(csid: u32, type_id: u8, stream: u32, timestamp: u32, payload: impl Into<Vec<u8>>) -> Message {
    Message { csid, timestamp, type_id, stream, payload: payload.into() }
}

/// A basic header in its shortest form.
pub fn basic_header(fmt: u8, csid: u32) -> Vec<u8> {
    match csid {
        2..=63 => vec![fmt << 6 | csid as u8],
        64..=319 => vec![fmt << 6, (csid - 64) as u8],
        _ => wide_basic_header(fmt, csid),
    }
}

/// A basic header of three bytes, whatever the csid (64 at least).
pub fn wide_basic_header(fmt: u8, csid: u32) -> Vec<u8> {
    let rest = csid - 64;
    vec![fmt << 6 | 1, rest as u8, (rest >> 8) as u8]
}

/// The header of a fmt 0 chunk: `length` is what it announces.
pub fn full_header(csid: u32, timestamp: u32, length: usize, type_id: u8, stream: u32) -> Vec<u8> {
    let mut bytes = basic_header(0, csid);
    bytes.extend(&timestamp.min(0xFF_FFFF).to_be_bytes()[1..]);
    bytes.extend(&(length as u32).to_be_bytes()[1..]);
    bytes.push(type_id);
    bytes.extend(stream.to_le_bytes());
    if timestamp >= 0xFF_FFFF {
        bytes.extend(timestamp.to_be_bytes());
    }
    bytes
}

/// Whether continuation chunks repeat an extended timestamp, as the specification wants, or not, as some encoders do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Extended {
    Repeated,
    Omitted,
}

impl Message {
    pub fn chunks(&self, chunk_bytes: usize) -> Vec<u8> {
        self.chunks_with(chunk_bytes, Extended::Repeated)
    }

    pub fn chunks_with(&self, chunk_bytes: usize, extended: Extended) -> Vec<u8> {
        let mut bytes = full_header(self.csid, self.timestamp, self.payload.len(), self.type_id, self.stream);
        for (index, part) in self.payload.chunks(chunk_bytes).enumerate() {
            if index > 0 {
                bytes.extend(basic_header(3, self.csid));
                if self.timestamp >= 0xFF_FFFF && extended == Extended::Repeated {
                    bytes.extend(self.timestamp.to_be_bytes());
                }
            }
            bytes.extend(part);
        }
        bytes
    }

    /// A command's or data message's values.
    pub fn values(&self) -> Vec<Value> {
        amf::decode(&self.payload)
    }

    /// Data that a server says to a player as it begins to play.
    fn is_servers_own(&self) -> bool {
        let values = self.values();
        matches!(values.first().map(Value::text), Some("|RtmpSampleAccess" | "onStatus"))
    }

    /// A status's code (NetStream.Publish.Start ...), if this is one.
    pub fn code(&self) -> Option<String> {
        let values = self.values();
        let is_answer = matches!(values.first()?.text(), "onStatus" | "_result" | "_error");
        let code = values.iter().rev().find_map(|value| value.get("code"))?;
        is_answer.then(|| code.text().to_owned())
    }
}

/// Set Chunk Size, as wrong as wanted.
pub fn set_chunk_size(value: u32) -> Vec<u8> {
    message(2, SET_CHUNK_SIZE, 0, 0, value.to_be_bytes()).chunks(CHUNK_BYTES_DEFAULT)
}

/// A command message's payload from encoded values.
pub fn command(name: &str, transaction: f64, rest: &[Vec<u8>]) -> Vec<u8> {
    [amf::string(name), amf::number(transaction), rest.concat()].concat()
}

/// What became of a wait.
#[derive(Debug, PartialEq, Eq)]
pub enum Got {
    Message(Message),
    Closed,
    TimedOut,
}

struct Assembly {
    header: Message,
    length: usize,
    delta: u32,
    extended: bool,
}

/// One connection.
pub struct Peer {
    pub stream: TcpStream,
    /// Over which it speaks, if not plainly.
    secure: Option<Box<Secure>>,
    buffer: Vec<u8>,
    closed: bool,
    /// What we cut messages into.
    pub chunk_bytes: usize,
    their_chunk_bytes: usize,
    assemblies: HashMap<u32, Assembly>,
    transaction: f64,
}

impl Peer {
    /// A TCP connection; nothing has been said.
    pub fn dial(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE).expect("the server accepts");
        stream.set_nodelay(true).expect("a TCP socket");
        Self::over(stream)
    }

    /// As `dial`, with a receive buffer of so many bytes (the kernel doubles it).
    pub fn dial_with_buffer(addr: SocketAddr, bytes: usize) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::for_address(addr), socket2::Type::STREAM, None);
        let socket = socket.expect("a socket");
        socket.set_recv_buffer_size(bytes).expect("before it connects");
        socket.set_tcp_nodelay(true).expect("a TCP socket");
        socket.connect(&addr.into()).expect("the server accepts");
        Self::over(socket.into())
    }

    /// As `dial_with_buffer`, over TLS.
    pub fn dial_secure(addr: SocketAddr, bytes: usize) -> Self {
        Self { secure: Some(Box::new(Secure::new())), ..Self::dial_with_buffer(addr, bytes) }
    }

    /// A connection to a socket file; nothing has been said.
    pub fn dial_unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("the server accepts");
        // Reading, writing and their time-outs are the same for both.
        Self::over(TcpStream::from(OwnedFd::from(stream)))
    }

    /// The server's side of a connection, past its (simple) handshake; `None` if the other side does not go through it.
    pub fn accepted(stream: TcpStream) -> Option<Self> {
        let mut peer = Self::over(stream);
        let c0_c1 = peer.read_exact(1 + 1536)?;
        let s1 = simple_c1();
        peer.write(&[&[3][..], &s1, &c0_c1[1..]].concat());
        peer.read_exact(1536)?;
        Some(peer)
    }

    fn over(stream: TcpStream) -> Self {
        Self {
            stream,
            secure: None,
            buffer: Vec::new(),
            closed: false,
            chunk_bytes: CHUNK_BYTES_DEFAULT,
            their_chunk_bytes: CHUNK_BYTES_DEFAULT,
            assemblies: HashMap::new(),
            transaction: 1.0,
        }
    }

    /// A connection past its (simple) handshake.
    pub fn greeted(addr: SocketAddr) -> Self {
        Self::dial(addr).past_handshake()
    }

    /// After the (simple) handshake, which is to come.
    pub fn past_handshake(mut self) -> Self {
        self.greet(&simple_c1(), None);
        self
    }

    /// A connection past its handshake and `connect` to the application `live`.
    #[track_caller]
    pub fn connected(addr: SocketAddr) -> Self {
        Self::greeted(addr).past_connect()
    }

    /// After `connect` to the application `live`, which is to come.
    #[track_caller]
    pub fn past_connect(mut self) -> Self {
        assert_eq!(self.connect("live").as_deref(), Some("NetConnection.Connect.Success"));
        self
    }

    /// C0 and C1, then C2: S1's echo unless `c2` is something else.
    pub fn greet(&mut self, c1: &[u8], c2: Option<&[u8]>) {
        self.write(&[&[3][..], c1].concat());
        let answer = self.read_exact(1 + 1536 + 1536).expect("S0, S1 and S2");
        assert_eq!(answer[0], 3, "S0");
        self.write(c2.unwrap_or(&answer[1..1537]));
    }

    /// Writes what it can: a peer that has been closed cannot be told more.
    pub fn write(&mut self, bytes: &[u8]) -> bool {
        self.stream.set_write_timeout(Some(PATIENCE)).expect("a TCP socket");
        match &mut self.secure {
            Some(secure) => secure.write_all(&mut self.stream, bytes).is_ok(),
            None => self.stream.write_all(bytes).is_ok(),
        }
    }

    /// False: it was closed.
    pub fn change_keys(&mut self) -> bool {
        let secure = self.secure.as_mut().expect("it speaks TLS");
        secure.change_keys(&mut self.stream).is_ok()
    }

    /// Writes until the kernel takes no more for `patience`; how many bytes it took.
    pub fn flood(&mut self, bytes: &[u8], patience: Duration) -> usize {
        self.stream.set_write_timeout(Some(patience)).expect("a TCP socket");
        let mut written = 0;
        while written < bytes.len() {
            match self.stream.write(&bytes[written..]) {
                Ok(count) => written += count,
                Err(_) => break,
            }
        }
        written
    }

    pub fn send(&mut self, message: &Message) -> bool {
        let bytes = message.chunks(self.chunk_bytes);
        self.write(&bytes)
    }

    pub fn send_command(&mut self, stream: u32, name: &str, rest: &[Vec<u8>]) -> f64 {
        self.transaction += 1.0;
        self.send(&message(3, COMMAND, stream, 0, command(name, self.transaction, rest)));
        self.transaction
    }

    /// Announces our chunk size and keeps to it.
    pub fn use_chunk_size(&mut self, bytes: u32) {
        self.write(&set_chunk_size(bytes));
        self.chunk_bytes = bytes as usize;
    }

    fn fill(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        if self.closed || left.is_zero() {
            return false;
        }
        self.stream.set_read_timeout(Some(left)).expect("a TCP socket");
        let mut block = [0; 64 * 1024];
        let count = match &mut self.secure {
            Some(secure) => secure.read(&mut self.stream, &mut block),
            None => self.stream.read(&mut block),
        };
        match count {
            Ok(0) => self.closed = true,
            Ok(count) => self.buffer.extend(&block[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return false,
            Err(_) => self.closed = true,
        }
        !self.closed
    }

    pub fn read_exact(&mut self, count: usize) -> Option<Vec<u8>> {
        let deadline = Instant::now() + PATIENCE;
        while self.buffer.len() < count {
            if !self.fill(deadline) {
                return None;
            }
        }
        Some(self.buffer.drain(..count).collect())
    }

    /// Reads and forgets until the server closes; whether it did.
    pub fn closes_within(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.fill(deadline) {
            self.buffer.clear();
        }
        self.closed
    }

    pub fn next(&mut self, patience: Duration) -> Got {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(done) = self.take_chunk() {
                if let Some(message) = done {
                    return Got::Message(message);
                }
            } else if !self.fill(deadline) {
                return if self.closed { Got::Closed } else { Got::TimedOut };
            }
        }
    }

    /// The next message that `wanted` accepts. None: the connection closed. Panics at the deadline.
    #[track_caller]
    pub fn find<T>(&mut self, what: &str, mut wanted: impl FnMut(&Message) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.next(deadline.saturating_duration_since(Instant::now())) {
                Got::Message(message) => {
                    if let Some(found) = wanted(&message) {
                        return Some(found);
                    }
                }
                Got::Closed => return None,
                Got::TimedOut => panic!("no {what} within {PATIENCE:?}"),
            }
        }
    }

    /// The next audio or video message.
    #[track_caller]
    pub fn next_media(&mut self) -> Option<Message> {
        self.find("media", |message| matches!(message.type_id, AUDIO | VIDEO).then(|| message.clone()))
    }

    /// The next message of the stream that is played: media, or data that is not the server's own word to its player.
    #[track_caller]
    pub fn next_of_stream(&mut self) -> Message {
        let of_stream = |message: &Message| match message.type_id {
            AUDIO | VIDEO => true,
            DATA => !message.is_servers_own(),
            _ => false,
        };
        self.find("a message of the stream", |message| of_stream(message).then(|| message.clone()))
            .expect("it is served")
    }

    /// The code of the next status.
    #[track_caller]
    pub fn next_code(&mut self) -> Option<String> {
        self.find("status", Message::code)
    }

    /// The code of the next status; None if the connection closed or said nothing for half a second.
    pub fn next_code_or_silence(&mut self) -> Option<String> {
        let patience = Duration::from_millis(500);
        loop {
            match self.next(patience) {
                Got::Message(message) => match message.code() {
                    Some(code) => return Some(code),
                    None => continue,
                },
                Got::Closed | Got::TimedOut => return None,
            }
        }
    }

    /// The name (`_result` or `_error`) and values of the answer to a command.
    #[track_caller]
    pub fn answer(&mut self, transaction: f64) -> Option<Vec<Value>> {
        self.find("answer", |message| {
            let values = message.values();
            let ours = message.type_id == COMMAND && values.get(1) == Some(&Value::Number(transaction));
            (ours && values[0].text().starts_with('_')).then_some(values)
        })
    }

    /// `connect`; the code of its answer.
    #[track_caller]
    pub fn connect(&mut self, app: &str) -> Option<String> {
        let tc_url = format!("rtmp://localhost/{app}");
        self.connect_with(&amf::object(&[("app", amf::string(app)), ("tcUrl", amf::string(tc_url))]))
    }

    #[track_caller]
    pub fn connect_with(&mut self, arguments: &[u8]) -> Option<String> {
        self.send(&message(3, COMMAND, 0, 0, command("connect", 1.0, &[arguments.to_vec()])));
        self.next_code()
    }

    /// A new message stream's id.
    #[track_caller]
    pub fn create_stream(&mut self) -> u32 {
        let transaction = self.send_command(0, "createStream", &[amf::null()]);
        let answer = self.answer(transaction).expect("an answer to createStream");
        assert_eq!(answer[0].text(), "_result", "{answer:?}");
        let Some(Value::Number(id)) = answer.last() else { panic!("no stream id in {answer:?}") };
        *id as u32
    }

    /// Whether the server still answers: a ping comes back.
    #[track_caller]
    pub fn is_served(&mut self) -> bool {
        let transaction = self.send_command(0, "_checkbw", &[amf::null()]);
        self.answer(transaction).is_some()
    }

    /// `publish`; the code of its answer.
    #[track_caller]
    pub fn publish(&mut self, stream: u32, name: impl AsRef<[u8]>) -> Option<String> {
        self.send_command(stream, "publish", &[amf::null(), amf::string(name), amf::string("live")]);
        self.find("answer to publish", |message| message.code().filter(|code| !code.contains("Connect")))
    }

    /// `play`, not waiting for an answer: the stream may not be there yet.
    pub fn ask_play(&mut self, stream: u32, name: impl AsRef<[u8]>) {
        self.send_command(stream, "play", &[amf::null(), amf::string(name), amf::number(-2.0)]);
    }

    /// A publisher of `live/name` that was accepted.
    #[track_caller]
    pub fn publisher(addr: SocketAddr, name: &str) -> (Self, u32) {
        Self::connected(addr).publishing(name)
    }

    /// A publisher of `name` that was accepted, on its message stream.
    #[track_caller]
    pub fn publishing(mut self, name: &str) -> (Self, u32) {
        let stream = self.create_stream();
        assert_eq!(self.publish(stream, name).as_deref(), Some("NetStream.Publish.Start"));
        (self, stream)
    }

    /// Metadata that speaks of sound only, so that players need not wait whether a picture comes.
    pub fn announce_audio(&mut self, stream: u32) {
        let metadata = amf::object(&[("audiocodecid", amf::number(10.0))]);
        let payload = [amf::string("@setDataFrame"), amf::string("onMetaData"), metadata].concat();
        self.send(&message(4, DATA, stream, 0, payload));
    }

    /// A player that asked for `live/name`.
    #[track_caller]
    pub fn player(addr: SocketAddr, name: &str) -> Self {
        Self::connected(addr).playing(name)
    }

    /// As `player`, with a receive buffer of so many bytes (the kernel doubles it).
    #[track_caller]
    pub fn player_with_buffer(addr: SocketAddr, name: &str, bytes: usize) -> Self {
        Self::dial_with_buffer(addr, bytes).past_handshake().past_connect().playing(name)
    }

    /// A player that asked for `name`.
    #[track_caller]
    pub fn playing(mut self, name: &str) -> Self {
        let stream = self.create_stream();
        self.ask_play(stream, name);
        self
    }

    /// As `connected`, of a client that announces `capsEx`.
    #[track_caller]
    pub fn announcing(addr: SocketAddr, caps_ex: Option<f64>) -> Self {
        let mut peer = Self::greeted(addr);
        let mut properties = vec![("app", amf::string("live")), ("tcUrl", amf::string(format!("rtmp://{addr}/live")))];
        properties.extend(caps_ex.map(|caps_ex| ("capsEx", amf::number(caps_ex))));
        assert_eq!(peer.connect_with(&amf::object(&properties)).as_deref(), Some("NetConnection.Connect.Success"));
        peer
    }

    /// One chunk off the buffer: None if it is not whole, Some(None) if it ended no message.
    fn take_chunk(&mut self) -> Option<Option<Message>> {
        let mut at = Cursor { bytes: &self.buffer, position: 0 };
        let first = at.unsigned(1)?;
        let csid = match first & 63 {
            0 => 64 + at.unsigned(1)?,
            1 => 64 + at.unsigned(1)? + 256 * at.unsigned(1)?,
            csid => csid,
        };
        let fmt = first >> 6;
        let old = self.assemblies.get(&csid);
        assert!(fmt == 0 || old.is_some(), "the other side opened csid {csid} with fmt {fmt}");
        let mut header = old.map_or_else(|| message(csid, 0, 0, 0, []), |old| old.header.clone());
        let (mut length, mut delta, mut extended) =
            old.map_or((0, 0, false), |old| (old.length, old.delta, old.extended));
        if fmt < 3 {
            delta = at.unsigned(3)?;
            extended = delta == 0xFF_FFFF;
        }
        if fmt < 2 {
            length = at.unsigned(3)? as usize;
            header.type_id = at.unsigned(1)? as u8;
        }
        if fmt == 0 {
            header.stream = at.unsigned(4)?.swap_bytes();
        }
        if extended {
            delta = at.unsigned(4)?;
        }
        if header.payload.is_empty() {
            header.timestamp = if fmt == 0 { delta } else { header.timestamp.wrapping_add(delta) };
        }
        let part = (length - header.payload.len()).min(self.their_chunk_bytes);
        header.payload.extend(at.take(part)?);
        let consumed = at.position;
        self.buffer.drain(..consumed);
        let whole = header.payload.len() == length;
        let mut rest = header.clone();
        if whole {
            rest.payload.clear();
        }
        self.assemblies.insert(csid, Assembly { header: rest, length, delta, extended });
        if whole && header.type_id == SET_CHUNK_SIZE {
            let size: [u8; 4] = header.payload[..4].try_into().expect("four bytes");
            self.their_chunk_bytes = u32::from_be_bytes(size) as usize;
        }
        Some(whole.then_some(header))
    }
}

/// C1 of a simple handshake.
pub fn simple_c1() -> Vec<u8> {
    let random = (0..1528u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8);
    [0; 8].into_iter().chain(random).collect()
}

struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let part = self.bytes.get(self.position..self.position + count)?;
        self.position += count;
        Some(part)
    }

    fn unsigned(&mut self, width: usize) -> Option<u32> {
        let bytes = self.take(width)?;
        Some(bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    }
}
