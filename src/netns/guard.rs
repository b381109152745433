//! The process that keeps the files of a namespace mounted ([`crate::watch::kept`]) for the command that `exec`
//! becomes: when the machine replaces a file by rename, as every resolvconf does, the kernel takes the mount away, and
//! a program with resolvers of its own would silently ask the machine's.
//!
//! It exists where /etc/netns/NAME has a file that can be replaced, and while another process is in that mount
//! namespace.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::Identity;
use crate::sys::{self, SignalSet};
use crate::watch::kept::{Kept, Place};

/// A file that is mounted over another.
#[derive(Clone)]
pub struct Bound {
    /// The namespace's own.
    pub source: PathBuf,
    /// The machine's.
    pub target: PathBuf,
}

/// Starts a guard for what this process will become, in the network `home` that it came from. The guard's parent is the
/// reaper of orphans: the command has no child that it did not make, unless it is that reaper itself, as PID 1 is.
pub fn leave(bound: &[Bound], home: Option<OwnedFd>) -> rustix::io::Result<()> {
    let me = pidfd_open(getpid(), PidfdFlags::empty())?;
    sys::elsewhere(|| {
        sys::set_signal_mask(&SignalSet::all_but_faults());
        // If that is refused, `pids` counts the guard among the namespace's processes.
        if let Some(home) = home {
            move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::Network)).ok();
        }
        if sys::fork()?.is_some() {
            return Ok(());
        }
        rustix::process::setsid().ok();
        sys::set_title(c"kak-netns", "");
        rustix::process::chdir("/").ok();
        if let Ok(ward) = sys::keep_only(me) {
            sys::close_standard();
            watch(ward, bound);
        }
        sys::exit_now(0)
    })
}

/// Keeps the mounts until no other process is in this mount namespace.
fn watch(mut ward: OwnedFd, bound: &[Bound]) {
    let place = |bound: &Bound| {
        let again = bound.clone();
        Place::new(&bound.target, &bound.source, move || again.make().is_ok())
    };
    let mut kept = Kept::new(bound.iter().map(place).collect());
    loop {
        let limit = kept.limit();
        let mut fds = vec![PollFd::new(&ward, PollFlags::IN)];
        fds.extend(kept.fds());
        poll(&mut fds, limit.as_ref()).ok();
        let mut told = fds.iter().map(|fd| !fd.revents().is_empty());
        let gone = told.next() == Some(true);
        let told = told.any(|told| told);
        drop(fds);
        kept.look(told);
        if gone {
            match another() {
                Some(next) => ward = next,
                None => return,
            }
        }
    }
}

/// Another process of this mount namespace.
fn another() -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = rustix::fs::open("/proc", flags, Mode::empty()).ok()?;
    let ours = Identity::at(CWD, b"/proc/self/ns/mnt").ok()?;
    sys::entries_of(&proc).ok()?.iter().find_map(|name| {
        let pid = Pid::from_raw(name.to_str()?.parse().ok()?)?;
        let lives = || {
            let path = format!("{}/ns/mnt", pid.as_raw_nonzero());
            Identity::at(proc.as_fd(), path.as_bytes()) == Ok(ours)
        };
        if pid == getpid() || !lives() {
            return None;
        }
        // Checked again once the pidfd is open: the number may have gone to another process.
        pidfd_open(pid, PidfdFlags::empty())
            .ok()
            .filter(|_| lives())
    })
}
