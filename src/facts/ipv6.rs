//! What IPv6 needs to know of the machine (`--ipv6`): whether it is there, which network is free, which way leads out,
//! and what a machine that becomes a router must not lose by that.

use std::ffi::{OsStr, OsString};
use std::net::Ipv6Addr;
use std::path::Path;

use super::Uplink;
use super::network::{hash, uplink};
use crate::config::{Config, Subnet};
use crate::error::{Error, Result, What as _};
use crate::nl::link::Link;
use crate::nl::route::{self, Address, RTPROT_RA, Route};
use crate::record::Record;
use crate::step::file;
use crate::step::forwarding6::Forwarding6;
use crate::step::switch;

/// Where the kernel has what it knows of the links.
const CONF: &str = "/proc/sys/net/ipv6/conf";
/// A name that every machine has for itself.
const MACHINE_ID: &str = "/etc/machine-id";
/// The smallest packet that every link of IPv6 carries whole (RFC 8200, section 5).
const SMALLEST_MTU: u32 = 1280;
/// How much of a local address a site has (RFC 4193, section 3.1): a shorter one leads to many sites.
const SITE: u8 = 48;

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ipv6 {
    /// The jail's addresses.
    pub subnet: Subnet,
    /// Whether new links have no IPv6 until they are told to.
    pub off: bool,
    /// The way out of the machine.
    pub uplink: Option<Uplink>,
    /// The links on which routers say that they are there, which a machine that is a router itself does not hear.
    pub heard: Vec<String>,
    /// The links on which the machine was a router before it was one.
    pub routers: Vec<String>,
}

/// What is known of the machine already.
pub struct Machine<'a> {
    /// The way out that the jail has without IPv6.
    pub ipv4: Option<&'a Uplink>,
    /// All links.
    pub links: &'a [Link],
    /// The addresses.
    pub addresses: &'a [Address],
    /// The routes.
    pub routes: &'a [Route],
}

impl Ipv6 {
    /// Looks, for a jail that may have had an earlier life, beside other jails.
    pub fn gather(
        config: &Config,
        machine: &Machine<'_>,
        before: Option<&Record>,
        others: &[Record],
    ) -> Result<Self> {
        let off = is_off()?;
        let uplink = uplink(machine.routes, machine.links);
        if let Some(Uplink { name, mtu }) = machine.ipv4.or(uplink.as_ref())
            && *mtu < SMALLEST_MTU
        {
            return Err(Error::cure(
                "--ipv6",
                format!("{name} carries {mtu} bytes at once, and IPv6 needs {SMALLEST_MTU}"),
                format!("ip link set {name} mtu {SMALLEST_MTU}, or leave the option out"),
            ));
        }
        let had = before.and_then(|before| before.facts.ipv6.as_ref());
        let mut found = Self {
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
                found.look_at_routers(machine)?;
            }
            let here = super::cookie()?;
            let records = before.into_iter().chain(others);
            for record in records.filter(|record| record.facts.cookie == here) {
                found.join(record, is_router);
            }
        }
        Ok(found)
    }

    /// What forwarding would change.
    fn look_at_routers(&mut self, machine: &Machine<'_>) -> Result<()> {
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
                self.routers.push(link);
            }
        }
        for link in machine.links.iter().filter(tells) {
            // A link on which the machine is a router already hears no other.
            if !self.routers.contains(&link.name) && says(&link.name, "accept_ra", "1")? {
                self.heard.push(link.name.clone());
            }
        }
        Ok(())
    }

    /// Takes in what a record tells of that has been changed already: it shall be as it was before that when the last
    /// jail that changed it is gone.
    fn join(&mut self, record: &Record, is_router: bool) {
        let Some(theirs) = &record.facts.ipv6 else {
            return;
        };
        let add = |ours: &mut Vec<String>, theirs: &[String]| {
            let new = theirs.iter().filter(|link| !ours.contains(link));
            let new: Vec<String> = new.cloned().collect();
            ours.extend(new);
        };
        add(&mut self.heard, &theirs.heard);
        if is_router {
            add(&mut self.routers, &theirs.routers);
        }
    }

    /// The lines of a record.
    pub fn lines(&self) -> Vec<(&'static str, Vec<String>)> {
        let off = if self.off { "off" } else { "on" };
        let mut lines = vec![("ipv6", vec![self.subnet.to_string(), off.into()])];
        if let Some(Uplink { name, mtu }) = &self.uplink {
            lines.push(("ipv6-uplink", vec![name.clone(), mtu.to_string()]));
        }
        let one = |key, links: &[String]| -> Vec<_> {
            let line = |link: &String| (key, vec![link.clone()]);
            links.iter().map(line).collect()
        };
        lines.extend(one("ipv6-heard", &self.heard));
        lines.extend(one("ipv6-router", &self.routers));
        lines
    }

    /// Takes in one line of a record; none if it is wrong.
    pub fn take(
        found: &mut Option<Self>,
        key: &str,
        value: &OsStr,
        more: Option<&OsString>,
    ) -> Option<()> {
        let value = value.to_str()?;
        match (key, more, found) {
            ("ipv6", Some(off), found @ None) => {
                *found = Some(Self {
                    subnet: Subnet::read(value).filter(|subnet| subnet.base.is_ipv6())?,
                    off: match off.to_str()? {
                        "off" => true,
                        "on" => false,
                        _ => return None,
                    },
                    uplink: None,
                    heard: Vec::new(),
                    routers: Vec::new(),
                });
            }
            ("ipv6-uplink", Some(mtu), Some(found)) => {
                let mtu = mtu.to_str()?.parse().ok()?;
                let name = link_name(value)?;
                found.uplink = Some(Uplink { name, mtu });
            }
            ("ipv6-heard", None, Some(found)) => found.heard.push(link_name(value)?),
            ("ipv6-router", None, Some(found)) => found.routers.push(link_name(value)?),
            _ => return None,
        }
        Some(())
    }
}

