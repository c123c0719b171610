//! AMF0, the value encoding of RTMP commands and metadata (AMF 0 specification, sections 2.1 to 2.18).
//!
//! [`Decoder`] reads one value after another from a message body, only as far as it is asked to: a command's name and
//! transaction cost nothing for the arguments behind them. It is iterative, and every value read is charged to three
//! bounds: nesting ([`AMF_DEPTH_MAX`]), values ([`AMF_ITEMS_MAX`](crate::limits::AMF_ITEMS_MAX)) and bytes
//! ([`AMF_BYTES_MAX`](crate::limits::AMF_BYTES_MAX)). Announced counts are never allocated for. References (marker 7) are
//! refused: nothing a session answers needs them, and so no value has a cycle. Marker 17 switches one value to
//! AMF3. Numbers may be NaN or infinite; whoever uses one validates it.
//!
//! [`Encoder`] writes values piece by piece, or a whole [`Value`].

use bytes::{BufMut, BytesMut};

pub use super::amf::AmfError;
use super::{
    amf::Input,
    amf3::{self, Tables},
};
use crate::limits::AMF_DEPTH_MAX;

/// Type markers (AMF 0, 2.1).
mod marker {
    pub(super) const NUMBER: u8 = 0;
    pub(super) const BOOLEAN: u8 = 1;
    pub(super) const STRING: u8 = 2;
    pub(super) const OBJECT: u8 = 3;
    pub(super) const NULL: u8 = 5;
    pub(super) const UNDEFINED: u8 = 6;
    pub(super) const ECMA_ARRAY: u8 = 8;
    pub(super) const OBJECT_END: u8 = 9;
    pub(super) const STRICT_ARRAY: u8 = 10;
    pub(super) const DATE: u8 = 11;
    pub(super) const LONG_STRING: u8 = 12;
    pub(super) const UNSUPPORTED: u8 = 13;
    pub(super) const XML_DOCUMENT: u8 = 15;
    pub(super) const TYPED_OBJECT: u8 = 16;
    pub(super) const AVM_PLUS: u8 = 17;
}

/// Names and values in the order they were written; a name may occur twice.
pub type Properties = Vec<(String, Value)>;

/// One AMF0 value. A decoded value nests at most [`AMF_DEPTH_MAX`] deep, so dropping or encoding it may recurse.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Any f64, NaN and the infinities included.
    Number(f64),
    Boolean(bool),
    String(String),
    Object(Properties),
    Null,
    Undefined,
    EcmaArray(Properties),
    StrictArray(Vec<Value>),
    /// Milliseconds since 1970 UTC, any f64; the time zone in minutes is reserved and kept as it came.
    Date {
        unix_ms: f64,
        zone: i16,
    },
    LongString(String),
    Unsupported,
    XmlDocument(String),
    TypedObject {
        class: String,
        properties: Properties,
    },
}

impl Value {
    /// The text of a string, short or long.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) | Value::LongString(text) => Some(text),
            _ => None,
        }
    }

    /// A number, NaN and the infinities excepted.
    pub fn as_finite(&self) -> Option<f64> {
        match self {
            Value::Number(number) if number.is_finite() => Some(*number),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Boolean(value) => Some(*value),
            _ => None,
        }
    }

    /// The properties of an object of any kind.
    pub fn properties(&self) -> Option<&[(String, Value)]> {
        match self {
            Value::Object(properties) | Value::EcmaArray(properties) | Value::TypedObject { properties, .. } => {
                Some(properties)
            }
            _ => None,
        }
    }

    /// Adds what was read to a container that is being read, under `key` where it has names. What is no container in AMF0
    /// (a dictionary of AMF3) keeps nothing.
    pub(super) fn push(&mut self, key: &mut String, value: Self) {
        match self {
            Self::Object(properties) | Self::EcmaArray(properties) | Self::TypedObject { properties, .. } => {
                properties.push((std::mem::take(key), value));
            }
            Self::StrictArray(values) => values.push(value),
            _ => {}
        }
    }

    /// The first property called `name`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.properties()?.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

