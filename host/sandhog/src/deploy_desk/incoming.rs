//! The bytes of a component on their way to the disk, and there.
//!
//! Invariant: a file goes with what holds it. Its name is a number of the host's own. A component counts as one that comes in until its
//! check is over.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use tokio::{
    fs::{DirBuilder, File, OpenOptions},
    io::AsyncWriteExt as _,
    sync::OwnedSemaphorePermit,
};

use super::DeskRefused;
use crate::whole_file;
use sandhog_executor::MAX_WASM_BYTES;

/// A component that comes in.
#[derive(Debug)]
pub(crate) struct IncomingComponent {
    file: File,
    stored: StoredComponent,
    bytes: usize,
}

/// A component on the disk. The file goes when this does.
#[derive(Debug)]
pub(crate) struct StoredComponent {
    path: PathBuf,
    /// One of those that may come in at a time; `None` once it is there.
    coming: Option<OwnedSemaphorePermit>,
}

impl Drop for StoredComponent {
    fn drop(&mut self) {
        // What can't be removed now goes at the next start.
        drop(fs::remove_file(&self.path));
    }
}

impl StoredComponent {
    /// The component comes in no more: it is there.
    pub(super) fn arrived(&mut self) {
        self.coming = None;
    }

    /// Returns where the bytes lie.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the bytes. Blocks on the disk.
    pub(super) fn read(&self) -> io::Result<Vec<u8>> {
        read(&self.path)
    }
}

/// Reads the bytes of a component that may go meanwhile. Blocks on the disk.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let bytes = whole_file::read(path, MAX_WASM_BYTES)?;
    bytes.ok_or_else(|| ErrorKind::NotFound.into())
}

impl IncomingComponent {
    pub(super) async fn begin(
        directory: &Path,
        number: u64,
        permit: OwnedSemaphorePermit,
    ) -> Result<Self, DeskRefused> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(directory).await.map_err(DeskRefused::Kept)?;
        let path = directory.join(number.to_string());
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let file = options.open(&path).await.map_err(DeskRefused::Kept)?;
        Ok(Self {
            file,
            stored: StoredComponent {
                path,
                coming: Some(permit),
            },
            bytes: 0,
        })
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    ///
    /// [`DeskRefused::TooLarge`] before a byte too many is kept, [`DeskRefused::Kept`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves a part of the bytes written: drop the component, too.
    pub(crate) async fn write(&mut self, piece: &[u8]) -> Result<(), DeskRefused> {
        self.bytes = self.bytes.saturating_add(piece.len());
        if self.bytes > MAX_WASM_BYTES {
            return Err(DeskRefused::TooLarge);
        }
        self.file.write_all(piece).await.map_err(DeskRefused::Kept)
    }

    /// Ends the taking.
    ///
    /// # Errors
    ///
    /// [`DeskRefused::Empty`], [`DeskRefused::Kept`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the component.
    pub(crate) async fn finish(mut self) -> Result<StoredComponent, DeskRefused> {
        if self.bytes == 0 {
            return Err(DeskRefused::Empty);
        }
        // The file writes behind; an error of that is told here.
        self.file.flush().await.map_err(DeskRefused::Kept)?;
        Ok(self.stored)
    }
}

/// Removes a directory with all that is in it, if it is there.
pub(super) fn remove_all(directory: &Path) {
    match fs::remove_dir_all(directory) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(directory = %directory.display(), %error, "components that came in by a page can't be removed");
        }
    }
}
