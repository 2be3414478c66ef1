//! The pages of the reference that are made from the code: `cargo pages` writes them, and a test compares them.
//!
//! Invariant: what a page says follows from the code alone, and from nothing of the machine.

use std::{fs, path::PathBuf};

use crate::repository;

mod commands;
mod http;
mod keys;
mod wit;

/// What a reader of the source of a page is told.
const NOTE: &str = "<!-- Made from the code by `cargo pages`: change that, and run it again. -->\n\n";

/// A page, and what it has to say.
#[derive(Debug)]
pub struct MadePage {
    /// Its path below the repository.
    pub path: &'static str,
    /// Its text.
    pub text: String,
}

impl MadePage {
    fn new(path: &'static str, text: &str) -> Self {
        Self {
            path,
            text: format!("{NOTE}{}\n", text.trim_end()),
        }
    }

    /// Every page that is made.
    pub fn all() -> Vec<Self> {
        vec![
            Self::new("docs/reference/commands.md", &commands::page()),
            Self::new("docs/reference/http.md", &http::page()),
            Self::new("docs/reference/keys.md", &keys::page()),
            Self::new("docs/reference/wit.md", &wit::page()),
        ]
    }

    fn file(&self) -> PathBuf {
        repository().join(self.path)
    }

    /// The text of the page as it is in the repository.
    pub fn found(&self) -> String {
        fs::read_to_string(self.file()).unwrap_or_default()
    }

    /// Puts the page into the repository.
    pub fn write(&self) {
        fs::write(self.file(), &self.text).unwrap();
    }
}
