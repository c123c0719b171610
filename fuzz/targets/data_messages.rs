//! Data messages: each is metadata, its end, or something to pass on; what is passed on is a part of what came, and a
//! stream's cache holds the last metadata and nothing else.

use std::time::Duration;

use bytes::Bytes;
use shardcast::{
    ingress::{Broadcast, broadcast::BroadcastConfig},
    limits::METADATA_BYTES_MAX,
    media::{DataRole, classify_data},
    rtmp::message::Kind,
    stream::segment::LogGauge,
};

const ON_METADATA: &[u8] = b"\x02\0\x0AonMetaData";
const SET: &[u8] = b"\x02\0\x0D@setDataFrame";
const CLEAR: &[u8] = b"\x02\0\x0F@clearDataFrame";

/// The input is messages, each behind its length of two bytes.
pub fn run(data: &[u8]) {
    let mut broadcast = Broadcast::new(BroadcastConfig::new(4_096, 1 << 20, LogGauge::default()), None);
    let mut cached: Option<Bytes> = None;
    let mut rest = data;
    while let Some((length, body)) = rest.split_first_chunk::<2>() {
        let (message, after) = body.split_at(usize::from(u16::from_be_bytes(*length)).min(body.len()));
        rest = after;
        cached = expect(message, cached);
        let taken = broadcast.publish(Kind::Data, 0, message, Duration::ZERO, 0);
        assert!(taken.is_ok(), "no data message is malformed");
        let headers = broadcast.views()[0].log().window().headers().clone();
        assert_eq!(headers.metadata(), cached.as_ref());
        assert!(headers.in_order().count() <= 1);
    }
}

/// What the cache holds after `message`.
fn expect(message: &[u8], cached: Option<Bytes>) -> Option<Bytes> {
    let body = message.strip_prefix(SET).unwrap_or(message);
    match classify_data(message) {
        DataRole::Metadata { body: found } => {
            assert!(found == body && body.starts_with(ON_METADATA));
            Some(Bytes::copy_from_slice(body)).filter(|body| body.len() <= METADATA_BYTES_MAX)
        }
        DataRole::ClearMetadata => {
            let cleared = message.strip_prefix(CLEAR).expect("it begins so");
            assert!(cleared.starts_with(ON_METADATA));
            None
        }
        DataRole::Other { body: found } => {
            assert!(found == body && !body.starts_with(ON_METADATA));
            cached
        }
    }
}
