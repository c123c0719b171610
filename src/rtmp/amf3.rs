//! AMF3 (AMF 3 specification, sections 2 and 3) read into the values of AMF0: what Flash clients that negotiated object
//! encoding 3 may put behind AMF0's marker 17, and all this program needs of it.
//!
//! Iterative and within the bounds of [`Input`]: nesting, values and names, bytes, text. References to strings and traits
//! are followed. References to objects are checked and read as [`Value::Unsupported`], so that no value has a cycle or
//! grows beyond its bytes; so are byte arrays and dictionaries, for which AMF0 has no form. Externalizable objects are
//! refused. Driven by [`amf0::Decoder`](super::amf0::Decoder).

use std::{ops::Range, rc::Rc};

use super::{
    amf::{AmfError, Input},
    amf0::Value,
};
use crate::limits::AMF_DEPTH_MAX;

/// Type markers (AMF 3, 3.1).
mod marker {
    pub(super) const UNDEFINED: u8 = 0;
    pub(super) const NULL: u8 = 1;
    pub(super) const FALSE: u8 = 2;
    pub(super) const TRUE: u8 = 3;
    pub(super) const INTEGER: u8 = 4;
    pub(super) const DOUBLE: u8 = 5;
    pub(super) const STRING: u8 = 6;
    pub(super) const XML_DOCUMENT: u8 = 7;
    pub(super) const DATE: u8 = 8;
    pub(super) const ARRAY: u8 = 9;
    pub(super) const OBJECT: u8 = 10;
    pub(super) const XML: u8 = 11;
    pub(super) const BYTE_ARRAY: u8 = 12;
    pub(super) const VECTOR_INT: u8 = 13;
    pub(super) const VECTOR_UINT: u8 = 14;
    pub(super) const VECTOR_DOUBLE: u8 = 15;
    pub(super) const VECTOR_OBJECT: u8 = 16;
    pub(super) const DICTIONARY: u8 = 17;
}

/// What later values of a message may refer to (AMF 3, 2.2). Each entry was paid for as a value or a name.
#[derive(Clone, Debug, Default)]
pub(super) struct Tables {
    /// Where strings are; the empty one is never referred to.
    strings: Vec<Range<usize>>,
    traits: Vec<Rc<Traits>>,
    /// Objects begun. Nothing is kept of them.
    objects: usize,
}

/// The shape of an object: its class and the names of its sealed members, as places in the body.
#[derive(Debug)]
struct Traits {
    class: Range<usize>,
    names: Vec<Range<usize>>,
    dynamic: bool,
}

/// A number of at most 29 bits whose lowest says what the others are (AMF 3, 1.3.1).
enum Flagged {
    /// An index into a table.
    Reference(usize),
    /// A length, a count or further flags.
    Inline(u32),
}

/// A container whose end has not been read. Sealed members come first, then what has names, then what has none.
struct Open {
    value: Value,
    key: String,
    traits: Option<Rc<Traits>>,
    /// Sealed members read so far.
    sealed: usize,
    /// Names follow, up to an empty one.
    named: bool,
    /// Elements without names, and how many of them were read.
    elements: u32,
    read: u32,
}

impl Open {
    /// Of elements without names.
    fn list(value: Value, elements: u32) -> Self {
        Self { value, key: String::new(), traits: None, sealed: 0, named: false, elements, read: 0 }
    }

    /// Whether it ends here; if not, the name of what comes next has been read.
    fn ends(&mut self, input: &mut Input<'_>, tables: &mut Tables) -> Result<bool, AmfError> {
        if let Some(name) = self.traits.as_ref().and_then(|traits| traits.names.get(self.sealed)) {
            self.sealed += 1;
            self.key = input.text_at(name)?;
            return Ok(false);
        }
        if self.named {
            let name = string(input, tables)?;
            self.named = !name.is_empty();
            self.key = input.text_at(&name)?;
        }
        if self.named {
            return Ok(false);
        }
        if self.read == self.elements {
            return Ok(true);
        }
        if matches!(self.value, Value::EcmaArray(_)) {
            self.key = self.read.to_string();
        }
        self.read += 1;
        Ok(false)
    }

