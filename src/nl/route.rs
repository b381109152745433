//! rtnetlink: addresses and routes (linux/rtnetlink.h, linux/if_addr.h). One function is one request, and sends what
//! `ip` sends for the same.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::message::{Attrs, Message};
use super::{Row, Socket, flags};
use crate::error::Why;

/// `RTM_*`.
mod rtm {
    /// `RTM_NEWADDR`.
    pub(super) const NEWADDR: u16 = 20;
    /// `RTM_DELADDR`.
    pub(super) const DELADDR: u16 = 21;
    /// `RTM_GETADDR`.
    pub(super) const GETADDR: u16 = 22;
    /// `RTM_NEWROUTE`.
    pub(super) const NEWROUTE: u16 = 24;
    /// `RTM_DELROUTE`.
    pub(super) const DELROUTE: u16 = 25;
    /// `RTM_GETROUTE`.
    pub(super) const GETROUTE: u16 = 26;
}

/// `IFA_*`, linux/if_addr.h.
mod ifa {
    use crate::nl::message::{Attr, attr};
    use std::net::IpAddr;
    /// `IFA_ADDRESS`.
    pub(super) const ADDRESS: Attr<IpAddr> = attr(1);
    /// `IFA_LOCAL`.
    pub(super) const LOCAL: Attr<IpAddr> = attr(2);
}

/// `RTA_*`, linux/rtnetlink.h.
mod rta {
    use crate::nl::message::{Attr, attr};
    use std::net::IpAddr;
    /// `RTA_DST`.
    pub(super) const DST: Attr<IpAddr> = attr(1);
    /// `RTA_OIF`.
    pub(super) const OIF: Attr<u32> = attr(4);
    /// `RTA_GATEWAY`.
    pub(super) const GATEWAY: Attr<IpAddr> = attr(5);
    /// `RTA_PRIORITY`.
    pub(super) const PRIORITY: Attr<u32> = attr(6);
    /// `RTA_MULTIPATH`.
    pub(super) const MULTIPATH: Attr<[u8]> = attr(9);
    /// `RTA_TABLE`.
    pub(super) const TABLE: Attr<u32> = attr(15);
}

/// `RTPROT_RA`: learned from a router's advertisement.
pub const RTPROT_RA: u8 = 9;
/// A family of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4's.
    Ipv4,
    /// IPv6's.
    Ipv6,
}

impl Family {
    /// That of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() {
            Self::Ipv4
        } else {
            Self::Ipv6
        }
    }

    /// `AF_INET`, `AF_INET6`.
    fn number(self) -> u8 {
        match self {
            Self::Ipv4 => 2,
            Self::Ipv6 => 10,
        }
    }

    /// The unspecified address, which the default route has as destination.
    fn first(self) -> IpAddr {
        match self {
            Self::Ipv4 => Ipv4Addr::UNSPECIFIED.into(),
            Self::Ipv6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }
}

/// `IFA_F_NODAD`: no duplicate address detection.
const NODAD: u8 = 2;
/// `RT_TABLE_MAIN`.
pub const RT_TABLE_MAIN: u32 = 254;
/// `RT_TABLE_LOCAL`.
const RT_TABLE_LOCAL: u32 = 255;
/// `RTN_UNICAST`.
pub const RTN_UNICAST: u8 = 1;
/// `RTN_LOCAL`.
pub const RTN_LOCAL: u8 = 2;
/// `RT_SCOPE_NOWHERE`: in a request to delete, any.
const RT_SCOPE_NOWHERE: u8 = 255;
/// `RTPROT_BOOT`: what `ip route add` writes down.
const RTPROT_BOOT: u8 = 3;
/// An address of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address {
    /// The link.
    pub index: u32,
    /// The address.
    pub address: IpAddr,
    /// How many bits of it are the network's.
    pub prefix: u8,
}

/// `struct ifaddrmsg`: family, prefix, flags, scope, index.
fn ifaddr(family: Family, prefix: u8, flags: u8, index: u32) -> [u8; 8] {
    let [a, b, c, d] = index.to_ne_bytes();
    [family.number(), prefix, flags, 0, a, b, c, d]
}

