//! The namespaces that `--unshare` adds to those that every jail has. Init is started in them, so the steps here only
//! check that it was; and they set the host name.

use std::fmt;
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{Action, Machine, Seen};
use crate::config::Namespace;
use crate::error::{Result, What as _};
use crate::sys;

/// Init's own namespace of a kind. Its `Display` is the prefix of the command that starts init.
pub struct Own {
    /// The kind.
    pub kind: Namespace,
}

impl fmt::Display for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unshare --{}", self.kind.name())?;
        if self.kind == Namespace::Time {
            // Offsets count from the initial time namespace's clocks, also inside another one (time_namespaces(7)).
            f.write_str(
                " --boottime=$(($(sed -n 's/^boottime *\\([-0-9]*\\).*/\\1/p' /proc/self/timens_offsets) - $(cut -d . -f 1 /proc/uptime)))",
            )?;
        }
        Ok(())
    }
}

impl Action for Own {
    fn observe(&self, machine: &mut Machine) -> Result<Seen> {
        let init = machine.view.as_ref().and_then(|view| view.init);
        let differs = init.map(|init| differs(init, self.kind)).transpose()?;
        Ok(Seen::done(differs.unwrap_or(false)))
    }

    fn apply(&self, _: &mut Machine) -> Result<()> {
        // Init is started in it already.
        Ok(())
    }
}

/// Whether a process has a namespace of this kind that is not ours. If that cannot be determined it is an error: a
/// session would otherwise join only some of a jail's namespaces.
pub fn differs(process: i32, kind: Namespace) -> Result<bool> {
    let number = |process: &str| {
        let path = format!("/proc/{process}/ns/{}", kind.name());
        match rustix::fs::stat(&path) {
            Ok(stat) => Ok(Some((stat.st_dev, stat.st_ino))),
            // The process has ended or is about to, or the kernel has no such namespaces.
            Err(Errno::NOENT | Errno::SRCH | Errno::INVAL) => Ok(None),
            Err(errno) => Err(errno).what(|| format!("stat -L {path}")),
        }
    };
    let (its, ours) = (number(&process.to_string())?, number("self")?);
    Ok(its.is_some() && its != ours)
}

/// The jail's host name.
pub struct Hostname {
    /// The name.
    pub name: String,
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hostname {}", self.name)
    }
}

impl Action for Hostname {
    fn observe(&self, machine: &mut Machine) -> Result<Seen> {
        let Some(init) = machine.view.as_ref().and_then(|view| view.init) else {
            return Ok(Seen::Absent);
        };
        if !differs(init, Namespace::Uts)? {
            return Ok(Seen::Absent);
        }
        let path = format!("/proc/{init}/ns/uts");
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let its = rustix::fs::open(Path::new(&path), flags, Mode::empty());
        let name = its.and_then(|its| {
            sys::elsewhere(|| {
                let uts = LinkNameSpaceType::HostNameAndNISDomainName;
                move_into_link_name_space(its.as_fd(), Some(uts))?;
                Ok(rustix::system::uname().nodename().to_owned())
            })
        });
        let name = name.what(|| format!("nsenter -t {init} -u hostname"))?;
        Ok(Seen::done(name.as_bytes() == self.name.as_bytes()))
    }

    fn apply(&self, _: &mut Machine) -> Result<()> {
        rustix::system::sethostname(self.name.as_bytes()).what(|| self.to_string())
    }
}
