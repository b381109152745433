//! The locks under which accounts are changed: the C library's, a POSIX lock on /etc/.pwd.lock (lckpwdf(3)), which the
//! kernel releases when its holder ends, and while that is held shadow's own, the file /etc/passwd.lock with the
//! holder's PID in it. useradd, usermod, chsh and vipw take both, and wait for us as we wait for them. This module does
//! not know what is changed under the locks.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, poll};
use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpid, test_kill_process};

use crate::error::{Error, Result, What as _};
use crate::file::rewrite::{beside, write_all};
use crate::file::{self, lstat, remove};
use crate::procfs;
use crate::sys::{self, Action, Disposition, Holder, SignalSet};
use crate::text::harmless;

/// The C library's lock.
const LIBRARY: &str = "/etc/.pwd.lock";

/// shadow's lock.
const SHADOW: &str = "/etc/passwd.lock";

/// How long to wait for both, as the others do.
const LIMIT: Duration = Duration::from_secs(15);

/// How often [`SHADOW`] is polled: unlike a lock of the kernel's it cannot be waited for.
const PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};

/// Both locks. While they are held signals are blocked, and exceeding RLIMIT_FSIZE is an error like any other.
pub struct Lock {
    /// The open [`LIBRARY`]; closing it releases the lock.
    _library: OwnedFd,
    /// The signals that were blocked before.
    mask: SignalSet,
    /// What SIGXFSZ did before.
    limit: Disposition,
}

impl Lock {
    /// Waits for both, and removes what a killed kak left of its own; `what` is the purpose, for errors.
    pub fn take(what: &str) -> Result<Self> {
        let deadline = Instant::now() + LIMIT;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let library = fs::open(LIBRARY, flags, Mode::from_raw_mode(0o600)).what(|| what)?;
        match sys::lock_file(library.as_fd(), LIMIT) {
            Err(Errno::INTR) => {
                let (holder, _) = sys::lock_holder(library.as_fd()).what(|| what)?;
                let pid = match holder {
                    Holder::Process(pid) => Some(pid),
                    Holder::None | Holder::Hidden => None,
                };
                return Err(busy(what, LIBRARY, pid));
            }
            other => other.what(|| what)?,
        }
        let lock = Self {
            _library: library,
            mask: sys::set_signal_mask(&SignalSet::all_but_faults()),
            limit: sys::set_disposition(Signal::XFSZ, Action::Ignore),
        };
        // A ticket that is there is a dead process's: it held the lock that we hold now.
        release()?;
        write_ticket().what(|| what)?;
        while let Err(errno) = fs::link(ticket(), SHADOW) {
            if errno != Errno::EXIST {
                return Err(errno).what(|| what);
            }
            match Claim::read()? {
                // shadow's tools clear it as well.
                Claim::Stale => remove(Path::new(SHADOW))?,
                _ if Instant::now() < deadline => {
                    poll(&mut [], Some(&PAUSE)).ok();
                }
                Claim::Live(pid) => return Err(busy(what, SHADOW, Some(pid))),
                Claim::Odd => {
                    return Err(Error::cure(
                        what,
                        format!("{SHADOW} is there, and names no process"),
                        format!("if nobody is changing accounts, rm {SHADOW}"),
                    ));
                }
            }
        }
        Ok(lock)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // An error here is reported to nobody, so it is tried once more.
        release().or_else(|_| release()).ok();
        // In this order: a SIGXFSZ that is pending is discarded while it is still ignored.
        sys::set_signal_mask(&self.mask);
        sys::restore_disposition(Signal::XFSZ, &self.limit);
    }
}

/// Whether a lock of kak's is there, possibly left by a killed process.
pub fn is_there() -> Result<bool> {
    Ok(lstat(&ticket())?.is_some())
}

/// The file that becomes [`SHADOW`] by link(2). It stays beside that: as long as both are one file, the lock is ours.
fn ticket() -> PathBuf {
    beside(Path::new(SHADOW))
}

/// Makes the ticket, with our PID in it as shadow's tools write it.
fn write_ticket() -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = fs::open(ticket(), flags, Mode::from_raw_mode(0o600))?;
    let number = format!("{}\0", getpid().as_raw_nonzero());
    write_all(&file, number.as_bytes())
}

/// Removes the ticket, and before it the lock that is a link to it.
fn release() -> Result<()> {
    let ticket = ticket();
    let Some(ours) = lstat(&ticket)? else {
        return Ok(());
    };
    if lstat(Path::new(SHADOW))?
        .is_some_and(|lock| (lock.st_dev, lock.st_ino) == (ours.st_dev, ours.st_ino))
    {
        remove(Path::new(SHADOW))?;
    }
    remove(&ticket)
}

/// What [`SHADOW`] says.
enum Claim {
    /// This process has it.
    Live(Pid),
    /// Nobody has it any more.
    Stale,
    /// It does not say who has it.
    Odd,
}

impl Claim {
    /// Reads it.
    fn read() -> Result<Self> {
        let text = file::read(Path::new(SHADOW))?;
        let number = std::str::from_utf8(&text)
            .ok()
            .and_then(|text| text.trim_end_matches(['\0', '\n']).parse().ok())
            .filter(|number| *number > 0);
        let Some(pid) = number.and_then(Pid::from_raw) else {
            // It may just have gone.
            let gone = lstat(Path::new(SHADOW))?.is_none();
            return Ok(if gone { Self::Stale } else { Self::Odd });
        };
        // We do not hold it: an earlier process with our PID did, such as PID 1 before a container's restart.
        let dead = pid == getpid() || test_kill_process(pid) == Err(Errno::SRCH);
        Ok(if dead { Self::Stale } else { Self::Live(pid) })
    }
}

/// The error for a lock that another process does not release.
fn busy(what: &str, lock: &str, pid: Option<Pid>) -> Error {
    let holder = pid.map_or("a process that is not visible from here".into(), named);
    Error::cure(
        what,
        format!("{holder} has held {lock} for {} s", LIMIT.as_secs()),
        "wait until that has ended, then try again",
    )
}

/// A process by name and PID. The name is the process's own choice, hence `harmless`.
fn named(pid: Pid) -> String {
    let number = pid.as_raw_nonzero();
    let stat = file::read(Path::new(&format!("/proc/{number}/stat"))).unwrap_or_default();
    let name = procfs::stat(&stat)
        .map(|stat| stat.name)
        .unwrap_or_default();
    format!("{} (process {number})", harmless(&name))
}
