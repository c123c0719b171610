//! What /proc says about a process and its children: CPU time, memory, time spent waiting for a CPU.
//!
//! On loopback the sender's CPU time includes the kernel's receive path up to the receiver's socket, because the
//! softirq runs in the sender's context. That is the same for every server measured this way, and more than a server
//! with a real network card would pay.

use crate::cpus::{Cpus, Thread, parse_list};
use serde::Serialize;
use std::fs;

/// Kernel ticks per second in /proc/PID/stat (USER_HZ, the same on every Linux of the supported architectures).
const TICKS_PER_SECOND: f64 = 100.0;

/// A process with its descendants, as found by [`Tree::of`].
#[derive(Clone, Debug)]
pub struct Tree(Vec<u32>);

/// CPU time since the start of the processes.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Cpu {
    pub user_seconds: f64,
    pub system_seconds: f64,
    /// Nanosecond clock of the threads that live; the other two count in ticks, but include threads that ended.
    pub scheduled_seconds: f64,
    /// Time threads could have run but had to wait for a CPU.
    pub waited_seconds: f64,
}

impl Cpu {
    /// What was used from `earlier` until `self`.
    pub fn since(&self, earlier: &Cpu) -> Cpu {
        Cpu {
            user_seconds: self.user_seconds - earlier.user_seconds,
            system_seconds: self.system_seconds - earlier.system_seconds,
            scheduled_seconds: self.scheduled_seconds - earlier.scheduled_seconds,
            waited_seconds: self.waited_seconds - earlier.waited_seconds,
        }
    }

    /// The best figure for all CPU time: the fine clock, unless threads ended and took theirs along.
    pub fn total_seconds(&self) -> f64 {
        let ticked = self.user_seconds + self.system_seconds;
        if ticked > self.scheduled_seconds + 3.0 / TICKS_PER_SECOND { ticked } else { self.scheduled_seconds }
    }
}

impl Tree {
    /// # Errors
    /// There is no such process.
    pub fn of(pid: u32) -> Result<Self, String> {
        stat(pid).ok_or_else(|| format!("there is no process {pid} to measure; check --server-pid"))?;
        let parents: Vec<(u32, u32)> = numbers("/proc").filter_map(|pid| Some((pid, stat(pid)?.parent))).collect();
        let mut tree = vec![pid];
        let mut next = 0;
        while let Some(parent) = tree.get(next).copied() {
            tree.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
            next += 1;
        }
        Ok(Self(tree))
    }

    /// This process alone: servers it started are not part of it.
    pub fn own() -> Self {
        Self(vec![std::process::id()])
    }

    pub fn pids(&self) -> &[u32] {
        &self.0
    }

    pub fn cpu(&self) -> Cpu {
        self.0.iter().fold(Cpu::default(), |mut sum, pid| {
            let stat = stat(*pid).unwrap_or_default();
            sum.user_seconds += stat.user_ticks as f64 / TICKS_PER_SECOND;
            sum.system_seconds += stat.system_ticks as f64 / TICKS_PER_SECOND;
            for thread in numbers(&format!("/proc/{pid}/task")) {
                let (ran, waited) = thread_times(*pid, thread);
                sum.scheduled_seconds += ran;
                sum.waited_seconds += waited;
            }
            sum
        })
    }

    /// Resident memory of all processes, in KiB; pages they share count for each.
    pub fn rss_kib(&self) -> u64 {
        let of = |pid: &u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        self.0.iter().filter_map(of).sum()
    }

    /// Descriptors that are open, of all processes together.
    pub fn descriptors(&self) -> u64 {
        self.0.iter().map(|pid| numbers(&format!("/proc/{pid}/fd")).count() as u64).sum()
    }

    /// All threads, with the CPUs each may use.
    pub fn threads(&self) -> Vec<Thread> {
        let of = |pid: &u32| numbers(&format!("/proc/{pid}/task")).map(|id| thread(*pid, id)).collect::<Vec<_>>();
        self.0.iter().flat_map(of).collect()
    }

    /// Whether the first process still runs (a zombie does not).
    pub fn alive(&self) -> bool {
        self.0.first().and_then(|pid| stat(*pid)).is_some_and(|stat| stat.state != 'Z')
    }
}

