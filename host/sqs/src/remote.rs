//! One SQS queue as this host reaches it: the state that all of its operations share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::{
    connection::SqsConnection,
    facts::{Facts, FactsCache},
    failure::{Action, Class, EntryFailure, Failure},
    held::HeldDeliveries,
    metrics::SqsMetrics,
    settings::{Location, SqsSettings},
    wire::Wire,
};
use sandhog_queue::{
    QueueCapabilities, QueueError,
    message::{MAX_DELAY, QueueName},
};

/// The address of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// The address in the configuration.
    Configured(Location),
    /// The target of the redrive policy of another queue.
    Target {
        name: String,
        account: Option<String>,
        /// The URL that the queue has if it is in the region and account of its source.
        beside: String,
    },
}

impl Address {
    /// Returns the address of the queue that an ARN names (`arn:aws:sqs:REGION:ACCOUNT:NAME`), as seen from the queue at
    /// `source_url`.
    fn of_arn(arn: &str, source_url: &str) -> Option<Self> {
        let mut parts = arn.split(':').skip(4);
        let account = parts.next()?;
        let name = parts.next().filter(|name| !name.is_empty())?;
        let (before, _) = source_url.rsplit_once('/')?;
        Some(Self::Target {
            name: name.to_owned(),
            account: Some(account.to_owned()).filter(|account| !account.is_empty()),
            beside: format!("{before}/{name}"),
        })
    }

    /// Returns the URL, if SQS need not be asked for it.
    pub(crate) fn fixed_url(&self) -> Option<&str> {
        match self {
            Self::Configured(Location::Url(url)) => Some(url),
            Self::Configured(Location::Name(_)) | Self::Target { .. } => None,
        }
    }

    /// Returns the name and the account with which to ask for the URL.
    pub(crate) fn name_and_account(&self) -> (&str, Option<&str>) {
        match self {
            Self::Configured(location) => (location.queue(), None),
            Self::Target { name, account, .. } => (name, account.as_deref()),
        }
    }
}

/// One queue, its settings, the facts about it, and its deliveries.
#[derive(Debug)]
pub(crate) struct Remote {
    pub(crate) name: QueueName,
    pub(crate) address: Address,
    pub(crate) settings: SqsSettings,
    pub(crate) facts: FactsCache,
    pub(crate) held: HeldDeliveries,
    connection: SqsConnection,
    dead_letter: Option<Arc<Self>>,
    /// The target of the redrive policy at the last look, with its ARN.
    // Never held across an await.
    target: Mutex<Option<(String, Arc<Self>)>>,
    /// The number of queues of this host whose dead-letter queue it is.
    sources: AtomicUsize,
    /// Whether messages are received from it.
    source: AtomicBool,
}

