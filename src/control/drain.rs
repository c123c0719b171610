//! `/api/drain`: takes the node out of service (POST), takes that back (DELETE), and says how far it is (GET).
//!
//! Parameters are those of the flags, `mode`, `url`, `timeout_s`, `window_s` and `converge_s`; what is left out is as the flags
//! have it. Refused: what [`parameters`](super::parameters) and the flags refuse. [`super::ending`] does the rest.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tokio::sync::oneshot;

use super::{
    admin::Node,
    args::{Drain, drain},
    course::Mode,
    ending::{Leave, Order},
    parameters::{NoBrowser, Parameters},
};
use crate::{limits::FLAG_SECONDS_MAX, shard::fleet::Left};

/// Whether the node serves.
#[derive(Clone, Copy, Debug)]
enum Service {
    Serving,
    Draining { mode: Mode, since: Instant },
    Ending,
}

/// What [`super::ending`] says of it, for whoever asks.
#[derive(Debug)]
pub(super) struct Board {
    service: Mutex<Service>,
    /// What the flags say.
    defaults: Drain,
}

impl Board {
    pub(super) fn new(defaults: Drain) -> Self {
        Self { service: Mutex::new(Service::Serving), defaults }
    }

    pub(super) fn serves(&self) {
        self.set(Service::Serving);
    }

    pub(super) fn drains(&self, mode: Mode) {
        self.set(Service::Draining { mode, since: Instant::now() });
    }

    pub(super) fn ends(&self) {
        self.set(Service::Ending);
    }

    /// Neither draining nor ending.
    pub(super) fn is_serving(&self) -> bool {
        matches!(self.service(), Service::Serving)
    }

    pub(super) fn is_draining(&self) -> bool {
        matches!(self.service(), Service::Draining { .. })
    }

    fn set(&self, service: Service) {
        *self.service.lock().unwrap_or_else(PoisonError::into_inner) = service;
    }

    fn service(&self) -> Service {
        *self.service.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answer to all three.
#[derive(Serialize)]
struct Report {
    /// serving, draining or ending.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    for_ms: Option<u64>,
    /// What `/readyz` says.
    ready: bool,
    /// All that are connected.
    connections: i64,
    left: Left,
}

fn report(node: &Node) -> Json<Report> {
    let (state, mode, since) = match node.board.service() {
        Service::Serving => ("serving", None, None),
        Service::Draining { mode, since } => ("draining", Some(mode), Some(since)),
        Service::Ending => ("ending", None, None),
    };
    Json(Report {
        state,
        mode: mode.map(|mode| mode.to_string()),
        for_ms: since.map(|since| u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)),
        ready: node.is_ready(),
        connections: node.fleet.connected(),
        left: node.fleet.left(),
    })
}

pub(super) async fn get(State(node): State<Arc<Node>>) -> Response {
    report(&node).into_response()
}

pub(super) async fn post(State(node): State<Arc<Node>>, given: Parameters) -> Response {
    let drain = match parse(&given, &node.board.defaults) {
        Ok(drain) => drain,
        Err(why) => return (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
    };
    let mode = drain.mode;
    if !node.order(|answer| Order::Leave(Leave::Api(drain), answer)).await {
        return (StatusCode::CONFLICT, "the node is leaving already; GET shows how far it is\n").into_response();
    }
    tracing::info!(%mode, "asked to drain");
    (StatusCode::ACCEPTED, report(&node)).into_response()
}

pub(super) async fn delete(State(node): State<Arc<Node>>, _: NoBrowser) -> Response {
    if !node.order(Order::Stay).await {
        let why = "the node is not draining, or takes no connections any more\n";
        return (StatusCode::CONFLICT, why).into_response();
    }
    report(&node).into_response()
}

impl Node {
    /// Gives an order to the task that ends the process. True if it is carried out.
    pub(super) async fn order(&self, order: impl FnOnce(oneshot::Sender<bool>) -> Order) -> bool {
        let (say, hear) = oneshot::channel();
        // With orders enough waiting it is carrying one out.
        self.orders.try_send(order(say)).is_ok() && hear.await.unwrap_or(false)
    }
}

/// Reads the parameters of a drain; `defaults` has those that are absent.
fn parse(given: &Parameters, defaults: &Drain) -> Result<Drain, String> {
    let mut drain = defaults.clone();
    for (name, value) in given.read(&["mode", "url", "timeout_s", "window_s", "converge_s"])? {
        let fault = |why: String| format!("{name} {value:?}: {why}");
        match name {
            "mode" => drain.mode = drain::mode(&value).map_err(fault)?,
            "url" => drain.url = Some(drain::reference(&value).map_err(fault)?),
            _ => {
                let seconds = value.parse().ok().filter(|seconds| *seconds <= FLAG_SECONDS_MAX);
                let seconds = seconds.ok_or_else(|| fault(format!("expected seconds from 0 to {FLAG_SECONDS_MAX}")))?;
                let time = match name {
                    "timeout_s" => &mut drain.timeout,
                    "window_s" => &mut drain.window,
                    _ => &mut drain.converge,
                };
                *time = Duration::from_secs(seconds);
            }
        }
    }
    Ok(drain)
}

#[cfg(test)]
mod tests {
    use super::{super::args::DrainSettings, *};

    #[test]
    fn what_is_not_given_is_as_the_flags_have_it() {
        let defaults = DrainSettings::default().plan;
        assert_eq!(parse(&Parameters::of("", ""), &defaults), Ok(defaults.clone()));
        let given = Parameters::of("mode=lb&url=%2F%2Fb%2Flive", "timeout_s=7&window_s=3&converge_s=0");
        let drain = parse(&given, &defaults).unwrap();
        let seconds = Duration::from_secs;
        assert_eq!((drain.mode, drain.url.as_deref()), (Mode::Lb, Some("//b/live")));
        assert_eq!((drain.timeout, drain.window, drain.converge), (seconds(7), seconds(3), seconds(0)));
    }

    #[test]
    fn what_the_flags_refuse_is_refused() {
        let defaults = DrainSettings::default().plan;
        for text in [
            "mode=later",
            "mode=successor",
            "url=http://b/live",
            "url=",
            "timeout_s=-1",
            "timeout_s=999999999",
            "mode=lb&mode=lb",
            "to=x",
            "%FF",
        ] {
            assert!(parse(&Parameters::of(text, ""), &defaults).is_err(), "{text}");
        }
        assert_eq!(
            parse(&Parameters::of("mode=x", ""), &defaults),
            Err("mode \"x\": expected anycast or lb".to_owned())
        );
    }
}
