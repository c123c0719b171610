//! What a peer says it can do of Enhanced RTMP v2 ("Enhancing NetConnection connect Command"): read, kept, written.
//!
//! Reading is tolerant: what has the wrong type, is no FourCC or goes beyond [`FOUR_CCS_MAX`] is left out, and a client that
//! said nothing that can be used is one that said nothing. A relay repeats what a publisher said to the next server.

use std::fmt;

use super::amf0::{Encoder, Properties, Value};
use crate::limits::FOUR_CCS_MAX;

/// Bits of `capsEx`. Who announces RECONNECT takes ReconnectRequests.
pub mod caps_ex {
    pub const RECONNECT: u8 = 1;
    pub const MULTITRACK: u8 = 2;
    pub const MOD_EX: u8 = 4;
    pub const NANO_OFFSET: u8 = 8;
}

/// Bits of a codec's entry in a FourCC info map.
pub mod codec {
    pub const DECODE: u8 = 1;
    pub const ENCODE: u8 = 2;
    pub const FORWARD: u8 = 4;
}

/// Bits of `videoFunction`.
pub mod video_function {
    pub const CLIENT_SEEK: u8 = 1;
    pub const HDR: u8 = 2;
    pub const METADATA_PACKET: u8 = 4;
    pub const LARGE_SCALE_TILE: u8 = 8;
}

/// A codec's name: one to four printable bytes, `*` for any codec.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FourCc([u8; 4]);

impl FourCc {
    pub const ANY: Self = Self(*b"*\0\0\0");

    /// `None` if `name` cannot be a codec's.
    pub fn new(name: &str) -> Option<Self> {
        let fits = (1..=4).contains(&name.len()) && name.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        let mut four_cc = [0; 4];
        four_cc.iter_mut().zip(name.bytes()).for_each(|(slot, byte)| *slot = byte);
        fits.then_some(Self(four_cc))
    }

    pub fn as_str(&self) -> &str {
        let length = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        self.0.get(..length).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default()
    }
}

impl fmt::Debug for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// See the file's head. Each list has at most [`FOUR_CCS_MAX`] codecs; bits beyond the first eight are not assigned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// See [`caps_ex`].
    pub caps_ex: u8,
    /// See [`video_function`].
    pub video_function: u8,
    /// `fourCcList`.
    pub four_ccs: Box<[FourCc]>,
    /// `videoFourCcInfoMap` and `audioFourCcInfoMap`: codecs and what can be done with them (see [`codec`]).
    pub video: Box<[(FourCc, u8)]>,
    pub audio: Box<[(FourCc, u8)]>,
}

impl Capabilities {
    /// Of this program, which decodes nothing and passes everything on.
    pub fn of_relay() -> Self {
        let forwards: Box<[(FourCc, u8)]> = Box::new([(FourCc::ANY, codec::FORWARD)]);
        Self {
            caps_ex: caps_ex::RECONNECT | caps_ex::MULTITRACK | caps_ex::MOD_EX | caps_ex::NANO_OFFSET,
            video_function: video_function::HDR | video_function::METADATA_PACKET | video_function::LARGE_SCALE_TILE,
            four_ccs: Box::new([FourCc::ANY]),
            video: forwards.clone(),
            audio: forwards,
        }
    }

    /// Of a connect's command object, or of the information object of its reply. `None` if it has nothing of Enhanced
    /// RTMP; `videoFunction` alone is older than that.
    pub fn read(object: &Value) -> Option<Self> {
        let bits = |name| object.get(name).and_then(Value::as_finite).map(bits_of);
        let map = |name| object.get(name).and_then(Value::properties).map(codecs_of);
        let (caps_ex, list) = (bits("capsEx"), object.get("fourCcList").and_then(list_of));
        let (video, audio) = (map("videoFourCcInfoMap"), map("audioFourCcInfoMap"));
        if caps_ex.is_none() && list.is_none() && video.is_none() && audio.is_none() {
            return None;
        }
        Some(Self {
            caps_ex: caps_ex.unwrap_or_default(),
            video_function: bits("videoFunction").unwrap_or_default(),
            four_ccs: list.unwrap_or_default(),
            video: video.unwrap_or_default(),
            audio: audio.unwrap_or_default(),
        })
    }

    /// Adds the properties to an object that is being written. What was not said is not repeated.
    pub(super) fn write(&self, out: &mut Encoder<'_>) {
        out.key("capsEx").number(self.caps_ex.into());
        if self.video_function != 0 {
            out.key("videoFunction").number(self.video_function.into());
        }
        if !self.four_ccs.is_empty() {
            out.key("fourCcList").strict_array(u32::try_from(self.four_ccs.len()).unwrap_or(u32::MAX));
            for four_cc in &self.four_ccs {
                out.string(four_cc.as_str());
            }
        }
        for (name, map) in [("videoFourCcInfoMap", &self.video), ("audioFourCcInfoMap", &self.audio)] {
            if map.is_empty() {
                continue;
            }
            out.key(name).object();
            for (four_cc, bits) in map {
                out.key(four_cc.as_str()).number((*bits).into());
            }
            out.end();
        }
    }
}

