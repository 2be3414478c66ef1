//! Sends the spans that wait to a collector, in batches, behind the work that they are about.
//!
//! Invariants: one request is under way at a time; a batch is repeated only where the protocol says so, with growing waits, and given up
//! after its time; a collector that can't be reached is logged once, and once more when it can be reached again.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    collector::{Collector, ExportError},
    metrics::TraceMetrics,
    otlp,
    settings::ExportSettings,
    span::SpanRecord,
};
use sandhog_queue::printable::{chain, printable};

/// The wait before the first repetition of a request, and the longest one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// The longest wait that a collector may ask for.
const LONGEST_ASKED: Duration = Duration::from_hours(1);
/// The longest time for the request under way when the host stops, and again for what waits behind it.
const FLUSH: Duration = Duration::from_secs(3);
/// The length to which the log cuts what a collector says.
const SHOWN_BYTES: usize = 200;

/// The reason that nothing can be exported.
#[derive(Debug, thiserror::Error)]
#[error("the certificates for the collector can't be read")]
pub struct ExporterFailed(#[from] io::Error);

/// Exports the spans of a tracer.
#[derive(Debug)]
pub struct TraceExporter {
    settings: ExportSettings,
    waiting: mpsc::Receiver<SpanRecord>,
    metrics: Arc<TraceMetrics>,
    /// The last request failed.
    is_failing: bool,
    /// The spans that were given up since then.
    lost: u64,
}

impl TraceExporter {
    pub(crate) fn new(
        settings: ExportSettings,
        waiting: mpsc::Receiver<SpanRecord>,
        metrics: Arc<TraceMetrics>,
    ) -> Self {
        Self {
            settings,
            waiting,
            metrics,
            is_failing: false,
            lost: 0,
        }
    }

    /// Exports until `stop`, and then what waits by then, for at most six seconds more.
    ///
    /// # Errors
    ///
    /// [`ExporterFailed`]: nothing can be exported, and nothing was.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses the spans that wait.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), ExporterFailed> {
        let settings = self.settings.clone();
        let made = tokio::task::spawn_blocking(move || Collector::new(settings)).await;
        let collector = made.map_err(io::Error::other)??;
        while let Some(batch) = self.next_batch(&stop).await {
            self.export(&collector, batch, Limits::of_batch(self.settings.batch_time, &stop))
                .await;
        }
        self.waiting.close();
        let flush_by = Instant::now() + FLUSH;
        let mut batch = Vec::new();
        while self.waiting.recv_many(&mut batch, self.settings.max_batch).await > 0 {
            self.export(&collector, std::mem::take(&mut batch), Limits::until(flush_by))
                .await;
        }
        if self.lost > 0 {
            tracing::warn!(spans = self.lost, "spans were lost: the collector did not take them");
        }
        Ok(())
    }

    /// Waits for a batch: a full one, or what has come in the time that a span may wait. `None` once the host stops.
    async fn next_batch(&mut self, stop: &CancellationToken) -> Option<Vec<SpanRecord>> {
        let first = tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            first = self.waiting.recv() => first?,
        };
        let mut batch = vec![first];
        let by = Instant::now() + self.settings.delay;
        while batch.len() < self.settings.max_batch {
            let room = self.settings.max_batch - batch.len();
            tokio::select! {
                biased;
                // What was taken is exported with the rest.
                () = stop.cancelled() => break,
                taken = self.waiting.recv_many(&mut batch, room) => {
                    if taken == 0 {
                        break;
                    }
                }
                () = sleep_until(by) => break,
            }
        }
        Some(batch)
    }

    /// Exports one batch, or gives it up.
    async fn export(&mut self, collector: &Collector, batch: Vec<SpanRecord>, mut limits: Limits) {
        let spans = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let body = Bytes::from(otlp::request(&self.settings.resource, &batch));
        drop(batch);
        let mut wait = FIRST_WAIT;
        loop {
            let left = limits.left();
            let answered = tokio::select! {
                answered = collector.send(body.clone(), left) => answered,
                () = limits.ended() => Err(ExportError::Late(left)),
            };
            let error = match answered {
                Ok(None) => return self.taken(spans),
                Ok(Some(rejection)) => {
                    let why = printable(&rejection.why, SHOWN_BYTES);
                    // It took everything, and has something to say.
                    if rejection.spans == 0 {
                        tracing::debug!(why, "the collector of spans warns");
                        return self.taken(spans);
                    }
                    self.note_failure(&format!("it did not take {} spans: {why}", rejection.spans));
                    self.give_up(rejection.spans.min(spans));
                    return self.metrics.exported(spans.saturating_sub(rejection.spans));
                }
                Err(error) => error,
            };
            self.note_failure(&chain(&error));
            let asked = match &error {
                ExportError::Busy { after, .. } => *after,
                ExportError::NoAnswer(_) | ExportError::Late(_) | ExportError::Refused(_) => None,
            };
            // Half of the wait is drawn, so that hosts that failed together do not come back together.
            let next = wait.mul_f64(0.5 + rand::random::<f64>() / 2.0);
            let next = waited(next, asked);
            wait = (wait * 2).min(LONGEST_WAIT);
            if !error.is_transient() || !limits.wait(next).await {
                return self.give_up(spans);
            }
        }
    }

    fn taken(&mut self, spans: u64) {
        self.metrics.exported(spans);
        if std::mem::take(&mut self.is_failing) {
            let lost = std::mem::take(&mut self.lost);
            tracing::info!(lost, "spans are exported again");
        }
    }

    fn give_up(&mut self, spans: u64) {
        self.metrics.failed(spans);
        self.lost = self.lost.saturating_add(spans);
    }

    /// Logs a failure, unless the last request failed too.
    fn note_failure(&mut self, error: &str) {
        let endpoint = self.settings.shown_endpoint();
        if std::mem::replace(&mut self.is_failing, true) {
            tracing::debug!(endpoint, error, "spans could not be exported");
        } else {
            tracing::warn!(
                endpoint,
                error,
                "spans could not be exported; messages are handled all the same"
            );
        }
    }
}

