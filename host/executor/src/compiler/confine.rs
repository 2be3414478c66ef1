//! Gives up the rights of the running process that a compiler does not need, before it reads untrusted bytes.
//!
//! On Linux these are files, sockets, other processes, new programs, privileges, more memory and more time than ordered, and a
//! life without the parent. On other systems the process only gets the limits and the priority that they have; there a
//! compiler that is taken over has the rights of the host.

use rustix::process::Resource;

use super::{CodeTier, CompileOrder, denied::DeniedCall, limit::limit};

/// The priority of the compiler, which gives it about a tenth of the time of a guest. With the lowest priority (19) guests that
/// compute on every core would keep a compilation from its end.
const NICE: i32 = 10;
/// The priority for code that runs faster, which gives it less than half of the time of the first code of another handler.
const NICE_OPTIMISED: i32 = 14;
/// The most open files: standard input, output and error, and as many again.
const MAX_FILES: u64 = 6;

/// Confines this process. It must not have another thread yet, since only later threads inherit everything, nor a file of its
/// own, since all but the standard files are closed.
///
/// # Errors
///
/// [`DeniedCall`]: the machine does not let the process give up a right with which untrusted bytes could do harm. A measure
/// that only helps is left out where it is denied.
pub(crate) fn confine(order: &CompileOrder) -> Result<(), DeniedCall> {
    #[cfg(target_os = "linux")]
    linux::leave_others_alone()?;
    // The parent has chosen the directory already, and a slower host or another name does no harm.
    let _denied = rustix::process::chdir("/");
    if !order.urgent {
        let _denied = rustix::process::nice(match order.tier {
            CodeTier::Fast => NICE,
            CodeTier::Optimised => NICE_OPTIMISED,
        });
    }
    limit(Resource::As, order.memory_bytes, 0)?;
    // The signal at the soft limit ends the process with a reason; the hard limit, a second later, would kill it without one.
    limit(Resource::Cpu, order.processor_seconds, 1)?;
    // A dump of the memory is of no use, and would be as large as the limit.
    limit(Resource::Core, 0, 0)?;
    limit(Resource::Fsize, 0, 0)?;
    limit(Resource::Nofile, MAX_FILES, 0)?;
    // Last, since the filter forbids the calls above.
    #[cfg(target_os = "linux")]
    linux::forbid().map_err(|error| DeniedCall::new("seccomp", error))?;
    Ok(())
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{collections::BTreeMap, env, hash::RandomState, io};

    use rustix::{
        process::{DumpableBehavior, Signal},
        thread::{CapabilitySet, CapabilitySets},
    };
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    };

    use crate::compiler::denied::DeniedCall;

    /// Gives up privileges, and a life without the parent; lets no process trace this one. If the parent is gone already, the
    /// process ends after the bytes that are in its pipe.
    pub(crate) fn leave_others_alone() -> Result<(), DeniedCall> {
        // These three may be denied: the parent and the limit on processor time end the child, too.
        let _denied = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        let _denied = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
        let _denied = rustix::thread::set_name(c"sandhog-compile");
        rustix::thread::set_no_new_privs(true).map_err(|error| DeniedCall::new("prctl", error))?;
        close_inherited();
        // Where the system call for random bytes is denied, the standard library opens a device for them once. The
        // library must do so here, before opening is forbidden.
        drop(RandomState::new());
        let none = CapabilitySet::empty();
        let sets = CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        };
        match rustix::thread::set_capabilities(None, sets) {
            Err(_) if has_none() => Ok(()),
            done => done.map_err(|error| DeniedCall::new("capset", error)),
        }
    }

    /// Returns whether the process has no capability to give up.
    fn has_none() -> bool {
        rustix::thread::capabilities(None)
            .is_ok_and(|held| held.effective.is_empty() && held.permitted.is_empty() && held.inheritable.is_empty())
    }

    /// Closes inherited files. The host's own files are not inherited, but files that the host has inherited may be.
    fn close_inherited() {
        #[expect(unsafe_code, reason = "no value owns the closed files")]
        // SAFETY: this process has opened no file yet, so no value in it owns a closed descriptor. musl has no function for the call.
        let done = unsafe { libc::syscall(libc::SYS_close_range, FIRST_INHERITED, libc::c_uint::MAX, 0) };
        if done != 0 {
            // Linux before 5.9 and old filters do not know the call.
            inherited().into_iter().for_each(close);
        }
    }

    /// Returns the open descriptors beside the standard files: as the system lists them, or else every number that may be one.
    fn inherited() -> Vec<i32> {
        let listed = std::fs::read_dir("/proc/self/fd").map(|entries| {
            let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
            numbers.filter(|number| *number >= FIRST_INHERITED).collect()
        });
        listed.unwrap_or_else(|_| (FIRST_INHERITED..MOST_INHERITED).collect())
    }

    fn close(descriptor: i32) {
        #[expect(unsafe_code, reason = "no value owns the closed files")]
        // SAFETY: as above; the list's own descriptor is closed already, and closing it again is an error without effect.
        unsafe {
            libc::close(descriptor);
        }
    }

    /// The first descriptor after the standard ones.
    const FIRST_INHERITED: i32 = 3;
    /// The end of the descriptors that are closed where the system does not list them.
    const MOST_INHERITED: i32 = 65_536;

    /// Forbids system calls: the listed ones, and those that are newer than the lists.
    ///
    /// A list of allowed calls would be stricter. It would also depend on the C library, the allocator and the kernel of every
    /// machine, and break on machines that no test runs on. So the lists below name every call that reaches beyond the
    /// process. The process keeps its own memory, its own threads, clocks, randomness, and the three open files.
    pub(crate) fn forbid() -> io::Result<()> {
        let errno = |errno: rustix::io::Errno| SeccompAction::Errno(errno.raw_os_error().unsigned_abs());
        // If a call is unknown, the C library falls back on an older call, whose arguments the filter can check.
        let unknown = NEWER.chain([libc::SYS_clone3]).map(|call| (call, Vec::new()));
        install(unknown, errno(rustix::io::Errno::NOSYS))?;
        let always = FORBIDDEN.iter().chain(FORBIDDEN_OLD).map(|&call| (call, Vec::new()));
        let sometimes = [
            // A thread may be begun, and a process not.
            (libc::SYS_clone, 0, masked(libc::CLONE_THREAD), 0),
            // A signal to itself is how a process aborts.
            (libc::SYS_tgkill, 0, SeccompCmpOp::Ne, u64::from(std::process::id())),
            // Limits may be read.
            (libc::SYS_prlimit64, 2, SeccompCmpOp::Ne, 0),
        ];
        let mut rules: Vec<_> = always.collect();
        for (call, argument, operator, value) in sometimes {
            let length = if call == libc::SYS_prlimit64 {
                SeccompCmpArgLen::Qword
            } else {
                SeccompCmpArgLen::Dword
            };
            let condition = SeccompCondition::new(argument, length, operator, value).map_err(io::Error::other)?;
            rules.push((call, vec![SeccompRule::new(vec![condition]).map_err(io::Error::other)?]));
        }
        rules.push((libc::SYS_fcntl, vec![all_but(1, &FCNTL)?]));
        install(rules, errno(rustix::io::Errno::PERM))
    }

    /// Returns the rule that matches a call with any other value of an argument than these.
    fn all_but(argument: u8, allowed: &[i32]) -> io::Result<SeccompRule> {
        let other = |value: &i32| {
            let value = u64::from(value.unsigned_abs());
            SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value)
        };
        let conditions: Result<Vec<_>, _> = allowed.iter().map(other).collect();
        SeccompRule::new(conditions.map_err(io::Error::other)?).map_err(io::Error::other)
    }

    fn masked(flag: i32) -> SeccompCmpOp {
        SeccompCmpOp::MaskedEq(flag.unsigned_abs().into())
    }

    fn install(calls: impl IntoIterator<Item = (i64, Vec<SeccompRule>)>, action: SeccompAction) -> io::Result<()> {
        let mut rules = BTreeMap::new();
        for (call, conditions) in calls {
            // The same call has another number in the x32 interface, which the kernel may offer, too.
            #[cfg(target_arch = "x86_64")]
            rules.insert(call | X32, conditions.clone());
            rules.insert(call, conditions);
        }
        #[cfg(target_arch = "x86_64")]
        rules.extend(ONLY_X32.map(|call| (call | X32, Vec::new())));
        let target = env::consts::ARCH.try_into().map_err(io::Error::other)?;
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, target).map_err(io::Error::other)?;
        let program: BpfProgram = filter.try_into().map_err(io::Error::other)?;
        seccompiler::apply_filter(&program).map_err(|error| match error {
            seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) => error,
            other @ (seccompiler::Error::Backend(_)
            | seccompiler::Error::EmptyFilter
            | seccompiler::Error::ThreadSync(_)) => io::Error::other(other),
        })
    }

    #[cfg(target_arch = "x86_64")]
    const X32: i64 = 0x4000_0000;
    /// The calls that have numbers of their own there.
    #[cfg(target_arch = "x86_64")]
    const ONLY_X32: std::ops::RangeInclusive<i64> = 512..=547;

    /// The calls that were unknown when the lists were written, or that a compiler does not need.
    const NEWER: std::ops::RangeInclusive<i64> = 450..=600;

    /// The allowed operations on an open file: its flags, and another descriptor. Operations that cause signals, leases or
    /// locks, or that change the size of a pipe, are not among them.
    const FCNTL: [i32; 4] = [libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_DUPFD_CLOEXEC];

    const FORBIDDEN: &[i64] = &[
        // Opening, making, changing and watching files. Standard input, output and error are open.
        libc::SYS_openat,
        libc::SYS_openat2,
        libc::SYS_name_to_handle_at,
        libc::SYS_open_by_handle_at,
        libc::SYS_mkdirat,
        libc::SYS_mknodat,
        libc::SYS_unlinkat,
        libc::SYS_linkat,
        libc::SYS_symlinkat,
        libc::SYS_renameat2,
        libc::SYS_renameat,
        libc::SYS_sched_setaffinity,
        libc::SYS_truncate,
        libc::SYS_ftruncate,
        libc::SYS_fallocate,
        libc::SYS_fchmod,
        libc::SYS_fchmodat,
        libc::SYS_fchown,
        libc::SYS_fchownat,
        libc::SYS_utimensat,
        libc::SYS_setxattr,
        libc::SYS_lsetxattr,
        libc::SYS_fsetxattr,
        libc::SYS_removexattr,
        libc::SYS_lremovexattr,
        libc::SYS_fremovexattr,
        libc::SYS_chdir,
        libc::SYS_fchdir,
        libc::SYS_chroot,
        libc::SYS_flock,
        libc::SYS_ioctl,
        libc::SYS_memfd_create,
        libc::SYS_memfd_secret,
        libc::SYS_inotify_init1,
        libc::SYS_fanotify_init,
        libc::SYS_fanotify_mark,
        // The network, and every other way to another process.
        libc::SYS_socket,
        libc::SYS_socketpair,
        libc::SYS_connect,
        libc::SYS_bind,
        libc::SYS_listen,
        libc::SYS_accept,
        libc::SYS_accept4,
        libc::SYS_sendto,
        libc::SYS_sendmsg,
        libc::SYS_sendmmsg,
        libc::SYS_recvmsg,
        libc::SYS_recvmmsg,
        libc::SYS_shmget,
        libc::SYS_shmat,
        libc::SYS_shmctl,
        libc::SYS_semget,
        libc::SYS_semctl,
        libc::SYS_semop,
        libc::SYS_msgget,
        libc::SYS_msgctl,
        libc::SYS_msgsnd,
        libc::SYS_msgrcv,
        libc::SYS_mq_open,
        libc::SYS_mq_unlink,
        // Calls that the filter would not see.
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_io_setup,
        libc::SYS_io_submit,
        // Other programs, and other processes: starting, signalling, reading, steering them.
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_kill,
        libc::SYS_tkill,
        libc::SYS_rt_sigqueueinfo,
        libc::SYS_rt_tgsigqueueinfo,
        libc::SYS_pidfd_open,
        libc::SYS_pidfd_getfd,
        libc::SYS_pidfd_send_signal,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_process_madvise,
        libc::SYS_process_mrelease,
        libc::SYS_kcmp,
        libc::SYS_prctl,
        libc::SYS_setrlimit,
        libc::SYS_setpriority,
        libc::SYS_sched_setscheduler,
        libc::SYS_sched_setparam,
        libc::SYS_sched_setattr,
        libc::SYS_ioprio_set,
        libc::SYS_migrate_pages,
        libc::SYS_move_pages,
        libc::SYS_setsid,
        libc::SYS_setpgid,
        // Identity and namespaces.
        libc::SYS_setuid,
        libc::SYS_setgid,
        libc::SYS_setreuid,
        libc::SYS_setregid,
        libc::SYS_setresuid,
        libc::SYS_setresgid,
        libc::SYS_setfsuid,
        libc::SYS_setfsgid,
        libc::SYS_setgroups,
        libc::SYS_capset,
        libc::SYS_unshare,
        libc::SYS_setns,
        // The machine.
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_open_tree,
        libc::SYS_move_mount,
        libc::SYS_fsopen,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_fspick,
        libc::SYS_mount_setattr,
        libc::SYS_quotactl,
        libc::SYS_quotactl_fd,
        libc::SYS_swapon,
        libc::SYS_swapoff,
        libc::SYS_acct,
        libc::SYS_reboot,
        libc::SYS_syslog,
        libc::SYS_sethostname,
        libc::SYS_setdomainname,
        libc::SYS_settimeofday,
        libc::SYS_clock_settime,
        libc::SYS_clock_adjtime,
        libc::SYS_adjtimex,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_kexec_load,
        // Parts of the kernel that exploits begin with.
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_personality,
        libc::SYS_lookup_dcookie,
        libc::SYS_vhangup,
    ];

    /// The calls that younger architectures have under other names only.
    #[cfg(not(target_arch = "x86_64"))]
    const FORBIDDEN_OLD: &[i64] = &[];
    #[cfg(target_arch = "x86_64")]
    const FORBIDDEN_OLD: &[i64] = &[
        libc::SYS_open,
        libc::SYS_creat,
        libc::SYS_mkdir,
        libc::SYS_rmdir,
        libc::SYS_mknod,
        libc::SYS_unlink,
        libc::SYS_link,
        libc::SYS_symlink,
        libc::SYS_rename,
        libc::SYS_chmod,
        libc::SYS_chown,
        libc::SYS_lchown,
        libc::SYS_utime,
        libc::SYS_utimes,
        libc::SYS_futimesat,
        libc::SYS_inotify_init,
        libc::SYS_fork,
        libc::SYS_vfork,
        libc::SYS_uselib,
        libc::SYS_ustat,
        libc::SYS_sysfs,
        libc::SYS_modify_ldt,
        libc::SYS_iopl,
        libc::SYS_ioperm,
        libc::SYS_kexec_file_load,
    ];
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{
        fs,
        io::{self, ErrorKind},
        net::{TcpStream, UdpSocket},
        os::unix::net::UnixStream,
        process::Command,
        thread,
    };

    use super::*;

    /// Runs a claim in a confined thread of its own.
    fn confined(claim: fn()) {
        let thread = thread::spawn(move || {
            linux::forbid().expect("this kernel has filters");
            claim();
        });
        thread.join().expect("the claim holds");
    }

    fn denied<T>(what: &str, result: io::Result<T>) {
        let kind = result.err().map(|error| error.kind());
        assert_eq!(kind, Some(ErrorKind::PermissionDenied), "{what}");
    }

    #[test]
    fn nothing_is_opened_connected_started_or_signalled() {
        confined(|| {
            denied("reading a file", fs::read("/etc/passwd"));
            denied("writing a file", fs::write("/tmp/compiler", ""));
            denied("a directory", fs::read_dir("/"));
            denied("removing a file", fs::remove_file("/tmp/compiler"));
            denied("a datagram", UdpSocket::bind("127.0.0.1:0"));
            denied("a connection", TcpStream::connect("127.0.0.1:1"));
            denied("a local connection", UnixStream::pair());
            let renamed = rustix::fs::renameat(rustix::fs::CWD, "/tmp/compiler", rustix::fs::CWD, "/tmp/other");
            denied("renaming a file", renamed.map_err(io::Error::from));
            let processors = rustix::thread::sched_setaffinity(None, &rustix::thread::CpuSet::new());
            denied("other processors", processors.map_err(io::Error::from));
            let nonblocking = rustix::fs::fcntl_setfl(io::stdin(), rustix::fs::OFlags::NONBLOCK);
            denied("other flags of a file", nonblocking.map_err(io::Error::from));
            let lock = rustix::fs::fcntl_lock(io::stdin(), rustix::fs::FlockOperation::NonBlockingLockShared);
            denied("a lock", lock.map_err(io::Error::from));
            denied("a process", Command::new("/bin/true").spawn());
            let signal = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::CONT);
            denied("a signal", signal.map_err(io::Error::from));
            let limit = rustix::process::getrlimit(Resource::Nofile);
            denied(
                "a limit",
                rustix::process::setrlimit(Resource::Nofile, limit).map_err(io::Error::from),
            );
            let name = rustix::thread::set_no_new_privs(true);
            denied("a setting of the process", name.map_err(io::Error::from));
        });
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the clock is what is tried")]
    fn memory_threads_and_clocks_are_left() {
        confined(|| {
            let answer = thread::spawn(|| vec![1_u8; 64 * 1024 * 1024].len()).join();
            assert_eq!(answer.ok(), Some(64 * 1024 * 1024));
            assert!(rustix::process::getrlimit(Resource::Nofile).maximum.is_some());
            assert!(
                rustix::fs::fcntl_getfl(io::stdin()).is_ok() && rustix::io::fcntl_dupfd_cloexec(io::stdin(), 0).is_ok()
            );
            assert!(std::time::SystemTime::now() > std::time::UNIX_EPOCH);
        });
    }
}
