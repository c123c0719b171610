//! AMF0: what decodes encodes to the same bytes but for its counts, within the bounds; what is cut short is an error.

use bytes::BytesMut;
use shardcast::{
    limits::{AMF_DEPTH_MAX, AMF_ITEMS_MAX},
    rtmp::amf0::{Decoder, Encoder, Value},
};

use super::pieces::Dice;

pub fn run(data: &[u8]) {
    let mut decoder = Decoder::new(data);
    let mut lossy = Decoder::new(data).legacy_text();
    let mut items = 0;
    loop {
        let start = decoder.offset();
        match decoder.next_value() {
            Ok(Some(value)) => {
                items = within_bounds(items, &value);
                let same = lossy.value().expect("legacy text forgives more");
                assert_eq!(encode(&same), encode(&value));
                check(&value, &data[start..decoder.offset()]);
            }
            Ok(None) => return assert_eq!(decoder.offset(), data.len()),
            Err(_) => break,
        }
    }
    assert!(decoder.offset() <= data.len());
    // However it ends, forgiving text changes no structure.
    while let Ok(Some(_)) = lossy.next_value() {}
}

fn check(value: &Value, source: &[u8]) {
    let encoded = encode(value);
    assert_eq!(encoded.len(), source.len(), "a value is as long as it was");
    let again = Decoder::new(&encoded).value().expect("what was encoded decodes");
    assert_eq!(encode(&again), encoded);
    for cut in [source.len() - 1, Dice::new(source).roll(source.len())] {
        assert!(Decoder::new(&source[..cut]).value().is_err(), "cut at {cut} of {}", source.len());
    }
}

fn encode(value: &Value) -> BytesMut {
    let mut out = BytesMut::new();
    Encoder::new(&mut out).value(value);
    out
}

/// Values with those of `value` and the `items` before it.
pub fn within_bounds(items: usize, value: &Value) -> usize {
    let (count, depth) = measure(value);
    assert!(items + count <= AMF_ITEMS_MAX && depth <= AMF_DEPTH_MAX, "{items} and {count} values, {depth} deep");
    items + count
}

/// Values in `value`, itself included, and how deep its containers nest.
fn measure(value: &Value) -> (usize, usize) {
    let add = |(items, depth): (usize, usize), value: &Value| {
        let (more, deeper) = measure(value);
        (items + more, depth.max(deeper))
    };
    let inner = match value {
        Value::StrictArray(values) => values.iter().fold((0, 0), add),
        other => match other.properties() {
            Some(properties) => properties.iter().map(|(_, value)| value).fold((0, 0), add),
            None => return (1, 0),
        },
    };
    (inner.0 + 1, inner.1 + 1)
}