/// All addresses of a family.
pub fn addresses(socket: &mut Socket, family: Family) -> Result<Vec<Address>, Why> {
    let read = |row: Row| {
        let attrs = Attrs(row.body.get(8..)?);
        Some(Address {
            index: u32::from_ne_bytes(row.body.get(4..8)?.try_into().ok()?),
            address: attrs.get(ifa::LOCAL).or_else(|| attrs.get(ifa::ADDRESS))?,
            prefix: *row.body.get(1)?,
        })
    };
    let message = Message::new(rtm::GETADDR, 0, &ifaddr(family, 0, 0, 0));
    Ok(socket.dump(message)?.into_iter().filter_map(read).collect())
}

/// The request for an address.
fn new_address(index: u32, address: IpAddr, prefix: u8) -> Message {
    let family = Family::of(address);
    let nodad = if family == Family::Ipv6 { NODAD } else { 0 };
    Message::new(
        rtm::NEWADDR,
        flags::CREATE | flags::EXCL,
        &ifaddr(family, prefix, nodad, index),
    )
    .put(ifa::LOCAL, &address)
    .put(ifa::ADDRESS, &address)
}

/// `ip addr add A/P dev X`; an IPv6 one with `nodad`, so that it can be used at once.
pub fn add_address(
    socket: &mut Socket,
    index: u32,
    address: IpAddr,
    prefix: u8,
) -> Result<(), Why> {
    socket.request(new_address(index, address, prefix))
}

/// `ip addr del A/P dev X`.
pub fn delete_address(
    socket: &mut Socket,
    index: u32,
    address: IpAddr,
    prefix: u8,
) -> Result<(), Why> {
    let message = Message::new(
        rtm::DELADDR,
        0,
        &ifaddr(Family::of(address), prefix, 0, index),
    );
    socket.request(message.put(ifa::LOCAL, &address))
}

/// A route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// Where it leads.
    pub destination: IpAddr,
    /// How many bits of that count; 0 for the default route.
    pub prefix: u8,
    /// The next hop.
    pub gateway: Option<IpAddr>,
    /// The outgoing link; of several, the first.
    pub oif: Option<u32>,
    /// Of two routes to the same destination, the one with the smaller metric counts.
    pub metric: u32,
    /// Its table.
    pub table: u32,
    /// `RTN_*`: unicast, unreachable, ...
    pub kind: u8,
    /// `RTPROT_*`: who made it.
    pub protocol: u8,
}

/// `struct rtmsg`: family, destination and source prefix, tos, table, protocol, scope, type, flags.
fn rtmsg(family: Family, prefix: u8, table: u32, protocol: u8, kind: u8) -> [u8; 12] {
    let table = u8::try_from(table).unwrap_or_default();
    let family = family.number();
    [family, prefix, 0, 0, table, protocol, 0, kind, 0, 0, 0, 0]
}

/// All routes of a family, of all tables.
pub fn routes(socket: &mut Socket, family: Family) -> Result<Vec<Route>, Why> {
    let read = |row: Row| {
        let attrs = Attrs(row.body.get(12..)?);
        // struct rtnexthop: length u16, flags u8, hops u8, index i32.
        let first_hop = |hops: &[u8]| Some(u32::from_ne_bytes(hops.get(4..8)?.try_into().ok()?));
        Some(Route {
            destination: attrs.get(rta::DST).unwrap_or_else(|| family.first()),
            prefix: *row.body.get(1)?,
            gateway: attrs.get(rta::GATEWAY),
            oif: attrs
                .get(rta::OIF)
                .or_else(|| attrs.get(rta::MULTIPATH).and_then(first_hop)),
            metric: attrs.get(rta::PRIORITY).unwrap_or_default(),
            table: attrs
                .get(rta::TABLE)
                .unwrap_or_else(|| row.body.get(4).copied().unwrap_or_default().into()),
            kind: *row.body.get(7)?,
            protocol: *row.body.get(5)?,
        })
    };
    let message = Message::new(rtm::GETROUTE, 0, &rtmsg(family, 0, 0, 0, 0));
    Ok(socket.dump(message)?.into_iter().filter_map(read).collect())
}

