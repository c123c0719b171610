//! The part of the file system that stays reachable, by Landlock.
//!
//! What is not in [`Allowed`] cannot be opened, made, removed or executed, by any thread or by what an upgrade starts.
//! Descriptors that are open stay so. Not fenced: sockets, signals, and what only asks of a file (`stat`).

use std::{
    fmt,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd, RestrictSelfError,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, make_bitflags,
};

use super::{super::logs::Log, Allowed};

/// The rights that are known here; an older kernel knows fewer. Later ones concern sockets.
const RIGHTS: ABI = ABI::V5;

/// Read once a node runs, or by its successor at start: the kernel's accounts, limits of control groups, CPUs.
const KERNEL: [&str; 4] = ["/proc", "/sys/fs/cgroup", "/sys/devices/system", "/sys/kernel/mm"];
/// Root certificates.
const ROOTS: [&str; 5] = [
    "/etc/ssl/certs",
    "/etc/pki",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
];
/// How names are looked up, and users by a successor.
const NAMES: [&str; 11] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/passwd",
    "/etc/group",
    "/etc/ld.so.cache",
    "/etc/localtime",
];
/// Libraries: name service modules are loaded when they are first needed.
const LIBRARIES: [&str; 6] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo"];
/// What starts a program that is not static.
const LOADERS: [&str; 3] = ["ld-linux", "ld-musl", "ld64"];
const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"];

/// What any node needs.
pub(super) fn of_the_system(allowed: &mut Allowed) {
    let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect::<Vec<_>>();
    for list in [&KERNEL[..], &ROOTS, &LIBRARIES] {
        allowed.read.extend(paths(list));
    }
    for variable in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
        allowed.read.extend(std::env::var_os(variable).map(PathBuf::from));
    }
    if rustix::process::geteuid().is_root() {
        // The whole of /etc would be every key and password of the machine.
        allowed.read.extend(paths(&NAMES));
    } else {
        // Others read it too, and a resolv.conf that DHCP writes anew is another file.
        allowed.read.push("/etc".into());
    }
    // systemd-resolved and its kin keep elsewhere what this links to.
    if let Ok(linked) = Path::new("/etc/resolv.conf").canonicalize() {
        allowed.read.extend(linked.parent().filter(|folder| *folder != Path::new("/etc")).map(Path::to_owned));
    }
    if let Ok(program) = std::env::current_exe() {
        // An upgrade finds another file under this name.
        allowed.execute.extend(program.parent().map(Path::to_owned));
    }
    for folder in ["/lib", "/lib64"] {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let is_loader = |name: &str| LOADERS.iter().any(|loader| name.starts_with(loader));
        allowed.execute.extend(
            entries.filter(|entry| entry.file_name().to_str().is_some_and(is_loader)).map(|entry| entry.path()),
        );
    }
}

/// What is in force.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fence {
    Off,
    /// The kernel cannot.
    Missing,
    /// By the processes that this one took over from: the kernel adds up 16 fences at most, one for each of them.
    Inherited,
    /// By a kernel that knows so much of Landlock.
    Up {
        abi: i32,
        whole: bool,
    },
}

/// Fences this thread in, all that it starts, and the log's thread. `must`: it is an error where the kernel cannot.
pub(super) fn fence(allowed: &Allowed, must: bool, log: &Log) -> Result<Fence, String> {
    let rules = rules(allowed).map_err(|error| format!("files cannot be fenced off: {error}"))?;
    let for_log = rules.try_clone().map_err(|error| format!("files cannot be fenced off: {error}"))?;
    let up = match rules.restrict_self() {
        Ok(up) => up,
        Err(RulesetError::RestrictSelf(RestrictSelfError::RestrictSelfCall { source, .. }))
            if source.kind() == std::io::ErrorKind::ArgumentListTooLong =>
        {
            return Ok(Fence::Inherited);
        }
        Err(error) => return Err(format!("files cannot be fenced off: {error}")),
    };
    log.on_its_thread(Box::new(move || {
        // As it was for the thread before, on the same kernel; the log only writes to stderr.
        let _ = for_log.restrict_self();
    }));
    match (up.ruleset, up.landlock) {
        (RulesetStatus::NotEnforced, _) if must => {
            Err("this kernel has no Landlock (Linux 5.13, and landlock in its lsm= list)".to_owned())
        }
        (RulesetStatus::NotEnforced, _) => Ok(Fence::Missing),
        (ruleset, LandlockStatus::Available { effective_abi, .. }) => {
            Ok(Fence::Up { abi: effective_abi as i32, whole: ruleset == RulesetStatus::FullyEnforced })
        }
        _ => Ok(Fence::Missing),
    }
}

fn rules(allowed: &Allowed) -> Result<RulesetCreated, RulesetError> {
    let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    let execute = read | AccessFs::Execute;
    let sockets = make_bitflags!(AccessFs::{ReadDir | MakeSock | RemoveFile});
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(RIGHTS))?
        .create()?;
    for (paths, rights) in [(&allowed.read, read), (&allowed.execute, execute), (&allowed.sockets, sockets)] {
        for path in paths {
            rules = allow(rules, path, rights)?;
        }
    }
    let write = make_bitflags!(AccessFs::{ReadFile | WriteFile | Truncate | IoctlDev});
    for device in DEVICES {
        rules = allow(rules, Path::new(device), write)?;
    }
    Ok(rules)
}

