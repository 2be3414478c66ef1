//! Write sandhog queue handlers in Rust: a function, a macro, and a `Result`.
//!
//! ```
//! use sandhog_guest::{Failure, Message, Outgoing, send};
//! use serde::{Deserialize, Serialize};
//!
//! sandhog_guest::handler!(handle);
//!
//! #[derive(Deserialize)]
//! struct Order { id: String, cents: u64 }
//!
//! #[derive(Serialize)]
//! struct Invoice { order: String, due: u64 }
//!
//! fn handle(message: Message) -> Result<(), Failure> {
//!     let order: Order = message.json()?;                        // not JSON: a dead letter that says where
//!     if order.cents == 0 {
//!         return Err(Failure::reject("an order of nothing"));    // never passes: a dead letter at once
//!     }
//!     let invoice = Invoice { order: order.id, due: order.cents };
//!     send("invoices", Outgoing::json(&invoice)?)?;              // goes out only if this function succeeds
//!     Ok(())                                                     // the message is deleted
//! }
//! # let order = sandhog_guest::testing::message(r#"{"id": "A7", "cents": 1299}"#).build();
//! # assert_eq!(handle(order), Ok(()));
//! # assert_eq!(sandhog_guest::testing::sent()[0].message.body, br#"{"order":"A7","due":1299}"#);
//! ```
//!
//! # Building
//!
//! ```toml
//! [lib]
//! crate-type = ["cdylib", "rlib"]    # the component, and something for tests to link to
//! ```
//!
//! ```text
//! rustup target add wasm32-unknown-unknown
//! cargo build --release --target wasm32-unknown-unknown
//! cp target/wasm32-unknown-unknown/release/orders.wasm plugins/
//! ```
//!
//! That is the whole build: the host turns the file into a component when it loads it. Such a handler
//! has no clock, no random numbers, no standard output and no environment, and thus no way to depend on
//! them; [`log()`] writes lines. With `wasm32-wasip2` instead, it has them all; nothing else changes.
//!
//! # Reaching out
//!
//! HTTP, a key-value store and configuration are the modules `http`, `keyvalue` and `config`, each with a feature of the
//! same name and a grant in the manifest. `examples/order.rs` has all three.
//!
//! ```toml
//! [dependencies]
//! sandhog-guest = { path = "sandhog", features = ["http", "keyvalue", "config"] }
//! ```
//!
//! A panic ends the attempt, and its text and place are the reason of the failure. The stack in the log names functions if the
//! profile keeps their names: `strip = "debuginfo"`.
//!
//! # Testing
//!
//! `cargo test` runs a handler crate natively, without a host: see [`testing`].

mod attribute;
mod bindings;
#[cfg(feature = "config")]
pub mod config;
mod exchange;
mod export;
mod failure;
// On WASI 0.2 what the host hands over is allocated by the C library, and the standard library's allocator frees it there.
#[cfg(all(
    target_arch = "wasm32",
    not(target_env = "p2"),
    not(target_feature = "atomics"),
    feature = "heap"
))]
mod heap;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "keyvalue")]
pub mod keyvalue;
mod log;
mod message;
mod sender;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub use attribute::AttributeValue;
pub use failure::{Failure, OrFailure};
pub use log::{Level, log};
pub use message::Message;
pub use sender::{Outgoing, SendError, send, send_many};

/// What the macros expand to. Not for use by hand: it changes without notice.
#[doc(hidden)]
pub mod __private {
    pub use crate::bindings::worker::sandhog::worker::types;
    pub use crate::bindings::{batch_worker, worker};
    pub use crate::exchange::{handle, handle_batch};
}
