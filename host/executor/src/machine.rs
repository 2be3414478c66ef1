//! The machine's bounds on this process: memory, address space, swap, images of memories. They are read from `/proc` and from
//! the control groups, where there are any.
//!
//! Everything is read below a root, which is `/` outside of tests. A file that can't be read bounds nothing.

use std::{fmt, fs, path::Path};

use bytesize::ByteSize;

mod groups;

/// The memory of a machine that does not tell.
const ASSUMED_MEMORY: u64 = 4 << 30;
const ROOT: &str = "/";

/// A bound on memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Memory {
    /// The most bytes.
    pub(crate) bytes: u64,
    /// The name of the bound, for people.
    of: String,
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.of, ByteSize::b(self.bytes).display().iec())
    }
}

/// Returns the memory that this process may have: the machine's, or the least of the limits of its control groups, their
/// parents and its own (`ulimit -v`, `ulimit -d`).
pub(crate) fn memory() -> Memory {
    memory_below(Path::new(ROOT))
}

fn memory_below(root: &Path) -> Memory {
    let read = |file: &str| fs::read_to_string(root.join(file)).unwrap_or_default();
    let machine = memory_total(&read("proc/meminfo")).map(|bytes| (bytes, "the machine's memory".to_owned()));
    let limits = read("proc/self/limits");
    let of_process = [ADDRESS_SPACE, DATA].into_iter().filter_map(|(name, shown)| {
        let bytes = soft_limit(&limits, name)?;
        Some((bytes, format!("the limit on the {shown}")))
    });
    let groups = groups::limits(root, &read("proc/self/cgroup"), &read("proc/self/mountinfo"));
    let groups = groups
        .into_iter()
        .map(|(bytes, file)| (bytes, format!("the limit {}", file.display())));
    let least = machine
        .into_iter()
        .chain(groups)
        .chain(of_process)
        .min_by_key(|(bytes, _)| *bytes);
    let (bytes, of) = least.unwrap_or_else(|| (ASSUMED_MEMORY, "assumed, since the machine does not tell".to_owned()));
    Memory { bytes, of }
}

fn memory_total(meminfo: &str) -> Option<u64> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = total.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

/// The names of limits in `/proc/self/limits`, and for operators.
const ADDRESS_SPACE: (&str, &str) = ("Max address space", "address space (ulimit -v)");
const DATA: (&str, &str) = ("Max data size", "data (ulimit -d)");

/// Returns a soft limit, or `None` if there is none.
fn soft_limit(limits: &str, name: &str) -> Option<u64> {
    let columns = limits.lines().find_map(|line| line.strip_prefix(name))?;
    columns.split_whitespace().next()?.parse().ok()
}

/// Returns the limit on address space in bytes, if there is one.
pub(crate) fn address_space() -> Option<u64> {
    soft_limit(&fs::read_to_string("/proc/self/limits").ok()?, ADDRESS_SPACE.0)
}

/// Returns whether the system has swap space; `true` if the system does not tell.
pub(crate) fn can_swap() -> bool {
    fs::read_to_string("/proc/swaps").map_or(true, |swaps| swaps.lines().skip(1).any(|line| !line.trim().is_empty()))
}

/// Returns the reason that a process may be refused memory before it has had `wanted` bytes of it.
pub(crate) fn scarce(wanted: u64) -> Option<String> {
    if let Some(limit) = address_space().filter(|limit| *limit < wanted) {
        let limit = ByteSize::b(limit).display().iec();
        return Some(format!(
            "the address space of the host is limited to {limit} (ulimit -v)"
        ));
    }
    let overcommit = fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap_or_default();
    (overcommit.trim() == "2").then(|| "the machine promises no more than it has (vm.overcommit_memory = 2)".to_owned())
}

