//! The journal on the disk: the entries that it keeps, one line of JSON each, behind a line that names the form.
//!
//! Entries are appended; once the file is twice as long as what the journal keeps it is written anew. Invariant: a crash costs the
//! entries that are not appended yet, and no others; a line that can't be understood is left out, and never keeps the host from
//! starting. Knows nothing of tasks.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Journal, JournalEntry};
use crate::whole_file::{self, WriteEnd};

/// The name of the file in the data directory.
pub(crate) const FILE: &str = "journal.jsonl";
/// The name of a file that could not be understood.
const DAMAGED: &str = "journal.damaged.jsonl";
/// The first line.
const HEADER: &str = "{\"journal\":1}\n";
/// A file that is shorter is never written anew.
const SMALL_FILE: u64 = 4 * 1024 * 1024;
/// The longest line that is read, in bytes: an entry with everything that it may have takes less.
const MAX_LINE: u64 = 1024 * 1024;
/// The bytes that are appended in one write, about.
const APPENDED: usize = 256 * 1024;

/// The file of a journal.
#[derive(Debug)]
pub(crate) struct JournalFile {
    directory: PathBuf,
    /// `None` before the first entry, and when what is there can't be appended to.
    file: Option<File>,
    /// The length of what was written as a whole.
    length: u64,
    /// The length when the file was written anew.
    length_anew: u64,
    /// The number of the last entry that is in the file.
    last: u64,
}

/// What a journal found on the disk.
#[derive(Debug)]
pub(crate) struct OpenedJournal {
    pub(crate) file: JournalFile,
    /// How many lines could not be understood.
    pub(crate) damaged: u64,
    /// The file could not be understood at all, and is out of the way: where it is now.
    pub(crate) aside: Option<PathBuf>,
}

/// The first line of a file, whoever wrote it.
#[derive(serde::Deserialize)]
struct JournalHeader {
    journal: u64,
}

impl JournalFile {
    /// Reads the file of a data directory into a journal. Blocks.
    ///
    /// # Errors
    ///
    /// The file can't be read, or is from a newer host.
    pub(crate) fn open(directory: &Path, journal: &Journal) -> io::Result<OpenedJournal> {
        let mut opened = OpenedJournal {
            file: Self {
                directory: directory.to_owned(),
                file: None,
                length: 0,
                length_anew: 0,
                last: 0,
            },
            damaged: 0,
            aside: None,
        };
        let path = directory.join(FILE);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(opened),
            file => file?,
        };
        if !opened.read(file, journal)? {
            let aside = directory.join(DAMAGED);
            fs::rename(path, &aside)?;
            opened.aside = Some(aside);
        }
        Ok(opened)
    }

    /// Brings the entries of a journal to the disk that are not there yet. Blocks.
    ///
    /// # Errors
    ///
    /// Those of the disk. The file is as it was before, and the next call tries the same entries again, as far as the journal still
    /// keeps them.
    pub(crate) fn follow(&mut self, journal: &Journal) -> io::Result<()> {
        if self.file.as_ref().is_none_or(|file| !self.is_in_place(file)) {
            return self.write_anew(&journal.after(0));
        }
        if self.length > SMALL_FILE.max(self.length_anew.saturating_mul(2)) {
            if self.write_anew(&journal.after(0)).is_ok() {
                return Ok(());
            }
            // There is no room for two files. There may be for an entry, and the next try comes when the file has doubled.
            self.length_anew = self.length;
        }
        let entries = journal.after(self.last);
        self.append(&entries)
    }

    /// Whether the file is still the one that the name stands for, and as long as it was left: somebody may have moved or cut it.
    fn is_in_place(&self, file: &File) -> bool {
        let is = |one: fs::Metadata, other: fs::Metadata| {
            one.ino() == other.ino() && one.dev() == other.dev() && one.len() == self.length
        };
        let named = fs::metadata(self.directory.join(FILE));
        named.and_then(|named| Ok(is(named, file.metadata()?))).unwrap_or(false)
    }

    fn append(&mut self, entries: &[Arc<JournalEntry>]) -> io::Result<()> {
        let (Some(last), Some(file)) = (entries.last(), &mut self.file) else {
            return Ok(());
        };
        let written = (|| {
            file.seek(SeekFrom::Start(self.length))?;
            let mut counted = BufWriter::with_capacity(APPENDED, &mut *file);
            for entry in entries {
                write_line(&mut counted, entry)?;
            }
            counted.flush()?;
            drop(counted);
            file.sync_data()?;
            file.stream_position()
        })();
        match written {
            Ok(length) => {
                self.length = length;
                self.last = last.attempt;
                Ok(())
            }
            Err(error) => {
                // A part of an entry would spoil the first one that is appended behind it.
                drop(file.set_len(self.length));
                Err(error)
            }
        }
    }

    fn write_anew(&mut self, entries: &[Arc<JournalEntry>]) -> io::Result<()> {
        if entries.is_empty() && self.file.is_none() {
            return Ok(());
        }
        whole_file::write_with(&self.directory, FILE, WriteEnd::Synced, |file| {
            let mut file = BufWriter::with_capacity(APPENDED, file);
            file.write_all(HEADER.as_bytes())?;
            for entry in entries {
                write_line(&mut file, entry)?;
            }
            file.flush()
        })?;
        let file = OpenOptions::new()
            .write(true)
            .mode(0o600)
            .open(self.directory.join(FILE))?;
        self.length = file.metadata()?.len();
        self.length_anew = self.length;
        self.last = entries.last().map_or(self.last, |last| last.attempt);
        self.file = Some(file);
        whole_file::sync_names(&self.directory)
    }
}

