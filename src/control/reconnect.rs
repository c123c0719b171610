//! Clients sent elsewhere on the operator's word: `POST /api/reconnect`, and the requests of a drain.
//!
//! Refused: what [`parameters`](super::parameters) refuses, and URLs that no client could connect to. Bounds:
//! [`RECONNECT_OVER_MAX_MS`] of window.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::{admin::Node, args::Drain, course::Mode, parameters::Parameters};
use crate::{
    limits::{RECONNECT_OVER_DEFAULT, RECONNECT_OVER_MAX_MS, STREAMS_PATIENCE},
    rtmp::url::RtmpUrl,
    shard::{leaving::Departure, reconnect::ReconnectRequest},
};

const DESCRIPTION: &str = "The server asks its clients to go on elsewhere.";

/// The answer to a request.
#[derive(Serialize)]
struct Asked {
    /// Clients that announced that they can, and are or will be asked.
    asked: usize,
    /// All that are connected.
    connections: i64,
    over_ms: u64,
}

pub(super) async fn post(State(node): State<Arc<Node>>, given: Parameters) -> Response {
    let request = match parse(&given) {
        Ok(request) => request,
        Err(why) => return (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
    };
    let over_ms = u64::try_from(request.over.as_millis()).unwrap_or(u64::MAX);
    let connections = node.fleet.connected();
    match ask(&node, request).await {
        Some(asked) => Json(Asked { asked, connections, over_ms }).into_response(),
        None => (StatusCode::INTERNAL_SERVER_ERROR, "the shards could not be asked; see the log\n").into_response(),
    }
}

impl Drain {
    /// What the shards are to do. Without a URL, clients that connect again come back to an anycast node: nobody is asked.
    pub(super) fn departure(&self) -> Departure {
        let over = self.move_over();
        let (tc_url, description) = (self.url.clone(), DESCRIPTION.to_owned());
        // Players here can follow a publisher nowhere but by connecting again.
        let after_players = self.mode == Mode::Successor;
        let is_asked = tc_url.is_some() || self.mode != Mode::Anycast;
        let request = is_asked.then(|| Arc::new(ReconnectRequest { tc_url, description, over, after_players }));
        Departure { request, over, others_stay: self.mode == Mode::Successor }
    }
}

/// How many clients will be asked.
async fn ask(node: &Arc<Node>, request: ReconnectRequest) -> Option<usize> {
    let url = request.tc_url.clone().unwrap_or_default();
    let node = Arc::clone(node);
    let asked =
        tokio::task::spawn_blocking(move || node.fleet.request_reconnect(request, STREAMS_PATIENCE)).await.ok()?;
    tracing::info!(asked, url, "clients are asked to reconnect");
    Some(asked)
}

/// Reads `url=..&over_ms=..`.
fn parse(given: &Parameters) -> Result<ReconnectRequest, String> {
    let (mut tc_url, mut over) = (None, RECONNECT_OVER_DEFAULT);
    for (name, value) in given.read(&["url", "over_ms"])? {
        if name == "url" {
            RtmpUrl::check_reference(&value).map_err(|why| format!("url {value:?}: {why}"))?;
            tc_url = Some(value);
        } else {
            let ms = value.parse().ok().filter(|ms| *ms <= RECONNECT_OVER_MAX_MS);
            let ms = ms.ok_or_else(|| format!("over_ms {value:?}: expected 0 to {RECONNECT_OVER_MAX_MS}"))?;
            over = Duration::from_millis(ms);
        }
    }
    Ok(ReconnectRequest { tc_url, description: DESCRIPTION.to_owned(), over, after_players: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_come_by_query_or_body() {
        let read =
            |query, body| parse(&Parameters::of(query, body)).map(|request| (request.tc_url, request.over.as_millis()));
        let default = RECONNECT_OVER_DEFAULT.as_millis();
        assert_eq!(read("", ""), Ok((None, default)));
        assert_eq!(read("url=rtmp://b/live&over_ms=0", ""), Ok((Some("rtmp://b/live".into()), 0)));
        assert_eq!(read("over_ms=7", "url=%2F%2Fb%2flive"), Ok((Some("//b/live".into()), 7)));
    }

    #[test]
    fn what_no_client_could_follow_is_refused() {
        for text in [
            "url=http://b/live",
            "url=a%20b",
            "url=%FF",
            "url=",
            "url=/a&url=/b",
            "over_ms=x",
            "over_ms=1&over_ms=2",
            "over_ms=600001",
            "to=x",
            "%FF",
        ] {
            assert!(parse(&Parameters::of(text, "")).is_err(), "{text}");
        }
    }
}
