//! How much CPU a process could have used: the room that "saturated" is measured against.
//!
//! A server has as many CPUs as its busy threads can be spread over, each thread on one that its affinity allows. So two
//! shards pinned to two CPUs have two, two threads pinned to the same CPU have one, and a server with one busy thread has
//! one however many CPUs it may use. Threads that did next to nothing (a main thread, an idle pool) do not count. A
//! quota of a control group is not seen.

use std::collections::{BTreeMap, BTreeSet};

/// CPU numbers.
pub type Cpus = BTreeSet<usize>;

/// A thread that used less of a CPU than this is not one that work waits for.
const BUSY_SHARE_MIN: f64 = 0.1;
/// Larger numbers in a list are a mistake; Linux supports 8,192 CPUs.
const CPU_MAX: usize = 8_191;

/// A thread of a process at one moment.
#[derive(Clone, Debug, Default)]
pub struct Thread {
    pub pid: u32,
    pub id: u32,
    /// CPU time it has used.
    pub ran_seconds: f64,
    /// CPUs it may run on.
    pub cpus: Cpus,
}

/// The CPUs each busy thread may run on.
#[derive(Clone, Debug, Default)]
pub struct Room(Vec<Cpus>);

impl Room {
    /// Of the threads that were busy from `before` to `after`, `seconds` apart.
    pub fn between(before: &[Thread], after: &[Thread], seconds: f64) -> Self {
        let ran_before: BTreeMap<_, _> = before.iter().map(|thread| ((thread.pid, thread.id), thread)).collect();
        let share = |thread: &&Thread| {
            let before = ran_before.get(&(thread.pid, thread.id)).map_or(0.0, |before| before.ran_seconds);
            (thread.ran_seconds - before) / seconds
        };
        Self(after.iter().filter(|thread| share(thread) >= BUSY_SHARE_MIN).map(|thread| thread.cpus.clone()).collect())
    }

    /// That of both.
    pub fn and(&self, other: &Room) -> Room {
        Room(self.0.iter().chain(&other.0).cloned().collect())
    }

    /// How many CPUs these threads can use at once; at least one.
    pub fn cpus(&self) -> usize {
        let mut taken = BTreeMap::new();
        (0..self.0.len()).filter(|thread| self.place(*thread, &mut taken, &mut Cpus::new())).count().max(1)
    }

    /// Finds `thread` a CPU, moving others to further ones of theirs if need be (an augmenting path).
    fn place(&self, thread: usize, taken: &mut BTreeMap<usize, usize>, tried: &mut Cpus) -> bool {
        for cpu in &self.0[thread] {
            if !tried.insert(*cpu) {
                continue;
            }
            let free = match taken.get(cpu).copied() {
                Some(other) => self.place(other, taken, tried),
                None => true,
            };
            if free {
                taken.insert(*cpu, thread);
                return true;
            }
        }
        false
    }
}

/// A list as the kernel and Shardcast's `--cpus` write it: `0,2-5`.
pub fn parse_list(text: &str) -> Option<Cpus> {
    let mut cpus = Cpus::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<usize>().ok()?, last.trim().parse::<usize>().ok()?);
        if first > last || last > CPU_MAX {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(threads: &[(f64, &str)]) -> Room {
        let thread = |(id, (ran_seconds, cpus)): (u32, &(f64, &str))| Thread {
            pid: 1,
            id,
            ran_seconds: *ran_seconds,
            cpus: parse_list(cpus).unwrap(),
        };
        let after: Vec<Thread> = (0..).zip(threads).map(thread).collect();
        let before: Vec<Thread> = after.iter().map(|thread| Thread { ran_seconds: 0.0, ..thread.clone() }).collect();
        Room::between(&before, &after, 10.0)
    }

    #[test]
    fn lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse_list("0,2-4\n").unwrap(), Cpus::from([0, 2, 3, 4]));
        for bad in ["", "a", "3-1", "1,", "0-99999", "-1"] {
            assert_eq!(parse_list(bad), None, "{bad}");
        }
    }

    #[test]
    fn each_busy_thread_counts_for_a_cpu_it_may_use() {
        assert_eq!(room(&[(9.0, "0"), (9.0, "1")]).cpus(), 2, "two shards on two CPUs");
        assert_eq!(room(&[(5.0, "0"), (5.0, "0")]).cpus(), 1, "two shards on one");
        assert_eq!(room(&[(9.9, "0-63"), (0.2, "0-63")]).cpus(), 1, "one thread works, the other is idle");
        assert_eq!(room(&[(9.0, "0-1"), (9.0, "0-1"), (9.0, "0-1")]).cpus(), 2, "three on two");
        assert_eq!(room(&[(9.0, "0-1"), (9.0, "0")]).cpus(), 2, "the first makes room");
        assert_eq!(room(&[(0.0, "0-3")]).cpus(), 1, "an idle server could use one");
    }

    #[test]
    fn threads_that_came_later_count_and_two_rooms_make_one() {
        let after = room(&[(9.0, "0")]);
        let new = Thread { pid: 1, id: 7, ran_seconds: 5.0, cpus: Cpus::from([1]) };
        assert_eq!(Room::between(&[], &[new], 10.0).and(&after).cpus(), 2);
        assert_eq!(after.and(&after).cpus(), 1);
    }
}