/// A link's name, which becomes part of a path.
fn link_name(word: &str) -> Option<String> {
    let plain = !word.is_empty() && !word.contains('/') && word != "." && word != "..";
    plain.then(|| word.to_owned())
}

/// The names under which the kernel has IPv6's switches: links, `all` and `default`.
fn conf() -> Result<Vec<String>> {
    use rustix::fs::{Dir, Mode, OFlags};
    let what = || format!("ls {CONF}");
    let dir = rustix::fs::open(CONF, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let dir = match dir {
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(Vec::new()),
        other => other.and_then(Dir::read_from).what(what)?,
    };
    let mut names = Vec::new();
    for entry in dir {
        let name = entry.what(what)?.file_name().to_string_lossy().into_owned();
        names.extend(Some(name).filter(|name| name != "." && name != ".."));
    }
    names.sort_unstable();
    Ok(names)
}

/// Whether a switch of a link's says this.
fn says(link: &str, setting: &str, value: &str) -> Result<bool> {
    let path = switch::ipv6(link, setting);
    let there = switch::read(&path).what(|| format!("cat {}", path.display()))?;
    Ok(there.is_some_and(|there| there == value))
}

/// Whether new links have no IPv6; an error where none has.
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

/// From what a jail's network follows: its name and the machine's. Containers of one image differ by their host names.
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

/// The one that was had before if nobody uses it; else the first /64 of fd00::/8 (RFC 4193) that nobody uses, of those
/// that follow from a seed.
fn choose(seed: &[u8], before: Option<Subnet>, machine: &Machine<'_>) -> Result<Subnet> {
    /// How many are tried: whoever has that many has them all.
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
        // What leads to all sites leads to none.
        assert_eq!(chosen("seed", None, &[], &[to("fd00::/8")]), first);
        // What was had before is had again.
        assert_eq!(chosen("seed", Some(other), &[], &[]), other);
        let taken = to(&other.to_string());
        assert_eq!(chosen("seed", Some(other), &[], &[taken]), first);
    }

    #[test]
    fn lines_come_back() {
        let uplink = Uplink {
            name: "eth0".into(),
            mtu: 1400,
        };
        let ours = Ipv6 {
            subnet: net("fd12:3456:789a:bcde::/64"),
            off: true,
            uplink: Some(uplink),
            heard: vec!["eth0".into(), "wlan0".into()],
            routers: vec!["default".into()],
        };
        let mut found = None;
        for (key, values) in ours.lines() {
            let mut values = values.iter().map(OsString::from);
            let (value, more) = (values.next().unwrap(), values.next());
            Ipv6::take(&mut found, key, &value, more.as_ref()).unwrap();
        }
        assert_eq!(found.as_ref(), Some(&ours));
        for (key, value, more) in [
            ("ipv6", "fd00::/64", Some("on")),
            ("ipv6-heard", "../x", None),
            ("ipv6-router", "..", None),
            ("ipv6-uplink", "eth0", Some("x")),
            ("ipv6-news", "x", None),
        ] {
            let more = more.map(OsString::from);
            let taken = Ipv6::take(&mut found, key, OsStr::new(value), more.as_ref());
            assert_eq!(taken, None, "{key}");
        }
        for (value, off) in [("10.0.0.0/24", "on"), ("fd00::/64", "maybe"), ("x", "on")] {
            let taken = Ipv6::take(&mut None, "ipv6", OsStr::new(value), Some(&off.into()));
            assert_eq!(taken, None, "{value}");
        }
    }
}
