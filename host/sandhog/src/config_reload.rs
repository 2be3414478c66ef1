//! Reads the configuration of a running host again, and applies what can change while it runs.
//!
//! Invariant: a configuration with mistakes changes nothing. What needs a restart is named, every time, until the host is restarted
//! or the configuration is as it was. One task reloads, so a request that ends early stops no reload half way.

use std::{collections::BTreeSet, convert::Infallible, fmt, sync::Arc};

use tokio::sync::{Notify, mpsc, oneshot};

use crate::{
    config::{Config, ConfigErrors, QueueSettings},
    endpoint::NamedKeys,
    queue_set::QueueSet,
    supervision::Supervision,
};
use sandhog_queue::{QueueError, message::QueueName, printable::chain};
use sandhog_simple::settings::Settings;

/// Reads the configuration as the host's start did.
#[derive(Clone)]
pub struct ConfigReader(Arc<dyn Fn() -> Result<Config, ConfigErrors> + Send + Sync>);

impl ConfigReader {
    /// Reads with this function, on a thread that may block.
    pub fn new(read: impl Fn() -> Result<Config, ConfigErrors> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }
}

impl fmt::Debug for ConfigReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigReader").finish_non_exhaustive()
    }
}

/// What a reload has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReloadReport {
    /// The keys that have changed and are in force.
    pub changed: Vec<String>,
    /// The keys that have changed and need a restart.
    pub needs_restart: Vec<String>,
}

/// Why the configuration was not reloaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadRefused {
    /// The configuration has mistakes. Nothing has changed.
    #[error("nothing has changed, because the configuration has mistakes: {0}")]
    Mistakes(ConfigErrors),
    /// A queue could not be changed. Some of the others may be.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The host was started by a program that reads no configuration.
    #[error("this host has no configuration that could be read again")]
    NoSource,
    /// The host is stopping.
    #[error("the host is stopping, and reads its configuration no more")]
    Stopping,
}

/// How many requests may wait for a reload under way.
const MAX_WAITING: usize = 16;

/// Where the answer to a request goes.
type ReloadAnswer = oneshot::Sender<Result<ReloadReport, ReloadRefused>>;

/// Where a reload is asked for.
#[derive(Debug, Clone)]
pub struct ReloadDesk(mpsc::Sender<ReloadAnswer>);

impl ReloadDesk {
    /// Has the configuration reloaded after this call, and waits until that is done.
    ///
    /// # Errors
    ///
    /// See [`ReloadRefused`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops no reload that has begun; one that has not may come.
    pub async fn reload(&self) -> Result<ReloadReport, ReloadRefused> {
        let (answer, answered) = oneshot::channel();
        self.0.send(answer).await.map_err(|_stopped| ReloadRefused::Stopping)?;
        answered.await.map_err(|_stopped| ReloadRefused::Stopping)?
    }
}

/// Reloads the configuration.
#[derive(Debug)]
pub struct ConfigReload {
    reader: Option<ConfigReader>,
    queues: Arc<QueueSet>,
    keys: NamedKeys,
    /// What is in force.
    running: Config,
    look: Arc<Notify>,
    asked: mpsc::Receiver<ReloadAnswer>,
    supervision: Supervision,
}

/// What a new configuration changes.
#[derive(Debug, Default, PartialEq, Eq)]
struct ConfigChange {
    /// The Simple queues with other settings; `None` if the table of one is gone.
    queues: Vec<(QueueName, Option<Settings>)>,
    /// The access keys that are new, changed or gone, as keys of the configuration.
    keys: Vec<String>,
    needs_restart: Vec<String>,
}

impl ConfigReload {
    /// A reload for a host that runs with this configuration, and where others ask for it. `look` makes the host look at its plugin
    /// directory.
    pub fn new(
        reader: Option<ConfigReader>,
        running: Config,
        queues: Arc<QueueSet>,
        keys: NamedKeys,
        look: Arc<Notify>,
    ) -> (Self, ReloadDesk) {
        let (ask, asked) = mpsc::channel(MAX_WAITING);
        let reload = Self {
            reader,
            queues,
            keys,
            running,
            look,
            asked,
            supervision: Supervision::default(),
        };
        (reload, ReloadDesk(ask))
    }

    /// Tells the service manager of each reload.
    #[must_use]
    pub fn told_to(mut self, supervision: &Supervision) -> Self {
        self.supervision = supervision.clone();
        self
    }

