//! The one door to the kernel: what rustix lacks, makes too expensive or marks unsafe. No code outside of it is unsafe.
//!
//! It is not an abstraction: nearly every function is one system call, or a C idiom of a few, under its own name.
//!
//! # Safety
//!
//! The program has one thread whenever a function runs here that is unsafe with several (fork, clone): the only tasks
//! that ever share its memory are those of [`elsewhere`] and [`orphan`], during which it is suspended. Pointers given
//! to the kernel live on the stack of the function that passes them, or are borrowed from the caller for the call.

#![allow(unsafe_code, reason = "the one door")]
#![allow(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "C integer types at the boundary"
)]

mod child;
mod dir;
#[cfg_attr(
    test,
    allow(dead_code, reason = "tests run in many threads, on the heap for those")
)]
mod heap;
mod identity;
mod mounts;
mod signal;
mod terminal;
mod title;
#[cfg(not(any(test, fuzzing)))]
mod unwind;

use std::ffi::{CStr, CString, OsString};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
#[cfg(not(any(test, fuzzing)))]
use std::os::unix::ffi::OsStringExt as _;

use rustix::io::{Errno, Result};
use rustix::process::Pid;

pub use child::{elsewhere, orphan};
pub use dir::{entries, entries_of};
pub use identity::*;
pub use mounts::*;
pub use signal::*;
pub use terminal::*;
pub use title::set_title;

/// See [`heap`].
#[cfg(not(any(test, fuzzing)))]
#[global_allocator]
static HEAP: heap::Heap = heap::Heap::new();

/// What the C library calls: without the standard library's own start-up, which would set SIGPIPE, poll the standard
/// descriptors and map a signal stack before our first line runs.
#[cfg(not(any(test, fuzzing)))]
#[unsafe(no_mangle)]
extern "C" fn main(argc: libc::c_int, argv: *const *const libc::c_char) -> libc::c_int {
    let mut args = Vec::new();
    title::remember(argv);
    for n in 0..usize::try_from(argc).unwrap_or(0) {
        // SAFETY: the kernel passes argc pointers.
        let at = unsafe { argv.add(n) };
        // SAFETY: one of them.
        let pointer = unsafe { *at };
        if pointer.is_null() {
            break;
        }
        // SAFETY: each points to a string that ends in NUL and lives as long as the process.
        let arg = unsafe { CStr::from_ptr(pointer) };
        args.push(OsString::from_vec(arg.to_bytes().to_vec()));
    }
    libc::c_int::from(crate::run(args))
}

/// The result of a C call that returns -1 and sets errno when it fails.
fn check(result: libc::c_int) -> Result<libc::c_int> {
    if result == -1 {
        Err(last())
    } else {
        Ok(result)
    }
}

/// errno.
fn last() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// `pid_t fork(void)`: `None` in the child. <https://man7.org/linux/man-pages/man2/fork.2.html>
pub fn fork() -> Result<Option<Pid>> {
    // SAFETY: there is no other thread, so the child may do whatever the parent may.
    let pid = unsafe { libc::fork() };
    check(pid).map(Pid::from_raw)
}

/// `clone3` in the manner of fork, into new namespaces (`CLONE_NEW*`); the parent also gets the child's pidfd.
/// <https://man7.org/linux/man-pages/man2/clone.2.html>
pub fn clone(flags: u64) -> Result<Option<(Pid, OwnedFd)>> {
    /// `struct clone_args`, linux/sched.h, its first version.
    #[repr(C)]
    #[derive(Default)]
    struct Args {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        stack: u64,
        stack_size: u64,
        tls: u64,
    }
    let mut pidfd: libc::c_int = -1;
    let args = Args {
        flags: flags | libc::CLONE_PIDFD as u64,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..Args::default()
    };
    // SAFETY: there is no other thread; no stack is given, so the child goes on with a copy of this one.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<Args>()) };
    let Some(pid) = Pid::from_raw(check(pid as libc::c_int)?) else {
        return Ok(None);
    };
    // SAFETY: the kernel has just put a new descriptor there.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Some((pid, pidfd)))
}

/// `int unshare(int flags)`. <https://man7.org/linux/man-pages/man2/unshare.2.html>
pub fn unshare(flags: rustix::thread::UnshareFlags) -> Result<()> {
    // SAFETY: CLONE_FILES, the one flag that could invalidate a descriptor of ours, is never asked for.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// `void _exit(int status)`: ends a forked child without flushing what it shares with its parent.
pub fn exit_now(status: u8) -> ! {
    // SAFETY: no destructor has to run in a forked child.
    unsafe { libc::_exit(libc::c_int::from(status)) }
}

/// `extern char **environ`: the environment as it came, whatever is in it (environ(7)).
pub fn environment() -> Vec<CString> {
    unsafe extern "C" {
        /// The C library's.
        static environ: *const *const libc::c_char;
    }
    let mut all = Vec::new();
    // SAFETY: there is no other thread that could change the variable.
    let mut at = unsafe { environ };
    if at.is_null() {
        return all;
    }
    loop {
        // SAFETY: the array ends in NULL, and nothing behind that is read.
        let pair = unsafe { *at };
        if pair.is_null() {
            return all;
        }
        // SAFETY: each entry is a string that ends in NUL.
        all.push(unsafe { CStr::from_ptr(pair) }.to_owned());
        // SAFETY: the end has not been seen yet.
        at = unsafe { at.add(1) };
    }
}

/// `int execve(const char *path, char *const argv[], char *const envp[])`: only returns to say why it did not work.
/// <https://man7.org/linux/man-pages/man2/execve.2.html>
pub fn execve(path: &CStr, argv: &[CString], envp: &[CString]) -> Errno {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter()
            .map(|text| text.as_ptr())
            .chain([std::ptr::null()])
            .collect()
    };
    let (argv, envp) = (pointers(argv), pointers(envp));
    // SAFETY: both arrays end in NULL and their strings outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    last()
}

