//! `--subnet A.B.C.D/N`: the addresses of a jail.

use std::ffi::OsStr;
use std::fmt;
use std::net::Ipv4Addr;

use crate::error::{Error, Result};

/// An IPv4 network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subnet {
    /// Its first address.
    pub base: Ipv4Addr,
    /// How many leading bits are the network's.
    pub prefix: u8,
}

impl Subnet {
    /// The addresses of a machine that are for itself alone (RFC 1122, section 3.2.1.3).
    pub const LOOPBACK: Self = Self {
        base: Ipv4Addr::new(127, 0, 0, 0),
        prefix: 8,
    };

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
}
