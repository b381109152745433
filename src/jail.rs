//! A running jail: its init process, and how that is found, inspected and ended.
//!
//! Theory of operation. A jail is up while its *init*, PID 1 of its PID namespace, lives. Init takes a POSIX write lock
//! on `/run/kak/JAIL/lock`, and how many bytes it has locked says how far the jail is ([`Life`]). The kernel tells any
//! process that may open that file the PID of the lock's holder, in the asker's own PID namespace, and drops the lock
//! the instant that process is gone: no pid file can be stale, no name can be imitated, nothing has to be cleaned up.
//!
//! 1. A process that changes what a jail is built on holds [`Lock`]; no terminal can stop it ([`process::apart`]).
//! 2. The [`keeper`] applies the outer steps ([`build`]) and starts [`init`], which is killed if the keeper dies.
//! 3. A [`session`] joins init's namespaces with one setns and leaves a [`monitor`] there as the parent of its shell.
//! 4. A user who is not root but may join does so through a set-user-ID copy of nssh, as a [`guest`].
//! 5. Init is asked to end by signals; it obeys only those that are sent from outside the jail.

pub mod build;
mod capabilities;
pub mod dns;
pub mod end;
pub mod entrypoint;
pub mod guest;
pub mod init;
pub mod keeper;
mod line;
mod lost;
pub mod monitor;
pub mod namespaces;
pub mod network;
pub mod process;
pub mod pty;
pub mod session;
pub mod sessions;
pub mod shell;
pub mod terminal;

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use self::sessions::Processes;
use crate::error::{Error, Result, What as _, complain};
use crate::file;
use crate::procfs;
use crate::record::{self, state::State};
use crate::step::View;
use crate::sys::{self, Holder};

/// How long a jail's processes have to end after SIGTERM. Docker kills a container 10 s after its own SIGTERM.
pub const GRACE: Duration = Duration::from_secs(5);

/// How many bytes of the lock file init has locked while its root is not ready.
const STARTING: u8 = 1;
/// How many bytes when the jail can be joined.
const UP: u8 = 2;
/// How many bytes when the jail is going down.
const ENDING: u8 = 3;
/// How many bytes a relay has locked that serves a network without a jail: it can be ended, but not joined.
const RELAY: u8 = 4;

/// A jail's init process.
pub struct Init {
    /// Its PID in our PID namespace.
    pub pid: Pid,
    /// Its pidfd, which never comes to refer to another process.
    pub fd: OwnedFd,
}

/// The state of a jail.
pub enum Life {
    /// There is no init.
    Down,
    /// Init is still building the jail's root.
    Starting(Init),
    /// It can be joined.
    Up(Init),
    /// It is going down.
    Ending(Init),
}

impl Life {
    /// Asks the kernel's lock table about a jail.
    pub fn of(jail: &str) -> Result<Self> {
        Self::by(&State::of(jail)?)
    }

    /// The same, for the jail that has this state.
    pub fn by(state: &State) -> Result<Self> {
        let Some(path) = state.path("lock") else {
            return Ok(Self::Down);
        };
        let what = || format!("lslocks {}", path.display());
        let lock = match rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(lock) => lock,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Self::Down),
            Err(errno) => return Err(errno).what(what),
        };
        loop {
            let (holder, _) = sys::lock_holder(lock.as_fd()).what(what)?;
            let pid = match holder {
                Holder::None => return Ok(Self::Down),
                Holder::Hidden => {
                    return Err(Error::text(
                        what(),
                        "the jail's init is not visible from this PID namespace",
                    ));
                }
                Holder::Process(pid) => pid,
            };
            let fd = match pidfd_open(pid, PidfdFlags::empty()) {
                Ok(fd) => fd,
                Err(Errno::SRCH) => continue,
                Err(errno) => {
                    return Err(errno).what(|| format!("pidfd_open {}", pid.as_raw_nonzero()));
                }
            };
            // The PID may have been reused between the two calls. If its process still holds the lock, it was not.
            let (again, length) = sys::lock_holder(lock.as_fd()).what(what)?;
            if again == Holder::Process(pid) {
                let init = Init { pid, fd };
                return Ok(match length {
                    0..=STARTING => Self::Starting(init),
                    UP => Self::Up(init),
                    _ => Self::Ending(init),
                });
            }
        }
    }
}

impl Init {
    /// The jail as init sees it; none if init is gone.
    pub fn view(&self) -> Result<Option<View>> {
        let path = format!("/proc/{}/mountinfo", self.pid.as_raw_nonzero());
        let text = file::read(Path::new(&path));
        // A process that is exiting has no mounts any more, and reading its mountinfo fails with EINVAL.
        if self.wait(Duration::ZERO)
            || matches!(&text, Err(error) if error.errno() == Some(Errno::INVAL))
        {
            return Ok(None);
        }
        Ok(Some(View {
            init: Some(self.pid.as_raw_nonzero().get()),
            mounts: procfs::mounts(&text?),
            root: PathBuf::from("/"),
        }))
    }

    /// Sends it a signal.
    fn signal(&self, signal: Signal) {
        let send = || pidfd_send_signal(&self.fd, signal);
        // The one lasting error: init is gone, which is fine. If it missed the signal, we would wait for ever.
        send().or_else(|_| send()).ok();
    }

    /// Prints how many sessions are open beside the one that has just ended, if there are any; returns their number.
    pub fn tell_open(&self) -> usize {
        let open = Processes::now().sessions(self.pid).len();
        match open {
            0 => {}
            1 => complain("kak: setup: 1 other session is still open\n"),
            more => complain(&format!(
                "kak: setup: {more} other sessions are still open\n"
            )),
        }
        open
    }

