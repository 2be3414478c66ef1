//! `sandhog reload`.

use std::io::Write;

use super::{CliError, ReloadArgs, write_json};
use crate::{admin::wire::ReloadAnswer, client::HostClient};
use sandhog_queue::printable::{MAX_REASON_BYTES, printable};

pub(crate) fn reload(args: &ReloadArgs, client: &HostClient, output: &mut dyn Write) -> Result<(), CliError> {
    let answer = client.reload()?;
    if args.json {
        return Ok(write_json(output, &answer)?);
    }
    let ReloadAnswer { changed, needs_restart } = answer;
    let list = |keys: &[String]| printable(&keys.join(", "), MAX_REASON_BYTES);
    if changed.is_empty() && needs_restart.is_empty() {
        writeln!(output, "nothing has changed")?;
    }
    if !changed.is_empty() {
        writeln!(output, "in force now: {}", list(&changed))?;
    }
    if !needs_restart.is_empty() {
        writeln!(output, "needs a restart: {}", list(&needs_restart))?;
    }
    Ok(())
}
