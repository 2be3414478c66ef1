//! The data of one store: everything that a guest's imports reach, and the accounts that bound it.
//!
//! Knows neither how a guest is called nor what the end of a call means.

use std::sync::Arc;

use wasmtime::{Store, StoreContextMut, UpdateDeadline, component::ResourceTable};
use wasmtime_wasi::{
    WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView,
    filesystem::{FsPerms, WasiFilesystemCtxView},
};
use wasmtime_wasi_config::WasiConfigVariables;
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};

use super::{
    CallMessage, CallTrace, GuestPolicy, LogSink, LogStream,
    blocking_threads::BlockingThreads,
    console::{Console, VARIABLE_PREFIX},
    crash_report::CrashReport,
    import::{
        crash::CrashNote,
        files::{self, Files, FilesState, FilesView},
        http::{HttpState, Outbound},
        keyvalue::{KeyValueState, KeyValueView},
        logging::LoggingView,
        messaging::{MessagingView, WasiMessageAccount},
        sender::CollectedSends,
    },
    memory::MemoryAccount,
    output::{GuestOutput, OutputAccount},
    profiler::Profiler,
    random::RandomAccount,
    time_limits::TimeLimits,
};

/// The resources that the instances of one component under one policy share.
pub(crate) struct GuestResources {
    /// The values that `wasi:config` answers.
    pub(crate) config: Arc<WasiConfigVariables>,
    /// The way to the network; `None` if the component is granted none.
    pub(crate) outbound: Option<Arc<Outbound>>,
    /// The threads that wait for files; `None` if the component is granted no directory.
    pub(crate) files: Option<Arc<BlockingThreads>>,
    /// Counts what guests compute, if somebody wants to know.
    pub(crate) profiler: Arc<Profiler>,
    /// The component is a program, which finds its message in its environment.
    pub(crate) is_program: bool,
}

/// The call that a store is made for.
#[derive(Clone, Copy)]
pub(crate) struct CallContext<'a> {
    pub(crate) policy: &'a Arc<GuestPolicy>,
    pub(crate) time: &'a TimeLimits,
    pub(crate) output: &'a Arc<OutputAccount>,
    /// The message that a program is started with; `None` if the instance is only tried.
    pub(crate) message: Option<&'a CallMessage>,
    /// The trace context that a program finds in its environment.
    pub(crate) trace: Option<&'a CallTrace>,
}

/// The data of a guest's store.
pub(crate) struct GuestState {
    // Dropped first: its drop marks the bodies in the table as cut short.
    pub(crate) http: HttpState,
    /// Made when the guest first asks for it, unless making it can fail.
    wasi: Option<WasiCtx>,
    pub(crate) policy: Arc<GuestPolicy>,
    pub(crate) table: ResourceTable,
    pub(crate) files: FilesState,
    pub(crate) memory: MemoryAccount,
    pub(crate) sends: CollectedSends,
    pub(crate) wasi_messages: WasiMessageAccount,
    pub(crate) keyvalue: KeyValueState,
    /// Set for a program that has a message.
    pub(crate) console: Option<Console>,
    pub(crate) config: Arc<WasiConfigVariables>,
    pub(crate) crash: CrashNote,
    output: Arc<OutputAccount>,
    /// Standard output and standard error.
    streams: [GuestOutput; 2],
    time: TimeLimits,
    profiler: Arc<Profiler>,
    pub(crate) random: Arc<RandomAccount>,
}

