//! The admin listener: health, readiness, metrics and the live streams, over HTTP on the control thread.
//!
//! One request per connection. A connection lives for [`ADMIN_CONNECTION_DEADLINE`] at most, however slowly the other side
//! reads or writes, and [`ADMIN_CONNECTIONS_MAX`] live at once, so nobody can hold memory or descriptors here. Silent ones keep
//! nobody out: one that has sent no whole head within [`ADMIN_HEAD_DEADLINE`] is closed, and the oldest of them as soon as its
//! place is needed. There are no passwords: the listener is on loopback unless the operator says otherwise.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant, SystemTime},
};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header},
    middleware::map_response,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    task::yield_now,
    time::{Sleep, sleep, timeout},
};

use super::{
    callbacks::Counts,
    drain::{self, Board},
    ending::Order,
    exposition,
    head::Head,
    logs::Log,
    process::Usage,
    reconnect,
    reserve::{Answering, Reserve, is_want_of_files},
};
use crate::{
    limits::{
        ACCEPT_PAUSE, ADMIN_BODY_BYTES_MAX, ADMIN_CONNECTION_DEADLINE, ADMIN_CONNECTIONS_MAX, ADMIN_GRACE,
        ADMIN_HEAD_DEADLINE, STREAMS_PATIENCE,
    },
    shard::fleet::Fleet,
};

const INDEX: &str = "\
shardcast
/healthz      200 while the process works
/readyz       200 while new connections are welcome, 503 while the node leaves or ends, or a listener was shut
/metrics      Prometheus text format
/api/streams  live streams, JSON
/api/relays   what is pulled and pushed, JSON
/api/reconnect  POST url=..&over_ms=..: asks clients that can to go there, JSON
/api/drain    POST mode=..&url=..: takes the node out of service; DELETE: not yet after all; GET: how far it is, JSON
";

/// What the answers are made from.
pub(super) struct Node {
    pub(super) fleet: Arc<Fleet>,
    log: Log,
    /// For the task that ends the process.
    pub(super) orders: mpsc::Sender<Order>,
    /// Of callbacks, if there are any.
    pub(super) callbacks: Option<Arc<Counts>>,
    /// For whoever asks how far the end is.
    pub(super) board: Board,
    /// Listening and not ending.
    ready: AtomicBool,
    /// What serves the admin listener listens to it until all is answered, unless that is another process's by now.
    answers_end: watch::Sender<bool>,
    started: SystemTime,
    started_at: Instant,
}

impl Node {
    /// Ready from the first.
    pub(super) fn new(
        fleet: Arc<Fleet>,
        log: Log,
        orders: mpsc::Sender<Order>,
        callbacks: Option<Arc<Counts>>,
        board: Board,
    ) -> Self {
        let (ready, answers_end) = (AtomicBool::new(true), watch::Sender::new(false));
        Self {
            fleet,
            log,
            orders,
            callbacks,
            board,
            ready,
            answers_end,
            started: SystemTime::now(),
            started_at: Instant::now(),
        }
    }

    /// Takes no more requests, and waits until those before are answered: who asked for the end is to hear that it comes.
    pub(super) async fn end_answers(&self) {
        self.answers_end.send_replace(true);
        // Who does not take its answer does not hold the end up.
        let _ = timeout(ADMIN_GRACE, self.answers_end.closed()).await;
    }

    /// From here `/readyz` is 200, or 503.
    pub(super) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed) && !self.fleet.has_lost_listeners()
    }
}

/// Serves until [`Node::end_answers`], and then what was asked before.
pub(super) async fn serve(listener: TcpListener, node: Arc<Node>) {
    let listener = Bounded::new(listener, ADMIN_CONNECTIONS_MAX, ADMIN_CONNECTION_DEADLINE);
    let _answering = node.answers_end.subscribe();
    let mut ends = node.answers_end.subscribe();
    let end = async move { drop(ends.wait_for(|ends| *ends).await) };
    if let Err(error) = axum::serve(listener, routes().with_state(node)).with_graceful_shutdown(end).await {
        tracing::error!(%error, "the admin listener ended");
    }
}