    /// Reloads whenever `orders` is notified by a signal, or somebody asks at the desk, for as long as the future is polled.
    pub async fn follow(mut self, orders: &Notify) -> Infallible {
        loop {
            tokio::select! {
                () = orders.notified() => {
                    let done = self.reload_told().await;
                    let result = if done.is_ok() { "done" } else { "refused" };
                    let (who, action) = ("signal SIGHUP", "reload");
                    tracing::info!(target: "audit", who, peer = "-", action, what = "-", result, "audit");
                }
                Some(answer) = self.asked.recv() => {
                    let done = self.reload_told().await;
                    // Who asked may be gone.
                    drop(answer.send(done));
                }
            }
        }
    }

    async fn reload_told(&mut self) -> Result<ReloadReport, ReloadRefused> {
        self.supervision.reloading().await;
        let done = self.reload().await;
        self.supervision.reloaded().await;
        done
    }

    /// Reads the configuration again, applies what it can, and looks at the plugin directory. The log says what came of it.
    async fn reload(&mut self) -> Result<ReloadReport, ReloadRefused> {
        self.look.notify_one();
        let done = self.reload_configuration().await;
        match &done {
            Ok(ReloadReport { changed, needs_restart }) => {
                let (changed, needs_restart) = (changed.join(", "), needs_restart.join(", "));
                if needs_restart.is_empty() {
                    tracing::info!(changed, "the configuration was read again");
                } else {
                    tracing::warn!(
                        changed,
                        needs_restart,
                        "the configuration was read again; a part of it needs a restart"
                    );
                }
            }
            Err(ReloadRefused::NoSource) => {}
            Err(refused) => {
                let error = chain(refused);
                tracing::error!(error, "the configuration could not be reloaded");
            }
        }
        done
    }

    async fn reload_configuration(&mut self) -> Result<ReloadReport, ReloadRefused> {
        let reader = self.reader.clone().ok_or(ReloadRefused::NoSource)?;
        let read = tokio::task::spawn_blocking(move || (reader.0)()).await;
        let read = read
            .expect("reading the configuration does not panic")
            .map_err(ReloadRefused::Mistakes)?;
        let change = change(&self.running, &read);
        let mut report = ReloadReport {
            changed: Vec::new(),
            needs_restart: change.needs_restart,
        };
        // A key that is to be gone does not wait for a queue that can't be changed.
        if !change.keys.is_empty() {
            if read.keys.is_empty() && self.running.secret.is_none() {
                tracing::warn!(
                    "the last access key is gone, and the host has no secret: every SQS client on this machine may do everything now"
                );
            }
            self.keys.replace(read.keys.clone());
            self.running.keys = read.keys;
            report.changed.extend(change.keys);
        }
        for (name, settings) in change.queues {
            self.queues.reconfigure(&name, settings.clone()).await?;
            match settings {
                Some(settings) => drop(
                    self.running
                        .queues
                        .insert(name.clone(), QueueSettings::Simple(settings)),
                ),
                None => drop(self.running.queues.remove(&name)),
            }
            report.changed.push(format!("queues.{name}"));
        }
        Ok(report)
    }
}

