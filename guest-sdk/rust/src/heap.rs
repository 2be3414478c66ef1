//! The allocator of a handler: the standard library's, with its first megabyte in the module.
//!
//! An instance often lives for one message only, and memory that it grows costs the host system calls that interrupt every
//! core, once to make it and once to take it back. Memory that it has from the start costs nothing until it is touched. The
//! allocator of the standard library grows its memory at the first allocation; this is the same one on other memory.

#![expect(unsafe_code, reason = "an allocator hands out memory as no safe code can")]

use core::{
    alloc::{GlobalAlloc, Layout},
    arch::wasm32::memory_grow,
    cell::UnsafeCell,
    ptr,
    sync::atomic::{AtomicBool, Ordering},
};

use dlmalloc::{Allocator, Dlmalloc};

/// How much there is from the start, in bytes.
const FIRST: usize = 1 << 20;
/// What memory grows by, in bytes.
const PAGE: usize = 1 << 16;

#[global_allocator]
static HEAP: Heap = Heap(UnsafeCell::new(Dlmalloc::new_with_allocator(Memory)));

static ARENA: Arena = Arena(UnsafeCell::new([0; FIRST]));
static ARENA_IS_TAKEN: AtomicBool = AtomicBool::new(false);

#[repr(align(16))]
struct Arena(UnsafeCell<[u8; FIRST]>);

// SAFETY: nobody but the allocator touches it, and that has one thread.
unsafe impl Sync for Arena {}

struct Heap(UnsafeCell<Dlmalloc<Memory>>);

// SAFETY: this module is not compiled for targets with threads.
unsafe impl Sync for Heap {}

// SAFETY: each call is passed on, with what its caller promises; none is made during another one.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { (*self.0.get()).malloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { (*self.0.get()).free(memory, layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { (*self.0.get()).calloc(layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        unsafe { (*self.0.get()).realloc(memory, layout.size(), layout.align(), size) }
    }
}

/// Where the allocator has its memory from.
struct Memory;

// SAFETY: what is handed out is zero and belongs to nobody else: the arena, once, and pages that were just grown.
unsafe impl Allocator for Memory {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        if size <= FIRST && !ARENA_IS_TAKEN.swap(true, Ordering::Relaxed) {
            return (ARENA.0.get().cast(), FIRST, 0);
        }
        let pages = size.div_ceil(PAGE);
        let start = memory_grow::<0>(pages);
        if start == usize::MAX {
            return (ptr::null_mut(), 0, 0);
        }
        let (start, grown) = (start * PAGE, pages * PAGE);
        // No object may end where addresses wrap around.
        let usable = if start.wrapping_add(grown) == 0 {
            grown - 16
        } else {
            grown
        };
        (ptr::without_provenance_mut(start), usable, 0)
    }

    fn remap(&self, _memory: *mut u8, _old: usize, _new: usize, _can_move: bool) -> *mut u8 {
        ptr::null_mut()
    }

    fn free_part(&self, _memory: *mut u8, _old: usize, _new: usize) -> bool {
        false
    }

    fn free(&self, _memory: *mut u8, _size: usize) -> bool {
        false
    }

    fn can_release_part(&self, _flags: u32) -> bool {
        false
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        PAGE
    }
}
