//! Named network namespaces: files in /run/netns with a namespace mounted on each, as `ip netns` has them. Names are
//! made, removed and looked up here; what is in a namespace, and the command line, are handled elsewhere.
//!
//! Errors have the words of `ip`, since scripts read them: `Cannot create namespace file "..."`.

pub mod enter;
mod guard;
pub mod mounts;
mod ready;

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_bind, mount_change,
    move_mount, open_tree, unmount,
};
use rustix::thread::UnshareFlags;

pub use self::ready::RunDir;
use crate::error::{Error, Result, What as _};
use crate::nl;
use crate::sys;
use crate::text::shown;

/// Where the names are.
pub const DIR: &str = "/run/netns";

/// The file system type of a namespace (`NSFS_MAGIC`, linux/magic.h).
const NSFS: rustix::fs::FsWord = 0x6e73_6673;

/// A file without a namespace that is younger than this may be one that `ip netns add` has just made, and is about to
/// mount its namespace on.
const YOUNG: Duration = Duration::from_secs(1);

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Nothing.
    Absent,
    /// A file that lost its namespace: by a restart, or because the process that made it was killed.
    Ghost,
    /// A namespace.
    Namespace,
    /// Something that never was the name of a namespace.
    Foreign,
}

/// Checks a name: 1 to 255 bytes that are one component of a path.
pub fn check(name: &OsStr) -> Result<()> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() > 255 || bytes.contains(&b'/') || name == "." || name == ".."
    {
        let text = format!("Invalid netns name \"{}\"", shown(name));
        return Err(Error::text("", text).with_status(255));
    }
    Ok(())
}

/// The file of a name; the name is checked first.
fn path(name: &OsStr) -> Result<PathBuf> {
    check(name)?;
    Ok(Path::new(DIR).join(name))
}

/// Looks at a name without opening or following what is there: opening a FIFO would block.
pub fn state(name: &OsStr) -> Result<State> {
    let path = path(name)?;
    let what = || format!("stat {}", shown(&path));
    let stat = match rustix::fs::lstat(&path) {
        Ok(stat) => stat,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(State::Absent),
        Err(errno) => return Err(errno).what(what),
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(State::Foreign);
    }
    // Another user's file is no name that lost its namespace.
    let ours = [0, rustix::process::geteuid().as_raw()].contains(&stat.st_uid);
    Ok(if has_namespace(name)? {
        State::Namespace
    } else if ours && stat.st_size == 0 {
        State::Ghost
    } else {
        State::Foreign
    })
}

/// Whether a name leads to a namespace, of whatever kind, also through a link.
pub fn has_namespace(name: &OsStr) -> Result<bool> {
    let path = path(name)?;
    match rustix::fs::statfs(&path) {
        Ok(about) => Ok(about.f_type == NSFS),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
        Err(errno) => Err(errno).what(|| format!("stat {}", shown(&path))),
    }
}

/// Whether a name has lost its namespace, and is not one that `ip netns add` is just about to give one.
pub fn is_ghost(name: &OsStr) -> bool {
    let ghost = || matches!(state(name), Ok(State::Ghost));
    ghost() && path(name).is_ok_and(|path| is_old(&path)) && ghost()
}

/// Opens what a name stands for. That it is a network namespace is only checked by the kernel, when it is used.
pub fn open(name: &OsStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    rustix::fs::open(path(name)?, flags, Mode::empty())
        .what(|| format!("Cannot open network namespace \"{}\"", shown(name)))
}

/// All names, in the order in which the directory has them; none where there is no directory.
pub fn names() -> rustix::io::Result<Option<Vec<OsString>>> {
    match sys::entries(DIR) {
        Err(Errno::NOENT) => Ok(None),
        other => other.map(Some),
    }
}

/// The file that a namespace is. All descriptors and names of one namespace have the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity(u64, u64);

impl Identity {
    /// Of a namespace that is open.
    pub fn of(namespace: BorrowedFd<'_>) -> rustix::io::Result<Self> {
        rustix::fs::fstat(namespace).map(|stat| Self(stat.st_dev, stat.st_ino))
    }

