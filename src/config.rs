//! What a jail shall be like: the options of `setup` as values, checked for shape only. Pure: it never looks at the
//! machine; what must exist there is checked by [`crate::facts`].

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::Ipv4Addr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// The name of a jail that nobody named.
pub const DEFAULT_JAIL: &str = "USER";

/// The directories that a jail always has of its own, with their modes.
pub const OWN: [(&str, u32); 3] = [("mnt", 0o755), ("opt", 0o755), ("tmp", 0o1777)];

/// The options of a jail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Its name: 1 to 32 of `A-Za-z0-9_.-`, not starting with `.` or `-`.
    pub jail: String,
    /// It is only a network: a named namespace with an uplink, without root and init (`kak netns add --uplink`).
    pub bare: bool,
    /// Where its root is put together.
    pub root: PathBuf,
    /// Top-level directories, without slash, that it has of its own beside [`OWN`].
    pub hide: Vec<OsString>,
    /// What it sees beside the outer top level.
    pub binds: Vec<Bind>,
    /// Its addresses; the first free /24 where none is given.
    pub subnet: Option<Subnet>,
    /// Its resolvers; the outer ones where none is given.
    pub dns: Vec<std::net::IpAddr>,
    /// Whether its packets leave under the machine's address.
    pub nat: bool,
    /// What of it the machine's neighbours reach at the machine's addresses.
    pub publish: Vec<Publish>,
    /// Its shell; /bin/bash, else /bin/sh where none is given.
    pub shell: Option<PathBuf>,
}

impl Config {
    /// The jail of this name without any option.
    pub fn new(jail: &str) -> Self {
        Self {
            jail: jail.into(),
            bare: false,
            root: Path::new("/mnt").join(jail.to_ascii_lowercase()),
            hide: Vec::new(),
            binds: Vec::new(),
            subnet: None,
            dns: Vec::new(),
            nat: true,
            publish: Vec::new(),
            shell: None,
        }
    }
}

/// Checks a jail's name.
pub fn jail_name(word: &OsStr) -> Result<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    match word.to_str() {
        Some(name)
            if (1..=32).contains(&name.len())
                && name.bytes().all(allowed)
                && !name.starts_with(['.', '-']) =>
        {
            Ok(name.into())
        }
        _ => Err(Error::usage(format!(
            "jail name {word:?}: must be 1 to 32 of A-Za-z0-9_.- and not start with . or -"
        ))),
    }
}

/// Checks an absolute path without `..`, and takes the `.` and the double slashes out of it.
pub fn absolute(option: &str, word: &OsStr) -> Result<PathBuf> {
    let path = Path::new(word);
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        return Err(Error::usage(format!(
            "{option} {word:?}: must be an absolute path without '..'"
        )));
    }
    Ok(path.components().collect())
}

/// Checks an IP address.
pub fn address(option: &str, word: &OsStr) -> Result<std::net::IpAddr> {
    let address = word.to_str().and_then(|word| word.parse().ok());
    let wrong = || {
        Error::usage(format!(
            "{option} {}: must be an IP address",
            word.display()
        ))
    };
    address.ok_or_else(wrong)
}

/// Checks `--root`.
pub fn root(word: &OsStr) -> Result<PathBuf> {
    let root = absolute("--root", word)?;
    if root.parent().is_none() {
        return Err(Error::usage(
            "--root /: the jail's root must be a directory of its own",
        ));
    }
    Ok(root)
}

/// Checks `--hide`: a top-level directory, with or without its slash.
pub fn hide(word: &OsStr) -> Result<OsString> {
    let path = Path::new("/").join(word);
    let mut parts = path.components().skip(1);
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(name)), None)
            if ![&b"proc"[..], b"sys", b"dev", b"run"].contains(&name.as_bytes()) =>
        {
            Ok(name.into())
        }
        _ => Err(Error::usage(format!(
            "--hide {word:?}: must be one top-level directory other than /proc, /sys, /dev and /run"
        ))),
    }
}

