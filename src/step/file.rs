//! What lasts in a file system: directories, links and files of our own.

pub mod rewrite;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{self, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{Action, Machine, Seen, quote};
use crate::error::{Error, Result, What as _};
use crate::text::shown;
use rewrite::beside;

pub use rewrite::{overwrite, replace};

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
        // Only that everybody may write, or nobody else anything, is part of what the directory is for.
        let right = self.mode & 0o002 == 0 || stat.st_mode & 0o7777 == self.mode;
        Ok(if right && is_closed(&stat, self.mode) {
            Seen::Done
        } else {
            Seen::Torn
        })
    }

    fn apply(&self, _: &mut Machine) -> Result<()> {
        match fs::mkdir(&self.path, Mode::from_raw_mode(self.mode)) {
            Err(Errno::EXIST) => {}
            other => other.what(|| self.to_string())?,
        }
        // Whatever umask the caller has.
        fs::chmod(&self.path, Mode::from_raw_mode(self.mode)).what(|| self.to_string())
    }

    fn undo(&self, _: &mut Machine) -> Result<()> {
        match fs::rmdir(&self.path) {
            // Busy it is where somebody has mounted something.
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
    /// Whether what is there will do. Of a file of our own that shall say something, one that says something else is none.
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
            // What somebody had written who was killed before he could put it in its place.
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

    /// At no time is there no file: the record is all that anybody knows of what was made. Nor is there another one where
    /// that need not be: the lock is one by which somebody lives.
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

/// lstat(2), where a missing file or parent is no error.
pub fn lstat(path: &Path) -> Result<Option<fs::Stat>> {
    match fs::lstat(path) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno).what(|| format!("stat {}", quote(path))),
    }
}

/// What a path leads to, as a path without any link in it: the kernel's own word.
pub fn real_path(path: &Path) -> rustix::io::Result<PathBuf> {
    let fd = fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let real = fs::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new())?;
    Ok(OsString::from_vec(real.into_bytes()).into())
}

/// A file's bytes; none where there is no file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let what = || format!("cat {}", quote(path));
    let file = match fs::open(
        path,
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK,
        Mode::empty(),
    ) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
        Err(errno) => return Err(errno).what(what),
    };
    read_all(&file).what(what)
}

/// What is in an open file from here on.
fn read_all(file: &OwnedFd) -> rustix::io::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(4096);
    while rustix::io::read(file, rustix::buffer::spare_capacity(&mut text))? > 0 {
        if text.len() == text.capacity() {
            text.reserve(text.len());
        }
    }
    Ok(text)
}

/// unlink(2), where a missing file is no error.
pub fn remove(path: &Path) -> Result<()> {
    match fs::unlink(path) {
        Err(Errno::NOENT) => Ok(()),
        other => other.what(|| format!("rm {}", quote(path))),
    }
}

/// Whether nobody else may do anything with what has this mode, or that is not asked for.
fn is_closed(stat: &fs::Stat, wanted: u32) -> bool {
    let others = |mode| Mode::from_raw_mode(mode).intersects(Mode::RWXG | Mode::RWXO);
    others(wanted) || !others(stat.st_mode)
}

/// Takes a file away that others could open: they may have, and hold a lock on it.
pub fn remove_open(path: &Path) -> Result<()> {
    match lstat(path)? {
        Some(stat) if !is_closed(&stat, 0o600) => remove(path),
        _ => Ok(()),
    }
}

/// That a directory is nobody else's: a real directory that belongs to us.
pub fn check_ours(path: &Path) -> Result<()> {
    let Some(stat) = lstat(path)? else {
        return Ok(());
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(Error::text(quote(path), "is there and is not a directory"));
    }
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(Error::text(
            quote(path),
            format!("belongs to user {}, not to us", stat.st_uid),
        ));
    }
    Ok(())
}
