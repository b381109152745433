//! A child for a moment: it does something in namespaces of its own while its parent waits in the kernel, and is gone.

use std::ffi::c_void;

use rustix::io::{Errno, Result};

/// The child's stack, in bytes; only what is used of it is ever memory.
const STACK: usize = 256 * 1024;
/// Below it, so that running over it is a fault and not a corruption.
const GUARD: usize = 64 * 1024;

/// Does something in a child that has this process's memory and descriptors, as a thread would, but its own namespaces
/// and current directory: whatever namespace it moves to, this process stays where it is, and has nothing to come back
/// from. It does not go on until the child is gone (`CLONE_VM` and `CLONE_VFORK`), so the two never touch the same
/// thing at once; and nobody hears of the child, whose end is no SIGCHLD.
/// <https://man7.org/linux/man-pages/man2/clone.2.html>
pub fn elsewhere<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    /// What the child does, and what came of it.
    struct Task<W, T>(Option<W>, Result<T>);

    /// The child's first and only function.
    extern "C" fn begin<W: FnOnce() -> Result<T>, T>(task: *mut c_void) -> libc::c_int {
        // SAFETY: it is the task below, and its maker does not touch it before this function has returned.
        let task = unsafe { &mut *task.cast::<Task<W, T>>() };
        if let Some(work) = task.0.take() {
            task.1 = work();
        }
        0
    }

    /// Names `begin` for types that have no name.
    fn start<W: FnOnce() -> Result<T>, T>(task: &mut Task<W, T>) -> Result<()> {
        child(begin::<W, T>, std::ptr::from_mut(task).cast())
    }

    let mut task = Task(Some(work), Err(Errno::IO));
    start(&mut task).and(task.1)
}

/// Has a child call `begin`, and waits for its end. Apart from [`elsewhere`], so that it is there once and not for each
/// of the many types of a task.
fn child(begin: extern "C" fn(*mut c_void) -> libc::c_int, task: *mut c_void) -> Result<()> {
    let (readable, kind) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE,
    );
    let size = GUARD + STACK;
    // SAFETY: a new mapping at a place of the kernel's choice.
    let bottom = unsafe { libc::mmap(std::ptr::null_mut(), size, readable, kind, -1, 0) };
    if bottom == libc::MAP_FAILED {
        return Err(super::last());
    }
    // SAFETY: its lower part.
    unsafe { libc::mprotect(bottom, GUARD, libc::PROT_NONE) };
    let flags = libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_VFORK;
    let stack = bottom.wrapping_byte_add(size);
    // SAFETY: the stack is the child's alone. It uses our thread-local storage, which nobody else does meanwhile: the
    // kernel lets us go on when it has ended.
    let started = super::check(unsafe { libc::clone(begin, stack, flags, task) }).map(|pid| {
        // SAFETY: no status is asked for.
        while unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) } == -1
            && super::last() == Errno::INTR
        {}
    });
    // SAFETY: the child is gone, or never was.
    unsafe { libc::munmap(bottom, size) };
    started
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_did_is_there() {
        let mut seen = 0;
        let me = rustix::process::getpid();
        let other = elsewhere(|| {
            seen = 7;
            Ok(rustix::process::getpid())
        });
        assert_eq!(seen, 7);
        assert!(other.is_ok_and(|other| other != me));
        assert_eq!(elsewhere::<()>(|| Err(Errno::PERM)), Err(Errno::PERM));
    }
}