/// A cast that saturates, so that what is negative or beyond 32 bits has none.
fn bits_of(number: f64) -> u8 {
    let bits = number as u64;
    u32::try_from(bits).map_or(0, |bits| bits as u8)
}

fn codecs_of(properties: &[(String, Value)]) -> Box<[(FourCc, u8)]> {
    let codec = |(name, bits): &(String, Value)| Some((FourCc::new(name)?, bits_of(bits.as_finite()?)));
    properties.iter().filter_map(codec).take(FOUR_CCS_MAX).collect()
}

/// A strict array by the specification; some AMF encoders write every array as an ECMA array.
fn list_of(value: &Value) -> Option<Box<[FourCc]>> {
    let name = |value: &Value| value.as_str().and_then(FourCc::new);
    let of_properties = |all: &Properties| all.iter().filter_map(|(_, value)| name(value)).take(FOUR_CCS_MAX).collect();
    match value {
        Value::StrictArray(values) => Some(values.iter().filter_map(name).take(FOUR_CCS_MAX).collect()),
        Value::EcmaArray(properties) => Some(of_properties(properties)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::rtmp::amf0::Decoder;

    fn text(text: &str) -> Value {
        Value::String(text.into())
    }

    fn object(properties: &[(&str, Value)]) -> Value {
        Value::Object(properties.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
    }

    fn four_cc(name: &str) -> FourCc {
        FourCc::new(name).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let whole = Capabilities {
            caps_ex: 15,
            video_function: 6,
            four_ccs: [four_cc("av01"), four_cc(".mp3")].into(),
            video: [(four_cc("hvc1"), codec::DECODE | codec::FORWARD)].into(),
            audio: [(FourCc::ANY, codec::FORWARD), (four_cc("Opus"), codec::ENCODE)].into(),
        };
        let bare = Capabilities { caps_ex: 2, ..Capabilities::default() };
        for capabilities in [whole, bare, Capabilities::of_relay()] {
            let mut bytes = BytesMut::new();
            let mut out = Encoder::new(&mut bytes);
            out.object();
            capabilities.write(&mut out);
            out.end();
            assert_eq!(Capabilities::read(&Decoder::new(&bytes).value().unwrap()), Some(capabilities));
        }
    }

    #[test]
    fn who_says_nothing_of_it_has_none() {
        assert_eq!(Capabilities::read(&object(&[("videoFunction", Value::Number(1.0))])), None);
        assert_eq!(Capabilities::read(&Value::Null), None);
        let list = object(&[("fourCcList", Value::StrictArray(vec![text("*")]))]);
        let expected = Capabilities { four_ccs: [FourCc::ANY].into(), ..Capabilities::default() };
        assert_eq!(Capabilities::read(&list), Some(expected));
    }

    #[test]
    fn wrong_types_and_names_are_left_out() {
        let odd = object(&[
            ("capsEx", text("2")),
            ("videoFunction", Value::Number(f64::NAN)),
            ("fourCcList", Value::EcmaArray(vec![("0".into(), text("vp09")), ("1".into(), Value::Null)])),
            ("videoFourCcInfoMap", Value::Boolean(true)),
            ("audioFourCcInfoMap", object(&[("toolong", Value::Number(4.0)), ("fLaC", Value::Number(-1.0))])),
        ]);
        let expected = Capabilities {
            four_ccs: [four_cc("vp09")].into(),
            audio: [(four_cc("fLaC"), 0)].into(),
            ..Capabilities::default()
        };
        assert_eq!(Capabilities::read(&odd), Some(expected));
        for (number, bits) in [(258.0, 2), (-1.0, 0), (f64::from(u32::MAX) + 1.0, 0), (1e300, 0)] {
            let read = Capabilities::read(&object(&[("capsEx", Value::Number(number))]));
            assert_eq!(read.unwrap().caps_ex, bits, "{number}");
        }
        let wrong = [("capsEx", text("2")), ("fourCcList", text("*")), ("videoFourCcInfoMap", Value::Number(1.0))];
        assert_eq!(Capabilities::read(&object(&wrong)), None);
        for name in ["", "\u{1}", "hé", "vp0\0", "abcde"] {
            assert_eq!(FourCc::new(name), None, "{name:?}");
        }
    }

    #[test]
    fn long_lists_are_cut() {
        let many = vec![text("av01"); FOUR_CCS_MAX + 9];
        let map = (0..FOUR_CCS_MAX + 9).map(|_| ("av01".to_owned(), Value::Number(4.0))).collect();
        let said = object(&[("fourCcList", Value::StrictArray(many)), ("videoFourCcInfoMap", Value::EcmaArray(map))]);
        let read = Capabilities::read(&said).unwrap();
        assert_eq!((read.four_ccs.len(), read.video.len()), (FOUR_CCS_MAX, FOUR_CCS_MAX));
    }
}