    /// Of the namespace at a path below a directory.
    pub fn at(dir: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<Self> {
        let stat = rustix::fs::statat(dir, path, AtFlags::empty())?;
        Ok(Self(stat.st_dev, stat.st_ino))
    }
}

/// The process that makes a namespace, and is in it then.
#[derive(Clone, Copy)]
pub enum Maker {
    /// A child, which ends: this process never leaves its own namespace, and need not come back.
    Child,
    /// This process, which exists for nothing else.
    Us,
}

/// Makes a new namespace of this name.
pub fn add(_ready: &RunDir, name: &OsStr, maker: Maker) -> Result<()> {
    // The file is made last: it is without a namespace for as short a time as possible.
    Place::make_room(name)?;
    let new = match maker {
        Maker::Child => sys::elsewhere(new_namespace),
        Maker::Us => new_namespace(),
    };
    let new = new.what(|| {
        let name = shown(name);
        format!("Failed to create a new network namespace \"{name}\"")
    })?;
    Place::take(name)?.give(new.as_fd(), "self")
}

/// Gives a process's (or a thread's) namespace this name.
pub fn attach(_ready: &RunDir, name: &OsStr, pid: i32) -> Result<()> {
    Place::make_room(name)?;
    let place = Place::take(name)?;
    let source = format!("/proc/{pid}/ns/net");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let namespace = rustix::fs::open(&source, flags, Mode::empty())
        .what(|| format!("Bind {source} -> {} failed", shown(&place.path)))?;
    place.give(namespace.as_fd(), &pid.to_string())
}

/// Waits until a file is older than [`YOUNG`]; false if there is none.
pub fn is_old(path: &Path) -> bool {
    let Ok(stat) = rustix::fs::lstat(path) else {
        return false;
    };
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let made = Duration::new(
        u64::try_from(stat.st_ctime).unwrap_or(0),
        u32::try_from(stat.st_ctime_nsec).unwrap_or(0),
    );
    let now = Duration::new(
        u64::try_from(now.tv_sec).unwrap_or(0),
        u32::try_from(now.tv_nsec).unwrap_or(0),
    );
    // A clock that was set back makes it seem very young; waiting once does no harm.
    let rest = YOUNG.saturating_sub(now.saturating_sub(made));
    if !rest.is_zero() {
        let rest = rustix::event::Timespec {
            tv_sec: i64::try_from(rest.as_secs()).unwrap_or(0),
            tv_nsec: rest.subsec_nanos().into(),
        };
        rustix::event::poll(&mut [], Some(&rest)).ok();
    }
    true
}

/// A file for a namespace, which is removed on drop if it was given none.
struct Place {
    /// The file.
    path: PathBuf,
    /// Whether a namespace is mounted on it.
    given: bool,
}

impl Place {
    /// Checks that a name is free. A file that lost its namespace is removed.
    fn make_room(name: &OsStr) -> Result<()> {
        let path = path(name)?;
        let what = || format!("Cannot create namespace file \"{}\"", shown(&path));
        match state(name)? {
            State::Absent => Ok(()),
            State::Ghost if is_old(&path) && state(name)? == State::Ghost => {
                rustix::fs::unlink(&path).what(what)
            }
            _ => Err(Errno::EXIST).what(what),
        }
    }

    /// Makes the file for a namespace.
    fn take(name: &OsStr) -> Result<Self> {
        let path = path(name)?;
        let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::open(&path, flags, Mode::empty());
        drop(file.what(|| format!("Cannot create namespace file \"{}\"", shown(&path)))?);
        Ok(Self { path, given: false })
    }

