//! One store: limits, deadline, call, and what its end means. Knows nothing of queues.
//!
//! Invariant: a store is used for one call and dropped, whatever came of it, unless its handler is told to reuse instances:
//! then it may be kept if the guest has answered. One that trapped or ran out of time is never used again.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};
use wasmtime::{
    PoolConcurrencyLimitError, Store, StoreContextMut, Trap, UpdateDeadline, WasmBacktrace,
    component::{Instance, ResourceTable},
};
use wasmtime_wasi::{
    I32Exit, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView,
    filesystem::{FsPerms, WasiFilesystemCtxView},
};
use wasmtime_wasi_config::WasiConfigVariables;
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};

use super::{
    Call, CallMessage, Failure, Flavour, LogSink, LogStream, Policy, Report, Usage, Verdict,
    component::{Linked, LocalComponent},
    cpu::CpuAccount,
    engine::{Shared, TICK},
    entry::command::{self, Console},
    import::{
        files::{self, Files, FilesState},
        http::{self, HttpState},
        keyvalue::Stores,
        messaging::Letters,
        sender::Sends,
    },
    memory::MemoryAccount,
    output::{GuestOutput, OutputAccount},
    policy::LogLevel,
    random::{RandomAccount, RandomUsedUp},
};
use crate::{
    printable::{MAX_REASON_BYTES, printable, printable_lines},
    queue::FailureKind,
};

/// What a store carries for its guest.
pub(super) struct GuestState {
    // The first to be dropped: it marks the bodies that the table holds as cut short.
    pub(super) http: HttpState,
    /// Not made before the guest asks for something of it, unless that could fail.
    wasi: Option<WasiCtx>,
    pub(super) policy: Arc<Policy>,
    pub(super) table: ResourceTable,
    pub(super) files: FilesState,
    memory: MemoryAccount,
    pub(super) sends: Sends,
    pub(super) letters: Letters,
    pub(super) stores: Stores,
    /// Of a program that has a message.
    pub(super) console: Option<Console>,
    pub(super) config: Arc<WasiConfigVariables>,
    pub(super) output: Arc<OutputAccount>,
    /// Standard output and standard error.
    streams: [GuestOutput; 2],
    pub(super) log_level: LogLevel,
    cpu: Arc<CpuAccount>,
    random: Arc<RandomAccount>,
    deadline: Instant,
}

impl WasiView for GuestState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let ctx = self
            .wasi
            .get_or_insert_with(|| wasi(&self.policy, &self.streams, &self.random, &|_| true).build());
        WasiCtxView {
            ctx,
            table: &mut self.table,
        }
    }
}

impl GuestState {
    /// What its files are reached by.
    pub(super) fn opened(&mut self) -> Files<'_> {
        let Self {
            wasi: made,
            policy,
            streams,
            random,
            table,
            files,
            ..
        } = self;
        let made = made.get_or_insert_with(|| wasi(policy, streams, random, &|_| true).build());
        let ctx = made.filesystem();
        Files::new(WasiFilesystemCtxView { ctx, table }, files)
    }
}

impl WasiHttpView for GuestState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.http.view(&mut self.table)
    }
}

/// The reason that the epoch callback gives for ending a guest.
#[derive(Debug, thiserror::Error)]
#[error("the deadline passed")]
struct DeadlinePassed;

/// As [`DeadlinePassed`], for processor time.
#[derive(Debug, thiserror::Error)]
#[error("the processor time is used up")]
struct CpuTimePassed;

/// The engine could not make an instance.
#[derive(Debug, thiserror::Error)]
#[error("no instance could be made")]
struct NotInstantiated;

/// Why an instance could not be made at load.
pub(super) enum DryRunError {
    /// The component or its limits are the reason.
    Guest(String),
    /// The host is the reason; another time may do.
    Host(String),
}

/// A store, and once it is made the instance in it.
pub(super) struct Running {
    store: Store<GuestState>,
    instance: Option<(Instance, Arc<Linked>)>,
    output: Arc<OutputAccount>,
    /// How many calls it has answered.
    uses: u64,
}

/// What a call is measured by.
struct Terms<'a> {
    policy: &'a Arc<Policy>,
    cpu: Arc<CpuAccount>,
    deadline: Instant,
}

impl<'a> Terms<'a> {
    fn of(policy: &'a Arc<Policy>) -> Self {
        Self {
            policy,
            cpu: CpuAccount::new(policy.limits.cpu_time),
            deadline: Instant::now() + policy.timeout,
        }
    }

    /// The callback gives the better reason for a guest that computes; this timer ends one that waits in a host call.
    async fn hold<T>(&self, call: impl Future<Output = wasmtime::Result<T>>) -> wasmtime::Result<T> {
        let call = timeout_at(self.deadline + 2 * TICK, self.cpu.measure(call));
        call.await.unwrap_or_else(|_| Err(DeadlinePassed.into()))
    }
}

