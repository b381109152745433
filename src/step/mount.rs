//! The mounts of a jail. They are made by its init in its own mount namespace and go with it, so nothing here is ever
//! taken back; looking at them means reading the mountinfo of that namespace ([`super::View`]).

use std::fmt;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{
    self, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    move_mount, open_tree,
};

use super::{Action, Machine, Seen, inside, place};
use crate::error::{Error, Result, What as _};
use crate::file;
use crate::sys;
use crate::text::quote;

/// Keeps mounts and unmounts in here from propagating outside; what is mounted outside later still arrives.
pub struct Slave;

impl fmt::Display for Slave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("mount --make-rslave /")
    }
}

impl Action for Slave {
    fn observe(&self, machine: &mut Machine) -> Result<Seen> {
        Ok(Seen::done(machine.view.is_some()))
    }

    fn apply(&self, _: &mut Machine) -> Result<()> {
        mount::mount_change(
            "/",
            MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
        )
        .what(|| self.to_string())
    }
}

/// Something outside, seen inside.
pub struct Bind {
    /// What.
    pub source: PathBuf,
    /// The jail's root, while it is put together.
    pub root: PathBuf,
    /// Where in the jail.
    pub target: PathBuf,
    /// Whether the jail may only read it.
    pub read_only: bool,
}

impl Bind {
    /// Its path while the root is put together.
    fn place(&self) -> PathBuf {
        inside(&self.root, &self.target)
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place();
        write!(f, "mount --rbind {} {}", quote(&self.source), quote(&place))?;
        if self.read_only {
            let place = quote(&place);
            write!(
                f,
                " && findmnt -nlRo TARGET {place} | xargs -d '\\n' -n1 mount -o remount,bind,ro"
            )?;
        }
        Ok(())
    }
}

impl Action for Bind {
    fn observe(&self, machine: &mut Machine) -> Result<Seen> {
        let Some(view) = &machine.view else {
            return Ok(Seen::Absent);
        };
        Ok(Seen::done(
            view.at(&self.target)
                .is_some_and(|mount| mount.read_only || !self.read_only),
        ))
    }

    fn apply(&self, _: &mut Machine) -> Result<()> {
        let what = || self.to_string();
        let place =
            file::open_within(&self.root, &self.target).map_err(|astray| astray.told(what))?;
        let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        // Nor is a user's link followed to the source: by swapping it the user could bind what he may not reach.
        let source =
            file::open_within(Path::new("/"), &self.source).map_err(|astray| astray.told(what))?;
        let whole = OpenTreeFlags::AT_RECURSIVE | OpenTreeFlags::AT_EMPTY_PATH;
        let tree = open_tree(source, c"", clone | whole).what(what)?;
        if self.read_only {
            match sys::make_read_only(tree.as_fd()) {
                Err(Errno::NOSYS) => {
                    return Err(Error::text(what(), "':ro' needs Linux 5.12 or later"));
                }
                other => other.what(what)?,
            }
        }
        // From descriptor to descriptor: the names may lead to something else by now.
        let empty =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(&tree, c"", &place, c"", empty).what(what)
    }
}

/// The jail's root, as a mount that can become the root.
pub struct Root {
    /// Where it is put together.
    pub path: PathBuf,
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = quote(&self.path);
        write!(
            f,
            "mount --rbind {path} {path} && mount --make-private {path}"
        )
    }
}

impl Action for Root {
    fn observe(&self, machine: &mut Machine) -> Result<Seen> {
        Ok(Seen::done(
            machine
                .view
                .as_ref()
                .is_some_and(|view| view.at(Path::new("/")).is_some()),
        ))
    }

    fn apply(&self, _: &mut Machine) -> Result<()> {
        mount::mount_bind_recursive(&self.path, &self.path).what(|| self.to_string())?;
        mount::mount_change(&self.path, MountPropagationFlags::PRIVATE).what(|| self.to_string())
    }
}

/// A new mount of a file system that shows its mounter's namespaces: proc, sysfs, mqueue, cgroup.
pub struct Fresh {
    /// Its type.
    pub kind: String,
    /// The mount's source in mountinfo; it and the type identify the mount.
    pub source: &'static str,
    /// The jail's root, while it is put together.
    pub root: PathBuf,
    /// Where in the jail.
    pub target: PathBuf,
    /// Its options, as mount(8) takes them.
    pub options: String,
}

impl Fresh {
    /// The source of one that is mounted over an outer one of the same type.
    pub const OURS: &'static str = super::cover::SOURCE;

