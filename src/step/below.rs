//! What lasts in a directory of the jail's own, into which others may write: the way to what is bound there. No link leads
//! from it to somewhere else, and nothing of somebody else's stands in for what is ours.
//!
//! Theory of operation. The directory that something is in is opened without following any link, is looked at, and is
//! held meanwhile: what is done is done in there, wherever its name leads to by then. That it is root's, and what is on
//! the way too, keeps everybody else from taking away, or putting something in the place of, what was made in it.

use std::fmt;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::file::{Dir, File};
use super::{Action, Machine, Seen};
use crate::error::{Error, Result, What as _};
use crate::file::{is_ours, lstat};

/// What can be there.
pub trait Placed: Action {
    /// Where it is.
    fn path(&self) -> &Path;

    /// The same at another path.
    fn at(&self, path: PathBuf) -> Self;
}

impl Placed for Dir {
    fn path(&self) -> &Path {
        &self.path
    }

    fn at(&self, path: PathBuf) -> Self {
        let mode = self.mode;
        Self { path, mode }
    }
}

impl Placed for File {
    fn path(&self) -> &Path {
        &self.path
    }

    fn at(&self, path: PathBuf) -> Self {
        let text = self.text.clone();
        let (mode, ours) = (self.mode, self.ours);
        Self {
            path,
            mode,
            text,
            ours,
        }
    }
}

/// Something in a directory that is held.
pub struct Below<A>(pub A);

/// A directory that is held, and the path by which something in it is found as long as it is.
struct Held {
    /// The directory.
    dir: OwnedFd,
    /// The path.
    path: PathBuf,
}

impl Held {
    /// Holds the directory of a path; none if it is not there, or not without a link.
    fn of(path: &Path) -> rustix::io::Result<Option<Self>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::INVAL);
        };
        let mut dir = rustix::fs::open("/", flags, Mode::empty())?;
        for component in parent.components() {
            let Component::Normal(component) = component else {
                continue;
            };
            dir = match rustix::fs::openat(&dir, component, flags, Mode::empty()) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                other => other?,
            };
        }
        let path = Path::new("/proc/self/fd")
            .join(dir.as_raw_fd().to_string())
            .join(name);
        Ok(Some(Self { dir, path }))
    }
}

impl<A: Placed> Below<A> {
    /// Holds its directory; none if that is not there.
    fn hold(&self) -> Result<Option<Held>> {
        Held::of(self.0.path()).what(|| self.to_string())
    }

    /// Does something to it in its directory, and tells of what went wrong by its own name.
    fn within(&self, held: &Held, work: impl FnOnce(A) -> Result<()>) -> Result<()> {
        work(self.0.at(held.path.clone())).map_err(|error| {
            match error.errno() {
                Some(errno) => Err::<(), _>(errno).what(|| self.to_string()).err(),
                None => None,
            }
            .unwrap_or(error)
        })
    }
}

impl<A: Placed> fmt::Display for Below<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<A: Placed> Action for Below<A> {
    fn observe(&self, machine: &mut Machine) -> Result<Seen> {
        let Some(held) = self.hold()? else {
            return Ok(Seen::Absent);
        };
        let dir = rustix::fs::fstat(&held.dir).what(|| self.to_string())?;
        for stat in [Some(dir), lstat(&held.path)?].into_iter().flatten() {
            if !is_ours(&stat) {
                let whose = format!("something of user {}'s on the way", stat.st_uid);
                return Ok(Seen::Other(whose));
            }
        }
        self.0.at(held.path).observe(machine)
    }

    fn apply(&self, machine: &mut Machine) -> Result<()> {
        let held = self.hold()?;
        let held = held.ok_or(Errno::NOTDIR).what(|| self.to_string())?;
        self.within(&held, |act| act.apply(machine))?;
        // Somebody may have been there first.
        match self.observe(machine)? {
            Seen::Other(there) => Err(Error::text(self.to_string(), format!("there is {there}"))),
            _ => Ok(()),
        }
    }

    fn undo(&self, machine: &mut Machine) -> Result<()> {
        match self.hold()? {
            Some(held) => self.within(&held, |act| act.undo(machine)),
            None => Ok(()),
        }
    }
}