/// Executes the first of these files that can be run, as execvp(3) does; returns only if none could, with the reason.
/// An executable file of no known format is run as a script, by /bin/sh.
pub fn execute(paths: &[CString], argv: &[CString], envp: &[CString]) -> Errno {
    let mut worst = Errno::NOENT;
    for path in paths {
        match execve(path, argv, envp) {
            // It was named, not searched for.
            errno @ (Errno::NOENT | Errno::NOTDIR) if paths.len() == 1 => return errno,
            Errno::NOENT | Errno::NOTDIR => {}
            errno @ Errno::ACCESS => worst = errno,
            Errno::NOEXEC => {
                let script: Vec<CString> = [c"sh".to_owned(), path.clone()]
                    .into_iter()
                    .chain(argv.iter().skip(1).cloned())
                    .collect();
                return execve(c"/bin/sh", &script, envp);
            }
            errno => return errno,
        }
    }
    worst
}

/// The owner of a POSIX lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holder {
    /// Nobody has a conflicting lock.
    None,
    /// This process, in the caller's PID namespace.
    Process(Pid),
    /// A process that is not visible in the caller's PID namespace.
    Hidden,
}

/// `struct flock` for `length` bytes from `start` on; 0 bytes are all that follow.
fn lock_of(kind: libc::c_int, start: u8, length: u8) -> libc::flock {
    // SAFETY: plain data, for which zeroes are valid.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = libc::off_t::from(start);
    lock.l_len = libc::off_t::from(length);
    lock
}

/// `fcntl(fd, F_SETLK, F_WRLCK)` on the first `length` bytes. The lock belongs to the process, is not inherited by
/// fork, and is released when the process closes any descriptor of the file.
/// <https://man7.org/linux/man-pages/man2/fcntl.2.html>
pub fn lock_bytes(fd: BorrowedFd<'_>, length: u8) -> Result<()> {
    let lock = lock_of(libc::F_WRLCK, 0, length);
    // SAFETY: the structure is whole.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETLK, &raw const lock) }).map(drop)
}

/// `fcntl(fd, F_SETLKW, F_WRLCK)` on the whole file. After `limit` an alarm interrupts it (EINTR), as in lckpwdf(3): a
/// process that waits in the kernel's queue is not overtaken, as one that comes back to look again would be.
pub fn lock_file(fd: BorrowedFd<'_>, limit: std::time::Duration) -> Result<()> {
    let lock = lock_of(libc::F_WRLCK, 0, 0);
    alarmed(limit, || {
        // SAFETY: the structure is whole.
        check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETLKW, &raw const lock) }).map(drop)
    })
}

/// `fcntl(fd, F_GETLK)`: who holds the first byte, and how many bytes from there on.
pub fn lock_holder(fd: BorrowedFd<'_>) -> Result<(Holder, u8)> {
    // A read lock conflicts with write locks only, and can be asked about by a read-only descriptor. Asked about the
    // first byte alone, which nobody else can have: init has the file open, and root in the jail can reach it there.
    let mut lock = lock_of(libc::F_RDLCK, 0, 1);
    // SAFETY: the structure is whole.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETLK, &raw mut lock) })?;
    if libc::c_int::from(lock.l_type) == libc::F_UNLCK {
        return Ok((Holder::None, 0));
    }
    let holder = Pid::from_raw(lock.l_pid.max(0)).map_or(Holder::Hidden, Holder::Process);
    Ok((holder, u8::try_from(lock.l_len).unwrap_or(u8::MAX)))
}

/// Closes every descriptor from `first` on.
pub fn close_from(first: libc::c_int) {
    close_range(first, libc::c_int::MAX);
}

/// Closes every descriptor from 3 on but these, in a process that is never to use others again.
pub fn close_but(kept: &[BorrowedFd<'_>]) {
    let mut first = 3;
    let kept = || kept.iter().map(std::os::fd::AsRawFd::as_raw_fd);
    while let Some(fd) = kept().filter(|fd| *fd >= first).min() {
        if first < fd {
            close_range(first, fd - 1);
        }
        first = fd + 1;
    }
    close_from(first);
}

/// `int close_range(unsigned first, unsigned last, 0)`, one by one where the kernel is older than 5.9.
fn close_range(first: libc::c_int, last: libc::c_int) {
    // SAFETY: the caller says that nobody uses any of them.
    if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } == 0 {
        return;
    }
    // The limit may have been lowered after descriptors were opened, so it says nothing.
    let open = descriptors().unwrap_or_else(|| (0..65536).collect());
    for fd in open.into_iter().filter(|fd| (first..=last).contains(fd)) {
        // SAFETY: as above; a number that is no descriptor is refused without harm.
        unsafe { libc::close(fd) };
    }
}

