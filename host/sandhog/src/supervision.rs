//! What the host tells whoever has started it: a service manager, by the notify protocol of systemd, and a person at a terminal, who
//! waits for the end.
//!
//! Invariants: a manager that does not read holds nothing up. Every user of the machine can read what a manager is told, so none of
//! it is a word of a guest or of a message.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sd_notify::NotifyState;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    config::SupervisorSettings, halts::DrainCause, handler_set::HostContext, standing::in_flight, telemetry::StatusLine,
};
use sandhog_queue::printable::printable;

mod socket;

/// The time between two looks at a host that starts or stops, which a person or another unit waits for.
const LOOK_SOON: Duration = Duration::from_millis(50);
/// The time between two looks at a host that runs.
const LOOK: Duration = Duration::from_secs(1);
/// How long the manager is asked to wait for the start and for the stop, again and again.
const EXTENSION: Duration = Duration::from_secs(15);
/// The time between two such requests.
const EXTEND_EVERY: Duration = Duration::from_secs(5);
/// How long the manager is asked to wait until the queues' storage is open. A large store that was not closed, or that has another
/// format, takes minutes.
const OPENING_LIMIT: Duration = Duration::from_mins(30);
/// How long it is asked to wait for the end of a host whose attempts have ended. Each part of that has a bound of its own.
const CLOSING_LIMIT: Duration = Duration::from_mins(1);
/// The longest name of a handler in a sentence, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// Tells whoever has started the host how it is. A clone tells the same ones.
#[derive(Debug, Clone, Default)]
pub struct Supervision {
    settings: SupervisorSettings,
    /// For a person at a terminal.
    line: StatusLine,
    /// The manager knows that the host has started, and that no reload is under way.
    is_ready_told: Arc<AtomicBool>,
    /// The manager could not be told, and the log says so.
    has_failed: Arc<AtomicBool>,
}

/// What is known of a host in one moment.
#[derive(Debug)]
struct HostState {
    drain: Option<DrainCause>,
    /// What is left of the grace period of a host that stops; `None` once it is over.
    grace: Option<Duration>,
    /// What is in flight, in words.
    in_flight: String,
    has_first_verdicts: bool,
    is_ready: bool,
    serving: usize,
}

/// What was told already.
#[derive(Debug, Clone, Default)]
struct ToldBefore {
    is_ready: bool,
    status: String,
    is_stopping: bool,
    extended_at: Option<Instant>,
}

impl Supervision {
    /// Tells a manager what these settings say, and a person in this line how the end comes on.
    pub fn new(settings: SupervisorSettings, line: StatusLine) -> Self {
        Self {
            settings,
            line,
            ..Self::default()
        }
    }

    /// Tells how the host is for as long as the future is polled. `grace_period` begins when the host is told to stop.
    pub(crate) async fn follow(&self, host: &HostContext, grace_period: Duration) -> Infallible {
        tokio::select! {
            never = self.report(host, grace_period) => never,
            never = self.feed_watchdog(host) => never,
        }
    }

    /// Polls the future, and asks the manager to wait for it all that time: the queues' storage is opened.
    pub(crate) async fn while_opening<T>(&self, opening: impl Future<Output = T>) -> T {
        let status = "starting: the queues' storage is opened";
        tokio::select! {
            opened = opening => opened,
            never = self.ask_for_time(status, OPENING_LIMIT) => match never {},
        }
    }

    /// Polls the future, and asks the manager to wait for it all that time: the storage is closed, and spans are exported.
    /// Then takes the line from the terminal.
    pub(crate) async fn while_closing<T>(&self, closing: impl Future<Output = T>) -> T {
        let status = "stopping: the queues' storage is closed";
        let closed = tokio::select! {
            closed = closing => closed,
            never = self.ask_for_time(status, CLOSING_LIMIT) => match never {},
        };
        self.line.show("");
        closed
    }