/// Makes an instance and drops it, to learn at load what would otherwise fail the first message.
pub(super) async fn dry_run(
    shared: &Shared,
    component: &LocalComponent,
    policy: &Arc<Policy>,
) -> Result<(), DryRunError> {
    let output = OutputAccount::new(Arc::new(|_| {}), &policy.limits);
    let terms = Terms::of(policy);
    let mut store = store(shared, component, None, (&output, &terms)).map_err(DryRunError::Host)?;
    let started = terms.hold(async {
        let linked = component.linked();
        let instance = instantiate(&linked, &mut store).await?;
        linked.entry.check(&mut store, &instance)
    });
    let Err(error) = started.await else {
        return Ok(());
    };
    match broken(&error, &store, policy) {
        Verdict::Failed(failure) => Err(DryRunError::Guest(failure.reason)),
        Verdict::NotRun(reason) => Err(DryRunError::Host(reason)),
        Verdict::Success => Ok(()),
    }
}

/// Runs one call to its verdicts: in an instance that was kept, if it is of the code that serves now, or in a new one.
/// Returns the instance, too, if it may be kept.
pub(super) async fn run(
    shared: &Shared,
    component: &LocalComponent,
    call: Call,
    kept: Option<Running>,
) -> (Report, Option<Running>) {
    let Call {
        messages,
        policy,
        log,
        keyvalue,
    } = call;
    let (count, started, terms) = (messages.len(), Instant::now(), Terms::of(&policy));
    let kept = kept.filter(|kept| kept.is_of(&component.linked()));
    let running = match kept {
        Some(mut kept) => {
            kept.renew(component, log, &terms);
            Ok(kept)
        }
        None => Running::new(shared, component, messages.first(), (log, &terms)),
    };
    let mut running = match running {
        Ok(running) => running,
        Err(reason) => return (Report::not_run(count, &reason), None),
    };
    running.store.data_mut().stores = Stores::new(keyvalue, &policy.limits);
    let answer = terms.hold(running.call(component, messages)).await;
    let is_whole = matches!(&answer, Ok(verdicts) if verdicts.len() == count);
    let mut verdicts = match answer {
        Ok(verdicts) if is_whole => verdicts,
        Ok(verdicts) => {
            let reason = format!("the handler returned {} results for {count} messages", verdicts.len());
            vec![Verdict::failed(FailureKind::WrongAnswer, reason, None); count]
        }
        Err(error) => vec![broken(&error, &running.store, &policy); count],
    };
    verdicts.truncate(count);
    let report = running.report(verdicts, started, &terms);
    (report, running.kept(is_whole, component, &policy))
}

impl Running {
    fn new(
        shared: &Shared,
        component: &LocalComponent,
        message: Option<&CallMessage>,
        (log, terms): (LogSink, &Terms<'_>),
    ) -> Result<Self, String> {
        let output = OutputAccount::new(log, &terms.policy.limits);
        let store = store(shared, component, message, (&output, terms))?;
        Ok(Self {
            store,
            instance: None,
            output,
            uses: 0,
        })
    }

    fn is_of(&self, current: &Arc<Linked>) -> bool {
        let linked = self.instance.as_ref().map(|(_, linked)| linked);
        linked.is_some_and(|linked| Arc::ptr_eq(linked, current))
    }

    /// Everything that belongs to a message is made anew. What stays is the guest's own: memory, tables, open resources.
    fn renew(&mut self, component: &LocalComponent, log: LogSink, terms: &Terms<'_>) {
        let limits = &terms.policy.limits;
        self.output.renew(log, limits);
        let state = self.store.data_mut();
        state.http = HttpState::new(component.outbound.as_ref(), limits, &self.output);
        state.memory.renew();
        state.sends = Sends::new(&terms.policy.grants, limits);
        state.random.renew();
        state.cpu = Arc::clone(&terms.cpu);
        state.deadline = terms.deadline;
        self.store.set_epoch_deadline(1);
    }

    async fn call(&mut self, component: &LocalComponent, messages: Vec<CallMessage>) -> wasmtime::Result<Vec<Verdict>> {
        if self.instance.is_none() {
            let linked = component.linked();
            self.instance = Some((instantiate(&linked, &mut self.store).await?, linked));
        }
        let Some((instance, linked)) = &self.instance else {
            return Err(wasmtime::Error::msg("the instance was just made"));
        };
        let verdicts = linked.entry.call(&mut self.store, instance, messages).await?;
        self.store.data().random.check()?;
        Ok(verdicts)
    }

    fn report(&mut self, verdicts: Vec<Verdict>, started: Instant, terms: &Terms<'_>) -> Report {
        let state = self.store.data_mut();
        let (mut sends, mut writes) = (state.sends.take(), state.stores.take());
        if !verdicts.contains(&Verdict::Success) {
            sends.clear();
            writes.clear();
        }
        for stream in &state.streams {
            stream.flush_line();
        }
        let usage = Usage {
            wall: started.elapsed(),
            cpu: terms.cpu.used(),
            memory_peak: state.memory.peak,
            log_lines_dropped: self.output.lines_dropped(),
            http_requests: state.http.requests(),
        };
        Report {
            verdicts,
            sends,
            writes,
            usage,
        }
    }

    /// Itself, if it may have another message: the guest has answered, was refused no memory, holds no request, no connection
    /// and no file, can have no call under way, and is not used up.
    fn kept(mut self, is_whole: bool, component: &LocalComponent, policy: &Policy) -> Option<Self> {
        self.uses += 1;
        let state = self.store.data_mut();
        let has_request = state.table.iter_mut().any(|resource| http::is_request(resource));
        let holds = has_request || state.http.has_open_connections() || !state.files.are_closed() || component.goes_on;
        let fit = is_whole && !state.memory.refused && !holds;
        policy.reuse.filter(|reuse| fit && self.uses < reuse.max).map(|_| self)
    }
}

impl Report {
    /// The report of a call under which the host's own code panicked.
    pub fn panicked(messages: usize) -> Self {
        let verdict = Verdict::failed(
            FailureKind::Trap,
            "the host's own code failed while the handler ran",
            None,
        );
        Self {
            verdicts: vec![verdict; messages],
            sends: Vec::new(),
            writes: Vec::new(),
            usage: Usage::default(),
        }
    }

