//! rtnetlink: IPv4 addresses and routes (linux/rtnetlink.h, linux/if_addr.h). One function is one request, and sends what
//! `ip` sends for the same.

use std::net::Ipv4Addr;

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
    use std::net::Ipv4Addr;
    /// `IFA_ADDRESS`.
    pub(super) const ADDRESS: Attr<Ipv4Addr> = attr(1);
    /// `IFA_LOCAL`.
    pub(super) const LOCAL: Attr<Ipv4Addr> = attr(2);
}

/// `RTA_*`, linux/rtnetlink.h.
mod rta {
    use crate::nl::message::{Attr, attr};
    use std::net::Ipv4Addr;
    /// `RTA_DST`.
    pub(super) const DST: Attr<Ipv4Addr> = attr(1);
    /// `RTA_OIF`.
    pub(super) const OIF: Attr<u32> = attr(4);
    /// `RTA_GATEWAY`.
    pub(super) const GATEWAY: Attr<Ipv4Addr> = attr(5);
    /// `RTA_PRIORITY`.
    pub(super) const PRIORITY: Attr<u32> = attr(6);
    /// `RTA_MULTIPATH`.
    pub(super) const MULTIPATH: Attr<[u8]> = attr(9);
    /// `RTA_TABLE`.
    pub(super) const TABLE: Attr<u32> = attr(15);
}

/// `AF_INET`.
const INET: u8 = 2;
/// `RT_TABLE_MAIN`.
pub const RT_TABLE_MAIN: u32 = 254;
/// `RTN_UNICAST`.
pub const RTN_UNICAST: u8 = 1;
/// `RT_SCOPE_NOWHERE`: in a request to delete, any.
const RT_SCOPE_NOWHERE: u8 = 255;
/// `RTPROT_BOOT`: what `ip route add` writes down.
const RTPROT_BOOT: u8 = 3;
/// An IPv4 address of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address {
    /// The link.
    pub index: u32,
    /// The address.
    pub address: Ipv4Addr,
    /// How many bits of it are the network's.
    pub prefix: u8,
}

/// `struct ifaddrmsg`: family, prefix, flags, scope, index.
fn ifaddr(prefix: u8, index: u32) -> [u8; 8] {
    let [a, b, c, d] = index.to_ne_bytes();
    [INET, prefix, 0, 0, a, b, c, d]
}

/// All IPv4 addresses.
pub fn addresses(socket: &mut Socket) -> Result<Vec<Address>, Why> {
    let read = |row: Row| {
        let attrs = Attrs(row.body.get(8..)?);
        Some(Address {
            index: u32::from_ne_bytes(row.body.get(4..8)?.try_into().ok()?),
            address: attrs.get(ifa::LOCAL).or_else(|| attrs.get(ifa::ADDRESS))?,
            prefix: *row.body.get(1)?,
        })
    };
    let message = Message::new(rtm::GETADDR, 0, &ifaddr(0, 0));
    Ok(socket.dump(message)?.into_iter().filter_map(read).collect())
}

/// The request for an address.
fn new_address(index: u32, address: Ipv4Addr, prefix: u8) -> Message {
    Message::new(
        rtm::NEWADDR,
        flags::CREATE | flags::EXCL,
        &ifaddr(prefix, index),
    )
    .put(ifa::LOCAL, &address)
    .put(ifa::ADDRESS, &address)
}

/// `ip addr add A/P dev X`.
pub fn add_address(
    socket: &mut Socket,
    index: u32,
    address: Ipv4Addr,
    prefix: u8,
) -> Result<(), Why> {
    socket.request(new_address(index, address, prefix))
}

/// `ip addr del A/P dev X`.
pub fn delete_address(
    socket: &mut Socket,
    index: u32,
    address: Ipv4Addr,
    prefix: u8,
) -> Result<(), Why> {
    let message = Message::new(rtm::DELADDR, 0, &ifaddr(prefix, index));
    socket.request(message.put(ifa::LOCAL, &address))
}

/// An IPv4 route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// Where it leads.
    pub destination: Ipv4Addr,
    /// How many bits of that count; 0 for the default route.
    pub prefix: u8,
    /// The next hop.
    pub gateway: Option<Ipv4Addr>,
    /// The link that it leaves by; of several, the first.
    pub oif: Option<u32>,
    /// Of two routes to the same place, the smaller one counts.
    pub metric: u32,
    /// Its table.
    pub table: u32,
    /// `RTN_*`: unicast, unreachable, ...
    pub kind: u8,
}

/// `struct rtmsg`: family, destination and source prefix, tos, table, protocol, scope, type, flags.
fn rtmsg(table: u8, protocol: u8, kind: u8) -> [u8; 12] {
    [INET, 0, 0, 0, table, protocol, 0, kind, 0, 0, 0, 0]
}

/// All IPv4 routes, of all tables.
pub fn routes(socket: &mut Socket) -> Result<Vec<Route>, Why> {
    let read = |row: Row| {
        let attrs = Attrs(row.body.get(12..)?);
        // struct rtnexthop: length u16, flags u8, hops u8, index i32.
        let first_hop = |hops: &[u8]| Some(u32::from_ne_bytes(hops.get(4..8)?.try_into().ok()?));
        Some(Route {
            destination: attrs.get(rta::DST).unwrap_or(Ipv4Addr::UNSPECIFIED),
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
        })
    };
    let message = Message::new(rtm::GETROUTE, 0, &rtmsg(0, 0, 0));
    Ok(socket.dump(message)?.into_iter().filter_map(read).collect())
}

/// The request for a default route.
fn new_default_route(via: Ipv4Addr, index: u32) -> Message {
    let table = u8::try_from(RT_TABLE_MAIN).unwrap_or_default();
    let fixed = rtmsg(table, RTPROT_BOOT, RTN_UNICAST);
    Message::new(rtm::NEWROUTE, flags::CREATE | flags::EXCL, &fixed)
        .put(rta::GATEWAY, &via)
        .put(rta::OIF, &index)
}

/// `ip route add default via A dev X`.
pub fn add_default_route(socket: &mut Socket, via: Ipv4Addr, index: u32) -> Result<(), Why> {
    socket.request(new_default_route(via, index))
}

/// `ip route del default via A dev X`.
pub fn delete_default_route(socket: &mut Socket, via: Ipv4Addr, index: u32) -> Result<(), Why> {
    let table = u8::try_from(RT_TABLE_MAIN).unwrap_or_default();
    // Whoever made it, and of whatever scope.
    let mut fixed = rtmsg(table, 0, RTN_UNICAST);
    if let Some(scope) = fixed.get_mut(6) {
        *scope = RT_SCOPE_NOWHERE;
    }
    let message = Message::new(rtm::DELROUTE, 0, &fixed);
    socket.request(message.put(rta::GATEWAY, &via).put(rta::OIF, &index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nl::golden::{recorded, tree};

    #[test]
    fn what_ip_sends() {
        let ours = Ipv4Addr::new(10, 0, 0, 1);
        let address = include_str!("../../tests/golden/address.nl");
        let route = include_str!("../../tests/golden/route.nl");
        for (text, mut message, fixed) in [
            (address, new_address(2, ours, 24), 8),
            (route, new_default_route(ours, 2), 12),
        ] {
            let message = message.seal(0, flags::REQUEST | flags::ACK);
            assert_eq!(tree(message, fixed), tree(&recorded(text), fixed), "{text}");
        }
    }
}
