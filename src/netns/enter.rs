//! Entering a namespace by name, for good: what `ip netns exec` does to a process before it becomes the command. The
//! process moves to the network, and gets a mount namespace of its own in which /sys shows that network, and the files
//! of /etc/netns/NAME are mounted over those of /etc.
//!
//! Everything else under /sys stays as it is: what was mounted there (cgroup, bpf, debugfs, masks) is moved over to the
//! new sysfs, which gets the old one's flags. Where the kernel refuses a sysfs, as in a user namespace that sees only a
//! part of the old one, the old one stays, with a warning.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_change,
    move_mount, open_tree,
};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::guard::{self, Bound};
use super::{State, mounts, open, state};
use crate::error::{Error, Result, What as _, complain};
use crate::file;
use crate::procfs::{self, Mount};
use crate::sys;
use crate::text::shown;
use crate::watch::kept::is_mounted;

/// Where each namespace has files of its own.
const FILES: &str = "/etc/netns";

/// Moves this process into a namespace's network. Returns the one that it came from, but only if there are files in
/// /etc/netns/NAME, which may need it: a new process's first look at its own /proc is expensive.
pub fn network(name: &OsStr) -> Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let home = rustix::fs::access(Path::new(FILES).join(name), Access::EXISTS)
        .and_then(|()| rustix::fs::open("/proc/self/ns/net", flags, Mode::empty()))
        .ok();
    let namespace = open(name)?;
    let what = || format!("setting the network namespace \"{}\" failed", shown(name));
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .what(what)
        .map_err(|error| match (error.errno(), state(name)) {
            (Some(Errno::INVAL), Ok(State::Ghost)) => error.with_cure(
                "this name has lost its namespace: delete removes it, add gives it a new one",
            ),
            _ => error,
        })?;
    Ok(home)
}

/// Gives this process, which came from the network `home`, a mount namespace that goes with its new network.
pub fn mounts(name: &OsStr, home: Option<OwnedFd>) -> Result<()> {
    sys::unshare(UnshareFlags::NEWNS).what(|| "unshare failed")?;
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", slave).what(|| "\"mount --make-rslave /\" failed")?;
    lay_sysfs(name)?;
    bind_files(name, home)
}

/// Mounts a sysfs of this network over /sys.
fn lay_sysfs(name: &OsStr) -> Result<()> {
    let sys = Path::new("/sys");
    let warn = |what: &str, errno: Errno| {
        complain(&format!("{what} failed: {}\n", Error::reason(errno)));
    };
    let old = mounts::under(sys)?;
    let flags = if old.here {
        flags_of(sys)
    } else {
        MountFlags::empty()
    };
    // Opened before the new one hides them.
    let pin = |point: &Path| {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place = rustix::fs::open(point, flags, Mode::empty()).ok()?;
        Some((point.to_owned(), place))
    };
    let kept: Vec<(PathBuf, OwnedFd)> = old.below.iter().filter_map(|point| pin(point)).collect();
    match mount(name, sys, "sysfs", flags, None) {
        Ok(()) => {}
        // /sys is this network's already.
        Err(Errno::BUSY) => return Ok(()),
        Err(errno) => {
            warn("mount of /sys", errno);
            complain("kak: netns: /sys still shows the network devices of the old namespace\n");
            return Ok(());
        }
    }
    for (point, mount) in kept {
        if let Err(errno) = move_over(&mount, &point) {
            warn(&format!("mount --move {}", shown(point)), errno);
        }
    }
    Ok(())
}

/// The flags of a mount, for the one that replaces it.
fn flags_of(point: &Path) -> MountFlags {
    use rustix::fs::StatVfsMountFlags as Has;
    let has = rustix::fs::statvfs(point).map_or(Has::empty(), |about| about.f_flag);
    [
        (Has::RDONLY, MountFlags::RDONLY),
        (Has::NOSUID, MountFlags::NOSUID),
        (Has::NODEV, MountFlags::NODEV),
        (Has::NOEXEC, MountFlags::NOEXEC),
    ]
    .into_iter()
    .filter(|(old, _)| has.contains(*old))
    .map(|(_, new)| new)
    .collect()
}

/// Moves a mount, with all that is mounted in it, onto what is at its path now.
fn move_over(mount: &OwnedFd, point: &Path) -> rustix::io::Result<()> {
    let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    match move_mount(mount, c"", CWD, point, empty) {
        // A user namespace may not move a mount that it got from outside, but may copy it.
        Err(Errno::INVAL) => {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_RECURSIVE
                | OpenTreeFlags::AT_EMPTY_PATH;
            let copy = open_tree(mount, c"", flags)?;
            move_mount(&copy, c"", CWD, point, empty)
        }
        other => other,
    }
}

/// Mounts every file of /etc/netns/NAME over its namesake in /etc. A failure is reported, and the file left out.
fn bind_files(name: &OsStr, home: Option<OwnedFd>) -> Result<()> {
    let dir = Path::new(FILES).join(name);
    let files = match sys::entries(&dir) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => return Ok(()),
        other => other.what(|| format!("ls {}", shown(&dir)))?,
    };
    let mounts = procfs::mounts_in(&file::read(Path::new("/proc/self/mountinfo"))?, &["/etc"]);
    let mut bound = Vec::new();
    for file in files {
        let bind = Bound {
            source: dir.join(&file),
            target: Path::new("/etc").join(&file),
        };
        let fixed = is_fixed(&mounts, &bind.target);
        match bind.make() {
            Ok(()) if fixed => {}
            Ok(()) => bound.push(bind),
            Err(errno) => complain(&format!(
                "Bind {} -> {} failed: {}\n",
                shown(&bind.source),
                shown(&bind.target),
                Error::reason(errno)
            )),
        }
    }
    if bound.is_empty() {
        return Ok(());
    }
    guard::leave(&bound, home).what(|| format!("fork for {}", shown(&dir)))
}

/// Whether a mount keeps the file at `target` from being replaced, as in a container; then what is mounted on it stays.
/// The mount of an `exec` or a jail does not: it exists only in its own mount namespace, and goes when the file is
/// replaced outside. Nor does a mount that lies below another one.
fn is_fixed(mounts: &[Mount], target: &Path) -> bool {
    let last = mounts.iter().rev().find(|mount| mount.point == target);
    last.is_some_and(|mount| {
        let dir = mount.root.parent().and_then(Path::parent);
        !dir.is_some_and(|dir| dir.ends_with("netns")) && is_mounted(target)
    })
}

impl Bound {
    /// Mounts it, on a link itself and not on what that leads to: where /etc/resolv.conf is a link, its target is
    /// replaced by others all the time, or is not there at all.
    pub fn make(&self) -> rustix::io::Result<()> {
        let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(CWD, &self.source, clone)?;
        let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        let follow = empty | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
        let made = match move_mount(&tree, c"", CWD, &self.target, empty) {
            // A directory does not fit on a link, but on the directory that the link leads to.
            Err(Errno::INVAL) if is_link(&self.target) => {
                move_mount(&tree, c"", CWD, &self.target, follow)
            }
            other => other,
        };
        // One is a directory and the other is not, for which mount(2) has another errno.
        made.map_err(|errno| {
            if errno == Errno::INVAL {
                Errno::NOTDIR
            } else {
                errno
            }
        })
    }
}

/// Whether a path is a symbolic link.
fn is_link(path: &Path) -> bool {
    rustix::fs::lstat(path)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}
