//! The statuses of the handlers, for readiness and for `GET /handlers`.
//!
//! The dispatcher and the reload write a status, and the listener reads it. Invariant: no handler starts or stops because of its
//! status.

use std::{collections::BTreeMap, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use tokio::{sync::Notify, time::Instant};

use crate::{date::to_the_second, halts::DrainCause};
use sandhog_executor::WaitingCalls;
use sandhog_queue::message::QueueName;
use sandhog_simple::StoreHealth;

/// The time without a completed receive after which a poller that listens is deaf: three times the longest wait.
pub const DEAF_AFTER: Duration = Duration::from_mins(1);

/// The state of a handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandlerState {
    /// The first version of the handler is being compiled and tried.
    Loading,
    /// The handler receives and handles messages.
    Serving,
    /// The handler is paused after many failures of the same kind, and probed with single messages.
    Paused {
        /// The failure that repeats, for people.
        reason: String,
    },
    /// No version of the handler serves; [`HandlerStatus::last_error`] says why.
    Refused,
    /// The file of the handler was removed. The handler is gone once its deliveries in flight have ended.
    Stopping,
}

impl HandlerState {
    /// Returns the state as one word.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Serving => "serving",
            Self::Paused { .. } => "paused",
            Self::Refused => "refused",
            Self::Stopping => "stopping",
        }
    }
}

/// The status of one handler.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct HandlerStatus {
    /// The name of the handler: that of its file without the extension.
    pub name: String,
    /// The queue that the handler serves, or will serve once a version was loaded, if that is known.
    pub queue: Option<QueueName>,
    /// The state of the handler.
    pub state: HandlerState,
    /// The flavour of the version that serves.
    pub flavour: Option<String>,
    /// The SHA-256 digest of the version that serves, in hexadecimal.
    pub digest: Option<String>,
    /// The number of the version that serves; 0 until one does.
    pub version: u64,
    /// How often a version has begun to serve since the host started.
    pub begun: u64,
    /// The state of that version among those that are kept.
    pub version_state: Option<String>,
    /// How far the comparison of that version with its predecessor has come, if there is one.
    pub stage: Option<String>,
    /// The number of versions that were refused since the host started.
    pub refusals: u64,
    /// Milliseconds since 1970-01-01T00:00:00Z at which the version that serves was loaded.
    pub loaded_at_ms: Option<u64>,
    /// That version is the one that served last, because the files in the plugin directory are refused.
    pub is_fallback: bool,
    /// The queues that the handler may send to.
    pub sends_to: Vec<QueueName>,
    /// The calls of the version that wait until the host has room for an instance.
    pub waiting: WaitingCalls,
    /// An operator has halted the handler, its queue or the whole host, and the handler receives nothing any more.
    pub halted: bool,
    /// A look at the queue since the handler was paused has found it empty.
    pub idle: bool,
    /// The number of attempts under way.
    pub in_flight: u32,
    /// The number of attempts that may be under way; 0 until a version serves.
    pub slots: u32,
    /// Since when as many attempts are under way as may be, without one that has ended.
    pub full_since: Option<Instant>,
    /// When the host probes the handler next, if it has paused it.
    pub next_probe: Option<Instant>,
    /// The reason why the newest version of the file was refused; an older one may be serving.
    pub last_error: Option<String>,
    /// The digest of the component that was refused, if its files are refused for good.
    pub refused_component: Option<String>,
    /// That reason may pass, and the same file is tried again.
    tried_again: bool,
    /// The reason why the last receive failed, until a receive succeeds.
    pub queue_error: Option<String>,
    /// When the last receive completed; `None` while the poller deliberately does not listen.
    pub last_receive_at: Option<Instant>,
}

