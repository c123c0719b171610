//! Files of keys and secrets as text: one entry on a line, words apart by blanks, `#` before a comment.

use crate::limits::KEY_NAME_BYTES_MAX;

/// What is wrong in a file, and where. It repeats nothing that may be secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct LineError {
    /// From 1.
    pub line: usize,
    pub fault: String,
}

impl LineError {
    pub(super) fn new(line: usize, fault: impl Into<String>) -> Self {
        Self { line, fault: fault.into() }
    }
}

/// The words of each line that has some, with its number from 1.
pub(super) fn entries(text: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    let entries = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    entries.map(|(number, line)| (number, line.split_whitespace().collect()))
}

/// Names of keys stand in logs, and of secrets in links.
pub fn check_name(name: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'@');
    if (1..=KEY_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(());
    }
    Err(format!("a name has 1 to {KEY_NAME_BYTES_MAX} ASCII letters, digits and . _ - @"))
}
