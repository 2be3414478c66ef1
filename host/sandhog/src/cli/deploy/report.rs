//! What a deploy says: lines while it goes on, or one document of JSON at its end.

use std::io::{self, Write};

use serde::Serialize;

use super::watch::DeployedFiles;
use crate::{
    admin::wire::VersionList,
    cli::{CliError, write_json},
};

/// What was said, in the form in which it is written at the end.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct DeployReport {
    #[serde(skip)]
    is_json: bool,
    handler: String,
    /// The digest of the component.
    component: String,
    /// `serves`, `refused`, `rolled-back`, `undecided`, `stopped` (the command was), or `failed` (the host could not be asked).
    outcome: &'static str,
    /// The lines that a person would have been shown, oldest first. There are few: only a change is said.
    said: Vec<String>,
    /// The versions as the host showed them last.
    versions: Option<VersionList>,
}

impl DeployReport {
    pub(crate) fn new(files: &DeployedFiles, is_json: bool) -> Self {
        Self {
            is_json,
            handler: files.name.clone(),
            component: files.component.clone(),
            outcome: "stopped",
            said: Vec::new(),
            versions: None,
        }
    }

    pub(crate) fn saw(&mut self, versions: VersionList) {
        self.versions = Some(versions);
    }

    pub(crate) fn say(&mut self, lines: &[String], output: &mut dyn Write) -> io::Result<()> {
        if self.is_json {
            self.said.extend_from_slice(lines);
            return Ok(());
        }
        lines.iter().try_for_each(|line| writeln!(output, "{line}"))?;
        output.flush()
    }

    /// Writes the document, if one is wanted. `ended` is how the deploy ended, or `None` if the command was stopped.
    pub(crate) fn write(
        &mut self,
        ended: Option<Result<&(), &CliError>>,
        output: &mut dyn Write,
    ) -> Result<(), CliError> {
        if !self.is_json {
            return Ok(());
        }
        if let Some(Err(error)) = ended {
            self.said.push(error.to_string());
        }
        self.outcome = match ended {
            None => "stopped",
            Some(Ok(())) => "serves",
            Some(Err(CliError::Refused(_))) => "refused",
            Some(Err(CliError::RolledBack(_))) => "rolled-back",
            Some(Err(CliError::Undecided(_))) => "undecided",
            Some(Err(_)) => "failed",
        };
        Ok(write_json(output, self)?)
    }
}