/// The facts about a version that begins to serve.
#[derive(Debug, Clone)]
pub struct LoadedVersion {
    /// The queue that the version serves.
    pub queue: QueueName,
    /// The flavour, for people.
    pub flavour: String,
    /// The SHA-256 digest in hexadecimal.
    pub digest: String,
    /// The number of the version.
    pub version: u64,
    /// When the version was loaded: milliseconds since 1970-01-01T00:00:00Z.
    pub loaded_at_ms: u64,
    /// The queues that the version may send to.
    pub sends_to: Vec<QueueName>,
    /// The calls of the version that wait for room.
    pub waiting: WaitingCalls,
}

/// The status of every handler of this host.
#[derive(Debug, Default)]
pub struct HandlerStatuses {
    table: Mutex<StatusTable>,
    /// Notified when a version begins to serve or is refused.
    judged: Notify,
}

#[derive(Debug, Default)]
struct StatusTable {
    handlers: BTreeMap<String, HandlerStatus>,
    first_load_finished: bool,
    store: Option<Box<dyn StoreHealth>>,
    directory_failure: Option<String>,
}

impl HandlerStatuses {
    /// A version of the handler is being loaded. An older version that serves goes on.
    pub fn loading(&self, name: &str) {
        self.update(name, |status| {
            if status.state == HandlerState::Stopping {
                *status = HandlerStatus::new(name);
            }
            if !status.serves() {
                status.state = HandlerState::Loading;
            }
        });
    }

    /// The queue that the handler will serve, unless it serves one.
    pub fn named(&self, name: &str, queue: &QueueName) {
        self.update(name, |status| {
            if !status.serves() {
                status.queue = Some(queue.clone());
            }
        });
    }

    /// A version was accepted and serves from now on.
    pub fn serving(&self, name: &str, loaded: LoadedVersion) {
        self.update(name, |status| {
            status.state = HandlerState::Serving;
            status.queue = Some(loaded.queue);
            status.flavour = Some(loaded.flavour);
            status.digest = Some(loaded.digest);
            status.loaded_at_ms = Some(loaded.loaded_at_ms);
            status.sends_to = loaded.sends_to;
            status.waiting = loaded.waiting;
            status.version = loaded.version;
            status.begun += 1;
            status.is_fallback = false;
            status.last_error = None;
            status.refused_component = None;
            status.tried_again = false;
        });
        self.judged.notify_one();
    }

