//! What a server's reply means.

use serde_json::Value;

use super::{Format, client::Reply};
use crate::{limits, shard::questions::Decision};

/// A success allows, unless its JSON says otherwise; a client error refuses. Anything else is no decision.
pub(super) fn decision(format: Format, reply: &Reply) -> Decision {
    let Reply { status, body, .. } = reply;
    let said = serde_json::from_slice::<Value>(body).ok().filter(Value::is_object);
    let reason = said.as_ref().and_then(|said| said.get("reason")?.as_str()).map(cleaned).filter(|why| !why.is_empty());
    let refused = |reason: Option<String>| Decision::Refused(reason.unwrap_or_else(|| "refused".to_owned()));
    if status.is_success() {
        if format == Format::NginxRtmp {
            return Decision::Allowed;
        }
        let is_json = body.trim_ascii_start().starts_with(b"{");
        return match said.as_ref().map(|said| said.get("allow")) {
            Some(None | Some(Value::Bool(true))) => Decision::Allowed,
            Some(Some(Value::Bool(false))) => refused(reason),
            Some(Some(other)) => Decision::Failed(format!("'allow' is neither true nor false, but {}", kind(other))),
            None if is_json => Decision::Failed("the answer begins like JSON and is none".to_owned()),
            // Words that are for people, or nothing: the status says it.
            None => Decision::Allowed,
        };
    }
    match format {
        Format::NginxRtmp => refused(reason),
        Format::Json if status.is_client_error() => refused(reason),
        Format::Json if status.is_redirection() => Decision::Failed(format!("{status}: redirects are not followed")),
        Format::Json => Decision::Failed(status.to_string()),
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
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => "something else",
    }
}

/// A text of the server's as the client and the log may see it.
fn cleaned(text: &str) -> String {
    let letters = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c });
    letters.filter(|c| !c.is_control()).take(limits::CALLBACK_REASON_LETTERS_MAX).collect::<String>().trim().to_owned()
}