impl GuestState {
    /// Makes the data of a new store.
    ///
    /// # Errors
    ///
    /// A granted directory can't be opened, or the files of the component no longer answer.
    pub(crate) fn new(resources: &GuestResources, call: CallContext<'_>) -> Result<Self, String> {
        files::check_threads(resources.files.as_ref())?;
        let CallContext { policy, output, .. } = call;
        let limits = &policy.limits;
        let random = RandomAccount::new(limits.random_bytes);
        let streams = [LogStream::Stdout, LogStream::Stderr].map(|stream| GuestOutput::new(output, stream));
        let mut console = None;
        let mut wasi = None;
        if resources.is_program || !policy.grants.dirs.is_empty() {
            // A manifest must not contradict what the host tells a program about its message.
            let granted = |name: &str| !(resources.is_program && name.starts_with(VARIABLE_PREFIX));
            let mut builder = wasi_builder(policy, &streams, &random, &granted);
            open_dirs(&mut builder, policy)?;
            if resources.is_program {
                console = call.message.map(|message| Console::new(&mut builder, message, policy));
                let is_set = |name: &str| policy.grants.env.contains_key(name);
                for (name, value) in call.trace.map(|trace| trace.variables(is_set)).unwrap_or_default() {
                    builder.env(name, value);
                }
            }
            wasi = Some(builder.build());
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(max_handles(policy));
        Ok(Self {
            http: HttpState::new(resources.outbound.as_ref(), limits, output),
            wasi,
            policy: Arc::clone(policy),
            table,
            files: FilesState::new(policy, resources.files.as_ref(), output),
            memory: MemoryAccount::new(limits),
            sends: CollectedSends::new(&policy.grants, limits),
            wasi_messages: WasiMessageAccount::default(),
            keyvalue: KeyValueState::default(),
            console,
            config: Arc::clone(&resources.config),
            crash: CrashNote::new(limits),
            output: Arc::clone(output),
            streams,
            time: call.time.clone(),
            profiler: Arc::clone(&resources.profiler),
            random,
        })
    }

    /// Makes a store of this data, with every limit that the engine enforces.
    pub(crate) fn into_store(self, engine: &wasmtime::Engine) -> Store<Self> {
        let handles = max_handles(&self.policy);
        let host_call_bytes = self.policy.limits.host_call_bytes;
        let mut store = Store::new(engine, self);
        // Before the instance is made: its first memory counts, and its start function runs.
        store.limiter(|state| &mut state.memory);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store: StoreContextMut<'_, Self>| {
            store.data().time.check()?;
            store.data().random.check()?;
            let state = store.data();
            let computes_since = || state.time.cpu.polled_since().into();
            state.profiler.sample(&state.policy.handler, computes_since, &store);
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
        });
        store.set_hostcall_fuel(usize::try_from(host_call_bytes).unwrap_or(usize::MAX));
        store.set_max_component_handles(handles);
        store
    }

    /// Prepares the data for another call of the same instance: everything that belongs to a message is made anew. The
    /// guest's memory, tables and open resources stay.
    pub(crate) fn begin_call(
        &mut self,
        resources: &GuestResources,
        policy: &GuestPolicy,
        time: &TimeLimits,
        log: LogSink,
    ) {
        let limits = &policy.limits;
        self.output.begin_call(log, limits);
        self.stderr().begin_call();
        self.http = HttpState::new(resources.outbound.as_ref(), limits, &self.output);
        self.memory.begin_call();
        self.sends = CollectedSends::new(&policy.grants, limits);
        self.crash = CrashNote::new(limits);
        self.random.begin_call();
        self.time = time.clone();
    }

    /// Logs what the guest has printed and what has not been logged yet.
    pub(crate) fn flush_output(&self) {
        for stream in &self.streams {
            stream.flush();
        }
    }

    /// Returns why the guest broke, in its own words: what it has reported, or else printed to standard error in the way of its
    /// language. What is in the answer does not get into the log.
    pub(crate) fn take_crash(&mut self) -> Option<CrashReport> {
        // A runtime that reports an exception breaks in its own way, too.
        let printed = self.stderr().take_dump();
        self.crash.report.take().or(printed)
    }

    /// Returns standard error.
    pub(crate) fn stderr(&self) -> &GuestOutput {
        let [_, stderr] = &self.streams;
        stderr
    }

    /// Returns the view of `wasi:keyvalue`.
    pub(crate) fn keyvalue_view(&mut self) -> KeyValueView<'_> {
        KeyValueView::new(&mut self.keyvalue, &mut self.table)
    }

    /// Returns the view of `wasi:logging`.
    pub(crate) fn logging_view(&self) -> LoggingView<'_> {
        LoggingView {
            level: self.policy.grants.log,
            output: &self.output,
        }
    }

    /// Returns the view of `wasi:messaging`.
    pub(crate) fn messaging_view(&mut self) -> MessagingView<'_> {
        MessagingView::new(&mut self.table, &mut self.wasi_messages, &mut self.sends)
    }
}

impl WasiView for GuestState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let ctx = self
            .wasi
            .get_or_insert_with(|| wasi_builder(&self.policy, &self.streams, &self.random, &|_| true).build());
        WasiCtxView {
            ctx,
            table: &mut self.table,
        }
    }
}

impl FilesView for GuestState {
    fn files(&mut self) -> Files<'_> {
        let ctx = self
            .wasi
            .get_or_insert_with(|| wasi_builder(&self.policy, &self.streams, &self.random, &|_| true).build());
        let files = WasiFilesystemCtxView {
            ctx: ctx.filesystem(),
            table: &mut self.table,
        };
        Files::new(files, &mut self.files)
    }

    fn files_state(&mut self) -> &mut FilesState {
        &mut self.files
    }
}

impl WasiHttpView for GuestState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.http.view(&mut self.table)
    }
}

fn max_handles(policy: &GuestPolicy) -> usize {
    usize::try_from(policy.limits.handles).unwrap_or(usize::MAX)
}

/// Returns the WASI context of a guest, with those granted environment variables whose names `granted` accepts.
fn wasi_builder(
    policy: &GuestPolicy,
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

fn open_dirs(wasi: &mut WasiCtxBuilder, policy: &GuestPolicy) -> Result<(), String> {
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