/// Reads values from a message body, one by one. After an error it is spent: further reads may make no sense.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    input: Input<'a>,
    /// Of the AMF3 values in the message, which share them.
    tables: Tables,
    met_amf3: bool,
    /// Every value is AMF3, without the marker that switches to it.
    all_amf3: bool,
}

/// A container whose end has not been read.
struct Open {
    value: Value,
    /// The name of the property being read; unused in a strict array.
    key: String,
    /// Elements a strict array still announces.
    remaining: u32,
}

/// The first bytes of a value: all of it, or a container's opening.
enum Begun {
    Whole(Value),
    Open(Open),
}

impl<'a> Decoder<'a> {
    pub fn new(input: &'a [u8]) -> Self {
        Self { input: Input::new(input), tables: Tables::default(), met_amf3: false, all_amf3: false }
    }

    /// For a body of AMF3 values only, which nothing switches to.
    pub fn all_amf3(input: &'a [u8]) -> Self {
        Self { all_amf3: true, ..Self::new(input) }
    }

    /// Text that is not UTF-8 is read with replacement characters (U+FFFD) instead of refused.
    ///
    /// Windows encoders write the machine's code page into `flashVer`, encoder names and titles.
    pub fn legacy_text(mut self) -> Self {
        self.input.forgive_text();
        self
    }

    /// Bytes read so far.
    pub fn offset(&self) -> usize {
        self.input.at()
    }

    /// Whether a value switched to AMF3.
    pub fn has_met_amf3(&self) -> bool {
        self.met_amf3
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.input.rest()
    }

    /// The next value, or `None` at the end of the body.
    pub fn next_value(&mut self) -> Result<Option<Value>, AmfError> {
        if self.rest().is_empty() { Ok(None) } else { self.value().map(Some) }
    }

    /// The next value; the end of the body is an error.
    pub fn value(&mut self) -> Result<Value, AmfError> {
        if self.all_amf3 {
            return amf3::value(&mut self.input, &mut self.tables, 0);
        }
        let mut open: Vec<Open> = Vec::new();
        loop {
            let ended = match open.last_mut() {
                Some(container) => self.ends(container)?,
                None => false,
            };
            let value = if ended {
                match open.pop() {
                    Some(container) => container.value,
                    None => Value::Undefined,
                }
            } else {
                match self.begin(open.len())? {
                    Begun::Whole(value) => value,
                    Begun::Open(_) if open.len() >= AMF_DEPTH_MAX => {
                        return Err(AmfError::Depth { at: self.offset() });
                    }
                    Begun::Open(container) => {
                        open.push(container);
                        continue;
                    }
                }
            };
            match open.last_mut() {
                Some(container) => container.value.push(&mut container.key, value),
                None => return Ok(value),
            }
        }
    }

    /// Whether `container` ends here; if not, its next property's name has been read.
    fn ends(&mut self, container: &mut Open) -> Result<bool, AmfError> {
        if matches!(container.value, Value::StrictArray(_)) {
            let ended = container.remaining == 0;
            container.remaining = container.remaining.saturating_sub(1);
            return Ok(ended);
        }
        container.key = self.short_text()?;
        Ok(container.key.is_empty() && self.input.skip_if(marker::OBJECT_END))
    }