    /// The report of a call that never reached a guest.
    pub fn not_run(messages: usize, reason: &str) -> Self {
        Self {
            verdicts: vec![Verdict::NotRun(reason.to_owned()); messages],
            sends: Vec::new(),
            writes: Vec::new(),
            usage: Usage::default(),
        }
    }
}

fn store(
    shared: &Shared,
    component: &LocalComponent,
    message: Option<&CallMessage>,
    (output, terms): (&Arc<OutputAccount>, &Terms<'_>),
) -> Result<Store<GuestState>, String> {
    files::answer(component.files.as_ref())?;
    let policy = terms.policy;
    let limits = &policy.limits;
    let random = RandomAccount::new(limits.random_bytes);
    let mut table = ResourceTable::new();
    let handles = usize::try_from(limits.handles).unwrap_or(usize::MAX);
    table.set_max_capacity(handles);
    let streams = [LogStream::Stdout, LogStream::Stderr].map(|stream| GuestOutput::new(output, stream));
    let is_command = component.code.info.flavour == Flavour::Command;
    // What a program is told about its message, its manifest can't say instead.
    let granted = |name: &str| !(is_command && name.starts_with(command::VARIABLES));
    let (mut made, mut console) = (None, None);
    if is_command || !policy.grants.dirs.is_empty() {
        let mut wasi = wasi(policy, &streams, &random, &granted);
        open_dirs(&mut wasi, policy)?;
        if is_command {
            let [_, stderr] = &streams;
            console = message.map(|message| Console::new(&mut wasi, message, policy, stderr));
        }
        made = Some(wasi.build());
    }
    let state = GuestState {
        http: HttpState::new(component.outbound.as_ref(), limits, output),
        wasi: made,
        policy: Arc::clone(policy),
        table,
        files: FilesState::new(policy, component.files.as_ref(), output),
        memory: MemoryAccount::new(limits),
        sends: Sends::new(&policy.grants, limits),
        letters: Letters::default(),
        stores: Stores::default(),
        console,
        config: Arc::clone(&component.config),
        output: Arc::clone(output),
        streams,
        log_level: policy.grants.log,
        cpu: Arc::clone(&terms.cpu),
        random,
        deadline: terms.deadline,
    };
    let mut store = Store::new(&shared.engine, state);
    // Both before the instance is made: its initial memory counts, and its start function runs.
    store.limiter(|state| &mut state.memory);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|store: StoreContextMut<'_, GuestState>| {
        if Instant::now() >= store.data().deadline {
            return Err(DeadlinePassed.into());
        }
        if store.data().cpu.is_used_up() {
            return Err(CpuTimePassed.into());
        }
        store.data().random.check()?;
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    });
    store.set_hostcall_fuel(usize::try_from(limits.host_call_bytes).unwrap_or(usize::MAX));
    store.set_max_component_handles(handles);
    Ok(store)
}

