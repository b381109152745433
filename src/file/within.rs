//! What a path leads to, followed name by name: in a root that is put together elsewhere, where links are followed as they
//! would be in there; and only by links that are root's, so that nobody else has it lead where he likes. Each name is
//! opened in what the one before it led to: it does not matter what becomes of the names meanwhile.

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

/// Why it leads nowhere.
pub enum Astray {
    /// The kernel says so.
    Errno(Errno),
    /// This is somebody else's, in the words that follow the name.
    Foreign(PathBuf, String),
}

/// What it leads to, or why it leads nowhere.
type Result<T> = std::result::Result<T, Astray>;

impl From<Errno> for Astray {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl Astray {
    /// The error of whoever wanted to go there.
    pub fn told(self, what: impl FnOnce() -> String) -> Error {
        match self {
            Self::Errno(errno) => Error::text(what(), Error::reason(errno)),
            Self::Foreign(there, why) => Error::text(what(), format!("{} {why}", quote(there))),
        }
    }
}

/// Opens what a path leads to in a root, to be mounted on. Directories on the way may be anybody's.
pub fn open_within(root: &Path, path: &Path) -> Result<OwnedFd> {
    // Nearly always there is no link on the way, and the kernel says so by one call (Linux 5.6). It would follow a `..`
    // out of the root.
    let below = root.join(path.strip_prefix("/").unwrap_or(path));
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    if !path.components().any(|part| part == Component::ParentDir)
        && let Ok(there) = fs::openat2(CWD, &below, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)
    {
        return Ok(there);
    }
    follow(root, path, &|_, _| None).map(|(fd, _)| fd)
}

/// The path without links to where a path leads in a root, as it is called in there.
pub fn real_within(root: &Path, path: &Path) -> Result<PathBuf> {
    follow(root, path, &|_, _| None).map(|(_, real)| real)
}

/// The path without links to where a path leads, if nobody but root can put something else into any directory on the
/// way: into a sticky one everybody can put something, but not in the place of what is root's. `closed` is whether where
/// it leads is to be root's alone.
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

/// Follows a path: what it leads to, and that one's path without links. `foreign` says why a directory, the last one
/// perhaps, is not to be on the way.
fn follow(
    root: &Path,
    path: &Path,
    foreign: &dyn Fn(&Stat, bool) -> Option<String>,
) -> Result<(OwnedFd, PathBuf)> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // What is open, and its path.
    let mut way = vec![(fs::open(root, flags, Mode::empty())?, PathBuf::from("/"))];
    let mut rest = names(path);
    let mut links = 0;
    while let Some(name) = rest.pop() {
        if name == ".." {
            // Of the root, it is the root.
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
            let why = format!("is a link of user {}'s", stat.st_uid);
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