    fn push(&mut self, value: Value) {
        // An array with names is one of AMF0's other kind.
        if self.named && matches!(self.value, Value::StrictArray(_)) {
            self.value = Value::EcmaArray(Vec::new());
        }
        self.value.push(&mut self.key, value);
    }
}

/// The first bytes of a value: all of it, or a container's opening.
enum Begun {
    Whole(Value),
    Open(Open),
}

/// The next value. `depth` containers are open around it.
pub(super) fn value(input: &mut Input<'_>, tables: &mut Tables, depth: usize) -> Result<Value, AmfError> {
    let mut open: Vec<Open> = Vec::new();
    loop {
        let ended = match open.last_mut() {
            Some(container) => container.ends(input, tables)?,
            None => false,
        };
        let value = if ended {
            open.pop().map_or(Value::Undefined, |container| container.value)
        } else {
            match begin(input, tables)? {
                Begun::Whole(value) => value,
                Begun::Open(_) if depth + open.len() >= AMF_DEPTH_MAX => {
                    return Err(AmfError::Depth { at: input.at() });
                }
                Begun::Open(container) => {
                    open.push(container);
                    continue;
                }
            }
        };
        match open.last_mut() {
            Some(container) => container.push(value),
            None => return Ok(value),
        }
    }
}

fn begin(input: &mut Input<'_>, tables: &mut Tables) -> Result<Begun, AmfError> {
    let at = input.at();
    input.item()?;
    let [marker] = input.take()?;
    Ok(Begun::Whole(match marker {
        marker::UNDEFINED => Value::Undefined,
        marker::NULL => Value::Null,
        marker::FALSE => Value::Boolean(false),
        marker::TRUE => Value::Boolean(true),
        marker::INTEGER => Value::Number(f64::from(signed(u29(input)?))),
        marker::DOUBLE => Value::Number(f64::from_be_bytes(input.take()?)),
        marker::STRING => {
            let span = string(input, tables)?;
            Value::String(input.text_at(&span)?)
        }
        marker::XML_DOCUMENT | marker::XML => match referable(input, tables)? {
            Some(length) => Value::XmlDocument(input.text(length as usize)?),
            None => Value::Unsupported,
        },
        marker::DATE => match referable(input, tables)? {
            Some(_) => Value::Date { unix_ms: f64::from_be_bytes(input.take()?), zone: 0 },
            None => Value::Unsupported,
        },
        marker::BYTE_ARRAY => {
            if let Some(length) = referable(input, tables)? {
                input.skip(length as usize)?;
            }
            Value::Unsupported
        }
        marker::VECTOR_INT => vector(input, tables, |input| Ok(i32::from_be_bytes(input.take()?).into()))?,
        marker::VECTOR_UINT => vector(input, tables, |input| Ok(u32::from_be_bytes(input.take()?).into()))?,
        marker::VECTOR_DOUBLE => vector(input, tables, |input| Ok(f64::from_be_bytes(input.take()?)))?,
        marker::ARRAY | marker::OBJECT | marker::VECTOR_OBJECT | marker::DICTIONARY => {
            return Ok(match container(input, tables, marker)? {
                Some(container) => Begun::Open(container),
                None => Begun::Whole(Value::Unsupported),
            });
        }
        _ => return Err(AmfError::Marker { marker, at }),
    }))
}

/// `None`: a reference.
fn container(input: &mut Input<'_>, tables: &mut Tables, marker: u8) -> Result<Option<Open>, AmfError> {
    let Some(header) = referable(input, tables)? else { return Ok(None) };
    Ok(Some(match marker {
        marker::ARRAY => Open { named: true, ..Open::list(Value::StrictArray(Vec::new()), header) },
        marker::OBJECT => object(input, tables, header)?,
        marker::VECTOR_OBJECT => {
            input.skip(1)?;
            string(input, tables)?;
            Open::list(Value::StrictArray(Vec::new()), header)
        }
        // Whether its keys are weak, then keys and values in turn: at most 2^29 of them.
        _ => {
            input.skip(1)?;
            Open::list(Value::Unsupported, 2 * header)
        }
    }))
}

