//! rtnetlink: links (linux/rtnetlink.h, linux/if_link.h). One function is one request, and sends what `ip link` sends
//! for the same.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::io::Errno;

use super::message::{Attrs, Message, attr};
use super::{Row, Socket, flags};
use crate::error::Why;

/// `RTM_*`, linux/rtnetlink.h.
pub(super) mod rtm {
    /// `RTM_NEWLINK`.
    pub(super) const NEWLINK: u16 = 16;
    /// `RTM_DELLINK`.
    pub(super) const DELLINK: u16 = 17;
    /// `RTM_GETLINK`.
    pub(in crate::nl) const GETLINK: u16 = 18;
    /// `RTM_SETLINK`.
    pub(super) const SETLINK: u16 = 19;
}

/// `IFLA_*`, linux/if_link.h.
mod ifla {
    use crate::nl::message::{Attr, Nest, attr};
    /// `IFLA_IFNAME`.
    pub(super) const IFNAME: Attr<str> = attr(3);
    /// `IFLA_MTU`.
    pub(super) const MTU: Attr<u32> = attr(4);
    /// `IFLA_LINKINFO`.
    pub(super) const LINKINFO: Attr<Nest> = attr(18);
    /// `IFLA_IFALIAS`.
    pub(super) const IFALIAS: Attr<str> = attr(20);
    /// `IFLA_AF_SPEC`.
    pub(super) const AF_SPEC: Attr<Nest> = attr(26);
    /// `AF_INET`, within that.
    pub(super) const INET: Attr<Nest> = attr(2);
    /// `IFLA_INET_CONF`, within that, as the kernel sends it: all settings, linux/ip.h's `IPV4_DEVCONF_*` less one.
    pub(super) const INET_CONF: Attr<[u8]> = attr(1);
    /// `IFLA_INET_CONF`, as the kernel takes it: single settings.
    pub(super) const SET_INET_CONF: Attr<Nest> = attr(1);
    /// `IFLA_NET_NS_FD`.
    pub(super) const NET_NS_FD: Attr<u32> = attr(28);
    /// `IFLA_LINK_NETNSID`.
    pub(super) const LINK_NETNSID: Attr<i32> = attr(37);
    /// `IFLA_EXT_MASK`.
    pub(super) const EXT_MASK: Attr<u32> = attr(29);
    /// `IFLA_INFO_KIND`.
    pub(super) const INFO_KIND: Attr<str> = attr(1);
    /// `IFLA_INFO_DATA`.
    pub(super) const INFO_DATA: Attr<Nest> = attr(2);
    /// `VETH_INFO_PEER`, linux/veth.h: a `struct ifinfomsg` and attributes of a link.
    pub(super) const VETH_PEER: Attr<Nest> = attr(1);
}

/// `IFF_UP`.
const UP: u32 = 1;
/// `IFF_LOOPBACK`.
const LOOPBACK: u32 = 8;
/// `RTEXT_FILTER_SKIP_STATS`: leaves out the statistics, which are not used here.
const SKIP_STATS: u32 = 1 << 3;

/// `struct ifinfomsg`: family, type, index, flags, change mask.
fn ifinfo(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    let words = [0, index, flags, change];
    for (to, from) in bytes
        .iter_mut()
        .zip(words.iter().flat_map(|word| word.to_ne_bytes()))
    {
        *to = from;
    }
    bytes
}

/// A link.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its largest packet, in bytes.
    pub mtu: u32,
    /// Whether it is set up.
    pub up: bool,
    /// Its alias.
    pub alias: Option<String>,
    /// Whether the other end of the pair is in another network namespace.
    pub peer_elsewhere: bool,
    /// Whether IPv4 packets that come in by it are forwarded.
    pub forwarding: bool,
    /// Whether packets from and to loopback addresses may be routed over it.
    pub route_localnet: bool,
    /// Whether it outlives its namespace, as a network card does: the kernel then moves it to the machine's first one
    /// (`default_device_exit_net`). So it is with links that were not made by a request, and with CAN controllers.
    pub physical: bool,
}