impl Remote {
    pub(crate) fn new(
        connection: SqsConnection,
        name: QueueName,
        address: Address,
        settings: SqsSettings,
        dead_letter: Option<Arc<Self>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            address,
            settings,
            facts: FactsCache::default(),
            held: HeldDeliveries::default(),
            connection,
            dead_letter,
            target: Mutex::default(),
            sources: AtomicUsize::new(0),
            source: AtomicBool::new(false),
        })
    }

    pub(crate) fn metrics(&self) -> &SqsMetrics {
        self.connection.metrics()
    }

    /// Makes one call of the API, and reacts to its failure.
    ///
    /// # Cancel safety
    ///
    /// As the call.
    pub(crate) async fn call<T>(
        &self,
        action: Action,
        call: impl AsyncFnOnce(Wire) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let wire = self.connection.wire(action).await?;
        self.metrics().request(self.name.as_str(), action.as_str());
        let answer = call(wire).await;
        if let Err(failure) = &answer {
            self.on_failure(failure.class);
        }
        answer
    }

    /// Does what the class of a failure asks for.
    fn on_failure(&self, class: Class) {
        match class {
            Class::Throttled => self.metrics().throttled(self.name.as_str()),
            Class::Missing => self.facts.forget(),
            Class::Credentials | Class::Unknown => self.connection.credentials_were_refused(),
            Class::Denied
            | Class::NoRegion
            | Class::Handle
            | Class::PurgedLately
            | Class::Unsupported
            | Class::BadRequest
            | Class::Timeout
            | Class::Connection
            | Class::Server => {}
        }
    }

    /// Reacts to the failures of the entries of a batch.
    pub(crate) fn on_entry_failures<T>(&self, answers: &[Result<T, EntryFailure>]) {
        for failure in answers.iter().filter_map(|answer| answer.as_ref().err()) {
            self.on_failure(failure.class);
        }
    }

    /// Returns the URL of the queue, or its name while the URL is unknown.
    pub(crate) fn subject(&self) -> String {
        let learnt = || self.facts.last().map(|facts| facts.url.to_string());
        let named = || self.address.name_and_account().0.to_owned();
        self.address
            .fixed_url()
            .map(str::to_owned)
            .or_else(learnt)
            .unwrap_or_else(named)
    }

    pub(crate) fn unavailable(&self, failure: Failure) -> QueueError {
        failure.unavailable(&self.name, &self.subject())
    }

    pub(crate) fn is_fifo_by_name(&self) -> bool {
        self.address.name_and_account().0.strip_suffix(".fifo").is_some()
    }

    pub(crate) fn capabilities(&self) -> QueueCapabilities {
        let facts = self.facts.last();
        let fifo = facts
            .as_ref()
            .map_or_else(|| self.is_fifo_by_name(), |facts| facts.fifo);
        let redrive = facts.is_some_and(|facts| facts.redrive.is_some());
        let configured = self.has_configured_dead_letter();
        QueueCapabilities {
            receive_limit: super::wire::BATCH,
            calls_cost: true,
            calls_overtake: true,
            batches_settlements: true,
            has_own_clock: true,
            counts_releases: true,
            extension_shortens: true,
            longest_lease: MAX_DELAY,
            longest_retry_delay: MAX_DELAY,
            returns_groups: fifo,
            redelivers_deleted: true,
            has_dead_letter_queue: configured || redrive,
            pages_dead_letters: false,
            // SQS moves a message by its redrive policy without its failure.
            keeps_failure: false,
            carries_trace_header: true,
            messaging_system: "aws_sqs",
            max_receives: (configured && !redrive).then_some(self.settings.max_receives),
        }
    }

    pub(crate) fn has_configured_dead_letter(&self) -> bool {
        self.dead_letter.is_some()
    }

    /// Another queue names this one as its dead-letter queue.
    pub(crate) fn becomes_a_dead_letter_queue(&self) {
        self.sources.fetch_add(1, Ordering::Relaxed);
    }

    /// Messages are about to be received from the queue.
    pub(crate) fn becomes_a_source(&self) {
        if !self.source.swap(true, Ordering::Relaxed) {
            // The facts were learnt for sends, without the warnings about receives.
            self.facts.forget();
        }
    }

    pub(crate) fn is_a_source(&self) -> bool {
        self.source.load(Ordering::Relaxed)
    }

    pub(crate) fn is_a_dead_letter_queue(&self) -> bool {
        self.sources.load(Ordering::Relaxed) > 0
    }

    /// Whether several queues of this host put their dead letters here.
    pub(crate) fn is_shared(&self) -> bool {
        self.sources.load(Ordering::Relaxed) > 1
    }

    /// Returns the queue that takes the dead letters: the configured one, or else the target of the redrive policy.
    pub(crate) fn dead_letter_target(&self, facts: &Facts) -> Option<Arc<Self>> {
        if let Some(configured) = &self.dead_letter {
            return Some(Arc::clone(configured));
        }
        let arn = &facts.redrive.as_ref()?.target_arn;
        let mut target = self.target.lock();
        if let Some((_, known)) = target.as_ref().filter(|(known, _)| known == arn) {
            return Some(Arc::clone(known));
        }
        let address = Address::of_arn(arn, &facts.url)?;
        let name = QueueName::new(address.name_and_account().0).ok()?;
        let settings = SqsSettings {
            location: Location::Name(name.to_string()),
            visibility_timeout: None,
            dead_letter: None,
            ..self.settings.clone()
        };
        let found = Self::new(self.connection.clone(), name, address, settings, None);
        found.becomes_a_dead_letter_queue();
        *target = Some((arn.clone(), Arc::clone(&found)));
        Some(found)
    }

    /// Returns the time that a call may take that ends or extends a delivery: so short that the call can be repeated before
    /// the delivery is over.
    pub(crate) fn call_timeout(&self, share: u32) -> Duration {
        const SHORTEST: Duration = Duration::from_millis(250);
        const LONGEST: Duration = Duration::from_secs(5);
        (self.visibility_timeout() / share).clamp(SHORTEST, LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_of_a_redrive_policy_lies_beside_its_source() {
        let address = Address::of_arn("arn:aws:sqs:eu-west-1:123:dead.fifo", "https://h/123/q.fifo").unwrap();
        assert_eq!(
            address,
            Address::Target {
                name: "dead.fifo".to_owned(),
                account: Some("123".to_owned()),
                beside: "https://h/123/dead.fifo".to_owned(),
            }
        );
        assert_eq!(Address::of_arn("arn:aws:sqs:eu-west-1", "https://h/123/q"), None);
    }
}
