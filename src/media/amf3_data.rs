//! Data messages with AMF3 values, as Flash clients with object encoding 3 send metadata, written anew in AMF0.
//!
//! Hardly any player reads AMF3. Where AMF0 has a form for all of a message, players get that; what it cannot say (byte
//! arrays, dictionaries, references to objects, what is malformed or beyond AMF's limits) passes as it came.

use bytes::BytesMut;

use crate::rtmp::amf0::{Decoder, Encoder, Value};

/// `payload` in AMF0 alone; `None` if it is so already, or cannot be.
pub fn in_amf0(payload: &[u8]) -> Option<BytesMut> {
    const AVM_PLUS_MARKER: u8 = 17;
    if !payload.contains(&AVM_PLUS_MARKER) {
        return None;
    }
    let (mut decoder, mut written) = (Decoder::new(payload), BytesMut::new());
    while let Some(value) = decoder.next_value().ok()? {
        if !is_sayable(&value) {
            return None;
        }
        Encoder::new(&mut written).value(&value);
    }
    decoder.has_met_amf3().then_some(written)
}

/// Whether nothing in `value` is without a form in AMF0. It nests as deep as a decoder lets it.
fn is_sayable(value: &Value) -> bool {
    match value {
        Value::Unsupported => false,
        Value::StrictArray(values) => values.iter().all(is_sayable),
        other => other.properties().unwrap_or_default().iter().all(|(_, value)| is_sayable(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &[u8] = b"\x02\0\x0D@setDataFrame\x02\0\x0AonMetaData";

    #[test]
    fn metadata_of_a_flash_client_becomes_amf0() {
        let amf3 = [NAMES, b"\x11\x0A\x0B\x01\x0Bwidth\x04\x8A\x00\x01"].concat();
        let amf0 = [NAMES, b"\x03\0\x05width\0\x40\x94\0\0\0\0\0\0\0\0\x09"].concat();
        assert_eq!(in_amf0(&amf3).as_deref(), Some(&amf0[..]));
        let named = b"\x11\x06\x15onMetaData\x11\x01";
        assert_eq!(in_amf0(named).as_deref(), Some(&b"\x02\0\x0AonMetaData\x05"[..]));
    }

    #[test]
    fn what_is_amf0_or_cannot_be_passes_as_it_came() {
        for payload in [
            &b""[..],
            b"\x02\0\x01x",
            // A count that is wrong, and a 17 that is no marker.
            b"\x02\0\x01\x11\x08\0\0\0\x11\0\0\x09",
            b"\x02\0\x01x\x11\x0C\x03z",
            b"\x02\0\x01x\x11\x09\x03\x01\x09\x00",
            b"\x02\0\x01x\x11",
            b"\x02\0\x01x\x11\x0A\x07\x03C",
            b"\x11\x11\x11",
        ] {
            assert_eq!(in_amf0(payload), None, "{payload:02x?}");
        }
    }

    #[test]
    fn a_message_cut_at_any_byte_is_no_other_message() {
        let whole = [NAMES, b"\x11\x0A\x0B\x01\x0Bwidth\x04\x8A\x00\x01"].concat();
        assert!((0..whole.len()).all(|end| in_amf0(&whole[..end]).is_none()));
    }
}