fn wasi(
    policy: &Policy,
    [stdout, stderr]: &[GuestOutput; 2],
    random: &Arc<RandomAccount>,
    granted: &dyn Fn(&str) -> bool,
) -> WasiCtxBuilder {
    let mut wasi = WasiCtxBuilder::new();
    wasi.stdout(stdout.clone());
    wasi.stderr(stderr.clone());
    wasi.max_random_size(policy.limits.random_bytes);
    wasi.secure_random(random.generator());
    wasi.insecure_random(random.generator());
    // Each socket would be a descriptor, and none leads anywhere.
    wasi.allow_tcp(false).allow_udp(false);
    for (name, value) in policy.grants.env.iter().filter(|(name, _)| granted(name)) {
        wasi.env(name, value.expose());
    }
    wasi
}

fn open_dirs(wasi: &mut WasiCtxBuilder, policy: &Policy) -> Result<(), String> {
    for dir in &policy.grants.dirs {
        let perms = if dir.write {
            FsPerms::ReadWrite
        } else {
            FsPerms::ReadOnly
        };
        wasi.preopened_dir(&dir.host, &dir.guest, perms).map_err(|error| {
            format!(
                "the granted directory {} can't be opened: {error:#}",
                dir.host.display()
            )
        })?;
    }
    Ok(())
}

async fn instantiate(linked: &Linked, store: &mut Store<GuestState>) -> wasmtime::Result<Instance> {
    let instance = linked.pre.instantiate_async(store).await;
    instance.map_err(|error| error.context(NotInstantiated))
}

/// What an error of the engine means. The order matters: the host's own reasons come before the guest's.
fn broken(error: &wasmtime::Error, store: &Store<GuestState>, policy: &Policy) -> Verdict {
    let backtrace = error.downcast_ref::<WasmBacktrace>().map(frames);
    if error.is::<DeadlinePassed>() {
        let reason = format!("the handler did not answer within its timeout of {:?}", policy.timeout);
        return Verdict::failed(FailureKind::Timeout, reason, backtrace);
    }
    if error.is::<CpuTimePassed>() {
        let limit = policy.limits.cpu_time;
        let reason = format!("the handler used up its processor time of {limit:?} (limits.cpu-time)");
        return Verdict::failed(FailureKind::Timeout, reason, backtrace);
    }
    if error.is::<RandomUsedUp>() {
        let limit = policy.limits.random_bytes;
        let reason = format!("the handler drew more than its limit of {limit} random bytes (limits.random-bytes)");
        return Verdict::failed(FailureKind::Trap, reason, backtrace);
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return Verdict::NotRun("no instance is free".to_owned());
    }
    if store.data().memory.refused {
        let reason = format!(
            "the handler needs more than its limit of {} bytes of memory (or of table elements)",
            policy.limits.memory
        );
        return Verdict::failed(FailureKind::Memory, reason, backtrace);
    }
    // The engine has no type for the limits that `MemoryAccount` gives it as numbers.
    if error.root_cause().to_string().starts_with("resource limit exceeded") {
        let reason = format!(
            "the handler needs more than its limit of {} instances (or as many memories or tables)",
            policy.limits.instances
        );
        return Verdict::failed(FailureKind::Memory, reason, backtrace);
    }
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return Verdict::failed(
            FailureKind::Trap,
            format!("the handler exited with code {}", exit.0),
            backtrace,
        );
    }
    // With frames of the guest it was its start function that broke, also where the host refused it something.
    if error.is::<NotInstantiated>() && !error.is::<Trap>() && backtrace.is_none() {
        return Verdict::NotRun(format!("no instance could be made: {}", error.root_cause()));
    }
    let reason = match error.downcast_ref::<Trap>() {
        Some(trap) => format!("the handler trapped: {trap}"),
        None => format!("the handler broke: {}", error.root_cause()),
    };
    // Many languages say why before they trap.
    let said = store.data().console.as_ref().and_then(Console::last_line);
    let reason = said.map_or_else(|| reason.clone(), |line| format!("{reason}: {line}"));
    Verdict::failed(FailureKind::Trap, reason, backtrace)
}

impl Verdict {
    /// A failure whose reason is cut and escaped.
    pub(super) fn failed(kind: FailureKind, reason: impl AsRef<str>, backtrace: Option<String>) -> Self {
        Self::Failed(Failure {
            kind,
            reason: printable_lines(reason.as_ref().trim_end(), MAX_REASON_BYTES),
            retry_after: None,
            backtrace,
        })
    }
}

/// The frames of a backtrace, innermost first, at most 32. The names are the guest's own: they are cut, escaped, and never
/// demangled, since a short mangled name can stand for gigabytes.
fn frames(trace: &WasmBacktrace) -> String {
    let name = |frame: &wasmtime::FrameInfo| match frame.func_name() {
        Some(name) => printable(name, 128),
        None => format!("function {}", frame.func_index()),
    };
    trace.frames().iter().take(32).map(name).collect::<Vec<_>>().join("\n")
}
