//! What a server's reply means.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{Format, client::Reply};
use crate::{limits, shard::questions::Decision};

/// What counts in an answer. A field that stands there twice is a fault: readers differ in which they take.
#[derive(Debug, Default, Deserialize)]
struct Said {
    #[serde(default, deserialize_with = "given")]
    allow: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    reason: Option<Value>,
}

/// Tells null from nothing.
fn given<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(value).map(Some)
}

/// A success allows, unless its JSON says otherwise; a client error refuses. Anything else is no decision. Of what was told, not
/// asked, the status alone counts.
pub(super) fn decision(format: Format, reply: &Reply, is_asked: bool) -> Decision {
    let status = reply.status;
    let refused = |said: Said| {
        let reason = said.reason.as_ref().and_then(Value::as_str).map(cleaned).filter(|why| !why.is_empty());
        Decision::Refused(reason.unwrap_or_else(|| "refused".to_owned()))
    };
    match format {
        _ if status.is_success() && (format == Format::NginxRtmp || !is_asked) => Decision::Allowed,
        Format::Json if status.is_success() => match said(reply) {
            Err(why) => Decision::Failed(why),
            Ok(said) => match said.allow {
                None | Some(Value::Bool(true)) => Decision::Allowed,
                Some(Value::Bool(false)) => refused(said),
                Some(other) => Decision::Failed(format!("'allow' is neither true nor false, but {}", kind(&other))),
            },
        },
        Format::Json if status.is_redirection() => Decision::Failed(format!("{status}: redirects are not followed")),
        Format::Json if !status.is_client_error() => Decision::Failed(status.to_string()),
        Format::NginxRtmp | Format::Json => refused(said(reply).unwrap_or_default()),
    }
}

/// What a body says: nothing, if it is words for people. A body that may say no, but cannot be read, is not taken for a yes.
fn said(reply: &Reply) -> Result<Said, String> {
    if let Some(encoding) = reply.encoding.as_ref().filter(|_| !reply.body.is_empty()) {
        return Err(format!("the answer is encoded as {:?}, which was not asked for", cleaned(encoding)));
    }
    let text = str::from_utf8(&reply.body).map_err(|_| "the answer is not UTF-8".to_owned())?;
    // What some frameworks put first.
    let text = text.trim_start_matches('\u{feff}').trim();
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(_)) => serde_json::from_str(text).map_err(|error| format!("the answer is ambiguous: {error}")),
        // PHP writes an object without fields so.
        Ok(Value::Array(fields)) if fields.is_empty() => Ok(Said::default()),
        Ok(other) => Err(format!("the answer is {}, where an object is expected", kind(&other))),
        Err(_) if text.is_empty() => Ok(Said::default()),
        Err(error) if reply.is_json || text.starts_with(['{', '[']) => {
            Err(format!("the answer is to be JSON, and is none: {error}"))
        }
        Err(_) => Ok(Said::default()),
    }
}

/// What the operator may not expect to come of a reply that decides.
pub(super) fn remark(format: Format, reply: &Reply) -> Option<String> {
    (format == Format::NginxRtmp && reply.status.is_redirection()).then(|| {
        let to = reply.location.as_deref().map(cleaned).unwrap_or_default();
        format!("callback answered by {} to {to:?}: clients are not redirected here, but refused", reply.status)
    })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Bool(_) => "a truth value",
        Value::Array(_) | Value::Object(_) => "something else",
    }
}

/// A text of the server's as the client and the log may see it.
fn cleaned(text: &str) -> String {
    let letters = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c });
    letters.filter(|c| !c.is_control()).take(limits::CALLBACK_REASON_LETTERS_MAX).collect::<String>().trim().to_owned()
}
