//! Facts about the outer network: the uplink, a free subnet, and whether the published ports are free.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;

use super::{Before, ipv6, uplink};
use crate::config::{Config, Publish, Subnet, link_name};
use crate::error::{Error, Result, What as _};
use crate::facts::{Ipv6, Uplink};
use crate::nl::route::{Address, Family, Route};
use crate::nl::{self, link, route};
use crate::record::Record;
use crate::step::forwarding::{Forwarding, Single};

/// What was found.
pub struct Network {
    /// The jail's addresses.
    pub subnet: Subnet,
    /// The way out.
    pub uplink: Option<Uplink>,
    /// Which links forward packets by themselves.
    pub single: Single,
    /// What IPv6 needs.
    pub ipv6: Option<Ipv6>,
}

impl Network {
    /// Asks for links, addresses and routes. What an earlier life of the jail has left counts as free, and its subnet
    /// is chosen again if possible.
    pub fn gather(config: &Config, others: &[Record], before: Option<&Before<'_>>) -> Result<Self> {
        let mut socket = nl::Socket::route().what(|| "socket AF_NETLINK NETLINK_ROUTE")?;
        let links = link::links(&mut socket).what(|| "ip link show")?;
        let name = link_name(&config.jail);
        let own = links
            .iter()
            .find(|link| before.is_some() && link.name == name)
            .map(|link| link.index);
        let (addresses, routes) = known(&mut socket, Family::Ipv4, own)?;
        let mut taken: Vec<(Subnet, String)> = Vec::new();
        for address in &addresses {
            let subnet = Subnet::around(address.address, address.prefix);
            taken.push((
                subnet,
                format!("the address {}/{}", address.address, address.prefix),
            ));
        }
        for route in routes.iter().filter(|route| route.prefix > 0) {
            let subnet = Subnet::around(route.destination, route.prefix);
            taken.push((subnet, format!("the route to {subnet}")));
        }
        let uplink = uplink::of(&routes, &links);
        let ipv6 = if config.ipv6 {
            let (addresses, routes) = known(&mut socket, Family::Ipv6, own)?;
            let machine = ipv6::Machine {
                ipv4: uplink.as_ref(),
                links: &links,
                addresses: &addresses,
                routes: &routes,
            };
            let before = before.map(|before| before.record);
            Some(ipv6::look(config, &machine, before, others)?)
        } else {
            None
        };
        Ok(Self {
            subnet: choose(
                config.subnet,
                before.map(|before| before.record.facts.subnet),
                &taken,
            )?,
            uplink,
            ipv6,
            single: match forwarded(others, before)? {
                Some(single) => single,
                None => Single::gather(&mut socket)?,
            },
        })
    }
}

/// The single switches according to the record of a jail that has turned the one for all links, and them with it.
fn forwarded(others: &[Record], before: Option<&Before<'_>>) -> Result<Option<Single>> {
    let now = super::cookie()?;
    let has_turned = |record: &&Record| {
        record.config.nat
            && record.facts.cookie == now
            && !record.found.iter().any(|text| text == Forwarding::TEXT)
    };
    let records = before.map(|before| before.record);
    let record = records.into_iter().chain(others).find(has_turned);
    Ok(record.map(|record| record.facts.single.clone()))
}

/// The addresses and the routes of a family, except those of the link `but`.
fn known(
    socket: &mut nl::Socket,
    family: Family,
    but: Option<u32>,
) -> Result<(Vec<Address>, Vec<Route>)> {
    let ip = if family == Family::Ipv6 {
        "ip -6"
    } else {
        "ip"
    };
    let mut addresses = route::addresses(socket, family).what(|| format!("{ip} addr show"))?;
    let mut routes = route::routes(socket, family).what(|| format!("{ip} route show table all"))?;
    addresses.retain(|address| Some(address.index) != but);
    routes.retain(|route| but.is_none() || route.oif != but);
    Ok((addresses, routes))
}

/// The private networks (RFC 1918), and how many /24 each has.
const PRIVATE: [(Ipv4Addr, u32); 3] = [
    (Ipv4Addr::new(10, 0, 0, 0), 1 << 16),
    (Ipv4Addr::new(172, 16, 0, 0), 1 << 12),
    (Ipv4Addr::new(192, 168, 0, 0), 1 << 8),
];

