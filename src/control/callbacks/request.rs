//! What a callback says: the body in either format, and the signature over it.

use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use http_body_util::Full;
use hyper::{Method, Request, Uri, body::Bytes, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Serialize;
use sha2::Sha256;

use super::{Format, Plan};
use crate::{
    rtmp::{hex::to_hex, key::split_query},
    shard::questions::{Event, Question, Subject},
};

/// The header of the signature: `t=UNIX,v1=HEX`.
pub(super) const SIGNATURE: &str = "x-shardcast-signature";

/// Makes signatures with the operator's secret.
pub(super) struct Signer(Arc<[u8]>);

impl Signer {
    pub(super) fn new(secret: Arc<[u8]>) -> Self {
        Self(secret)
    }

    /// HMAC-SHA256 of `UNIX.BODY`.
    pub(super) fn sign(&self, unix_s: u64, body: &[u8]) -> Option<String> {
        // A key of any length is taken.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(format!("{unix_s}.").as_bytes());
        mac.update(body);
        Some(format!("t={unix_s},v1={}", to_hex(&mac.finalize().into_bytes())))
    }
}

/// As sent at `now_s`, in seconds since 1970: what is told may have waited for longer than its reader takes signatures.
pub(super) fn request(
    plan: &Plan,
    url: &Uri,
    signer: Option<&Signer>,
    question: &Question,
    now_s: u64,
) -> hyper::http::Result<Request<Full<Bytes>>> {
    let (kind, body) = match plan.format {
        Format::Json => ("application/json", json(&plan.node, question)),
        Format::NginxRtmp => ("application/x-www-form-urlencoded", form(question)),
    };
    let request = Request::builder()
        .method(Method::POST)
        .uri(url)
        .header(header::CONTENT_TYPE, kind)
        .header(header::USER_AGENT, concat!("shardcast/", env!("CARGO_PKG_VERSION")));
    let signature = signer.and_then(|signer| signer.sign(now_s, body.as_bytes()));
    let request = match signature {
        Some(signature) => request.header(SIGNATURE, signature),
        None => request,
    };
    request.body(Full::new(body.into()))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    event: &'static str,
    /// Seconds since 1970.
    time: u64,
    node: &'a str,
    shard: usize,
    client: ClientBody<'a>,
    app: &'a str,
    tc_url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<StreamBody<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ClientBody<'a> {
    id: u64,
    address: String,
    port: u16,
    protocol: &'static str,
    flash_ver: &'a str,
    swf_url: &'a str,
    page_url: &'a str,
}

#[derive(Serialize)]
struct StreamBody<'a> {
    /// What this node calls it: `app/name`, or `vhost//app/name`.
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    vhost: Option<&'a str>,
    name: &'a str,
    query: &'a str,
}

fn json(node: &str, question: &Question) -> String {
    let Subject { client, secure, shard, peer, app, tc_url, words, key, query } = &*question.subject;
    let stream = key.as_ref().map(|key| StreamBody {
        key: key.as_str(),
        vhost: key.as_str().split_once("//").map(|(vhost, _)| vhost),
        name: key.name_in(split_query(app).0),
        query,
    });
    let body = Body {
        event: question.event.label(),
        time: question.unix_s,
        node,
        shard: *shard,
        client: ClientBody {
            id: *client,
            address: peer.ip().to_string(),
            port: peer.port(),
            protocol: if *secure { "rtmps" } else { "rtmp" },
            flash_ver: &words.flash_version,
            swf_url: &words.swf_url,
            page_url: &words.page_url,
        },
        app,
        tc_url,
        stream,
    };
    // Numbers and texts are always JSON.
    serde_json::to_string(&body).unwrap_or_default()
}

/// As nginx-rtmp-module's: what is known of the session, then the call, then what followed `?`, as the client wrote it, without
/// what would be taken for one of the former.
fn form(question: &Question) -> String {
    let Subject { client, peer, app, tc_url, words, key, query, .. } = &*question.subject;
    let (app, app_query) = split_query(app);
    let session = [
        ("app", app),
        ("flashver", &words.flash_version),
        ("swfurl", &words.swf_url),
        ("tcurl", tc_url),
        ("pageurl", &words.page_url),
        ("addr", &peer.ip().to_string()),
        ("clientid", &client.to_string()),
    ];
    let mut out = String::new();
    for (name, value) in session {
        pair(&mut out, name, value);
    }
    pair(&mut out, "call", question.event.label());
    if let Some(key) = key {
        pair(&mut out, "name", key.name_in(app));
    }
    match question.event {
        Event::Publish => pair(&mut out, "type", "live"),
        Event::Play => {
            for (name, value) in [("start", "0"), ("duration", "0"), ("reset", "0")] {
                pair(&mut out, name, value);
            }
        }
        _ => {}
    }
    let arguments = if question.event == Event::Connect { app_query } else { query };
    for argument in arguments.split('&').filter(|argument| !argument.is_empty() && !is_taken(argument)) {
        out.push('&');
        out.extend(utf8_percent_encode(argument, ARGUMENTS));
    }
    out
}

/// Fields that are the node's to say: most readers of forms go by the last of a name.
const FIELDS: [&str; 13] = [
    "app", "flashver", "swfurl", "tcurl", "pageurl", "addr", "clientid", "call", "name", "type", "start", "duration",
    "reset",
];

/// Whether some reader may take the argument for a field: case, blanks, escapes and what PHP takes for the key of an array do not
/// tell it apart for all of them.
fn is_taken(argument: &str) -> bool {
    let name = argument.split('=').next().unwrap_or_default().replace('+', " ");
    let name = percent_decode_str(&name).decode_utf8_lossy();
    let name = name.trim_matches(|c: char| c.is_whitespace() || c.is_control());
    let name = name.split(['[', '\0']).next().unwrap_or_default().trim_end();
    FIELDS.iter().any(|field| name.eq_ignore_ascii_case(field))
}

/// A value of a form.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Arguments are pairs already, and escaped as far as their client did; what is no part of a form is escaped here.
const ARGUMENTS: &AsciiSet = &VALUE.remove(b'&').remove(b'=').remove(b'%').remove(b'+');

fn pair(out: &mut String, name: &str, value: &str) {
    if !out.is_empty() {
        out.push('&');
    }
    out.push_str(name);
    out.push('=');
    out.extend(utf8_percent_encode(value, VALUE));
}
