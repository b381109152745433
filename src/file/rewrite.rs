//! Replaces a file's content, whole or not at all, even if we are killed meanwhile. The new content is written beside
//! the file and renamed over it; if the file is a mount point (EBUSY of rename(2)), it is written over the old one.
//! This module takes no locks, and does not know what is in the file.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{self, FileType, Mode, OFlags, XattrFlags};
use rustix::io::{Errno, Result};

use super::{lstat, read, read_all, remove};
use crate::error::{self, What as _};
use crate::text::quote;

/// The longest list of extended attributes, and the longest value of one (linux/limits.h).
const ATTRIBUTES_MAX: usize = 65536;

/// Where a file's new content is written before it is put in its place.
pub fn beside(path: &Path) -> PathBuf {
    let mut new = path.as_os_str().to_owned();
    new.push(".kak-new");
    new.into()
}

/// Gives a file of our own this content.
pub fn replace(path: &Path, text: &[u8], mode: Mode) -> Result<()> {
    put(path, text, |new| fs::fchmod(new, mode))
}

/// Gives a file of somebody else's this content, and keeps its owner, mode and extended attributes. It is on disk when
/// this returns.
pub fn rewrite(path: &Path, text: &[u8]) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let old = fs::open(path, flags, Mode::empty())?;
    let stat = fs::fstat(&old)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    put(path, text, |new| {
        let (owner, group) = (
            fs::Uid::from_raw(stat.st_uid),
            fs::Gid::from_raw(stat.st_gid),
        );
        fs::fchown(new, Some(owner), Some(group))?;
        copy_attributes(&old, new)?;
        fs::fchmod(new, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
        fs::fsync(new)
    })?;
    // The file, if it was written over; the directory, if it was renamed.
    let dir = path.parent().unwrap_or(Path::new("/"));
    [path, dir].into_iter().try_for_each(|path| {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::fsync(fs::open(path, flags, Mode::empty())?)
    })
}

/// Finishes what a killed process began: the file then has the old content or the new, and nothing else is left.
pub fn recover(path: &Path) -> error::Result<()> {
    let new = beside(path);
    if lstat(&new)?.is_none() {
        return Ok(());
    }
    let (meant, there) = (read(&new)?, read(path)?);
    // It was killed after writing over the old content, which was longer: see `overwrite`.
    if let Some(rest) = there.strip_prefix(meant.as_slice())
        && !meant.is_empty()
        && !rest.is_empty()
        && rest.iter().all(|byte| *byte == b'\n')
    {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::open(path, flags, Mode::empty())
            .and_then(|file| cut(&file, meant.len()))
            .what(|| format!("truncate -s {} {}", meant.len(), quote(path)))?;
    }
    remove(&new)
}

/// Writes the new content beside the file, lets `finish` set its attributes, and renames it into place.
fn put(path: &Path, text: &[u8], finish: impl FnOnce(&OwnedFd) -> Result<()>) -> Result<()> {
    let new = beside(path);
    let open = || {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::open(&new, flags, Mode::from_raw_mode(0o600))
    };
    let file = match open() {
        Err(Errno::EXIST) => {
            fs::unlink(&new)?;
            open()?
        }
        other => other?,
    };
    let put = write_all(&file, text)
        .and_then(|()| finish(&file))
        .and_then(|()| match fs::rename(&new, path) {
            // What is beside it stays until all is done, for `recover`.
            Err(Errno::BUSY) => overwrite(path, text).and_then(|()| fs::unlink(&new)),
            other => other,
        });
    if put.is_err() {
        fs::unlink(&new).ok();
    }
    put
}

/// Writes the new content over the old one, by a single write from the first byte that differs. It is padded with
/// newlines to the old length: if we are killed before it is truncated, there are empty lines at the end, not half a
/// line. If the new content is a prefix of the old, the file is only truncated.
pub fn overwrite(path: &Path, text: &[u8]) -> Result<()> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = fs::open(path, flags, Mode::empty())?;
    let before = read_all(&file)?;
    let same = before.iter().zip(text).take_while(|(a, b)| a == b).count();
    if same == text.len() {
        return cut(&file, same);
    }
    let write = |text: &[u8], at_least: usize| {
        let mut rest = text.get(same..).unwrap_or_default().to_vec();
        rest.resize(rest.len().max(at_least - same), b'\n');
        fs::seek(&file, fs::SeekFrom::Start(length(same)))?;
        write_all(&file, &rest)?;
        cut(&file, text.len())
    };
    write(text, before.len()).or_else(|errno| {
        // The disk may be full; there is room for what was there.
        write(&before, before.len()).and(Err(errno))
    })
}

/// ftruncate(2).
fn cut(file: &OwnedFd, at: usize) -> Result<()> {
    fs::ftruncate(file, length(at))
}

/// A length as the kernel takes it.
fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Gives a file the extended attributes of another: access control lists, security labels.
fn copy_attributes(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let mut names = Vec::with_capacity(ATTRIBUTES_MAX);
    match fs::flistxattr(from, rustix::buffer::spare_capacity(&mut names)) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        other => other?,
    };
    let names = names.split(|byte| *byte == 0);
    for name in names.filter(|name| !name.is_empty()) {
        let value = |file: &OwnedFd| {
            let mut value = Vec::with_capacity(ATTRIBUTES_MAX);
            fs::fgetxattr(file, name, rustix::buffer::spare_capacity(&mut value)).map(|_| value)
        };
        let wanted = value(from)?;
        // One that it has already, as a label often, is not set: that may not be permitted.
        if value(to).ok().as_ref() != Some(&wanted) {
            fs::fsetxattr(to, name, &wanted, XattrFlags::empty())?;
        }
    }
    Ok(())
}

/// Writes all of it.
pub fn write_all(file: &OwnedFd, mut text: &[u8]) -> Result<()> {
    while !text.is_empty() {
        let written = rustix::io::write(file, text)?;
        text = text.get(written..).unwrap_or_default();
    }
    Ok(())
}