/// The wanted subnet if it is free; if none is wanted, the earlier one if it is free, else the first free /24 of the
/// private networks.
fn choose(
    wanted: Option<Subnet>,
    before: Option<Subnet>,
    taken: &[(Subnet, String)],
) -> Result<Subnet> {
    let collision = |subnet: Subnet| {
        taken
            .iter()
            .find(|(other, _)| other.overlaps(subnet))
            .map(|(_, by)| by)
    };
    if let Some(subnet) = wanted {
        return match collision(subnet) {
            None => Ok(subnet),
            Some(by) => Err(Error::cure(
                format!("--subnet {subnet}"),
                format!("is taken by {by}"),
                "choose another one, or leave the option out: the first free one is found",
            )),
        };
    }
    let all = PRIVATE.iter().flat_map(|(first, count)| {
        let nth = move |n| Subnet::around(Ipv4Addr::from_bits(first.to_bits() + (n << 8)), 24);
        (0..*count).map(nth)
    });
    before
        .into_iter()
        .chain(all)
        .find(|subnet| collision(*subnet).is_none())
        .ok_or_else(|| {
            Error::cure(
                "",
                "no /24 of 10.0.0.0/8, 172.16.0.0/12 and 192.168.0.0/16 is free",
                "name a free network with --subnet",
            )
        })
}

/// Checks that nothing listens on a port that is to lead into the jail: it would no longer be reachable.
pub fn check_free(publish: Publish, ipv6: bool) -> Result<()> {
    if let Some(address) = publish.address {
        return check_free_at(publish, address);
    }
    check_free_at(publish, Ipv4Addr::UNSPECIFIED.into())?;
    if ipv6 {
        check_free_at(publish, Ipv6Addr::UNSPECIFIED.into())?;
    }
    Ok(())
}

/// The same at an address.
fn check_free_at(publish: Publish, address: IpAddr) -> Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
    let kind = if publish.udp {
        SocketType::DGRAM
    } else {
        SocketType::STREAM
    };
    let socket = || {
        let family = if address.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        // Connections in TIME_WAIT do not count.
        sockopt::set_socket_reuseaddr(&socket, !publish.udp)?;
        bind(&socket, &SocketAddr::new(address, publish.port))?;
        if publish.udp {
            Ok(())
        } else {
            listen(&socket, 1)
        }
    };
    let what = || format!("--publish {publish}");
    match socket() {
        Err(Errno::ADDRINUSE) => Err(Error::text(what(), "this port is in use already")),
        Err(Errno::ACCESS) => Err(Error::cure(
            what(),
            "whether it is free can only be seen with CAP_NET_BIND_SERVICE",
            "run as root; in Docker use --cap-add NET_BIND_SERVICE",
        )),
        Err(Errno::ADDRNOTAVAIL) => Err(Error::text(what(), "this machine has no such address")),
        other => other.what(what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    /// `10.0.0.0/24` as a subnet.
    fn net(text: &str) -> Subnet {
        Subnet::parse(OsStr::new(text)).unwrap()
    }

    #[test]
    fn the_first_free_network() {
        assert_eq!(choose(None, None, &[]).unwrap(), net("10.0.0.0/24"));
        let taken = [
            (net("10.0.0.0/23"), "x".into()),
            (net("10.0.2.128/25"), "y".into()),
        ];
        assert_eq!(choose(None, None, &taken).unwrap(), net("10.0.3.0/24"));
        for (before, now) in [
            ("10.0.9.0/24", "10.0.9.0/24"),
            ("10.0.1.0/24", "10.0.3.0/24"),
        ] {
            assert_eq!(choose(None, Some(net(before)), &taken).unwrap(), net(now));
        }
        let mut taken_whole = Vec::new();
        for (whole, next) in [
            ("10.0.0.0/8", Some("172.16.0.0/24")),
            ("172.16.0.0/12", Some("192.168.0.0/24")),
            ("192.168.0.0/17", Some("192.168.128.0/24")),
            ("192.168.128.0/17", None),
        ] {
            taken_whole.push((net(whole), "x".into()));
            assert_eq!(choose(None, None, &taken_whole).ok(), next.map(net));
        }
        let error = choose(Some(net("10.0.1.0/24")), None, &taken).unwrap_err();
        assert_eq!(error.to_string(), "--subnet 10.0.1.0/24: is taken by x");
    }
}