    /// Waits until a version begins to serve or is refused. What came before the call counts once. For one task.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn judged(&self) {
        self.judged.notified().await;
    }

    /// The newest version was refused. An older version that serves goes on.
    /// `component` is the digest of its component, if its files are refused whatever else changes.
    pub fn refused(&self, name: &str, why: &str, component: Option<&str>) {
        self.refuse(name, why, false, component);
    }

    /// The newest version can't be loaded now, and is tried again. An older version that serves goes on.
    pub fn refused_for_now(&self, name: &str, why: &str) {
        self.refuse(name, why, true, None);
    }

    fn refuse(&self, name: &str, why: &str, tried_again: bool, component: Option<&str>) {
        self.update(name, |status| {
            status.last_error = Some(why.to_owned());
            status.tried_again = tried_again;
            status.refused_component = component.map(str::to_owned);
            status.refusals += 1;
            if !status.serves() {
                status.state = HandlerState::Refused;
            }
        });
        self.judged.notify_one();
    }

    /// The newest files can't be loaded yet. An older version that serves goes on.
    pub fn waiting(&self, name: &str, why: &str) {
        self.update(name, |status| status.last_error = Some(why.to_owned()));
    }

    /// The version that serves is the one that served last, because the files in the plugin directory are refused.
    pub fn fallback(&self, name: &str, why: &str) {
        self.update(name, |status| {
            status.is_fallback = true;
            status.last_error = Some(why.to_owned());
        });
    }

    /// The version that serves is in this state, and the comparison with its predecessor in this stage.
    pub fn version_state(&self, name: &str, state: &str, probation: Option<&str>) {
        self.update(name, |status| {
            status.version_state = Some(state.to_owned());
            status.stage = probation.map(str::to_owned);
        });
    }

    /// The version that serves is an older one, because the newest one was set aside or quarantined.
    pub fn set_aside(&self, name: &str, why: &str) {
        self.update(name, |status| status.last_error = Some(why.to_owned()));
    }

    /// The handler is paused.
    pub fn paused(&self, name: &str, reason: &str) {
        self.update(name, |status| {
            status.idle = false;
            status.state = HandlerState::Paused {
                reason: reason.to_owned(),
            }
        });
    }

    /// An operator has halted the handler, its queue or the whole host, or has not: an order is no trouble.
    pub fn halted(&self, name: &str, halted: bool) {
        self.update(name, |status| status.halted = halted);
    }

    /// Returns the paused handlers, each with its queue.
    pub fn paused_queues(&self) -> Vec<(String, QueueName)> {
        let table = self.table();
        let paused = table
            .handlers
            .values()
            .filter(|status| matches!(status.state, HandlerState::Paused { .. }));
        paused
            .filter_map(|status| Some((status.name.clone(), status.queue.clone()?)))
            .collect()
    }

    /// The queue of a paused handler is empty (`idle`), so that the pause holds nothing back; or it is not.
    pub fn idle(&self, name: &str, idle: bool) {
        if let Some(status) = self.table().handlers.get_mut(name) {
            status.idle = idle;
        }
    }

    /// The handler goes on after a pause.
    pub fn resumed(&self, name: &str) {
        self.update(name, |status| {
            if matches!(status.state, HandlerState::Paused { .. }) {
                status.state = HandlerState::Serving;
            }
        });
    }

    /// The handler's file is gone, and its deliveries in flight end.
    pub fn stopping(&self, name: &str) {
        self.update(name, |status| {
            status.state = HandlerState::Stopping;
            status.halted = false;
            status.full_since = None;
            status.next_probe = None;
            status.last_receive_at = None;
            status.queue_error = None;
        });
    }

    /// The deliveries in flight have ended. The handler is gone, unless a file of its name exists again.
    pub fn stopped(&self, name: &str) {
        let mut table = self.table();
        if table
            .handlers
            .get(name)
            .is_some_and(|status| status.state == HandlerState::Stopping)
        {
            table.handlers.remove(name);
        }
    }

    /// The plugin directory can't be read, or can again.
    pub fn directory(&self, failure: Option<&str>) {
        self.table().directory_failure = failure.map(str::to_owned);
    }

    /// The handler is gone.
    pub fn removed(&self, name: &str) {
        self.table().handlers.remove(name);
    }

    /// The handler may have this number of attempts under way.
    pub fn slots(&self, name: &str, slots: u32) {
        self.update(name, |status| status.slots = slots);
    }

    /// The handler has this number of attempts under way.
    pub fn in_flight(&self, name: &str, attempts: u32) {
        self.update(name, |status| {
            let is_full = attempts >= status.slots && status.slots > 0;
            let was_full = status.full_since.is_some() && attempts >= status.in_flight;
            if !(is_full && was_full) {
                status.full_since = is_full.then(Instant::now);
            }
            status.in_flight = attempts;
        });
    }

    /// The host probes the paused handler at this time next; `None` if it is not paused.
    pub fn next_probe(&self, name: &str, at: Option<Instant>) {
        self.update(name, |status| status.next_probe = at);
    }

    /// The poller begins to listen, or has completed a receive with messages or without.
    pub fn received(&self, name: &str) {
        self.update(name, |status| {
            status.last_receive_at = Some(Instant::now());
            status.queue_error = None;
        });
    }

    /// The poller deliberately does not listen, because no slot is free or the handler is paused. Then it is not deaf.
    pub fn not_listening(&self, name: &str) {
        self.update(name, |status| status.last_receive_at = None);
    }

    /// A receive has failed. The time of the last completed receive stays.
    pub fn receive_failed(&self, name: &str, why: &str) {
        self.update(name, |status| status.queue_error = Some(why.to_owned()));
    }

    /// Every handler of the start has been loaded or refused.
    pub fn first_load_finished(&self) {
        self.table().first_load_finished = true;
    }

    /// Returns whether there is a first verdict on every handler of the start, or none will come soon, because the plugin directory
    /// can't be read.
    pub fn has_first_verdicts(&self) -> bool {
        let table = self.table();
        table.first_load_finished || table.directory_failure.is_some()
    }

    /// Returns the number of handlers of which a version serves.
    pub fn serving_count(&self) -> usize {
        let table = self.table();
        table.handlers.values().filter(|status| status.serves()).count()
    }

    /// Returns whether the handlers of the start are still being loaded.
    pub fn is_first_load_under_way(&self) -> bool {
        !self.table().first_load_finished
    }

    /// Makes the troubles of the store count against readiness from now on.
    pub fn watch_store(&self, store: Box<dyn StoreHealth>) {
        self.table().store = Some(store);
    }

    /// Returns the status of a handler.
    pub fn get(&self, name: &str) -> Option<HandlerStatus> {
        self.table().handlers.get(name).cloned()
    }

    /// Returns the statuses of all handlers, by name.
    pub fn list(&self) -> Vec<HandlerStatus> {
        self.table().handlers.values().cloned().collect()
    }

    /// Returns whether every handler that serves has stopped to receive, as an operator has ordered.
    pub fn all_halted(&self) -> bool {
        let table = self.table();
        let mut serving = table.handlers.values().filter(|status| status.serves());
        serving.all(|status| status.halted)
    }

    /// Checks that this host is ready for messages.
    ///
    /// # Errors
    ///
    /// The reasons why the host is not ready, for people, one each.
    pub fn readiness(&self, drain: Option<DrainCause>) -> Result<(), Vec<String>> {
        let table = self.table();
        let mut reasons = Vec::new();
        reasons.extend(drain.map(|cause| match cause {
            DrainCause::Stopping => "draining: the host is about to stop".to_owned(),
            DrainCause::Ordered { since_ms } => {
                let since = to_the_second(since_ms);
                format!("draining: an operator has ordered it at {since}; `sandhog drain --end` ends it")
            }
        }));
        reasons.extend(table.store.iter().flat_map(|store| store.troubles()));
        if !table.first_load_finished {
            reasons.push(match &table.directory_failure {
                Some(why) => format!("the plugin directory can't be read: {why}"),
                None => "loading: the first load of the handlers is under way".to_owned(),
            });
        }
        reasons.extend(table.handlers.values().flat_map(HandlerStatus::troubles));
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }

    fn update(&self, name: &str, change: impl FnOnce(&mut HandlerStatus)) {
        change(
            self.table()
                .handlers
                .entry(name.to_owned())
                .or_insert_with(|| HandlerStatus::new(name)),
        );
    }

    fn table(&self) -> MutexGuard<'_, StatusTable> {
        self.table.lock()
    }
}

