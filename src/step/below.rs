//! Directories and mount points in places that others may write to: the way to the jail's root, and to what is bound in
//! a directory of its own. No link on the way is followed, and nothing of somebody else's is taken for ours.
//!
//! Theory of operation. The parent directory is opened without following any link, checked, and held open: everything
//! is done relative to that descriptor, whatever its name leads to by then. The parent and what is made in it have to
//! be root's, so that nobody else can remove or replace the latter.

use std::ffi::OsStr;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::file::{Dir, File};
use super::{Action, Machine, Seen};
use crate::error::{Error, Result, What as _};
use crate::file::is_ours;
use crate::text::quote;

/// A directory, or a file to mount something on.
pub struct Below {
    /// Where.
    pub path: PathBuf,
    /// Whether it is a directory; otherwise it is an empty file.
    pub is_dir: bool,
}

/// A directory that is held open, and the name of something in it.
struct Held<'a>(OwnedFd, &'a OsStr);

impl<'a> Held<'a> {
    /// Opens the parent directory of a path; none if it is not there, or only by way of a link.
    fn of(path: &'a Path) -> rustix::io::Result<Option<Self>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::INVAL);
        };
        let mut dir = fs::open("/", flags, Mode::empty())?;
        for component in parent.components() {
            let Component::Normal(component) = component else {
                continue;
            };
            dir = match fs::openat(&dir, component, flags, Mode::empty()) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                other => other?,
            };
        }
        Ok(Some(Self(dir, name)))
    }

    /// What is there under the name.
    fn look(&self) -> rustix::io::Result<Option<fs::Stat>> {
        match fs::statat(&self.0, self.1, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            other => other.map(Some),
        }
    }
}

impl Below {
    /// Opens its parent directory; none if that is not there.
    fn hold(&self) -> Result<Option<Held<'_>>> {
        Held::of(&self.path).what(|| self.to_string())
    }

    /// Its type.
    fn kind(&self) -> FileType {
        if self.is_dir {
            FileType::Directory
        } else {
            FileType::RegularFile
        }
    }

    /// What is there, in the parent directory that is held.
    fn seen(&self, held: &Held<'_>) -> rustix::io::Result<Seen> {
        // One stat says both what it is and whose: what is root's in root's directory stays there.
        let there = held.look()?;
        let dir = fs::fstat(&held.0)?;
        let mut all = [Some(dir), there].into_iter().flatten();
        if let Some(stat) = all.find(|stat| !is_ours(stat)) {
            let whose = format!("something that belongs to user {} on the way", stat.st_uid);
            return Ok(Seen::Other(whose));
        }
        Ok(match there {
            None => Seen::Absent,
            Some(stat) if FileType::from_raw_mode(stat.st_mode) == self.kind() => Seen::Done,
            Some(_) if self.is_dir => Seen::Other("not a directory".into()),
            Some(_) => Seen::Other("not a regular file".into()),
        })
    }

    /// Makes it, whatever umask the caller has.
    fn make(&self, Held(dir, name): &Held<'_>) -> rustix::io::Result<()> {
        if self.is_dir {
            let mode = Mode::from_raw_mode(0o755);
            fs::mkdirat(dir, *name, mode)?;
            return fs::chmodat(dir, *name, mode, AtFlags::empty());
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        fs::fchmod(fs::openat(dir, *name, OFlags::WRONLY | flags, mode)?, mode)
    }
}

impl fmt::Display for Below {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.clone();
        if self.is_dir {
            Dir { path, mode: 0o755 }.fmt(f)
        } else {
            File::mount_point(path).fmt(f)
        }
    }
}

impl Action for Below {
    fn observe(&self, _: &mut Machine) -> Result<Seen> {
        match self.hold()? {
            Some(held) => self.seen(&held).what(|| self.to_string()),
            None => Ok(Seen::Absent),
        }
    }

    fn apply(&self, _: &mut Machine) -> Result<()> {
        let what = || self.to_string();
        let held = self.hold()?.ok_or(Errno::NOTDIR).what(what)?;
        match self.make(&held) {
            // Somebody was there first.
            Err(Errno::EXIST) => {}
            other => return other.what(what),
        }
        let there = match self.seen(&held).what(what)? {
            Seen::Done | Seen::Torn => return Ok(()),
            Seen::Other(there) => there,
            // And is gone again.
            Seen::Absent => "something that comes and goes".into(),
        };
        Err(Error::text(what(), format!("there is {there}")))
    }

    /// Directory or file, it is removed only if it is empty: what people put there is theirs.
    fn undo(&self, _: &mut Machine) -> Result<()> {
        let Some(held) = self.hold()? else {
            return Ok(());
        };
        let (command, flags) = if self.is_dir {
            ("rmdir", AtFlags::REMOVEDIR)
        } else {
            ("rm", AtFlags::empty())
        };
        let what = || format!("{command} {}", quote(&self.path));
        if !self.is_dir && held.look().what(what)?.is_none_or(|stat| stat.st_size != 0) {
            return Ok(());
        }
        match fs::unlinkat(&held.0, held.1, flags) {
            // EBUSY: somebody has mounted something there.
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::BUSY | Errno::NOENT) => Ok(()),
            other => other.what(what),
        }
    }
}
