//! The contract's types and calling convention, and what the SDK uses of the host beside it, generated from `wit/` by
//! `bindings.sh`.
//!
//! Checked in, so that building a handler needs neither the generator nor the WIT files. A test says
//! when the contract has changed since.

#![expect(
    unsafe_code,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::as_conversions,
    clippy::panic,
    clippy::unwrap_used,
    clippy::use_self,
    reason = "generated code"
)]

#[rustfmt::skip]
pub mod batch_worker;
#[rustfmt::skip]
pub mod platform;
#[rustfmt::skip]
pub mod worker;

#[cfg(all(feature = "config", target_family = "wasm"))]
#[rustfmt::skip]
pub mod config;
#[cfg(all(feature = "http", target_family = "wasm"))]
#[rustfmt::skip]
pub mod http;
#[cfg(all(feature = "keyvalue", target_family = "wasm"))]
#[rustfmt::skip]
pub mod keyvalue;
