//! `--subnet A.B.C.D/N`: the addresses of a jail; and IP networks in general.

use std::ffi::OsStr;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::{Error, Result};

/// An IP network of either family; one that `--subnet` chooses is of IPv4.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subnet {
    /// Its first address.
    pub base: IpAddr,
    /// How many leading bits are the network's.
    pub prefix: u8,
}

impl Subnet {
    /// The loopback addresses of IPv4 (RFC 1122, section 3.2.1.3).
    pub const LOOPBACK: Self = Self {
        base: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)),
        prefix: 8,
    };

    /// The loopback address of IPv6 (RFC 4291, section 2.5.3).
    pub const LOOPBACK_IPV6: Self = Self {
        base: IpAddr::V6(Ipv6Addr::LOCALHOST),
        prefix: 128,
    };

    /// The link-local addresses of IPv6, which neighbour discovery needs (RFC 4291, section 2.5.6).
    pub const LINK_LOCAL: Self = Self {
        base: IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)),
        prefix: 64,
    };

    /// The unspecified address of IPv6, the source of a host that has no address yet (RFC 4291, section 2.5.2).
    pub const NOBODY: Self = Self {
        base: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        prefix: 128,
    };

    /// The network that an address is in.
    pub fn around(address: impl Into<IpAddr>, prefix: u8) -> Self {
        let base = match address.into() {
            IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() & mask(prefix)).into(),
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & mask6(prefix)).into(),
        };
        Self { base, prefix }
    }

    /// Parses what [`fmt::Display`] writes.
    pub fn read(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let (address, prefix): (IpAddr, u8) = (address.parse().ok()?, prefix.parse().ok()?);
        let subnet = Self::around(address, prefix);
        (prefix <= subnet.bits() && subnet.base == address).then_some(subnet)
    }

    /// How many bits an address of its family has.
    pub fn bits(self) -> u8 {
        if self.base.is_ipv4() { 32 } else { 128 }
    }

    /// Parses `--subnet A.B.C.D/N`.
    pub fn parse(word: &OsStr) -> Result<Self> {
        let wrong = |why: &str| Error::usage(format!("--subnet {}: {why}", word.display()));
        let shape = || wrong("must be an IPv4 network, such as 10.0.0.0/24");
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
                "is too small: a /30 is the smallest, with its two addresses",
            ));
        }
        if prefix < 8 {
            return Err(wrong("is too large: a /8 is the largest"));
        }
        if subnet.base != IpAddr::V4(address) {
            return Err(wrong(&format!(
                "is an address inside {subnet}; give the network"
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
        let prefix = self.prefix.min(other.prefix);
        self.base.is_ipv4() == other.base.is_ipv4()
            && Self::around(self.base, prefix) == Self::around(other.base, prefix)
    }

    /// Its `n`th address.
    pub fn host(self, n: u32) -> IpAddr {
        match self.base {
            IpAddr::V4(base) => Ipv4Addr::from_bits(base.to_bits().wrapping_add(n)).into(),
            IpAddr::V6(base) => Ipv6Addr::from_bits(base.to_bits().wrapping_add(n.into())).into(),
        }
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

/// A netmask of IPv6.
fn mask6(prefix: u8) -> u128 {
    u128::MAX
        .checked_shl(128 - u32::from(prefix.min(128)))
        .unwrap_or(0)
}

/// A netmask of IPv4.
fn mask(prefix: u8) -> u32 {
    u32::MAX
        .checked_shl(32 - u32::from(prefix.min(32)))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets() {
        let parse = |text: &str| Subnet::parse(OsStr::new(text));
        assert_eq!(
            parse("10.0.0.0/24").unwrap().host(2),
            IpAddr::from([10, 0, 0, 2])
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
    fn networks_of_both_families() {
        let read = |text: &str| Subnet::read(text).unwrap();
        let ours = read("fd12:3456:789a:bcde::/64");
        assert_eq!(ours.host(2).to_string(), "fd12:3456:789a:bcde::2");
        assert_eq!(Subnet::around(ours.host(2), 8).to_string(), "fd00::/8");
        assert!(ours.overlaps(read("fd12:3400::/24")) && read("::/0").overlaps(ours));
        assert!(!ours.overlaps(read("fd12:3456:789a:bcdf::/64")));
        assert!(!ours.overlaps(read("0.0.0.0/0")));
        for bad in [
            "",
            "fd00::",
            "fd00::/129",
            "fd00::1/64",
            "10.0.0.0/33",
            "x/8",
        ] {
            assert_eq!(Subnet::read(bad), None, "{bad}");
        }
    }
}
