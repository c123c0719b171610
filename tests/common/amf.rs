//! Just enough AMF0 to speak and to understand RTMP commands, written apart from the crate's own.

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Number(f64),
    Boolean(bool),
    String(String),
    /// Objects and ECMA arrays.
    Object(Vec<(String, Value)>),
    Array(Vec<Value>),
    Null,
}

impl Value {
    pub fn text(&self) -> &str {
        if let Value::String(text) = self { text } else { "" }
    }

    /// A property of an object.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let Value::Object(properties) = self else { return None };
        properties.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }
}

pub fn key(name: &[u8]) -> Vec<u8> {
    let length = u16::try_from(name.len()).expect("a short string");
    [&length.to_be_bytes(), name].concat()
}

pub fn string(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    if let Ok(length) = u16::try_from(text.len()) {
        [&[2][..], &length.to_be_bytes(), text].concat()
    } else {
        let length = u32::try_from(text.len()).expect("a long string");
        [&[12][..], &length.to_be_bytes(), text].concat()
    }
}

pub fn number(value: f64) -> Vec<u8> {
    [&[0][..], &value.to_be_bytes()].concat()
}

pub fn null() -> Vec<u8> {
    vec![5]
}

/// An object of properties that are encoded already.
pub fn object(properties: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = vec![3];
    for (name, value) in properties {
        bytes.extend(key(name.as_bytes()));
        bytes.extend(value);
    }
    bytes.extend([0, 0, 9]);
    bytes
}

/// Strict arrays within each other, never closed.
pub fn nested_arrays(depth: usize) -> Vec<u8> {
    [10, 0, 0, 0, 1].repeat(depth)
}

/// All values in `bytes`; what cannot be read ends the list.
pub fn decode(mut bytes: &[u8]) -> Vec<Value> {
    std::iter::from_fn(|| value(&mut bytes)).collect()
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, tail) = bytes.split_at_checked(count)?;
    *bytes = tail;
    Some(head)
}

fn unsigned(bytes: &mut &[u8], width: usize) -> Option<usize> {
    Some(take(bytes, width)?.iter().fold(0, |value, byte| value << 8 | usize::from(*byte)))
}

fn text(bytes: &mut &[u8], width: usize) -> Option<String> {
    let length = unsigned(bytes, width)?;
    Some(String::from_utf8_lossy(take(bytes, length)?).into_owned())
}

fn properties(bytes: &mut &[u8]) -> Option<Vec<(String, Value)>> {
    let mut all = Vec::new();
    loop {
        let name = text(bytes, 2)?;
        if name.is_empty() && bytes.first() == Some(&9) {
            take(bytes, 1)?;
            return Some(all);
        }
        all.push((name, value(bytes)?));
    }
}

fn value(bytes: &mut &[u8]) -> Option<Value> {
    match take(bytes, 1)?[0] {
        0 => Some(Value::Number(f64::from_be_bytes(take(bytes, 8)?.try_into().ok()?))),
        1 => Some(Value::Boolean(take(bytes, 1)?[0] != 0)),
        2 => text(bytes, 2).map(Value::String),
        3 => properties(bytes).map(Value::Object),
        5 | 6 => Some(Value::Null),
        8 => {
            take(bytes, 4)?;
            properties(bytes).map(Value::Object)
        }
        10 => {
            let count = unsigned(bytes, 4)?;
            (0..count).map(|_| value(bytes)).collect::<Option<Vec<_>>>().map(Value::Array)
        }
        12 => text(bytes, 4).map(Value::String),
        _ => None,
    }
}
