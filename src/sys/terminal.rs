//! Process groups and sessions as numbers. Part of the one door: rustix takes 0 for impossible, but a group or session
//! of another PID namespace reads as 0.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::io::Result;
use rustix::process::Pid;

use super::check;

/// `getpgrp()`.
pub fn group() -> i32 {
    // SAFETY: getpgrp touches no memory.
    unsafe { libc::getpgrp() }
}

/// `getsid(pid)`; pid 0 is the caller.
pub fn session_of(pid: i32) -> Result<i32> {
    // SAFETY: getsid touches no memory.
    check(unsafe { libc::getsid(pid) })
}

/// `getpgid(pid)`.
pub fn group_of(pid: i32) -> Result<i32> {
    // SAFETY: getpgid touches no memory.
    check(unsafe { libc::getpgid(pid) })
}

/// Whether a process leads its process group: `getpgid(pid) == pid`.
pub fn leads_group(pid: Pid) -> bool {
    let pid = pid.as_raw_nonzero().get();
    group_of(pid) == Ok(pid)
}

/// `tcgetpgrp(fd)`: the foreground group, where `fd` is the caller's controlling terminal.
pub fn front(fd: BorrowedFd<'_>) -> Result<i32> {
    // SAFETY: tcgetpgrp writes to its own stack only.
    check(unsafe { libc::tcgetpgrp(fd.as_raw_fd()) })
}

/// `tcsetpgrp(fd, group)`.
pub fn set_front(fd: BorrowedFd<'_>, group: i32) -> Result<()> {
    // SAFETY: tcsetpgrp reads from its own stack only.
    check(unsafe { libc::tcsetpgrp(fd.as_raw_fd(), group) }).map(drop)
}

/// `killpg(group, 0)`: whether a process group has any members.
pub fn has_members(group: i32) -> bool {
    // SAFETY: killpg touches no memory.
    check(unsafe { libc::killpg(group, 0) }) != Err(rustix::io::Errno::SRCH)
}
