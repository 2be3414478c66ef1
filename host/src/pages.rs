//! How much memory the kernel gives the process at a time.

/// Keeps the kernel from backing this process, and those that it starts, with huge pages, where it can be told so.
///
/// The allocator asks for them, and where the system gives them to everybody the memory of guests gets them too: two megabytes
/// are cleared then where a few kilobytes are touched. An idle host takes three quarters of the memory without them, one with a
/// hundred handlers half.
pub fn keep_small() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "the kernel may use huge pages: this process may take more memory");
    }
}