    fn begin(&mut self, depth: usize) -> Result<Begun, AmfError> {
        let at = self.offset();
        if self.rest().first() == Some(&marker::AVM_PLUS) {
            self.input.skip(1)?;
            self.met_amf3 = true;
            return amf3::value(&mut self.input, &mut self.tables, depth).map(Begun::Whole);
        }
        self.input.item()?;
        let [marker] = self.input.take()?;
        let opened = |value, remaining| Ok(Begun::Open(Open { value, key: String::new(), remaining }));
        let value = match marker {
            marker::NUMBER => Value::Number(f64::from_be_bytes(self.input.take()?)),
            marker::BOOLEAN => Value::Boolean(self.input.take::<1>()? != [0]),
            marker::STRING => Value::String(self.short_text()?),
            marker::NULL => Value::Null,
            marker::UNDEFINED => Value::Undefined,
            marker::DATE => Value::Date {
                unix_ms: f64::from_be_bytes(self.input.take()?),
                zone: i16::from_be_bytes(self.input.take()?),
            },
            marker::LONG_STRING => Value::LongString(self.long_text()?),
            marker::UNSUPPORTED => Value::Unsupported,
            marker::XML_DOCUMENT => Value::XmlDocument(self.long_text()?),
            marker::OBJECT => return opened(Value::Object(Vec::new()), 0),
            marker::ECMA_ARRAY => {
                // The count is a hint; the end marker ends the array.
                self.input.take::<4>()?;
                return opened(Value::EcmaArray(Vec::new()), 0);
            }
            marker::STRICT_ARRAY => {
                let count = u32::from_be_bytes(self.input.take()?);
                return opened(Value::StrictArray(Vec::new()), count);
            }
            marker::TYPED_OBJECT => {
                let class = self.short_text()?;
                return opened(Value::TypedObject { class, properties: Vec::new() }, 0);
            }
            _ => return Err(AmfError::Marker { marker, at }),
        };
        Ok(Begun::Whole(value))
    }

    fn short_text(&mut self) -> Result<String, AmfError> {
        let length = u16::from_be_bytes(self.input.take()?);
        self.input.text(length.into())
    }

    fn long_text(&mut self) -> Result<String, AmfError> {
        let length = u32::from_be_bytes(self.input.take()?);
        self.input.text(length as usize)
    }
}

/// Appends AMF0 values to a buffer. What it writes, [`Decoder`] reads, within the bounds.
#[derive(Debug)]
pub struct Encoder<'a> {
    out: &'a mut BytesMut,
}

impl<'a> Encoder<'a> {
    pub fn new(out: &'a mut BytesMut) -> Self {
        Self { out }
    }

    pub fn number(&mut self, number: f64) -> &mut Self {
        self.out.put_u8(marker::NUMBER);
        self.out.put_f64(number);
        self
    }

    pub fn boolean(&mut self, value: bool) -> &mut Self {
        self.out.put_slice(&[marker::BOOLEAN, value.into()]);
        self
    }

    /// Written as a long string beyond 65,535 bytes.
    pub fn string(&mut self, text: &str) -> &mut Self {
        if u16::try_from(text.len()).is_ok() {
            self.out.put_u8(marker::STRING);
            self.key(text)
        } else {
            self.long(marker::LONG_STRING, text)
        }
    }

    pub fn null(&mut self) -> &mut Self {
        self.out.put_u8(marker::NULL);
        self
    }

    /// Opens an object: [`key`](Self::key) and a value for each property, then [`end`](Self::end).
    pub fn object(&mut self) -> &mut Self {
        self.out.put_u8(marker::OBJECT);
        self
    }

    /// Opens an ECMA array of `count` properties, used like an object.
    pub fn ecma_array(&mut self, count: u32) -> &mut Self {
        self.out.put_u8(marker::ECMA_ARRAY);
        self.out.put_u32(count);
        self
    }

    /// Opens a strict array: exactly `count` values follow, and no end.
    pub fn strict_array(&mut self, count: u32) -> &mut Self {
        self.out.put_u8(marker::STRICT_ARRAY);
        self.out.put_u32(count);
        self
    }

    /// A property's name, cut at 65,535 bytes.
    pub fn key(&mut self, name: &str) -> &mut Self {
        let name = cut(name, u16::MAX.into());
        self.out.put_u16(name.len() as u16);
        self.out.put_slice(name.as_bytes());
        self
    }

    /// Ends an object or an ECMA array.
    pub fn end(&mut self) -> &mut Self {
        self.out.put_slice(&[0, 0, marker::OBJECT_END]);
        self
    }

    fn long(&mut self, marker: u8, text: &str) -> &mut Self {
        let text = cut(text, u32::MAX as usize);
        self.out.put_u8(marker);
        self.out.put_u32(text.len() as u32);
        self.out.put_slice(text.as_bytes());
        self
    }

