//! Which CPUs the shards run on: a pure decision over what the process may use.

use rustix::thread::CpuSet;

use crate::limits::SHARDS_MAX;

/// What the kernel lets this process use.
#[derive(Clone, Debug)]
pub(super) struct Allowance {
    /// CPUs of the affinity mask, ascending.
    pub(super) cpus: Vec<usize>,
    /// CPUs' worth of time, after the affinity mask and the cgroup's quota.
    pub(super) parallelism: usize,
}

impl Allowance {
    /// Of the calling thread.
    pub(super) fn read() -> Self {
        let cpus = match rustix::thread::sched_getaffinity(None) {
            Ok(set) => (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect(),
            // More CPUs than the mask holds: shards are then not pinned.
            Err(_) => Vec::new(),
        };
        Self { cpus, parallelism: std::thread::available_parallelism().map_or(1, usize::from) }
    }
}

/// One item per shard, as in [`crate::shard::config::Config::cpus`], and what the operator should know about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) cpus: Vec<Option<usize>>,
    pub(super) notes: Vec<String>,
}

/// Lays `shards` shards (by default one per listed CPU, or per CPU's worth of time) over `listed` (by default all
/// allowed CPUs). More shards than CPUs take turns. Under a quota smaller than the affinity mask nothing is pinned
/// unless `--cpus` says where: other containers would choose the same first CPUs.
pub(super) fn plan(
    shards: Option<usize>,
    listed: Option<&[usize]>,
    pin: bool,
    allowance: &Allowance,
) -> Result<Plan, String> {
    let mut notes = Vec::new();
    if let Some(cpu) = listed.unwrap_or(&[]).iter().find(|cpu| !allowance.cpus.contains(cpu)) {
        return Err(format!(
            "CPU {cpu} is not among those this process may run on ({}); see taskset and cpusets",
            list(&allowance.cpus)
        ));
    }
    let cpus = listed.unwrap_or(&allowance.cpus);
    let available = listed.map_or(allowance.parallelism, <[usize]>::len).max(1);
    let count = shards.unwrap_or(available);
    if shards.is_none() && count > SHARDS_MAX {
        notes.push(format!("{available} CPUs, but one process runs at most {SHARDS_MAX} shards"));
    }
    let count = count.clamp(1, SHARDS_MAX);
    if count > available {
        notes.push(format!("{count} shards share {available} CPUs: one shard per CPU is faster"));
    }
    let quota = listed.is_none() && allowance.parallelism < allowance.cpus.len();
    if quota && pin {
        notes.push("not pinned: a CPU quota is in force; --cpus pins nevertheless".to_owned());
    }
    let pinned = pin && !quota && !cpus.is_empty();
    let cpus = (0..count).map(|shard| pinned.then(|| cpus[shard % cpus.len()])).collect();
    Ok(Plan { cpus, notes })
}

/// CPU numbers in the kernel's list format: `0-3,8`.
pub(super) fn list(cpus: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => runs.push((cpu, cpu)),
        }
    }
    let runs = runs.iter().map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") });
    runs.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowance(cpus: &[usize], parallelism: usize) -> Allowance {
        Allowance { cpus: cpus.to_vec(), parallelism }
    }

    #[test]
    fn one_pinned_shard_per_allowed_cpu() {
        let plan = plan(None, None, true, &allowance(&[1, 3], 2)).unwrap();
        assert_eq!(plan, Plan { cpus: vec![Some(1), Some(3)], notes: vec![] });
    }

    #[test]
    fn a_cpu_list_sets_the_number_of_shards() {
        let plan = plan(None, Some(&[3]), true, &allowance(&[1, 3], 2)).unwrap();
        assert_eq!(plan.cpus, [Some(3)]);
    }

    #[test]
    fn a_cpu_outside_the_mask_is_refused() {
        let why = plan(None, Some(&[1, 2]), true, &allowance(&[0, 1], 2)).unwrap_err();
        assert!(why.contains("CPU 2") && why.contains("0-1"), "{why}");
    }

    #[test]
    fn more_shards_than_cpus_take_turns_and_are_noted() {
        let plan = plan(Some(3), None, true, &allowance(&[0, 1], 2)).unwrap();
        assert_eq!(plan.cpus, [Some(0), Some(1), Some(0)]);
        assert!(plan.notes[0].contains("3 shards share 2 CPUs"));
    }

    #[test]
    fn a_quota_unpins_unless_the_cpus_are_named() {
        let quota = allowance(&[0, 1, 2, 3], 2);
        let unpinned = plan(None, None, true, &quota).unwrap();
        assert_eq!((unpinned.cpus, unpinned.notes.len()), (vec![None, None], 1));
        assert_eq!(plan(None, Some(&[2]), true, &quota).unwrap().cpus, [Some(2)]);
    }

    #[test]
    fn pinning_can_be_switched_off_and_an_unknown_mask_does_not_pin() {
        assert_eq!(plan(None, None, false, &allowance(&[0, 1], 2)).unwrap().cpus, [None, None]);
        assert_eq!(plan(None, None, true, &allowance(&[], 2)).unwrap().cpus, [None, None]);
    }

    #[test]
    fn the_default_keeps_to_the_bound() {
        let many = (0..200).collect::<Vec<_>>();
        let plan = plan(None, None, true, &allowance(&many, 200)).unwrap();
        assert_eq!((plan.cpus.len(), plan.notes.len()), (SHARDS_MAX, 1));
    }

    #[test]
    fn this_process_may_run_somewhere() {
        let here = Allowance::read();
        assert!(!here.cpus.is_empty() && here.parallelism >= 1 && here.parallelism <= here.cpus.len());
    }

    #[test]
    fn lists_join_neighbours() {
        assert_eq!(list(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
    }
}
