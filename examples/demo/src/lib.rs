//! Builds the example handlers, for the demo and for the tests.

pub mod guests;
pub mod toolchain;