    /// Asks it to end as soon as no session is left.
    pub fn end_when_idle(&self) {
        self.signal(Signal::USR1);
    }

    /// Whether it ends within this time.
    pub fn wait(&self, limit: Duration) -> bool {
        wait_readable(self.fd.as_fd(), limit)
    }

    /// Ends it: by SIGTERM, so that sessions are hung up, then by SIGKILL. Returns when it is gone.
    fn end(&self) -> Result<()> {
        self.signal(Signal::TERM);
        if !self.wait(GRACE + Duration::from_secs(1)) {
            self.signal(Signal::KILL);
            if !self.wait(Duration::from_secs(2)) {
                return Err(Error::cure(
                    format!("kill -KILL {}", self.pid.as_raw_nonzero()),
                    "the jail's init does not end",
                    "a process of the jail has a parent outside that does not reap it: end that parent",
                ));
            }
        }
        Ok(())
    }
}

/// Ends every init of a jail; returns whether there was any.
pub fn end(jail: &str) -> Result<bool> {
    let all = match Life::of(jail)? {
        Life::Down => lost::inits(jail)?,
        Life::Starting(init) | Life::Up(init) | Life::Ending(init) => vec![init],
    };
    all.iter().try_for_each(Init::end)?;
    Ok(!all.is_empty())
}

/// Waits until a descriptor is readable, for `limit` at most; returns whether it is.
pub fn wait_readable(fd: BorrowedFd<'_>, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    loop {
        let rest = deadline.saturating_duration_since(Instant::now());
        match poll(&mut fds, Some(&timespec(rest))) {
            // Interrupted, or the kernel had no memory for a moment: either way nothing is known yet.
            Err(Errno::INTR | Errno::NOMEM) => {}
            result => return result.is_ok_and(|ready| ready > 0),
        }
    }
}

/// A duration as poll wants it.
pub fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// The right to change what jails are built on: an flock on the directory of all of them, since two jails that come up
/// at once would otherwise choose the same subnet. The kernel releases it when its holder dies.
pub struct Lock(OwnedFd);

/// Called with true when [`Lock`] has to be waited for, with false when it is held. An error means: do not go on.
pub type Waits<'a> = &'a mut dyn FnMut(bool) -> Result<()>;

impl Lock {
    /// Takes the lock, waiting for it if need be. If that fails, a directory that was made for it is removed.
    pub fn take(waits: Waits<'_>) -> Result<Self> {
        let mut new = false;
        Self::wait(waits, &mut new).inspect_err(|_| {
            if new {
                drop(Self::take_free());
            }
        })
    }

    /// See [`Lock::take`]. Sets `new` if it makes a directory.
    fn wait(waits: Waits<'_>, new: &mut bool) -> Result<Self> {
        let dir = Path::new(record::DIR);
        let what = || format!("mkdir -p {}", dir.display());
        loop {
            // Nobody else may so much as open the directory: read access is enough to take an flock.
            for (dir, mode) in [(Path::new("/run"), 0o755), (dir, 0o700)] {
                match rustix::fs::mkdir(dir, Mode::from_raw_mode(mode)) {
                    Ok(()) => *new = true,
                    Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno).what(what),
                }
            }
            record::state::check_all()?;
            if file::lstat(dir)?.is_some_and(|stat| stat.st_mode & 0o077 != 0) {
                let mode = Mode::from_raw_mode(0o700);
                rustix::fs::chmod(dir, mode).what(|| format!("chmod 700 {}", dir.display()))?;
            }
            let what = || format!("flock {}", dir.display());
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let fd = match rustix::fs::open(dir, flags, Mode::empty()) {
                // The last holder has removed it.
                Err(Errno::NOENT) => continue,
                other => other.what(what)?,
            };
            let mut operation = FlockOperation::NonBlockingLockExclusive;
            while let Err(errno) = rustix::fs::flock(&fd, operation) {
                match errno {
                    Errno::WOULDBLOCK => {
                        waits(true)?;
                        operation = FlockOperation::LockExclusive;
                    }
                    Errno::INTR => {}
                    errno => return Err(errno).what(what),
                }
            }
            // The previous holder may have removed the directory: a lock on the unlinked one is void.
            let (here, there) = (rustix::fs::fstat(&fd).what(what)?, rustix::fs::stat(dir));
            if there.is_ok_and(|there| (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)) {
                let lock = Self(fd);
                return waits(false).map(|()| lock);
            }
        }
    }

    /// Takes the lock if its directory exists and nobody holds it.
    pub fn take_free() -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(record::DIR, flags, Mode::empty()).ok()?;
        let free = rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive);
        free.ok().map(|()| Self(fd))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Fails while a jail has state left. Errors cannot be reported here; one that may not last is retried once.
        if matches!(rustix::fs::rmdir(record::DIR), Err(errno) if errno != Errno::NOTEMPTY) {
            rustix::fs::rmdir(record::DIR).ok();
        }
        rustix::fs::flock(&self.0, FlockOperation::Unlock).ok();
    }
}

/// The jail's log.
pub fn log(jail: &str) -> Result<OwnedFd> {
    let path = State::of(jail)?.path("log");
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC;
    let log = path.map_or(Err(Errno::NOENT), |path| {
        rustix::fs::open(path, flags, Mode::empty())
    });
    log.what(|| format!("exec 2>>{}/log", record::dir(jail).display()))
}
