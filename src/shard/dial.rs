//! Outgoing connections: a name looked up, its addresses tried, a socket that is connected.
//!
//! A `Dialler` is a shard's. Names go to threads of their own (`blocking`) at each dial; addresses race as RFC 8305 has
//! it (`race`); the sockets do not block and are waited for in one epoll set. A dial ends when one has connected, when none
//! did, when its patience is over, or when it is given up: then all of its sockets are closed. What follows on the socket, TLS
//! included, is the driver's.
//!
//! Bounds: at most [`limits::DIAL_ADDRESSES_MAX`] addresses of a name are tried; how many dial at once is the core's to bound.

pub(super) mod blocking;
mod connecting;
mod error;
mod race;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    os::fd::OwnedFd,
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use rustls::{ClientConfig, pki_types::ServerName};

pub use self::error::{DialError, Stage, TlsFault};
use self::{blocking::Blocking, connecting::Target};
use super::{
    conn::ConnId, poller::Poller, predecessor::Predecessor, proxy_header::Behalf, socket_options::SocketOptions, tls,
};
use crate::{limits, relay::upstream::Endpoint};

/// An order of the core: connect `id` to another node.
#[derive(Clone, Debug)]
pub struct Dial {
    pub id: ConnId,
    pub to: Endpoint,
    /// It begins with a PROXY header, which says this.
    pub header: Option<Behalf>,
    /// For all of it: name, connection and TLS.
    pub patience: Duration,
}

/// What shards ask of threads that may block.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Question {
    Addresses(String),
    /// How to check who answers a TLS handshake.
    Roots,
}

/// Errors are for people.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Addresses(Result<Vec<IpAddr>, String>),
    Roots(Result<Arc<ClientConfig>, String>),
}

/// What the dialling shards of a process share.
#[derive(Clone, Debug)]
pub(super) struct DialDesk {
    blocking: Blocking<Question, Answer>,
    predecessor: Option<Arc<Predecessor>>,
}

impl DialDesk {
    /// `ca`: a file of root certificates that count in place of the system's.
    pub(super) fn new(ca: Option<PathBuf>, predecessor: Option<Arc<Predecessor>>) -> Self {
        // Read once; an error is not remembered, so that it can be mended while the node runs.
        let roots = std::sync::OnceLock::new();
        let desk = Self::with(move |question| match question {
            Question::Addresses(host) => Answer::Addresses(addresses(host)),
            Question::Roots => Answer::Roots(match roots.get() {
                Some(config) => Ok(Arc::clone(config)),
                None => tls::client_config(ca.as_deref()).map(|config| roots.get_or_init(|| config).clone()),
            }),
        });
        Self { predecessor, ..desk }
    }

    fn with(answer: impl Fn(&Question) -> Answer + Send + Sync + 'static) -> Self {
        Self { blocking: Blocking::new(answer), predecessor: None }
    }
}

fn addresses(host: &str) -> Result<Vec<IpAddr>, String> {
    let found = (host, 0).to_socket_addrs().map_err(|error| error.to_string())?;
    Ok(found.map(|addr| addr.ip()).collect())
}

/// Key of a dial on its shard, never used again.
pub(super) type DialId = usize;

/// How answers come back to the shard's thread: called on any thread, for [`Dialler::answered`].
pub(super) type Deliver = Arc<dyn Fn(DialId, Answer) + Send + Sync>;

/// A dial's task as others see it.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    task: RefCell<Option<Waker>>,
    woken: Cell<bool>,
    given_up: Cell<bool>,
    answer: RefCell<Option<Answer>>,
}

impl Waiting {
    fn wake(&self) {
        self.woken.set(true);
        if let Some(task) = self.task.borrow().as_ref() {
            task.wake_by_ref();
        }
    }

    /// Ends the dial without a result.
    pub(super) fn give_up(&self) {
        self.given_up.set(true);
        self.wake();
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.get()
    }

    /// Waits to be woken, at most until `by`.
    async fn until(&self, by: Instant) {
        let patience = by.saturating_duration_since(Instant::now());
        let mut sleep = std::pin::pin!(monoio::time::sleep(patience));
        poll_fn(|context| {
            if self.woken.take() {
                return Poll::Ready(());
            }
            *self.task.borrow_mut() = Some(context.waker().clone());
            sleep.as_mut().poll(context)
        })
        .await;
    }
}

/// What a dial comes to: a connected socket that does not block, with its peer.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) socket: OwnedFd,
    pub(super) peer: SocketAddr,
    /// With TLS to come: how, and with whom.
    pub(super) secure: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// `None`: it was given up.
pub(super) type Outcome = Option<Result<Connected, DialError>>;

/// See the file's head.
pub(super) struct Dialler {
    desk: DialDesk,
    deliver: Deliver,
    options: SocketOptions,
    connecting: Poller,
    waiting: RefCell<HashMap<DialId, Rc<Waiting>>>,
    next: Cell<DialId>,
}

/// One dial in progress.
struct Progress<'a> {
    dialler: &'a Dialler,
    id: DialId,
    waiting: &'a Waiting,
    to: &'a Endpoint,
    patience: Duration,
    until: Instant,
}

impl Dialler {
    /// For the shard's thread, within its runtime.
    pub(super) fn new(desk: DialDesk, deliver: Deliver, options: SocketOptions) -> io::Result<Self> {
        Ok(Self { desk, deliver, options, connecting: Poller::new()?, waiting: RefCell::default(), next: Cell::new(0) })
    }

