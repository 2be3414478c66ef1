//! `sandhog completions` and `sandhog man`: what is made of the arguments of all commands.

use clap::CommandFactory as _;

use super::{Cli, CliError, CommandStreams, CompletionsArgs, ManArgs, arguments::VERSION};

/// The arguments without the commands that only a host calls.
fn shown() -> clap::Command {
    let all = Cli::command();
    let hidden: Vec<String> = all
        .get_subcommands()
        .filter(|command| command.is_hide_set())
        .map(|command| command.get_name().to_owned())
        .collect();
    // There is no way to take one out: the others go into a new one.
    let shown: Vec<clap::Command> = all
        .get_subcommands()
        .filter(|command| !hidden.contains(&command.get_name().to_owned()))
        .cloned()
        .collect();
    let about = all.get_about().cloned().unwrap_or_default();
    clap::Command::new("sandhog")
        .about(about)
        .version(VERSION)
        .after_help(all.get_after_help().cloned().unwrap_or_default())
        .subcommand_required(true)
        .subcommands(shown)
}

pub(crate) fn completions(args: &CompletionsArgs, streams: &mut CommandStreams<'_>) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut shown(), "sandhog", &mut script);
    Ok(streams.output.write_all(&script)?)
}

pub(crate) fn man(args: &ManArgs) -> Result<(), CliError> {
    let written =
        std::fs::create_dir_all(&args.directory).and_then(|()| clap_mangen::generate_to(shown(), &args.directory));
    written.map_err(|source| CliError::File {
        path: args.directory.clone(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use clap_complete::Shell;

    use super::*;
    use crate::cli::Paint;

    #[test]
    fn completions_know_every_command_but_the_one_of_the_host() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut output = Vec::new();
            let mut streams = CommandStreams {
                input: &mut std::io::empty(),
                output: &mut output,
                progress: false,
                columns: None,
                paint: Paint::default(),
                asks: false,
            };
            completions(&CompletionsArgs { shell }, &mut streams).unwrap();
            let script = String::from_utf8(output).unwrap();
            let commands = Cli::command();
            for command in commands.get_subcommands().filter(|command| !command.is_hide_set()) {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
            assert!(
                !script.contains("sandhog-compile") && !script.contains("sandhog__compile"),
                "{shell}"
            );
        }
    }

    #[test]
    fn every_command_has_a_man_page() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("not/yet/there");
        let args = ManArgs {
            directory: directory.clone(),
        };
        man(&args).unwrap();
        let page = std::fs::read_to_string(directory.join("sandhog-dead-redrive.1")).unwrap();
        assert!(page.contains("Put dead letters back"), "{page}");
        assert!(directory.join("sandhog.1").exists() && !directory.join("sandhog-compile.1").exists());
        let a_file = ManArgs {
            directory: directory.join("sandhog.1"),
        };
        assert!(man(&a_file).unwrap_err().to_string().contains("sandhog.1"));
    }
}
