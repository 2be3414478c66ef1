//! Runs calls in instances: waits for room, takes an idle instance of the component or makes a new one, and keeps an instance
//! that may have another call.

use std::{path::PathBuf, pin::pin, sync::Arc};

use futures_util::FutureExt as _;
use tokio::task::coop::unconstrained;

use super::{
    CallReport, GuestCall, GuestPolicy, LoadError,
    admission::{Admission, LivePermits, ReserveTurn, RoomPermits},
    component::{Code, ComponentLinker, LocalComponent},
    idle_instances::{ComponentInstances, IdleInstances},
    instance::{self, DryRunError, GuestInstance},
    waiting_calls::WaitingCalls,
    worst_case,
};

/// The reason that a call is not run, or a component not loaded, while the executor is dropped.
pub(crate) const STOPPING: &str = "the host is stopping";

/// Runs the calls of all components.
pub(crate) struct InstanceRunner {
    linker: ComponentLinker,
    admission: Admission,
    idle: Arc<IdleInstances<KeptInstance>>,
}

/// A component, with its places among the instances of all components.
pub(crate) struct AdmittedComponent {
    // Dropped first: the idle instances of the component go before it does.
    instances: ComponentInstances<KeptInstance>,
    turn: ReserveTurn,
    waiting: WaitingCalls,
    component: LocalComponent,
}

/// An idle instance and its room.
pub(crate) struct KeptInstance {
    // Dropped in this order: the room is free when the instance is gone.
    instance: Box<GuestInstance>,
    permits: RoomPermits,
}

/// The room for a call, and the idle instance that it can use, if there is one.
struct Entered {
    // Dropped in this order: the room is free when the instance is gone.
    kept: Option<GuestInstance>,
    permits: LivePermits,
}

impl AdmittedComponent {
    pub(crate) fn code(&self) -> &Arc<Code> {
        &self.component.code
    }

    /// Returns the counter of the calls that wait for room.
    pub(crate) fn waiting(&self) -> WaitingCalls {
        self.waiting.clone()
    }
}

impl InstanceRunner {
    pub(crate) fn new(linker: ComponentLinker, admission: Admission, idle: Arc<IdleInstances<KeptInstance>>) -> Self {
        Self {
            linker,
            admission,
            idle,
        }
    }

    /// Runs one call in an instance that was kept, or in a new one. `None` if the host is stopping.
    ///
    /// # Cancel safety
    ///
    /// Safe: the instance is dropped.
    pub(crate) async fn run(&self, admitted: &AdmittedComponent, call: GuestCall) -> Option<CallReport> {
        let reuse = call.policy.reuse;
        let Entered { kept, permits } = self.enter(admitted, &call.policy, reuse.is_some()).await?;
        let (report, instance) = instance::run(&admitted.component, call, kept).await;
        if let (Some(instance), Some(reuse)) = (instance, reuse) {
            let kept = KeptInstance {
                instance: Box::new(instance),
                permits: permits.into_idle(),
            };
            admitted.instances.keep(kept, reuse.idle);
        }
        Some(report)
    }

    /// Links code for a policy, and makes an instance and drops it, as soon as there is room.
    ///
    /// # Errors
    ///
    /// See [`LoadError`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(crate) async fn link(
        &self,
        file: PathBuf,
        code: Arc<Code>,
        policy: &Arc<GuestPolicy>,
    ) -> Result<AdmittedComponent, LoadError> {
        if let Err(too_costly) = self.admission.check(worst_case::instance_cost(policy, 1)) {
            let reason = too_costly.to_string();
            return Err(LoadError::Start { file, reason });
        }
        let admitted = AdmittedComponent {
            instances: self.idle.of_component(),
            turn: ReserveTurn::default(),
            waiting: WaitingCalls::default(),
            component: self.linker.link(&file, code, policy)?,
        };
        let tried = {
            // The instance that is tried needs room like any other: its start function may compute for long.
            let Some(_entered) = self.enter(&admitted, policy, false).await else {
                let reason = STOPPING.to_owned();
                return Err(LoadError::Host { file, reason });
            };
            instance::dry_run(&admitted.component, policy).await
        };
        match tried {
            Ok(()) => Ok(admitted),
            Err(DryRunError::Guest(reason)) => Err(LoadError::Start { file, reason }),
            Err(DryRunError::Host(reason)) => Err(LoadError::Host { file, reason }),
        }
    }

    /// Returns the number of calls of this component under this policy that can run at one time, if nothing else runs; at
    /// least one. `None` stands for a component of another executor.
    pub(crate) fn most_at_once(&self, admitted: Option<&AdmittedComponent>, policy: &GuestPolicy) -> usize {
        let slots = admitted.map_or(1, |admitted| admitted.component.slots);
        self.admission.most_at_once(worst_case::instance_cost(policy, slots))
    }

    /// Returns the number of idle instances.
    pub(crate) fn idle_count(&self) -> usize {
        self.idle.count()
    }

    /// Waits until there is room for an instance under this policy, or with `reuses` until an instance of the component is
    /// idle. Idle instances of other components are given up rather than waited for. `None` if the host is stopping.
    async fn enter(&self, admitted: &AdmittedComponent, policy: &GuestPolicy, reuses: bool) -> Option<Entered> {
        let cost = worst_case::instance_cost(policy, admitted.component.slots);
        let kept = || {
            let kept = reuses.then(|| admitted.instances.take()).flatten()?;
            Some(Entered {
                kept: Some(*kept.instance),
                permits: self.admission.live(kept.permits),
            })
        };
        let new = |permits: Option<RoomPermits>| {
            Some(Entered {
                kept: None,
                permits: self.admission.live(permits?),
            })
        };
        if let Some(kept) = kept() {
            return Some(kept);
        }
        let mut room = pin!(self.admission.take(&admitted.turn, cost));
        // The budget of the task does not count here: room that is free is free.
        if let Some(permits) = unconstrained(room.as_mut()).now_or_never() {
            return new(permits);
        }
        // From now on every call that keeps its instance sees that another call waits.
        let _waiting = self.idle.wait();
        let _counted = admitted.waiting.begin();
        loop {
            let mut changed = pin!(self.idle.changed());
            changed.as_mut().enable();
            if let Some(kept) = kept() {
                return Some(kept);
            }
            while self.idle.give_up_oldest() {
                if let Some(permits) = unconstrained(room.as_mut()).now_or_never() {
                    return new(permits);
                }
            }
            tokio::select! {
                biased;
                permits = room.as_mut() => return new(permits),
                () = changed => {}
            }
        }
    }
}
