//! The commit witness: a file that knows how many transactions were acknowledged.
//!
//! `SQLite` takes a damaged write-ahead log for one that ends there, and a deleted one for an empty one: what was
//! acknowledged in it would be gone without a word. So every transaction has a number in the database, and the number is
//! noted here once the transaction is on the disk. The note is not synced: after a power loss it may be behind the
//! database, never ahead of it.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

const LEN: usize = 16;

/// The open file.
#[derive(Debug)]
pub(super) struct Witness {
    file: File,
    path: PathBuf,
    complained: bool,
}

/// What the file said when it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Testimony {
    /// So many transactions were acknowledged.
    Commits(u64),
    /// There is no file, or none with a whole record.
    Nothing,
}

impl Witness {
    /// Opens the file, or makes an empty one.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Testimony)> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let mut record = [0; LEN];
        let testimony = match file.read_exact_at(&mut record, 0) {
            Ok(()) => decode(record).map_or(Testimony::Nothing, Testimony::Commits),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Testimony::Nothing,
            Err(error) => return Err(error),
        };
        Ok((
            Self {
                file,
                path: path.to_owned(),
                complained: false,
            },
            testimony,
        ))
    }

    /// Notes that so many transactions are on the disk. Failing to is no failure of the store: the next start
    /// knows less, and that is all.
    pub(super) fn note(&mut self, commits: u64) {
        if let Err(error) = self.file.write_all_at(&encode(commits), 0)
            && !self.complained
        {
            self.complained = true;
            tracing::warn!(path = %self.path.display(), %error, "the commit witness can't be written");
        }
    }
}

fn encode(commits: u64) -> [u8; LEN] {
    let mut record = [0; LEN];
    let (number, rest) = record.split_at_mut(8);
    number.copy_from_slice(&commits.to_le_bytes());
    let checksum = crc32fast::hash(number);
    let (sum, _) = rest.split_at_mut(4);
    sum.copy_from_slice(&checksum.to_le_bytes());
    record
}

fn decode(record: [u8; LEN]) -> Option<u64> {
    let (number, _) = record.split_first_chunk::<8>()?;
    let commits = u64::from_le_bytes(*number);
    (encode(commits) == record).then_some(commits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_record_says_nothing() {
        let mut record = encode(77);
        assert_eq!(decode(record), Some(77));
        if let Some(byte) = record.first_mut() {
            *byte ^= 1;
        }
        assert_eq!(decode(record), None);
        assert_eq!(decode([0; LEN]), None);
    }
}
