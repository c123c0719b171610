//! Ceilings that the system sets: how many files this process may have open, and how much memory its control group.
//!
//! Asked once, at start, after the limit of open files was raised as far as it goes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustix::process::{Resource, getrlimit};

use crate::{limits, shard::ceilings::Ceilings};

/// Fills in what the operator left to the system. Returns what is worth knowing, for the log.
pub(super) fn settle(ceilings: &mut Ceilings, shards: usize) -> Vec<String> {
    let files = getrlimit(Resource::Nofile).current;
    let files = files.map(|files| usize::try_from(files).unwrap_or(usize::MAX));
    let mut notes = Vec::new();
    notes.extend(files.and_then(|files| settle_connections(ceilings, files, shards)));
    if ceilings.memory_bytes_max.is_none() {
        let limit =
            group_memory(Path::new("/sys/fs/cgroup"), &fs::read_to_string("/proc/self/cgroup").unwrap_or_default());
        ceilings.memory_bytes_max = limit.map(|bytes| bytes / 100 * limits::MEMORY_OF_GROUP_PERCENT);
        notes.extend(ceilings.memory_bytes_max.map(|bytes| {
            format!(
                "--memory-max is {} MiB, {} % of the control group's memory",
                bytes >> 20,
                limits::MEMORY_OF_GROUP_PERCENT
            )
        }));
    }
    notes
}

/// Some descriptors are not for clients, or a full node could not even say that it is full.
fn settle_connections(ceilings: &mut Ceilings, files: usize, shards: usize) -> Option<String> {
    let reserved = limits::RESERVED_FILES + shards * limits::RESERVED_FILES_PER_SHARD;
    // Whoever allows so little gets a node that serves somebody, and may run out.
    let most = files.saturating_sub(reserved).max(files / 4).max(1);
    let asked = ceilings.connections_max.replace(most)?;
    if asked <= most {
        ceilings.connections_max = Some(asked);
        return None;
    }
    Some(format!("--connections-max {asked} is lowered to {most}: the process may have {files} files open"))
}

/// The least limit of the control group that `membership` (`/proc/self/cgroup`) names and of those above it, if any has one.
fn group_memory(root: &Path, membership: &str) -> Option<u64> {
    membership.lines().filter_map(|line| group_files(root, line)).flatten().filter_map(|file| limit_in(&file)).min()
}

/// Where limits would stand: `HIERARCHY:CONTROLLERS:PATH`, without controllers in version 2.
fn group_files(root: &Path, line: &str) -> Option<Vec<PathBuf>> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?);
    let (top, name) = match controllers {
        "" => (root.to_owned(), "memory.max"),
        _ if controllers.split(',').any(|controller| controller == "memory") => {
            (root.join("memory"), "memory.limit_in_bytes")
        }
        _ => return None,
    };
    let own = Path::new(path.trim_start_matches('/'));
    Some(own.ancestors().map(|group| top.join(group).join(name)).collect())
}

/// Version 1 says that there is none by a number larger than any memory.
fn limit_in(file: &Path) -> Option<u64> {
    let bytes = fs::read_to_string(file).ok()?.trim().parse().ok()?;
    (bytes < 1 << 60).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_the_descriptors_that_nobody_else_needs() {
        for (asked, files, expected, is_noted) in [
            (None, 1_024, 1_024 - 48 - 32, false),
            (None, 256, 176, false),
            (None, 64, 16, false),
            (None, 0, 1, false),
            (Some(100), 1_024, 100, false),
            (Some(5_000), 1_024, 944, true),
        ] {
            let mut ceilings = Ceilings { connections_max: asked, ..Ceilings::default() };
            let note = settle_connections(&mut ceilings, files, 2);
            assert_eq!((ceilings.connections_max, note.is_some()), (Some(expected), is_noted), "{asked:?} {files}");
        }
    }

    #[test]
    fn the_least_limit_above_a_process_counts() {
        let root = std::env::temp_dir().join(format!("shardcast-groups-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("a/memory.max", "1000000\n");
        write("a/b/memory.max", "max\n");
        write("a/c/memory.max", "500\n");
        write("memory/old/memory.limit_in_bytes", "7000\n");
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        for (membership, expected) in [
            ("0::/a/b\n", Some(1_000_000)),
            ("0::/a/c\n", Some(500)),
            ("0::/\n", None),
            ("0::/gone\n", None),
            ("3:cpu,memory:/old\n2:freezer:/a\n", Some(7_000)),
            ("3:memory:/\n", None),
            ("2:freezer:/a\n", None),
            ("", None),
            ("nonsense", None),
        ] {
            assert_eq!(group_memory(&root, membership), expected, "{membership:?}");
        }
        fs::remove_dir_all(&root).unwrap();
    }
}
