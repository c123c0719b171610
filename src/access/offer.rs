//! What a client brings along: parameters behind a `?`, in the stream's name, the app or the tcUrl.
//!
//! Which of the three does not matter, because encoders differ in where they put what their user typed; the name's goes first.
//! Percent escapes are undone. Bound: each text has [`REQUEST_TEXT_BYTES_MAX`](crate::limits::REQUEST_TEXT_BYTES_MAX) bytes
//! when it comes here.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::Ask;
use crate::rtmp::key::{query_value, split_query};

/// The value of the first parameter with one of the names that is not empty.
pub fn value<'a>(ask: &Ask<'a>, names: &[&str]) -> Option<Cow<'a, str>> {
    let queries = [ask.query, split_query(ask.app).1, split_query(ask.tc_url).1];
    let raw = queries
        .into_iter()
        .find_map(|query| names.iter().find_map(|name| query_value(query, name).filter(|value| !value.is_empty())))?;
    Some(percent_decode_str(raw).decode_utf8().unwrap_or(Cow::Borrowed(raw)))
}

/// Whether a parameter of the name may be there.
pub fn is_there(ask: &Ask<'_>, name: &str) -> bool {
    [ask.query, ask.app, ask.tc_url].into_iter().any(|text| query_value(text, name).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{access::Action, rtmp::key::StreamKey};

    fn offered(tc_url: &str, app: &str, query: &str, names: &[&str]) -> Option<String> {
        let key = StreamKey::new("", "live", "show").unwrap();
        let peer = [127, 0, 0, 1].into();
        let ask = Ask { action: Action::Play, key: &key, app, tc_url, query, peer, unix_s: 0 };
        value(&ask, names).map(Cow::into_owned)
    }

    #[test]
    fn a_parameter_may_stand_in_each_of_three_places() {
        let tc_url = "rtmp://h/live?key=t";
        assert_eq!(offered(tc_url, "live?key=a", "x=1&key=n", &["key"]).as_deref(), Some("n"));
        assert_eq!(offered(tc_url, "live?key=a", "x=1", &["key"]).as_deref(), Some("a"));
        assert_eq!(offered(tc_url, "live", "key=", &["key"]).as_deref(), Some("t"));
        assert_eq!(offered("", "live?a", "keys=1&akey=2&key", &["key"]), None);
        assert_eq!(offered("", "live", "jwt=b", &["token", "jwt"]).as_deref(), Some("b"));
        assert_eq!(offered("", "live", "token=&jwt=b", &["token", "jwt"]).as_deref(), Some("b"));
    }

    #[test]
    fn escapes_are_undone_where_they_are_text() {
        assert_eq!(offered("", "", "ip=10.0.0.0%2F8", &["ip"]).as_deref(), Some("10.0.0.0/8"));
        for literal in ["%", "%zz", "%ff"] {
            assert_eq!(offered("", "", &format!("ip={literal}"), &["ip"]).as_deref(), Some(literal));
        }
    }
}
