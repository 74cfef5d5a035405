//! The allocator of Celeriac's programs: [`Allocator`].
//!
//! The only unsafe code of the workspace; everywhere else it is forbidden.

use std::alloc::{GlobalAlloc, Layout, System};

use mimalloc::MiMalloc;

/// From this many bytes on, the system's.
///
/// mimalloc keeps what was freed of such blocks until many others are freed too: an idle worker kept 220 MB of a 64 MiB
/// message for as long as nothing else came. And it copies a block that grows, where the system moves its pages.
const LARGE: usize = 1 << 20;

/// mimalloc for what a task needs, the system's allocator for blocks of 1 MiB or more.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: celeriac_allocator::Allocator = celeriac_allocator::Allocator;
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Allocator;

/// Whose a block of this size is; a block's layout is the same from its beginning to its end.
fn is_large(bytes: usize) -> bool {
    bytes >= LARGE
}

// SAFETY: every method hands on what it was promised to one of two allocators that keep the contract, and a block goes
// back to the one that it came from, because both are told its size.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe {
            if is_large(layout.size()) {
                System.alloc(layout)
            } else {
                MiMalloc.alloc(layout)
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe {
            if is_large(layout.size()) {
                System.alloc_zeroed(layout)
            } else {
                MiMalloc.alloc_zeroed(layout)
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, and the block came from there.
        unsafe {
            if is_large(layout.size()) {
                System.dealloc(block, layout);
            } else {
                MiMalloc.dealloc(block, layout);
            }
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: the caller's promise, which says that `bytes` and the alignment make a layout; blocks of their own
        // do not overlap, and each has at least as many bytes as are copied.
        unsafe {
            match (is_large(layout.size()), is_large(bytes)) {
                (true, true) => System.realloc(block, layout, bytes),
                (false, false) => MiMalloc.realloc(block, layout, bytes),
                _ => {
                    let moved =
                        self.alloc(Layout::from_size_align_unchecked(bytes, layout.align()));
                    if !moved.is_null() {
                        block.copy_to_nonoverlapping(moved, layout.size().min(bytes));
                        self.dealloc(block, layout);
                    }
                    moved
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static ALLOCATOR: Allocator = Allocator;

    /// What the kernel says that this process has, in MiB.
    fn resident() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        kib.and_then(|kib| kib.parse::<u64>().ok())
            .expect("a number")
            / 1024
    }

    #[test]
    fn a_block_that_grows_and_shrinks_over_the_border_keeps_what_is_in_it() {
        let mut block = Vec::new();
        for place in 0..3 * LARGE {
            block.push(u8::try_from(place % 251).unwrap());
        }
        for length in [2 * LARGE, LARGE, LARGE - 1, LARGE / 2, 10] {
            block.truncate(length);
            block.shrink_to_fit();
            assert!(
                block
                    .iter()
                    .enumerate()
                    .all(|(place, &byte)| usize::from(byte) == place % 251)
            );
        }
        assert!(
            vec![0_u8; LARGE]
                .iter()
                .chain(&vec![0_u8; LARGE - 1])
                .all(|&byte| byte == 0)
        );
    }

    #[test]
    fn what_was_large_is_given_back_at_once() {
        let before = resident();
        let block = vec![1_u8; 256 * LARGE];
        assert!(resident() > before + 200);
        drop(block);
        assert!(resident() < before + 20);
    }
}
