//! The relay of a jail's last run. It notices its init's end by itself, and nobody waits for it; but the jail's network
//! is kept for the next run, which, if it comes at once, may find the resolvers' addresses taken for a moment.

use std::ffi::OsString;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, Result};
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};

use super::door::{self, Door};
use crate::jail::sessions::Processes;
use crate::jail::wait_readable;
use crate::netns::Identity;
use crate::sys;

/// How long one may take to end: it has nothing left to do.
const LIMIT: Duration = Duration::from_secs(5);

/// The names it may have: its own, or, before it sets that, the name of the process that forked it.
const NAMES: [&[u8]; 3] = [b"kak-dns", b"kak-keeper", b"kak"];

/// Opens doors in another network namespace; if an earlier relay has the addresses, after its end.
pub fn open(namespace: &OwnedFd, resolvers: &[IpAddr]) -> Vec<Result<Door>> {
    let open = || {
        door::open(namespace, resolvers)
            .unwrap_or_else(|errno| resolvers.iter().map(|_| Err(errno)).collect())
    };
    let opened = open();
    let is_taken = |door: &Result<Door>| matches!(door, Err(Errno::ADDRINUSE));
    if !opened.iter().any(is_taken) {
        return opened;
    }
    drop(opened);
    let end = Instant::now() + LIMIT;
    for pid in Processes::now().named(&NAMES) {
        if let Some(pid) = Pid::from_raw(pid).filter(|pid| *pid != getpid())
            && let Ok(relay) = pidfd_open(pid, PidfdFlags::empty())
            && has(pid, namespace)
        {
            wait_readable(relay.as_fd(), end.saturating_duration_since(Instant::now()));
        }
    }
    // What is taken still belongs to a server of the jail's own.
    open()
}

/// Whether a process has this namespace open, or shows no descriptors any more, as one that is exiting.
fn has(pid: Pid, namespace: &OwnedFd) -> bool {
    let path = format!("/proc/{}/fd", pid.as_raw_nonzero());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(dir) = rustix::fs::open(path, flags, Mode::empty()) else {
        return true;
    };
    let wanted = Identity::of(namespace.as_fd());
    let names = sys::entries_of(&dir).unwrap_or_default();
    let is_it = |name: &OsString| Identity::at(dir.as_fd(), name.as_bytes()) == wanted;
    names.is_empty() || names.iter().any(is_it)
}