/// Something that the jail sees at a place of its own: `--bind SRC[:DST][:ro]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bind {
    /// What is outside.
    pub source: PathBuf,
    /// Where it is inside.
    pub target: PathBuf,
    /// Whether the jail may only read it.
    pub read_only: bool,
}

impl Bind {
    /// Parses the option's value.
    pub fn parse(word: &OsStr) -> Result<Self> {
        let bytes = word.as_bytes();
        let (bytes, read_only) = bytes
            .strip_suffix(b":ro")
            .map_or((bytes, false), |rest| (rest, true));
        let mut parts = bytes.splitn(2, |byte| *byte == b':');
        let source = parts.next().unwrap_or_default();
        let target = parts.next().unwrap_or(source);
        let target = absolute("--bind", OsStr::from_bytes(target))?;
        if target.parent().is_none() {
            return Err(Error::usage(format!(
                "--bind {word:?}: nothing can be put over the jail's root"
            )));
        }
        Ok(Self {
            source: absolute("--bind", OsStr::from_bytes(source))?,
            target,
            read_only,
        })
    }

    /// The option's value again.
    pub fn to_word(&self) -> OsString {
        let mut word = self.source.clone().into_os_string().into_vec();
        word.push(b':');
        word.extend(self.target.as_os_str().as_bytes());
        if self.read_only {
            word.extend(b":ro");
        }
        OsString::from_vec(word)
    }
}

/// A port of the machine's that leads into the jail: `--publish [ADDR:]PORT[:JAILPORT][/udp]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Publish {
    /// The machine's address; all of them where none is given.
    pub address: Option<Ipv4Addr>,
    /// The machine's port.
    pub port: u16,
    /// The jail's port.
    pub to: u16,
    /// Whether it is one of UDP; else it is one of TCP.
    pub udp: bool,
}

impl Publish {
    /// Parses the option's value.
    pub fn parse(word: &OsStr) -> Result<Self> {
        let wrong = || {
            let word = word.display();
            Error::usage(format!(
                "--publish {word}: must be [ADDR:]PORT[:JAILPORT][/udp] with an IPv4 address and ports from 1 to 65535"
            ))
        };
        let text = word.to_str().ok_or_else(wrong)?;
        let (text, udp) = match text.split_once('/') {
            None | Some((_, "tcp")) => (text.trim_end_matches("/tcp"), false),
            Some((text, "udp")) => (text, true),
            Some(_) => return Err(wrong()),
        };
        let (address, ports) = match text.split_once(':') {
            Some((address, ports)) if address.contains('.') => {
                (Some(address.parse().map_err(|_| wrong())?), ports)
            }
            _ => (None, text),
        };
        let (port, to) = ports.split_once(':').unwrap_or((ports, ports));
        let number = |text: &str| text.parse().ok().filter(|port| *port > 0).ok_or_else(wrong);
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

    /// Whether both want the same port.
    pub fn collides(self, other: Self) -> bool {
        let same =
            self.address.is_none() || other.address.is_none() || self.address == other.address;
        same && (self.port, self.udp) == (other.port, other.udp)
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(address) = self.address {
            write!(f, "{address}:")?;
        }
        write!(f, "{}:{}/{}", self.port, self.to, self.protocol())
    }
}

/// An IPv4 network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subnet {
    /// Its first address.
    pub base: Ipv4Addr,
    /// How many leading bits are the network's.
    pub prefix: u8,
}

impl Subnet {
    /// The network that an address is in.
    pub fn around(address: Ipv4Addr, prefix: u8) -> Self {
        Self {
            base: Ipv4Addr::from_bits(address.to_bits() & mask(prefix)),
            prefix,
        }
    }

