//! The limits on memory of the control groups of this process, version 1 and 2.
//!
//! A limit of any parent holds, too. A container can't read the limits of parents that it does not see.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

/// The usual mounts of groups, for a process that can't read its mounts.
const USUAL: [(&str, Version); 2] = [
    ("/sys/fs/cgroup", Version::Two),
    ("/sys/fs/cgroup/memory", Version::One),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Version {
    /// Returns the files of a group that bound its memory.
    fn files(self) -> &'static [&'static str] {
        match self {
            Self::One => &["memory.limit_in_bytes", "memory.stat"],
            Self::Two => &["memory.max", "memory.high"],
        }
    }
}

/// Returns every limit in bytes, with the file that has it. `groups` is `/proc/self/cgroup`, `mounts` is `/proc/self/mountinfo`.
pub(crate) fn limits(root: &Path, groups: &str, mounts: &str) -> Vec<(u64, PathBuf)> {
    let mut mounted: Vec<_> = mounts.lines().filter_map(Mount::parse).collect();
    if mounted.is_empty() {
        mounted.extend(USUAL.map(|(point, version)| Mount {
            version,
            top: PathBuf::from("/"),
            point: PathBuf::from(point),
        }));
    }
    let directories = mounted.iter().flat_map(|mount| {
        let group = group(groups, mount.version).unwrap_or_default();
        mount
            .directories(&group)
            .into_iter()
            .map(|directory| (directory, mount.version))
    });
    let files =
        directories.flat_map(|(directory, version)| version.files().iter().map(move |file| directory.join(file)));
    let read = |file: PathBuf| Some((limit(&fs::read_to_string(below(root, &file)).ok()?)?, file));
    files.filter_map(read).collect()
}

fn below(root: &Path, absolute: &Path) -> PathBuf {
    root.join(absolute.strip_prefix("/").unwrap_or(absolute))
}

/// Returns the number in a file, or in the line of `memory.stat` that counts the parents.
fn limit(text: &str) -> Option<u64> {
    let of_parents = text
        .lines()
        .find_map(|line| line.strip_prefix("hierarchical_memory_limit "));
    of_parents.unwrap_or(text).trim().parse().ok()
}

/// Returns the group of the process from a line of the kernel: `0::/a/b`, or `4:memory:/a/b`.
fn group(groups: &str, version: Version) -> Option<PathBuf> {
    groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let _number = fields.next()?;
        let controllers = fields.next()?;
        let path = fields.next()?;
        let is_it = match version {
            Version::One => controllers.split(',').any(|controller| controller == "memory"),
            Version::Two => controllers.is_empty(),
        };
        is_it.then(|| PathBuf::from(path))
    })
}

/// A tree of groups.
struct Mount {
    version: Version,
    /// The group that is seen at `point`.
    top: PathBuf,
    point: PathBuf,
}

impl Mount {
    /// Parses a line such as `25 1 0:22 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw`.
    fn parse(line: &str) -> Option<Self> {
        let (mount, system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let top = PathBuf::from(unescaped(mount.next()?));
        let point = PathBuf::from(unescaped(mount.next()?));
        let mut system = system.split(' ');
        let version = match system.next()? {
            "cgroup2" => Version::Two,
            "cgroup" if system.nth(1)?.split(',').any(|option| option == "memory") => Version::One,
            _ => return None,
        };
        Some(Self { version, top, point })
    }

    /// Returns the directory of the group, if it is seen here, and those of its parents up to the mount.
    fn directories(&self, group: &Path) -> Vec<PathBuf> {
        let inside = group.strip_prefix(&self.top).unwrap_or(Path::new(""));
        let is_above = inside.components().any(|component| component == Component::ParentDir);
        let inside = if is_above { Path::new("") } else { inside };
        inside.ancestors().map(|parent| self.point.join(parent)).collect()
    }
}

/// Removes the escapes of blanks (`\040`).
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let escape = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (escape, part.get(3..)) {
            (Some(byte), Some(rest)) if byte.is_ascii() => {
                plain.push(char::from(byte));
                plain.push_str(rest);
            }
            _ => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}