/// What is not there needs no right. The rights of folders do not fit files.
fn allow(rules: RulesetCreated, path: &Path, rights: BitFlags<AccessFs>) -> Result<RulesetCreated, RulesetError> {
    let Ok(place) = PathFd::new(path) else { return Ok(rules) };
    let rights = if path.is_dir() { rights } else { rights & AccessFs::from_file(RIGHTS) };
    rules.add_rule(PathBeneath::new(place, rights))
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("all files (--landlock off)"),
            Self::Missing => f.write_str("all files (this kernel has no Landlock)"),
            Self::Inherited => f.write_str("files by Landlock, by the processes before"),
            Self::Up { abi, whole: true } => write!(f, "files by Landlock {abi}"),
            Self::Up { abi, whole: false } => write!(f, "files by Landlock {abi}, as far as this kernel can"),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::{
        fs,
        io::{ErrorKind, Write},
        os::unix::net::UnixListener,
    };

    use super::*;
    use crate::control::values::LogFormat;

    /// Whether `work` on a thread behind the fence is refused, which is none of the other threads' affair.
    fn refused<T>(allowed: &Allowed, work: impl FnOnce() -> std::io::Result<T> + Send) -> bool {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                rules(allowed).unwrap().restrict_self().unwrap();
                work().err().map(|error| error.kind())
            });
            match inside.join().unwrap() {
                None => false,
                Some(kind) => {
                    assert_eq!(kind, ErrorKind::PermissionDenied);
                    true
                }
            }
        })
    }

    /// A kernel that knows Landlock; elsewhere nothing can be shown. It says so past the capture of tests that pass, too, and
    /// fails where everything has to be checked.
    fn is_there() -> bool {
        let fenced = || rules(&Allowed::default()).unwrap().restrict_self().unwrap().ruleset;
        let there = std::thread::spawn(fenced).join().unwrap() != RulesetStatus::NotEnforced;
        if !there {
            const WHY: &str = "NOT CHECKED: this kernel has no Landlock";
            assert!(std::env::var_os("CI").is_none_or(|value| value.is_empty()), "{WHY}");
            eprintln!("{WHY}");
            let mut uncaptured = std::io::stderr();
            writeln!(uncaptured, "{WHY}").unwrap();
        }
        there
    }

    #[test]
    fn what_is_not_allowed_cannot_be_opened_made_or_executed() {
        if !is_there() {
            return;
        }
        let place = std::env::temp_dir().join(format!("shardcast-fenced-{}", std::process::id()));
        let (inside, outside) = (place.join("inside"), place.join("outside"));
        for folder in [&inside, &outside] {
            fs::create_dir_all(folder).unwrap();
            fs::write(folder.join("file"), "secret").unwrap();
        }
        let mut allowed = Allowed { read: vec![inside.clone()], sockets: vec![inside.clone()], execute: vec![] };
        assert!(!refused(&allowed, || fs::read(inside.join("file"))));
        assert!(refused(&allowed, || fs::read(outside.join("file"))));
        assert!(refused(&allowed, || fs::write(inside.join("file"), "changed")), "it is for reading");
        assert!(refused(&allowed, || fs::write(inside.join("new"), "made")));
        assert!(!refused(&allowed, || UnixListener::bind(inside.join("socket"))));
        assert!(!refused(&allowed, || fs::remove_file(inside.join("socket"))));
        assert!(refused(&allowed, || UnixListener::bind(outside.join("socket"))));
        let shell = || std::process::Command::new("/bin/sh").args(["-c", ":"]).status();
        assert!(refused(&allowed, shell));
        allowed.execute = ["/bin", "/usr", "/lib", "/lib64"].map(PathBuf::from).into();
        assert!(!refused(&allowed, shell));
        fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn what_a_node_needs_of_the_system_stays_open() {
        if !is_there() {
            return;
        }
        let mut allowed = Allowed::default();
        of_the_system(&mut allowed);
        for file in ["/proc/self/status", "/proc/thread-self/schedstat", "/etc/nsswitch.conf", "/dev/null"] {
            assert!(!refused(&allowed, || fs::read(file)), "{file}");
        }
        assert!(!refused(&allowed, || fs::write("/dev/null", "gone")));
        let program = std::env::current_exe().unwrap();
        let start = || std::process::Command::new(program).arg("--list").output();
        assert!(!refused(&allowed, start), "an upgrade starts the program again");
        if rustix::process::geteuid().is_root() {
            assert!(refused(&allowed, || fs::read("/etc/shadow")));
        }
        assert!(refused(&allowed, || fs::read_dir("/")));
        assert!(refused(&allowed, || fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))));
    }

    #[test]
    fn the_logs_thread_is_behind_the_fence_too() {
        if !is_there() {
            return;
        }
        let (say, hear) = std::sync::mpsc::channel();
        let log = Log::to(std::io::sink(), 8, LogFormat::Text).unwrap();
        let up = std::thread::spawn({
            let log = log.clone();
            move || fence(&Allowed::default(), true, &log)
        });
        assert!(matches!(up.join().unwrap(), Ok(Fence::Up { .. })));
        log.on_its_thread(Box::new(move || say.send(fs::read("/etc/passwd")).unwrap()));
        let read = hear.recv_timeout(std::time::Duration::from_secs(10)).unwrap();
        assert_eq!(read.unwrap_err().kind(), ErrorKind::PermissionDenied);
    }
}
