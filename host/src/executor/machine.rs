//! What the machine gives this process: memory, address space, swap. Read from `/proc` and the control group, where there
//! are any.

use std::fs;

/// What is assumed of a machine that does not tell.
const ASSUMED_MEMORY: u64 = 4 << 30;

/// The bytes of memory that this process may have: the machine's, or the limit of its control group, whichever is less.
pub(super) fn memory() -> u64 {
    let of_machine = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| memory_total(&text));
    let group = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = group.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let of_group = [
        format!("/sys/fs/cgroup{path}/memory.max"),
        "/sys/fs/cgroup/memory.max".to_owned(),
    ]
    .into_iter()
    .filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok())
    .min();
    let known = [of_machine, of_group].into_iter().flatten().min();
    known.unwrap_or(ASSUMED_MEMORY)
}

fn memory_total(meminfo: &str) -> Option<u64> {
    let kib: u64 = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()?;
    kib.checked_mul(1024)
}

/// The limit on address space in bytes, if there is one.
pub(super) fn address_space() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    limits.lines().find_map(|line| {
        line.strip_prefix("Max address space")?
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    })
}

/// Whether the system has any swap space; `true` when it can't be told.
pub(super) fn can_swap() -> bool {
    fs::read_to_string("/proc/swaps").map_or(true, |swaps| swaps.lines().skip(1).any(|line| !line.trim().is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_the_machine_is_read_in_bytes() {
        assert_eq!(
            memory_total("MemTotal:       24083456 kB\nMemFree: 1 kB\n"),
            Some(24_083_456 * 1024)
        );
        assert_eq!(memory_total(""), None);
    }
}