/// `getrlimit(RLIMIT_NOFILE)`: how many descriptors this process may have at most. None where there is no limit, or
/// where a seccomp profile forbids the question; rustix assumes that it never fails.
pub fn most_descriptors() -> Option<u64> {
    // SAFETY: plain data, for which zeroes are valid.
    let mut limit: libc::rlimit = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is whole.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }).ok()?;
    (limit.rlim_max != libc::RLIM_INFINITY).then_some(limit.rlim_max)
}

/// Fails if there is no close_range(2); asks it to close none.
pub fn has_close_range() -> Result<()> {
    let none = libc::c_uint::MAX;
    // SAFETY: no descriptor has this number.
    check(unsafe { libc::syscall(libc::SYS_close_range, none, none, 0) } as libc::c_int).map(drop)
}

/// The open descriptors, if /proc is mounted and knows this process.
fn descriptors() -> Option<Vec<libc::c_int>> {
    let names = entries("/proc/self/fd").ok()?;
    let number = |name: &OsString| name.to_str()?.parse().ok();
    Some(names.iter().filter_map(number).collect())
}

/// Closes standard input, output and error, in a process that is never to use them again.
pub fn close_standard() {
    for fd in 0..3 {
        // SAFETY: nothing in this process owns them.
        unsafe { libc::close(fd) };
    }
}

/// Closes every descriptor from 3 on but this one, which becomes 3 (dup3(2)).
pub fn keep_only(fd: OwnedFd) -> Result<OwnedFd> {
    const KEPT: libc::c_int = 3;
    if fd.as_raw_fd() != KEPT {
        // SAFETY: whatever 3 was is about to be closed anyway; its owner in this process never runs again.
        check(unsafe { libc::dup3(fd.as_raw_fd(), KEPT, libc::O_CLOEXEC) })?;
    }
    std::mem::forget(fd);
    close_from(KEPT + 1);
    // SAFETY: made just above, or taken over from `fd`.
    Ok(unsafe { OwnedFd::from_raw_fd(KEPT) })
}

/// A descriptor that this program was started with.
pub fn inherited(number: libc::c_int) -> Result<OwnedFd> {
    // SAFETY: F_GETFD reads nothing but the number.
    check(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    // SAFETY: it is open, and its number comes from the command line: nothing in this program owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// `setsockopt(fd, SOL_NETLINK, option, 1)`: linux/netlink.h's `NETLINK_*` options, all of which are switches.
pub fn netlink_option(fd: BorrowedFd<'_>, option: libc::c_int) -> Result<()> {
    let on: libc::c_int = 1;
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: pointer and size describe one int.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const on).cast(),
            size,
        )
    })
    .map(drop)
}

/// What iptables can be asked (linux/netfilter_ipv4/ip_tables.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IptablesGet {
    /// `IPT_SO_GET_INFO`: how large a table is, and where its chains begin.
    Info = 64,
    /// `IPT_SO_GET_ENTRIES`: its rules.
    Entries = 65,
}

/// `getsockopt(fd, SOL_IP, IPT_SO_GET_*)`: `bytes` begins with what the question is about, and gets the answer.
pub fn iptables_get(fd: BorrowedFd<'_>, option: IptablesGet, bytes: &mut [u8]) -> Result<()> {
    let mut size = libc::socklen_t::try_from(bytes.len()).map_err(|_| Errno::INVAL)?;
    let pointer = bytes.as_mut_ptr().cast();
    // SAFETY: pointer and size describe the bytes.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_IP,
            option as libc::c_int,
            pointer,
            &raw mut size,
        )
    })
    .map(drop)
}

/// `ioctl(fd, SIOCGSKNS)`: the network namespace that a socket belongs to (linux/sockios.h).
pub fn socket_namespace(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    const SIOCGSKNS: libc::Ioctl = 0x894C;
    // SAFETY: it takes no argument.
    let namespace = check(unsafe { libc::ioctl(fd.as_raw_fd(), SIOCGSKNS) })?;
    // SAFETY: the kernel has just made it; it is close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(namespace) })
}

/// `getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE)`: a number that no other network namespace gets while this kernel runs;
/// 0 before Linux 5.14, which has none.
pub fn netns_cookie(fd: BorrowedFd<'_>) -> Result<u64> {
    /// asm-generic/socket.h.
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let mut cookie: u64 = 0;
    let mut size = size_of::<u64>() as libc::socklen_t;
    let option = (&raw mut cookie).cast();
    // SAFETY: pointer and size describe one u64.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            option,
            &raw mut size,
        )
    };
    match check(result) {
        Ok(_) => Ok(cookie),
        Err(Errno::NOPROTOOPT) => Ok(0),
        Err(errno) => Err(errno),
    }
}
