//! A machine that denies what a host asks for: it works all the same, or says what it was denied. The file is not blamed.

use harness::{host::Place, wait_for};

#[cfg(target_os = "linux")]
use {
    harness::guests::no_op,
    std::{
        collections::BTreeMap,
        fs,
        os::unix::process::CommandExt as _,
        process::{Command, Output},
    },
};

/// The command, in a process for which these system calls fail with this error.
#[cfg(target_os = "linux")]
fn denying(mut command: Command, calls: &[i64], error: i32) -> Command {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
    let rules: BTreeMap<_, _> = calls.iter().map(|call| (*call, Vec::new())).collect();
    let denied = SeccompAction::Errno(error.unsigned_abs());
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, denied, architecture).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    #[expect(unsafe_code, reason = "a filter is inherited by what is started")]
    // SAFETY: between fork and exec it makes two system calls and allocates nothing.
    unsafe {
        command.pre_exec(move || seccompiler::apply_filter(&program).map_err(|_| std::io::ErrorKind::Other.into()));
    }
    command
}

#[cfg(target_os = "linux")]
fn check(calls: &[i64], error: i32) -> Output {
    let place = Place::new();
    place.install("in", &no_op(), "");
    let mut command = place.command();
    command.args(["check", "plugins/in.wasm"]);
    denying(command, calls, error).output().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn a_component_is_compiled_where_newer_system_calls_are_denied() {
    // The first six ended the compilation; the C library asks for some of the others.
    let denied = [
        libc::SYS_close_range,
        libc::SYS_memfd_create,
        libc::SYS_getrandom,
        libc::SYS_prlimit64,
        libc::SYS_setpriority,
        libc::SYS_setpgid,
        libc::SYS_pidfd_open,
        libc::SYS_openat2,
        libc::SYS_faccessat2,
        libc::SYS_io_uring_setup,
        libc::SYS_rseq,
        libc::SYS_membarrier,
    ];
    for error in [libc::EPERM, libc::ENOSYS] {
        let said = check(&denied, error);
        assert!(said.status.success(), "{error}: {said:?}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn what_the_machine_denies_is_named_and_the_file_is_not_blamed() {
    // They were the file's fault, a panic, or a refusal that did not say of what.
    for (call, name) in [
        (libc::SYS_seccomp, "seccomp"),
        (libc::SYS_prctl, "prctl"),
        (libc::SYS_clone3, "clone3"),
    ] {
        let said = check(&[call], libc::EPERM);
        let complaint = String::from_utf8_lossy(&said.stderr);
        assert_eq!(said.status.code(), Some(70), "{name}: {said:?}");
        assert!(
            complaint.contains(name) && complaint.contains("the machine"),
            "{complaint}"
        );
        assert!(
            !complaint.contains("refused by the compiler") && !complaint.contains("panicked"),
            "{complaint}"
        );
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_machine_without_proc_compiles() {
    let mut place = Place::new();
    place.install("in", &no_op(), "");
    fs::create_dir(place.path().join("empty")).unwrap();
    // The compiler was started by a link of /proc alone.
    let script = "mount --bind empty /proc && exec \"$0\" \"$@\"";
    place.prefix = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
        .map(str::to_owned)
        .to_vec();
    let host = place.start();
    host.wait_ready();
    host.send("in", b"x");
    host.wait_empty("in");
    host.terminate();
}

#[test]
fn the_memory_budget_follows_from_the_limits_of_the_process() {
    let mut place = Place::new();
    place.prefix = ["sh", "-c", "ulimit -d 2097152; exec \"$0\" \"$@\""]
        .map(str::to_owned)
        .to_vec();
    let host = place.start();
    let line = wait_for("the budget", || host.events("memory for instances").pop());
    assert_eq!(line["fields"]["budget"], "1.0 GiB", "{line}");
    host.terminate();
}
