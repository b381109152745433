//! A child for a moment: it does something in namespaces of its own, or starts a process that is to be nobody's, while
//! its parent waits in the kernel, and is gone.

use std::convert::Infallible;
use std::ffi::c_void;

use rustix::io::{Errno, Result};

/// What [`child`] and clone(3) may have on the stack below a variable of the one's, in bytes: the child's begins there.
const CALL: usize = 2048;

/// Does something in a child that has this process's memory and descriptors, as a thread would, but its own namespaces
/// and current directory: whatever namespace it moves to, this process stays where it is, and has nothing to come back
/// from. Nobody hears of the child, whose end is no SIGCHLD.
pub fn elsewhere<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    run(libc::CLONE_FILES, Err(Errno::IO), work)
}

/// Starts a process that is not this one's child: the child that forks it ends at once, so it belongs to the init of the
/// PID namespace that it is in, or to whoever else reaps orphans there. It is what a fork of this process would be, and
/// ends with its life. The child has no memory of its own, which would be copied for nothing; where it gets one all the
/// same, as by qemu's user mode, only an error of its fork is lost.
///
/// Where SIGCHLD is ignored the kernel reaps the child, even while this process is stopped; were this one killed just
/// then, whoever gets the child would have to. A child that is killed may have forked or not, and that is no error here:
/// it is as with an orphan that is killed at once.
pub fn orphan(life: impl FnOnce() -> Infallible) -> Result<()> {
    run(libc::SIGCHLD, Ok(()), || match super::fork()? {
        Some(_) => Ok(()),
        None => match life() {},
    })
}

/// Does something in a child that has this process's memory, and what `flags` say. This process does not go on until the
/// child is gone (`CLONE_VM` and `CLONE_VFORK`), so the two never touch the same thing at once. `killed` is what has come
/// of it if the child is killed.
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

    /// Names `begin` for types that have no name.
    fn start<W: FnOnce() -> Result<T>, T>(flags: libc::c_int, task: &mut Task<W, T>) -> Result<()> {
        child(flags, begin::<W, T>, std::ptr::from_mut(task).cast())
    }

    let mut task = Task(Some(work), killed);
    start(flags, &mut task).and(task.1)
}

/// Has a child call `begin`, and waits for its end. Apart from [`run`], so that it is there once and not for each of the
/// many types of a task.
///
/// The child's stack is what is left of ours, as vfork(2) has it: nobody else is there while it runs, and what runs over
/// its end meets the same fault as ours. A mapping of its own would be three system calls and its first page's fault.
///
/// Never inlined: how far its frame goes is known, and not that of a caller.
#[inline(never)]
fn child(
    flags: libc::c_int,
    begin: extern "C" fn(*mut c_void) -> libc::c_int,
    task: *mut c_void,
) -> Result<()> {
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | flags;
    let here = 0_u8;
    let stack = std::ptr::from_ref(&here).wrapping_byte_sub(CALL);
    // SAFETY: the kernel lets us go on when the child has ended, so whatever it writes below our frame and that of the
    // call is what nobody reads. It uses our thread-local storage, which nobody else does meanwhile.
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
        // Zero is somebody outside of the PID namespace, who is not ours either.
        let parent = i32::from_ne_bytes(parent);
        assert_ne!(parent, rustix::process::getpid().as_raw_nonzero().get());
    }
}
