//! The kernel's network switches (sysctls) in /proc/sys/net: how they are read and written, also where /proc/sys is
//! read-only (Docker without --privileged); and IPv6's switches of a link, as steps. A switch is that of the network
//! namespace of the process that opens it.

use std::fmt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::UnshareFlags;

use super::{Action, Machine, Seen};
use crate::error::{Result, What as _};
use crate::sys;
use crate::text::quote;

/// What a switch says, without blanks around it; none where it is not there.
pub fn read(path: &Path) -> rustix::io::Result<Option<String>> {
    let mut text = [0; 64];
    let switch = match rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        other => other?,
    };
    let length = rustix::io::read(switch, &mut text)?;
    let text = String::from_utf8_lossy(text.get(..length).unwrap_or_default());
    Ok(Some(text.trim_ascii().to_owned()))
}

/// Turns a switch.
pub fn write(path: &Path, text: &str) -> rustix::io::Result<()> {
    match put(path, text) {
        Err(Errno::ROFS | Errno::ACCESS | Errno::PERM) => sys::elsewhere(|| write_last(path, text)),
        other => other,
    }
}

/// The same for a child process that does nothing else: it may unshare its mounts.
pub fn write_last(path: &Path, text: &str) -> rustix::io::Result<()> {
    match put(path, text) {
        // In a container /proc/sys may be read-only; a newly mounted proc is not.
        Err(Errno::ROFS | Errno::ACCESS | Errno::PERM) => {
            sys::unshare(UnshareFlags::NEWNS)?;
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change("/", private)?;
            mount("proc", "/proc", "proc", MountFlags::empty(), None)?;
            put(path, text)
        }
        other => other,
    }
}

/// Writes to an existing file.
fn put(path: &Path, text: &str) -> rustix::io::Result<()> {
    let switch = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(switch, text.as_bytes()).map(drop)
}

/// The path of an IPv6 switch of a link; `all` and `default` are among the links.
pub fn ipv6(link: &str, setting: &str) -> PathBuf {
    ["/proc/sys/net/ipv6/conf", link, setting].iter().collect()
}

/// An IPv6 switch of a link.
pub struct Ipv6Switch {
    /// The link.
    pub link: String,
    /// Which one.
    pub setting: &'static str,
    /// What it shall say.
    pub value: &'static str,
    /// What it said before.
    pub before: &'static str,
    /// Whether the link belongs to the jail. If not, the step is done where the link is gone.
    pub own: bool,
}

impl Ipv6Switch {
    /// The link accepts router advertisements although this machine forwards.
    pub fn hear(link: &str) -> Self {
        Self {
            link: link.into(),
            setting: "accept_ra",
            value: "2",
            before: "1",
            own: false,
        }
    }

    /// The link has IPv6 although it is disabled for new links.
    pub fn enable(link: &str) -> Self {
        Self {
            link: link.into(),
            setting: "disable_ipv6",
            value: "0",
            before: "1",
            own: true,
        }
    }

    /// Where it is.
    fn path(&self) -> PathBuf {
        ipv6(&self.link, self.setting)
    }
}

impl fmt::Display for Ipv6Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "echo {} >{}", self.value, quote(self.path()))
    }
}

impl Action for Ipv6Switch {
    fn observe(&self, _: &mut Machine) -> Result<Seen> {
        let path = self.path();
        let there = read(&path).what(|| format!("cat {}", quote(&path)))?;
        Ok(Seen::done(match there {
            Some(there) => there == self.value,
            None => !self.own,
        }))
    }

    fn apply(&self, _: &mut Machine) -> Result<()> {
        write(&self.path(), self.value).what(|| self.to_string())
    }

    fn undo(&self, _: &mut Machine) -> Result<()> {
        match write(&self.path(), self.before) {
            Err(Errno::NOENT) => Ok(()),
            other => other.what(|| format!("echo {} >{}", self.before, quote(self.path()))),
        }
    }
}
