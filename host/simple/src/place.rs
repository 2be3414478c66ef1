//! Checks that the files of the data directory belong to this host alone.
//!
//! The directory itself may be a link, because operators put disks in place so. Its files may not: the lock and the high-water mark of a
//! database that is elsewhere would not be beside that database, and another host could open it under another lock.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

use super::open::OpenError;

/// The mode bits that let other users write.
const WRITTEN_BY_OTHERS: u32 = 0o022;

/// Examines a directory that exists, and warns if other users can write to it.
///
/// # Errors
///
/// One of `files` is a symbolic link.
pub(crate) fn examine(directory: &Path, files: &[String]) -> Result<(), OpenError> {
    for file in files {
        let path = directory.join(file);
        if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink()) {
            let why =
                "it is a symbolic link: put the file itself there, or name the directory in which it is with --data";
            let source = io::Error::new(io::ErrorKind::InvalidInput, why);
            return Err(OpenError::Io { path, source });
        }
    }
    let mode = fs::metadata(directory).map_or(0, |metadata| metadata.mode()) & 0o7777;
    if mode & WRITTEN_BY_OTHERS != 0 {
        tracing::warn!(
            directory = %directory.display(),
            mode = format!("{mode:o}"),
            "other users can write to the data directory, and so replace the messages in it: chmod 700"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_of_the_store_that_is_a_link_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let files = ["queues.db".to_owned(), "queues.lock".to_owned()];
        examine(directory.path(), &files).unwrap();
        symlink("elsewhere", directory.path().join("queues.db")).unwrap();
        let error = examine(directory.path(), &files).unwrap_err();
        assert!(error.to_string().contains("queues.db"), "{error}");
    }

    #[test]
    fn a_directory_may_be_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().join("real");
        let link = directory.path().join("link");
        fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        examine(&link, &["queues.db".to_owned()]).unwrap();
    }
}
