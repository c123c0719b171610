//! AMF3: any bytes are read within the bounds and mean the same in AMF0; what a writer of its own writes is read back.

use bytes::BytesMut;
use shardcast::rtmp::amf0::{Decoder, Encoder, Value};

use super::{amf0::within_bounds, pieces::Dice};

/// Values of one input that are cut short: each costs a reading of all before it.
const CUT_MAX: usize = 8;

pub fn run(data: &[u8]) {
    read(data);
    round_trip(data);
}

fn read(data: &[u8]) {
    let mut decoder = Decoder::all_amf3(data);
    let mut lossy = Decoder::all_amf3(data).legacy_text();
    let mut dice = Dice::new(data);
    let mut items = 0;
    for index in 0.. {
        let start = decoder.offset();
        match decoder.next_value() {
            Ok(Some(value)) => {
                items = within_bounds(items, &value);
                assert_eq!(in_amf0(&lossy.value().expect("legacy text forgives more")), in_amf0(&value));
                if index < CUT_MAX {
                    let cut = start + dice.roll(decoder.offset() - start);
                    let mut short = Decoder::all_amf3(&data[..cut]);
                    assert!((0..index).all(|_| short.value().is_ok()), "values before a cut at {cut} stay whole");
                    assert!(short.value().is_err(), "cut at {cut}");
                }
                if index == 0 {
                    let switched = [&[17], data].concat();
                    let same = Decoder::new(&switched).value().expect("it was read without a marker before it");
                    assert_eq!(in_amf0(&same), in_amf0(&value));
                }
            }
            Ok(None) => return assert_eq!(decoder.offset(), data.len()),
            Err(_) => break,
        }
    }
    assert!(decoder.offset() <= data.len());
    while let Ok(Some(_)) = lossy.next_value() {}
}

/// The value's AMF0, which reads back as itself unless AMF0's own bounds are narrower: text is repeated in full there.
fn in_amf0(value: &Value) -> BytesMut {
    let mut out = BytesMut::new();
    Encoder::new(&mut out).value(value);
    if let Ok(again) = Decoder::new(&out).value() {
        let mut twice = BytesMut::new();
        Encoder::new(&mut twice).value(&again);
        assert_eq!(twice, out);
    }
    out
}

fn round_trip(data: &[u8]) {
    let mut maker = Maker { dice: Dice::new(data), data, left: 200 };
    let values: Vec<Value> = (0..1 + maker.dice.roll(4)).map(|_| maker.value(0)).collect();
    let mut writer = Writer { dice: maker.dice, ..Writer::default() };
    values.iter().for_each(|value| writer.value(value));
    let mut decoder = Decoder::all_amf3(&writer.out);
    for value in &values {
        assert_eq!(decoder.value().as_ref(), Ok(value), "{:02x?}", writer.out);
    }
    assert_eq!(decoder.next_value(), Ok(None));
    let mut mixed = Vec::new();
    writer.starts.push(writer.out.len());
    for range in writer.starts.windows(2) {
        mixed.extend([&[17], &writer.out[range[0]..range[1]], &[5]].concat());
    }
    let mut decoder = Decoder::new(&mixed);
    for value in &values {
        assert_eq!(decoder.value().as_ref(), Ok(value), "{mixed:02x?}");
        assert_eq!(decoder.value(), Ok(Value::Null));
    }
    assert!(decoder.has_met_amf3());
}

/// Makes values of what AMF3 and AMF0 both have.
struct Maker<'a> {
    dice: Dice,
    data: &'a [u8],
    left: usize,
}

impl Maker<'_> {
    fn value(&mut self, depth: usize) -> Value {
        self.left = self.left.saturating_sub(1);
        let kinds = if depth < 6 && self.left > 0 { 12 } else { 8 };
        match self.dice.roll(kinds) {
            0 => Value::Undefined,
            1 => Value::Null,
            2 => Value::Boolean(self.dice.roll(2) == 1),
            3 => Value::Number(self.dice.roll(1 << 29) as f64 - f64::from(1 << 28)),
            4 => Value::Number(self.dice.roll(usize::MAX) as f64 / 7.0),
            5 => Value::XmlDocument(self.text()),
            6 => Value::Date { unix_ms: self.dice.roll(1 << 40) as f64, zone: 0 },
            7 => Value::String(self.text()),
            8 => Value::StrictArray((0..self.dice.roll(5)).map(|_| self.value(depth + 1)).collect()),
            9 => Value::EcmaArray(self.properties(1, depth)),
            10 => Value::Object(self.properties(0, depth)),
            _ => Value::TypedObject { class: self.name(), properties: self.properties(0, depth) },
        }
    }

    fn properties(&mut self, least: usize, depth: usize) -> Vec<(String, Value)> {
        (0..least + self.dice.roll(4)).map(|_| (self.name(), self.value(depth + 1))).collect()
    }

    fn name(&mut self) -> String {
        ["a", "b", "width", "käse", "onMetaData"][self.dice.roll(5)].to_owned()
    }

    fn text(&mut self) -> String {
        if self.dice.roll(3) == 0 {
            return self.name();
        }
        let start = self.dice.roll(self.data.len() + 1);
        let end = start + self.dice.roll((self.data.len() - start).min(400) + 1);
        String::from_utf8_lossy(&self.data[start..end]).into_owned()
    }
}

