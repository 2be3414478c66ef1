//! One run of a command of the project: a shell in a process group of its own, with bounded output.
//!
//! Invariant: when the future of a run is dropped, or has ended, no process of the group is left.

use std::{
    fs::File,
    io,
    path::Path,
    pin::pin,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use futures_util::future::{Either, select};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
    time::{Instant, timeout},
};

/// The bytes of output that are kept: the last ones.
const MAX_OUTPUT_BYTES: usize = 64 * 1024;

/// How long output is waited for once a command has ended.
const LAST_OUTPUT: Duration = Duration::from_millis(500);

/// The end of a command.
#[derive(Debug)]
pub(super) struct CommandEnd {
    pub(super) status: ExitStatus,
    /// The end of what the command printed.
    pub(super) output: String,
    pub(super) took: Duration,
}

/// The processes of a command, which end with this.
struct ProcessGroup(Option<Pid>);

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // A group without processes is gone.
            let _gone = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// Runs a line of a shell in a directory. Its standard output goes to `answer`, if given, and else with its standard error to the
/// kept output.
pub(super) async fn run(line: String, directory: &Path, answer: Option<File>) -> io::Result<CommandEnd> {
    let started = Instant::now();
    let together = answer.is_none();
    let line = if together { format!("exec 2>&1\n{line}") } else { line };
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(line)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(answer.map_or_else(Stdio::piped, Stdio::from))
        .stderr(if together { Stdio::null() } else { Stdio::piped() })
        .process_group(0)
        .kill_on_drop(true);
    let mut child = command.spawn()?;
    let pid = child.id().and_then(|id| i32::try_from(id).ok());
    let group = ProcessGroup(pid.and_then(Pid::from_raw));
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut output = Vec::new();
    let status = {
        let read = pin!(async {
            match (stdout, stderr) {
                (Some(stdout), _) => tail(stdout, &mut output).await,
                (None, Some(stderr)) => tail(stderr, &mut output).await,
                (None, None) => {}
            }
        });
        let ended = pin!(async {
            let status = child.wait().await;
            drop(group);
            status
        });
        match select(ended, read).await {
            // A process that left the group may keep the pipe open.
            Either::Left((status, read)) => {
                drop(timeout(LAST_OUTPUT, read).await);
                status?
            }
            Either::Right(((), ended)) => ended.await?,
        }
    };
    Ok(CommandEnd {
        status,
        output: String::from_utf8_lossy(&output).into_owned(),
        took: started.elapsed(),
    })
}

/// Reads a stream to its end, and keeps the last bytes.
async fn tail(mut stream: impl AsyncRead + Unpin, kept: &mut Vec<u8>) {
    let mut chunk = [0; 8192];
    while let Ok(read @ 1..) = stream.read(&mut chunk).await {
        kept.extend_from_slice(chunk.get(..read).unwrap_or_default());
        if kept.len() > 2 * MAX_OUTPUT_BYTES {
            kept.drain(..kept.len() - MAX_OUTPUT_BYTES);
        }
    }
    kept.drain(..kept.len().saturating_sub(MAX_OUTPUT_BYTES));
}
