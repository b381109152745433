//! The named network namespace, and the directory that namespaces have their names in.

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;

use rustix::fs::{CWD, FileType};

use super::{Action, Machine, Seen};
use crate::error::Result;
use crate::file::check_roots;
use crate::netns::{self, Identity};

/// /run/netns as a shared mount, so that a name made in one mount namespace appears in all.
pub struct RunDir;

impl fmt::Display for RunDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dir = netns::DIR;
        write!(
            f,
            "mount --make-shared {dir} 2>/dev/null || {{ mount --bind {dir} {dir} && mount --make-private {dir} && \
             mount --make-shared {dir}; }}"
        )
    }
}

impl Action for RunDir {
    fn observe(&self, _: &mut Machine) -> Result<Seen> {
        // Whoever can write there can put another namespace in a jail's place.
        check_roots(Path::new(netns::DIR), FileType::Directory)?;
        let dir = netns::mounts::real(Path::new(netns::DIR));
        if netns::mounts::is_shared(&dir) {
            return Ok(Seen::Done);
        }
        let mounts = crate::procfs::mounts(&crate::file::read(Path::new("/proc/self/mountinfo"))?);
        Ok(match mounts.iter().rev().find(|mount| mount.point == dir) {
            None => Seen::Absent,
            // A file system that somebody mounted there is used as it is.
            Some(mount) if mount.shared || mount.root == Path::new("/") => Seen::Done,
            Some(_) => Seen::Torn,
        })
    }

    fn apply(&self, _: &mut Machine) -> Result<()> {
        netns::RunDir::prepare().map(drop)
    }

    fn undo(&self, _: &mut Machine) -> Result<()> {
        netns::RunDir::unmount()
    }
}

/// A named network namespace.
pub struct NetNs {
    /// Its name.
    pub name: String,
}

impl fmt::Display for NetNs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ip netns add {}", self.name)
    }
}

impl Action for NetNs {
    fn observe(&self, machine: &mut Machine) -> Result<Seen> {
        let init = machine.view.as_ref().and_then(|view| view.init);
        let identity = |path: String| Identity::at(CWD, path.as_bytes()).ok();
        Ok(match netns::state(OsStr::new(&self.name))? {
            // The jail's network is the one that init was started in, whatever the name refers to by now.
            netns::State::Namespace
                if let Some(init) = init
                    && identity(format!("/proc/{init}/ns/net")).is_some_and(|its| {
                        identity(format!("{}/{}", netns::DIR, self.name)) != Some(its)
                    }) =>
            {
                Seen::Other(format!(
                    "{}/{} that is not the jail's network",
                    netns::DIR,
                    self.name
                ))
            }
            netns::State::Namespace => Seen::Done,
            // A file that lost its namespace, or did not get one.
            netns::State::Ghost => Seen::Torn,
            netns::State::Absent => Seen::Absent,
            netns::State::Foreign => Seen::Other(format!(
                "{}/{} that is not a network namespace",
                netns::DIR,
                self.name
            )),
        })
    }

    fn apply(&self, machine: &mut Machine) -> Result<()> {
        let name = OsStr::new(&self.name);
        // A jail that is up has its network: what it lacks is the name.
        let made = match machine.view.as_ref().and_then(|view| view.init) {
            Some(init) => netns::RunDir::with(|dir| netns::attach(dir, name, init)),
            None => netns::RunDir::with(|dir| netns::add(dir, name, netns::Maker::Child)),
        };
        made.map_err(|error| error.context(self.to_string()))
    }

    fn undo(&self, machine: &mut Machine) -> Result<()> {
        // A socket of ours in it would keep it alive.
        machine.leave_jail();
        netns::delete(OsStr::new(&self.name), false)
            .map_err(|error| error.context(format!("ip netns delete {}", self.name)))
    }
}
