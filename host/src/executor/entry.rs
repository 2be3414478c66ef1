//! The flavours: how messages go into a component, and how their verdicts come out. One file for each contract.

use wasmtime::{
    Store,
    component::{ComponentExportIndex, Instance, InstancePre},
};

use super::{
    CallMessage, Flavour, Verdict,
    bindings::{
        batch_worker::exports::sandhog::worker::batch_handler,
        wasi_messaging::exports::wasi::messaging::incoming_handler,
        wasmcloud_messaging::exports::wasmcloud::messaging::handler as wasmcloud_handler,
        worker::exports::sandhog::worker::handler,
    },
    instance::GuestState,
};

pub(super) mod command;
mod spin_sqs;
mod wasi_messaging;
mod wasmcloud_messaging;
mod worker;

/// Where a call goes in; found once, so that a call looks up nothing.
pub(super) enum Entry {
    Handler(handler::GuestIndices),
    BatchHandler(batch_handler::GuestIndices),
    Command(command::GuestIndices),
    WasiMessaging(incoming_handler::GuestIndices),
    WasmcloudMessaging(wasmcloud_handler::GuestIndices),
    SpinSqs(ComponentExportIndex),
}

impl Entry {
    pub(super) fn new(flavour: Flavour, pre: &InstancePre<GuestState>) -> wasmtime::Result<Self> {
        Ok(match flavour {
            Flavour::Handler => Self::Handler(handler::GuestIndices::new(pre)?),
            Flavour::BatchHandler => Self::BatchHandler(batch_handler::GuestIndices::new(pre)?),
            Flavour::Command => Self::Command(command::GuestIndices::new(pre)?),
            Flavour::WasiMessaging => Self::WasiMessaging(incoming_handler::GuestIndices::new(pre)?),
            Flavour::WasmcloudMessaging => Self::WasmcloudMessaging(wasmcloud_handler::GuestIndices::new(pre)?),
            Flavour::SpinSqs => Self::SpinSqs(spin_sqs::export(pre.component())?),
        })
    }

    /// Whether the exports have the types of the contract.
    pub(super) fn check(&self, store: &mut Store<GuestState>, instance: &Instance) -> wasmtime::Result<()> {
        match self {
            Self::Handler(indices) => indices.load(store, instance).map(drop),
            Self::BatchHandler(indices) => indices.load(store, instance).map(drop),
            Self::Command(indices) => indices.load(store, instance).map(drop),
            Self::WasiMessaging(indices) => indices.load(store, instance).map(drop),
            Self::WasmcloudMessaging(indices) => indices.load(store, instance).map(drop),
            Self::SpinSqs(export) => spin_sqs::load(*export, store, instance).map(drop),
        }
    }

    /// Calls the guest: a verdict for each message, or for a batch as many as the guest returned.
    ///
    /// # Errors
    ///
    /// The guest trapped, or ran into a limit.
    pub(super) async fn call(
        &self,
        store: &mut Store<GuestState>,
        instance: &Instance,
        mut messages: Vec<CallMessage>,
    ) -> wasmtime::Result<Vec<Verdict>> {
        if let Self::BatchHandler(indices) = self {
            return worker::handle_batch(indices, store, instance, messages).await;
        }
        let Some(message) = messages.pop() else {
            return Ok(Vec::new());
        };
        let verdict = match self {
            Self::Handler(indices) => worker::handle(indices, store, instance, message).await,
            Self::Command(indices) => command::run(indices, store, instance).await,
            Self::WasiMessaging(indices) => wasi_messaging::handle(indices, store, instance, message).await,
            Self::WasmcloudMessaging(indices) => wasmcloud_messaging::handle(indices, store, instance, message).await,
            Self::SpinSqs(export) => spin_sqs::handle(*export, store, instance, message).await,
            // Returned above.
            Self::BatchHandler(_) => return Ok(Vec::new()),
        };
        Ok(vec![verdict?])
    }
}
