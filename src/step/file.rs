//! What lasts in a file system: directories, links and files of our own.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::fs::{self, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{Action, Machine, Seen};
use crate::error::{Result, What as _};
use crate::file::rewrite::beside;
use crate::file::{is_closed, lstat, read, remove, replace};
use crate::text::{quote, shown};

/// A directory. Taken back only if it is empty: what people put or mount there is theirs.
pub struct Dir {
    /// Where.
    pub path: PathBuf,
    /// Its permissions.
    pub mode: u32,
}

impl fmt::Display for Dir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mkdir -p -m {:o} {}", self.mode, quote(&self.path))
    }
}

impl Action for Dir {
    fn observe(&self, _: &mut Machine) -> Result<Seen> {
        let Some(stat) = lstat(&self.path)? else {
            return Ok(Seen::Absent);
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(Seen::Other("not a directory".into()));
        }
        // Of the mode only this matters: that everybody may write, or that nobody else has any access.
        let right = self.mode & 0o002 == 0 || stat.st_mode & 0o7777 == self.mode;
        Ok(if right && is_closed(&stat, self.mode) {
            Seen::Done
        } else {
            Seen::Torn
        })
    }

    fn apply(&self, _: &mut Machine) -> Result<()> {
        let mode = Mode::from_raw_mode(self.mode);
        let made = match fs::mkdir(&self.path, mode) {
            // Whatever umask the caller has.
            Ok(()) => fs::chmod(&self.path, mode),
            // Somebody else has made it; it may be a link by now.
            Err(Errno::EXIST) => {
                let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                fs::open(&self.path, flags, Mode::empty()).and_then(|dir| fs::fchmod(dir, mode))
            }
            Err(errno) => Err(errno),
        };
        made.what(|| self.to_string())
    }

    fn undo(&self, _: &mut Machine) -> Result<()> {
        match fs::rmdir(&self.path) {
            // EBUSY: somebody has mounted something there.
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::BUSY | Errno::NOENT) => Ok(()),
            other => other.what(|| format!("rmdir {}", quote(&self.path))),
        }
    }
}

/// A symbolic link.
pub struct Symlink {
    /// Where.
    pub path: PathBuf,
    /// Where to.
    pub target: OsString,
}

impl fmt::Display for Symlink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ln -sn {} {}", quote(&self.target), quote(&self.path))
    }
}

impl Action for Symlink {
    fn observe(&self, _: &mut Machine) -> Result<Seen> {
        match fs::readlink(&self.path, Vec::new()) {
            Ok(target) if target.as_bytes() == self.target.as_encoded_bytes() => Ok(Seen::Done),
            Ok(target) => Ok(Seen::Other(format!(
                "a link to {}",
                shown(OsStr::from_bytes(target.to_bytes()))
            ))),
            Err(Errno::INVAL) => Ok(Seen::Other("not a symbolic link".into())),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(Seen::Absent),
            Err(errno) => Err(errno).what(|| format!("readlink {}", quote(&self.path))),
        }
    }

    fn apply(&self, _: &mut Machine) -> Result<()> {
        fs::symlink(&self.target, &self.path).what(|| self.to_string())
    }

    fn undo(&self, _: &mut Machine) -> Result<()> {
        remove(&self.path)
    }
}

/// A file of our own.
pub struct File {
    /// Where.
    pub path: PathBuf,
    /// Its permissions.
    pub mode: u32,
    /// What is in it.
    pub text: Vec<u8>,
    /// Whether it is taken back whatever somebody wrote into it meanwhile.
    pub ours: bool,
}

impl File {
    /// An empty file, over which something will be mounted.
    pub fn mount_point(path: PathBuf) -> Self {
        Self {
            path,
            mode: 0o644,
            text: Vec::new(),
            ours: false,
        }
    }
}

impl File {
    /// Whether the file that is there will do. If it is ours and has a text, that must be the same.
    fn says(&self) -> Result<bool> {
        Ok(!self.ours || self.text.is_empty() || read(&self.path)? == self.text)
    }
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = quote(&self.path);
        if self.text.is_empty() {
            write!(f, "touch {path} && chmod {:o} {path}", self.mode)
        } else {
            let text = shown(OsStr::from_bytes(&self.text));
            let text = text.strip_suffix('\n').unwrap_or(&text);
            write!(
                f,
                "cat >{path} <<'KAK' && chmod {:o} {path}\n{text}\nKAK",
                self.mode
            )
        }
    }
}

impl Action for File {
    fn observe(&self, _: &mut Machine) -> Result<Seen> {
        let Some(stat) = lstat(&self.path)? else {
            // Left by a process that was killed before it could rename it into place.
            let torn = lstat(&beside(&self.path))?.is_some();
            return Ok(if torn { Seen::Torn } else { Seen::Absent });
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(Seen::Other("not a regular file".into()));
        }
        Ok(if is_closed(&stat, self.mode) && self.says()? {
            Seen::Done
        } else {
            Seen::Torn
        })
    }

    fn apply(&self, _: &mut Machine) -> Result<()> {
        replace(&self.path, &self.text, Mode::from_raw_mode(self.mode)).what(|| self.to_string())
    }

    /// The file is never missing meanwhile: the record is the only trace of what was made. Nor is it replaced where
    /// that is not needed: a live init is known by its lock on the very lock file.
    fn mend(&self, machine: &mut Machine) -> Result<()> {
        if lstat(&self.path)?.is_some() && self.says()? {
            return fs::chmod(&self.path, Mode::from_raw_mode(self.mode)).what(|| self.to_string());
        }
        self.apply(machine)
    }

    fn undo(&self, _: &mut Machine) -> Result<()> {
        remove(&beside(&self.path))?;
        if self.ours || read(&self.path)? == self.text {
            remove(&self.path)?;
        }
        Ok(())
    }
}
