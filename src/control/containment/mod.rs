//! What the process gives up once it listens: its user, the way to more rights, and most of the file system.
//!
//! [`contain`] runs between binding and the first shard's thread, so that every later thread inherits it; the log's thread,
//! which is older, does the same for itself. [`Allowed`] is all that stays reachable, gathered in one place ([`allowed`]).
//! There is no way back. `docs/containment.md` says what is left to somebody who is inside.

mod files;
mod user;

use std::{
    fmt,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use self::files::Fence;
pub(super) use self::user::Account;
use super::{logs::Log, reload::Reload};
use crate::shard::{config::Config, listen_addr::ListenAddr};

/// Whether files are fenced off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Landlock {
    /// Or the node does not start.
    On,
    Off,
    /// As far as the kernel can.
    #[default]
    Auto,
}

/// What the operator asked for.
#[derive(Debug, Default)]
pub(super) struct Containment {
    pub(super) user: Option<Account>,
    pub(super) landlock: Landlock,
    /// Read again by an upgrade and at a reload.
    pub(super) config_file: Option<PathBuf>,
    /// Files with secrets, which the process that an upgrade starts reads.
    pub(super) secrets: Vec<PathBuf>,
}

/// What may be opened from here on. A folder stands for all below it.
#[derive(Debug, Default)]
pub(super) struct Allowed {
    pub(super) read: Vec<PathBuf>,
    /// Socket files may be made and removed in these.
    pub(super) sockets: Vec<PathBuf>,
    pub(super) execute: Vec<PathBuf>,
}

impl Allowed {
    /// A file that is read again while the process runs. Its folder is, because a new version comes by a rename over the
    /// old; and that of the file it links to, which is elsewhere where certbot keeps certificates.
    pub(super) fn reread(&mut self, file: &Path) {
        self.read.push(folder(file));
        self.read.extend(file.canonicalize().ok().as_deref().map(folder));
    }
}

fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// All that a node with these settings opens once it runs, and what its successor needs that an upgrade starts.
fn allowed(containment: &Containment, config: &Config, reloads: &[Reload]) -> Allowed {
    let mut allowed = Allowed::default();
    files::of_the_system(&mut allowed);
    let named = containment.config_file.iter().chain(&containment.secrets).chain(&config.upstream_ca);
    for file in named.chain(reloads.iter().flat_map(Reload::paths)) {
        allowed.reread(file);
    }
    for addr in config.rtmp.iter().chain(&config.rtmps) {
        if let ListenAddr::Unix(path) = addr {
            allowed.sockets.push(folder(path));
        }
    }
    allowed
}

/// What is in force, for the log.
#[derive(Debug)]
pub(super) struct InForce {
    root: bool,
    user: Option<String>,
    fence: Fence,
}

/// Why the process does not serve.
#[derive(Debug)]
pub(super) enum Failed {
    User(io::Error),
    Landlock(String),
}

/// Gives up what is not needed any more. Everything is bound, nothing runs but this thread and the log's.
pub(super) fn contain(
    containment: &Containment,
    config: &Config,
    reloads: &[Reload],
    log: &Log,
) -> Result<InForce, Failed> {
    if let Some(account) = &containment.user {
        hand_over(config.rtmp.iter().chain(&config.rtmps), account)
            .and_then(|()| account.become_it())
            .map_err(Failed::User)?;
    }
    no_new_privileges();
    log.on_its_thread(Box::new(no_new_privileges));
    let fence = match containment.landlock {
        Landlock::Off => Fence::Off,
        mode => {
            files::fence(&allowed(containment, config, reloads), mode == Landlock::On, log).map_err(Failed::Landlock)?
        }
    };
    let root = rustix::process::geteuid().is_root();
    Ok(InForce { root, user: containment.user.as_ref().map(ToString::to_string), fence })
}

