//! The system calls std lacks: epoll, the monotonic clock, affinity, limits. All of this crate's `unsafe` is here.
//! Errors are the kernel's own.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

/// Events taken from the kernel at once.
const EVENTS: usize = 128;

/// One epoll instance, level-triggered.
pub struct Epoll(OwnedFd);

/// What happened to the descriptor registered with `token`.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    pub token: u64,
    /// Readable, closed or failed: reading tells which.
    pub read: bool,
    pub write: bool,
}

impl Epoll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the descriptor is checked before it is owned.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: just created and owned by nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Watches `fd` for reading, and for writing if `write`.
    pub fn add(&self, fd: RawFd, token: u64, write: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, Self::events(write))
    }

    /// Watches `fd` for its end only: closed, reset or failed.
    pub fn add_end(&self, fd: RawFd, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, libc::EPOLLRDHUP)
    }

    fn events(write: bool) -> i32 {
        libc::EPOLLIN | if write { libc::EPOLLOUT } else { 0 }
    }

    pub fn change(&self, fd: RawFd, token: u64, write: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, Self::events(write))
    }

    pub fn remove(&self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    fn control(&self, operation: i32, fd: RawFd, token: u64, events: i32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events.cast_unsigned(), u64: token };
        // SAFETY: `event` lives through the call; the kernel checks the descriptors.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd, &raw mut event) }).map(drop)
    }

    /// Waits at most `timeout` (to the nanosecond) and replaces the content of `ready`.
    pub fn wait(&self, timeout: Duration, ready: &mut Vec<Ready>) -> io::Result<()> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS];
        let timeout = libc::timespec {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let max = i32::try_from(EVENTS).unwrap_or(1);
        // SAFETY: `events` has room for `max` entries, `timeout` is valid, no signal mask is given.
        let count = check(unsafe {
            libc::epoll_pwait2(self.0.as_raw_fd(), events.as_mut_ptr(), max, &raw const timeout, std::ptr::null())
        });
        let count = match count {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            other => usize::try_from(other?).unwrap_or(0),
        };
        ready.clear();
        ready.extend(events[..count].iter().map(|event| {
            let bits = event.events.cast_signed();
            Ready {
                token: event.u64,
                read: bits & (libc::EPOLLIN | libc::EPOLLHUP | libc::EPOLLERR | libc::EPOLLRDHUP) != 0,
                write: bits & libc::EPOLLOUT != 0,
            }
        }));
        Ok(())
    }
}

/// CLOCK_MONOTONIC in ns: the same for all processes of the machine.
pub fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// CPU time the calling thread has used, in ns.
pub fn thread_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writing; both clocks exist on every Linux.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// The calling thread's id, as /proc names it.
pub fn thread_id() -> u32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::gettid() }.cast_unsigned()
}

/// Pins the calling thread (and what it starts from now on) to `cpu`.
pub fn pin_thread(cpu: usize) -> io::Result<()> {
    set_affinity(&cpu_set(&[cpu])?)
}

fn cpu_set(cpus: &[usize]) -> io::Result<libc::cpu_set_t> {
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let mut set: libc::cpu_set_t = unsafe { MaybeUninit::zeroed().assume_init() };
    for cpu in cpus {
        if *cpu >= 8 * size_of::<libc::cpu_set_t>() {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        // SAFETY: `cpu` is within the set, as checked.
        unsafe { libc::CPU_SET(*cpu, &mut set) };
    }
    Ok(set)
}

fn set_affinity(set: &libc::cpu_set_t) -> io::Result<()> {
    // SAFETY: `set` is valid and its size is given; 0 is the calling thread.
    check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const *set) }).map(drop)
}

/// Makes timed waits of the calling thread end on time instead of up to 50 us later.
pub fn wake_on_time() {
    // SAFETY: no pointers; a failure leaves the default slack.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}

/// Raises the soft limit of descriptors to the hard one and returns it.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for writing.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is valid for reading.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    Ok(limit.rlim_cur)
}

/// How many ports connections of this machine to one address may use; `None` if the kernel does not say.
pub fn local_ports() -> Option<u32> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut bounds = text.split_whitespace().map(|bound| bound.parse::<u32>().ok());
    let (low, high) = (bounds.next()??, bounds.next()??);
    Some(high.saturating_sub(low) + 1)
}

/// Makes the child run on `cpus` and end when the thread that spawns it does.
///
/// # Errors
/// There can be no such CPU.
pub fn pin_child(command: &mut Command, cpus: &[usize]) -> io::Result<()> {
    let set = cpu_set(cpus)?;
    let prepare = move || {
        // SAFETY: prctl with plain numbers is async-signal-safe.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) })?;
        set_affinity(&set)
    };
    // SAFETY: between fork and exec only two system calls are made; nothing allocates, locks or unwinds.
    unsafe { command.pre_exec(prepare) };
    Ok(())
}

/// Lets others run before the calling thread, until it ends: it takes what they leave. Not by its niceness: a nice thread goes
/// on until its slice is over, milliseconds after another could run.
pub fn stand_back() {
    let none = libc::sched_param { sched_priority: 0 };
    // SAFETY: `none` is valid for reading; 0 is the calling thread, and a failure leaves it as it was.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const none) };
}

/// Columns of the terminal on standard error.
pub fn columns() -> Option<usize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: `size` is valid for writing.
    check(unsafe { libc::ioctl(libc::STDERR_FILENO, libc::TIOCGWINSZ, &raw mut size) }).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// Sends `signal` to one process.
pub fn signal(pid: u32, signal: i32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).ok().filter(|pid| *pid > 1).ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: no pointers; `pid` is one process, never a group.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn epoll_reports_what_can_be_read_and_written() {
        let epoll = Epoll::new().unwrap();
        let (mut left, right) = UnixStream::pair().unwrap();
        let mut ready = Vec::new();
        epoll.add(right.as_raw_fd(), 42, false).unwrap();
        epoll.wait(Duration::ZERO, &mut ready).unwrap();
        assert!(ready.is_empty());
        left.write_all(b"x").unwrap();
        epoll.wait(Duration::from_secs(5), &mut ready).unwrap();
        assert!(matches!(ready[..], [Ready { token: 42, read: true, write: false }]));
        epoll.change(right.as_raw_fd(), 43, true).unwrap();
        epoll.wait(Duration::from_secs(5), &mut ready).unwrap();
        assert!(matches!(ready[..], [Ready { token: 43, read: true, write: true }]));
        epoll.remove(right.as_raw_fd()).unwrap();
        epoll.wait(Duration::ZERO, &mut ready).unwrap();
        assert!(ready.is_empty());
    }

    #[test]
    fn a_wait_lasts_as_long_as_asked() {
        let from = monotonic_ns();
        Epoll::new().unwrap().wait(Duration::from_millis(3), &mut Vec::new()).unwrap();
        assert!(monotonic_ns() - from >= 3_000_000);
    }

    #[test]
    fn a_cpu_that_cannot_exist_is_an_error() {
        assert!(pin_thread(usize::MAX).is_err());
    }
}
