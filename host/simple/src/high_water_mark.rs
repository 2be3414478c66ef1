//! The commit high-water mark: a file with the number of the last acknowledged transaction.
//!
//! `SQLite` takes a damaged write-ahead log for one that ends where the damage begins, and a deleted log for an empty one: acknowledged
//! work would be gone without a word. So every transaction has a number in the database, and the file gets the number once the
//! transaction is on the disk. The file is not synced: after a power loss it may be behind the database, never ahead of it.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

const LEN: usize = 16;

/// The open file.
#[derive(Debug)]
pub(crate) struct CommitHighWaterMark {
    file: File,
    path: PathBuf,
    /// A failure was logged already.
    has_warned: bool,
}

/// The content of the file when it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordedMark {
    /// The number of the last acknowledged transaction.
    Commits(u64),
    /// There was no file, or its record is not whole.
    Nothing,
}

impl CommitHighWaterMark {
    /// Opens the file, or makes an empty one.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, RecordedMark)> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let mut record = [0; LEN];
        let recorded = match file.read_exact_at(&mut record, 0) {
            Ok(()) => decode(record).map_or(RecordedMark::Nothing, RecordedMark::Commits),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => RecordedMark::Nothing,
            Err(error) => return Err(error),
        };
        Ok((
            Self {
                file,
                path: path.to_owned(),
                has_warned: false,
            },
            recorded,
        ))
    }

    /// Writes the number of the last transaction on the disk. A failure is only logged: the store goes on, and the next start
    /// may not notice that work is missing.
    pub(crate) fn note(&mut self, commits: u64) {
        if let Err(error) = self.file.write_all_at(&encode(commits), 0)
            && !self.has_warned
        {
            self.has_warned = true;
            tracing::warn!(path = %self.path.display(), %error, "the commit high-water mark can't be written");
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
