//! Files as a whole: what is there, what is in it, taken away. It knows nothing of what they are for; what a file of
//! ours is to be like is [`crate::step::file`]'s business.

pub mod rewrite;
mod within;

use std::ffi::OsString;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{self, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Result, What as _};
use crate::text::quote;

pub use rewrite::{overwrite, replace};
pub use within::{Astray, names, open_within, real_within, roots_path};

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

/// Whether something may be done with a file. That the kernel cannot say so at the moment is no answer.
pub fn may(path: &Path, what: fs::Access) -> Result<bool> {
    match fs::access(path, what) {
        Ok(()) => Ok(true),
        Err(errno @ (Errno::NOMEM | Errno::INTR | Errno::IO)) => {
            Err(errno).what(|| format!("stat {}", quote(path)))
        }
        Err(_) => Ok(false),
    }
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
pub fn is_closed(stat: &fs::Stat, wanted: u32) -> bool {
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

/// Whether something belongs to us, or to whom the root does: in a user namespace that one may have no number.
pub fn is_ours(stat: &fs::Stat) -> bool {
    stat.st_uid == rustix::process::geteuid().as_raw()
        || fs::stat("/").is_ok_and(|root| root.st_uid == stat.st_uid)
}

/// That nobody but root, or whom this process runs as, can have put something there or written it, if it is there: it
/// is what it should be, and by no other name too. What is above it is asked about before, so that this stays so. What
/// it is, if it is there.
pub fn check_roots(path: &Path, kind: FileType) -> Result<Option<fs::Stat>> {
    // It may be a link to /var/run; and of a sticky directory only the owner of what is in there can take it away.
    let shared = path == Path::new("/run");
    let stat = if shared {
        fs::stat(path)
    } else {
        fs::lstat(path)
    };
    let stat = match stat {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        other => other.what(|| format!("stat {}", quote(path)))?,
    };
    check_root(path, &stat, kind).map(|()| Some(stat))
}

/// The same of what was found at a path.
pub fn check_root(path: &Path, stat: &fs::Stat, kind: FileType) -> Result<()> {
    let shared = path == Path::new("/run");
    let (user, mode) = (stat.st_uid, stat.st_mode);
    let why = if FileType::from_raw_mode(mode) != kind {
        match kind {
            FileType::Directory => "it is not a directory".into(),
            FileType::Symlink => "it is not a link".into(),
            _ => "it is not a regular file".into(),
        }
    } else if user != 0 && user != rustix::process::geteuid().as_raw() {
        format!("it belongs to user {user}")
    } else if kind != FileType::Symlink && mode & 0o022 != 0 && !(shared && mode & 0o1000 != 0) {
        format!("others can write to it, its mode is {:o}", mode & 0o7777)
    } else if kind == FileType::RegularFile && stat.st_nlink > 1 {
        "it has another name too".into()
    } else {
        return Ok(());
    };
    Err(Error::text(
        quote(path),
        format!("is not root's alone, and is not believed: {why}"),
    ))
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
