//! The admin listener: health, readiness, metrics and the live streams, over HTTP on the control thread.
//!
//! One request per connection. A connection lives for [`ADMIN_CONNECTION_DEADLINE`] at most, however slowly the other side
//! reads or writes, and [`ADMIN_CONNECTIONS_MAX`] live at once, so nobody can hold memory or descriptors here. There are
//! no passwords: the listener is on loopback unless the operator says otherwise.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Instant, SystemTime},
};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    middleware::map_response,
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};

use super::{exposition, process::Usage};
use crate::{
    limits::{ADMIN_ACCEPT_PAUSE, ADMIN_CONNECTION_DEADLINE, ADMIN_CONNECTIONS_MAX, STREAMS_PATIENCE},
    shard::fleet::Fleet,
};

const INDEX: &str = "\
shardcast
/healthz      200 while the process works
/readyz       200 while new connections are welcome, 503 while the process ends
/metrics      Prometheus text format
/api/streams  live streams, JSON
";

/// What the answers are made from.
pub(super) struct Node {
    pub(super) fleet: Arc<Fleet>,
    /// Listening and not ending.
    ready: AtomicBool,
    started: SystemTime,
    started_at: Instant,
}

impl Node {
    /// Ready from the first.
    pub(super) fn new(fleet: Arc<Fleet>) -> Self {
        Self { fleet, ready: AtomicBool::new(true), started: SystemTime::now(), started_at: Instant::now() }
    }

    /// From here `/readyz` is 503.
    pub(super) fn retire(&self) {
        self.ready.store(false, Ordering::Relaxed);
    }
}

/// Serves until the runtime ends.
pub(super) async fn serve(listener: TcpListener, node: Arc<Node>) {
    let routes = routes().with_state(node);
    if let Err(error) = axum::serve(Bounded::new(listener), routes).await {
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
        .fallback(|| async { (StatusCode::NOT_FOUND, "no such page; / lists them\n") })
        .layer(map_response(close_after))
}

/// One request per connection.
async fn close_after(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    response
}

async fn readyz(State(node): State<Arc<Node>>) -> impl IntoResponse {
    match node.ready.load(Ordering::Relaxed) {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "ending\n"),
    }
}

async fn metrics(State(node): State<Arc<Node>>) -> impl IntoResponse {
    let text = exposition::render(&exposition::Sample {
        shards: node.fleet.shards(),
        metrics: node.fleet.metrics(),
        log_bytes: node.fleet.log_bytes(),
        ready: node.ready.load(Ordering::Relaxed),
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

/// A listener whose connections are counted and timed.
struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl Bounded {
    fn new(listener: TcpListener) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX)) }
    }
}

impl axum::serve::Listener for Bounded {
    type Io = Timed;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Timed, SocketAddr) {
        loop {
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
                // The semaphore is never closed.
                std::future::pending::<()>().await;
                continue;
            };
            match self.listener.accept().await {
                Ok((socket, peer)) => {
                    let deadline = Box::pin(sleep(ADMIN_CONNECTION_DEADLINE));
                    return (Timed { socket, deadline, _place: place }, peer);
                }
                Err(error) => {
                    tracing::debug!(%error, "the admin listener could not accept");
                    sleep(ADMIN_ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails once its deadline has passed.
struct Timed {
    socket: TcpStream,
    deadline: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Timed {
    /// Ready with an error at the deadline; otherwise what `io` says, with the task woken at the deadline.
    fn bounded<T>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        io: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let this = self.get_mut();
        if let Poll::Ready(outcome) = io(Pin::new(&mut this.socket), cx) {
            return Poll::Ready(outcome);
        }
        ready!(this.deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Timed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.bounded(cx, |socket, cx| socket.poll_read(cx, buf))
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
