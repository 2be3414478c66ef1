//! The flavours: how a message goes into a component, and how its verdict comes out. One file for each contract.

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
    guest_state::GuestState,
};

pub(crate) mod command;
mod spin_sqs;
mod wasi_messaging;
mod wasmcloud_messaging;
mod worker;

/// The export that a call goes to. It is found once for a component, so that a call looks up nothing.
pub(crate) enum Entry {
    Handler(handler::GuestIndices),
    AsyncHandler(ComponentExportIndex),
    BatchHandler(batch_handler::GuestIndices),
    Command(command::GuestIndices),
    WasiMessaging(incoming_handler::GuestIndices),
    WasmcloudMessaging(wasmcloud_handler::GuestIndices),
    SpinSqs(ComponentExportIndex),
}

impl Entry {
    pub(crate) fn new(flavour: Flavour, pre: &InstancePre<GuestState>) -> wasmtime::Result<Self> {
        Ok(match flavour {
            Flavour::Handler => Self::Handler(handler::GuestIndices::new(pre)?),
            Flavour::AsyncHandler => Self::AsyncHandler(worker::async_export(pre.component())?),
            Flavour::BatchHandler => Self::BatchHandler(batch_handler::GuestIndices::new(pre)?),
            Flavour::Command => Self::Command(command::GuestIndices::new(pre)?),
            Flavour::WasiMessaging => Self::WasiMessaging(incoming_handler::GuestIndices::new(pre)?),
            Flavour::WasmcloudMessaging => Self::WasmcloudMessaging(wasmcloud_handler::GuestIndices::new(pre)?),
            Flavour::SpinSqs => Self::SpinSqs(spin_sqs::export(pre.component())?),
        })
    }

    /// Checks that the exports have the types of the contract.
    ///
    /// # Errors
    ///
    /// They have other types.
    pub(crate) fn check(&self, store: &mut Store<GuestState>, instance: &Instance) -> wasmtime::Result<()> {
        match self {
            Self::Handler(indices) => indices.load(store, instance).map(drop),
            Self::AsyncHandler(export) => worker::load_async(*export, store, instance).map(drop),
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
    pub(crate) async fn call(
        &self,
        store: &mut Store<GuestState>,
        instance: &Instance,
        messages: Vec<CallMessage>,
    ) -> wasmtime::Result<Vec<Verdict>> {
        let verdict = match self {
            Self::BatchHandler(indices) => {
                return worker::handle_batch(indices, store, instance, messages).await;
            }
            // The console of the store has the message already.
            Self::Command(indices) => command::run(indices, store, instance).await,
            Self::Handler(indices) => worker::handle(indices, store, instance, only(messages)).await,
            Self::AsyncHandler(export) => worker::handle_async(*export, store, instance, only(messages)).await,
            Self::WasiMessaging(indices) => wasi_messaging::handle(indices, store, instance, only(messages)).await,
            Self::WasmcloudMessaging(indices) => {
                wasmcloud_messaging::handle(indices, store, instance, only(messages)).await
            }
            Self::SpinSqs(export) => spin_sqs::handle(*export, store, instance, only(messages)).await,
        };
        Ok(vec![verdict?])
    }
}

/// Returns the message of a call that is no batch.
fn only(mut messages: Vec<CallMessage>) -> CallMessage {
    assert_eq!(messages.len(), 1, "a call of a flavour without batches has one message");
    messages.remove(0)
}
