//! A child for a moment: it does something in namespaces of its own, or starts a process that is not to be its parent's
//! child, while the parent waits in the kernel; then it is gone.

use std::convert::Infallible;
use std::ffi::c_void;

use rustix::io::{Errno, Result};

/// The bytes of stack that [`child`] and clone(3) may use below a variable of [`child`]; the child's begins there.
const CALL: usize = 2048;

/// Does something in a child that has this process's memory and descriptors, as a thread would, but its own namespaces
/// and current directory: whatever namespace it moves to, this process stays where it is, and has nothing to come back
/// from. The end of the child raises no SIGCHLD.
pub fn elsewhere<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    run(libc::CLONE_FILES, Err(Errno::IO), work)
}

/// Starts a process that is not this one's child: a child in between forks it and ends at once, so it becomes a child
/// of the init of the PID namespace that it is in, or of a subreaper there. It is what a fork of this process would be,
/// and runs only `life`. The child in between has no memory of its own, which would be copied for nothing; if it gets
/// one all the same, as in qemu's user mode, only an error of its fork is lost.
///
/// Where SIGCHLD is ignored the kernel reaps that child, even while this process is stopped; if this one is killed just
/// then, whoever adopts the child has to. If the child is killed it may have forked or not, which is no error here: it
/// is as if the orphan had been killed at once.
pub fn orphan(life: impl FnOnce() -> Infallible) -> Result<()> {
    run(libc::SIGCHLD, Ok(()), || match super::fork()? {
        Some(_) => Ok(()),
        None => match life() {},
    })
}

/// Does something in a child that has this process's memory, and what `flags` say. This process is suspended until the
/// child is gone (`CLONE_VM` and `CLONE_VFORK`), so the two never touch the same thing at once. `killed` is the result
/// if the child is killed.
/// <https://man7.org/linux/man-pages/man2/clone.2.html>
fn run<T>(flags: libc::c_int, killed: Result<T>, work: impl FnOnce() -> Result<T>) -> Result<T> {
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

    /// Names `begin` for closures, whose types have no name.
    fn start<W: FnOnce() -> Result<T>, T>(flags: libc::c_int, task: &mut Task<W, T>) -> Result<()> {
        child(flags, begin::<W, T>, std::ptr::from_mut(task).cast())
    }

    let mut task = Task(Some(work), killed);
    start(flags, &mut task).and(task.1)
}

/// Makes a child call `begin`, and waits for its end. Apart from [`run`], so that it is compiled once and not for each
/// type of a task.
///
/// The child's stack is what is left of ours, as with vfork(2): nobody else uses it meanwhile, and an overflow meets
/// the same guard as one of ours. A mapping of its own would cost three system calls and a page fault.
///
/// Never inlined: the size of its frame is known, and that of a caller is not.
#[inline(never)]
fn child(
    flags: libc::c_int,
    begin: extern "C" fn(*mut c_void) -> libc::c_int,
    task: *mut c_void,
) -> Result<()> {
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | flags;
    let here = 0_u8;
    let stack = std::ptr::from_ref(&here).wrapping_byte_sub(CALL);
    // SAFETY: the kernel resumes us when the child has ended, so nobody reads what it has written below our frame and
    // that of the call. It uses our thread-local storage, which nobody else does meanwhile.
    let pid = super::check(unsafe { libc::clone(begin, stack.cast_mut().cast(), flags, task) })?;
    // SAFETY: no status is asked for. The kernel may have reaped it.
    while unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) } == -1
        && super::last() == Errno::INTR
    {}
    Ok(())
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

    #[test]
    fn an_orphan_is_not_ours() {
        let both = || rustix::pipe::pipe().unwrap();
        let ((go, tell), (told, answer)) = (both(), both());
        let started = orphan(|| {
            rustix::io::read(&go, &mut [0]).ok();
            let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
            rustix::io::write(&answer, &parent.to_ne_bytes()).ok();
            super::super::exit_now(0)
        });
        assert_eq!(started, Ok(()));
        rustix::io::write(&tell, &[0]).unwrap();
        let mut parent = [0; 4];
        assert_eq!(rustix::io::read(&told, &mut parent), Ok(4));
        // Zero is a process outside of the PID namespace, which is not ours either.
        let parent = i32::from_ne_bytes(parent);
        assert_ne!(parent, rustix::process::getpid().as_raw_nonzero().get());
    }
}
