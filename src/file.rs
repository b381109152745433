//! Whole files: looked at, read, removed, and checked for who could have made them. This module does not know what they
//! are for; what a file of kak's must be like is [`crate::step::file`]'s business.

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

/// What a path leads to, as a path without any link in it: as the kernel reports it.
pub fn real_path(path: &Path) -> rustix::io::Result<PathBuf> {
    let fd = fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let real = fs::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new())?;
    Ok(OsString::from_vec(real.into_bytes()).into())
}

/// Whether access(2) allows something. A failure to find out at the moment is an error, not a no.
pub fn may(path: &Path, what: fs::Access) -> Result<bool> {
    match fs::access(path, what) {
        Ok(()) => Ok(true),
        Err(errno @ (Errno::NOMEM | Errno::INTR | Errno::IO)) => {
            Err(errno).what(|| format!("stat {}", quote(path)))
        }
        Err(_) => Ok(false),
    }
}

/// A file's bytes; empty where there is no file.
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

/// The rest of an open file.
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

/// Whether group and others have no access, or the `wanted` mode gives them some anyway.
pub fn is_closed(stat: &fs::Stat, wanted: u32) -> bool {
    let others = |mode| Mode::from_raw_mode(mode).intersects(Mode::RWXG | Mode::RWXO);
    others(wanted) || !others(stat.st_mode)
}

/// Removes a file that others can open: one of them may have it open, and hold a lock on it.
pub fn remove_open(path: &Path) -> Result<()> {
    match lstat(path)? {
        Some(stat) if !is_closed(&stat, 0o600) => remove(path),
        _ => Ok(()),
    }
}

/// Whether something belongs to us, or to the owner of `/`: in a user namespace the latter may not be mapped.
pub fn is_ours(stat: &fs::Stat) -> bool {
    stat.st_uid == rustix::process::geteuid().as_raw()
        || fs::stat("/").is_ok_and(|root| root.st_uid == stat.st_uid)
}

/// Checks that nobody but root, or the user this process runs as, can have made or written what is at a path, if
/// anything is: it is of this type, and a file has no second name. The directories above it are checked by the caller
/// first, so that this stays so. Returns its stat, if it is there.
pub fn check_roots(path: &Path, kind: FileType) -> Result<Option<fs::Stat>> {
    // /run may be a link to /var/run; and in a sticky directory only an entry's owner can remove it.
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

/// The same for what was found at a path.
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
        "it has a second hard link".into()
    } else {
        return Ok(());
    };
    Err(Error::text(
        quote(path),
        format!("is not root's alone, and so not trusted: {why}"),
    ))
}

/// Checks that what is at a path, if anything, is a real directory that belongs to us.
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
