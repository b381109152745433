//! System calls for single mounts: mount_setattr(2), from Linux 5.12 on, and statmount(2) and listmount(2), from 6.8
//! on. (/proc/self/mountinfo has all mounts as text, which takes longer the more there are.) Part of the one door, and
//! unsafe as that is.

use std::ffi::{OsString, c_void};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use rustix::io::{Errno, Result};

/// `__NR_statmount`; the same number for every architecture.
const STATMOUNT: libc::c_long = 457;
/// `__NR_listmount`.
const LISTMOUNT: libc::c_long = 458;
/// `STATMOUNT_MNT_BASIC`, linux/mount.h.
const BASIC: u64 = 0x02;
/// `STATMOUNT_MNT_POINT`.
const POINT: u64 = 0x10;
/// Where in `struct statmount` `mask`, `mnt_peer_group`, `mnt_master`, `mnt_point` and `str` are.
const MASK_AT: usize = 8;
/// See above.
const PEERS_AT: usize = 80;
/// See above.
const MASTER_AT: usize = 88;
/// See above.
const POINT_AT: usize = 108;
/// See above.
const STRINGS_AT: usize = 512;

/// Makes a mount and all below it read-only.
pub fn make_read_only(mount: BorrowedFd<'_>) -> Result<()> {
    read_only(mount.as_raw_fd())
}

/// Whether mounts can be made so: there is no such call before Linux 5.12, and seccomp profiles of that time forbid it.
/// An error counts only if it comes twice.
pub fn can_make_read_only() -> bool {
    let can = || !matches!(read_only(-1), Err(Errno::NOSYS | Errno::PERM));
    can() || can()
}

/// `mount_setattr(mount, "", AT_EMPTY_PATH | AT_RECURSIVE, MOUNT_ATTR_RDONLY)`.
/// <https://man7.org/linux/man-pages/man2/mount_setattr.2.html>
fn read_only(mount: libc::c_int) -> Result<()> {
    /// `struct mount_attr`, linux/mount.h: set, clear, propagation, userns_fd.
    type MountAttr = [u64; 4];
    /// `MOUNT_ATTR_RDONLY`, linux/mount.h.
    const RDONLY: u64 = 1;
    let attributes: MountAttr = [RDONLY, 0, 0, 0];
    // SAFETY: path and structure are whole and outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount,
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    };
    super::check(result as libc::c_int).map(drop)
}

/// What statmount(2) says of a mount.
pub struct About {
    /// Its mount point, below the caller's root.
    pub point: PathBuf,
    /// Whether mounts and unmounts in it propagate to its peers (shared).
    pub shared: bool,
    /// Whether it receives those of another one (slave; mount_namespaces(7)).
    pub slave: bool,
}

/// `struct mnt_id_req`, its first version.
#[repr(C)]
struct Request {
    /// Its size.
    size: u32,
    /// Unused.
    spare: u32,
    /// The mount.
    id: u64,
    /// What is wanted of it, or the mount after which the list goes on.
    param: u64,
}

/// Calls statmount(2) or listmount(2).
fn ask(call: libc::c_long, id: u64, param: u64, to: *mut c_void, room: usize) -> Result<usize> {
    let request = Request {
        size: size_of::<Request>() as u32,
        spare: 0,
        id,
        param,
    };
    // SAFETY: the callers say that `room` is what there is at `to`, in the unit of the call.
    let result = unsafe { libc::syscall(call, &raw const request, to, room, 0) };
    super::check(result as libc::c_int).map(|count| usize::try_from(count).unwrap_or(0))
}

/// The number of the mount that a file is on (`STATX_MNT_ID_UNIQUE`, statx(2)), which no other ever gets.
pub fn mount_id(file: BorrowedFd<'_>) -> Result<u64> {
    /// `STATX_MNT_ID_UNIQUE`.
    const UNIQUE: u32 = 0x4000;
    let empty = rustix::fs::AtFlags::EMPTY_PATH;
    let wanted = rustix::fs::StatxFlags::from_bits_retain(UNIQUE);
    let about = rustix::fs::statx(file, c"", empty, wanted)?;
    if about.stx_mask & UNIQUE == 0 {
        return Err(Errno::NOSYS);
    }
    Ok(about.stx_mnt_id)
}

/// `statmount(mount)`.
pub fn statmount(id: u64) -> Result<About> {
    let mut bytes = [0_u8; STRINGS_AT + libc::PATH_MAX as usize];
    let room = bytes.len();
    ask(
        STATMOUNT,
        id,
        BASIC | POINT,
        bytes.as_mut_ptr().cast(),
        room,
    )?;
    let word = |at: usize| Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let point = || {
        let told = word(MASK_AT)? & POINT != 0;
        let start = u32::from_ne_bytes(bytes.get(POINT_AT..POINT_AT + 4)?.try_into().ok()?);
        let text = bytes.get(STRINGS_AT + usize::try_from(start).ok()?..)?;
        let text = text.split(|byte| *byte == 0).next().filter(|_| told)?;
        Some(PathBuf::from(OsString::from_vec(text.to_vec())))
    };
    Ok(About {
        point: point().ok_or(Errno::IO)?,
        shared: word(PEERS_AT).is_some_and(|peers| peers != 0),
        slave: word(MASTER_AT).is_some_and(|master| master != 0),
    })
}

/// `listmount(mount)`: all mounts below a mount, in the order in which they were made.
pub fn listmount(id: u64) -> Result<Vec<u64>> {
    let mut all: Vec<u64> = Vec::new();
    loop {
        let mut some = [0_u64; 64];
        let last = all.last().copied().unwrap_or(0);
        let count = ask(LISTMOUNT, id, last, some.as_mut_ptr().cast(), some.len())?;
        all.extend(some.iter().take(count));
        if count < some.len() {
            return Ok(all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    #[test]
    fn what_mountinfo_says_too() {
        let root = std::fs::File::open("/").unwrap();
        let id = match mount_id(root.as_fd()) {
            Ok(id) => id,
            // Before Linux 6.8.
            Err(errno) => return assert_eq!(errno, Errno::NOSYS),
        };
        assert_eq!(statmount(id).unwrap().point, std::path::Path::new("/"));
        let proc = std::fs::File::open("/proc").unwrap();
        let proc = mount_id(proc.as_fd()).unwrap();
        assert!(listmount(id).unwrap().contains(&proc));
        assert_eq!(
            statmount(proc).unwrap().point,
            std::path::Path::new("/proc")
        );
    }
}
