//! The parent of a compiler: starts a child, feeds it, reads its answer within bounds, and says what its end means.

use std::{
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    thread,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
    time::timeout,
};

use super::{COMPILER_FAILED, CompileError, CompileOrder, Compiled, Refusal, answer, denied::advice, wall_limit};
use crate::machine;
use sandhog_queue::printable::{MAX_REASON_BYTES, printable};

/// The bytes of the end of standard error that are kept.
const STDERR_BYTES: usize = 4096;
/// The most threads of one compilation; each takes address space, which is limited.
const MAX_THREADS: usize = 8;

/// Returns the size of the largest artifact that is accepted for a file of this size, in bytes. Optimised code is about five
/// times as large as its wasm, and about ten times if a module has only small functions.
fn max_artifact_bytes(wasm: usize) -> u64 {
    let wasm = u64::try_from(wasm).unwrap_or(u64::MAX);
    wasm.saturating_mul(16).saturating_add(64 * 1024 * 1024)
}

/// Compiles in a child of `program`. The calling thread must outlive the child, which is killed with it.
pub(crate) async fn compile(
    program: &Path,
    wasm: Bytes,
    functions: Bytes,
    order: CompileOrder,
) -> Result<Compiled, CompileError> {
    let mut child = start(program, &order).map_err(|error| not_started(program, &error))?;
    let mut stdin = child.stdin.take().expect("the child was started with pipes");
    let mut stdout = child.stdout.take().expect("the child was started with pipes");
    let stderr = child.stderr.take().expect("the child was started with pipes");
    let max_bytes = max_artifact_bytes(wasm.len());
    let feed = async {
        // A child that ended early has written the reason to its other streams.
        if stdin.write_all(&functions).await.is_ok() {
            drop(stdin.write_all(&wasm).await);
        }
        drop(stdin);
    };
    let listen = async {
        let answer = answer::read(&mut stdout, max_bytes).await;
        // A child that writes more than its answer must not wait for a reader for ever.
        drop(stdout);
        answer
    };
    let work = async {
        let ((), answer, complaint) = tokio::join!(feed, listen, tail(stderr));
        (answer, complaint, child.wait().await)
    };
    let limit = wall_limit(order.processor_time());
    let worked = timeout(limit, work).await;
    let Ok((answer, complaint, status)) = worked else {
        drop(child.kill().await);
        let reason = format!("compiling it was given up after {limit:?}: the machine is too busy");
        return Err(CompileError::Host(reason));
    };
    let status = status.map_err(|error| CompileError::Host(format!("the compiler was lost: {error}")))?;
    match answer {
        Ok(answer) if status.success() => answer.map_err(CompileError::Refused),
        // What it held of functions may be what was too much.
        Ok(_) | Err(_) if order.functions_bytes.is_some() && complaint.contains(OUT_OF_MEMORY) => {
            let order = CompileOrder {
                functions_bytes: None,
                ..order
            };
            Box::pin(compile(program, wasm, Bytes::new(), order)).await
        }
        Ok(_) | Err(_) => Err(end_without_answer(status, &complaint, &order)),
    }
}

/// Returns the path by which the running program can be started again. `/proc/self/exe` leads to it whatever becomes of its
/// file; without `/proc` the path is that of the file that was started.
pub(crate) fn this_program(search_path: Option<&str>) -> PathBuf {
    let link = Path::new("/proc/self/exe");
    if cfg!(target_os = "linux") && link.exists() {
        return link.to_owned();
    }
    let started = std::env::current_exe().or_else(|error| {
        let name = std::env::args_os().next().map(PathBuf::from);
        name.and_then(|name| find(&name, search_path)).ok_or(error)
    });
    // Without the program everything else works, and each compilation fails with a reason.
    started.unwrap_or_else(|_| link.to_owned())
}

