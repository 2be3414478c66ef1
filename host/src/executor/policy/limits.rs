//! The numbers that bound one attempt, and their defaults.
//!
//! Invariant: no other module repeats a default.

use std::time::Duration;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// The most memory that a manifest can give a component, which is what the host reserves address space for.
pub const MAX_MEMORY_BYTES: u64 = 512 * MIB;

/// What one attempt may use up. Passing a limit fails the attempt, except for logs, which are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of all instances of the component together, in bytes. Key `memory`: 1 MiB to 512 MiB, default 128 MiB.
    pub memory: u64,
    /// Elements of all tables together. Key `table-elements`: 1 to 1,000,000, default 20,000.
    pub table_elements: u64,
    /// Core instances that one component consists of. Key `instances`: 1 to 1000, default 64.
    pub instances: u64,
    /// Resources that the guest holds at a time. Key `handles`: 16 to 65,536, default 2048.
    pub handles: u64,
    /// Files, directories and streams that the guest opens and has open at a time. Key `open-files`: 1 to 4096, default 64.
    pub open_files: u64,
    /// Bytes copied by one call of the host. Key `host-call-bytes`: 64 KiB to 512 MiB, default 16 MiB.
    pub host_call_bytes: u64,
    /// Bytes of log output. Key `log-bytes`: 0 to 64 MiB, default 256 KiB.
    pub log_bytes: u64,
    /// Bytes of one line of log output. Key `log-line-bytes`: 80 B to 1 MiB, default 8 KiB.
    pub log_line_bytes: u64,
    /// Random bytes drawn. Key `random-bytes`: 0 to 512 MiB, default 1 MiB.
    pub random_bytes: u64,
    /// Messages sent. Key `sends`: 0 to 100,000, default 1000.
    pub sends: u64,
    /// Bytes of all bodies and attributes sent. Key `send-bytes`: 0 to 512 MiB, default 16 MiB.
    pub send_bytes: u64,
    /// Processor time. Key `cpu-time`: 1 ms to 12 h, default 30 s.
    pub cpu_time: Duration,
    /// HTTP requests made. Key `http-requests`: 0 to 100,000, default 256.
    pub http_requests: u64,
    /// HTTP requests under way at a time. Key `http-concurrent`: 1 to 1024, default 8.
    pub http_concurrent: u64,
    /// Bytes of all bodies of HTTP requests. Key `http-request-bytes`: 0 to 4 GiB, default 32 MiB.
    pub http_request_bytes: u64,
    /// Bytes of all bodies of HTTP responses. Key `http-response-bytes`: 0 to 4 GiB, default 32 MiB.
    pub http_response_bytes: u64,
    /// Changes of the key-value store. Key `keyvalue-writes`: 0 to 100,000, default 1000.
    pub keyvalue_writes: u64,
    /// Bytes of keys and values of those changes. Key `keyvalue-bytes`: 0 to 512 MiB, default 16 MiB.
    pub keyvalue_bytes: u64,
    /// Keys of the key-value store that are read, and pages of its keys. Key `keyvalue-reads`: 0 to 10,000,000, default 10,000.
    pub keyvalue_reads: u64,
    /// Bytes of what those are answered with. Key `keyvalue-read-bytes`: 0 to 64 GiB, default 64 MiB.
    pub keyvalue_read_bytes: u64,
    /// Bytes that the handler's key-value store holds, of all attempts together. Key `keyvalue-total-bytes`: 0 to 64 GiB,
    /// default 64 MiB.
    pub keyvalue_total_bytes: u64,
    /// The component's file, in bytes. Key `wasm-bytes`: 1 KiB to 64 MiB, default 64 MiB.
    pub wasm_bytes: u64,
    /// Processor time of its compilation. Key `compile-time`: 1 s to 1 h, default 2 min.
    pub compile_time: Duration,
    /// Address space of its compilation, in bytes. Key `compile-memory`: 256 MiB to 64 GiB, default 2 GiB.
    pub compile_memory: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 128 * MIB,
            table_elements: 20_000,
            instances: 64,
            handles: 2048,
            open_files: 64,
            host_call_bytes: 16 * MIB,
            log_bytes: 256 * KIB,
            log_line_bytes: 8 * KIB,
            random_bytes: MIB,
            sends: 1000,
            send_bytes: 16 * MIB,
            cpu_time: Duration::from_secs(30),
            http_requests: 256,
            http_concurrent: 8,
            http_request_bytes: 32 * MIB,
            http_response_bytes: 32 * MIB,
            keyvalue_writes: 1000,
            keyvalue_bytes: 16 * MIB,
            keyvalue_reads: 10_000,
            keyvalue_read_bytes: 64 * MIB,
            keyvalue_total_bytes: 64 * MIB,
            wasm_bytes: 64 * MIB,
            compile_time: Duration::from_mins(2),
            compile_memory: 2 * GIB,
        }
    }
}
