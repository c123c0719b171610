//! `connect` and its reply (RTMP 1.0, 7.2.1.1; Enhanced RTMP v2, "Enhancing NetConnection connect Command").

use bytes::BytesMut;

use super::super::{
    HOPS,
    amf0::{Decoder, Encoder, Value},
    capabilities::Capabilities,
    command::Command,
    control::{Outbox, status_object},
    error::SessionError,
    message::Header,
};
use super::{ClientWords, connection::amf_error};
use crate::limits::{
    ACK_WINDOW_BYTES_DEFAULT, CLIENT_WORD_LETTERS_MAX, HOPS_MAX, NODE_NAME_BYTES_MAX, REQUEST_TEXT_BYTES_MAX,
};

/// `fmsVer` and `capabilities` of a server that clients of every age have met.
const FMS_VERSION: &str = "FMS/3,5,7,7009";
const CAPABILITIES: f64 = 31.0;

/// What a client said about itself. Every connection keeps it, so it is one allocation.
#[derive(Debug)]
pub(super) struct Connect {
    /// app, tcUrl, hops, what it calls itself (if that is kept) and capabilities (AMF0, empty if it has none), parted by
    /// NUL, which no text can hold.
    said: Box<[u8]>,
}

/// How the client wants to be answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect {
    /// It offered something of Enhanced RTMP v2, so the reply may too.
    enhanced: bool,
    object_encoding: f64,
    /// See [`leaves_acknowledgements_unread`].
    unread: bool,
}

impl Connect {
    /// Reads connect's command object. `Ok(Err(..))` is what to tell a client whose app or tcUrl cannot be used.
    pub(super) fn parse(
        command: &mut Command<'_>,
        header: &Header,
        keeps_client: bool,
    ) -> Result<Result<(Self, Dialect), &'static str>, SessionError> {
        let object = command.argument().map_err(|source| amf_error(header, source))?;
        let text = |name| object.get(name).and_then(Value::as_str);
        let (Some(app), Some(tc_url)) = (text("app"), text("tcUrl")) else {
            return Ok(Err("connect needs an app and a tcUrl, both strings"));
        };
        if app.len().max(tc_url.len()) > REQUEST_TEXT_BYTES_MAX {
            return Ok(Err("app or tcUrl is too long"));
        }
        if [app, tc_url].iter().any(|text| text.chars().any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER)) {
            return Ok(Err("app or tcUrl has control characters or is not UTF-8"));
        }
        let object_encoding = object.get("objectEncoding").and_then(Value::as_finite);
        let capabilities = Capabilities::read(&object);
        let hops = text(HOPS).map_or_else(String::new, kept_hops);
        let word = |name| text(name).filter(|_| keeps_client).map_or_else(String::new, kept_word);
        let client = ["flashVer", "swfUrl", "pageUrl"].map(word).join("\0");
        let mut said = BytesMut::from([app, tc_url, &hops, &client, ""].join("\0").as_bytes());
        if let Some(capabilities) = &capabilities {
            let mut out = Encoder::new(&mut said);
            capabilities.write(out.object());
            out.end();
        }
        let connect = Self { said: said[..].into() };
        let dialect = Dialect {
            enhanced: capabilities.is_some(),
            object_encoding: object_encoding.filter(|encoding| *encoding == 3.0).unwrap_or(0.0),
            unread: text("flashVer").is_some_and(leaves_acknowledgements_unread),
        };
        Ok(Ok((connect, dialect)))
    }

    pub(super) fn app(&self) -> &str {
        self.text(0)
    }

    pub(super) fn tc_url(&self) -> &str {
        self.text(1)
    }

    /// See [`ServerSession::hops`](super::ServerSession::hops).
    pub(super) fn hops(&self) -> impl Iterator<Item = &str> {
        self.text(2).split(',').filter(|hop| !hop.is_empty())
    }

    /// See [`ServerSession::client`](super::ServerSession::client).
    pub(super) fn client(&self) -> ClientWords {
        let word = |index| self.text(index).to_owned();
        ClientWords { flash_version: word(3), swf_url: word(4), page_url: word(5) }
    }

    pub(super) fn leaves_hops_out(&self) -> bool {
        self.text(2).starts_with(',')
    }

    fn text(&self, index: usize) -> &str {
        let text = self.said.split(|byte| *byte == 0).nth(index);
        text.and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
    }

    pub(super) fn capabilities(&self) -> Option<Capabilities> {
        let capabilities = self.said.splitn(7, |byte| *byte == 0).nth(6)?;
        Capabilities::read(&Decoder::new(capabilities).next_value().ok()??)
    }
}