impl Link {
    /// Reads an `RTM_NEWLINK`.
    fn read(row: &Row) -> Option<Self> {
        let word = |at: usize| {
            Some(u32::from_ne_bytes(
                row.body.get(at..at + 4)?.try_into().ok()?,
            ))
        };
        let attrs = Attrs(row.body.get(16..)?);
        (row.kind == rtm::NEWLINK).then_some(())?;
        let kind = attrs
            .get(ifla::LINKINFO)
            .and_then(|info| info.get(ifla::INFO_KIND));
        Some(Self {
            index: word(4)?,
            name: attrs.get(ifla::IFNAME)?,
            mtu: attrs.get(ifla::MTU).unwrap_or_default(),
            up: word(8)? & UP != 0,
            alias: attrs.get(ifla::IFALIAS),
            peer_elsewhere: attrs.get(ifla::LINK_NETNSID).is_some(),
            physical: word(8)? & LOOPBACK == 0 && kind.is_none_or(|kind| kind == "can"),
            forwarding: switched(attrs, Switch::Forwarding),
            route_localnet: switched(attrs, Switch::RouteLocalnet),
        })
    }
}

/// All links.
pub fn links(socket: &mut Socket) -> Result<Vec<Link>, Why> {
    let message = Message::new(rtm::GETLINK, 0, &ifinfo(0, 0, 0)).put(ifla::EXT_MASK, &SKIP_STATS);
    Ok(socket
        .dump(message)?
        .iter()
        .filter_map(Link::read)
        .collect())
}

/// The link of a name, if there is one.
pub fn link(socket: &mut Socket, name: &str) -> Result<Option<Link>, Why> {
    let message = Message::new(rtm::GETLINK, 0, &ifinfo(0, 0, 0))
        .put(ifla::EXT_MASK, &SKIP_STATS)
        .put(ifla::IFNAME, name);
    match socket.get(message) {
        Err(Why::Kernel(Errno::NODEV, _)) => Ok(None),
        other => Ok(other?.as_ref().and_then(Link::read)),
    }
}

/// A pair of links.
pub struct Veth<'a> {
    /// The name of the end that stays here.
    pub name: &'a str,
    /// Its alias.
    pub alias: &'a str,
    /// The name of the other end.
    pub peer: &'a str,
    /// The network namespace in which the other end is made.
    pub peer_ns: BorrowedFd<'a>,
    /// The largest packet of both ends.
    pub mtu: u32,
}

/// The request for a pair. Each end is made in the namespace where it belongs, and never moved.
fn new_veth(veth: &Veth<'_>, namespace: u32) -> Message {
    let none = ifinfo(0, 0, 0);
    Message::new(rtm::NEWLINK, flags::CREATE | flags::EXCL, &none)
        .put(ifla::IFNAME, veth.name)
        .put(ifla::MTU, &veth.mtu)
        .nest(ifla::LINKINFO, |m| {
            m.put(ifla::INFO_KIND, "veth").nest(ifla::INFO_DATA, |m| {
                m.nest(ifla::VETH_PEER, |m| {
                    m.raw(&none)
                        .put(ifla::IFNAME, veth.peer)
                        .put(ifla::MTU, &veth.mtu)
                        .put(ifla::NET_NS_FD, &namespace)
                })
            })
        })
}

/// The request that sets a link's alias.
fn set_alias(index: u32, alias: &str) -> Message {
    Message::new(rtm::NEWLINK, 0, &ifinfo(index, 0, 0)).put(ifla::IFALIAS, alias)
}

/// Makes the pair. The kernel takes no alias in the same request, so that is a second one; if it fails the pair is
/// deleted.
pub fn add_veth(socket: &mut Socket, veth: &Veth<'_>) -> Result<(), Why> {
    let namespace = u32::try_from(veth.peer_ns.as_raw_fd()).map_err(|_| Errno::BADF)?;
    socket.request(new_veth(veth, namespace))?;
    let Some(made) = link(socket, veth.name)? else {
        return Err(Errno::NODEV.into());
    };
    socket
        .request(set_alias(made.index, veth.alias))
        .inspect_err(|_| {
            delete_link(socket, made.index).ok();
        })
}

