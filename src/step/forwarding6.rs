//! IPv6 forwarding of the machine. Unlike with IPv4, only the kernel's switch for all links decides it; but turning
//! that one turns those of all links too, which say whether the machine acts as a router there.

use std::fmt;

use rustix::io::Errno;

use super::{Action, Machine, Seen, switch};
use crate::error::{Result, What as _};

/// IPv6 packets are forwarded.
pub struct Forwarding6 {
    /// The links whose switch was on before, though the one for all was not.
    pub routers: Vec<String>,
}

impl Forwarding6 {
    /// The step's text, whatever was on before.
    pub const TEXT: &'static str = "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding";

    /// Whether they are now.
    pub fn is_on() -> rustix::io::Result<bool> {
        let there = switch::read(&switch::ipv6("all", "forwarding"))?;
        Ok(there.is_some_and(|there| there != "0"))
    }
}

impl fmt::Display for Forwarding6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::TEXT)
    }
}

impl Action for Forwarding6 {
    fn observe(&self, _: &mut Machine) -> Result<Seen> {
        Self::is_on()
            .map(Seen::done)
            .what(|| "cat /proc/sys/net/ipv6/conf/all/forwarding")
    }

    fn apply(&self, _: &mut Machine) -> Result<()> {
        switch::write(&switch::ipv6("all", "forwarding"), "1").what(|| Self::TEXT)
    }

    fn undo(&self, _: &mut Machine) -> Result<()> {
        let turn = |link: &str, value| {
            let path = switch::ipv6(link, "forwarding");
            match switch::write(&path, value) {
                // The link is gone, and its switch with it.
                Err(Errno::NOENT) => Ok(()),
                other => other.what(|| format!("echo {value} >{}", path.display())),
            }
        };
        turn("all", "0")?;
        self.routers.iter().try_for_each(|link| turn(link, "1"))
    }
}
