//! How callbacks get to their server: HTTP/1.1 or HTTPS, over connections that are kept.
//!
//! Redirects are not followed, proxies of the environment not used, and names and certificates checked. Bounds: an answer's
//! head and body; names that are looked up at once; connections, by the number of requests.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    vec,
};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode, body::Bytes, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        self,
        connect::{HttpConnector, dns::Name},
    },
    rt::{TokioExecutor, TokioTimer},
};
use tokio::sync::Semaphore;
use tower_service::Service;

use super::Plan;
use crate::{limits, shard::tls};

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) location: Option<String>,
    /// Of its body: nobody asked for one.
    pub(super) encoding: Option<String>,
    pub(super) is_json: bool,
    pub(super) body: Bytes,
}

type Pool<C> = legacy::Client<C, Full<Bytes>>;

pub(super) enum Client {
    /// No URL needs certificates, so none are read.
    Plain(Pool<HttpConnector<Resolver>>),
    Secure(Pool<HttpsConnector<HttpConnector<Resolver>>>),
}

impl Client {
    /// Errors are one line.
    pub(super) fn new(plan: &Plan) -> Result<Self, String> {
        let mut connector = HttpConnector::new_with_resolver(Resolver::new());
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(plan.timeout));
        let mut pool = legacy::Client::builder(TokioExecutor::new());
        pool.pool_timer(TokioTimer::new())
            .pool_idle_timeout(limits::CALLBACK_IDLE)
            .pool_max_idle_per_host(plan.concurrency)
            .http1_max_buf_size(limits::CALLBACK_ANSWER_BYTES_MAX);
        if plan.urls.iter().flatten().all(|url| url.scheme_str() == Some("http")) {
            return Ok(Self::Plain(pool.build(connector)));
        }
        connector.enforce_http(false);
        let tls = tls::client_config(plan.ca.as_deref())?;
        let builder = HttpsConnectorBuilder::new().with_tls_config((*tls).clone()).https_or_http().enable_http1();
        Ok(Self::Secure(pool.build(builder.wrap_connector(connector))))
    }

    /// Errors are one line.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Reply, String> {
        let response = match self {
            Self::Plain(pool) => pool.request(request),
            Self::Secure(pool) => pool.request(request),
        };
        let response = response.await.map_err(|error| told(&error))?;
        let status = response.status();
        let said =
            |name| response.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let location = said(header::LOCATION);
        let encoding =
            said(header::CONTENT_ENCODING).filter(|of| !of.is_empty() && !of.eq_ignore_ascii_case("identity"));
        let is_json = said(header::CONTENT_TYPE).is_some_and(|of| of.to_ascii_lowercase().contains("json"));
        let body = Limited::new(response.into_body(), limits::CALLBACK_ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| format!("the answer breaks off or is too long: {error}"))?.to_bytes();
        Ok(Reply { status, location, encoding, is_json, body })
    }
}

/// An error with what is behind it.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Looks names up on threads that may block: a few at once, or a name server that is out of reach took all there are.
#[derive(Clone)]
pub(super) struct Resolver(Arc<Semaphore>);

impl Resolver {
    fn new() -> Self {
        Self(Arc::new(Semaphore::new(limits::CALLBACK_LOOKUPS_MAX)))
    }
}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<std::net::SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let lookups = Arc::clone(&self.0);
        Box::pin(async move {
            let permit = lookups.acquire_owned().await.map_err(io::Error::other)?;
            let look_up = move || {
                // Kept until the lookup is over, even if nobody waits for it any more.
                let _permit = permit;
                std::net::ToSocketAddrs::to_socket_addrs(&(name.as_str(), 0))
            };
            tokio::task::spawn_blocking(look_up).await.map_err(io::Error::other)?
        })
    }
}