    async fn ask_for_time(&self, status: &str, limit: Duration) -> Infallible {
        let until = Instant::now() + limit;
        while Instant::now() < until {
            let mut news = vec![extension(), NotifyState::Status(status).to_string()];
            // Its watchdog goes on until the process has ended.
            news.extend(self.settings.watchdog.map(|_| NotifyState::Watchdog.to_string()));
            self.tell(&news).await;
            let watched = self.settings.watchdog.map(|watchdog| watchdog / 6);
            sleep(watched.unwrap_or(EXTEND_EVERY).min(EXTEND_EVERY)).await;
        }
        std::future::pending().await
    }

    async fn report(&self, host: &HostContext, grace_period: Duration) -> Infallible {
        let notifies = self.settings.socket.is_some();
        if !notifies {
            // Only a person is there, and only the end takes its time.
            host.stop_receiving.cancelled().await;
        }
        let mut ends_at = None;
        let mut told = ToldBefore::default();
        loop {
            let is_stopping = host.stop_receiving.is_cancelled();
            if is_stopping && ends_at.is_none() {
                ends_at = Some(Instant::now() + grace_period);
            }
            let state = HostState::of(host, ends_at);
            let sentence = state.sentence();
            if is_stopping {
                self.line.show(&sentence);
            }
            told.is_ready = self.is_ready_told.load(Ordering::Relaxed);
            let (news, then) = news(&state, &sentence, &told);
            let is_told = self.tell(&news).await;
            if is_told {
                // A reload may have ended meanwhile, and its end is owed.
                if then.is_ready && !told.is_ready {
                    self.is_ready_told.store(true, Ordering::Relaxed);
                }
                told = then;
            }
            // What could not be told is told with the next look.
            let is_waited_for = is_stopping || (is_told && !told.is_ready);
            let next = if is_waited_for { LOOK_SOON } else { LOOK };
            tokio::select! {
                () = sleep(next) => {}
                () = host.stop_receiving.cancelled(), if !is_stopping => {}
            }
        }
    }

    /// Tells the manager that the process is alive, as often as it wants to hear it: this task runs, and the writer of the store has
    /// answered. That the answer is an error is no matter, because a store that has failed ends the process by itself.
    async fn feed_watchdog(&self, host: &HostContext) -> Infallible {
        let Some(watchdog) = self.settings.watchdog else {
            return std::future::pending().await;
        };
        let ask = async || drop(host.queues.disk_use().await);
        let tell = async || {
            self.tell(&[NotifyState::Watchdog.to_string()]).await;
        };
        feed(watchdog, ask, tell).await
    }

    /// Tells the manager that the configuration is being read again.
    pub(crate) async fn reloading(&self) {
        if let Ok(now) = NotifyState::monotonic_usec_now()
            && self.is_ready_told.load(Ordering::Relaxed)
        {
            self.tell(&[NotifyState::Reloading.to_string(), now.to_string()]).await;
        }
    }

    /// Tells the manager that this is done. Mistakes in the configuration change nothing, and are no end of the service.
    pub(crate) async fn reloaded(&self) {
        if self.is_ready_told.load(Ordering::Relaxed) {
            let is_told = self.tell(&[NotifyState::Ready.to_string()]).await;
            // Else it is told with the next look.
            self.is_ready_told.store(is_told, Ordering::Relaxed);
        }
    }

    /// Sends assignments to the manager. Returns whether it has them, or wants none.
    async fn tell(&self, news: &[String]) -> bool {
        let Some(socket) = self.settings.socket.as_deref().filter(|_| !news.is_empty()) else {
            return true;
        };
        let told = socket::send(socket, news).await;
        if let Err(error) = &told
            && !self.has_failed.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(%error, "the service manager can't be told how the host is (NOTIFY_SOCKET)");
        }
        told.is_ok()
    }
}

