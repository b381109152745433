//! Named network namespaces: files in /run/netns with a namespace mounted on each, as `ip netns` has them. It knows how
//! a name comes and goes; what is in a namespace is others' business.

use std::ffi::OsStr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountPropagationFlags, UnmountFlags, mount_bind, mount_bind_recursive, mount_change, unmount,
};
use rustix::thread::UnshareFlags;

use crate::error::{Error, Result, What as _};
use crate::sys;

/// Where the names are.
pub const DIR: &str = "/run/netns";

/// The file system type of a namespace (`NSFS_MAGIC`, linux/magic.h).
const NSFS: rustix::fs::FsWord = 0x6e73_6673;

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Nothing.
    Absent,
    /// A file that lost its namespace: with a restart, or because whoever made it was killed.
    Ghost,
    /// A namespace.
    Namespace,
    /// Something that is no name of a namespace at all.
    Foreign,
}

/// The file of a name; the name is checked first.
fn path(name: &OsStr) -> Result<PathBuf> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() > 255 || bytes.contains(&b'/') || name == "." || name == ".."
    {
        return Err(Error::text(
            format!("netns {}", name.display()),
            "is no name for a network namespace",
        ));
    }
    Ok(Path::new(DIR).join(name))
}

/// Looks at a name without opening what is there: a FIFO would hold us up.
pub fn state(name: &OsStr) -> Result<State> {
    let path = path(name)?;
    let what = || format!("stat {}", path.display());
    let file = match rustix::fs::open(
        &path,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(State::Absent),
        Err(errno) => return Err(errno).what(what),
    };
    if is_nsfs(&file).what(what)? {
        return Ok(State::Namespace);
    }
    let stat = rustix::fs::fstat(&file).what(what)?;
    let empty_file =
        FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_size == 0;
    Ok(if empty_file {
        State::Ghost
    } else {
        State::Foreign
    })
}

/// Whether a descriptor is one of a namespace.
fn is_nsfs(file: &OwnedFd) -> rustix::io::Result<bool> {
    Ok(rustix::fs::fstatfs(file)?.f_type == NSFS)
}

/// Opens a namespace by name.
pub fn open(name: &OsStr) -> Result<OwnedFd> {
    let path = path(name)?;
    let what = || format!("ip netns exec {}", name.display());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::open(&path, flags, Mode::empty()).what(what)?;
    if !is_nsfs(&file).what(what)? {
        return Err(Error::cure(
            what(),
            format!("{} has no namespace any more", path.display()),
            format!(
                "'ip netns delete {}' takes the stale name away",
                name.display()
            ),
        ));
    }
    Ok(file)
}

/// Makes the run directory: a mount that is a peer group of its own. Bound to itself within a shared /run it would join
/// /run's group, and every name would be mounted twice; so it is made private in between.
pub fn prepare_dir() -> Result<()> {
    match rustix::fs::mkdir(DIR, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno).what(|| format!("mkdir {DIR}")),
    }
    let _lock = DirLock::take()?;
    match mount_change(
        DIR,
        MountPropagationFlags::SHARED | MountPropagationFlags::REC,
    ) {
        // Not a mount point yet.
        Err(Errno::INVAL) => {}
        other => return other.what(|| format!("mount --make-shared {DIR}")),
    }
    mount_bind_recursive(DIR, DIR).what(|| format!("mount --bind {DIR} {DIR}"))?;
    mount_change(
        DIR,
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .what(|| format!("mount --make-private {DIR}"))?;
    mount_change(
        DIR,
        MountPropagationFlags::SHARED | MountPropagationFlags::REC,
    )
    .what(|| format!("mount --make-shared {DIR}"))
}

/// Takes the run directory's mount away, if no namespace is in it and nobody is using it. For who has made it.
pub fn unmount_dir() -> Result<()> {
    // Not lazily: who has it open, as `ip netns add` has for a moment, keeps it.
    match unmount(DIR, UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::BUSY | Errno::INVAL) => Ok(()),
        Err(errno) => Err(errno).what(|| format!("umount {DIR}")),
    }
}

/// The flock that `ip netns` takes too while it makes the run directory.
struct DirLock(OwnedFd);

impl DirLock {
    /// Waits for it.
    fn take() -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(DIR, flags, Mode::empty()).what(|| format!("cd {DIR}"))?;
        rustix::fs::flock(&dir, FlockOperation::LockExclusive).what(|| format!("flock {DIR}"))?;
        Ok(Self(dir))
    }
}

impl Drop for DirLock {
    fn drop(&mut self) {
        rustix::fs::flock(&self.0, FlockOperation::Unlock).ok();
    }
}

/// Makes a new namespace of this name. A name that lost its namespace is given one again. On failure nothing is left.
pub fn create(name: &OsStr) -> Result<()> {
    let path = path(name)?;
    let what = || format!("ip netns add {}", name.display());
    if state(name)? == State::Ghost {
        delete(name)?;
    }
    let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    drop(rustix::fs::open(&path, flags, Mode::empty()).what(what)?);
    let bound = new_namespace()
        .and_then(|new| mount_bind(format!("/proc/self/fd/{}", new.as_raw_fd()), &path));
    if bound.is_err() {
        rustix::fs::unlink(&path).ok();
    }
    bound.what(what)
}

/// A new network namespace. A thread makes it and ends, so the caller never leaves its own, and has nothing to come back
/// from.
fn new_namespace() -> rustix::io::Result<OwnedFd> {
    std::thread::scope(|scope| {
        let there = scope.spawn(|| {
            sys::unshare(UnshareFlags::NEWNET)?;
            rustix::fs::open(
                "/proc/thread-self/ns/net",
                OFlags::RDONLY | OFlags::CLOEXEC,
                Mode::empty(),
            )
        });
        there.join().unwrap_or(Err(Errno::IO))
    })
}

/// Takes a name away: every namespace that is mounted on it, one on top of the other, then the file.
pub fn delete(name: &OsStr) -> Result<()> {
    let path = path(name)?;
    while state(name)? == State::Namespace {
        unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
            .what(|| format!("umount {}", path.display()))?;
    }
    rustix::fs::unlink(&path).what(|| format!("rm {}", path.display()))
}