/// Returns the wait before the next try. A collector may ask for a longer one, up to a bound, and for none that is shorter.
fn waited(own: Duration, asked: Option<Duration>) -> Duration {
    asked.map_or(own, |asked| asked.clamp(own, LONGEST_ASKED))
}

/// The time that a batch has.
#[derive(Debug)]
struct Limits {
    by: Instant,
    /// Cancelled when the host stops, while the batch is not one of the last; then it has the time of those.
    stop: Option<CancellationToken>,
}

impl Limits {
    fn of_batch(time: Duration, stop: &CancellationToken) -> Self {
        Self {
            by: Instant::now() + time,
            stop: Some(stop.clone()),
        }
    }

    fn until(by: Instant) -> Self {
        Self { by, stop: None }
    }

    fn left(&self) -> Duration {
        self.by.saturating_duration_since(Instant::now())
    }

    /// Waits until the batch has no time left. The end of the host shortens that once.
    async fn ended(&mut self) {
        if let Some(stop) = &self.stop {
            if timeout_at(self.by, stop.cancelled()).await.is_err() {
                return;
            }
            self.stop = None;
            self.by = self.by.min(Instant::now() + FLUSH);
        }
        sleep_until(self.by).await;
    }

    /// Waits. Returns whether the batch has time for another try.
    async fn wait(&mut self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        if let Some(stop) = self.stop.take_if(|stop| stop.is_cancelled()) {
            drop(stop);
            self.by = self.by.min(Instant::now() + FLUSH);
        }
        if until >= self.by {
            return false;
        }
        let Some(stop) = &self.stop else {
            sleep_until(until).await;
            return true;
        };
        if timeout_at(until, stop.cancelled()).await.is_ok() {
            // One more try at once: this is the end.
            self.by = self.by.min(Instant::now() + FLUSH);
            self.stop = None;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_may_ask_for_a_longer_wait_and_for_no_endless_or_shorter_one() {
        let own = Duration::from_secs(2);
        for (asked, expected) in [
            (None, own),
            (Some(0), own),
            (Some(5), Duration::from_secs(5)),
            (Some(u64::MAX), LONGEST_ASKED),
        ] {
            assert_eq!(waited(own, asked.map(Duration::from_secs)), expected);
        }
    }
}
