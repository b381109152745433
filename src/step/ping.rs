//! Which groups may ping without privileges (icmp(7)): in a new network namespace none may, whatever the machine
//! allows.

use std::ffi::OsStr;
use std::fmt;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{Action, Machine, Seen, switch};
use crate::error::{Result, What as _};
use crate::netns;
use crate::sys;

/// The kernel's switch, of the network namespace of the process that opens it.
const SWITCH: &str = "/proc/sys/net/ipv4/ping_group_range";
/// The overflow GID: how a user namespace sees a group that it does not map.
const NOBODY: u32 = 65_534;

/// What a new network's switch says: nobody may.
const NONE: &str = "1 0";

/// A range of groups, first and last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Groups(pub u32, pub u32);

impl Groups {
    /// What the switch says; none where it says that nobody may, or names groups that are not mapped here.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(text).ok()?.split_ascii_whitespace();
        let (first, last) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let none = words.next().is_some() || first > last || (first, last) == (NOBODY, NOBODY);
        (!none).then_some(Self(first, last))
    }

    /// The groups that may ping in our network namespace.
    pub fn here() -> rustix::io::Result<Option<Self>> {
        let read = || switch::read(Path::new(SWITCH));
        match read().or_else(|_| read()) {
            Ok(text) => Ok(text.and_then(|text| Self::parse(text.as_bytes()))),
            // It is forbidden: the second attempt failed too. That is no error.
            Err(Errno::ACCESS | Errno::PERM) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// The same, with an error that names the command.
    pub fn gather() -> Result<Option<Self>> {
        Self::here().what(|| format!("cat {SWITCH}"))
    }
}

impl fmt::Display for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.1)
    }
}

/// Lets groups ping in a network namespace.
pub struct Ping {
    /// The network, by name.
    pub netns: String,
    /// The groups.
    pub groups: Groups,
}

impl fmt::Display for Ping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { netns, groups } = self;
        write!(f, "ip netns exec {netns} sh -c 'echo {groups} >{SWITCH}'")
    }
}

impl Action for Ping {
    fn observe(&self, machine: &mut Machine) -> Result<Seen> {
        let Some(network) = machine.network()? else {
            return Ok(Seen::Absent);
        };
        let there = sys::elsewhere(|| {
            enter(&network)?;
            Groups::here()
        });
        // Groups that somebody else has chosen will do.
        let there = there.what(|| format!("ip netns exec {} cat {SWITCH}", self.netns))?;
        Ok(Seen::done(there.is_some()))
    }

    fn apply(&self, _: &mut Machine) -> Result<()> {
        self.set(&self.groups.to_string())
    }

    fn undo(&self, _: &mut Machine) -> Result<()> {
        match self.set(NONE) {
            // A user namespace that maps only one group cannot express it.
            Err(error) if error.errno() == Some(Errno::INVAL) => Ok(()),
            other => other,
        }
    }
}

impl Ping {
    /// Sets the switch of the network.
    fn set(&self, text: &str) -> Result<()> {
        let network = netns::open(OsStr::new(&self.netns))?;
        let written = sys::elsewhere(|| {
            enter(&network)?;
            switch::write_last(Path::new(SWITCH), text)
        });
        let Self { netns, .. } = self;
        written.what(|| format!("ip netns exec {netns} sh -c 'echo {text} >{SWITCH}'"))
    }
}

/// Moves this process into a network.
fn enter(network: &OwnedFd) -> rustix::io::Result<()> {
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_switch_says() {
        assert_eq!(
            Groups::parse(b"0\t2147483647\n"),
            Some(Groups(0, 2_147_483_647))
        );
        assert_eq!(Groups::parse(b"5 5"), Some(Groups(5, 5)));
        for none in [
            &b"1\t0\n"[..],
            b"65534\t65534\n",
            b"65534\t0\n",
            b"",
            b"1",
            b"a b",
            b"1 2 3",
            b"-1 5",
        ] {
            assert_eq!(Groups::parse(none), None);
        }
    }
}