/// The request that sets a link up.
fn up(index: u32) -> Message {
    Message::new(rtm::NEWLINK, 0, &ifinfo(index, UP, UP))
}

/// `ip link set dev X up`.
pub fn set_up(socket: &mut Socket, index: u32) -> Result<(), Why> {
    socket.request(up(index))
}

/// `ip link set dev X down`.
pub fn set_down(socket: &mut Socket, index: u32) -> Result<(), Why> {
    socket.request(Message::new(rtm::NEWLINK, 0, &ifinfo(index, 0, UP)))
}

/// A setting of IPv4 for a link: linux/ip.h's `IPV4_DEVCONF_*`, /proc/sys/net/ipv4/conf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Switch {
    /// Packets that come in by it are forwarded.
    Forwarding,
    /// Packets from and to loopback addresses may be routed over it.
    RouteLocalnet,
}

impl Switch {
    /// The kernel's number for it.
    fn number(self) -> u16 {
        match self {
            Self::Forwarding => 1,
            Self::RouteLocalnet => 26,
        }
    }
}

/// Whether a link's attributes say that a switch is on: they have all settings in a row, from number 1 on.
fn switched(attrs: Attrs<'_>, switch: Switch) -> bool {
    let settings = attrs
        .get(ifla::AF_SPEC)
        .and_then(|spec| spec.get(ifla::INET)?.get(ifla::INET_CONF));
    let mut words = settings.unwrap_or_default().chunks_exact(4);
    words
        .nth(usize::from(switch.number() - 1))
        .is_some_and(|word| *word != [0; 4])
}

/// Sets a switch of a link. Unlike /proc/sys, which may be read-only, this only takes CAP_NET_ADMIN.
pub fn turn(socket: &mut Socket, index: u32, switch: Switch, on: bool) -> Result<(), Why> {
    let message = Message::new(rtm::SETLINK, 0, &ifinfo(index, 0, 0)).nest(ifla::AF_SPEC, |m| {
        m.nest(ifla::INET, |m| {
            m.nest(ifla::SET_INET_CONF, |m| {
                m.put(attr(switch.number()), &u32::from(on))
            })
        })
    });
    socket.request(message)
}

/// `ip link delete dev X`. Deleting either end deletes the pair, before this returns.
pub fn delete_link(socket: &mut Socket, index: u32) -> Result<(), Why> {
    socket.request(Message::new(rtm::DELLINK, 0, &ifinfo(index, 0, 0)))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::nl::golden::{recorded, tree};
    use proptest::prelude::*;

    #[test]
    fn what_ip_sends() {
        let here = std::fs::File::open("/dev/null").unwrap();
        let veth = Veth {
            name: "kak-USER",
            alias: "kak:USER",
            peer: "eth0",
            peer_ns: here.as_fd(),
            mtu: 1400,
        };
        for (text, mut message) in [
            (
                include_str!("../../tests/golden/veth.nl"),
                new_veth(&veth, 4),
            ),
            (
                include_str!("../../tests/golden/alias.nl"),
                set_alias(2, "kak:USER"),
            ),
            (include_str!("../../tests/golden/up.nl"), up(2)),
        ] {
            let message = message.seal(0, flags::REQUEST | flags::ACK);
            assert_eq!(tree(message, 16), tree(&recorded(text), 16), "{text}");
        }
    }

    #[test]
    fn what_outlives_its_namespace() {
        let physical = |flags, kind: Option<&str>| {
            let mut message =
                Message::new(rtm::NEWLINK, 0, &ifinfo(2, flags, 0)).put(ifla::IFNAME, "x");
            if let Some(kind) = kind {
                message = message.nest(ifla::LINKINFO, |m| m.put(ifla::INFO_KIND, kind));
            }
            let body = message.seal(0, 0).split_at(16).1.to_vec();
            let kind = rtm::NEWLINK;
            Link::read(&Row { kind, body }).unwrap().physical
        };
        assert!(physical(0, None) && physical(0, Some("can")));
        assert!(!physical(LOOPBACK, None) && !physical(0, Some("veth")));
    }

    proptest! {
        #[test]
        fn any_bytes(kind: u16, body: Vec<u8>) {
            Link::read(&Row { kind, body });
        }
    }
}
