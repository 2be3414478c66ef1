//! The page of the commands: the help of each, as a terminal of 100 columns shows it.

use std::fmt::Write as _;

use clap::{Command, CommandFactory as _};
use sandhog::cli::Cli;

const INTRODUCTION: &str = "# Commands and options

The help of every command, as `sandhog COMMAND --help` prints it. [The command line](command-line.md) says how the commands work together, and
[Look into a host](../how-to/look-into-a-host.md) goes from questions to commands.
";

pub(super) fn page() -> String {
    let mut command = without_values(Cli::command()).term_width(100);
    command.build();
    let mut page = INTRODUCTION.to_owned();
    describe(&command, &mut page);
    page
}

/// The same command, whose help does not repeat what the environment of this process has.
fn without_values(command: Command) -> Command {
    command
        .mut_args(|argument| argument.hide_env_values(true))
        .mut_subcommands(without_values)
}

fn describe(command: &Command, page: &mut String) {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let help = command.clone().render_long_help().to_string();
    let lines: Vec<_> = help.lines().map(str::trim_end).collect();
    write!(page, "\n## `{name}`\n\n```text\n{}\n```\n", lines.join("\n").trim_end()).unwrap();
    let shown = command.get_subcommands();
    for each in shown.filter(|each| !each.is_hide_set() && each.get_name() != "help") {
        describe(each, page);
    }
}
