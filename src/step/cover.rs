//! Covers of what the jail must not see: empty read-only tmpfs mounts. Like every mount of a jail they go with it.

use std::fmt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

use super::{Action, Machine, Seen, place};
use crate::error::{Result, What as _};
use crate::file;
use crate::text::quote;

/// The mount's source in mountinfo, by which a cover is known.
pub const SOURCE: &str = "kak";
/// The flags of every cover.
const FLAGS: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC);
/// The same in words.
const OPTIONS: &str = "nosuid,nodev,noexec";

/// An empty, read-only tmpfs over a directory.
pub struct Cover {
    /// The jail's root, while it is put together.
    pub root: PathBuf,
    /// What is covered.
    pub target: PathBuf,
    /// Whether what is mounted there, and would still receive mounts from outside, is detached first.
    pub detach: bool,
    /// Whether the directory may be missing at the moment.
    pub if_there: bool,
    /// Symbolic links that are made in it: their names and targets.
    pub links: Vec<(&'static str, PathBuf)>,
}

impl Cover {
    /// Whether there is something to be covered.
    fn is_needed(&self, root: &Path) -> bool {
        !self.if_there || file::real_within(root, &self.target).is_ok()
    }
}

impl fmt::Display for Cover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // By chroot, so that a link on the way leads to where it leads inside the jail.
        let (root, at) = (quote(&self.root), quote(&self.target));
        let root = format!("chroot {root}");
        if self.if_there {
            write!(f, "! {root} test -d {at} || {{ ")?;
        }
        if self.detach {
            write!(
                f,
                "while {root} umount -n -l {at} 2>/dev/null; do :; done; "
            )?;
        }
        let ro = if self.links.is_empty() { "ro," } else { "" };
        write!(
            f,
            "{root} mount -t tmpfs -o {ro}{OPTIONS},size=4k,mode=755 {SOURCE} {at}"
        )?;
        for (name, target) in &self.links {
            let link = quote(self.target.join(name));
            write!(f, " && {root} ln -s {} {link}", quote(target))?;
        }
        if !self.links.is_empty() {
            write!(f, " && {root} mount -o remount,bind,ro,{OPTIONS} {at}")?;
        }
        f.write_str(if self.if_there { "; }" } else { "" })
    }
}

impl Action for Cover {
    fn observe(&self, machine: &mut Machine) -> Result<Seen> {
        let Some(view) = &machine.view else {
            return Ok(Seen::Absent);
        };
        let covered =
            |mount: &crate::procfs::Mount| mount.kind == "tmpfs" && mount.source == SOURCE;
        let done = view.at(&self.target).is_some_and(covered) || !self.is_needed(&view.dir());
        Ok(Seen::done(done))
    }

    fn apply(&self, _: &mut Machine) -> Result<()> {
        if !self.is_needed(&self.root) {
            return Ok(());
        }
        let what = || self.to_string();
        let place = place(&self.root, &self.target, what)?;
        // Until nothing is mounted there, or, in a user namespace, nothing that may be unmounted.
        if self.detach {
            loop {
                match unmount(&place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
                    Ok(()) => {}
                    Err(Errno::INVAL) => break,
                    Err(errno) => {
                        return Err(errno).what(|| format!("umount -n -l {}", quote(&place)));
                    }
                }
            }
        }
        let read_only = FLAGS | MountFlags::RDONLY;
        let empty = self.links.is_empty();
        let flags = if empty { read_only } else { FLAGS };
        mount(SOURCE, &place, "tmpfs", flags, Some(c"size=4k,mode=755")).what(what)?;
        for (name, target) in &self.links {
            rustix::fs::symlink(target, place.join(name)).what(what)?;
        }
        if !empty {
            mount_remount(&place, read_only, c"").what(what)?;
        }
        Ok(())
    }
}