/// Returns what the manager has to be told of a state, and what it was told then.
fn news(state: &HostState, sentence: &str, told: &ToldBefore) -> (Vec<String>, ToldBefore) {
    let (mut news, mut then) = (Vec::new(), told.clone());
    let is_stopping = state.drain == Some(DrainCause::Stopping);
    if state.has_first_verdicts && !std::mem::replace(&mut then.is_ready, true) {
        news.push(NotifyState::Ready.to_string());
    }
    if is_stopping && !std::mem::replace(&mut then.is_stopping, true) {
        news.push(NotifyState::Stopping.to_string());
    }
    let is_due = told.extended_at.is_none_or(|at| at.elapsed() >= EXTEND_EVERY);
    if is_due && (is_stopping || !then.is_ready) {
        then.extended_at = Some(Instant::now());
        news.push(extension());
    }
    if told.status != sentence {
        sentence.clone_into(&mut then.status);
        news.push(NotifyState::Status(sentence).to_string());
    }
    (news, then)
}

/// Returns the request for more time.
fn extension() -> String {
    let microseconds = u32::try_from(EXTENSION.as_micros()).unwrap_or(u32::MAX);
    NotifyState::ExtendTimeoutUsec(microseconds).to_string()
}

/// Tells six times in the time of a watchdog, each time after an answer. It waits a sixth of that time for one, and asks again.
async fn feed(watchdog: Duration, ask: impl AsyncFn(), tell: impl AsyncFn()) -> Infallible {
    // Often enough that a slow answer, or one that fails, is not the last before the deadline.
    let every = watchdog / 6;
    loop {
        if timeout(every, ask()).await.is_ok() {
            tell().await;
            sleep(every).await;
        } else {
            let seconds = every.as_secs_f64();
            tracing::error!(
                seconds,
                "the store's writer does not answer, so the service manager's watchdog is not told that the host is alive"
            );
        }
    }
}

impl HostState {
    fn of(host: &HostContext, ends_at: Option<Instant>) -> Self {
        let drain = host.halts.drain_cause(host.stop_receiving.is_cancelled());
        let is_over = host.stop_working.is_cancelled();
        let held = host.metrics.held_leases().by_handler();
        let held: Vec<(String, u64)> = held
            .into_iter()
            .map(|(handler, messages)| (printable(&handler, MAX_NAME_BYTES), messages))
            .collect();
        Self {
            drain,
            grace: ends_at
                .filter(|_| !is_over)
                .map(|at| at.saturating_duration_since(Instant::now())),
            in_flight: in_flight(held.iter().map(|(handler, messages)| (handler.as_str(), *messages))),
            has_first_verdicts: host.statuses.has_first_verdicts(),
            is_ready: host.statuses.readiness(drain).is_ok(),
            serving: host.statuses.serving_count(),
        }
    }

