//! The locks under which accounts are changed: the C library's, a POSIX lock on /etc/.pwd.lock (lckpwdf(3)), which the
//! kernel lets go with its holder, and inside of it shadow's own, the file /etc/passwd.lock with the holder's process
//! number in it. useradd, usermod, chsh and vipw take both, and wait for us as we wait for them. What is changed under
//! them is not known here.

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

/// How long somebody waits, here as there.
const LIMIT: Duration = Duration::from_secs(15);

/// How often a file is looked at that nobody can wait for.
const PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};

/// Both locks. While they are held no signal ends us, and a limit for files (RLIMIT_FSIZE) is an error as others are.
pub struct Lock {
    /// Of [`LIBRARY`]; closing it lets the lock go.
    _library: OwnedFd,
    /// The signals that were blocked before.
    mask: SignalSet,
    /// What SIGXFSZ did before.
    limit: Disposition,
}

impl Lock {
    /// Waits for both, and takes away what somebody left of ours who was killed; `what` is what for.
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
        // Whoever left it is dead: he held the lock that we hold now.
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
        // Whatever the first attempt lacked, it is worth a second one: nobody hears of it here.
        release().or_else(|_| release()).ok();
        // In this order: what was sent while it was blocked is ignored now.
        sys::set_signal_mask(&self.mask);
        sys::restore_disposition(Signal::XFSZ, &self.limit);
    }
}

/// Whether a lock of ours is there, be it that of somebody who was killed.
pub fn is_there() -> Result<bool> {
    Ok(lstat(&ticket())?.is_some())
}

/// The file that becomes [`SHADOW`] by link(2). It stays beside it: as long as the two are one file, the lock is ours.
fn ticket() -> PathBuf {
    beside(Path::new(SHADOW))
}

/// Makes the ticket, with our number in it as shadow's tools write it.
fn write_ticket() -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = fs::open(ticket(), flags, Mode::from_raw_mode(0o600))?;
    let number = format!("{}\0", getpid().as_raw_nonzero());
    write_all(&file, number.as_bytes())
}

/// Takes the ticket away, and before it the lock that was made of it.
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
        // We do not hold it, whoever had our number before: PID 1 of a container's earlier life, say.
        let dead = pid == getpid() || test_kill_process(pid) == Err(Errno::SRCH);
        Ok(if dead { Self::Stale } else { Self::Live(pid) })
    }
}

/// The error for a lock that somebody else does not let go.
fn busy(what: &str, lock: &str, pid: Option<Pid>) -> Error {
    let holder = pid.map_or("a process that is not visible from here".into(), named);
    Error::cure(
        what,
        format!("{holder} has held {lock} for {} s", LIMIT.as_secs()),
        "wait until that has ended, then try again",
    )
}

/// A process by name and number. It calls itself what it likes.
fn named(pid: Pid) -> String {
    let number = pid.as_raw_nonzero();
    let stat = file::read(Path::new(&format!("/proc/{number}/stat"))).unwrap_or_default();
    let name = procfs::stat(&stat)
        .map(|stat| stat.name)
        .unwrap_or_default();
    format!("{} (process {number})", harmless(&name))
}