impl OpenedJournal {
    /// Reads the entries. Returns whether the file is one of a journal, as far as it goes.
    fn read(&mut self, file: File, journal: &Journal) -> io::Result<bool> {
        let mut lines = BufReader::new(&file);
        let mut line = Vec::new();
        let mut next = |line: &mut Vec<u8>| {
            line.clear();
            (&mut lines).take(MAX_LINE).read_until(b'\n', line)
        };
        let mut length = u64::try_from(next(&mut line)?).unwrap_or(u64::MAX);
        if line != HEADER.as_bytes() {
            // What a newer host wrote is not for this one to throw away.
            let newer = serde_json::from_slice::<JournalHeader>(&line).is_ok_and(|header| header.journal > 1);
            return if newer {
                let why = "it is from a newer version of sandhog";
                Err(io::Error::new(io::ErrorKind::InvalidData, why))
            } else {
                Ok(line.is_empty())
            };
        }
        let mut is_whole = true;
        while next(&mut line)? > 0 {
            // The last entry may have been cut by a crash.
            is_whole = line.ends_with(b"\n");
            match serde_json::from_slice::<JournalEntry>(&line) {
                // A number comes once, whatever somebody has made of the file.
                Ok(entry) if is_whole && entry.attempt > self.file.last => {
                    self.file.last = entry.attempt;
                    journal.restore(entry);
                }
                Ok(_) | Err(_) => self.damaged += u64::from(is_whole),
            }
            length += u64::try_from(line.len()).unwrap_or(u64::MAX);
        }
        self.file.length = length;
        // What is behind a cut entry would be lost with it, so the file is written anew.
        self.file.file = Some(file).filter(|_| is_whole);
        Ok(true)
    }
}

