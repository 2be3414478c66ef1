//! A text that a person edits with an editor of their own.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

use crate::config::Environment;
use sandhog_queue::message::{MAX_BODY_BYTES, MessageId};

/// The variables that name the editor, the first one that is set.
const VARIABLES: [&str; 2] = ["VISUAL", "EDITOR"];

/// Why a text was not edited.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EditorError {
    /// No editor is named.
    #[error("no editor is known: set EDITOR, or use --body, --attr or --unset-attr")]
    None,
    /// The file with the text can't be written or read.
    #[error("cannot use {path}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The editor can't be started.
    #[error("cannot start the editor {0:?}")]
    Start(String, #[source] io::Error),
    /// The editor says that it failed.
    #[error("the editor {0:?} ended with {1}: nothing was done")]
    Failed(String, ExitStatus),
    /// The text is what it was.
    #[error("nothing was changed, so nothing was done")]
    Unchanged,
}

/// Lets a person edit a text, and returns it.
///
/// # Errors
///
/// See [`EditorError`].
pub(crate) fn edit(text: &[u8], environment: Environment<'_>) -> Result<Vec<u8>, EditorError> {
    let editor = VARIABLES.iter().find_map(|variable| environment(variable));
    let editor = editor
        .filter(|editor| !editor.trim().is_empty())
        .ok_or(EditorError::None)?;
    // For this user alone: a body may be a secret.
    let path = std::env::temp_dir().join(format!("sandhog-{}.txt", MessageId::random()));
    let edited = write(&path, text)
        .and_then(|()| run(&editor, &path))
        .and_then(|()| read(&path));
    // What can't be removed was perhaps never there.
    drop(fs::remove_file(&path));
    let edited = edited?;
    if edited == text {
        return Err(EditorError::Unchanged);
    }
    Ok(edited)
}

fn write(path: &Path, text: &[u8]) -> Result<(), EditorError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(text));
    written.map_err(|source| in_file(path, source))
}

fn run(editor: &str, path: &Path) -> Result<(), EditorError> {
    // The variable is a command of the shell, with options perhaps.
    let status = Command::new("sh")
        .arg("-c")
        .arg(format!("{editor} \"$1\""))
        .arg("sh")
        .arg(path)
        .status();
    let status = status.map_err(|error| EditorError::Start(editor.to_owned(), error))?;
    if status.success() {
        Ok(())
    } else {
        Err(EditorError::Failed(editor.to_owned(), status))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, EditorError> {
    // One byte more than a body may have, so that a longer one is refused as such.
    let limit = u64::try_from(MAX_BODY_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut text = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut text));
    read.map_err(|source| in_file(path, source))?;
    Ok(text)
}

fn in_file(path: &Path, source: io::Error) -> EditorError {
    EditorError::File {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(editor: &'static str) -> Result<Vec<u8>, EditorError> {
        edit(b"old", &|name| (name == "EDITOR").then(|| editor.to_owned()))
    }

    #[test]
    fn a_text_is_what_the_editor_leaves() {
        assert_eq!(edited("printf new >").unwrap(), b"new");
        assert!(matches!(edited("true"), Err(EditorError::Unchanged)));
        assert!(matches!(edited("false"), Err(EditorError::Failed(..))));
        assert!(matches!(edited("rm"), Err(EditorError::File { .. })));
        assert!(matches!(edit(b"old", &|_| None), Err(EditorError::None)));
    }
}
