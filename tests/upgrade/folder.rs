//! A folder that goes with its test.

use std::path::{Path, PathBuf};

pub struct Folder(PathBuf);

impl Folder {
    /// Not in the build's folder: a socket's path has 107 bytes at most.
    pub fn new(test: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("shardcast-upgrade-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for temporary files");
        Self(folder)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Puts a file there whole, in place of one that may be running.
    pub fn put(&self, name: &str, by: impl FnOnce(&Path)) -> PathBuf {
        let (path, made) = (self.path(name), self.path("made"));
        by(&made);
        std::fs::rename(&made, &path).expect("one folder");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
