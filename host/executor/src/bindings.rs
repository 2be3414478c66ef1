//! The code that `bindgen!` makes of the WIT files, and nothing else.

pub(crate) mod worker {
    wasmtime::component::bindgen!({
        path: "wit/worker",
        world: "worker",
        exports: { default: async },
    });
}

pub(crate) mod batch_worker {
    wasmtime::component::bindgen!({
        path: "wit/worker",
        world: "batch-worker",
        exports: { default: async },
        with: {
            "sandhog:worker/crash": crate::bindings::worker::sandhog::worker::crash,
            "sandhog:worker/types": crate::bindings::worker::sandhog::worker::types,
            "sandhog:worker/sender": crate::bindings::worker::sandhog::worker::sender,
        },
    });
}

pub(crate) mod keyvalue {
    wasmtime::component::bindgen!({
        path: "wit/keyvalue",
        world: "imports",
        imports: { default: async | trappable },
        with: {
            "wasi:keyvalue/store.bucket": crate::import::keyvalue::handles::Bucket,
        },
        trappable_error_type: {
            "wasi:keyvalue/store.error" => crate::import::keyvalue::refusal::Refusal,
        },
    });
}

pub(crate) mod keyvalue_draft2 {
    wasmtime::component::bindgen!({
        path: "wit/keyvalue-draft2",
        world: "imports",
        imports: { default: async | trappable },
        with: {
            "wasi:keyvalue/store.bucket": crate::import::keyvalue::handles::Bucket,
            "wasi:keyvalue/atomics.cas": crate::import::keyvalue::handles::Cas,
        },
        trappable_error_type: {
            "wasi:keyvalue/store.error" => crate::import::keyvalue::refusal::Refusal,
        },
    });
}

pub(crate) mod wasi_messaging {
    wasmtime::component::bindgen!({
        path: "wit/wasi-messaging",
        world: "messaging",
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "wasi:messaging/types.message": crate::import::messaging::resources::WasiMessage,
            "wasi:messaging/types.client": crate::import::messaging::resources::Client,
            "wasi:messaging/request-reply.request-options": crate::import::messaging::resources::RequestOptions,
        },
    });
}

pub(crate) mod wasmcloud_messaging {
    wasmtime::component::bindgen!({
        path: "wit/wasmcloud-messaging",
        world: "messaging",
        exports: { default: async },
    });
}