/// Memory of all TCP buffers of this network namespace, in KiB; 0 if the kernel does not say.
pub fn kernel_tcp_kib() -> u64 {
    const PAGE_KIB: u64 = 4;
    let text = fs::read_to_string("/proc/self/net/sockstat").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:")).unwrap_or("");
    let pages = line.split_whitespace().skip_while(|field| *field != "mem").nth(1);
    pages.and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * PAGE_KIB
}

/// Seconds a thread ran, and seconds it waited for a CPU; zeros once it ended.
pub fn thread_times(pid: u32, thread: u32) -> (f64, f64) {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat")).unwrap_or_default();
    let mut fields = text.split_whitespace().map(|field| field.parse::<u64>().unwrap_or(0) as f64 / 1e9);
    (fields.next().unwrap_or(0.0), fields.next().unwrap_or(0.0))
}

/// What a thread used so far, and the CPUs it may use (none once it ended).
pub fn thread(pid: u32, id: u32) -> Thread {
    let status = fs::read_to_string(format!("/proc/{pid}/task/{id}/status")).unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let cpus = list.and_then(parse_list).unwrap_or_else(Cpus::new);
    Thread { pid, id, ran_seconds: thread_times(pid, id).0, cpus }
}

/// CPU time everything on this machine has used, interrupts included; 0 if the kernel does not say.
pub fn machine_seconds() -> f64 {
    busy_ticks(&fs::read_to_string("/proc/stat").unwrap_or_default()) as f64 / TICKS_PER_SECOND
}

/// The first line's user, nice, system, irq, softirq and steal; idle and iowait lie between, guests are in user.
fn busy_ticks(stat: &str) -> u64 {
    let fields = stat.lines().next().unwrap_or("").split_whitespace().skip(1);
    let ticks: Vec<u64> = fields.map(|field| field.parse().unwrap_or(0)).collect();
    [0, 1, 2, 5, 6, 7].into_iter().filter_map(|at| ticks.get(at)).sum()
}

#[derive(Debug, Default)]
struct Stat {
    state: char,
    parent: u32,
    user_ticks: u64,
    system_ticks: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name is in parentheses and may hold spaces and parentheses itself: fields are counted after the last one.
fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        user_ticks: fields.get(11)?.parse().ok()?,
        system_ticks: fields.get(12)?.parse().ok()?,
    })
}

/// The entries of a directory that are numbers.
fn numbers(directory: &str) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_whatever_the_name_holds() {
        let line = "42 (a) b (c) S 7 42 42 0 -1 4194560 100 0 0 0 123 45 0 0 20 0 1 0 5 6 7";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.state, stat.parent, stat.user_ticks, stat.system_ticks), ('S', 7, 123, 45));
        assert!(parse_stat("42 (a S 7").is_none());
        assert!(parse_stat("42 (a) S 7").is_none());
    }

    #[test]
    fn this_process_uses_cpu_and_memory() {
        let tree = Tree::of(std::process::id()).unwrap();
        let before = tree.cpu();
        let from = crate::sys::thread_cpu_ns();
        while crate::sys::thread_cpu_ns() - from < 80_000_000 {}
        assert!(tree.cpu().since(&before).total_seconds() >= 0.05);
        assert!(tree.rss_kib() > 100);
        assert!(tree.alive());
    }

    #[test]
    fn the_machine_is_busy_when_it_is_not_idle() {
        assert_eq!(busy_ticks("cpu  1 2 4 1000 1000 8 16 32 64 0\ncpu0 9 9 9"), 63);
        assert_eq!(busy_ticks(""), 0);
        assert!(machine_seconds() > 0.0);
    }

    #[test]
    fn threads_are_known_with_their_cpus() {
        let own = crate::sys::thread_id();
        let threads = Tree::of(std::process::id()).unwrap().threads();
        let own = threads.iter().find(|thread| thread.id == own).unwrap();
        assert!(!own.cpus.is_empty());
        assert_eq!(thread(std::process::id(), u32::MAX).cpus.len(), 0);
    }

    #[test]
    fn a_child_belongs_to_the_tree() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let tree = Tree::of(std::process::id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(tree.pids().contains(&child.id()));
        assert!(Tree::of(child.id()).is_err());
    }

    #[test]
    fn ended_threads_are_not_forgotten() {
        let cpu = Cpu { user_seconds: 1.0, system_seconds: 1.0, scheduled_seconds: 0.5, waited_seconds: 0.0 };
        assert_eq!(cpu.total_seconds(), 2.0);
        assert_eq!(Cpu { scheduled_seconds: 1.995, ..cpu }.total_seconds(), 1.995);
    }
}
