//! Files that are read whole: keys, secrets and certificates.
//!
//! Refused: what is no file, and what is longer than its reader takes, of which no more is read than that.

use std::{
    fs::{File, OpenOptions},
    io::Read,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// What is in a file, and who may do what with it.
pub(super) struct SmallFile {
    pub(super) bytes: Vec<u8>,
    mode: u32,
}

impl SmallFile {
    /// The error is the second half of a line.
    pub(super) fn read(path: &Path, bytes_max: u64) -> Result<Self, String> {
        let said = |error: std::io::Error| error.to_string();
        let file = open(path).map_err(said)?;
        let found = file.metadata().map_err(said)?;
        if !found.is_file() {
            return Err("not a file".to_owned());
        }
        let mut bytes = Vec::new();
        file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(said)?;
        if bytes.len() as u64 > bytes_max {
            return Err(format!("longer than {bytes_max} bytes"));
        }
        Ok(Self { bytes, mode: found.permissions().mode() })
    }

    pub(super) fn others_read(&self) -> bool {
        others_read(self.mode)
    }

    pub(super) fn others_write(&self) -> bool {
        self.mode & 0o002 != 0
    }

    pub(super) fn into_text(self) -> Result<String, String> {
        String::from_utf8(self.bytes).map_err(|_| "not UTF-8".to_owned())
    }

    /// Without the newline that editors end a file by.
    pub(super) fn into_line(mut self) -> Vec<u8> {
        let end = self.bytes.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |last| last + 1);
        self.bytes.truncate(end);
        self.bytes
    }
}

/// Does not wait for anybody to write to what turns out to be a pipe.
pub(super) fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// Whether every user may read what has this mode.
pub(super) fn others_read(mode: u32) -> bool {
    mode & 0o004 != 0
}
