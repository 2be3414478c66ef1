//! What a bare loop over the engine needs besides the engine: the contract's bindings, a host that takes sends and forgets them,
//! and a file as the component that the real host makes of it.

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmtime::component::{HasSelf, Linker};

use self::worker::sandhog::worker::{
    crash,
    sender::{self, Outgoing, SendError},
    types,
};
use crate::repository;

pub mod worker {
    wasmtime::component::bindgen!({ path: "../wit", world: "worker", exports: { default: async } });
}

/// Takes what a guest sends, and forgets it.
#[derive(Debug)]
pub struct Forgetful;

impl types::Host for Forgetful {}

impl crash::Host for Forgetful {
    fn report(&mut self, _: String, _: String) {}
}

impl sender::Host for Forgetful {
    fn send(&mut self, _: String, _: Outgoing) -> Result<(), SendError> {
        Ok(())
    }

    fn send_many(&mut self, _: String, _: Vec<Outgoing>) -> Result<(), SendError> {
        Ok(())
    }
}

/// Links the contract, for stores that have a [`Forgetful`] there.
pub fn link<T: Send + 'static>(linker: &mut Linker<T>, forgetful: fn(&mut T) -> &mut Forgetful) {
    worker::Worker::add_to_linker::<_, HasSelf<Forgetful>>(linker, forgetful).unwrap();
}

/// A message with this body and nothing else.
pub fn message(body: &[u8]) -> types::Message {
    types::Message {
        id: "01920000-0000-7000-8000-000000000000".to_owned(),
        body: body.to_vec(),
        attributes: Vec::new(),
        queue: "in".to_owned(),
        receive_count: 1,
        sent_at_ms: 0,
        group_id: None,
    }
}

/// A file as the component that the host makes of it.
pub fn component(wasm: &[u8]) -> Vec<u8> {
    // The seventh byte tells components from core modules.
    if wasm.get(6) == Some(&1) {
        return wasm.to_vec();
    }
    let mut module = wasm.to_vec();
    let described = b"component-type";
    if !wasm.windows(described.len()).any(|bytes| bytes == described) {
        let mut resolve = wit_parser::Resolve::default();
        for directory in ["wit", "host/executor/wit/keyvalue"] {
            resolve.push_dir(repository().join(directory)).unwrap();
        }
        let (package, _) = resolve
            .push_dir(repository().join("host/executor/wit/core-module"))
            .unwrap();
        let world = resolve.select_world(&[package], Some("handler")).unwrap();
        let encoding = wit_component::StringEncoding::UTF8;
        wit_component::embed_component_metadata(&mut module, &resolve, world, encoding).unwrap();
    }
    wit_component::ComponentEncoder::default()
        .module(&module)
        .unwrap()
        .adapter(
            WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
            WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
        )
        .unwrap()
        .encode()
        .unwrap()
}