    fn properties(&mut self, properties: &[(String, Value)]) -> &mut Self {
        for (name, value) in properties {
            self.key(name).value(value);
        }
        self.end()
    }

    /// A whole value.
    pub fn value(&mut self, value: &Value) -> &mut Self {
        let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        match value {
            Value::Number(number) => self.number(*number),
            Value::Boolean(value) => self.boolean(*value),
            Value::String(text) => self.string(text),
            Value::Null => self.null(),
            Value::Undefined => self.bare(marker::UNDEFINED),
            Value::Unsupported => self.bare(marker::UNSUPPORTED),
            Value::LongString(text) => self.long(marker::LONG_STRING, text),
            Value::XmlDocument(text) => self.long(marker::XML_DOCUMENT, text),
            Value::Object(properties) => self.object().properties(properties),
            Value::EcmaArray(properties) => self.ecma_array(count(properties.len())).properties(properties),
            Value::TypedObject { class, properties } => {
                self.bare(marker::TYPED_OBJECT).key(class).properties(properties)
            }
            Value::StrictArray(values) => {
                self.strict_array(count(values.len()));
                for value in values {
                    self.value(value);
                }
                self
            }
            Value::Date { unix_ms, zone } => {
                self.bare(marker::DATE);
                self.out.put_f64(*unix_ms);
                self.out.put_i16(*zone);
                self
            }
        }
    }

    fn bare(&mut self, marker: u8) -> &mut Self {
        self.out.put_u8(marker);
        self
    }
}

