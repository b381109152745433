//! Facts for `--ipv6`: whether the machine has IPv6, a free subnet, the uplink, and the settings that a machine which
//! becomes a router must keep or get back.

use std::net::Ipv6Addr;
use std::path::Path;

use super::uplink;
use crate::config::{Config, Subnet, hash};
use crate::error::{Error, Result, What as _};
use crate::facts::{Ipv6, Uplink};
use crate::file;
use crate::nl::link::Link;
use crate::nl::route::{self, Address, RTPROT_RA, Route};
use crate::record::Record;
use crate::step::forwarding6::Forwarding6;
use crate::step::switch;
use crate::sys;

/// The kernel's IPv6 settings of the links.
const CONF: &str = "/proc/sys/net/ipv6/conf";
/// The machine's unique ID (machine-id(5)).
const MACHINE_ID: &str = "/etc/machine-id";
/// The smallest MTU that a link of IPv6 may have (RFC 8200, section 5).
const SMALLEST_MTU: u32 = 1280;
/// The length of a site's prefix in fd00::/8 (RFC 4193, section 3.1): a shorter one covers many sites.
const SITE: u8 = 48;

/// What has been read of the machine already.
pub struct Machine<'a> {
    /// The IPv4 uplink.
    pub ipv4: Option<&'a Uplink>,
    /// All links.
    pub links: &'a [Link],
    /// The addresses.
    pub addresses: &'a [Address],
    /// The routes.
    pub routes: &'a [Route],
}

/// Looks, for a jail that may have had an earlier life, beside other jails.
pub fn look(
    config: &Config,
    machine: &Machine<'_>,
    before: Option<&Record>,
    others: &[Record],
) -> Result<Ipv6> {
    let off = is_off()?;
    let uplink = uplink::of(machine.routes, machine.links);
    if let Some(Uplink { name, mtu }) = machine.ipv4.or(uplink.as_ref())
        && *mtu < SMALLEST_MTU
    {
        return Err(Error::cure(
            "--ipv6",
            format!("{name} has an MTU of {mtu}, and IPv6 needs {SMALLEST_MTU}"),
            format!("ip link set {name} mtu {SMALLEST_MTU}, or leave the option out"),
        ));
    }
    let had = before.and_then(|before| before.facts.ipv6.as_ref());
    let mut found = Ipv6 {
        subnet: choose(&seed(&config.jail)?, had.map(|had| had.subnet), machine)?,
        off,
        uplink,
        heard: Vec::new(),
        routers: Vec::new(),
    };
    if config.nat {
        let what = || "cat /proc/sys/net/ipv6/conf/all/forwarding";
        let is_router = Forwarding6::is_on().what(what)?;
        if !is_router {
            look_at_routers(&mut found, machine)?;
        }
        let here = super::cookie()?;
        let records = before.into_iter().chain(others);
        for record in records.filter(|record| record.facts.cookie == here) {
            join(&mut found, record, is_router);
        }
    }
    Ok(found)
}

/// Finds the links that forward by themselves, and those that would no longer accept router advertisements.
fn look_at_routers(found: &mut Ipv6, machine: &Machine<'_>) -> Result<()> {
    let tells = |link: &&Link| {
        let by = |route: &Route| {
            let way_out = route.prefix == 0 && route.kind == route::RTN_UNICAST;
            route.oif == Some(link.index) && (way_out || route.protocol == RTPROT_RA)
        };
        let ipv4 = machine.ipv4;
        ipv4.is_some_and(|uplink| uplink.name == link.name) || machine.routes.iter().any(by)
    };
    for link in conf()? {
        if link != "all" && !says(&link, "forwarding", "0")? {
            found.routers.push(link);
        }
    }
    for link in machine.links.iter().filter(tells) {
        // A link that forwards already ignores router advertisements if accept_ra is 1.
        if !found.routers.contains(&link.name) && says(&link.name, "accept_ra", "1")? {
            found.heard.push(link.name.clone());
        }
    }
    Ok(())
}

/// Adds what has been changed already according to a record: when the last jail that needs the change is gone, it is to
/// be as it was before the first one.
fn join(found: &mut Ipv6, record: &Record, is_router: bool) {
    let Some(theirs) = &record.facts.ipv6 else {
        return;
    };
    let add = |ours: &mut Vec<String>, theirs: &[String]| {
        let new = theirs.iter().filter(|link| !ours.contains(link));
        let new: Vec<String> = new.cloned().collect();
        ours.extend(new);
    };
    add(&mut found.heard, &theirs.heard);
    if is_router {
        add(&mut found.routers, &theirs.routers);
    }
}

/// The names under which the kernel has IPv6's switches: links, `all` and `default`.
fn conf() -> Result<Vec<String>> {
    let dir = match sys::entries(CONF) {
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(Vec::new()),
        other => other.what(|| format!("ls {CONF}"))?,
    };
    let mut names = Vec::new();
    for name in dir {
        let name = name.to_string_lossy().into_owned();
        names.insert(names.partition_point(|other| *other < name), name);
    }
    Ok(names)
}

