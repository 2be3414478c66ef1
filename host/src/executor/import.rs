//! The list of what a guest may link: WASI with nothing behind it, and what its manifest grants.
//!
//! What the toolchains import whether it is used or not, is always linked, and reaches nothing without a grant. What stands
//! for a grant of its own is linked only with it, so that a component which wants more is refused when it is loaded.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use wasmtime::{
    Engine,
    component::{HasSelf, Linker},
};
use wasmtime_wasi_config::WasiConfig;

use super::{Grant, bindings, instance::GuestState, policy::Grants};

pub(super) mod files;
pub(super) mod http;
pub(super) mod keyvalue;
mod logging;
pub(super) mod messaging;
pub(super) mod sender;

/// The linkers, one per set of grants, made when they are first wanted.
pub(super) struct Linkers {
    engine: Engine,
    made: Mutex<HashMap<Vec<Grant>, Arc<Linker<GuestState>>>>,
}

impl Linkers {
    pub(super) fn new(engine: &Engine) -> Self {
        Self {
            engine: engine.clone(),
            made: Mutex::default(),
        }
    }

    /// The linker with every import that these grants allow. What an import reaches is decided per store.
    pub(super) fn with(&self, grants: &Grants) -> wasmtime::Result<Arc<Linker<GuestState>>> {
        let granted: Vec<Grant> = Grant::ALL.into_iter().filter(|grant| grant.is_in(grants)).collect();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(linker) = made.get(&granted) {
            return Ok(Arc::clone(linker));
        }
        let linker = Arc::new(linker(&self.engine, &granted)?);
        made.insert(granted, Arc::clone(&linker));
        Ok(linker)
    }
}

fn linker(engine: &Engine, granted: &[Grant]) -> wasmtime::Result<Linker<GuestState>> {
    let mut linker: Linker<GuestState> = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    files::add_to_linker(&mut linker)?;
    logging::add_to_linker(&mut linker)?;
    messaging::add_types_to_linker(&mut linker)?;
    for grant in granted {
        match grant {
            Grant::Send => {
                bindings::worker::sandhog::worker::sender::add_to_linker::<_, HasSelf<sender::Sends>>(
                    &mut linker,
                    |state| &mut state.sends,
                )?;
                messaging::add_senders_to_linker(&mut linker)?;
            }
            Grant::Config => {
                wasmtime_wasi_config::add_to_linker(&mut linker, |state| WasiConfig::from(&*state.config))?;
            }
            Grant::KeyValue => keyvalue::add_to_linker(&mut linker)?,
            Grant::Http => http::add_to_linker(&mut linker)?,
        }
    }
    Ok(linker)
}