    /// An answer to one of the shard's questions has come.
    pub(super) fn answered(&self, id: DialId, answer: Answer) {
        let waiting = self.waiting.borrow();
        // The dial may be over.
        let Some(waiting) = waiting.get(&id) else { return };
        *waiting.answer.borrow_mut() = Some(answer);
        waiting.wake();
    }

    /// Wakes dials whose sockets have connected, or failed to. The shard runs it once, for ever.
    pub(super) async fn watch(&self) {
        let (mut ready, mut events) = (Vec::new(), Vec::new());
        loop {
            if let Err(error) = self.connecting.wait(&mut ready, &mut events).await {
                tracing::error!("cannot wait for outgoing connections: {error}");
                monoio::time::sleep(limits::ACCEPT_PAUSE).await;
            }
            for id in ready.drain(..) {
                if let Some(waiting) = self.waiting.borrow().get(&id) {
                    waiting.wake();
                }
            }
        }
    }

    /// Connects to `to` before `patience` is over. `waiting` is the caller's hold on it.
    pub(super) async fn dial(&self, to: &Endpoint, patience: Duration, waiting: &Rc<Waiting>) -> Outcome {
        let id = self.next.replace(self.next.get() + 1);
        self.waiting.borrow_mut().insert(id, Rc::clone(waiting));
        let until = Instant::now() + patience;
        let outcome = Progress { dialler: self, id, waiting, to, patience, until }.run().await;
        self.waiting.borrow_mut().remove(&id);
        if waiting.is_given_up() { None } else { outcome }
    }
}

impl Progress<'_> {
    async fn run(&self) -> Outcome {
        let (host, port, secure) = match self.to {
            Endpoint::Unix(path) => return self.connect_unix(path).await,
            Endpoint::Predecessor => return Some(self.connect_predecessor()),
            Endpoint::Tcp { host, port, secure } => (host, *port, *secure),
        };
        let mut session = None;
        if secure {
            session = match self.prepare_tls(host).await? {
                Ok(session) => Some(session),
                Err(error) => return Some(Err(error)),
            };
        }
        let addresses = match self.look_up(host).await? {
            Ok(addresses) => addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect::<Vec<_>>(),
            Err(error) => return Some(Err(error)),
        };
        Some(self.race(addresses).await?.map(|connected| Connected { secure: session, ..connected }))
    }

    async fn prepare_tls(&self, host: &str) -> Option<Result<(Arc<ClientConfig>, ServerName<'static>), DialError>> {
        let failed = |fault| Some(Err(DialError::Tls { to: self.to.to_string(), fault }));
        // A name's root dot is no part of it on a certificate.
        let Ok(name) = ServerName::try_from(host.strip_suffix('.').unwrap_or(host).to_owned()) else {
            return failed(TlsFault::Name);
        };
        match self.ask(Question::Roots).await? {
            Ok(Answer::Roots(Ok(config))) => Some(Ok((config, name))),
            Ok(Answer::Roots(Err(why))) => failed(TlsFault::Roots(why)),
            Ok(Answer::Addresses(_)) => failed(TlsFault::Roots("an answer to another question".to_owned())),
            Err(error) => Some(Err(error)),
        }
    }

    async fn look_up(&self, host: &str) -> Option<Result<Vec<IpAddr>, DialError>> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Some(Ok(vec![ip]));
        }
        let host = host.to_owned();
        Some(match self.ask(Question::Addresses(host.clone())).await? {
            Ok(Answer::Addresses(Ok(ips))) if ips.is_empty() => Err(DialError::NoAddress { host }),
            Ok(Answer::Addresses(Ok(ips))) => Ok(ips),
            Ok(Answer::Addresses(Err(why))) => Err(DialError::Resolve { host, why }),
            Ok(Answer::Roots(_)) => Err(DialError::Resolve { host, why: "an answer to another question".to_owned() }),
            Err(error) => Err(error),
        })
    }

    /// `None`: it was given up.
    async fn ask(&self, question: Question) -> Option<Result<Answer, DialError>> {
        let stage = Stage::of(&question);
        let (deliver, id) = (Arc::clone(&self.dialler.deliver), self.id);
        self.waiting.answer.borrow_mut().take();
        let asked = self.dialler.desk.blocking.ask(question, move |answer| deliver(id, answer));
        let _asked = match asked {
            Ok(asked) => asked,
            Err(source) => return Some(Err(DialError::Io { to: self.to.to_string(), address: None, source })),
        };
        loop {
            if self.waiting.is_given_up() {
                return None;
            }
            if let Some(answer) = self.waiting.answer.borrow_mut().take() {
                return Some(Ok(answer));
            }
            if Instant::now() >= self.until {
                return Some(Err(self.timed_out(stage)));
            }
            self.waiting.until(self.until).await;
        }
    }

    fn timed_out(&self, stage: Stage) -> DialError {
        DialError::TimedOut { to: self.to.to_string(), stage, patience: self.patience }
    }

    fn failed(&self, target: &Target, source: io::Error) -> DialError {
        let (to, address) = (self.to.to_string(), target.shown());
        match source.kind() {
            io::ErrorKind::ConnectionRefused => DialError::Refused { to, address },
            _ => DialError::Io { to, address, source },
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
