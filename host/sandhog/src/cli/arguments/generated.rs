//! The arguments of the commands whose output is made of the arguments of all others.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::Shell;

/// The commands whose output is made of the arguments of all others.
#[derive(Debug, Subcommand)]
pub enum GeneratedCommand {
    /// Write the completions of a shell
    Completions(CompletionsArgs),
    /// Write the man pages into a directory
    Man(ManArgs),
}

/// `sandhog completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandhog completions bash > ~/.local/share/bash-completion/completions/sandhog
  sandhog completions fish > ~/.config/fish/completions/sandhog.fish")]
pub struct CompletionsArgs {
    /// For which shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// `sandhog man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// A directory, which exists: one page for each command
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}
