//! What is mounted at a directory, asked of the kernel about that directory alone (statmount, listmount): a machine
//! with a thousand namespaces has a thousand mounts that are of no interest here. Before Linux 6.8, and where a seccomp
//! profile does not know these calls, all of /proc/self/mountinfo is read.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::error::Result;
use crate::file;
use crate::procfs;
use crate::sys;

/// What is mounted at a directory and below it.
pub struct Under {
    /// Whether something is mounted on the directory itself.
    pub here: bool,
    /// The uppermost mounts below it.
    pub below: Vec<PathBuf>,
}

/// A directory's real path, where a link leads to it.
pub fn real(dir: &Path) -> PathBuf {
    file::real_path(dir).unwrap_or_else(|_| dir.into())
}

/// Looks at a directory.
pub fn under(dir: &Path) -> Result<Under> {
    let (here, points) = match told_under(dir) {
        Ok(told) => told,
        Err(_) => read_under(dir)?,
    };
    let below = procfs::uppermost_below(points.iter().map(PathBuf::as_path), dir);
    Ok(Under {
        here,
        below: below.into_iter().map(Path::to_owned).collect(),
    })
}

/// Whether a directory is a slave mount: what is mounted in it does not reach its master.
pub fn is_slave(dir: &Path) -> Result<bool> {
    let dir = &real(dir);
    if let Ok(about) = told(dir).and_then(sys::statmount) {
        return Ok(about.point == *dir && about.slave);
    }
    let mounts = procfs::mounts(&file::read(Path::new(TABLE))?);
    let at = mounts.iter().rev().find(|mount| mount.point == *dir);
    Ok(at.is_some_and(|mount| mount.slave))
}

/// Whether a directory is a shared mount; false where the kernel cannot be asked about it alone.
pub fn is_shared(dir: &Path) -> bool {
    let dir = &real(dir);
    let about = told(dir).and_then(sys::statmount);
    about.is_ok_and(|about| about.point == *dir && about.shared)
}

/// Our own mount table.
const TABLE: &str = "/proc/self/mountinfo";

/// The id of the mount that a directory is on.
fn told(dir: &Path) -> rustix::io::Result<u64> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let dir = rustix::fs::open(dir, flags, Mode::empty())?;
    sys::mount_id(dir.as_fd())
}

/// Whether a directory is a mount, and the mounts below that mount.
fn told_under(dir: &Path) -> rustix::io::Result<(bool, Vec<PathBuf>)> {
    let id = told(dir)?;
    let here = sys::statmount(id)?.point == dir;
    let below = sys::listmount(id)?.into_iter();
    // One that went meanwhile is left out.
    let points = below.filter_map(|id| Some(sys::statmount(id).ok()?.point));
    Ok((here, points.collect()))
}

/// The same for all mounts of the table.
fn read_under(dir: &Path) -> Result<(bool, Vec<PathBuf>)> {
    let mounts = procfs::mounts(&file::read(Path::new(TABLE))?);
    let points: Vec<PathBuf> = mounts.into_iter().map(|mount| mount.point).collect();
    Ok((points.iter().any(|point| point == dir), points))
}
