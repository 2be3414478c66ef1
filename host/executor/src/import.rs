//! The imports of a guest: WASI with nothing behind it, and the interfaces that its manifest grants.
//!
//! Toolchains import much of WASI whether a guest uses it or not. Those interfaces are always linked, and reach nothing
//! without a grant. An interface that stands for a grant of its own is linked only with that grant, so that a component that
//! imports more is refused when it is loaded.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use wasmtime::{
    Engine,
    component::{HasSelf, Linker},
};
use wasmtime_wasi_config::WasiConfig;

use super::{ImportGrant, bindings, guest_state::GuestState};
use crate::policy::Grants;

pub(crate) mod crash;
pub(crate) mod files;
pub(crate) mod http;
pub(crate) mod keyvalue;
pub(crate) mod logging;
pub(crate) mod messaging;
pub(crate) mod sender;

/// The linkers of an engine, one for each set of grants, made when a component first needs it.
pub(crate) struct Linkers {
    engine: Engine,
    by_grants: Mutex<HashMap<Vec<ImportGrant>, Arc<Linker<GuestState>>>>,
}

impl Linkers {
    pub(crate) fn new(engine: &Engine) -> Self {
        Self {
            engine: engine.clone(),
            by_grants: Mutex::default(),
        }
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Returns the linker with every import that these grants allow. Each store decides what an import reaches.
    ///
    /// # Errors
    ///
    /// The engine refuses a definition.
    pub(crate) fn with(&self, grants: &Grants) -> wasmtime::Result<Arc<Linker<GuestState>>> {
        let granted: Vec<ImportGrant> = ImportGrant::ALL
            .into_iter()
            .filter(|grant| grant.is_in(grants))
            .collect();
        let mut by_grants = self.by_grants.lock();
        if let Some(linker) = by_grants.get(&granted) {
            return Ok(Arc::clone(linker));
        }
        let linker = Arc::new(linker(&self.engine, &granted)?);
        by_grants.insert(granted, Arc::clone(&linker));
        Ok(linker)
    }
}

fn linker(engine: &Engine, granted: &[ImportGrant]) -> wasmtime::Result<Linker<GuestState>> {
    let mut linker: Linker<GuestState> = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    files::add_to_linker(&mut linker)?;
    crash::add_to_linker(&mut linker, |state| &mut state.crash)?;
    logging::add_to_linker(&mut linker, GuestState::logging_view)?;
    messaging::add_types_to_linker(&mut linker, GuestState::messaging_view)?;
    for grant in granted {
        match grant {
            ImportGrant::Send => {
                bindings::worker::sandhog::worker::sender::add_to_linker::<_, HasSelf<sender::CollectedSends>>(
                    &mut linker,
                    |state| &mut state.sends,
                )?;
                messaging::add_senders_to_linker(&mut linker, GuestState::messaging_view, |state| &mut state.sends)?;
            }
            ImportGrant::Config => {
                wasmtime_wasi_config::add_to_linker(&mut linker, |state| WasiConfig::from(&*state.config))?;
            }
            ImportGrant::KeyValue => keyvalue::add_to_linker(&mut linker, GuestState::keyvalue_view)?,
            ImportGrant::Http => http::add_to_linker(&mut linker, |state| state.http.texts())?,
        }
    }
    Ok(linker)
}