fn write_line(out: &mut impl Write, entry: &JournalEntry) -> io::Result<()> {
    serde_json::to_writer(&mut *out, entry)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{
        super::{JournalFilter, JournalLimits, tests::entry},
        *,
    };

    fn opened(place: &Path, limits: JournalLimits) -> (Journal, OpenedJournal) {
        let journal = Journal::new(limits);
        let opened = JournalFile::open(place, &journal).unwrap();
        (journal, opened)
    }

    fn messages(journal: &Journal) -> Vec<String> {
        let kept = journal.recent(&JournalFilter::default(), 1000, None, None);
        kept.iter().map(|entry| entry.message.clone()).collect()
    }

    fn keep(journal: &Journal, file: &mut JournalFile, ids: &[&str]) {
        journal.add(ids.iter().map(|id| entry("h", id)));
        file.follow(journal).unwrap();
    }

    #[test]
    fn what_was_entered_is_there_after_a_restart_and_the_numbers_go_on() {
        let place = tempfile::tempdir().unwrap();
        let (journal, mut found) = opened(place.path(), JournalLimits::default());
        keep(&journal, &mut found.file, &["a", "b"]);
        keep(&journal, &mut found.file, &["c"]);
        let before = journal.recent(&JournalFilter::default(), 10, None, None);
        let (journal, mut found) = opened(place.path(), JournalLimits::default());
        assert_eq!(journal.recent(&JournalFilter::default(), 10, None, None), before);
        keep(&journal, &mut found.file, &["d"]);
        let (journal, found) = opened(place.path(), JournalLimits::default());
        assert_eq!((messages(&journal).join(""), found.damaged), ("abcd".to_owned(), 0));
        let kept = journal.recent(&JournalFilter::default(), 10, None, None);
        assert!(kept.is_sorted_by(|one, other| one.attempt < other.attempt));
    }

    #[test]
    fn an_entry_that_a_crash_has_cut_costs_no_other() {
        let place = tempfile::tempdir().unwrap();
        let (journal, mut found) = opened(place.path(), JournalLimits::default());
        keep(&journal, &mut found.file, &["a", "b"]);
        let path = place.path().join(FILE);
        let whole = fs::read(&path).unwrap();
        for cut in HEADER.len()..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let (journal, mut found) = opened(place.path(), JournalLimits::default());
            keep(&journal, &mut found.file, &["c"]);
            let (journal, found) = opened(place.path(), JournalLimits::default());
            let messages = messages(&journal).join("");
            assert!(["c", "ac"].contains(&&*messages), "{messages} at {cut}");
            assert_eq!(found.damaged, 0);
        }
    }

    #[test]
    fn a_line_that_can_not_be_understood_is_left_out_and_counted() {
        let place = tempfile::tempdir().unwrap();
        let (journal, mut found) = opened(place.path(), JournalLimits::default());
        keep(&journal, &mut found.file, &["a", "b"]);
        let path = place.path().join(FILE);
        let text = fs::read_to_string(&path)
            .unwrap()
            .replacen("\"attempt\"", "\"attemqt\"", 1);
        fs::write(&path, text).unwrap();
        let (journal, found) = opened(place.path(), JournalLimits::default());
        assert_eq!((messages(&journal).join(""), found.damaged), ("b".to_owned(), 1));
    }

    #[test]
    fn a_file_of_a_newer_host_is_refused_and_stays_as_it_is() {
        let place = tempfile::tempdir().unwrap();
        let text = "{\"journal\":2}\n";
        fs::write(place.path().join(FILE), text).unwrap();
        let refused = JournalFile::open(place.path(), &Journal::default());
        assert!(refused.unwrap_err().to_string().contains("newer version"));
        assert_eq!(fs::read_to_string(place.path().join(FILE)).unwrap(), text);
    }

    #[test]
    fn a_file_that_is_no_journal_is_moved_aside_and_another_one_begins() {
        let place = tempfile::tempdir().unwrap();
        for text in ["\0\0\0{\"attempt\":1}\n", "hello\n", "{\"journal\":"] {
            fs::write(place.path().join(FILE), text).unwrap();
            let (journal, mut found) = opened(place.path(), JournalLimits::default());
            assert_eq!(fs::read_to_string(found.aside.take().unwrap()).unwrap(), text);
            keep(&journal, &mut found.file, &["a"]);
            let (journal, _) = opened(place.path(), JournalLimits::default());
            assert_eq!(messages(&journal), ["a"]);
        }
    }

    #[test]
    fn a_file_that_somebody_cuts_moves_or_removes_is_written_anew_with_everything() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(FILE);
        let damages: [&dyn Fn(); 3] = [
            &|| fs::write(&path, "").unwrap(),
            &|| fs::rename(&path, place.path().join("rotated")).unwrap(),
            &|| fs::remove_file(&path).unwrap(),
        ];
        let (journal, mut found) = opened(place.path(), JournalLimits::default());
        keep(&journal, &mut found.file, &["a"]);
        for damage in damages {
            damage();
            keep(&journal, &mut found.file, &["b"]);
            let (again, _) = opened(place.path(), JournalLimits::default());
            assert_eq!(messages(&again), messages(&journal));
        }
    }

    #[test]
    fn the_file_stays_within_twice_what_the_journal_keeps() {
        let place = tempfile::tempdir().unwrap();
        let limits = JournalLimits {
            entries: 20,
            ..JournalLimits::default()
        };
        let (journal, mut found) = opened(place.path(), limits);
        let mut longest = 0;
        for number in 0..400 {
            let long = JournalEntry {
                reason: Some("x".repeat(50_000)),
                ..entry("h", &number.to_string())
            };
            journal.add([long]);
            found.file.follow(&journal).unwrap();
            longest = longest.max(fs::metadata(place.path().join(FILE)).unwrap().len());
        }
        assert!(longest > SMALL_FILE && longest < SMALL_FILE + 100_000, "{longest}");
        let (journal, _) = opened(place.path(), limits);
        assert_eq!(messages(&journal).first().map(String::as_str), Some("380"));
    }
}