impl HandlerStatus {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            queue: None,
            state: HandlerState::Loading,
            flavour: None,
            digest: None,
            version: 0,
            begun: 0,
            version_state: None,
            stage: None,
            refusals: 0,
            loaded_at_ms: None,
            is_fallback: false,
            sends_to: Vec::new(),
            waiting: WaitingCalls::default(),
            halted: false,
            idle: false,
            in_flight: 0,
            slots: 0,
            full_since: None,
            next_probe: None,
            last_error: None,
            refused_component: None,
            tried_again: false,
            queue_error: None,
            last_receive_at: None,
        }
    }

    /// Returns whether the newest version was refused for a reason that may pass, and is tried again. An older one may be serving.
    pub fn has_another_try(&self) -> bool {
        self.tried_again
    }

    /// Returns whether the handler has no version that serves, and its file is tried again.
    pub fn is_tried_again(&self) -> bool {
        self.tried_again && matches!(self.state, HandlerState::Loading | HandlerState::Refused)
    }

    /// Returns whether a version of the handler serves.
    fn serves(&self) -> bool {
        match self.state {
            HandlerState::Serving | HandlerState::Paused { .. } => true,
            HandlerState::Loading | HandlerState::Refused | HandlerState::Stopping => false,
        }
    }

    /// Returns the reasons why the host is not ready because of this handler: it should serve and has no version that serves. The
    /// first load of a new handler is no such reason.
    fn troubles(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        match (&self.state, &self.last_error) {
            (HandlerState::Paused { reason }, _) if !self.idle && !self.halted => {
                troubles.push(format!("handler {} is paused: {reason}", self.name));
            }
            (HandlerState::Refused | HandlerState::Loading, Some(why)) => {
                troubles.push(format!("handler {} has no version that serves: {why}", self.name));
            }
            _ => {}
        }
        if let Some(silence) = self
            .last_receive_at
            .map(|at| at.elapsed())
            .filter(|silence| *silence > DEAF_AFTER)
        {
            let seconds = silence.as_secs();
            let why = self.queue_error.as_deref().unwrap_or("no answer from the queue");
            troubles.push(format!(
                "handler {} has received nothing for {seconds} s: {why}",
                self.name
            ));
        }
        troubles
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded() -> LoadedVersion {
        LoadedVersion {
            queue: QueueName::new("orders").unwrap(),
            flavour: "handler".to_owned(),
            digest: "ab".to_owned(),
            version: 1,
            loaded_at_ms: 1,
            sends_to: Vec::new(),
            waiting: WaitingCalls::default(),
        }
    }

    fn serving_statuses() -> HandlerStatuses {
        let statuses = HandlerStatuses::default();
        statuses.serving("orders", loaded());
        statuses.received("orders");
        statuses.first_load_finished();
        statuses
    }

    #[test]
    fn a_host_is_not_ready_before_its_first_load_has_ended() {
        let statuses = HandlerStatuses::default();
        statuses.loading("orders");
        assert_eq!(
            statuses.readiness(None).unwrap_err(),
            ["loading: the first load of the handlers is under way"]
        );
        statuses.serving("orders", loaded());
        statuses.first_load_finished();
        assert_eq!(statuses.readiness(None), Ok(()));
    }

    /// The host was ready then, so that a rollout went on with a host that handled nothing.
    #[test]
    fn a_host_with_a_handler_that_has_nothing_to_serve_is_not_ready() {
        let statuses = HandlerStatuses::default();
        statuses.first_load_finished();
        statuses.loading("orders");
        assert_eq!(statuses.readiness(None), Ok(()));
        statuses.refused("orders", "no such export", Some("ab"));
        let expected = "handler orders has no version that serves: no such export";
        assert_eq!(statuses.readiness(None).unwrap_err(), [expected]);
        statuses.loading("orders");
        assert_eq!(statuses.readiness(None).unwrap_err(), [expected]);
        statuses.serving("orders", loaded());
        assert_eq!(statuses.readiness(None), Ok(()));
    }

    #[test]
    fn a_file_that_comes_back_while_its_handler_drains_stays_in_the_list() {
        let statuses = serving_statuses();
        statuses.stopping("orders");
        statuses.loading("orders");
        statuses.refused("orders", "no such export", Some("ab"));
        statuses.stopped("orders");
        assert_eq!(statuses.list().remove(0).state, HandlerState::Refused);
    }

    #[test]
    fn a_refused_version_leaves_the_older_one_serving() {
        let statuses = serving_statuses();
        statuses.loading("orders");
        statuses.refused("orders", "no such export", Some("ab"));
        let status = statuses.list().remove(0);
        assert_eq!(status.state, HandlerState::Serving);
        assert_eq!(status.last_error.as_deref(), Some("no such export"));
    }

    /// A host that ends once its queues are empty ended as if the handler were refused for good.
    #[test]
    fn a_handler_that_can_not_be_loaded_now_is_tried_again_until_it_serves_or_is_refused() {
        let statuses = HandlerStatuses::default();
        let is_tried_again = || statuses.list().remove(0).is_tried_again();
        statuses.refused_for_now("orders", "too many open files");
        assert!(is_tried_again());
        statuses.loading("orders");
        assert!(is_tried_again());
        statuses.refused("orders", "no such export", Some("ab"));
        assert!(!is_tried_again());
        statuses.refused_for_now("orders", "too many open files");
        statuses.serving("orders", loaded());
        assert!(!is_tried_again());
        statuses.refused_for_now("orders", "too many open files");
        assert!(!is_tried_again(), "the version before it serves");
    }

    #[test]
    fn a_draining_host_is_not_ready() {
        assert_eq!(
            serving_statuses().readiness(Some(DrainCause::Stopping)).unwrap_err(),
            ["draining: the host is about to stop"]
        );
    }

    #[test]
    fn a_host_that_drains_by_an_order_says_how_that_ends() {
        let drain = DrainCause::Ordered {
            since_ms: 1_796_000_000_000,
        };
        assert_eq!(
            serving_statuses().readiness(Some(drain)).unwrap_err(),
            ["draining: an operator has ordered it at 2026-11-30T00:53:20Z; `sandhog drain --end` ends it"]
        );
    }

    #[test]
    fn a_handler_that_serves_counts_as_halted_once_it_says_so() {
        let statuses = serving_statuses();
        statuses.loading("other");
        assert!(!statuses.all_halted());
        statuses.halted("orders", true);
        assert!(statuses.all_halted());
        statuses.serving("other", loaded());
        assert!(!statuses.all_halted());
    }

    #[tokio::test(start_paused = true)]
    async fn a_poller_that_completes_no_receive_for_a_minute_is_deaf() {
        let statuses = serving_statuses();
        tokio::time::advance(DEAF_AFTER).await;
        assert_eq!(statuses.readiness(None), Ok(()));
        tokio::time::advance(Duration::from_secs(1)).await;
        let expected = "handler orders has received nothing for 61 s: no answer from the queue";
        assert_eq!(statuses.readiness(None).unwrap_err(), [expected]);
        statuses.received("orders");
        assert_eq!(statuses.readiness(None), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_without_a_free_slot_is_not_deaf() {
        let statuses = serving_statuses();
        statuses.not_listening("orders");
        tokio::time::advance(DEAF_AFTER * 10).await;
        assert_eq!(statuses.readiness(None), Ok(()));
    }

    #[test]
    fn a_paused_handler_is_named_by_readiness_until_it_goes_on() {
        let statuses = serving_statuses();
        statuses.paused("orders", "timeout, 20 times in a row");
        assert_eq!(
            statuses.readiness(None).unwrap_err(),
            ["handler orders is paused: timeout, 20 times in a row"]
        );
        statuses.resumed("orders");
        assert_eq!(statuses.readiness(None), Ok(()));
    }

    /// Behind a load balancer no message would come any more, and so no probe ever did.
    #[test]
    fn a_paused_handler_with_an_empty_queue_does_not_keep_the_host_unready() {
        let statuses = serving_statuses();
        statuses.paused("orders", "timeout, 20 times in a row");
        statuses.idle("orders", true);
        assert_eq!(statuses.readiness(None), Ok(()));
        statuses.idle("orders", false);
        assert!(statuses.readiness(None).is_err());
    }

    #[derive(Debug)]
    struct Failed;

    impl StoreHealth for Failed {
        fn troubles(&self) -> Vec<String> {
            vec!["the store has failed: disk full".to_owned()]
        }
    }

    #[test]
    fn a_store_in_trouble_is_named_by_readiness() {
        let statuses = serving_statuses();
        statuses.watch_store(Box::new(Failed));
        assert_eq!(
            statuses.readiness(None).unwrap_err(),
            ["the store has failed: disk full"]
        );
    }
}