/// Compares a new configuration with the one in force.
fn change(running: &Config, read: &Config) -> ConfigChange {
    let mut change = ConfigChange::default();
    let names = running.queues.keys().chain(read.queues.keys());
    let names: BTreeSet<&QueueName> = names.collect();
    for name in names {
        let (was, is) = (running.queues.get(name), read.queues.get(name));
        if was == is {
            continue;
        }
        match (was, is) {
            (None | Some(QueueSettings::Simple(_)), Some(QueueSettings::Simple(settings))) => {
                change.queues.push((name.clone(), Some(settings.clone())));
            }
            (Some(QueueSettings::Simple(_)), None) => change.queues.push((name.clone(), None)),
            (Some(QueueSettings::Sqs(_)), _) | (_, Some(QueueSettings::Sqs(_))) => {
                change.needs_restart.push(format!("queues.{name}"));
            }
            (None, None) => {}
        }
    }
    let names: BTreeSet<&String> = running.keys.keys().chain(read.keys.keys()).collect();
    let changed = names
        .into_iter()
        .filter(|name| running.keys.get(*name) != read.keys.get(*name));
    change.keys.extend(changed.map(|name| format!("keys.{name}")));
    let Config {
        plugins,
        data,
        listen,
        secret,
        dashboard,
        keys: _,
        grace_period,
        max_live_instances,
        memory_budget,
        queues: _,
        ledger,
        versions_keep,
        journal,
        // A process keeps its environment.
        traces: _,
        trace_parents,
        spy: _,
        manifest_base: _,
    } = read;
    let others = [
        ("plugins", *plugins != running.plugins),
        ("data", *data != running.data),
        ("listen", *listen != running.listen),
        ("the secret", *secret != running.secret),
        (
            "the read-only secret",
            dashboard.reader_secret != running.dashboard.reader_secret,
        ),
        ("dashboard-deploy", dashboard.deploy != running.dashboard.deploy),
        ("redact", dashboard.redaction != running.dashboard.redaction),
        ("grace-period", *grace_period != running.grace_period),
        ("max-live-instances", *max_live_instances != running.max_live_instances),
        ("memory-budget", *memory_budget != running.memory_budget),
        ("ledger", *ledger != running.ledger),
        ("versions.keep", *versions_keep != running.versions_keep),
        ("journal", *journal != running.journal),
        ("traces.parent", *trace_parents != running.trace_parents),
    ];
    let changed = others.into_iter().filter(|(_, differs)| *differs);
    change.needs_restart.extend(changed.map(|(key, _)| key.to_owned()));
    change
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path, pin::pin};

    use super::*;
    use sandhog_simple::SimpleStore;

    fn config(text: &str) -> Config {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("plugins")).unwrap();
        let mut config = Config::parse(text, "sandhog.toml", directory.path()).unwrap();
        // The same for all.
        (config.plugins, config.data) = (Path::new("plugins").to_owned(), None);
        config
    }

    #[track_caller]
    fn check(before: &str, after: &str, queues: &[(&str, bool)], needs_restart: &[&str]) {
        let change = change(&config(before), &config(after));
        let changed: Vec<(&str, bool)> = change
            .queues
            .iter()
            .map(|(name, settings)| (name.as_str(), settings.is_some()))
            .collect();
        assert_eq!(changed, queues);
        assert_eq!(change.needs_restart, needs_restart);
    }

    const REMOTE: &str = "[queues.in]\nurl = \"https://sqs.eu-west-1.amazonaws.com/1/in\"\n";

    #[test]
    fn the_settings_of_simple_queues_change_in_a_running_host() {
        check("[queues.in]\n", "[queues.in]\n", &[], &[]);
        check("[queues.in]\n", "[queues.in]\nmax-receives = 2\n", &[("in", true)], &[]);
        check("", "[queues.in]\n", &[("in", true)], &[]);
        check("[queues.in]\n", "", &[("in", false)], &[]);
    }

    #[test]
    fn what_needs_a_restart_is_named() {
        let after = "listen = \"127.0.0.1:1\"\ngrace-period = \"1s\"\n[versions]\nkeep = 3\n";
        check("", after, &[], &["listen", "grace-period", "versions.keep"]);
        check("", REMOTE, &[], &["queues.in"]);
        check(REMOTE, "[queues.in]\n", &[], &["queues.in"]);
        check(REMOTE, "", &[], &["queues.in"]);
    }

    #[tokio::test]
    async fn a_reload_goes_on_when_nobody_waits_for_it_any_more() {
        let read = config("[queues.in]\n");
        let reader = ConfigReader::new(move || Ok(read.clone()));
        let queues = Arc::new(QueueSet::new(SimpleStore::ephemeral(), BTreeMap::new(), Arc::default()));
        let (reload, desk) = ConfigReload::new(
            Some(reader),
            config(""),
            Arc::clone(&queues),
            NamedKeys::default(),
            Arc::default(),
        );
        let orders = Notify::new();
        let mut following = pin!(reload.follow(&orders));
        {
            let mut asked = pin!(desk.reload());
            assert!(futures_util::poll!(asked.as_mut()).is_pending());
            assert!(futures_util::poll!(following.as_mut()).is_pending());
        }
        // The reload that begins now comes after the one that nobody waits for.
        let report = tokio::select! {
            report = desk.reload() => report.unwrap(),
            never = following => match never {},
        };
        assert_eq!(report, ReloadReport::default());
        assert!(queues.get(&QueueName::new("in").unwrap()).is_some());
    }
}
