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

/// A directory or a file in a directory that is held.
pub struct Below {
    /// Where.
    pub path: PathBuf,
    /// Whether it is a directory; else it is a file to mount something on.
    pub is_dir: bool,
}

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

impl Below {
    /// Holds its directory; none if that is not there.
    fn hold(&self) -> Result<Option<Held>> {
        Held::of(&self.path).what(|| self.to_string())
    }

    /// The same at another path.
    fn at(&self, path: PathBuf) -> Box<dyn Action> {
        if self.is_dir {
            Box::new(Dir { path, mode: 0o755 })
        } else {
            Box::new(File::mount_point(path))
        }
    }

    /// What went wrong, by its own name.
    fn told(&self, error: Error) -> Error {
        let by_name = |errno| Err::<(), _>(errno).what(|| self.to_string()).err();
        error.errno().and_then(by_name).unwrap_or(error)
    }
}

impl fmt::Display for Below {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.at(self.path.clone()).fmt(f)
    }
}

impl Action for Below {
    fn observe(&self, machine: &mut Machine) -> Result<Seen> {
        let Some(held) = self.hold()? else {
            return Ok(Seen::Absent);
        };
        // Whose it is, is asked last: what is root's in a directory of root's stays there, while what was looked at before
        // may have been somebody else's, and be gone.
        let seen = self.at(held.path.clone()).observe(machine);
        let dir = rustix::fs::fstat(&held.dir).what(|| self.to_string())?;
        let there = lstat(&held.path)?;
        for stat in [Some(dir), there].into_iter().flatten() {
            if !is_ours(&stat) {
                let whose = format!("something of user {}'s on the way", stat.st_uid);
                return Ok(Seen::Other(whose));
            }
        }
        match seen.map_err(|error| self.told(error))? {
            Seen::Done if there.is_none() => Ok(Seen::Absent),
            seen => Ok(seen),
        }
    }

    fn apply(&self, machine: &mut Machine) -> Result<()> {
        let held = self.hold()?;
        let held = held.ok_or(Errno::NOTDIR).what(|| self.to_string())?;
        let made = self.at(held.path).apply(machine);
        made.map_err(|error| self.told(error))?;
        // Somebody may have been there first, and be gone again.
        let there = match self.observe(machine)? {
            Seen::Done | Seen::Torn => return Ok(()),
            Seen::Other(there) => there,
            Seen::Absent => "something that comes and goes".into(),
        };
        Err(Error::text(self.to_string(), format!("there is {there}")))
    }

    fn undo(&self, machine: &mut Machine) -> Result<()> {
        match self.hold()? {
            Some(held) => {
                let undone = self.at(held.path).undo(machine);
                undone.map_err(|error| self.told(error))
            }
            None => Ok(()),
        }
    }
}
