//! `connect` and its reply (RTMP 1.0, 7.2.1.1; Enhanced RTMP v2, "Enhancing NetConnection connect Command").

use super::super::{
    CAPS_RECONNECT,
    amf0::{Encoder, Value},
    command::Command,
    control::{Outbox, status_object},
    error::SessionError,
    message::Header,
};
use super::connection::amf_error;
use crate::limits::{ACK_WINDOW_BYTES_DEFAULT, REQUEST_TEXT_BYTES_MAX};

/// `fmsVer` and `capabilities` of a server that clients of every age have met.
const FMS_VERSION: &str = "FMS/3,5,7,7009";
const CAPABILITIES: f64 = 31.0;
/// Enhanced RTMP v2 `capsEx` of the server: it asks clients to reconnect elsewhere. Everything else passes through, but
/// players that did not ask for several tracks or for ModEx would get them all the same, so nobody is told to send them.
const CAPS_EX: u8 = CAPS_RECONNECT;
/// Bit of a codec's entry in a FourCC info map: it can be forwarded.
const FOURCC_FORWARD: f64 = 4.0;

/// What a client said about itself.
#[derive(Debug)]
pub(super) struct Connect {
    /// app and tcUrl, parted by NUL, which they cannot hold: every connection keeps them, so they share one allocation.
    text: Box<str>,
}

/// How the client wants to be answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect {
    /// It offered something of Enhanced RTMP v2, so the reply may too.
    enhanced: bool,
    /// Its `capsEx`. Bits beyond the first eight are not assigned.
    pub(super) caps_ex: u8,
    object_encoding: f64,
}

impl Connect {
    /// Reads connect's command object. `Ok(Err(..))` is what to tell a client whose app or tcUrl cannot be used.
    pub(super) fn parse(
        command: &mut Command<'_>,
        header: &Header,
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
        let caps_ex = object.get("capsEx").and_then(Value::as_finite).unwrap_or(0.0);
        let enhanced = ["fourCcList", "videoFourCcInfoMap", "audioFourCcInfoMap", "capsEx"];
        let object_encoding = object.get("objectEncoding").and_then(Value::as_finite);
        let connect = Self { text: [app, tc_url].join("\0").into() };
        let dialect = Dialect {
            caps_ex: caps_ex as u32 as u8,
            enhanced: enhanced.iter().any(|name| object.get(name).is_some()),
            object_encoding: object_encoding.filter(|encoding| *encoding == 3.0).unwrap_or(0.0),
        };
        Ok(Ok((connect, dialect)))
    }

    pub(super) fn app(&self) -> &str {
        self.text.split_once('\0').map_or("", |(app, _)| app)
    }

    pub(super) fn tc_url(&self) -> &str {
        self.text.split_once('\0').map_or("", |(_, tc_url)| tc_url)
    }
}

impl Dialect {
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
                offer(out);
            }
            out.end();
        });
    }
}

/// The server's side of the Enhanced RTMP v2 negotiation: every codec is forwarded, none decoded.
fn offer(out: &mut Encoder<'_>) {
    out.key("capsEx").number(CAPS_EX.into());
    out.key("fourCcList").strict_array(1).string("*");
    for map in ["videoFourCcInfoMap", "audioFourCcInfoMap"] {
        out.key(map).object().key("*").number(FOURCC_FORWARD).end();
    }
}

/// `_error` to a connect that cannot be used.
pub(super) fn reject(transaction: f64, code: &str, description: &str, outbox: &mut Outbox) {
    outbox.command(0, "_error", transaction, |out| {
        out.null();
        status_object(out, "error", code, description);
    });
}
