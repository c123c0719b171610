//! What a request to the admin listener that changes something brings along: parameters, in the query, the body or both.
//!
//! Refused: requests of a browser, whose pages may reach the loopback address, and parameters that are unknown, empty or given
//! twice. Bounds: [`ADMIN_BODY_BYTES_MAX`](crate::limits::ADMIN_BODY_BYTES_MAX) of body.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request},
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use percent_encoding::percent_decode_str;

/// The request is not a browser's.
pub(super) struct NoBrowser;

impl<S: Send + Sync> FromRequestParts<S> for NoBrowser {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        if parts.headers.contains_key(header::ORIGIN) {
            return Err((StatusCode::FORBIDDEN, "not from a browser\n"));
        }
        Ok(Self)
    }
}

/// Of a request that is not a browser's.
pub(super) struct Parameters {
    query: String,
    body: String,
}

impl<S: Send + Sync> FromRequest<S> for Parameters {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        NoBrowser::from_request_parts(&mut parts, state).await.map_err(IntoResponse::into_response)?;
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let body = Bytes::from_request(Request::from_parts(parts, body), state).await;
        let body = body.map_err(IntoResponse::into_response)?;
        Ok(Self { query, body: String::from_utf8_lossy(&body).trim().to_owned() })
    }
}

impl Parameters {
    /// Those of `known` that are given, each once at most and not empty.
    pub(super) fn read<'a>(&'a self, known: &[&str]) -> Result<Vec<(&'a str, String)>, String> {
        let mut found: Vec<(&str, String)> = Vec::new();
        let pairs = self.query.split('&').chain(self.body.split('&')).filter(|pair| !pair.is_empty());
        for pair in pairs {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !known.contains(&name) {
                return Err(format!("unknown parameter {name:?}: expected {}", known.join(" or ")));
            }
            if found.iter().any(|(other, _)| *other == name) {
                return Err(format!("{name}: given twice; an & in a value is written %26"));
            }
            // A plus sign stands for itself, as in paths.
            let value = percent_decode_str(value).decode_utf8().map_err(|_| format!("{name}: not UTF-8"))?.into_owned();
            if value.is_empty() {
                return Err(format!("{name}: empty; leave it out or give it a value"));
            }
            found.push((name, value));
        }
        Ok(found)
    }

    #[cfg(test)]
    pub(super) fn of(query: &str, body: &str) -> Self {
        Self { query: query.to_owned(), body: body.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn taken(request: Request) -> Result<Parameters, StatusCode> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("it starts");
        runtime.block_on(Parameters::from_request(request, &())).map_err(|refused| refused.status())
    }

    #[test]
    fn they_come_by_query_and_body() {
        let request = Request::post("/?a=1&b=%2F%2b+").body(Body::from(" c=3\n")).expect("a request");
        let given = taken(request).expect("nobody's page");
        assert_eq!(
            given.read(&["a", "b", "c"]),
            Ok(vec![("a", "1".to_owned()), ("b", "/++".to_owned()), ("c", "3".to_owned())])
        );
        let request = Request::post("/").body(Body::empty()).expect("a request");
        assert_eq!(taken(request).expect("nobody's page").read(&["a"]), Ok(vec![]));
    }

    #[test]
    fn a_page_in_a_browser_is_refused() {
        let request = Request::post("/?a=1").header("Origin", "null").body(Body::empty()).expect("a request");
        assert_eq!(taken(request).err(), Some(StatusCode::FORBIDDEN));
    }

    #[test]
    fn what_is_unclear_is_refused() {
        for (query, body) in [("a=1&a=2", ""), ("a=1", "a=1"), ("a=", ""), ("a", ""), ("b=1", ""), ("", "a=%FF")] {
            assert!(Parameters::of(query, body).read(&["a"]).is_err(), "{query} {body}");
        }
    }
}
