//! The real host, but for one thing: a message whose body starts with `abort` takes the whole process down in the
//! middle of its attempt, as a bug in the engine would.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use sandhog::config::{Config, ConfigOverrides};
use sandhog_executor::{
    CallReport, Component, EngineOptions, Executor, GuestCall, GuestPolicy, LoadError, LocalExecutor,
};

#[derive(Debug)]
struct Aborting(LocalExecutor);

#[async_trait]
impl Executor for Aborting {
    async fn load(&self, file: PathBuf, wasm: Bytes, policy: Arc<GuestPolicy>) -> Result<Component, LoadError> {
        self.0.load(file, wasm, policy).await
    }

    async fn relink(
        &self,
        file: PathBuf,
        component: &Component,
        policy: Arc<GuestPolicy>,
    ) -> Result<Component, LoadError> {
        self.0.relink(file, component, policy).await
    }

    async fn run(&self, component: &Component, call: GuestCall) -> CallReport {
        if call
            .messages
            .iter()
            .any(|message| message.message.body.starts_with(b"abort"))
        {
            std::process::abort();
        }
        self.0.run(component, call).await
    }

    fn most_at_once(&self, component: &Component, policy: &GuestPolicy) -> usize {
        self.0.most_at_once(component, policy)
    }

    fn idle_instances(&self) -> usize {
        self.0.idle_instances()
    }

    fn live_instances(&self) -> usize {
        self.0.live_instances()
    }
}

/// Takes the arguments that the harness gives to the real binary: `run SOURCE --listen A --log-format json --data D`.
fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        arguments
            .iter()
            .skip_while(|argument| *argument != name)
            .nth(1)
            .cloned()
    };
    let _log = sandhog::telemetry::init(sandhog::telemetry::LogFormat::Json, None, false)?;
    let overrides = ConfigOverrides {
        data: value("--data").map(PathBuf::from),
        listen: value("--listen").and_then(|listen| listen.parse().ok()),
        ..ConfigOverrides::default()
    };
    let source = arguments.get(2).map(PathBuf::from);
    let config = Config::load(source.as_deref(), overrides, &|_| None)?;
    let executor = Arc::new(Aborting(LocalExecutor::new(EngineOptions::default())?));
    Ok(sandhog::app::run_with(config, false, executor)?.into())
}
