//! That the machine passes packets on: the kernel's switch for all links, or, where /proc/sys cannot be written (Docker
//! without --privileged), those of the two links that the jail's packets go through.

use std::fmt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Action, Machine, Seen, Side, file};
use crate::error::{Result, What as _, Why};
use crate::nl::link;

/// The switch for all links.
const SWITCH: &str = "/proc/sys/net/ipv4/ip_forward";

/// Packets are passed on.
pub struct Forwarding {
    /// The links that count where only single ones can be switched.
    pub links: Vec<String>,
}

impl Forwarding {
    /// The step's text, whatever the links are.
    pub const TEXT: &'static str = "echo 1 >/proc/sys/net/ipv4/ip_forward";

    /// Turns the switch; where that is not possible those of the links, as far as they are there.
    fn turn(&self, machine: &mut Machine, on: bool) -> Result<(), Why> {
        let value: &[u8] = if on { b"1" } else { b"0" };
        let written = rustix::fs::open(SWITCH, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .and_then(|file| rustix::io::write(&file, value));
        match written {
            Ok(_) => return Ok(()),
            Err(Errno::ROFS | Errno::ACCESS | Errno::PERM) => {}
            Err(errno) => return Err(errno.into()),
        }
        let Ok(Some(socket)) = machine.route(Side::Outer) else {
            return Err(Errno::ROFS.into());
        };
        for name in &self.links {
            if let Some(link) = link::link(socket, name)? {
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
        if file::read(Path::new(SWITCH))?.first() == Some(&b'1') {
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
