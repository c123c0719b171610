//! Digests as text: hexadecimal.

use std::fmt::Write as _;

/// Two small digits for each byte.
pub fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// 32 bytes from digits of either size.
pub fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let bytes: [u8; 32] = std::array::from_fn(|index| index as u8 * 8);
        let text = to_hex(&bytes);
        assert!(text.starts_with("0008101820") && text.ends_with("f0f8"), "{text}");
        assert_eq!((from_hex(&text), from_hex(&text.to_uppercase())), (Some(bytes), Some(bytes)));
        for end in 0..text.len() {
            assert_eq!(from_hex(&text[..end]), None, "{end}");
        }
        for odd in [format!("+{}", &text[1..]), format!("{text}00"), "\u{e9}".repeat(32), "g".repeat(64)] {
            assert_eq!(from_hex(&odd), None, "{odd}");
        }
    }
}
