//! Descriptors by number: those that a new process must not have, and those that it was given by whoever started it.
//!
//! `unsafe`, because the numbers come from outside: no crate wraps close_range(2), and a number is no proof that the
//! descriptor is ours. Stress: the upgrades of the tests count the descriptors of the new process.

use std::{
    fs, io,
    os::fd::{FromRawFd, OwnedFd, RawFd},
};

/// The first that is not one of the standard three.
const FIRST: RawFd = 3;

/// All descriptors but the standard three are closed in programs that are started from now on. What was opened by others, the
/// runtime of shards for one, need not have been marked so.
pub(super) fn close_at_exec() -> io::Result<()> {
    // SAFETY: the call takes no pointers. It changes only whether descriptors outlive an exec, which nothing in this process
    // depends on.
    let result = unsafe {
        libc::syscall(libc::SYS_close_range, FIRST as libc::c_uint, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
    if result == 0 { Ok(()) } else { one_by_one() }
}

/// Before Linux 5.11.
fn one_by_one() -> io::Result<()> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let Some(number) = entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok()) else { continue };
        if number >= FIRST {
            // SAFETY: as above. A number that is no descriptor any more is an error that changes nothing.
            unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// The `count` descriptors that the service manager gave to this process, marked to be closed at exec. To be called once, and
/// before anything else is opened. Those up to the first number that is no descriptor, so that their order is the manager's.
pub(in crate::control) fn given(count: usize) -> Vec<OwnedFd> {
    let last = FIRST.saturating_add(RawFd::try_from(count).unwrap_or(RawFd::MAX - FIRST));
    let is_open = |number: &RawFd| {
        // SAFETY: the call takes no pointers, and fails for what is no descriptor.
        unsafe { libc::fcntl(*number, libc::F_SETFD, libc::FD_CLOEXEC) != -1 }
    };
    (FIRST..last)
        .take_while(is_open)
        // SAFETY: it is open, as was just seen. The manager's protocol says that it is for this process alone, named by its
        // pid, and that these numbers are nobody else's; this function is the only one that takes them, once.
        .map(|number| unsafe { OwnedFd::from_raw_fd(number) })
        .collect()
}

#[cfg(test)]
mod tests {
    use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

    use super::*;

    #[test]
    fn what_is_open_is_closed_at_exec() {
        for close in [close_at_exec, one_by_one] {
            let file = fs::File::open("/dev/null").expect("it is there");
            fcntl_setfd(&file, FdFlags::empty()).expect("it is open");
            close().expect("allowed");
            assert_eq!(fcntl_getfd(&file).expect("it is open"), FdFlags::CLOEXEC);
        }
    }
}