    /// Mounts a namespace here; `whose` it is only serves the error.
    fn give(mut self, namespace: BorrowedFd<'_>, whose: &str) -> Result<()> {
        bind(namespace, &self.path)
            .what(|| format!("Bind /proc/{whose}/ns/net -> {} failed", shown(&self.path)))?;
        self.given = true;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.given {
            rustix::fs::unlink(&self.path).ok();
        }
    }
}

/// Mounts a namespace on a file.
fn bind(namespace: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<()> {
    let source = format!("/proc/self/fd/{}", namespace.as_raw_fd());
    match mount_bind(source, path) {
        // There is no /proc.
        Err(Errno::NOENT) => clone_mount(namespace, path),
        other => other,
    }
}

/// Mounts what a descriptor refers to, without a path for it.
fn clone_mount(fd: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(fd, c"", flags)?;
    let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&tree, c"", CWD, path, empty)
}

/// Moves into a new network namespace.
fn new_namespace() -> rustix::io::Result<OwnedFd> {
    sys::unshare(UnshareFlags::NEWNET)?;
    let own = "/proc/thread-self/ns/net";
    match rustix::fs::open(own, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        // There is no /proc. A socket knows its namespace too, but SIOCGSKNS takes CAP_NET_ADMIN.
        Err(Errno::NOENT) => {
            use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
            let (unix, datagrams) = (AddressFamily::UNIX, SocketType::DGRAM);
            let socket = socket_with(unix, datagrams, SocketFlags::CLOEXEC, None)?;
            sys::socket_namespace(socket.as_fd())
        }
        other => other,
    }
}

/// Removes a name: unmounts every namespace that is stacked on it, then removes the file. If a physical device is in
/// one this takes `force`: the kernel would move the device to the machine's first namespace, wherever it came from.
pub fn delete(name: &OsStr, force: bool) -> Result<()> {
    let path = path(name)?;
    let what = || format!("Cannot remove namespace file \"{}\"", shown(&path));
    // What cannot be looked at counts as something; an error below says why it stays.
    let mut state = state(name).unwrap_or(State::Foreign);
    if state == State::Absent {
        // Fails, with the kernel's reason.
        return rustix::fs::unlink(&path).what(what);
    }
    // Before anything is unmounted: a file that could not be removed afterwards would stay as a ghost. AT_EACCESS: by
    // the effective ids of this process, not by its real ones.
    match rustix::fs::accessat(CWD, DIR, Access::WRITE_OK, AtFlags::EACCESS) {
        // Before Linux 5.8 (faccessat2) only the real ids can be asked for.
        Err(Errno::NOSYS | Errno::INVAL) => {}
        other => other.what(what)?,
    }
    if state == State::Namespace && !force {
        check_devices(name)?;
    }
    // Held until the file is gone too: if it stays they are mounted again, and it is no ghost.
    let mut held = Vec::new();
    let mut remove = || {
        while state == State::Namespace {
            let gone = open(name).and_then(|namespace| {
                unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).what(what)?;
                held.push(namespace);
                Ok(())
            });
            state = self::state(name)?;
            // Another process may have been faster.
            if state == State::Namespace {
                gone?;
            }
        }
        match rustix::fs::unlink(&path) {
            Err(Errno::BUSY) => unlink_elsewhere(&path).what(what),
            other => other.what(what),
        }
    };
    remove().inspect_err(|error| {
        if error.errno() == Some(Errno::NOENT) {
            // The file is gone, as it should be; by now the name may be another's.
            held.clear();
        }
        for namespace in held.iter().rev() {
            bind(namespace.as_fd(), &path).ok();
        }
    })
}

/// Checks that no physical device is in a namespace.
pub fn check_devices(name: &OsStr) -> Result<()> {
    let devices = physical_devices(name);
    if devices.is_empty() {
        return Ok(());
    }
    Err(Error::cure(
        format!("Cannot remove namespace file \"{}\"", shown(path(name)?)),
        format!("it still has the physical {}", devices.join(" and ")),
        "move it elsewhere, or delete with -force: when the last name and process of its namespace are gone, it goes \
         to the machine's initial namespace",
    ))
}

/// Removes a file that is still a mount point here, by a hidden mount: a shared /run may have got its own copy of every
/// name's mount, below the run directory's. In a new mount namespace all of these are unmounted; then the file can be
/// removed, and the kernel unmounts what is on it everywhere else.
fn unlink_elsewhere(path: &Path) -> rustix::io::Result<()> {
    sys::elsewhere(|| {
        sys::unshare(UnshareFlags::NEWNS)?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private)?;
        for point in [path, Path::new(DIR), path] {
            // Until nothing is mounted there any more: EINVAL.
            while unmount(point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok() {}
        }
        rustix::fs::unlink(path)
    })
}

/// The physical devices of a namespace; none if it is our own, which lives on without a name, or cannot be looked into.
fn physical_devices(name: &OsStr) -> Vec<String> {
    let look = || -> Result<Vec<String>> {
        let namespace = open(name)?;
        let what = || String::new();
        let mut socket = nl::Socket::route_in(namespace.as_fd()).what(what)?;
        let mut links = nl::link::links(&mut socket).what(what)?;
        links.retain(|link| link.physical);
        if !links.is_empty()
            && Identity::at(CWD.as_fd(), b"/proc/self/ns/net") == Identity::of(namespace.as_fd())
        {
            return Ok(Vec::new());
        }
        Ok(links.into_iter().map(|link| link.name).collect())
    };
    look().unwrap_or_default()
}
