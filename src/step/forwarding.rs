//! IPv4 forwarding: the kernel's switch for all links, or, where /proc/sys cannot be written (Docker without
//! --privileged), those of the two links that the jail's packets go through. Turning the one for all links sets every
//! link's own too, on or off (`inet_forward_change`), so any that was set otherwise is restored.

use std::fmt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Action, Machine, Seen, Side};
use crate::error::{Result, What as _, Why};
use crate::file;
use crate::nl::{self, link};

/// The switch for all links.
const SWITCH: &str = "/proc/sys/net/ipv4/ip_forward";

/// Where the switches of single links are, in a directory for each link, and `all` and `default`.
const SINGLE: &str = "/proc/sys/net/ipv4/conf";

/// The switches that turning off the one for all links would leave otherwise than they were.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Single {
    /// The links that forward by themselves; `default` is every link to come.
    pub forwarding: Vec<String>,
    /// Whether ICMP redirects are refused, as by a router.
    pub no_redirects: bool,
}

impl Single {
    /// Reads them, if the one for all links is off.
    pub fn gather(socket: &mut nl::Socket) -> Result<Self> {
        if is_on(Path::new(SWITCH))? {
            return Ok(Self::default());
        }
        let links = link::links(socket).what(|| "ip link show")?;
        let links = links.into_iter().filter(|link| link.forwarding);
        let mut forwarding: Vec<String> = links.map(|link| link.name).collect();
        if is_on(&of("default", FORWARDING))? {
            forwarding.push("default".into());
        }
        // A machine without /proc/sys has nothing that could be turned.
        let redirects = file::read(&of("all", REDIRECTS))?;
        Ok(Self {
            forwarding,
            no_redirects: redirects.first() == Some(&b'0'),
        })
    }

    /// Restores them; a link that is gone has none.
    fn put_back(&self) -> Result<(), Why> {
        for name in &self.forwarding {
            match write(&of(name, FORWARDING), b"1") {
                Err(Errno::NOENT) => {}
                other => other?,
            }
        }
        if self.no_redirects {
            write(&of("all", REDIRECTS), b"0")?;
        }
        Ok(())
    }
}

/// Whether a link forwards packets.
const FORWARDING: &str = "forwarding";
/// Whether ICMP redirects are accepted.
const REDIRECTS: &str = "accept_redirects";

/// The path of a link's switch.
fn of(link: &str, switch: &str) -> PathBuf {
    Path::new(SINGLE).join(link).join(switch)
}

/// Whether a switch is on.
fn is_on(switch: &Path) -> Result<bool> {
    Ok(file::read(switch)?.first() == Some(&b'1'))
}

/// Turns a switch.
fn write(switch: &Path, value: &[u8]) -> rustix::io::Result<()> {
    let file = rustix::fs::open(switch, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, value).map(drop)
}

/// Packets are forwarded.
pub struct Forwarding {
    /// The links to switch where only single links can be switched.
    pub links: Vec<String>,
    /// What is restored when forwarding is turned off.
    pub before: Single,
}

impl Forwarding {
    /// The step's text, whatever the links are.
    pub const TEXT: &'static str = "echo 1 >/proc/sys/net/ipv4/ip_forward";

    /// Turns the switch for all links; if that is forbidden, those of the links that are there.
    fn turn(&self, machine: &mut Machine, on: bool) -> Result<(), Why> {
        let switch = || write(Path::new(SWITCH), if on { b"1" } else { b"0" });
        // Tried twice: what is forbidden fails the second time too.
        match switch().or_else(|_| switch()) {
            Ok(()) if on => return Ok(()),
            Ok(()) => return self.before.put_back(),
            Err(Errno::ROFS | Errno::ACCESS | Errno::PERM) => {}
            Err(errno) => return Err(errno.into()),
        }
        let Ok(Some(socket)) = machine.route(Side::Outer) else {
            return Err(Errno::ROFS.into());
        };
        for name in &self.links {
            let stays = !on && self.before.forwarding.contains(name);
            if let Some(link) = link::link(socket, name)?.filter(|_| !stays) {
                link::turn(socket, link.index, link::Switch::Forwarding, on)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Forwarding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::TEXT)
    }
}

impl Action for Forwarding {
    fn observe(&self, machine: &mut Machine) -> Result<Seen> {
        if is_on(Path::new(SWITCH))? {
            return Ok(Seen::Done);
        }
        let Some(socket) = machine.route(Side::Outer)? else {
            return Ok(Seen::Absent);
        };
        let mut all = true;
        for name in &self.links {
            all &= link::link(socket, name)
                .what(|| Self::TEXT)?
                .is_some_and(|link| link.forwarding);
        }
        Ok(Seen::done(all))
    }

    fn apply(&self, machine: &mut Machine) -> Result<()> {
        self.turn(machine, true).what(|| Self::TEXT)
    }

    fn undo(&self, machine: &mut Machine) -> Result<()> {
        self.turn(machine, false)
            .what(|| Self::TEXT.replace('1', "0"))
    }
}
