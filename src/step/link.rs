//! Links, their addresses and routes, by rtnetlink.

use std::ffi::OsStr;
use std::fmt;
use std::net::IpAddr;
use std::os::fd::AsFd as _;

use super::{Action, Machine, Seen, Side};
use crate::error::{Error, Result, What as _, Why};
use crate::netns;
use crate::nl::{self, link, route};

/// A link's place: its name, the side it is on, and the jail's namespace, for the text.
#[derive(Clone)]
pub struct Place {
    /// On which side.
    pub side: Side,
    /// The jail's network namespace.
    pub netns: String,
    /// The link's name.
    pub link: String,
}

impl Place {
    /// `ip`, or `ip -n JAIL`.
    fn ip(&self) -> String {
        match self.side {
            Side::Outer => "ip".into(),
            Side::Jail => format!("ip -n {}", self.netns),
        }
    }

    /// The same for a command about such an address: with `-6` for IPv6.
    fn ip_for(&self, address: IpAddr) -> String {
        let family = if address.is_ipv4() { "" } else { " -6" };
        format!("{}{family}", self.ip())
    }

    /// The socket of its side and the link, where both are there.
    fn find<'a>(
        &self,
        machine: &'a mut Machine,
        what: &str,
    ) -> Result<Option<(&'a mut nl::Socket, link::Link)>> {
        let Some(socket) = machine.route(self.side)? else {
            return Ok(None);
        };
        let link = link::link(socket, &self.link).what(|| what)?;
        Ok(link.map(|link| (socket, link)))
    }

    /// Does something to the link; an error if it is not there.
    fn change(
        &self,
        machine: &mut Machine,
        what: &str,
        change: impl FnOnce(&mut nl::Socket, u32) -> Result<(), Why>,
    ) -> Result<()> {
        let Some((socket, link)) = self.find(machine, what)? else {
            return Err(Error::text(what, format!("there is no link {}", self.link)));
        };
        change(socket, link.index).what(|| what)
    }
}

/// A link that is up.
pub struct Up(pub Place);

impl fmt::Display for Up {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} link set {} up", self.0.ip(), self.0.link)
    }
}

impl Action for Up {
    fn observe(&self, machine: &mut Machine) -> Result<Seen> {
        let link = self.0.find(machine, &self.to_string())?;
        Ok(Seen::done(link.is_some_and(|(_, link)| link.up)))
    }

    fn apply(&self, machine: &mut Machine) -> Result<()> {
        self.0.change(machine, &self.to_string(), link::set_up)
    }

    fn undo(&self, machine: &mut Machine) -> Result<()> {
        let what = format!("{} link set {} down", self.0.ip(), self.0.link);
        self.0.change(machine, &what, link::set_down)
    }
}

/// A veth pair: one end stays outside, the other is created in the jail's namespace.
pub struct Veth {
    /// The outer end's name.
    pub name: String,
    /// The outer end's alias, by which it is known to be ours.
    pub alias: String,
    /// The jail's end's name.
    pub peer: String,
    /// The jail's network namespace.
    pub netns: String,
    /// The MTU of both ends: that of the uplink.
    pub mtu: u32,
}

impl fmt::Display for Veth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            alias,
            peer,
            netns,
            mtu,
        } = self;
        write!(
            f,
            "ip link add {name} mtu {mtu} type veth peer name {peer} mtu {mtu} netns {netns} \
             && ip link set {name} alias {alias}"
        )
    }
}

impl Action for Veth {
    fn observe(&self, machine: &mut Machine) -> Result<Seen> {
        let Some(socket) = machine.route(Side::Outer)? else {
            return Ok(Seen::Absent);
        };
        let link = link::link(socket, &self.name).what(|| format!("ip link show {}", self.name))?;
        Ok(match link {
            None => Seen::Absent,
            Some(link) if link.alias.as_deref() == Some(self.alias.as_str()) => Seen::Done,
            // Its maker was killed before it could set the alias.
            Some(link) if link.alias.is_none() && link.peer_elsewhere => Seen::Torn,
            Some(_) => Seen::Other(format!("a link {} that is not kak's", self.name)),
        })
    }

    fn apply(&self, machine: &mut Machine) -> Result<()> {
        let namespace = netns::open(OsStr::new(&self.netns))?;
        let Some(socket) = machine.route(Side::Outer)? else {
            return Ok(());
        };
        let veth = link::Veth {
            name: &self.name,
            alias: &self.alias,
            peer: &self.peer,
            peer_ns: namespace.as_fd(),
            mtu: self.mtu,
        };
        link::add_veth(socket, &veth).what(|| self.to_string())
    }

    /// Deleting one end deletes the other, at once. When the namespace goes, the kernel would delete both some time
    /// later, and the name would still be taken when the next jail wants it.
    fn undo(&self, machine: &mut Machine) -> Result<()> {
        let what = format!("ip link delete {}", self.name);
        let place = Place {
            side: Side::Outer,
            netns: String::new(),
            link: self.name.clone(),
        };
        place.change(machine, &what, link::delete_link)
    }
}

/// Packets from and to the machine's loopback addresses may use a link: what the machine itself sends to a published
/// port of 127.0.0.1 is for the jail to answer. That the jail can send nothing there is [`super::nat`]'s business.
pub struct RouteLocalnet(pub Place);

