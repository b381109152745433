//! The run directory, made ready for names. The names themselves are not made here.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountPropagationFlags, UnmountFlags, mount_bind_recursive, mount_change, unmount,
};

use super::{DIR, mounts};
use crate::error::{Error, Result, What as _, complain};

/// The run directory, made ready for new names and locked against all others who make or repair one.
pub struct RunDir {
    /// The flock that `ip netns` takes too, while it makes the directory ready. The kernel drops it with its holder.
    _lock: OwnedFd,
    /// What of it this process has made.
    new: New,
}

/// What was made of the run directory; taken back if it is not kept.
#[derive(Default)]
struct New {
    /// The directory.
    dir: bool,
    /// Its mount.
    mount: bool,
}

impl New {
    /// Takes it back, unless there is somebody's name in it by now.
    fn take_back(&self) {
        if self.mount {
            RunDir::unmount().ok();
        }
        if self.dir {
            rustix::fs::rmdir(DIR).ok();
        }
    }
}

impl RunDir {
    /// Calls `work` with the directory ready. If that fails, what was made of the directory for it is taken back.
    pub fn with<T>(work: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        let ready = Self::prepare()?;
        work(&ready).inspect_err(|_| ready.new.take_back())
    }

    /// Makes the directory a mount that is a peer group of its own. Just bound to itself within a shared /run it would
    /// join /run's group, and every name would be mounted twice; so it is made private in between.
    pub fn prepare() -> Result<Self> {
        let mut new = New::default();
        match Self::make(&mut new) {
            Ok(lock) => Ok(Self { _lock: lock, new }),
            Err((error, _lock)) => {
                new.take_back();
                Err(error)
            }
        }
    }

    /// See [`RunDir::prepare`]; an error has the lock with it, which is held until the directory is taken back.
    fn make(new: &mut New) -> Result<OwnedFd, (Error, Option<OwnedFd>)> {
        match rustix::fs::mkdir(DIR, Mode::from_raw_mode(0o755)) {
            Ok(()) => new.dir = true,
            Err(Errno::EXIST) => {}
            Err(errno) => {
                let failed = Err(errno).what(|| format!("mkdir {DIR} failed"));
                return failed.map_err(|error| (error, None));
            }
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(DIR, flags, Mode::empty())
            .what(|| format!("Cannot open netns runtime directory \"{DIR}\""))
            .map_err(|error| (error, None))?;
        loop {
            match rustix::fs::flock(&dir, FlockOperation::LockExclusive) {
                Err(Errno::INTR) => {}
                Ok(()) => break,
                Err(errno) => {
                    let why = Error::reason(errno);
                    complain(&format!(
                        "Warning: could not flock netns runtime directory \"{DIR}\": {why}\n"
                    ));
                    break;
                }
            }
        }
        match Self::share(new) {
            Ok(()) => Ok(dir),
            Err(error) => Err((error, Some(dir))),
        }
    }

    /// Makes the directory a shared mount.
    fn share(new: &mut New) -> Result<()> {
        // In a mount namespace that is a slave, such as that of an exec, the file would be seen everywhere, but the
        // namespace mounted on it only here.
        if mounts::is_slave(Path::new(DIR))? {
            return Err(Error::cure(
                format!("mount --make-shared {DIR} failed"),
                "its mounts are not seen outside this mount namespace, which an exec or the like made",
                "call it outside, or use 'kak netns -n NAME add ...' instead of exec",
            ));
        }
        let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
        let share = || format!("mount --make-shared {DIR} failed");
        match mount_change(DIR, shared) {
            // Not a mount point yet.
            Err(Errno::INVAL) => {
                mount_bind_recursive(DIR, DIR)
                    .what(|| format!("mount --bind {DIR} {DIR} failed"))?;
                new.mount = true;
                let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
                mount_change(DIR, private).what(|| format!("mount --make-private {DIR} failed"))?;
                mount_change(DIR, shared).what(share)
            }
            other => other.what(share),
        }
    }

    /// Unmounts the directory, if no namespace is in it and nobody is using it. Only for the one that has mounted it.
    pub fn unmount() -> Result<()> {
        // Not lazily: a process that has it open, as `ip netns add` has for a moment, keeps it mounted.
        match unmount(DIR, UnmountFlags::NOFOLLOW) {
            Ok(()) | Err(Errno::BUSY | Errno::INVAL) => Ok(()),
            Err(errno) => Err(errno).what(|| format!("umount {DIR}")),
        }
    }
}
