//! `sandhog profile`: where the processor time of a handler goes. Guests chose the names of the functions, which the host has escaped.

use std::{collections::BTreeSet, io, time::Duration};

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
        let names = stack.functions.iter().map(|index| name(form, *index).replace(';', ","));
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
    for (index, own, all) in costs(form).into_iter().take(SHOWN) {
        table.row(vec![
            share(own),
            share(all),
            printable(name(form, index), MAX_REASON_BYTES),
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

fn name(form: &ProfileForm, index: usize) -> &str {
    form.functions.get(index).map_or("?", String::as_str)
}

/// Returns each function with the samples in itself and those in what it called, too; the greatest cost first.
fn costs(form: &ProfileForm) -> Vec<(usize, u64, u64)> {
    let mut costs: Vec<(usize, u64, u64)> = (0..form.functions.len()).map(|index| (index, 0, 0)).collect();
    for stack in &form.stacks {
        if let Some((_, own, _)) = stack.functions.last().and_then(|index| costs.get_mut(*index)) {
            *own += stack.samples;
        }
        // A function that calls itself is in the stack once.
        let on_stack: BTreeSet<usize> = stack.functions.iter().copied().collect();
        for index in on_stack {
            if let Some((_, _, all)) = costs.get_mut(index) {
                *all += stack.samples;
            }
        }
    }
    costs.sort_by_key(|(_, own, all)| std::cmp::Reverse((*own, *all)));
    costs
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
    fn a_function_has_the_samples_in_itself_and_in_what_it_called() {
        assert_eq!(costs(&form()), [(1, 6, 6), (2, 3, 3), (0, 1, 10)]);
    }

    #[test]
    fn a_folded_stack_is_one_line_whatever_its_functions_are_called() {
        let mut output = Vec::new();
        write_folded(&form(), &mut output).unwrap();
        let text = String::from_utf8(output).unwrap();
        assert_eq!(text, "main;parse,all;parse,all 6\nmain;render 3\nmain 1\n");
    }
}