/// Returns whether the engine can make an image of a memory that instances share until they write. Where the machine denies
/// that, their memories are filled by copying.
#[cfg(target_os = "linux")]
pub(crate) fn makes_images() -> bool {
    use rustix::{
        fs::{MemfdFlags, memfd_create},
        io::Errno,
    };
    let probe = memfd_create(c"sandhog-probe", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING);
    // The engine needs no check for a kernel that does not have the call.
    let is_denied = matches!(probe, Err(Errno::PERM | Errno::ACCESS));
    if is_denied {
        tracing::warn!(
            "the machine denies the system call memfd_create: new memories are filled by copying, which is slower"
        );
    }
    !is_denied
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn makes_images() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine of 8 GiB with these files besides.
    fn check(files: &[(&str, &str)], expected: u64, of: &str) {
        let root = tempfile::tempdir().unwrap();
        let machine = [("proc/meminfo", "MemTotal:       8388608 kB\nMemFree: 1 kB\n")];
        for (file, text) in machine.iter().chain(files) {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let memory = memory_below(root.path());
        assert_eq!(memory.bytes, expected, "{memory}");
        assert!(memory.of.contains(of), "{memory}");
    }

    const MIB: u64 = 1 << 20;
    const V2: &str = "25 1 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1: &str = "30 1 0:26 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n";

    #[test]
    fn a_machine_without_limits_gives_its_memory() {
        check(&[], 8192 * MIB, "machine");
        let group = "sys/fs/cgroup/a/memory.max";
        let files = [
            ("proc/self/cgroup", "0::/a\n"),
            ("proc/self/mountinfo", V2),
            (group, "max\n"),
        ];
        check(&files, 8192 * MIB, "machine");
        assert_eq!(memory_below(Path::new("/no/such/root")).bytes, ASSUMED_MEMORY);
    }

    #[test]
    fn the_least_limit_of_a_group_and_its_parents_counts() {
        let files = |leaf, high, parent| {
            [
                ("proc/self/cgroup", "0::/a.slice/b.scope\n"),
                ("proc/self/mountinfo", V2),
                ("sys/fs/cgroup/a.slice/b.scope/memory.max", leaf),
                ("sys/fs/cgroup/a.slice/b.scope/memory.high", high),
                ("sys/fs/cgroup/a.slice/memory.max", parent),
            ]
        };
        check(&files("629145600\n", "max\n", "max\n"), 600 * MIB, "b.scope/memory.max");
        // Past it the kernel slows every allocation down to nothing.
        check(&files("629145600\n", "524288000\n", "max\n"), 500 * MIB, "memory.high");
        check(&files("max\n", "max\n", "314572800\n"), 300 * MIB, "a.slice/memory.max");
    }

    /// The limit of version 1 for a group without a limit.
    const NONE: &str = "9223372036854771712\n";

    #[test]
    fn groups_of_version_1_count() {
        // They were not looked at: the host took half of the machine, and the kernel killed it.
        let files = |leaf, parent| {
            [
                ("proc/self/cgroup", "7:cpu,cpuacct:/x\n4:memory:/a/b\n0::/\n"),
                ("proc/self/mountinfo", V1),
                ("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", leaf),
                ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", parent),
            ]
        };
        check(&files("629145600\n", NONE), 600 * MIB, "a/b/memory.limit_in_bytes");
        check(&files(NONE, "104857600\n"), 100 * MIB, "a/memory.limit_in_bytes");
        check(&files(NONE, NONE), 8192 * MIB, "machine");
    }

    #[test]
    fn a_parent_that_can_not_be_seen_counts_by_what_the_group_says_of_it() {
        let stat = "cache 1\nhierarchical_memory_limit 209715200\n";
        let files = [
            ("proc/self/cgroup", "4:memory:/\n"),
            ("proc/self/mountinfo", V1),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/memory.stat", stat),
        ];
        check(&files, 200 * MIB, "memory.stat");
    }

    #[test]
    fn a_group_is_found_as_a_container_sees_it() {
        let limit = [("sys/fs/cgroup/memory.max", "104857600\n")];
        let seen = |group, mounts| [limit[0], ("proc/self/cgroup", group), ("proc/self/mountinfo", mounts)];
        // A namespace of its own; the host's path with the group itself mounted; a path above the namespace's root.
        check(&seen("0::/\n", V2), 100 * MIB, "/memory.max");
        let inner = "25 1 0:22 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        check(&seen("0::/docker/abc\n", inner), 100 * MIB, "/memory.max");
        check(&seen("0::/../other\n", V2), 100 * MIB, "/memory.max");
        // A mount that can't be read about.
        check(&seen("0::/docker/abc\n", ""), 100 * MIB, "/memory.max");
    }

    #[test]
    fn a_mount_is_found_where_it_is() {
        let mounts = "1 1 0:1 / / rw - ext4 x rw\n25 1 0:22 / /sys/fs/cgroup/the\\040unified rw - cgroup2 none rw\n";
        let files = [
            ("proc/self/cgroup", "1:name=systemd:/s\n0::/a\n"),
            ("proc/self/mountinfo", mounts),
            ("sys/fs/cgroup/the unified/a/memory.max", "104857600"),
        ];
        check(&files, 100 * MIB, "the unified/a/memory.max");
    }

    #[test]
    fn the_limits_of_the_process_count() {
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax data size  unlimited  unlimited  bytes\n\
                      Max address space  1073741824  unlimited  bytes\n";
        check(&[("proc/self/limits", limits)], 1024 * MIB, "ulimit -v");
        let limits = "Max data size             536870912            unlimited            bytes     \n";
        check(&[("proc/self/limits", limits)], 512 * MIB, "ulimit -d");
    }

    #[test]
    fn damaged_files_bound_nothing() {
        let files = [
            ("proc/self/cgroup", "0:\n::\nmemory\n9:memory\n0::x\n"),
            ("proc/self/mountinfo", "- - -\n1 2 3\n1 1 0:1 / \\9 rw - cgroup2\n"),
            ("proc/self/limits", "Max address space\n"),
            ("sys/fs/cgroup/memory.max", "-1\n"),
        ];
        check(&files, 8192 * MIB, "machine");
    }
}
