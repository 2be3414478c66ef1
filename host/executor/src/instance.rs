//! One instance of a guest: made in a store of its own, called, and reported on. Knows nothing of queues.
//!
//! Invariant: an instance is used for one call and dropped, whatever comes of the call. Only an instance whose handler is told
//! to reuse instances may be kept, and only after it has answered. An instance that trapped or ran out of time is never used
//! again.

use std::sync::Arc;

use tokio::time::Instant;
use wasmtime::{Store, component::Instance};

use super::{
    CallMessage, CallReport, CallUsage, GuestCall, GuestPolicy, LogSink, Verdict,
    component::{Linked, LocalComponent},
    failure::{self, NotInstantiated},
    guest_state::{CallContext, GuestState},
    import::{http, keyvalue::KeyValueState},
    output::OutputAccount,
    time_limits::TimeLimits,
};
use sandhog_queue::FailureKind;

/// An instance could not be made when a component was loaded.
pub(crate) enum DryRunError {
    /// The component or its limits are the reason.
    Guest(String),
    /// The host is the reason; another attempt may succeed.
    Host(String),
}

/// A store, and the instance in it once that is made.
pub(crate) struct GuestInstance {
    store: Store<GuestState>,
    instance: Option<(Instance, Arc<Linked>)>,
    output: Arc<OutputAccount>,
    /// The number of calls that the instance has answered.
    answered: u64,
}

/// Makes an instance and drops it, to find when a component is loaded what would otherwise fail its first message.
///
/// # Errors
///
/// See [`DryRunError`].
pub(crate) async fn dry_run(component: &LocalComponent, policy: &Arc<GuestPolicy>) -> Result<(), DryRunError> {
    let output = OutputAccount::new(Arc::new(|_| {}), &policy.limits);
    let time = TimeLimits::start(policy);
    let context = CallContext {
        policy,
        time: &time,
        output: &output,
        message: None,
        trace: None,
    };
    let state = GuestState::new(&component.resources, context).map_err(DryRunError::Host)?;
    let mut store = state.into_store(component.engine());
    let started = time.hold(async {
        let linked = component.linked();
        let instance = instantiate(&linked, &mut store).await?;
        linked.entry.check(&mut store, &instance)
    });
    let Err(error) = started.await else {
        return Ok(());
    };
    match failure::verdict(&error, store.data_mut(), policy) {
        Verdict::Failed(failure) => Err(DryRunError::Guest(failure.reason)),
        Verdict::NotRun(reason) => Err(DryRunError::Host(reason)),
        Verdict::Success => Ok(()),
    }
}

/// Runs one call to its verdicts: in the instance that was kept, if it is one of the code that serves now, or else in a new
/// one. Returns the instance, too, if it may be kept for another call.
pub(crate) async fn run(
    component: &LocalComponent,
    call: GuestCall,
    kept: Option<GuestInstance>,
) -> (CallReport, Option<GuestInstance>) {
    let GuestCall {
        messages,
        policy,
        log,
        keyvalue,
        trace,
    } = call;
    let count = messages.len();
    let started = Instant::now();
    let time = TimeLimits::start(&policy);
    let kept = kept.filter(|kept| kept.is_of(&component.linked()));
    let instance = if let Some(mut kept) = kept {
        kept.begin_call(component, &policy, &time, log);
        Ok(kept)
    } else {
        let output = OutputAccount::new(log, &policy.limits);
        let context = CallContext {
            policy: &policy,
            time: &time,
            output: &output,
            message: messages.first(),
            trace: trace.as_deref(),
        };
        GuestInstance::new(component, context)
    };
    let mut instance = match instance {
        Ok(instance) => instance,
        Err(reason) => return (CallReport::not_run(count, &reason), None),
    };
    let state = instance.store.data_mut();
    state.keyvalue = KeyValueState::new(keyvalue, &policy.limits);
    state.http.trace(trace);
    let stderr = instance.store.data().stderr().clone();
    let answer = stderr.attend(time.hold(instance.call(component, messages))).await;
    let is_whole = matches!(&answer, Ok(verdicts) if verdicts.len() == count);
    let verdicts = match answer {
        Ok(verdicts) if is_whole => verdicts,
        Ok(verdicts) => {
            let reason = format!("the handler returned {} results for {count} messages", verdicts.len());
            vec![Verdict::failed(FailureKind::WrongAnswer, reason, None); count]
        }
        Err(error) => vec![failure::verdict(&error, instance.store.data_mut(), &policy); count],
    };
    let report = instance.report(verdicts, started, &time);
    (report, instance.into_kept(is_whole, component, &policy))
}

impl GuestInstance {
    fn new(component: &LocalComponent, context: CallContext<'_>) -> Result<Self, String> {
        let state = GuestState::new(&component.resources, context)?;
        Ok(Self {
            store: state.into_store(component.engine()),
            instance: None,
            output: Arc::clone(context.output),
            answered: 0,
        })
    }

    fn is_of(&self, current: &Arc<Linked>) -> bool {
        let linked = self.instance.as_ref().map(|(_, linked)| linked);
        linked.is_some_and(|linked| Arc::ptr_eq(linked, current))
    }

    fn begin_call(&mut self, component: &LocalComponent, policy: &GuestPolicy, time: &TimeLimits, log: LogSink) {
        let state = self.store.data_mut();
        state.begin_call(&component.resources, policy, time, log);
        self.store.set_epoch_deadline(1);
    }

    async fn call(&mut self, component: &LocalComponent, messages: Vec<CallMessage>) -> wasmtime::Result<Vec<Verdict>> {
        let (instance, linked) = if let Some(made) = &self.instance {
            made
        } else {
            let linked = component.linked();
            let instance = instantiate(&linked, &mut self.store).await?;
            self.instance.insert((instance, linked))
        };
        let verdicts = linked.entry.call(&mut self.store, instance, messages).await?;
        self.store.data().random.check()?;
        Ok(verdicts)
    }

    fn report(&mut self, verdicts: Vec<Verdict>, started: Instant, time: &TimeLimits) -> CallReport {
        let state = self.store.data_mut();
        let mut sends = state.sends.take();
        let mut writes = state.keyvalue.take();
        if !verdicts.contains(&Verdict::Success) {
            sends.clear();
            writes.clear();
        }
        state.flush_output();
        let usage = CallUsage {
            wall: started.elapsed(),
            cpu: time.cpu.used(),
            memory_peak: state.memory.peak,
            log_lines_dropped: self.output.lines_dropped(),
            http_requests: state.http.requests(),
        };
        CallReport {
            verdicts,
            sends,
            writes,
            usage,
        }
    }

    /// Returns the instance if it may have another call: the guest has answered, was refused no memory, holds no request, no
    /// connection and no file, can have no call under way, and has not answered as often as it may.
    fn into_kept(mut self, is_whole: bool, component: &LocalComponent, policy: &GuestPolicy) -> Option<Self> {
        self.answered += 1;
        let state = self.store.data_mut();
        state.keyvalue.end(&mut state.table);
        let has_request = state.table.iter_mut().any(|resource| http::is_request(resource));
        let holds =
            has_request || state.http.has_open_connections() || !state.files.are_closed() || component.outlives_answer;
        let fit = is_whole && !state.memory.refused && !holds;
        policy
            .reuse
            .filter(|reuse| fit && self.answered < reuse.max)
            .map(|_| self)
    }
}

async fn instantiate(linked: &Linked, store: &mut Store<GuestState>) -> wasmtime::Result<Instance> {
    let instance = linked.pre.instantiate_async(store).await;
    instance.map_err(|error| error.context(NotInstantiated))
}
