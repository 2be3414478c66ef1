//! The archive of a backup: a tar file whose last entry says that it is whole, or why it is not.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{BackupFacts, FACTS, FAILED};

/// The largest piece that is handed to the reader at once, in bytes.
const PIECE: usize = 64 * 1024;

/// Writes the files below a directory, or the reason why they are not there. Blocks on the disk and on the reader.
///
/// # Errors
///
/// The reader has gone away, or a file can't be read: then the archive has no end.
pub(crate) fn write_archive(
    directory: &Path,
    copied: Result<BackupFacts, String>,
    pieces: mpsc::Sender<Bytes>,
) -> io::Result<()> {
    let pieces = PieceWriter {
        pieces,
        piece: Vec::with_capacity(PIECE),
    };
    let mut archive = tar::Builder::new(pieces);
    archive.sparse(false);
    let last = match copied {
        Ok(facts) => {
            for path in files_below(directory)? {
                let name = path.strip_prefix(directory).map_err(io::Error::other)?;
                archive.append_file(name, &mut File::open(&path)?)?;
            }
            (FACTS, serde_json::to_vec_pretty(&facts)?)
        }
        Err(why) => (FAILED, why.into_bytes()),
    };
    let (name, text) = last;
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o600);
    header.set_size(u64::try_from(text.len()).unwrap_or(u64::MAX));
    archive.append_data(&mut header, name, text.as_slice())?;
    archive.into_inner()?.flush()
}

/// Returns the bytes of all files below a directory.
pub(crate) fn bytes_below(directory: &Path) -> io::Result<u64> {
    let lengths = files_below(directory)?
        .into_iter()
        .map(|path| Ok(fs::metadata(path)?.len()));
    lengths.sum()
}

/// Returns the files below a directory, the largest structure first: the store, and then the versions.
fn files_below(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut files, mut open) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Hands the bytes to the reader in pieces.
struct PieceWriter {
    pieces: mpsc::Sender<Bytes>,
    piece: Vec<u8>,
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE - self.piece.len();
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.piece.extend_from_slice(taken);
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        let sent = self.pieces.blocking_send(piece.into());
        sent.map_err(|_gone| io::Error::new(io::ErrorKind::BrokenPipe, "its reader has gone away"))
    }
}
