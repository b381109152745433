//! The jail's resolv.conf: the file outside, and the mount by which the jail sees it.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::file::File;
use super::{Action, Machine, Seen};
use crate::error::{Result, What as _};
use crate::file;
use crate::text::quote;

/// The file. One that is there already is used as it is, even if it is a link.
pub struct Own {
    /// The file as kak makes it.
    pub file: File,
    /// The text that the last update replaced, if there was one.
    pub before: Vec<u8>,
}

impl Own {
    /// What is in it.
    pub fn read(&self) -> Result<Vec<u8>> {
        file::read(&self.file.path)
    }

    /// Whether a text is one that kak wrote; also if it was killed before truncating a longer old one
    /// ([`file::overwrite`]).
    pub fn is_ours(&self, text: &[u8]) -> bool {
        let rest = text.strip_prefix(self.file.text.as_slice());
        let empty = |rest: &[u8]| rest.iter().all(|byte| *byte == b'\n');
        let uncut = text.len() == self.before.len() && rest.is_some_and(empty);
        text == self.file.text || text == self.before || uncut
    }

    /// Gives the existing file its text.
    pub fn overwrite(&self) -> Result<()> {
        file::overwrite(&self.file.path, &self.file.text).what(|| self.to_string())
    }
}

impl fmt::Display for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}

impl Action for Own {
    fn observe(&self, machine: &mut Machine) -> Result<Seen> {
        let regular =
            |stat: rustix::fs::Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if rustix::fs::stat(&self.file.path).is_ok_and(regular) {
            return Ok(Seen::Done);
        }
        self.file.observe(machine)
    }

    fn apply(&self, machine: &mut Machine) -> Result<()> {
        self.file.apply(machine)
    }

    fn undo(&self, machine: &mut Machine) -> Result<()> {
        let ours = self.is_ours(&self.read()?);
        // This also removes what was written beside it.
        self.file.undo(machine)?;
        if ours {
            file::remove(&self.file.path)?;
        }
        Ok(())
    }
}

/// The mount: over whatever /etc/resolv.conf leads to in the jail.
pub struct Resolvers {
    /// The file that has them.
    pub source: PathBuf,
    /// The jail's root, while it is put together.
    pub root: PathBuf,
}

/// How often to look for the place: beside two processes that do nothing but rename, one look in eight is in vain.
const ATTEMPTS: usize = 128;

impl Resolvers {
    /// The path in the jail, relative to its root.
    const PLACE: &'static str = "etc/resolv.conf";

    /// Mounts the file. From descriptor to descriptor: in the outer /proc, which is still there, our PID is another.
    fn lay_over(&self, place: &OwnedFd) -> rustix::io::Result<()> {
        let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(CWD, &self.source, clone)?;
        let empty =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(&tree, c"", place, c"", empty)
    }
}

impl fmt::Display for Resolvers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // By chroot, so that a link on the way leads to where it leads inside the jail.
        let (root, source) = (quote(&self.root), quote(&self.source));
        write!(f, "chroot {root} mount --bind {source} /{}", Self::PLACE)
    }
}

impl Action for Resolvers {
    fn observe(&self, machine: &mut Machine) -> Result<Seen> {
        // If /etc is a file system of its own, mountinfo has only the end of the source's path.
        let tail: PathBuf = self.source.components().skip(2).collect();
        let mounts = machine
            .view
            .as_ref()
            .map(|view| view.mounts.as_slice())
            .unwrap_or_default();
        Ok(Seen::done(
            mounts.iter().any(|mount| mount.root.ends_with(&tail)),
        ))
    }

    fn apply(&self, _: &mut Machine) -> Result<()> {
        let what = || self.to_string();
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let root = rustix::fs::open(&self.root, flags, Mode::empty()).what(what)?;
        // mount(2) would follow an absolute link out of the root that is being put together.
        let resolve = ResolveFlags::IN_ROOT;
        let look = || rustix::fs::openat2(&root, Self::PLACE, flags, Mode::empty(), resolve);
        // EAGAIN: a link with `..` was followed while something was renamed or mounted, anywhere (openat2(2)).
        let mut looks = (0..ATTEMPTS).map(|_| look());
        let found = looks.find(|found| !matches!(found, Err(Errno::AGAIN)));
        let end = match found.unwrap_or(Err(Errno::AGAIN)) {
            // The link dangles or leads to itself, or Linux is older than 5.6.
            Err(Errno::NOENT | Errno::LOOP | Errno::NOSYS) => None,
            other => Some(other.what(what)?),
        };
        if let Some(end) = &end {
            self.lay_over(end).what(what)?;
        }
        // A link is covered too: its target may be replaced any day, and the mount on it goes with it; the link is not.
        let flags = flags | OFlags::NOFOLLOW;
        let place = rustix::fs::openat(&root, Self::PLACE, flags, Mode::empty()).what(what)?;
        let stat = rustix::fs::fstat(&place).what(what)?;
        if end.is_none() || FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            self.lay_over(&place).what(what)?;
        }
        Ok(())
    }
}
