//! The most that one attempt can make the host hold, by the limits of its policy.

use super::{
    GuestPolicy,
    admission::InstanceCost,
    import::{files, http, messaging::resources::MAX_WASI_MESSAGE_BYTES},
};

/// The most bytes that the instances of one component take for their globals, functions and bookkeeping; the pool refuses
/// more. The largest program of Go, of which every function is in a table, takes a megabyte.
pub(crate) const MAX_CONTEXT_BYTES: usize = 4 * 1024 * 1024;
/// The engine's own stack of a call, of which a guest can touch a quarter.
const STACK_BYTES: u64 = 2 * 1024 * 1024;

/// The bytes that one handle or one call under way takes of the host beside what the guest put into it: its entry, what it
/// waits for, and the engine's bookkeeping.
const HANDLE_BYTES: u64 = 2 * 1024;
/// The same for a message that was sent, and for a change of the key-value store.
const ENTRY_BYTES: u64 = 512;
/// The most texts of the length of a record that are held: of both streams an unfinished line, the record before it and the
/// beginning of a dump, and the stack of a crash.
const RECORDS: u64 = 7;
/// The bytes of an element of a table: a pointer.
const TABLE_ELEMENT_BYTES: u64 = 8;

/// Returns the most that one instance under this policy takes of the host, if it takes so many slots of the pool.
pub(crate) fn instance_cost(policy: &GuestPolicy, slots: u32) -> InstanceCost {
    InstanceCost::new(memory(policy), descriptors(policy), slots)
}

/// Returns the bytes of memories, of tables, of the instances themselves, of handles and calls under way, of one call of the
/// host with the longest answer, of records of output, of buffers of files, and of what the attempt sends and writes before it ends. Bodies of HTTP
/// are streamed.
fn memory(policy: &GuestPolicy) -> u64 {
    let GuestPolicy { limits, grants, .. } = policy;
    let contexts = u64::try_from(MAX_CONTEXT_BYTES).unwrap_or(u64::MAX);
    let parts = [
        limits.memory,
        limits.table_elements.saturating_mul(TABLE_ELEMENT_BYTES),
        contexts,
        STACK_BYTES,
        limits.handles.saturating_mul(HANDLE_BYTES),
        limits.log_line_bytes.saturating_mul(RECORDS),
        limits.host_call_bytes.max(limits.random_bytes),
        MAX_WASI_MESSAGE_BYTES,
        files::worst_case(policy),
        grants
            .send
            .as_ref()
            .map_or(0, |_| entries(limits.send_bytes, limits.sends)),
        grants.http.as_ref().map_or(0, |_| http::worst_case(limits)),
        if grants.keyvalue {
            // One answer of the store is held besides. Noted values are among the bytes, and each is a handle.
            entries(limits.keyvalue_bytes, limits.keyvalue_writes).saturating_add(limits.host_call_bytes)
        } else {
            0
        },
    ];
    parts.into_iter().fold(0, u64::saturating_add)
}

fn entries(bytes: u64, count: u64) -> u64 {
    bytes.saturating_add(count.saturating_mul(ENTRY_BYTES))
}

/// Returns the number of descriptors that one attempt may have open: granted directories, files and streams, and
/// connections.
fn descriptors(policy: &GuestPolicy) -> u32 {
    let connections = policy.grants.http.as_ref().map_or(0, |_| policy.limits.http_concurrent);
    let all = files::most_open(policy).saturating_add(connections);
    u32::try_from(all).unwrap_or(u32::MAX)
}
