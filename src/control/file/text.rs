//! A configuration file as text: where its bytes stand, and what is found in it with the line and a caret under it.

use std::{
    fmt::Write as _,
    io::Read,
    ops::Range,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::super::{
    rules::{Finding, secrets},
    small_file::others_read,
};
use crate::limits::CONFIG_BYTES_MAX;

/// Columns of a line shown on either side of the place that is meant.
const CONTEXT_COLUMNS: usize = 60;

#[derive(Clone, Debug)]
pub(in super::super) struct Text {
    pub(in super::super) path: PathBuf,
    pub(super) content: String,
    pub(super) others_read: bool,
}

impl Text {
    /// The error is one line.
    pub(in super::super) fn read(path: &Path) -> Result<Self, String> {
        let said = |error: std::io::Error| format!("{}: {error}; name a TOML file", path.display());
        let mut content = Vec::new();
        let file = std::fs::File::open(path).map_err(said)?;
        let mode = file.metadata().map_err(said)?.permissions().mode();
        file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut content).map_err(said)?;
        if content.len() as u64 > CONFIG_BYTES_MAX {
            return Err(format!("{}: longer than {CONFIG_BYTES_MAX} bytes; this is no configuration", path.display()));
        }
        let content = String::from_utf8(content).map_err(|error| {
            let line = error.as_bytes()[..error.utf8_error().valid_up_to()].split(|byte| *byte == b'\n').count();
            format!("{}:{line}: not UTF-8; save the file as UTF-8", path.display())
        })?;
        Ok(Self { path: path.to_owned(), content, others_read: others_read(mode) })
    }

    #[cfg(test)]
    pub(in super::super) fn of(path: PathBuf, content: &str) -> Self {
        Self { path, content: content.to_owned(), others_read: true }
    }

    /// What a relative path in it starts at.
    pub(in super::super) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// The beginning of the character at a byte, or the end of the file.
    fn boundary(&self, byte: usize) -> usize {
        let byte = byte.min(self.content.len());
        (0..=byte).rev().find(|byte| self.content.is_char_boundary(*byte)).unwrap_or(0)
    }

    /// Line and column of a byte, both from 1; columns are characters.
    fn line_and_column(&self, byte: usize) -> (usize, usize) {
        let before = &self.content[..self.boundary(byte)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// `FILE:LINE:COLUMN`.
    pub(in super::super) fn place(&self, byte: usize) -> String {
        let (line, column) = self.line_and_column(byte);
        format!("{}:{line}:{column}", self.path.display())
    }

    /// One line: `FILE:LINE:COLUMN: what`.
    pub(in super::super) fn in_short(&self, finding: &Finding) -> String {
        format!("{}: {}", self.place(finding.at.start), finding.text)
    }

    /// The line that is meant, and a caret under it.
    pub(in super::super) fn in_full(&self, finding: &Finding) -> String {
        let (line, column) = self.line_and_column(finding.at.start);
        let grade = if finding.is_fault() { "error" } else { "warning" };
        let mut out = format!("{}:{line}:{column}: {grade}: {}\n", self.path.display(), finding.text);
        let shown = self.shown(line);
        let end = self.boundary(finding.at.end.max(finding.at.start));
        let start = self.boundary(finding.at.start);
        let meant = self.content[start..end].lines().next().map_or(0, |first| first.chars().count());
        let from = (column - 1).saturating_sub(CONTEXT_COLUMNS);
        let shown: String = shown.chars().skip(from).take(2 * CONTEXT_COLUMNS).collect();
        let carets = meant.clamp(1, (2 * CONTEXT_COLUMNS).saturating_sub(column - 1 - from).max(1));
        let margin = " ".repeat(line.to_string().len());
        // Writing to a String does not fail.
        let _ = writeln!(out, "{margin} |\n{line} | {}", shown.trim_end());
        let _ = writeln!(out, "{margin} | {}{}", " ".repeat(column - 1 - from), "^".repeat(carets));
        out
    }

    /// A line without what a terminal would take for commands, nor what may be secret; each character keeps its column.
    fn shown(&self, line: usize) -> String {
        let mut lines = self.content.split('\n');
        let shown = lines.nth(line - 1).unwrap_or_default();
        let above = self.content.split('\n').take(line).filter(|line| line.trim_start().starts_with('['));
        let in_push = above.last().is_some_and(|header| header.contains("push"));
        let plain: String = shown.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        secrets::veil(&plain, in_push)
    }

    /// The place of a string's inside, or of all of it where its bytes are not the text's.
    pub(super) fn inside(&self, span: Range<usize>, text: &str) -> Range<usize> {
        let inside = span.start + 1..span.end.saturating_sub(1);
        if self.content.get(inside.clone()) == Some(text) { inside } else { span }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(content: &str) -> Text {
        Text { path: PathBuf::from("f.toml"), content: content.to_owned(), others_read: false }
    }

    #[test]
    fn the_caret_stands_under_what_is_meant() {
        let text = text("a = 1\nkäse = \"x\"\t# y\r\n");
        let at = text.content.find("\"x\"").unwrap();
        let shown = text.in_full(&Finding::fault(at..at + 3, "why"));
        assert_eq!(shown, "f.toml:2:8: error: why\n  |\n2 | käse = \"x\" # y\n  |        ^^^\n");
        assert_eq!(text.in_short(&Finding::warning(at..at, "why")), "f.toml:2:8: why");
    }

    #[test]
    fn every_place_can_be_shown() {
        let text = text("ä = \"\"\"\nb\n\"\"\"\n\n[[push]]\r\nx = [\u{1b}[31m]");
        for start in 0..=text.content.len() + 2 {
            for end in start..=text.content.len() + 2 {
                let shown = text.in_full(&Finding::warning(start..end, "why"));
                assert!(shown.starts_with("f.toml:") && shown.ends_with("^\n") && !shown.contains('\u{1b}'), "{shown}");
            }
        }
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let text = text(&format!("{}HERE{}", "x".repeat(10_000), "y".repeat(10_000)));
        let shown = text.in_full(&Finding::fault(10_000..10_004, "why"));
        assert!(shown.contains("xHEREy") && shown.lines().all(|line| line.len() < 200), "{shown}");
    }

    #[test]
    fn what_may_be_secret_is_not_shown() {
        let text = text("[[pull]]\na = \"rtmp://u:pw@h/app/name\"\n[[push]]\na = \"rtmp://h/app/key\"");
        let shown = |part: &str| text.in_full(&Finding::fault(text.content.find(part).unwrap()..0, "why"));
        assert!(shown("rtmp://u").contains("rtmp://*:**@h/app/name"));
        assert!(shown("rtmp://h").contains("rtmp://h/app/***"));
    }
}