/// `text`, or as many of its characters as fit in `bytes`.
fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{AMF_BYTES_MAX, AMF_ITEMS_MAX};

    fn encoded(value: &Value) -> BytesMut {
        let mut out = BytesMut::new();
        Encoder::new(&mut out).value(value);
        out
    }

    fn text(text: &str) -> Value {
        Value::String(text.into())
    }

    fn one_of_each() -> Value {
        let properties = vec![
            ("n".to_owned(), Value::Number(-1.5)),
            (String::new(), Value::Boolean(true)),
            ("twice".to_owned(), Value::Null),
            ("twice".to_owned(), Value::Undefined),
            ("empty".to_owned(), Value::Object(Vec::new())),
        ];
        Value::StrictArray(vec![
            text("käse"),
            Value::LongString("x".repeat(70_000)),
            Value::XmlDocument("<a/>".into()),
            Value::Unsupported,
            Value::Date { unix_ms: f64::INFINITY, zone: -60 },
            Value::Object(properties.clone()),
            Value::EcmaArray(properties.clone()),
            Value::TypedObject { class: "a.B".into(), properties },
            Value::StrictArray(Vec::new()),
        ])
    }

    #[test]
    fn every_type_survives_a_round_trip() {
        let value = one_of_each();
        let bytes = encoded(&value);
        let mut decoder = Decoder::new(&bytes);
        assert_eq!(decoder.value(), Ok(value));
        assert_eq!(decoder.offset(), bytes.len());
        assert_eq!(decoder.next_value(), Ok(None));
    }

    #[test]
    fn nan_is_a_value_but_not_a_finite_one() {
        let bytes = encoded(&Value::Number(f64::NAN));
        let value = Decoder::new(&bytes).value().unwrap();
        assert!(matches!(value, Value::Number(number) if number.is_nan()));
        assert_eq!(value.as_finite(), None);
    }

    #[test]
    fn a_value_cut_at_any_byte_is_an_error() {
        let Value::StrictArray(mut values) = one_of_each() else { panic!() };
        values[1] = Value::LongString("short".into());
        let bytes = encoded(&Value::StrictArray(values));
        for end in 0..bytes.len() {
            let error = Decoder::new(&bytes[..end]).value().unwrap_err();
            assert!(matches!(error, AmfError::Truncated { at } if at <= end), "{error} at {end}");
        }
    }

    #[test]
    fn unknown_markers_and_references_name_their_offset() {
        for marker in [4, 7, 9, 14, 18, 0xFF] {
            let bytes = [10, 0, 0, 0, 2, 5, marker, 0, 0, 0];
            assert_eq!(Decoder::new(&bytes).value(), Err(AmfError::Marker { marker, at: 6 }));
        }
    }

    #[test]
    fn nesting_ends_at_the_bound() {
        let mut nested = Value::Null;
        for _ in 0..AMF_DEPTH_MAX {
            nested = Value::StrictArray(vec![nested]);
        }
        let bytes = encoded(&nested);
        assert_eq!(Decoder::new(&bytes).value(), Ok(nested.clone()));
        let bytes = encoded(&Value::StrictArray(vec![nested]));
        assert!(matches!(Decoder::new(&bytes).value(), Err(AmfError::Depth { .. })));
        let hostile = [10, 0, 0, 0, 1].repeat(70_000);
        assert!(matches!(Decoder::new(&hostile).value(), Err(AmfError::Depth { .. })));
    }

    #[test]
    fn announced_counts_are_not_believed() {
        let bytes = [10, 0xFF, 0xFF, 0xFF, 0xFF, 5];
        assert_eq!(Decoder::new(&bytes).value(), Err(AmfError::Truncated { at: 6 }));
        let bytes = [8, 0xFF, 0xFF, 0xFF, 0xFF, 0, 1, b'a', 5, 0, 0, 9];
        assert_eq!(Decoder::new(&bytes).value(), Ok(Value::EcmaArray(vec![("a".into(), Value::Null)])));
        let bytes = [12, 0xFF, 0xFF, 0xFF, 0xFF, b'a'];
        assert_eq!(Decoder::new(&bytes).value(), Err(AmfError::Truncated { at: 5 }));
    }

    #[test]
    fn endless_values_and_properties_meet_the_item_bound() {
        let mut bytes = vec![3];
        bytes.extend([0, 1, b'a', 5].repeat(AMF_ITEMS_MAX));
        assert!(matches!(Decoder::new(&bytes).value(), Err(AmfError::Items { .. })));
        let nulls = vec![5; AMF_ITEMS_MAX + 1];
        let mut decoder = Decoder::new(&nulls);
        let read = std::iter::from_fn(|| decoder.value().ok()).count();
        assert_eq!(read, AMF_ITEMS_MAX);
        assert_eq!(decoder.value(), Err(AmfError::Items { at: AMF_ITEMS_MAX }));
    }

    #[test]
    fn long_bodies_meet_the_byte_bound_but_only_if_read() {
        let mut bytes = encoded(&text("play"));
        bytes.extend_from_slice(&encoded(&Value::LongString("x".repeat(AMF_BYTES_MAX))));
        let mut decoder = Decoder::new(&bytes);
        assert_eq!(decoder.value(), Ok(text("play")));
        assert_eq!(decoder.value(), Err(AmfError::Bytes { at: 12 }));
    }

    #[test]
    fn text_that_is_not_utf8_is_refused_or_replaced() {
        let bytes = [2, 0, 3, b'a', 0xFF, b'b'];
        assert_eq!(Decoder::new(&bytes).value(), Err(AmfError::Utf8 { at: 3 }));
        assert_eq!(Decoder::new(&bytes).legacy_text().value(), Ok(text("a\u{FFFD}b")));
    }

    #[test]
    fn properties_are_found_by_name() {
        let value = Value::EcmaArray(vec![("a".into(), Value::Number(1.0)), ("a".into(), Value::Null)]);
        assert_eq!(value.get("a").and_then(Value::as_finite), Some(1.0));
        assert_eq!(value.get("b"), None);
        assert_eq!(Value::Null.get("a"), None);
    }

    #[test]
    fn a_name_too_long_for_its_length_field_is_cut_between_characters() {
        let mut out = BytesMut::new();
        Encoder::new(&mut out).object().key(&"é".repeat(40_000)).null().end();
        let value = Decoder::new(&out).value().unwrap();
        assert_eq!(value.properties().unwrap()[0].0.len(), 65_534);
    }
}
