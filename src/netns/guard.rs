//! The process that keeps the files of a namespace where they are. When the machine replaces a file by rename, as every
//! resolvconf does, the kernel takes away whatever is mounted on the old one (mount_namespaces(7)), and a program that
//! was started with resolvers of its own would silently ask the machine's. The guard mounts them again.
//!
//! It is there only where /etc/netns/NAME has a file, and only as long as a process lives in that mount namespace.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitOptions, getpid, pidfd_open, waitpid};

use super::Identity;
use crate::procfs;
use crate::step::file;
use crate::sys::{self, SignalSet};

/// A file that stands over another.
pub struct Bound {
    /// The namespace's own.
    pub source: PathBuf,
    /// The machine's.
    pub target: PathBuf,
}

/// The mount table of whoever reads it; it polls as changed when it is (proc_pid_mountinfo(5)).
const TABLE: &str = "/proc/self/mountinfo";
/// How long to wait before what did not work is tried again, at first: the kernel takes the mount away just before the
/// new file is in place.
const FIRST_WAIT: Duration = Duration::from_millis(1);
/// ... and at last.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Leaves a guard for what this process will become. It is nobody's child that this process, or its command, would know.
pub fn leave(bound: &[Bound]) -> rustix::io::Result<()> {
    let me = pidfd_open(getpid(), PidfdFlags::empty())?;
    let Some(between) = sys::fork()? else {
        sys::set_signal_mask(&SignalSet::all_but_faults());
        if let Ok(None) = sys::fork() {
            rustix::process::setsid().ok();
            rustix::thread::set_name(c"kak-netns").ok();
            rustix::process::chdir("/").ok();
            sys::close_standard();
            if let Ok(ward) = sys::keep_only(me) {
                watch(ward, bound);
            }
        }
        sys::exit_now(0);
    };
    while waitpid(Some(between), WaitOptions::empty()).is_err_and(|why| why == Errno::INTR) {}
    Ok(())
}

/// Mounts again what is gone, until no other process is in this mount namespace.
fn watch(mut ward: OwnedFd, bound: &[Bound]) {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let Ok(table) = rustix::fs::open(TABLE, flags, Mode::empty()) else {
        return;
    };
    let mut again: Option<(Instant, Duration)> = None;
    loop {
        let limit = again.map(|(when, _)| {
            let rest = when.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: i64::try_from(rest.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: rest.subsec_nanos().into(),
            }
        });
        let mut fds = [
            PollFd::new(&table, PollFlags::PRI),
            PollFd::new(&ward, PollFlags::IN),
        ];
        poll(&mut fds, limit.as_ref()).ok();
        let [changed, gone] = fds.map(|fd| !fd.revents().is_empty());
        if gone {
            match another() {
                Some(next) => ward = next,
                None => return,
            }
        }
        if changed || again.is_some_and(|(when, _)| when <= Instant::now()) {
            let wait = again.map_or(FIRST_WAIT, |(_, wait)| (wait * 2).min(LAST_WAIT));
            again = (!mend(bound)).then(|| (Instant::now() + wait, wait));
        }
    }
}

/// Mounts what is gone; whether all is there now.
fn mend(bound: &[Bound]) -> bool {
    let Ok(text) = file::read(Path::new(TABLE)) else {
        return false;
    };
    let mounts = procfs::mounts(&text);
    let there = |bound: &Bound| mounts.iter().any(|mount| mount.point == bound.target);
    bound
        .iter()
        .all(|bound| there(bound) || bound.make().is_ok())
}

/// Another process of this mount namespace.
fn another() -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = rustix::fs::open("/proc", flags, Mode::empty()).ok()?;
    let ours = Identity::at(CWD, b"/proc/self/ns/mnt").ok()?;
    rustix::fs::Dir::read_from(&proc).ok()?.find_map(|entry| {
        let pid = Pid::from_raw(entry.ok()?.file_name().to_str().ok()?.parse().ok()?)?;
        let lives = || {
            let path = format!("{}/ns/mnt", pid.as_raw_nonzero());
            Identity::at(proc.as_fd(), path.as_bytes()) == Ok(ours)
        };
        if pid == getpid() || !lives() {
            return None;
        }
        // Looked at again once it is pinned: the number may have gone to another.
        pidfd_open(pid, PidfdFlags::empty())
            .ok()
            .filter(|_| lives())
    })
}
