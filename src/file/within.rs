//! Resolves a path component by component, in a root that is put together elsewhere: links are followed as they would
//! be inside it, and only if they are root's, so that nobody else decides where a path leads. Each component is opened
//! relative to the one before it: that names change meanwhile does not matter.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::is_ours;
use crate::error::Error;
use crate::text::quote;

/// How many links are followed (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// Why a path leads nowhere.
pub enum Astray {
    /// The kernel's error.
    Errno(Errno),
    /// This path is somebody else's; the text follows its name in a message.
    Foreign(PathBuf, String),
}

/// What a path leads to, or why it leads nowhere.
type Result<T> = std::result::Result<T, Astray>;

impl From<Errno> for Astray {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl Astray {
    /// The error for the action that needed the path.
    pub fn told(self, what: impl FnOnce() -> String) -> Error {
        match self {
            Self::Errno(errno) => Error::text(what(), Error::reason(errno)),
            Self::Foreign(there, why) => Error::text(what(), format!("{} {why}", quote(there))),
        }
    }
}

/// Opens what a path leads to in a root, as a mount's source or target. Directories on the way may be anybody's.
pub fn open_within(root: &Path, path: &Path) -> Result<OwnedFd> {
    // Nearly always there is no link on the way, and one openat2(2) finds that out (Linux 5.6). It is not used for a
    // path with `..`, which it would follow out of the root.
    let below = root.join(path.strip_prefix("/").unwrap_or(path));
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    if !path.components().any(|part| part == Component::ParentDir)
        && let Ok(there) = fs::openat2(CWD, &below, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)
    {
        return Ok(there);
    }
    follow(root, path, &|_, _| None).map(|(fd, _)| fd)
}

/// What a path leads to in a root, as a path without links inside that root.
pub fn real_within(root: &Path, path: &Path) -> Result<PathBuf> {
    follow(root, path, &|_, _| None).map(|(_, real)| real)
}

/// What a path leads to, as a path without links, if nobody but root can replace anything on the way: a sticky
/// directory is allowed, since nobody else can replace root's entries in it. `closed` says that the last directory must
/// be writable by root alone, sticky or not.
pub fn roots_path(path: &Path, closed: bool) -> Result<PathBuf> {
    let foreign = |stat: &Stat, last: bool| {
        let mode = stat.st_mode & 0o7777;
        let sticky = mode & 0o1000 != 0 && !(last && closed);
        if !is_ours(stat) {
            Some(format!("belongs to user {}", stat.st_uid))
        } else if mode & 0o022 != 0 && !sticky {
            Some(format!("can be written by others (mode {mode:o})"))
        } else {
            None
        }
    };
    follow(Path::new("/"), path, &foreign).map(|(_, real)| real)
}

/// Follows a path: returns what it leads to, and the path of that without links. `foreign` is given each directory, and
/// whether it is the last component, and returns why it must not be on the way, if so.
fn follow(
    root: &Path,
    path: &Path,
    foreign: &dyn Fn(&Stat, bool) -> Option<String>,
) -> Result<(OwnedFd, PathBuf)> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // What is open so far, and its path.
    let mut way = vec![(fs::open(root, flags, Mode::empty())?, PathBuf::from("/"))];
    let mut rest = names(path);
    let mut links = 0;
    while let Some(name) = rest.pop() {
        if name == ".." {
            // In the root, it is the root.
            way.truncate(way.len().saturating_sub(1).max(1));
            continue;
        }
        let Some((here, there)) = way.last() else {
            break;
        };
        let there = there.join(&name);
        let next = fs::openat(here, &name, flags, Mode::empty())?;
        let stat = fs::fstat(&next)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Symlink {
            let foreign = foreign(&stat, rest.is_empty());
            if let Some(why) = foreign.filter(|_| kind == FileType::Directory) {
                return Err(Astray::Foreign(there, why));
            }
            way.push((next, there));
            continue;
        }
        if !is_ours(&stat) {
            let why = format!("is a link that belongs to user {}", stat.st_uid);
            return Err(Astray::Foreign(there, why));
        }
        links += 1;
        if links > LINKS_MAX {
            return Err(Errno::LOOP.into());
        }
        let target = fs::readlinkat(&next, c"", Vec::new())?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if target.is_absolute() {
            way.truncate(1);
        }
        rest.extend(names(&target));
    }
    way.pop().ok_or(Errno::NOENT.into())
}

/// The names of a path, the last one first.
pub fn names(path: &Path) -> Vec<OsString> {
    let names = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    names.collect()
}
