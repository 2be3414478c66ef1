//! The messages of a project: each file in its folder `input` is the body of one.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::ignored::{INPUT, is_hidden};

/// The most files that are sent.
pub(super) const MAX_INPUTS: usize = 1000;

/// Returns the files of the folder in the order of their names, and whether there are more.
pub(super) fn inputs(project: &Path) -> io::Result<(Vec<PathBuf>, bool)> {
    let entries = match fs::read_dir(project.join(INPUT)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), false)),
        entries => entries?,
    };
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    files.retain(|path| path.is_file() && !is_hidden(path));
    files.sort();
    let more = files.len() > MAX_INPUTS;
    files.truncate(MAX_INPUTS);
    Ok((files, more))
}
