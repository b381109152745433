//! The heap: blocks of a few sizes, and for each size a list of those that were freed. A process of kak's lives for a
//! fifth of a millisecond or waits for years; for the former the C library's heap takes four system calls before its
//! first block, and neither needs what else that can do. Part of the one door, and unsafe as that is.
//!
//! There is one thread (see the safety note of [`super`]). A block larger than the largest size goes back to the
//! kernel, and others are used again, so no memory grows with time.

#![expect(
    clippy::cast_ptr_alignment,
    reason = "every block is aligned to its size, which is 16 at least"
)]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ptr::null_mut;

/// The smallest block, in bytes: room for a list's link, and as aligned as anything here is.
const SMALLEST: usize = 16;
/// How many sizes there are, each twice the one before: up to 64 KiB.
const SIZES: usize = 13;
/// What is there from the start, in bytes: most often all that a command needs. Only what is touched takes memory.
const FIRST: usize = 256 * 1024;
/// How much is taken from the kernel at a time after that.
const MORE: usize = 256 * 1024;

/// What a block of this size or more is aligned to, in bytes: a page.
const PAGE: usize = 4096;

/// The place of the first blocks, beside the program's other data, so that one page fault brings both.
#[repr(align(16))]
struct Room(UnsafeCell<[u8; FIRST]>);

// SAFETY: there is one thread.
unsafe impl Sync for Room {}

/// See [`Room`]. By this section's name .cargo/layout.ld places it after all other data.
#[unsafe(link_section = ".bss..heap")]
static ROOM: Room = Room(UnsafeCell::new([0; FIRST]));

/// What there is to allocate from.
struct State {
    /// For each size the free blocks, linked by their first words.
    free: [*mut u8; SIZES],
    /// The next byte that was never used.
    next: *mut u8,
    /// How many of those are left.
    left: usize,
}

/// The heap.
pub struct Heap(UnsafeCell<State>);

// SAFETY: there is one thread.
unsafe impl Sync for Heap {}

impl Heap {
    /// Nothing given yet.
    pub const fn new() -> Self {
        Self(UnsafeCell::new(State {
            free: [null_mut(); SIZES],
            next: null_mut(),
            left: 0,
        }))
    }
}

/// The index of the size of a block; none if it is larger than all.
fn size_of_block(layout: Layout) -> Option<usize> {
    let bytes = layout.size().max(layout.align()).max(SMALLEST);
    let class = bytes.next_power_of_two().trailing_zeros() - SMALLEST.trailing_zeros();
    usize::try_from(class).ok().filter(|class| *class < SIZES)
}

/// Pages from the kernel.
fn pages(bytes: usize) -> *mut u8 {
    let (rights, kind) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    // SAFETY: a new mapping at a place of the kernel's choice.
    let at = unsafe { libc::mmap(null_mut(), bytes, rights, kind, -1, 0) };
    if at == libc::MAP_FAILED {
        null_mut()
    } else {
        at.cast()
    }
}

impl Heap {
    /// A block, and whether it was never used before, and so is full of zeroes.
    fn take(&self, layout: Layout) -> (*mut u8, bool) {
        if layout.align() > PAGE {
            return (null_mut(), true);
        }
        let Some(class) = size_of_block(layout) else {
            return (pages(layout.size()), true);
        };
        // SAFETY: there is one thread, and no reference to the state outlives a call.
        let state = unsafe { &mut *self.0.get() };
        if let Some(slot) = state.free.get_mut(class)
            && !slot.is_null()
        {
            let block = *slot;
            // SAFETY: a block in the list has its link in its first word.
            *slot = unsafe { block.cast::<*mut u8>().read() };
            return (block, false);
        }
        let size = SMALLEST << class;
        if state.next.is_null() {
            (state.next, state.left) = (ROOM.0.get().cast(), FIRST);
        }
        // Small blocks from the bottom, large ones from the top: so the small, which most are, share the fewest pages.
        let place = |state: &State| {
            let skip = if size < PAGE {
                state.next.align_offset(size)
            } else {
                let over = state.next.wrapping_add(state.left).addr() % PAGE;
                state.left.checked_sub(size + over)?
            };
            (skip + size <= state.left).then_some(skip)
        };
        let skip = if let Some(skip) = place(state) {
            skip
        } else {
            let more = pages(MORE);
            if more.is_null() {
                return (more, true);
            }
            (state.next, state.left) = (more, MORE);
            place(state).unwrap_or(0)
        };
        let block = state.next.wrapping_add(skip);
        if size < PAGE {
            state.next = block.wrapping_add(size);
            state.left -= skip + size;
        } else {
            state.left = skip;
        }
        (block, true)
    }
}

// SAFETY: every block is given once until it comes back, and is as large as its layout says and aligned as it says.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.take(layout).0
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (block, new) = self.take(layout);
        if !new && !block.is_null() {
            // SAFETY: the block has room for its layout.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(class) = size_of_block(layout) else {
            // SAFETY: it was mapped by `take` for the same layout.
            unsafe { libc::munmap(block.cast(), layout.size()) };
            return;
        };
        // SAFETY: as in `take`.
        let state = unsafe { &mut *self.0.get() };
        if let Some(slot) = state.free.get_mut(class) {
            // SAFETY: the block is nobody's now, and has room for a link.
            unsafe { block.cast::<*mut u8>().write(*slot) };
            *slot = block;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        // One heap, one thread: all in one test.
        #[test]
        fn no_block_is_anybody_elses(wishes in prop::collection::vec((1_usize..200_000, 0_u32..7, any::<bool>()), 1..60)) {
            // The first room is the program's, and as it was left by the case before.
            let heap = Heap::new();
            // SAFETY: nobody else has seen it yet.
            unsafe { (*heap.0.get()).next = pages(MORE) };
            // SAFETY: as above.
            unsafe { (*heap.0.get()).left = MORE };
            let mut given: Vec<(*mut u8, Layout, u8)> = Vec::new();
            for (n, (size, align, back)) in wishes.into_iter().enumerate() {
                let mark = u8::try_from(n % 255).unwrap() + 1;
                let layout = Layout::from_size_align(size, 1 << align).unwrap();
                // SAFETY: a layout of more than nothing.
                let block = unsafe { heap.alloc_zeroed(layout) };
                prop_assert!(!block.is_null() && block.addr() % layout.align() == 0);
                // SAFETY: it is as large as its layout says.
                let bytes = unsafe { std::slice::from_raw_parts_mut(block, size) };
                prop_assert!(bytes.iter().all(|byte| *byte == 0));
                bytes.fill(mark);
                given.push((block, layout, mark));
                if back {
                    let (block, layout, mark) = given.swap_remove(n * 7 % given.len());
                    // SAFETY: as above.
                    let bytes = unsafe { std::slice::from_raw_parts(block, layout.size()) };
                    prop_assert!(bytes.iter().all(|byte| *byte == mark));
                    // SAFETY: it was given for this layout, and nobody uses it any more.
                    unsafe { heap.dealloc(block, layout) };
                }
            }
            for (block, layout, mark) in given {
                // SAFETY: as above.
                let bytes = unsafe { std::slice::from_raw_parts(block, layout.size()) };
                prop_assert!(bytes.iter().all(|byte| *byte == mark));
                // SAFETY: as above.
                unsafe { heap.dealloc(block, layout) };
            }
        }
    }
}
