//! What the kernel says about this process: memory, descriptors, times. Read from `/proc` at each question.

use std::{fs, time::SystemTime};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit on open files to the hard limit: every connection is a descriptor.
pub(super) fn raise_open_files_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // Best effort: the old limit stays in force, and the metrics show it.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
}

/// The kernel's release, such as `6.1.0-18-amd64`.
pub(super) fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

/// Resident memory, or 0 where the kernel does not tell.
pub(super) fn resident_bytes() -> u64 {
    field(&fs::read_to_string("/proc/self/status").unwrap_or_default(), "VmRSS:").saturating_mul(1_024)
}

/// A sample for the metrics; fields the kernel does not tell are zero.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    pub(super) resident_bytes: u64,
    pub(super) open_files: u64,
    pub(super) open_files_max: u64,
    pub(super) threads: u64,
}

impl Usage {
    pub(super) fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        // The listing itself holds one descriptor.
        let listed = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) as u64;
        Self {
            resident_bytes: field(&status, "VmRSS:").saturating_mul(1_024),
            open_files: listed.saturating_sub(1),
            open_files_max: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
            threads: field(&status, "Threads:"),
        }
    }
}

fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or_default()
}

/// Seconds since the epoch.
pub(super) fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let usage = Usage::read();
        assert!(usage.resident_bytes > 100_000 && usage.open_files >= 3 && usage.threads >= 1, "{usage:?}");
        assert!(usage.open_files_max >= usage.open_files);
    }

    #[test]
    fn an_open_file_counts() {
        // Other tests open files meanwhile: hold more than they do.
        let before = Usage::read().open_files;
        let held = (0..200).map(|_| fs::File::open("/dev/null").unwrap()).collect::<Vec<_>>();
        let after = Usage::read().open_files;
        assert!(after >= before + 100, "{before} then {after} with {} more", held.len());
    }

    #[test]
    fn fields_are_found_by_name() {
        assert_eq!(field("VmPeak:\t 9 kB\nVmRSS:\t  1234 kB\n", "VmRSS:"), 1_234);
        assert_eq!(field("VmRSS: lots", "VmRSS:"), 0);
        assert_eq!(field("", "VmRSS:"), 0);
    }

    #[test]
    fn the_open_files_limit_ends_at_the_hard_limit() {
        raise_open_files_limit();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