impl fmt::Display for RouteLocalnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let link = &self.0.link;
        write!(f, "echo 1 >/proc/sys/net/ipv4/conf/{link}/route_localnet")
    }
}

impl Action for RouteLocalnet {
    fn observe(&self, machine: &mut Machine) -> Result<Seen> {
        let link = self.0.find(machine, &self.to_string())?;
        Ok(Seen::done(
            link.is_some_and(|(_, link)| link.route_localnet),
        ))
    }

    fn apply(&self, machine: &mut Machine) -> Result<()> {
        self.0.change(machine, &self.to_string(), |socket, index| {
            link::turn(socket, index, link::Switch::RouteLocalnet, true)
        })
    }

    fn undo(&self, machine: &mut Machine) -> Result<()> {
        let what = self.to_string().replacen('1', "0", 1);
        self.0.change(machine, &what, |socket, index| {
            link::turn(socket, index, link::Switch::RouteLocalnet, false)
        })
    }
}

/// Packets for the machine's ::1 may arrive by a link. The kernel drops any that bear it on the wire; but replies to
/// what the machine itself sent to a published port of ::1 have it as destination once conntrack has translated them
/// back, and for ::1 the kernel takes only a route of the link that they came by.
pub struct LoopbackRoute(pub Place);

impl fmt::Display for LoopbackRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let link = &self.0.link;
        write!(f, "ip -6 route append local ::1 dev {link} table local")
    }
}

impl Action for LoopbackRoute {
    fn observe(&self, machine: &mut Machine) -> Result<Seen> {
        let what = self.to_string();
        let Some((socket, link)) = self.0.find(machine, &what)? else {
            return Ok(Seen::Absent);
        };
        let routes = route::routes(socket, route::Family::Ipv6).what(|| what)?;
        Ok(Seen::done(routes.iter().any(|route| {
            route.kind == route::RTN_LOCAL
                && route.destination.is_loopback()
                && route.oif == Some(link.index)
        })))
    }

    fn apply(&self, machine: &mut Machine) -> Result<()> {
        self.0
            .change(machine, &self.to_string(), route::add_loopback_route)
    }

    fn undo(&self, machine: &mut Machine) -> Result<()> {
        let what = self.to_string().replacen("append", "del", 1);
        self.0.change(machine, &what, route::delete_loopback_route)
    }
}

/// An address of a link. One of IPv6 skips duplicate address detection: there is nobody else on the cable.
pub struct Address {
    /// The link.
    pub place: Place,
    /// The address.
    pub address: IpAddr,
    /// Its prefix length.
    pub prefix: u8,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = self.place.ip_for(self.address);
        let Self {
            place,
            address,
            prefix,
        } = self;
        let at_once = if address.is_ipv6() { " nodad" } else { "" };
        write!(
            f,
            "{ip} addr add {address}/{prefix} dev {}{at_once}",
            place.link
        )
    }
}

impl Action for Address {
    fn observe(&self, machine: &mut Machine) -> Result<Seen> {
        let what = self.to_string();
        let Some((socket, link)) = self.place.find(machine, &what)? else {
            return Ok(Seen::Absent);
        };
        let addresses = route::addresses(socket, route::Family::of(self.address)).what(|| what)?;
        Ok(Seen::done(addresses.iter().any(|there| {
            (there.index, there.address, there.prefix) == (link.index, self.address, self.prefix)
        })))
    }

    fn apply(&self, machine: &mut Machine) -> Result<()> {
        self.place
            .change(machine, &self.to_string(), |socket, index| {
                route::add_address(socket, index, self.address, self.prefix)
            })
    }

    fn undo(&self, machine: &mut Machine) -> Result<()> {
        let what = self.to_string().replacen("addr add", "addr del", 1);
        self.place.change(machine, &what, |socket, index| {
            route::delete_address(socket, index, self.address, self.prefix)
        })
    }
}

/// The jail's default route.
pub struct DefaultRoute {
    /// The link it leaves by.
    pub place: Place,
    /// The next hop.
    pub via: IpAddr,
}

impl fmt::Display for DefaultRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} route add default via {} dev {}",
            self.place.ip_for(self.via),
            self.via,
            self.place.link
        )
    }
}

impl Action for DefaultRoute {
    fn observe(&self, machine: &mut Machine) -> Result<Seen> {
        let what = self.to_string();
        let Some((socket, link)) = self.place.find(machine, &what)? else {
            return Ok(Seen::Absent);
        };
        let routes = route::routes(socket, route::Family::of(self.via)).what(|| what)?;
        Ok(Seen::done(routes.iter().any(|route| {
            route.prefix == 0 && route.gateway == Some(self.via) && route.oif == Some(link.index)
        })))
    }

    fn apply(&self, machine: &mut Machine) -> Result<()> {
        self.place
            .change(machine, &self.to_string(), |socket, index| {
                route::add_default_route(socket, self.via, index)
            })
    }

    fn undo(&self, machine: &mut Machine) -> Result<()> {
        let what = self.to_string().replacen("route add", "route del", 1);
        self.place.change(machine, &what, |socket, index| {
            route::delete_default_route(socket, self.via, index)
        })
    }
}
