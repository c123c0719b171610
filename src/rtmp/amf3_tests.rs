use super::*;
use crate::{
    limits::{AMF_BYTES_MAX, AMF_ITEMS_MAX},
    rtmp::amf0::Decoder,
};

fn read(bytes: &[u8]) -> Result<Value, AmfError> {
    let mut decoder = Decoder::all_amf3(bytes);
    let value = decoder.value()?;
    assert_eq!(decoder.offset(), bytes.len(), "{value:?} ends early");
    Ok(value)
}

fn text(text: &str) -> Value {
    Value::String(text.into())
}

fn numbers(numbers: &[f64]) -> Value {
    Value::StrictArray(numbers.iter().copied().map(Value::Number).collect())
}

fn named(properties: &[(&str, Value)]) -> Vec<(String, Value)> {
    properties.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

/// Encoded value and what it means: every marker.
fn one_of_each() -> Vec<(Vec<u8>, Value)> {
    let pairs: [(&[u8], Value); 21] = [
        (b"\x00", Value::Undefined),
        (b"\x01", Value::Null),
        (b"\x02", Value::Boolean(false)),
        (b"\x03", Value::Boolean(true)),
        (b"\x04\x7F", Value::Number(127.0)),
        (b"\x05\x3F\xF8\0\0\0\0\0\0", Value::Number(1.5)),
        (b"\x06\x0Bk\xC3\xA4se", text("käse")),
        (b"\x06\x01", text("")),
        (b"\x07\x09<a/>", Value::XmlDocument("<a/>".into())),
        (b"\x0B\x09<a/>", Value::XmlDocument("<a/>".into())),
        (b"\x08\x01\x42\x6D\x1A\x94\xA2\0\0\0", Value::Date { unix_ms: 1e12, zone: 0 }),
        (b"\x09\x05\x01\x02\x03", Value::StrictArray(vec![Value::Boolean(false), Value::Boolean(true)])),
        (b"\x09\x01\x03a\x01\x01", Value::EcmaArray(named(&[("a", Value::Null)]))),
        (
            b"\x09\x05\x03a\x01\x01\x02\x03",
            Value::EcmaArray(named(&[("a", Value::Null), ("0", Value::Boolean(false)), ("1", Value::Boolean(true))])),
        ),
        (
            b"\x0A\x1B\x01\x03s\x01\x03d\x02\x01",
            Value::Object(named(&[("s", Value::Null), ("d", Value::Boolean(false))])),
        ),
        (
            b"\x0A\x13\x07a.B\x03s\x01",
            Value::TypedObject { class: "a.B".into(), properties: named(&[("s", Value::Null)]) },
        ),
        (b"\x0C\x07\x01\x02\x03", Value::Unsupported),
        (b"\x0D\x05\x00\xFF\xFF\xFF\xFF\0\0\0\x07", numbers(&[-1.0, 7.0])),
        (b"\x0E\x03\x01\xFF\xFF\xFF\xFF", numbers(&[4_294_967_295.0])),
        (b"\x10\x05\x00\x03T\x01\x03", Value::StrictArray(vec![Value::Null, Value::Boolean(true)])),
        (b"\x11\x03\x00\x04\x01\x06\x03v", Value::Unsupported),
    ];
    let double = (b"\x0F\x03\x00\x3F\xF8\0\0\0\0\0\0".to_vec(), numbers(&[1.5]));
    pairs.into_iter().map(|(bytes, value)| (bytes.to_vec(), value)).chain([double]).collect()
}

#[test]
fn every_marker_is_read() {
    let each = one_of_each();
    assert_eq!((0..18).find(|marker| !each.iter().any(|(bytes, _)| bytes[0] == *marker)), None);
    for (bytes, value) in each {
        assert_eq!(read(&bytes), Ok(value), "{bytes:02x?}");
    }
}

#[test]
fn a_value_cut_at_any_byte_is_an_error() {
    let all: Vec<u8> = one_of_each().into_iter().flat_map(|(bytes, _)| bytes).collect();
    let list = [&[9, 22 << 1 | 1, 1][..], &all].concat();
    assert!(matches!(read(&list), Ok(Value::StrictArray(values)) if values.len() == 22));
    for end in 0..list.len() {
        let error = read(&list[..end]).unwrap_err();
        assert!(matches!(error, AmfError::Truncated { at } if at <= end), "{error} at {end}");
    }
}

#[test]
fn integers_have_29_bits_and_a_sign() {
    for (bytes, number) in [
        (&b"\x04\x00"[..], 0.0),
        (b"\x04\x81\x00", 128.0),
        (b"\x04\xFF\x7F", 16_383.0),
        (b"\x04\x81\x80\x00", 16_384.0),
        (b"\x04\xBF\xFF\xFF\xFF", 268_435_455.0),
        (b"\x04\xC0\x80\x80\x00", -268_435_456.0),
        (b"\x04\xFF\xFF\xFF\xFF", -1.0),
    ] {
        assert_eq!(read(bytes), Ok(Value::Number(number)), "{bytes:02x?}");
    }
}

#[test]
fn strings_and_traits_are_referred_to() {
    // A list of "ab" twice, then two objects of one class; its member's name is the first string.
    let bytes = b"\x09\x09\x01\x06\x05ab\x06\x00\x0A\x13\x03C\x00\x02\x0A\x01\x03";
    let object = |value| Value::TypedObject { class: "C".into(), properties: named(&[("ab", Value::Boolean(value))]) };
    assert_eq!(read(bytes), Ok(Value::StrictArray(vec![text("ab"), text("ab"), object(false), object(true)])));
}

#[test]
fn the_values_of_a_message_share_their_tables_and_amf0_goes_on_between_them() {
    let bytes = b"\x11\x06\x05ab\x02\0\x01x\x11\x06\x00\x03\0\x01p\x11\x06\x00\0\0\x09";
    let mut decoder = Decoder::new(bytes);
    let values: Vec<_> = std::iter::from_fn(|| decoder.next_value().unwrap()).collect();
    assert_eq!(values, [text("ab"), text("x"), text("ab"), Value::Object(named(&[("p", text("ab"))]))]);
}

#[test]
fn a_reference_to_an_object_makes_no_cycle() {
    // A list that holds itself, and a date twice.
    assert_eq!(read(b"\x09\x03\x01\x09\x00"), Ok(Value::StrictArray(vec![Value::Unsupported])));
    let date = Value::Date { unix_ms: 0.0, zone: 0 };
    assert_eq!(
        read(b"\x09\x05\x01\x08\x01\0\0\0\0\0\0\0\0\x08\x02"),
        Ok(Value::StrictArray(vec![date, Value::Unsupported]))
    );
}

#[test]
fn references_to_what_was_not_read_are_refused() {
    for bytes in [&b"\x06\x00"[..], b"\x09\x00", b"\x0A\x02", b"\x0A\x01", b"\x0C\x04", b"\x09\x01\x00", b"\x0F\x00"] {
        assert_eq!(read(bytes), Err(AmfError::Reference { at: bytes.len() }), "{bytes:02x?}");
    }
    // The empty string is in no table.
    assert_eq!(read(b"\x09\x05\x01\x06\x01\x06\x00"), Err(AmfError::Reference { at: 7 }));
}

#[test]
fn externalizable_objects_and_unknown_markers_are_refused() {
    assert_eq!(read(b"\x0A\x07\x03Cxyz"), Err(AmfError::Externalizable { at: 2 }));
    for marker in 18..=255 {
        assert_eq!(read(&[9, 3, 1, marker]), Err(AmfError::Marker { marker, at: 3 }));
    }
}

#[test]
fn nesting_ends_at_the_bound_that_amf0_has_too() {
    let nested = |opening: &[u8], depth| [&opening.repeat(depth)[..], b"\x01"].concat();
    for opening in [&b"\x09\x03\x01"[..], b"\x10\x03\x00\x01"] {
        assert!(read(&nested(opening, AMF_DEPTH_MAX)).is_ok());
        assert!(matches!(read(&nested(opening, AMF_DEPTH_MAX + 1)), Err(AmfError::Depth { .. })));
        assert!(matches!(read(&nested(opening, 70_000)), Err(AmfError::Depth { .. })));
    }
    let (objects, dictionaries) = (b"\x0A\x0B\x01\x03a".repeat(70_000), b"\x11\x03\x00".repeat(70_000));
    assert!(matches!(read(&objects), Err(AmfError::Depth { .. })));
    assert!(matches!(read(&dictionaries), Err(AmfError::Depth { .. })));
    // Inside AMF0's containers.
    let mixed = |outer: usize| [&b"\x0A\0\0\0\x01".repeat(outer)[..], b"\x11", &nested(b"\x09\x03\x01", 20)].concat();
    assert!(Decoder::new(&mixed(AMF_DEPTH_MAX - 20)).value().is_ok());
    assert!(matches!(Decoder::new(&mixed(AMF_DEPTH_MAX - 19)).value(), Err(AmfError::Depth { .. })));
}

#[test]
fn announced_counts_are_not_believed() {
    let count = b"\xFF\xFF\xFF\xFF";
    for (marker, rest) in [(9, &b"\x01"[..]), (13, b"\0"), (14, b"\0"), (15, b"\0"), (16, b"\0\x01"), (17, b"\0")] {
        let bytes = [&[marker][..], count, rest].concat();
        assert!(matches!(read(&bytes), Err(AmfError::Truncated { .. })), "marker {marker}");
    }
    for marker in [6, 7, 11, 12] {
        let bytes = [&[marker][..], count, b"abc"].concat();
        assert!(matches!(read(&bytes), Err(AmfError::Truncated { .. })), "marker {marker}");
    }
    // 2^25 sealed members.
    assert!(matches!(read(b"\x0A\xFF\xFF\xFF\xFB\x01"), Err(AmfError::Truncated { .. })));
}

#[test]
fn endless_values_and_names_meet_the_item_bound() {
    let many = AMF_ITEMS_MAX;
    let count = |elements: usize| [0x80 | (elements >> 6 & 0x7F) as u8, (elements << 1 & 0x7F | 1) as u8];
    let vector = [&[13][..], &count(many), b"\0", &vec![0; 4 * many]].concat();
    let array = [&[9][..], &count(many), b"\x01", &vec![1; many]].concat();
    let dynamic = [&b"\x0A\x0B\x01"[..], &b"\x03a\x01".repeat(many)].concat();
    let sealed = [
        &[10, 0x80 | (many >> 10) as u8, 0x80 | (many >> 3 & 0x7F) as u8, (many << 4 & 0x7F) as u8 | 3],
        &[1; 5_000][..],
    ]
    .concat();
    for bytes in [vector, array, dynamic, sealed] {
        assert!(matches!(read(&bytes), Err(AmfError::Items { .. })), "{:02x?}", &bytes[..4]);
    }
}

#[test]
fn text_repeated_by_reference_meets_the_byte_bound() {
    let length = 60_000_u32;
    let name = [
        &[0x80 | (length >> 13) as u8, 0x80 | (length >> 6 & 0x7F) as u8, (length << 1 & 0x7F | 1) as u8],
        &vec![b'x'; length as usize][..],
    ]
    .concat();
    let strings =
        |count: u8| [&[9, count << 1 | 1, 1, 6], &name[..], &b"\x06\x00".repeat(usize::from(count) - 1)].concat();
    assert!(read(&strings(4)).is_ok());
    assert!(matches!(read(&strings(5)), Err(AmfError::Bytes { .. })));
    // A class of that name, and objects of it.
    let objects = [&[9, 10 << 1 | 1, 1, 10, 3], &name[..], &b"\x0A\x01".repeat(9)].concat();
    assert!(matches!(read(&objects), Err(AmfError::Bytes { at }) if at < AMF_BYTES_MAX));
}

#[test]
fn text_that_is_not_utf8_is_refused_or_replaced() {
    let bytes = b"\x06\x07a\xFFb";
    assert_eq!(read(bytes), Err(AmfError::Utf8 { at: 2 }));
    assert_eq!(Decoder::all_amf3(bytes).legacy_text().value(), Ok(text("a\u{FFFD}b")));
}
