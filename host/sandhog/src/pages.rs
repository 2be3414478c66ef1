//! The size of the pages that the kernel gives the process.

/// Keeps the kernel from backing this process, and its children, with huge pages, where the kernel can be told so.
///
/// The allocator asks for huge pages, and a system that gives them to every process gives them to the memory of guests too: the
/// kernel then clears two megabytes where a guest touches a few kilobytes. Without huge pages an idle host takes three quarters of
/// the memory, and a host with a hundred handlers half.
pub fn keep_small() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "the kernel may use huge pages: this process may take more memory");
    }
}