/// An object that is no reference. `flags`: 1 its traits are here, 2 it is externalizable, 4 it has dynamic members too;
/// above them the count of sealed ones, or without flag 1 an index of traits (AMF 3, 3.12).
fn object(input: &mut Input<'_>, tables: &mut Tables, flags: u32) -> Result<Open, AmfError> {
    let traits = if flags & 1 == 0 {
        let known = tables.traits.get(flags as usize >> 1).cloned();
        known.ok_or(AmfError::Reference { at: input.at() })?
    } else if flags & 2 != 0 {
        return Err(AmfError::Externalizable { at: input.at() });
    } else {
        input.item()?;
        let class = string(input, tables)?;
        let mut names = Vec::new();
        for _ in 0..flags >> 3 {
            input.item()?;
            names.push(string(input, tables)?);
        }
        let traits = Rc::new(Traits { class, names, dynamic: flags & 4 != 0 });
        tables.traits.push(traits.clone());
        traits
    };
    let class = input.text_at(&traits.class)?;
    let value =
        if class.is_empty() { Value::Object(Vec::new()) } else { Value::TypedObject { class, properties: Vec::new() } };
    Ok(Open { named: traits.dynamic, traits: Some(traits), ..Open::list(value, 0) })
}

fn vector(
    input: &mut Input<'_>,
    tables: &mut Tables,
    element: impl Fn(&mut Input<'_>) -> Result<f64, AmfError>,
) -> Result<Value, AmfError> {
    let Some(count) = referable(input, tables)? else { return Ok(Value::Unsupported) };
    // Whether its length is fixed.
    input.skip(1)?;
    let mut values = Vec::new();
    for _ in 0..count {
        input.item()?;
        values.push(Value::Number(element(input)?));
    }
    Ok(Value::StrictArray(values))
}

/// What stands before anything that may be referred to as an object: `None` for a reference, else the bits above its flag;
/// what follows is then an object itself.
fn referable(input: &mut Input<'_>, tables: &mut Tables) -> Result<Option<u32>, AmfError> {
    match flagged(input)? {
        Flagged::Reference(index) if index < tables.objects => Ok(None),
        Flagged::Reference(_) => Err(AmfError::Reference { at: input.at() }),
        Flagged::Inline(header) => {
            tables.objects += 1;
            Ok(Some(header))
        }
    }
}

/// Where the bytes of a string without marker are, here or where it was read before (AMF 3, 1.3.2).
fn string(input: &mut Input<'_>, tables: &mut Tables) -> Result<Range<usize>, AmfError> {
    match flagged(input)? {
        Flagged::Reference(index) => tables.strings.get(index).cloned().ok_or(AmfError::Reference { at: input.at() }),
        Flagged::Inline(length) => {
            let span = input.skip(length as usize)?;
            if !span.is_empty() {
                tables.strings.push(span.clone());
            }
            Ok(span)
        }
    }
}

fn flagged(input: &mut Input<'_>) -> Result<Flagged, AmfError> {
    let number = u29(input)?;
    Ok(if number & 1 == 0 { Flagged::Reference(number as usize >> 1) } else { Flagged::Inline(number >> 1) })
}

/// 7 bits in each of up to three bytes whose high bit is set, or in a last one; a fourth has 8 (AMF 3, 1.3.1).
fn u29(input: &mut Input<'_>) -> Result<u32, AmfError> {
    let mut number = 0;
    for _ in 0..3 {
        let [byte] = input.take()?;
        number = number << 7 | u32::from(byte & 0x7F);
        if byte < 0x80 {
            return Ok(number);
        }
    }
    let [byte] = input.take()?;
    Ok(number << 8 | u32::from(byte))
}

/// The 29 bits in two's complement.
fn signed(number: u32) -> i32 {
    (number << 3).cast_signed() >> 3
}

#[cfg(test)]
#[path = "amf3_tests.rs"]
mod tests;