/// The last [`HOPS_MAX`] names of a list of hops; a comma in front says that it had more, or others than nodes can have.
fn kept_hops(list: &str) -> String {
    let is_name = |hop: &&str| hop.len() <= NODE_NAME_BYTES_MAX && !hop.chars().any(char::is_control);
    let (names, others): (Vec<&str>, Vec<&str>) = list.split(',').filter(|hop| !hop.is_empty()).partition(is_name);
    let left_out = names.len().saturating_sub(HOPS_MAX);
    let kept = names.get(left_out..).unwrap_or_default().join(",");
    if left_out > 0 || !others.is_empty() { format!(",{kept}") } else { kept }
}

/// The beginning of what a client says of itself, without control characters.
fn kept_word(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(CLIENT_WORD_LETTERS_MAX).collect()
}

/// FFmpeg (libavformat) publishes without a Window Acknowledgement Size, never waits for an Acknowledgement, and reads one
/// message per ten packets. Closing with one unread, its kernel sends RST in place of what was not sent yet: the last frame.
fn leaves_acknowledgements_unread(flash_version: &str) -> bool {
    flash_version.contains("Lavf")
}

impl Dialect {
    /// Whether to acknowledge nothing until the client announces a window.
    pub(super) fn acknowledges_on_request(&self) -> bool {
        self.unread
    }

    /// Window, bandwidth, chunk size (the one time it is announced) and NetConnection.Connect.Success.
    pub(super) fn accept(&self, transaction: f64, chunk_bytes: usize, outbox: &mut Outbox) {
        outbox.window_ack_size(ACK_WINDOW_BYTES_DEFAULT);
        outbox.set_peer_bandwidth(ACK_WINDOW_BYTES_DEFAULT);
        outbox.set_chunk_bytes(chunk_bytes);
        outbox.command(0, "_result", transaction, |out| {
            out.object().key("fmsVer").string(FMS_VERSION).key("capabilities").number(CAPABILITIES);
            out.key("mode").number(1.0).end();
            out.object().key("level").string("status").key("code").string("NetConnection.Connect.Success");
            out.key("description").string("Connection succeeded.");
            out.key("objectEncoding").number(self.object_encoding);
            if self.enhanced {
                Capabilities::of_relay().write(out);
            }
            out.end();
        });
    }
}

/// `_error` to a connect that cannot be used.
pub(super) fn reject(transaction: f64, code: &str, description: &str, outbox: &mut Outbox) {
    outbox.command(0, "_error", transaction, |out| {
        out.null();
        status_object(out, "error", code, description);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_hops_the_last_are_kept_and_it_shows_if_there_were_more() {
        let many: Vec<String> = (0..HOPS_MAX).map(|hop| format!("node-{hop}")).collect();
        assert_eq!(kept_hops(&many.join(",")), many.join(","));
        assert_eq!(kept_hops(&format!("first,{}", many.join(","))), format!(",{}", many.join(",")));
        let long = "n".repeat(NODE_NAME_BYTES_MAX);
        assert_eq!(kept_hops(&format!("{long},b")), format!("{long},b"));
        assert_eq!(kept_hops(&format!("{long}n,b")), ",b");
        assert_eq!(kept_hops("a\0,b\n,c"), ",c");
        assert_eq!((kept_hops(""), kept_hops(",a,,b,")), (String::new(), "a,b".to_owned()));
        assert_eq!(kept_hops("\t"), ",");
    }
}
