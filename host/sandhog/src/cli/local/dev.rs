//! `sandhog dev`: builds a project at every save, serves it in memory, and shows what became of each message.
//!
//! The host is a real one, with its queues in memory: a message that fails comes again, and other programs can send. What is shown is
//! what the executor answered that host. A build that fails leaves the version before it serving.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::sync::mpsc;

use self::{
    observed::ObservedExecutor,
    place::DevPlace,
    project::DevProject,
    screen::Screen,
    session::{DevSession, SessionParts},
};
use super::{
    super::{CommandStreams, DevArgs},
    LocalError,
};
use crate::{
    app::{App, StartError},
    config::{self, Config, ConfigOverrides, Environment},
    exit_code::ExitCode,
    signals::HostSignals,
    trial::TrialCode,
};
use sandhog_executor::{CodeTiers, Executor, LocalExecutor};

mod command_run;
mod error;
mod ignored;
mod inputs;
mod observed;
mod place;
mod project;
mod recipe;
mod screen;
mod session;
mod sources;
mod typed;

pub use error::DevError;

/// Calls of guests that were not shown yet. Guests wait while there are so many.
const MAX_UNSHOWN: usize = 64;
/// The longest wait for the host's tasks once the command ends.
const END_LIMIT: Duration = Duration::from_secs(5);

/// `sandhog dev`.
///
/// # Errors
///
/// See [`LocalError`].
pub fn dev(
    args: &DevArgs,
    environment: Environment<'_>,
    streams: &mut CommandStreams<'_>,
) -> Result<ExitCode, LocalError> {
    let project = DevProject::find(args, environment)?;
    let place = DevPlace::open(&project)?;
    let (calls, observed) = mpsc::channel(MAX_UNSHOWN);
    let executor = executor(environment)?;
    let executor: Arc<dyn Executor> = Arc::new(ObservedExecutor::new(Arc::new(executor), calls));
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("sandhog-control")
        .enable_all()
        .build()
        .map_err(StartError::from)?;
    let ended = control.block_on(async {
        let signals = HostSignals::new().map_err(StartError::from)?;
        let app = start(args, &place, executor, environment).await?;
        let host = app.controls().map_err(StartError::from)?;
        let stop = host.stop.clone();
        let mut session = DevSession::new(SessionParts {
            project,
            place,
            host,
            observed,
            screen: Screen::new(streams.output, streams.progress),
            tests: args.test,
        });
        let mut running = pin!(app.run(signals, false));
        let shown = tokio::select! {
            ended = &mut running => return Ok(ended?),
            shown = session.run() => shown,
        };
        stop.receiving.cancel();
        let code = running.await?;
        shown?;
        Ok(code)
    });
    control.shutdown_timeout(END_LIMIT);
    ended
}

/// Returns an executor that makes its code quickly: the next save is never far.
fn executor(environment: Environment<'_>) -> Result<LocalExecutor, LocalError> {
    let code = TrialCode {
        tiers: CodeTiers::Fast,
        artifacts: super::kept_artifacts(environment),
        urgent: true,
    };
    let options = code.options(environment("PATH").as_deref()).map_err(StartError::from)?;
    Ok(LocalExecutor::new(options).map_err(StartError::from)?)
}

/// Starts a host in memory. Without an address of its own it takes the usual one, or any if that is taken.
async fn start(
    args: &DevArgs,
    place: &DevPlace,
    executor: Arc<dyn Executor>,
    environment: Environment<'_>,
) -> Result<App, LocalError> {
    let config = |listen| -> Result<Config, LocalError> {
        let overrides = ConfigOverrides {
            ephemeral: true,
            listen,
            grace_period: Some(Duration::ZERO),
            manifest_base: Some(place.manifest_base().to_owned()),
            ..ConfigOverrides::default()
        };
        Ok(Config::load(Some(place.plugins()), overrides, environment)?)
    };
    let first = App::start(config(args.listen)?, Arc::clone(&executor)).await;
    match first {
        Err(StartError::Listen { .. }) if args.listen.is_none() => {
            let any = (config::DEFAULT_LISTEN.ip(), 0).into();
            Ok(App::start(config(Some(any))?, executor).await?)
        }
        started => Ok(started?),
    }
}
