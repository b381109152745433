//! The relay of a jail's earlier life. It hears of its init's end by itself, and nobody waits for it; but the jail's network
//! stays for the next life, so that one that comes up at once may find the resolvers' places taken for a moment yet.

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

/// How long one may take to end. It has nothing left to do.
const LIMIT: Duration = Duration::from_secs(5);

/// How it may call itself, at once or before it says so.
const NAMES: [&[u8]; 3] = [b"kak-dns", b"kak-keeper", b"kak"];

/// Opens doors in another network namespace; where an earlier relay has them, when it is gone.
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
    // What is taken still is somebody's of the jail's own.
    open()
}

/// Whether a process has this namespace open, or nothing any more, as who is about to go.
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
