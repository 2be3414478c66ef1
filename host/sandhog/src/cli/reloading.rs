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
        writeln!(output, "the configuration has not changed")?;
    }
    if !changed.is_empty() {
        writeln!(output, "in force now: {}", list(&changed))?;
    }
    if !needs_restart.is_empty() {
        writeln!(output, "needs a restart: {}", list(&needs_restart))?;
    }
    // What becomes of other files is known once they are compiled and tried.
    Ok(writeln!(
        output,
        "the host looks at the plugin directory now; `sandhog handlers` shows what comes of it"
    )?)
}
