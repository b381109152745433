//! The relay of a jail's earlier life. It hears of its init's end by itself, and nobody waits for it; but the jail's network
//! stays for the next life, so that one that comes up at once may find the resolvers' places taken for a moment yet.

use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::{Errno, Result};
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};

use super::door::{self, Door};
use crate::jail::sessions::Processes;
use crate::jail::wait_readable;
use crate::netns::Identity;

/// How long one may take to end. It has nothing left to do.
const LIMIT: Duration = Duration::from_secs(5);

/// How it may call itself, at once or before it says so.
const NAMES: [&[u8]; 3] = [b"kak-dns", b"kak-keeper", b"kak"];

/// Opens doors in another network namespace; where an earlier relay has them, when it is gone.
pub fn open(namespace: &OwnedFd, resolvers: &[IpAddr]) -> Vec<Result<Door>> {
    let start = Instant::now();
    let (mut known, mut last) = (Vec::new(), false);
    loop {
        let opened = door::open(namespace, resolvers)
            .unwrap_or_else(|errno| resolvers.iter().map(|_| Err(errno)).collect());
        let is_taken = |door: &Result<Door>| matches!(door, Err(Errno::ADDRINUSE));
        if last || !opened.iter().any(is_taken) {
            return opened;
        }
        let mut earlier = relays(namespace);
        earlier.retain(|(pid, _)| !known.contains(pid));
        // Then somebody of the jail's own has it; unless the relay has just gone.
        last = earlier.is_empty();
        for (pid, relay) in earlier {
            if !wait_readable(relay.as_fd(), LIMIT.saturating_sub(start.elapsed())) {
                return opened;
            }
            known.push(pid);
        }
    }
}

/// The other relays that have this network namespace open, or nothing any more, as who is about to go.
fn relays(namespace: &OwnedFd) -> Vec<(Pid, OwnedFd)> {
    let Ok(wanted) = Identity::of(namespace.as_fd()) else {
        return Vec::new();
    };
    let has_it = |pid: Pid| {
        let path = format!("/proc/{}/fd", pid.as_raw_nonzero());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(dir) = rustix::fs::openat(CWD, path, flags, Mode::empty()) else {
            return true;
        };
        let names = rustix::fs::Dir::read_from(&dir).into_iter().flatten();
        let mut names = names
            .flatten()
            .map(|entry| entry.file_name().to_bytes().to_vec())
            .filter(|name| !name.starts_with(b"."))
            .peekable();
        names.peek().is_none() || names.any(|name| Identity::at(dir.as_fd(), &name) == Ok(wanted))
    };
    let pin = |pid: i32| {
        let pid = Pid::from_raw(pid).filter(|pid| *pid != getpid())?;
        let fd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        has_it(pid).then_some((pid, fd))
    };
    let all = Processes::now().named(&NAMES);
    all.into_iter().filter_map(pin).collect()
}
