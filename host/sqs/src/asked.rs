//! The time from which a message of SQS is hidden. SQS counts from the moment at which it hands the message out, which the
//! host does not see: some time after the request was sent, and before its answer arrived. So the host counts from the
//! request.

use std::time::Duration;

use tokio::time::Instant;

use sandhog_queue::machine_clock::asleep;

/// The margin between the host's end of the time and the server's, if that is no more than a tenth of the time.
const MARGIN: Duration = Duration::from_millis(500);

/// The moment at which a request was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) at: Instant,
    asleep: Duration,
}

impl Asked {
    pub(crate) fn now() -> Self {
        Self {
            at: Instant::now(),
            asleep: asleep(),
        }
    }

    /// Returns the time until which the messages of the answer are certainly hidden from other consumers. An `Instant`
    /// stands still while the machine sleeps, and SQS does not, so the sleep since the request is taken off.
    pub(crate) fn hidden_until(self, visibility: Duration) -> Instant {
        self.until(visibility, asleep())
    }

    fn until(self, visibility: Duration, asleep: Duration) -> Instant {
        let slept = asleep.saturating_sub(self.asleep);
        let hidden = visibility.saturating_sub(MARGIN.min(visibility / 10));
        self.at + hidden.saturating_sub(slept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VISIBILITY: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_late_leaves_less_time() {
        let asked = Asked::now();
        tokio::time::advance(Duration::from_secs(19)).await;
        let left = asked.hidden_until(VISIBILITY) - Instant::now();
        assert!(
            left > Duration::from_secs(10) && left <= Duration::from_millis(10_500),
            "{left:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_that_the_machine_slept_counts() {
        let asked = Asked::now();
        let slept = |seconds| asked.until(VISIBILITY, asked.asleep + Duration::from_secs(seconds)) - asked.at;
        assert_eq!(slept(0), Duration::from_millis(29_500));
        assert_eq!(slept(20), Duration::from_millis(9_500));
        assert_eq!(slept(3600), Duration::ZERO);
    }
}