/// The request for a default route.
fn new_default_route(via: IpAddr, index: u32) -> Message {
    let family = Family::of(via);
    let fixed = rtmsg(family, 0, RT_TABLE_MAIN, RTPROT_BOOT, RTN_UNICAST);
    let mut message = Message::new(rtm::NEWROUTE, flags::CREATE | flags::EXCL, &fixed);
    if family == Family::Ipv6 {
        // Redundant, but ip sends it.
        message = message.put(rta::DST, &family.first());
    }
    message.put(rta::GATEWAY, &via).put(rta::OIF, &index)
}

/// `ip route add default via A dev X`.
pub fn add_default_route(socket: &mut Socket, via: IpAddr, index: u32) -> Result<(), Why> {
    socket.request(new_default_route(via, index))
}

/// `ip route del default via A dev X`.
pub fn delete_default_route(socket: &mut Socket, via: IpAddr, index: u32) -> Result<(), Why> {
    // Protocol 0: whoever made it.
    let fixed = rtmsg(Family::of(via), 0, RT_TABLE_MAIN, 0, RTN_UNICAST);
    let message = Message::new(rtm::DELROUTE, 0, &of_any_scope(fixed));
    socket.request(message.put(rta::GATEWAY, &via).put(rta::OIF, &index))
}

/// The fixed part of a request for a route of whatever scope.
fn of_any_scope(mut fixed: [u8; 12]) -> [u8; 12] {
    if let Some(scope) = fixed.get_mut(6) {
        *scope = RT_SCOPE_NOWHERE;
    }
    fixed
}

/// The request for a further local route to the loopback address.
fn new_loopback_route(index: u32) -> Message {
    let fixed = rtmsg(Family::Ipv6, 128, RT_TABLE_LOCAL, RTPROT_BOOT, RTN_LOCAL);
    Message::new(rtm::NEWROUTE, flags::CREATE | flags::APPEND, &fixed)
        .put(rta::DST, &Ipv6Addr::LOCALHOST.into())
        .put(rta::OIF, &index)
}

/// `ip -6 route append local ::1 dev X table local`.
pub fn add_loopback_route(socket: &mut Socket, index: u32) -> Result<(), Why> {
    socket.request(new_loopback_route(index))
}

/// `ip -6 route del local ::1 dev X table local`.
pub fn delete_loopback_route(socket: &mut Socket, index: u32) -> Result<(), Why> {
    let fixed = rtmsg(Family::Ipv6, 128, RT_TABLE_LOCAL, 0, RTN_LOCAL);
    let message = Message::new(rtm::DELROUTE, 0, &of_any_scope(fixed));
    let message = message.put(rta::DST, &Ipv6Addr::LOCALHOST.into());
    socket.request(message.put(rta::OIF, &index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nl::golden::{recorded, tree};

    #[test]
    fn what_ip_sends() {
        let ours: IpAddr = [10, 0, 0, 1].into();
        let ours6: IpAddr = "fd12:3456:789a:bcde::1".parse().unwrap();
        let address = include_str!("../../tests/golden/address.nl");
        let address6 = include_str!("../../tests/golden/address6.nl");
        let route = include_str!("../../tests/golden/route.nl");
        let route6 = include_str!("../../tests/golden/route6.nl");
        let loopback = include_str!("../../tests/golden/loopback.nl");
        for (text, mut message, fixed) in [
            (address, new_address(2, ours, 24), 8),
            (address6, new_address(2, ours6, 64), 8),
            (route, new_default_route(ours, 2), 12),
            (route6, new_default_route(ours6, 2), 12),
            (loopback, new_loopback_route(2), 12),
        ] {
            let message = message.seal(0, flags::REQUEST | flags::ACK);
            assert_eq!(tree(message, fixed), tree(&recorded(text), fixed), "{text}");
        }
    }
}