/// Whether a switch of a link has this value.
fn says(link: &str, setting: &str, value: &str) -> Result<bool> {
    let path = switch::ipv6(link, setting);
    let there = switch::read(&path).what(|| format!("cat {}", path.display()))?;
    Ok(there.is_some_and(|there| there == value))
}

/// Whether new links have no IPv6; an error if no link has, or the kernel does not have it.
fn is_off() -> Result<bool> {
    let names = conf()?;
    let none = |why, cure| Err(Error::cure("--ipv6", why, cure));
    if names.is_empty() {
        return none(
            "this machine's kernel has no IPv6",
            "leave the option out, or start the kernel without ipv6.disable=1",
        );
    }
    let mut all = true;
    for name in names.iter().filter(|name| *name != "all") {
        all &= says(name, "disable_ipv6", "1")?;
    }
    if all {
        return none(
            "IPv6 is switched off on this machine",
            "sysctl -w net.ipv6.conf.all.disable_ipv6=0; in Docker use --sysctl net.ipv6.conf.all.disable_ipv6=0",
        );
    }
    says("default", "disable_ipv6", "1")
}

/// What a jail's subnet is derived from: machine ID, host name, jail name. Containers of one image differ by host name.
fn seed(jail: &str) -> Result<Vec<u8>> {
    let mut seed = file::read(Path::new(MACHINE_ID))?;
    for part in [
        rustix::system::uname().nodename().to_bytes(),
        jail.as_bytes(),
    ] {
        seed.push(b'\n');
        seed.extend(part);
    }
    Ok(seed)
}

/// The earlier subnet if it is free; else the first free /64 of fd00::/8 (RFC 4193) in the sequence that is derived
/// from a seed.
fn choose(seed: &[u8], before: Option<Subnet>, machine: &Machine<'_>) -> Result<Subnet> {
    /// How many are tried before all are assumed to be taken.
    const ATTEMPTS: u16 = 1000;
    let addresses = machine.addresses.iter();
    let mut taken: Vec<Subnet> = addresses
        .map(|there| Subnet::around(there.address, there.prefix.max(SITE)))
        .collect();
    let to_a_site = machine.routes.iter().filter(|route| route.prefix >= SITE);
    taken.extend(to_a_site.map(|route| Subnet::around(route.destination, route.prefix)));
    let all = (0..ATTEMPTS).map(|n| {
        let network = 0xFD << 56 | hash(&[seed, &n.to_be_bytes()].concat()) >> 8;
        Subnet::around(Ipv6Addr::from_bits(u128::from(network) << 64), 64)
    });
    before
        .into_iter()
        .chain(all)
        .find(|subnet| !taken.iter().any(|other| other.overlaps(*subnet)))
        .ok_or_else(|| Error::text("--ipv6", "no /64 of fd00::/8 is free"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A route, or an address's prefix.
    fn net(text: &str) -> Subnet {
        Subnet::read(text).unwrap()
    }

    /// A route to a network.
    fn to(text: &str) -> Route {
        let Subnet { base, prefix } = net(text);
        Route {
            destination: base,
            prefix,
            gateway: None,
            oif: None,
            metric: 0,
            table: route::RT_TABLE_MAIN,
            kind: route::RTN_UNICAST,
            protocol: 0,
        }
    }

    /// What is chosen beside these.
    fn chosen(seed: &str, before: Option<Subnet>, taken: &[Address], routes: &[Route]) -> Subnet {
        let machine = Machine {
            ipv4: None,
            links: &[],
            addresses: taken,
            routes,
        };
        choose(seed.as_bytes(), before, &machine).unwrap()
    }

    #[test]
    fn a_network_that_nobody_uses() {
        let first = chosen("seed", None, &[], &[]);
        assert!(net("fd00::/8").overlaps(first) && first.prefix == 64);
        let other = chosen("another", None, &[], &[]);
        assert_ne!(other, first);
        let address = |prefix| Address {
            index: 1,
            address: first.host(7),
            prefix,
        };
        let second = chosen("seed", None, &[address(64)], &[]);
        assert!(!first.overlaps(second));
        assert_eq!(chosen("seed", None, &[address(128)], &[]), second);
        let route = to(&second.to_string());
        let third = chosen("seed", None, &[address(128)], &[route]);
        assert!(!first.overlaps(third) && !second.overlaps(third));
        // A route that covers all sites takes no network of any.
        assert_eq!(chosen("seed", None, &[], &[to("fd00::/8")]), first);
        // The earlier one is chosen again.
        assert_eq!(chosen("seed", Some(other), &[], &[]), other);
        let taken = to(&other.to_string());
        assert_eq!(chosen("seed", Some(other), &[], &[taken]), first);
    }
}