    /// Where it is mounted before it is moved into place, if need be: the kernel mounts no file system on itself.
    fn made_at(&self) -> Option<PathBuf> {
        let on_itself = self.kind.starts_with("cgroup");
        on_itself.then(|| inside(&self.root, Path::new("/mnt")))
    }

    /// Whether it is read-only.
    fn is_read_only(&self) -> bool {
        self.options.split(',').any(|option| option == "ro")
    }

    /// Its options as mount(2) takes them: flags, and the file system's own as data.
    fn split(&self) -> (MountFlags, String) {
        let (mut flags, mut data) = (MountFlags::empty(), Vec::new());
        for option in self.options.split(',') {
            match option {
                "ro" => flags |= MountFlags::RDONLY,
                "nosuid" => flags |= MountFlags::NOSUID,
                "nodev" => flags |= MountFlags::NODEV,
                "noexec" => flags |= MountFlags::NOEXEC,
                other => data.push(other),
            }
        }
        (flags, data.join(","))
    }
}

impl fmt::Display for Fresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            source,
            options,
            ..
        } = self;
        write!(f, "mount -t {kind}")?;
        if !options.is_empty() {
            write!(f, " -o {}", quote(options))?;
        }
        let place = quote(inside(&self.root, &self.target));
        match self.made_at().map(quote) {
            Some(at) => write!(f, " {source} {at} && mount --move {at} {place}"),
            None => write!(f, " {source} {place}"),
        }
    }
}

impl Action for Fresh {
    fn observe(&self, machine: &mut Machine) -> Result<Seen> {
        let mount = machine.view.as_ref().and_then(|view| view.at(&self.target));
        Ok(match mount {
            Some(mount) if mount.kind == self.kind => {
                Seen::done(mount.source == self.source && (mount.read_only || !self.is_read_only()))
            }
            Some(mount) => Seen::Other(format!("a {} where {} should be", mount.kind, self.kind)),
            None => Seen::Absent,
        })
    }

    fn apply(&self, _: &mut Machine) -> Result<()> {
        let (flags, data) = self.split();
        let data = std::ffi::CString::new(data).map_err(|_| Errno::INVAL);
        let place = place(&self.root, &self.target, || self.to_string())?;
        let at = self.made_at();
        let mounted = data.and_then(|data| {
            let at = at.as_ref().unwrap_or(&place);
            mount::mount(self.source, at, self.kind.as_str(), flags, Some(&*data))
        });
        let mounted = mounted.and_then(|()| at.map_or(Ok(()), |at| mount::mount_move(at, &place)));
        match mounted {
            Err(Errno::PERM) => Err(Error::cure(
                self.to_string(),
                "Operation not permitted",
                "needs CAP_SYS_ADMIN; in a user namespace the kernel also wants a /proc and a /sys with nothing \
                 mounted over any part of them (mount_namespaces(7))",
            )),
            other => other.what(|| self.to_string()),
        }
    }
}

/// Makes the jail's root the root of its mount namespace, and lets go of the outer one.
pub struct Pivot {
    /// The jail's root.
    pub root: PathBuf,
}

impl fmt::Display for Pivot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cd {} && pivot_root . . && umount -n -l . && cd /",
            quote(&self.root)
        )
    }
}

impl Action for Pivot {
    fn observe(&self, machine: &mut Machine) -> Result<Seen> {
        // mountinfo has the root's path in its own file system: the end of the path of the jail's root.
        let top = machine
            .view
            .as_ref()
            .filter(|view| view.root == Path::new("/"))
            .and_then(|view| view.at(Path::new("/")));
        Ok(Seen::done(top.is_some_and(|top| {
            top.root
                .strip_prefix("/")
                .is_ok_and(|root| self.root.ends_with(root))
        })))
    }

    fn apply(&self, _: &mut Machine) -> Result<()> {
        let what = || self.to_string();
        rustix::process::chdir(&self.root).what(what)?;
        match rustix::process::pivot_root(".", ".") {
            // The old root is the initial ramfs, which cannot be moved (pivot_root(2)), or a seccomp profile allows
            // mount but not pivot_root, as Docker's does. The new root is then moved over the old one, where setns(2)
            // takes it for the root of every process that joins.
            Err(Errno::INVAL | Errno::PERM | Errno::NOSYS) => {
                mount::mount_move(".", "/").what(what)?;
                rustix::process::chroot(".").what(what)?;
            }
            other => {
                other.what(what)?;
                // The old root now lies on top of the new one, where "." finds it.
                mount::unmount(".", UnmountFlags::DETACH).what(what)?;
            }
        }
        rustix::process::chdir("/").what(what)
    }
}