    /// Parses `--subnet A.B.C.D/N`.
    pub fn parse(word: &OsStr) -> Result<Self> {
        let wrong = |why: &str| Error::usage(format!("--subnet {}: {why}", word.display()));
        let shape = || wrong("must be an IPv4 network as in 10.0.0.0/24");
        let (address, prefix) = word
            .to_str()
            .and_then(|text| text.split_once('/'))
            .ok_or_else(shape)?;
        let address: Ipv4Addr = address.parse().map_err(|_| shape())?;
        let prefix: u8 = prefix
            .parse()
            .ok()
            .filter(|prefix| *prefix <= 32)
            .ok_or_else(shape)?;
        let subnet = Self::around(address, prefix);
        if prefix > 30 {
            return Err(wrong(
                "is too small: two addresses are needed, so /30 at most",
            ));
        }
        if prefix < 8 {
            return Err(wrong("is too large: /8 at least"));
        }
        if subnet.base != address {
            return Err(wrong(&format!(
                "is an address inside of {subnet}; give the network"
            )));
        }
        if address.is_loopback()
            || address.is_multicast()
            || address.is_unspecified()
            || address.is_link_local()
        {
            return Err(wrong("cannot be used for a network of hosts"));
        }
        Ok(subnet)
    }

    /// Whether the two have an address in common.
    pub fn overlaps(self, other: Self) -> bool {
        let mask = mask(self.prefix.min(other.prefix));
        self.base.to_bits() & mask == other.base.to_bits() & mask
    }

    /// Its `n`th address.
    pub fn host(self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base.to_bits().wrapping_add(n))
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

/// A netmask.
fn mask(prefix: u8) -> u32 {
    u32::MAX
        .checked_shl(32 - u32::from(prefix.min(32)))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["USER", "a", "a.b-c_9", "x".repeat(32).as_str()] {
            assert_eq!(jail_name(OsStr::new(good)).unwrap(), good);
        }
        for bad in [
            "",
            "../x",
            ".x",
            "-x",
            "a b",
            "a/b",
            "ä",
            "x".repeat(33).as_str(),
        ] {
            assert_eq!(jail_name(OsStr::new(bad)).unwrap_err().code(), 2, "{bad}");
        }
    }

    #[test]
    fn subnets() {
        let parse = |text: &str| Subnet::parse(OsStr::new(text));
        assert_eq!(
            parse("10.0.0.0/24").unwrap().host(2),
            Ipv4Addr::new(10, 0, 0, 2)
        );
        for bad in [
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0.0/31",
            "10.0.0.1/24",
            "0.0.0.0/8",
            "127.0.0.0/8",
            "x/24",
            "::/64",
        ] {
            assert_eq!(parse(bad).unwrap_err().code(), 2, "{bad}");
        }
        let (a, b) = (parse("10.0.0.0/24").unwrap(), parse("10.0.0.0/16").unwrap());
        assert!(a.overlaps(b) && b.overlaps(a));
        assert!(!a.overlaps(parse("10.0.1.0/24").unwrap()));
    }

    #[test]
    fn binds() {
        let bind = Bind::parse(OsStr::new("/a/./b:/c:ro")).unwrap();
        assert_eq!(
            (bind.source.to_str(), bind.target.to_str(), bind.read_only),
            (Some("/a/b"), Some("/c"), true)
        );
        assert_eq!(Bind::parse(&bind.to_word()).unwrap(), bind);
        assert_eq!(
            Bind::parse(OsStr::new("/a")).unwrap().target,
            Path::new("/a")
        );
        for bad in ["a", "/a:b", "/a:/", "/a/../b", ""] {
            assert_eq!(Bind::parse(OsStr::new(bad)).unwrap_err().code(), 2, "{bad}");
        }
    }

    #[test]
    fn published() {
        for (text, whole) in [
            ("80", "80:80/tcp"),
            ("8080:80", "8080:80/tcp"),
            ("192.0.2.1:8080:80/tcp", "192.0.2.1:8080:80/tcp"),
            ("192.0.2.1:53/udp", "192.0.2.1:53:53/udp"),
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
        ] {
            assert_eq!(
                Publish::parse(OsStr::new(bad)).unwrap_err().code(),
                2,
                "{bad}"
            );
        }
    }

    #[test]
    fn hidden() {
        assert_eq!(hide(OsStr::new("/srv/")).unwrap(), "srv");
        assert_eq!(hide(OsStr::new("srv")).unwrap(), "srv");
        for bad in ["/", "", "/srv/x", "/proc", ".."] {
            assert_eq!(hide(OsStr::new(bad)).unwrap_err().code(), 2, "{bad}");
        }
    }
}