fn routes() -> Router<Arc<Node>> {
    Router::new()
        .route("/", get(|| async { INDEX }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/streams", get(streams))
        .route("/api/relays", get(relays))
        .route("/api/reconnect", post(reconnect::post))
        .route("/api/drain", get(drain::get).post(drain::post).delete(drain::delete))
        .layer(DefaultBodyLimit::max(ADMIN_BODY_BYTES_MAX))
        .fallback(|| async { (StatusCode::NOT_FOUND, "no such page; / lists them\n") })
        .layer(map_response(close_after))
}

/// One request per connection.
async fn close_after(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    response
}

async fn readyz(State(node): State<Arc<Node>>) -> impl IntoResponse {
    match node.is_ready() {
        true => (StatusCode::OK, "ready\n"),
        false if node.fleet.has_lost_listeners() => (StatusCode::SERVICE_UNAVAILABLE, "a listener was shut\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "ending\n"),
    }
}

async fn metrics(State(node): State<Arc<Node>>) -> impl IntoResponse {
    // Only the shards know; those that do not answer in time are missing.
    let asked = Arc::clone(&node);
    let relays = tokio::task::spawn_blocking(move || asked.fleet.relay_report(STREAMS_PATIENCE)).await;
    let text = exposition::render(&exposition::Sample {
        relays: &relays.unwrap_or_default(),
        shards: node.fleet.shards(),
        metrics: node.fleet.metrics(),
        callbacks: node.callbacks.as_deref(),
        log_bytes: node.fleet.log_bytes(),
        memory: node.fleet.memory().into(),
        tls: node.fleet.tls(),
        log_lines_dropped: node.log.lines_dropped(),
        ready: node.is_ready(),
        draining: node.board.is_draining(),
        usage: Usage::read(),
        started: node.started,
        uptime_s: node.started_at.elapsed().as_secs_f64(),
    });
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

async fn streams(State(node): State<Arc<Node>>) -> Response {
    match tokio::task::spawn_blocking(move || node.fleet.streams(STREAMS_PATIENCE)).await {
        Ok(streams) => Json(streams).into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the streams could not be listed; see the log\n").into_response(),
    }
}

async fn relays(State(node): State<Arc<Node>>) -> Response {
    match tokio::task::spawn_blocking(move || node.fleet.relay_report(STREAMS_PATIENCE)).await {
        Ok(relays) => Json(relays).into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the relays could not be listed; see the log\n").into_response(),
    }
}

/// A listener whose connections are counted and timed.
struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
    /// Connections without a whole head, the oldest first. Closed: they have one, or are gone.
    silent: VecDeque<oneshot::Sender<()>>,
    patience: Duration,
    reserve: Arc<Reserve>,
}

impl Bounded {
    fn new(listener: TcpListener, connections_max: usize, patience: Duration) -> Self {
        let (places, silent) = (Arc::new(Semaphore::new(connections_max)), VecDeque::new());
        Self { listener, places, silent, patience, reserve: Reserve::new() }
    }

    /// A place for one more, for which the oldest that is silent may have to go.
    async fn place(&mut self) -> OwnedSemaphorePermit {
        self.silent.retain(|silent| !silent.is_closed());
        if self.places.available_permits() == 0 {
            self.end_oldest_silent();
        }
        match Arc::clone(&self.places).acquire_owned().await {
            Ok(place) => place,
            // The semaphore is never closed.
            Err(_) => std::future::pending().await,
        }
    }

    /// The kernel looks for a descriptor before it looks for a connection: that it has none says nothing of who waits.
    fn somebody_waits(&self) -> bool {
        let mut listener = [PollFd::new(&self.listener, PollFlags::IN)];
        rustix::event::poll(&mut listener, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// False if none is silent.
    fn end_oldest_silent(&mut self) -> bool {
        while let Some(oldest) = self.silent.pop_front() {
            if oldest.send(()).is_ok() {
                return true;
            }
        }
        false
    }
}

impl axum::serve::Listener for Bounded {
    type Io = Timed;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Timed, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Err(error) if self.reserve.helps(&error) => {}
                Ok((socket, peer)) => {
                    let answering = self.reserve.answering();
                    let place = self.place().await;
                    let deadline = Box::pin(sleep(self.patience.min(ADMIN_HEAD_DEADLINE)));
                    let (sender, must_go) = oneshot::channel();
                    self.silent.push_back(sender);
                    let silent = Some(Silent { must_go, until: tokio::time::Instant::now() + self.patience });
                    let head = Head::default();
                    return (Timed { socket, deadline, silent, head, _place: place, _answering: answering }, peer);
                }
                Err(error) => {
                    tracing::debug!(%error, "the admin listener could not accept");
                    // A silent one's descriptor is to be had once its task has run.
                    if is_want_of_files(&error) && self.somebody_waits() && self.end_oldest_silent() {
                        yield_now().await;
                    } else {
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// What is to be known of a connection until its head is whole.
struct Silent {
    /// Its place is needed.
    must_go: oneshot::Receiver<()>,
    /// The deadline from then on.
    until: tokio::time::Instant,
}

/// A connection that fails once its deadline has passed.
struct Timed {
    socket: TcpStream,
    deadline: Pin<Box<Sleep>>,
    silent: Option<Silent>,
    head: Head,
    _place: OwnedSemaphorePermit,
    /// Behind the socket, which goes first.
    _answering: Answering,
}

impl Timed {
    /// Ready with an error at the deadline, or when it must go; otherwise what `io` says, with the task woken then.
    fn bounded<T>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        io: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let this = self.get_mut();
        if let Poll::Ready(outcome) = io(Pin::new(&mut this.socket), cx) {
            return Poll::Ready(outcome);
        }
        let must_go = this.silent.as_mut().is_some_and(|silent| Pin::new(&mut silent.must_go).poll(cx).is_ready());
        if !must_go {
            ready!(this.deadline.as_mut().poll(cx));
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Timed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let this = self.get_mut();
        let read = Pin::new(&mut *this).bounded(cx, |socket, cx| socket.poll_read(cx, buf));
        this.head.check(buf.filled_mut().get_mut(before..).unwrap_or_default());
        if let Some(Silent { until, .. }) = this.silent.take_if(|_| this.head.is_done()) {
            this.deadline.as_mut().reset(until);
        }
        read
    }
}

impl AsyncWrite for Timed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.bounded(cx, |socket, cx| socket.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.bounded(cx, |socket, cx| socket.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.bounded(cx, |socket, cx| socket.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream as Client;

    use super::*;

    /// Serves one page with these bounds on a thread of its own, for as long as the test process runs.
    fn bounded(connections_max: usize, patience: Duration) -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = Bounded::new(TcpListener::from_std(listener).unwrap(), connections_max, patience);
                let page = Router::new().route("/", get(|| async { "page" })).layer(map_response(close_after));
                axum::serve(listener, page).await.unwrap();
            });
        });
        addr
    }

    fn read_to_end(mut client: Client) -> String {
        use std::io::Read;
        client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut text = String::new();
        match client.read_to_string(&mut text) {
            Ok(_) => text,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "the listener should have closed");
                text
            }
        }
    }

    fn ask(addr: SocketAddr, request: &str) -> Client {
        use std::io::Write;
        let mut client = Client::connect(addr).unwrap();
        client.write_all(request.as_bytes()).unwrap();
        client
    }

    const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    #[test]
    fn a_request_that_never_ends_is_cut_off() {
        let addr = bounded(8, Duration::from_millis(50));
        for beginning in ["", "GET / HTTP/1.1\r\nHost:"] {
            let answer = read_to_end(ask(addr, beginning));
            assert!(!answer.contains("page"), "{answer}");
        }
        assert!(read_to_end(ask(addr, REQUEST)).ends_with("page"));
    }

    #[test]
    fn connections_beyond_the_bound_wait_for_a_place() {
        let addr = bounded(1, Duration::from_millis(200));
        let silent = ask(addr, "");
        // Answered although the only place is taken, because the silent one is cut off.
        assert!(read_to_end(ask(addr, REQUEST)).ends_with("page"));
        drop(silent);
    }

    #[test]
    fn silent_connections_keep_nobody_out() {
        let addr = bounded(4, Duration::from_secs(3_600));
        let mut silent: Vec<Client> = (0..20).map(|n| ask(addr, ["", "GET / HTTP/1.1\r\n"][n % 2])).collect();
        let begun = Instant::now();
        for _ in 0..10 {
            assert!(read_to_end(ask(addr, REQUEST)).ends_with("page"));
        }
        assert!(begun.elapsed() < ADMIN_HEAD_DEADLINE, "they waited for silent ones to be late: {:?}", begun.elapsed());
        assert!(!read_to_end(silent.swap_remove(0)).contains("page"), "the oldest made room");
    }

    #[test]
    fn a_connection_ends_with_its_answer() {
        let answer = read_to_end(ask(bounded(1, Duration::from_secs(3_600)), &REQUEST.repeat(2)));
        assert_eq!(answer.matches("page").count(), 1, "{answer}");
    }
}
