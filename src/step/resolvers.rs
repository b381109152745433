//! The jail's resolvers: the file that has them, and the mount by which the jail sees that.

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

/// The file. One that is there already is used as it is, be it a link.
pub struct Own {
    /// What it is if it is ours.
    pub file: File,
    /// What it was before, if the relay has given it another text.
    pub before: Vec<u8>,
}

impl Own {
    /// What is in it.
    pub fn read(&self) -> Result<Vec<u8>> {
        file::read(&self.file.path)
    }

    /// Whether a text is one that we have written; also where we were killed before the rest of a longer one was cut off
    /// ([`file::overwrite`]).
    pub fn is_ours(&self, text: &[u8]) -> bool {
        let rest = text.strip_prefix(self.file.text.as_slice());
        let empty = |rest: &[u8]| rest.iter().all(|byte| *byte == b'\n');
        let uncut = text.len() == self.before.len() && rest.is_some_and(empty);
        text == self.file.text || text == self.before || uncut
    }

    /// Gives the file that is there its text.
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
        // Takes away what was written beside it, too.
        self.file.undo(machine)?;
        if ours {
            file::remove(&self.file.path)?;
        }
        Ok(())
    }
}

/// The mount: over whatever /etc/resolv.conf ends at in the jail.
pub struct Resolvers {
    /// The file that has them.
    pub source: PathBuf,
    /// The jail's root, while it is put together.
    pub root: PathBuf,
}

impl Resolvers {
    /// The place as the jail knows it.
    const PLACE: &'static str = "etc/resolv.conf";

    /// Mounts them. From descriptor to descriptor: the /proc that is still there does not know us by number.
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
        // In the root, so that a link leads to where it leads in there.
        let (root, source) = (quote(&self.root), quote(&self.source));
        write!(f, "chroot {root} mount --bind {source} /{}", Self::PLACE)
    }
}

impl Action for Resolvers {
    fn observe(&self, machine: &mut Machine) -> Result<Seen> {
        // /etc may be a file system of its own, so that the kernel names the source by a part of its path only.
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
        let end = match rustix::fs::openat2(&root, Self::PLACE, flags, Mode::empty(), resolve) {
            // The link dangles or leads to itself, or Linux is older than 5.6.
            Err(Errno::NOENT | Errno::LOOP | Errno::NOSYS) => None,
            other => Some(other.what(what)?),
        };
        if let Some(end) = &end {
            self.lay_over(end).what(what)?;
        }
        // A link too: what it leads to is replaced day by day, and the mount goes with it; the link is not.
        let flags = flags | OFlags::NOFOLLOW;
        let place = rustix::fs::openat(&root, Self::PLACE, flags, Mode::empty()).what(what)?;
        let stat = rustix::fs::fstat(&place).what(what)?;
        if end.is_none() || FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            self.lay_over(&place).what(what)?;
        }
        Ok(())
    }
}
