//! That no command forgets `--json`.

use clap::CommandFactory as _;

use super::Cli;

/// The commands without `--json`, and why.
const WITHOUT_JSON: [(&str, &str); 6] = [
    ("sandhog run", "it is the host; its log has --log-format json"),
    ("sandhog dev", "a session with a person"),
    ("sandhog new", "it makes files, and answers with their directory"),
    ("sandhog completions", "its output is a script for a shell"),
    ("sandhog man", "it makes files"),
    ("sandhog compile", "only a host calls it"),
];

fn without_json(command: &clap::Command, path: &str, found: &mut Vec<String>) {
    let path = format!("{path}{}", command.get_name());
    for inner in command.get_subcommands() {
        without_json(inner, &format!("{path} "), found);
    }
    let has_json = command
        .get_arguments()
        .any(|argument| argument.get_long() == Some("json"));
    if command.get_subcommands().next().is_none() && !has_json {
        found.push(path);
    }
}

#[test]
fn every_command_that_reads_or_changes_something_writes_json() {
    let mut found = Vec::new();
    without_json(&Cli::command(), "", &mut found);
    let mut expected: Vec<_> = WITHOUT_JSON.iter().map(|(path, _)| *path).collect();
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected);
}

/// Lines of prose that were broken by hand would be broken once more by a narrower terminal.
#[test]
fn the_prose_of_a_help_has_no_line_ends_but_those_of_paragraphs() {
    fn check(command: &clap::Command) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let is_prose = |line: &str| !line.is_empty() && !line.starts_with(' ') && !line.ends_with(':');
        for (line, next) in help.lines().zip(help.lines().skip(1)) {
            let name = command.get_name();
            assert!(
                !is_prose(line) || next.is_empty() || next.starts_with(' '),
                "{name}: {line}"
            );
        }
        command.get_subcommands().for_each(check);
    }
    check(&Cli::command());
}
