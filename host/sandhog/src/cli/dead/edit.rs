//! `sandhog dead edit`: a dead letter goes back with another body or other attributes.

use std::{fs::File, path::PathBuf};

use super::super::{CliError, CommandStreams, EditArgs, editor, read_body, write_answer};
use crate::{
    admin::wire::{AttributeForm, EditRequest},
    client::HostClient,
    config::Environment,
};
use sandhog_queue::printable::printable;

pub(crate) fn edit(
    args: &EditArgs,
    client: &HostClient,
    environment: Environment<'_>,
    streams: &mut CommandStreams<'_>,
) -> Result<(), CliError> {
    let mut request = EditRequest {
        unset_attributes: args.unset_attributes.clone(),
        ..EditRequest::default()
    };
    for (name, value) in &args.attributes {
        let value = AttributeForm::Text(value.clone());
        if request.attributes.insert(name.clone(), value).is_some() {
            return Err(CliError::Refused(format!("attribute {name:?} is given twice")));
        }
    }
    if let Some(body) = body(args, client, environment, streams)? {
        request = request.with_body(body);
    }
    let sent = client.edit_dead(args.queue.as_str(), &args.id, &request)?;
    write_answer(streams.output, args.json, &sent, |sent| printable(&sent.id, 64))
}

/// Returns the new body, if there is to be one.
fn body(
    args: &EditArgs,
    client: &HostClient,
    environment: Environment<'_>,
    streams: &mut CommandStreams<'_>,
) -> Result<Option<Vec<u8>>, CliError> {
    if let Some(file) = args.body.as_deref() {
        let read = if file == "-" {
            read_body("-", streams.input).map_err(CliError::Input)?
        } else {
            let path = PathBuf::from(file);
            let read = File::open(&path).and_then(|mut file| read_body("-", &mut file));
            read.map_err(|source| CliError::File { path, source })?
        };
        return Ok(Some(read));
    }
    if !args.attributes.is_empty() || !args.unset_attributes.is_empty() {
        return Ok(None);
    }
    if !streams.asks {
        return Err(CliError::Arguments(
            "say what is to change: --body FILE, --attr NAME=VALUE or --unset-attr NAME",
        ));
    }
    let letter = client.dead_letter(args.queue.as_str(), &args.id)?;
    Ok(Some(editor::edit(&letter.body_bytes(), environment)?))
}
