//! The file of a Unix listener: made with mode 0660, in place of one that nobody listens on any more, and removed at the end.
//!
//! A file that somebody listens on is theirs, and so is whatever is not a socket.

use std::{
    fs::{self, Permissions},
    io::{self, Read},
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt, MetadataExt, PermissionsExt},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::limits;

const MODE: u32 = 0o660;

/// Removes the file when it is dropped, unless another has taken its place.
#[derive(Debug)]
pub(super) struct UnixFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl UnixFile {
    /// The file of a listener that another process made.
    pub(super) fn of(path: PathBuf) -> io::Result<Self> {
        let found = fs::symlink_metadata(&path)?;
        Ok(Self { path, identity: (found.dev(), found.ino()) })
    }

    /// The file stays: others listen there.
    pub(super) fn leave(mut self) -> PathBuf {
        // Nothing is at the path that is left.
        std::mem::take(&mut self.path)
    }
}

/// Listens at `path`. The error [`io::ErrorKind::AddrInUse`]: another process does, or the file is no socket.
pub(super) fn listen(path: &Path, backlog: i32) -> io::Result<(UnixListener, UnixFile)> {
    let addr = SockAddr::unix(path)?;
    remove_stale(path, &addr)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&addr)?;
    let found = fs::symlink_metadata(path)?;
    let file = UnixFile { path: path.to_owned(), identity: (found.dev(), found.ino()) };
    // Nobody can connect before it listens, so nobody does by a wider mode.
    fs::set_permissions(path, Permissions::from_mode(MODE))?;
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok((UnixListener::from(OwnedFd::from(socket)), file))
}

fn remove_stale(path: &Path, addr: &SockAddr) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the file exists and is not a socket"));
    }
    let by = Instant::now() + limits::UNIX_STALE_PATIENCE;
    while is_live(addr, by)? {
        if Instant::now() >= by {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        thread::sleep(limits::UNIX_STALE_POLL);
    }
    match fs::remove_file(path) {
        // Its node ended in order just now.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Whether somebody listens. The ring of a process that was killed outlives it for a moment, and its listener with it: what
/// has connected to that is closed, for which this waits until `by`.
fn is_live(addr: &SockAddr, by: Instant) -> io::Result<bool> {
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A listener with a full backlog must not hold us up.
    probe.set_nonblocking(true)?;
    match probe.connect(addr) {
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
        Ok(()) => {
            let patience = by.saturating_duration_since(Instant::now()).max(limits::UNIX_STALE_POLL);
            probe.set_nonblocking(false)?;
            probe.set_read_timeout(Some(patience))?;
            // How it ends does not matter: the next look tells.
            let _ = (&probe).read(&mut [0]);
            Ok(true)
        }
    }
}

impl Drop for UnixFile {
    fn drop(&mut self) {
        let same = |found: fs::Metadata| (found.dev(), found.ino()) == self.identity;
        if fs::symlink_metadata(&self.path).is_ok_and(same) {
            // Whoever removed it meanwhile did what was wanted.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::shard::testing::Folder;

    #[test]
    fn the_file_is_for_user_and_group_and_goes_with_its_listener() {
        let folder = Folder::new("file");
        let path = folder.path("node.sock");
        let (listener, file) = listen(&path, 8).expect("a new file");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        let _client = UnixStream::connect(&path).expect("it listens");
        listener.accept().expect("it connected");
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_file_is_replaced_a_live_one_is_not() {
        let folder = Folder::new("file");
        let path = folder.path("node.sock");
        let first = UnixListener::bind(&path).expect("a new file");
        assert_eq!(listen(&path, 8).expect_err("it is live").kind(), io::ErrorKind::AddrInUse);
        drop(first);
        let (_listener, file) = listen(&path, 8).expect("it is stale");
        // Whoever took the place of it keeps it.
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).expect("a new file");
        drop(file);
        assert!(path.exists());
    }

    #[test]
    fn what_is_no_socket_stays() {
        let folder = Folder::new("file");
        let path = folder.path("notes");
        fs::write(&path, "kept").unwrap();
        let error = listen(&path, 8).expect_err("it is a file");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
        assert!(listen(&folder.path("missing/node.sock"), 8).is_err());
        assert!(listen(&folder.path(&"a".repeat(200)), 8).is_err());
    }
}