/// Returns the file that a shell takes for a command of this name.
fn find(name: &Path, search_path: Option<&str>) -> Option<PathBuf> {
    if name.components().count() > 1 {
        return std::path::absolute(name).ok().filter(|file| file.is_file());
    }
    let mut files = std::env::split_paths(search_path?).map(|directory| directory.join(name));
    files.find(|file| file.is_file())
}

fn not_started(program: &Path, error: &io::Error) -> CompileError {
    let why = if error.kind() == io::ErrorKind::NotFound {
        "it is this program again, which is found by /proc: mount /proc, or start sandhog by its path"
    } else {
        advice(error)
    };
    let program = program.display();
    CompileError::Host(format!(
        "the compiler ({program}) could not be started ({error}): {why}"
    ))
}

/// Starts a child in a process group of its own, so that signals of a terminal reach only the host. Where `setpgid` is denied,
/// the child is in the group of the host.
fn start(program: &Path, order: &CompileOrder) -> io::Result<Child> {
    match command(program, order).process_group(0).spawn() {
        // EPERM, EACCES, ENOSYS.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported
            ) =>
        {
            command(program, order).spawn()
        }
        started => started,
    }
}

fn command(program: &Path, order: &CompileOrder) -> Command {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    let mut command = Command::new(program);
    command
        .arg0("sandhog")
        .arg("compile")
        .args(order.arguments())
        .env_clear()
        // The child's limit counts address space that is not used, too. Without these variables the threads for each core
        // and the allocator's first gibibyte would take much of it.
        .env("RAYON_NUM_THREADS", threads.to_string())
        .env("MALLOC_ARENA_MAX", "2")
        .env("MIMALLOC_ARENA_RESERVE", "32MiB")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Reads a stream to its end, and returns the last bytes.
async fn tail(mut stream: impl AsyncRead + Unpin) -> String {
    let (mut kept, mut chunk) = (Vec::new(), [0; STDERR_BYTES]);
    while let Ok(read @ 1..) = stream.read(&mut chunk).await {
        kept.extend_from_slice(chunk.get(..read).unwrap_or_default());
        kept.drain(..kept.len().saturating_sub(STDERR_BYTES));
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// Returns what the end of a child without an answer means.
fn end_without_answer(status: ExitStatus, complaint: &str, order: &CompileOrder) -> CompileError {
    let refused = |reason: String| CompileError::Refused(Refusal::Invalid(reason));
    let complained = printable(complaint.trim(), MAX_REASON_BYTES);
    let mebibytes = order.memory_bytes / (1024 * 1024);
    if complaint.contains(OUT_OF_MEMORY) {
        return match machine::scarce(order.memory_bytes) {
            Some(why) => CompileError::Host(format!("compiling it may take {mebibytes} MiB of memory, and {why}")),
            None => refused(format!(
                "compiling it takes more than {mebibytes} MiB of memory (limits.compile-memory)"
            )),
        };
    }
    let is_host = status.code() == Some(COMPILER_FAILED.into());
    if is_host || FROM_THE_SYSTEM.iter().any(|words| complaint.contains(words)) {
        return CompileError::Host(complained);
    }
    match signal(status) {
        Some(CPU_TIME) => refused(format!(
            "compiling it takes more than {:?} of processor time (limits.compile-time)",
            order.processor_time()
        )),
        Some(DENIED) => CompileError::Host(
            "the compiler was killed for a system call that the machine denies (SIGSYS): see its seccomp profile, and \
             docs/explanation/security.md for what the compiler needs"
                .to_owned(),
        ),
        Some(signal) if !BY_A_CRASH.contains(&signal) => CompileError::Host(format!(
            "the compiler was killed by signal {signal}; the machine may be out of memory"
        )),
        _ => refused(format!("the compiler crashed on it ({status}): {complained}")),
    }
}

/// The complaint of a child that gets no memory.
const OUT_OF_MEMORY: &str = "memory allocation of";
/// Texts in the complaint of a child to which the system refused something, such as a thread. No file can cause them.
const FROM_THE_SYSTEM: [&str; 5] = [
    "ThreadPoolBuildError",
    "os error",
    "Os { code",
    "failed to spawn thread",
    "failed to generate random data",
];
/// `SIGXCPU`.
const CPU_TIME: i32 = 24;
/// `SIGSYS`.
const DENIED: i32 = if cfg!(target_os = "linux") { 31 } else { 12 };
/// `SIGILL`, `SIGTRAP`, `SIGABRT`, `SIGBUS`, `SIGFPE`, `SIGSEGV`: the signals that a process causes itself.
const BY_A_CRASH: [i32; 6] = [4, 5, 6, if cfg!(target_os = "linux") { 7 } else { 10 }, 8, 11];

fn signal(status: ExitStatus) -> Option<i32> {
    use std::os::unix::process::ExitStatusExt as _;
    status.signal()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;
    use crate::compiler::CodeTier;

    const ORDER: CompileOrder = CompileOrder {
        tier: CodeTier::Fast,
        memory_bytes: 256 * 1024 * 1024,
        processor_seconds: 7,
        without_images: false,
        urgent: false,
        functions_bytes: None,
    };

    fn check(raw_status: i32, complaint: &str, refused: bool, said: &str) {
        let (is_refused, reason) = match end_without_answer(ExitStatus::from_raw(raw_status), complaint, &ORDER) {
            CompileError::Refused(Refusal::Invalid(reason)) => (true, reason),
            CompileError::Host(reason) => (false, reason),
            CompileError::Refused(other) => panic!("{other:?}"),
        };
        assert_eq!(is_refused, refused, "{reason}");
        assert!(reason.contains(said), "{reason}");
    }

    #[test]
    fn a_compiler_that_can_not_be_started_is_the_fault_of_the_machine() {
        for (errno, said) in [
            (rustix::io::Errno::NOENT, "mount /proc"),
            (rustix::io::Errno::AGAIN, "ulimit -u"),
            (rustix::io::Errno::MFILE, "ulimit -n"),
            (rustix::io::Errno::PERM, "seccomp"),
        ] {
            let CompileError::Host(reason) = not_started(Path::new("/bin/sandhog"), &errno.into()) else {
                panic!("{errno:?} is blamed on the file");
            };
            assert!(reason.contains("/bin/sandhog") && reason.contains(said), "{reason}");
        }
    }

    #[test]
    fn a_program_is_found_as_a_shell_finds_it() {
        assert!(find(Path::new("sh"), Some("/usr/bin:/bin")).is_some_and(|file| file.is_absolute()));
        assert_eq!(find(Path::new("/bin/sh"), None), Some(PathBuf::from("/bin/sh")));
        assert_eq!(find(Path::new("./no-such-program"), Some("/usr/bin:/bin")), None);
        assert_eq!(find(Path::new("no-such-program"), Some("/usr/bin:/bin")), None);
    }

    #[test]
    fn an_end_without_an_answer_is_the_fault_of_the_file_or_of_the_machine() {
        check(24, "", true, "more than 7s of processor time (limits.compile-time)");
        check(6, "memory allocation of 64 bytes failed", true, "256 MiB");
        check(11, "", true, "crashed");
        check(
            6,
            "thread 'main' has overflowed its stack",
            true,
            "overflowed its stack",
        );
        check(101 << 8, "thread 'main' panicked at a.rs:1:\nb\u{1b}", true, "panicked");
        check(9, "", false, "signal 9");
        check(15, "", false, "signal 15");
        check(70 << 8, "the compiler could not be confined: no", false, "confined");
        check(101 << 8, "ThreadPoolBuildError { .. }", false, "ThreadPool");
        // Each of these was blamed on the file, for good.
        check(
            101 << 8,
            "panicked: Os { code: 1, kind: PermissionDenied }",
            false,
            "code: 1",
        );
        check(101 << 8, "failed to generate random data", false, "random");
        check(31, "", false, "SIGSYS");
        check(14, "", false, "signal 14");
    }
}
