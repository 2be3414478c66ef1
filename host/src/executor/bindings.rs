//! What `bindgen!` makes of `wit/`, and nothing else.

pub(crate) mod worker {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "worker",
        exports: { default: async },
    });
}

pub(crate) mod batch_worker {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "batch-worker",
        exports: { default: async },
        with: {
            "sandhog:worker/types": crate::executor::bindings::worker::sandhog::worker::types,
            "sandhog:worker/sender": crate::executor::bindings::worker::sandhog::worker::sender,
        },
    });
}

pub(crate) mod keyvalue {
    wasmtime::component::bindgen!({
        path: "wit/keyvalue",
        world: "imports",
        imports: { default: async | trappable },
        with: {
            "wasi:keyvalue/store.bucket": crate::executor::import::keyvalue::Bucket,
        },
    });
}
