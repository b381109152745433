//! `--publish [ADDR:]PORT[:JAILPORT][/udp]`: a port of the machine that leads into the jail.

use std::ffi::OsStr;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::{Error, Result};

/// A published port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Publish {
    /// The machine's address; all of them where none is given, all of a family where it is 0.0.0.0 or ::.
    pub address: Option<IpAddr>,
    /// The machine's port.
    pub port: u16,
    /// The jail's port.
    pub to: u16,
    /// Whether it is a UDP port; else it is a TCP port.
    pub udp: bool,
}

impl Publish {
    /// Parses the option's value.
    pub fn parse(word: &OsStr) -> Result<Self> {
        let wrong = || {
            let word = word.display();
            Error::usage(format!(
                "--publish {word}: must be [ADDR:]PORT[:JAILPORT][/udp] with ports from 1 to 65535, and an IPv6 address in brackets"
            ))
        };
        let text = word.to_str().ok_or_else(wrong)?;
        let (text, udp) = match text.split_once('/') {
            None | Some((_, "tcp")) => (text.trim_end_matches("/tcp"), false),
            Some((text, "udp")) => (text, true),
            Some(_) => return Err(wrong()),
        };
        let (address, ports) = if let Some(rest) = text.strip_prefix('[') {
            let (address, ports) = rest.split_once("]:").ok_or_else(wrong)?;
            let address: Ipv6Addr = address.parse().map_err(|_| wrong())?;
            // The kernel forwards no packet with a link-local address.
            if address.is_unicast_link_local() || address.to_ipv4_mapped().is_some() {
                return Err(wrong());
            }
            (Some(IpAddr::V6(address)), ports)
        } else {
            match text.split_once(':') {
                Some((address, ports)) if address.contains('.') => {
                    let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
                    (Some(IpAddr::V4(address)), ports)
                }
                _ => (None, text),
            }
        };
        let (port, to) = ports.split_once(':').unwrap_or((ports, ports));
        let number = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let port = text.parse().ok().filter(|port| digits && *port > 0);
            port.ok_or_else(wrong)
        };
        Ok(Self {
            address,
            port: number(port)?,
            to: number(to)?,
            udp,
        })
    }

    /// The protocol's name.
    pub fn protocol(self) -> &'static str {
        if self.udp { "udp" } else { "tcp" }
    }

    /// Whether it is published at addresses of the same family as this one.
    pub fn is_at(self, family: IpAddr) -> bool {
        self.address
            .is_none_or(|address| address.is_ipv4() == family.is_ipv4())
    }

    /// The address that it is published at, if that is a single one.
    pub fn single(self) -> Option<IpAddr> {
        self.address.filter(|address| !address.is_unspecified())
    }

    /// Whether the machine's loopback addresses are among those that it is published at.
    pub fn is_on_loopback(self) -> bool {
        self.single().is_none_or(|address| address.is_loopback())
    }

    /// Whether both want the same port at an address.
    pub fn collides(self, other: Self) -> bool {
        let families = self.address.is_none_or(|address| other.is_at(address));
        let (ours, theirs) = (self.single(), other.single());
        let addresses = ours.is_none() || theirs.is_none() || ours == theirs;
        families && addresses && (self.port, self.udp) == (other.port, other.udp)
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            None => {}
        }
        write!(f, "{}:{}/{}", self.port, self.to, self.protocol())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published() {
        for (text, whole) in [
            ("80", "80:80/tcp"),
            ("8080:80", "8080:80/tcp"),
            ("192.0.2.1:8080:80/tcp", "192.0.2.1:8080:80/tcp"),
            ("192.0.2.1:53/udp", "192.0.2.1:53:53/udp"),
            ("[2001:db8::1]:53/udp", "[2001:db8::1]:53:53/udp"),
            ("[0:0::1]:8080:80", "[::1]:8080:80/tcp"),
        ] {
            let publish = Publish::parse(OsStr::new(text)).unwrap();
            assert_eq!(publish.to_string(), whole);
            assert_eq!(Publish::parse(OsStr::new(whole)).unwrap(), publish);
        }
        for bad in [
            "",
            "x",
            "0",
            "65536",
            "80/sctp",
            "1:2:3",
            "192.0.2:80",
            "::1:80",
            "80:",
            "80/tcp/udp",
            "80/",
            "80/TCP",
            "+80",
            "-1",
            " 80",
            "80:0",
            "80:65536",
            ":80",
            "192.0.2.1:",
            "192.0.2.256:80",
            "192.0.2.1:80:80:80",
            "[192.0.2.1]:80",
            "[2001:db8::1]80",
            "[2001:db8::1]",
            "[fe80::1%eth0]:80",
            "[fe80::1]:80",
            "[::ffff:192.0.2.1]:80",
            "2001:db8::1:80:80",
            "[]:80",
        ] {
            assert_eq!(
                Publish::parse(OsStr::new(bad)).unwrap_err().code(),
                2,
                "{bad}"
            );
        }
    }
}