    fn sentence(&self) -> String {
        let in_flight = &self.in_flight;
        match (self.drain, self.grace) {
            (Some(DrainCause::Stopping), Some(left)) => {
                format!(
                    "stopping: {in_flight}, {} s of the grace period are left",
                    left.as_secs()
                )
            }
            (Some(DrainCause::Stopping), None) => format!("stopping: {in_flight}, and no grace period is left"),
            (Some(DrainCause::Ordered { .. }), _) => format!("draining by an operator's order: {in_flight}"),
            (None, _) if !self.has_first_verdicts => "starting: handlers are being compiled".to_owned(),
            (None, _) if !self.is_ready => "not ready: `sandhog health` says why".to_owned(),
            (None, _) if self.serving == 1 => "ready: 1 handler serves".to_owned(),
            (None, _) => format!("ready: {} handlers serve", self.serving),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn running() -> HostState {
        HostState {
            drain: None,
            grace: None,
            in_flight: "3 in flight (orders 3)".to_owned(),
            has_first_verdicts: true,
            is_ready: true,
            serving: 2,
        }
    }

    #[track_caller]
    fn check(state: &HostState, expected: &str) {
        assert_eq!(state.sentence(), expected);
    }

    #[test]
    fn a_host_says_in_one_sentence_how_it_is() {
        check(&running(), "ready: 2 handlers serve");
        let unready = HostState {
            is_ready: false,
            ..running()
        };
        check(&unready, "not ready: `sandhog health` says why");
        let starting = HostState {
            has_first_verdicts: false,
            ..unready
        };
        check(&starting, "starting: handlers are being compiled");
        let draining = HostState {
            drain: Some(DrainCause::Ordered { since_ms: 1 }),
            ..running()
        };
        check(&draining, "draining by an operator's order: 3 in flight (orders 3)");
        let stopping = HostState {
            drain: Some(DrainCause::Stopping),
            grace: Some(Duration::from_millis(27_900)),
            ..running()
        };
        check(
            &stopping,
            "stopping: 3 in flight (orders 3), 27 s of the grace period are left",
        );
        let cut_short = HostState {
            grace: None,
            ..stopping
        };
        check(
            &cut_short,
            "stopping: 3 in flight (orders 3), and no grace period is left",
        );
        let given_back = HostState {
            in_flight: in_flight([]),
            ..cut_short
        };
        check(
            &given_back,
            "stopping: nothing is in flight, and no grace period is left",
        );
    }

    fn told(state: &HostState, before: &mut ToldBefore) -> String {
        let (news, then) = news(state, &state.sentence(), before);
        *before = then;
        news.join("\n")
    }

    #[tokio::test(start_paused = true)]
    async fn a_manager_is_told_once_that_the_host_has_started() {
        let mut before = ToldBefore::default();
        let starting = HostState {
            has_first_verdicts: false,
            ..running()
        };
        assert_eq!(
            told(&starting, &mut before),
            "EXTEND_TIMEOUT_USEC=15000000\nSTATUS=starting: handlers are being compiled"
        );
        assert_eq!(told(&starting, &mut before), "");
        tokio::time::advance(EXTEND_EVERY).await;
        assert_eq!(told(&starting, &mut before), "EXTEND_TIMEOUT_USEC=15000000");
        assert_eq!(told(&running(), &mut before), "READY=1\nSTATUS=ready: 2 handlers serve");
        assert_eq!(told(&running(), &mut before), "");
    }

    #[tokio::test(start_paused = true)]
    async fn a_watchdog_hears_nothing_of_a_store_that_does_not_answer() {
        let watchdog = Duration::from_mins(1);
        let told = AtomicUsize::new(0);
        let tell = async || {
            told.fetch_add(1, Ordering::Relaxed);
        };
        let fed = timeout(Duration::from_secs(95), feed(watchdog, async || {}, &tell)).await;
        assert_eq!((fed.is_err(), told.swap(0, Ordering::Relaxed)), (true, 10));
        let silent = async || std::future::pending().await;
        let fed = timeout(Duration::from_secs(100), feed(watchdog, silent, &tell)).await;
        assert_eq!((fed.is_err(), told.into_inner()), (true, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_watchdog_hears_of_a_store_that_answers_again_shortly_before_its_time_is_up() {
        let watchdog = Duration::from_mins(1);
        let began = Instant::now();
        let answers_at = began + Duration::from_secs(49);
        let told_at = AtomicUsize::new(0);
        let tell = async || {
            let seconds = usize::try_from(began.elapsed().as_secs()).unwrap();
            told_at.store(seconds, Ordering::Relaxed);
        };
        let fed = timeout(
            watchdog,
            feed(watchdog, async || tokio::time::sleep_until(answers_at).await, &tell),
        )
        .await;
        assert_eq!((fed.is_err(), told_at.into_inner()), (true, 59));
    }

    #[tokio::test(start_paused = true)]
    async fn a_manager_is_asked_to_wait_for_a_host_that_stops() {
        let mut before = ToldBefore::default();
        told(&running(), &mut before);
        let stopping = HostState {
            drain: Some(DrainCause::Stopping),
            grace: Some(Duration::from_secs(30)),
            ..running()
        };
        assert_eq!(
            told(&stopping, &mut before),
            "STOPPING=1\nEXTEND_TIMEOUT_USEC=15000000\nSTATUS=stopping: 3 in flight (orders 3), 30 s of the grace period are left"
        );
        tokio::time::advance(EXTEND_EVERY).await;
        assert_eq!(told(&stopping, &mut before), "EXTEND_TIMEOUT_USEC=15000000");
    }
}
