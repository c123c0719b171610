//! Data messages: stream metadata, and everything else. Looks at the leading AMF0 strings only, never past them.

/// AMF0 marker of a string with a 16-bit length (AMF0, section 2.4).
const AMF0_STRING: u8 = 2;

/// What a publisher puts before metadata that its server is to keep: an AMF0 string.
pub const SET_DATA_FRAME: &[u8] = b"\x02\0\x0D@setDataFrame";

/// What a data message is to a relay. Bodies are AMF0 as a player receives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataRole<'a> {
    /// Metadata that later players need too: from the string `onMetaData` on, without `@setDataFrame`.
    Metadata { body: &'a [u8] },
    /// `@clearDataFrame` of `onMetaData`: what was set is void.
    ClearMetadata,
    /// Any other message, for the players of the moment: `@setDataFrame` is stripped here too.
    Other { body: &'a [u8] },
}

/// Sorts the payload of a data message (type 18, or type 15 behind its leading zero). Malformed AMF0 is `Other`.
pub fn classify_data(payload: &[u8]) -> DataRole<'_> {
    let Some((name, rest)) = leading_string(payload) else { return DataRole::Other { body: payload } };
    match name {
        b"@setDataFrame" if is_metadata(rest) => DataRole::Metadata { body: rest },
        b"@setDataFrame" => DataRole::Other { body: rest },
        b"@clearDataFrame" if is_metadata(rest) => DataRole::ClearMetadata,
        _ if is_metadata(payload) => DataRole::Metadata { body: payload },
        _ => DataRole::Other { body: payload },
    }
}

fn is_metadata(body: &[u8]) -> bool {
    leading_string(body).is_some_and(|(name, _)| name == b"onMetaData")
}

fn leading_string(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let [AMF0_STRING, high, low, rest @ ..] = body else { return None };
    rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))
}

/// Whether onMetaData speaks of video: it names its codec or its width, and not as zero (FLV 10.1, E.5).
pub fn announces_video(metadata: &[u8]) -> bool {
    let value_of = |name: &[u8]| {
        let at = metadata.windows(name.len()).position(|window| window == name)?;
        metadata.get(at + name.len()..)
    };
    let says_something = |value: &[u8]| match value {
        // AMF0: a number of 8 bytes, a string of a length.
        [0, number @ ..] => number.iter().take(8).any(|byte| *byte != 0),
        [2, string @ ..] => string.iter().take(2).any(|byte| *byte != 0),
        _ => false,
    };
    value_of(b"\x00\x0cvideocodecid").is_some_and(says_something)
        || value_of(b"\x00\x05width").is_some_and(says_something)
}

#[cfg(test)]
mod tests {
    use super::*;

    const META: &[u8] = b"\x02\0\x0AonMetaData\x08\0\0\0\0\0\0\x09";
    const SET: &[u8] = SET_DATA_FRAME;
    const CLEAR: &[u8] = b"\x02\0\x0F@clearDataFrame";
    const CUE: &[u8] = b"\x02\0\x0AonCuePoint\x05";

    #[test]
    fn metadata_is_told_from_other_data() {
        assert_eq!(classify_data(META), DataRole::Metadata { body: META });
        assert_eq!(classify_data(&[SET, META].concat()), DataRole::Metadata { body: META });
        assert_eq!(classify_data(&[CLEAR, META].concat()), DataRole::ClearMetadata);
        assert_eq!(classify_data(CUE), DataRole::Other { body: CUE });
        assert_eq!(classify_data(&[SET, CUE].concat()), DataRole::Other { body: CUE });
        let clear_cue = [CLEAR, CUE].concat();
        assert_eq!(classify_data(&clear_cue), DataRole::Other { body: &clear_cue });
    }

    #[test]
    fn malformed_data_is_other_data() {
        for body in [&b""[..], b"\x02", b"\x02\0\x0AonMeta", b"\x05", b"\x00\x40\0\0\0\0\0\0\0"] {
            assert_eq!(classify_data(body), DataRole::Other { body });
        }
        assert_eq!(classify_data(SET), DataRole::Other { body: b"" });
    }

    #[test]
    fn every_truncation_is_sorted_somewhere() {
        let whole = [SET, META].concat();
        for cut in 0..whole.len() {
            let metadata = matches!(classify_data(&whole[..cut]), DataRole::Metadata { .. });
            assert_eq!(metadata, cut >= SET.len() + 13, "cut at {cut}");
        }
    }
}
