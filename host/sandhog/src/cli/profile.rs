//! `sandhog profile`: where the processor time of a handler goes. Guests chose the names of the functions, which the host has escaped.

use std::{io, time::Duration};

use super::{
    CliError, CommandStreams, ProfileArgs,
    spinner::spinner,
    table::{TextColumn, TextTable},
    write_json,
};
use crate::{admin::wire::ProfileForm, client::HostClient};
use sandhog_queue::printable::{MAX_REASON_BYTES, printable};

/// The most functions of a table.
const SHOWN: usize = 20;

pub(crate) fn profile(
    args: &ProfileArgs,
    client: &HostClient,
    streams: &mut CommandStreams<'_>,
) -> Result<(), CliError> {
    let spinner = spinner("{spinner} {wide_msg} {elapsed}", streams.progress);
    spinner.set_message("taking samples");
    let taken = client.profile(&args.handler, args.time);
    spinner.finish_and_clear();
    let form = taken?;
    if args.json {
        write_json(streams.output, &form)?;
    } else if args.folded {
        write_folded(&form, streams.output)?;
    } else {
        write_table(&form, streams)?;
    }
    Ok(())
}

/// Writes a line for each stack, as tools for flame graphs read them: the functions with semicolons between, and the samples.
fn write_folded(form: &ProfileForm, output: &mut dyn io::Write) -> io::Result<()> {
    for stack in &form.stacks {
        let names = stack.functions.iter().map(|index| form.name(*index).replace(';', ","));
        writeln!(output, "{} {}", names.collect::<Vec<_>>().join(";"), stack.samples)?;
    }
    Ok(())
}

/// Writes the functions in which most samples were taken.
fn write_table(form: &ProfileForm, streams: &mut CommandStreams<'_>) -> io::Result<()> {
    if form.samples == 0 {
        return writeln!(
            streams.output,
            "No samples: the handler computed next to nothing in that time. It is sampled at every {} ms in which it computes.",
            form.interval_ms.max(1)
        );
    }
    let mut table = TextTable::new(vec![
        TextColumn::Number("SELF %"),
        TextColumn::Number("TOTAL %"),
        TextColumn::Cuttable("FUNCTION"),
    ]);
    let share = |samples: u64| {
        let tenths = samples.saturating_mul(1000) / form.samples;
        format!("{}.{}", tenths / 10, tenths % 10)
    };
    for cost in form.costs().into_iter().take(SHOWN) {
        table.row(vec![
            share(cost.own),
            share(cost.all),
            printable(form.name(cost.function), MAX_REASON_BYTES),
        ]);
    }
    table.write(streams)?;
    let seconds = Duration::from_millis(form.time_ms).as_secs_f64();
    writeln!(streams.output, "{} samples in {seconds:.1} s", form.samples)?;
    if form.uncounted > 0 {
        writeln!(
            streams.output,
            "{} of them are missing above: there were too many different stacks",
            form.uncounted
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::wire::StackForm;

    fn form() -> ProfileForm {
        let stack = |functions: &[usize], samples| StackForm {
            functions: functions.to_vec(),
            samples,
        };
        ProfileForm {
            handler: "in".to_owned(),
            time_ms: 1000,
            interval_ms: 5,
            samples: 10,
            uncounted: 0,
            functions: ["main", "parse;all", "render"].map(str::to_owned).to_vec(),
            stacks: vec![stack(&[0, 1, 1], 6), stack(&[0, 2], 3), stack(&[0], 1)],
        }
    }

    #[test]
    fn a_folded_stack_is_one_line_whatever_its_functions_are_called() {
        let mut output = Vec::new();
        write_folded(&form(), &mut output).unwrap();
        let text = String::from_utf8(output).unwrap();
        assert_eq!(text, "main;parse,all;parse,all 6\nmain;render 3\nmain 1\n");
    }
}
