//! The table of limits: one entry for each number that bounds an attempt.
//!
//! The fields of [`Limits`], their defaults, the keys of a manifest, the accepted ranges, the output of `sandhog check`
//! and the table in `docs/explanation/security.md` follow from this table. Invariant: a limit is written down in one entry and
//! nowhere else.

use std::{ops::RangeInclusive, time::Duration};

use sandhog_queue::message::MAX_DELAY;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);

/// The most memory that a manifest can give a component, which is what the host reserves address space for.
pub const MAX_MEMORY_BYTES: u64 = 512 * MIB;

/// One limit: its key in a manifest, and the quantity behind the key.
#[derive(Debug)]
pub struct LimitEntry {
    /// The path of the key in a manifest, such as `limits.sends`.
    pub key: &'static str,
    /// A sentence that says what the limit bounds.
    pub bounds: &'static str,
    /// The unit of the limit, its range and its place in [`Limits`].
    pub quantity: LimitQuantity,
}

/// The unit of a limit.
#[derive(Debug)]
pub enum LimitQuantity {
    /// A number of things.
    Count(LimitField<u64>),
    /// A number of bytes.
    Bytes(LimitField<u64>),
    /// A duration.
    Time(LimitField<Duration>),
}

/// The accepted values of a limit, and its place in [`Limits`].
#[derive(Debug)]
pub struct LimitField<T> {
    /// The accepted values.
    pub range: RangeInclusive<T>,
    /// The value of a manifest that does not have the key.
    pub default: T,
    /// Reads the limit.
    pub get: fn(&Limits) -> T,
    /// Replaces the limit. The caller has checked the range.
    pub set: fn(&mut Limits, T),
}

/// Expands each entry `/// sentence` + `field = "key", Unit, default, range;` to a field, its default, and a row of the table.
macro_rules! limit_table {
    (@type Count) => { u64 };
    (@type Bytes) => { u64 };
    (@type Time) => { Duration };
    ($(#[doc = $bounds:literal] $field:ident = $key:literal, $unit:ident, $default:expr, $range:expr;)+) => {
        /// The numbers that bound one attempt. An attempt that passes a limit fails, except for logs, which are cut.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct Limits {
            $(
                #[doc = $bounds]
                #[doc = concat!("Key `", $key, "`: `", stringify!($range), "`, default `", stringify!($default), "`.")]
                pub $field: limit_table!(@type $unit),
            )+
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl Limits {
            /// Every limit, in the order in which a person is shown them.
            pub const TABLE: &'static [LimitEntry] = &[$(
                LimitEntry {
                    key: $key,
                    bounds: $bounds.trim_ascii(),
                    quantity: LimitQuantity::$unit(LimitField {
                        range: $range,
                        default: $default,
                        get: |limits| limits.$field,
                        set: |limits, value| limits.$field = value,
                    }),
                },
            )+];
        }
    };
}

limit_table! {
    /// Linear memory of all instances of the component together.
    memory = "memory", Bytes, 128 * MIB, MIB..=MAX_MEMORY_BYTES;
    /// Processor time of one attempt.
    cpu_time = "limits.cpu-time", Time, Duration::from_secs(30), MILLISECOND..=MAX_DELAY;
    /// Elements of all tables together.
    table_elements = "limits.table-elements", Count, 20_000, 1..=1_000_000;
    /// Core instances, memories and tables that one component consists of.
    instances = "limits.instances", Count, 64, 1..=1000;
    /// Resources that the guest holds at a time.
    handles = "limits.handles", Count, 2048, 16..=65_536;
    /// Files, directories and streams of files that the guest opens and has open at a time.
    open_files = "limits.open-files", Count, 64, 1..=4096;
    /// Bytes that one call of the host copies.
    host_call_bytes = "limits.host-call-bytes", Bytes, 16 * MIB, 64 * KIB..=512 * MIB;
    /// Bytes of log output: standard output, standard error and `wasi:logging`.
    log_bytes = "limits.log-bytes", Bytes, 256 * KIB, 0..=64 * MIB;
    /// Bytes of one record of log output, of a line in it, and of the stack of a crash.
    log_line_bytes = "limits.log-line-bytes", Bytes, 8 * KIB, 80..=MIB;
    /// Random bytes that the guest draws.
    random_bytes = "limits.random-bytes", Bytes, MIB, 0..=512 * MIB;
    /// Messages that the guest sends.
    sends = "limits.sends", Count, 1000, 0..=100_000;
    /// Bytes of the bodies and attributes of all messages that the guest sends.
    send_bytes = "limits.send-bytes", Bytes, 16 * MIB, 0..=512 * MIB;
    /// HTTP requests that the guest makes.
    http_requests = "limits.http-requests", Count, 256, 0..=100_000;
    /// HTTP requests at a time whose answer is not read to its end.
    http_concurrent = "limits.http-concurrent", Count, 8, 1..=1024;
    /// Bytes of the bodies of all HTTP requests.
    http_request_bytes = "limits.http-request-bytes", Bytes, 32 * MIB, 0..=4 * GIB;
    /// Bytes of the bodies of all HTTP responses.
    http_response_bytes = "limits.http-response-bytes", Bytes, 32 * MIB, 0..=4 * GIB;
    /// Changes of the key-value store.
    keyvalue_writes = "limits.keyvalue-writes", Count, 1000, 0..=100_000;
    /// Bytes of the keys and values of all changes of the key-value store, and of values that are compared.
    keyvalue_bytes = "limits.keyvalue-bytes", Bytes, 16 * MIB, 0..=512 * MIB;
    /// Keys that the guest reads from the key-value store, and pages of its keys.
    keyvalue_reads = "limits.keyvalue-reads", Count, 10_000, 0..=10_000_000;
    /// Bytes of the answers to all reads of the key-value store.
    keyvalue_read_bytes = "limits.keyvalue-read-bytes", Bytes, 64 * MIB, 0..=64 * GIB;
    /// Bytes that the handler's key-value store holds, of all attempts together.
    keyvalue_total_bytes = "limits.keyvalue-total-bytes", Bytes, 64 * MIB, 0..=64 * GIB;
    /// Bytes of the component's file.
    wasm_bytes = "limits.wasm-bytes", Bytes, 64 * MIB, KIB..=64 * MIB;
    /// Processor time of the compilation.
    compile_time = "limits.compile-time", Time, Duration::from_mins(2), SECOND..=HOUR;
    /// Address space of the compilation.
    compile_memory = "limits.compile-memory", Bytes, 2 * GIB, 256 * MIB..=64 * GIB;
}