/// Of this thread, and of all that it starts. Best effort: kernels before 3.5 do not have it.
fn no_new_privileges() {
    let _ = rustix::thread::set_no_new_privs(true);
}

/// Socket files become the user's, who removes them at the end.
fn hand_over<'a>(addrs: impl Iterator<Item = &'a ListenAddr>, account: &Account) -> io::Result<()> {
    for addr in addrs {
        if let ListenAddr::Unix(path) = addr {
            match account.own(path) {
                // Not root: whether that matters, becoming the user tells.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
                // It was inherited, and its file removed meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                owned => owned?,
            }
        }
    }
    Ok(())
}

impl InForce {
    /// `serves`: strangers can connect.
    pub(super) fn tell(&self, serves: bool) {
        tracing::info!("contained: {self}");
        if serves && self.root && self.user.is_none() {
            tracing::warn!("serves as root: give it a user of its own by --user NAME (--user root keeps it so)");
        }
    }
}

impl fmt::Display for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.user {
            Some(user) => write!(f, "user {user}, ")?,
            None => f.write_str("user as started, ")?,
        }
        write!(f, "no new privileges, {}", self.fence)
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(error) if error.kind() == ErrorKind::PermissionDenied => write!(
                f,
                "this process runs as user {} and may not become another: start it as root, or leave the flag out",
                rustix::process::geteuid().as_raw()
            ),
            Self::User(error) => error.fmt(f),
            Self::Landlock(why) => write!(f, "{why}: choose auto or off"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_read_again_is_found_after_a_rename_and_behind_its_link() {
        let place = std::env::temp_dir().join(format!("shardcast-contained-{}", std::process::id()));
        let (live, archive) = (place.join("live"), place.join("archive"));
        for folder in [&live, &archive] {
            std::fs::create_dir_all(folder).unwrap();
        }
        std::fs::write(archive.join("cert1.pem"), "1").unwrap();
        std::os::unix::fs::symlink("../archive/cert1.pem", live.join("cert.pem")).unwrap();
        let mut allowed = Allowed::default();
        allowed.reread(&live.join("cert.pem"));
        assert_eq!(allowed.read, [live, archive.canonicalize().unwrap()]);
        std::fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn a_socket_whose_file_is_gone_is_nobodys() {
        let gone = std::env::temp_dir().join(format!("shardcast-gone-{}.sock", std::process::id()));
        hand_over([&ListenAddr::Unix(gone)].into_iter(), &Account::read("root").unwrap()).unwrap();
    }

    #[test]
    fn a_file_without_a_folder_is_in_this_one() {
        assert_eq!(folder(Path::new("edge.toml")), Path::new("."));
        assert_eq!(folder(Path::new("/edge.toml")), Path::new("/"));
    }

    #[test]
    fn what_the_flags_name_stays_reachable() {
        let config = Config {
            rtmp: vec![ListenAddr::Unix("/run/shardcast/rtmp.sock".into())],
            rtmps: vec![ListenAddr::Unix("/run/secure/rtmps.sock".into())],
            upstream_ca: Some("/etc/shardcast/ca.pem".into()),
            ..Config::default()
        };
        let containment = Containment {
            config_file: Some("/srv/edge/edge.toml".into()),
            secrets: vec!["/srv/secrets/callbacks".into()],
            ..Containment::default()
        };
        let reload = Reload::new("certificates", vec!["/srv/tls/edge.pem".into()], |_| Ok(None));
        let allowed = allowed(&containment, &config, &[reload]);
        assert_eq!(allowed.sockets, [Path::new("/run/shardcast"), Path::new("/run/secure")]);
        for folder in ["/etc/shardcast", "/srv/edge", "/srv/secrets", "/srv/tls", "/proc"] {
            assert!(allowed.read.iter().any(|read| read == Path::new(folder)), "{folder}: {:?}", allowed.read);
        }
        assert!(!allowed.read.iter().any(|read| read == Path::new("/")), "{:?}", allowed.read);
    }
}