/// AMF3, written apart from the reader; whether it refers to what it wrote before is up to the dice.
struct Writer {
    dice: Dice,
    out: Vec<u8>,
    /// Where each outermost value begins.
    starts: Vec<usize>,
    depth: usize,
    strings: Vec<String>,
    /// Class, sealed names, and whether there are dynamic ones.
    traits: Vec<(String, Vec<String>, bool)>,
}

impl Default for Writer {
    fn default() -> Self {
        let dice = Dice::new(&[]);
        Self { dice, out: Vec::new(), starts: Vec::new(), depth: 0, strings: Vec::new(), traits: Vec::new() }
    }
}

impl Writer {
    fn value(&mut self, value: &Value) {
        if self.depth == 0 {
            self.starts.push(self.out.len());
        }
        self.depth += 1;
        match value {
            Value::Null => self.out.push(1),
            Value::Boolean(value) => self.out.push(2 + u8::from(*value)),
            Value::Number(number) => self.number(*number),
            Value::String(text) => {
                self.out.push(6);
                self.text(text);
            }
            Value::XmlDocument(text) => {
                self.out.push(if self.dice.roll(2) == 0 { 7 } else { 11 });
                self.u29(text.len() << 1 | 1);
                self.out.extend(text.as_bytes());
            }
            Value::Date { unix_ms, .. } => {
                self.out.extend([8, 1]);
                self.out.extend(unix_ms.to_be_bytes());
            }
            Value::StrictArray(values) => self.list(values),
            Value::EcmaArray(properties) => {
                self.out.extend([9, 1]);
                self.named(properties);
            }
            Value::Object(properties) => self.object("", properties),
            Value::TypedObject { class, properties } => self.object(class, properties),
            _ => self.out.push(0),
        }
        self.depth -= 1;
    }

    fn number(&mut self, number: f64) {
        let integer = number as i64;
        if integer as f64 == number && (-(1 << 28)..1 << 28).contains(&integer) && self.dice.roll(4) > 0 {
            self.out.push(4);
            self.u29((integer & 0x1FFF_FFFF) as usize);
        } else {
            self.out.push(5);
            self.out.extend(number.to_be_bytes());
        }
    }

    fn list(&mut self, values: &[Value]) {
        let numbers: Option<Vec<f64>> = values.iter().map(Value::as_finite).collect();
        let form = self.dice.roll(3);
        self.out.push([9, 16, if numbers.is_some() { 15 } else { 9 }][form]);
        self.u29(values.len() << 1 | 1);
        match (form, numbers) {
            (2, Some(numbers)) => {
                self.out.push(0);
                numbers.iter().for_each(|number| self.out.extend(number.to_be_bytes()));
                return;
            }
            (1, _) => {
                self.out.push(1);
                self.text("T");
            }
            _ => self.out.push(1),
        }
        values.iter().for_each(|value| self.value(value));
    }

    fn object(&mut self, class: &str, properties: &[(String, Value)]) {
        self.out.push(10);
        let (sealed, dynamic) = properties.split_at(self.dice.roll(properties.len() + 1));
        let names: Vec<String> = sealed.iter().map(|(name, _)| name.clone()).collect();
        let is_dynamic = !dynamic.is_empty() || self.dice.roll(2) == 0;
        let traits = (class.to_owned(), names, is_dynamic);
        match self.traits.iter().position(|known| *known == traits).filter(|_| self.dice.roll(4) > 0) {
            Some(index) => self.u29(index << 2 | 1),
            None => {
                self.u29(sealed.len() << 4 | usize::from(is_dynamic) << 3 | 3);
                self.text(class);
                traits.1.iter().for_each(|name| self.text(name));
                self.traits.push(traits);
            }
        }
        sealed.iter().for_each(|(_, value)| self.value(value));
        if is_dynamic {
            self.named(dynamic);
        }
    }

    fn named(&mut self, properties: &[(String, Value)]) {
        for (name, value) in properties {
            self.text(name);
            self.value(value);
        }
        self.out.push(1);
    }

    fn text(&mut self, text: &str) {
        match self.strings.iter().position(|known| known == text).filter(|_| self.dice.roll(4) > 0) {
            Some(index) => self.u29(index << 1),
            None => {
                self.u29(text.len() << 1 | 1);
                self.out.extend(text.as_bytes());
                if !text.is_empty() {
                    self.strings.push(text.to_owned());
                }
            }
        }
    }

    fn u29(&mut self, number: usize) {
        let septet = |shift: u32| (number >> shift & 0x7F) as u8;
        match number {
            0..0x80 => self.out.push(septet(0)),
            0x80..0x4000 => self.out.extend([septet(7) | 0x80, septet(0)]),
            0x4000..0x20_0000 => self.out.extend([septet(14) | 0x80, septet(7) | 0x80, septet(0)]),
            _ => self.out.extend([septet(22) | 0x80, septet(15) | 0x80, septet(8) | 0x80, number as u8]),
        }
    }
}
