//! The network steps, the same for a jail and for a namespace without one (`kak netns add --uplink`).

use super::Steps;
use crate::config::link_name;
use crate::config::{Publish, Subnet};
use crate::facts::{ETHERNET_MTU, Facts, Firewall, Ipv6};
use crate::nl::nft::foreign::Dropping;
use crate::record::Record;
use crate::step::Side;
use crate::step::accept::Accept;
use crate::step::forwarding::Forwarding;
use crate::step::forwarding6::Forwarding6;
use crate::step::link::{Address, DefaultRoute, LoopbackRoute, Place, RouteLocalnet, Up, Veth};
use crate::step::nat::Nat;
use crate::step::ping::Ping;
use crate::step::switch::Ipv6Switch;

/// The name of the link's end in the jail.
const JAIL_LINK: &str = "eth0";

/// The steps of the network.
pub fn network(record: &Record, steps: &mut Steps, notes: &mut Vec<String>) {
    let Record { config, facts, .. } = record;
    let name = link_name(&config.jail);
    let mark = format!("kak:{}", config.jail);
    let lo = place(record, Side::Jail, "lo");
    steps.add("the jail can talk to itself", Up(lo));
    if let Some(groups) = facts.ping {
        let netns = config.jail.clone();
        steps.add(
            "groups that may ping outside may ping in the jail",
            Ping { netns, groups },
        );
    }
    if config.nat {
        for subnet in subnets(facts) {
            steps.add(
                "the rules for packets come before there is a link to send by",
                Nat {
                    table: name.clone(),
                    mark: mark.clone(),
                    subnet,
                    link: name.clone(),
                    publish: published(record, subnet),
                },
            );
        }
        accept(record, &name, &mark, steps, notes);
    }
    let uplink = facts.uplink.as_ref();
    let way_out = uplink.or_else(|| facts.ipv6.as_ref()?.uplink.as_ref());
    steps.add(
        "a cable: one end stays here, the other is plugged into the jail",
        Veth {
            name: name.clone(),
            alias: mark,
            peer: JAIL_LINK.into(),
            netns: config.jail.clone(),
            mtu: way_out.map_or(ETHERNET_MTU, |uplink| uplink.mtu),
        },
    );
    ends(record, &name, steps);
    if config.nat {
        let uplink = uplink.map(|uplink| uplink.name.clone());
        let links = [name].into_iter().chain(uplink).collect();
        let before = facts.single.clone();
        steps.add(
            "the machine forwards the jail's packets",
            Forwarding { links, before },
        );
        if let Some(ipv6) = &facts.ipv6 {
            forward_ipv6(ipv6, steps);
        }
    }
    ways_out(facts, notes);
}

/// A link's place.
fn place(record: &Record, side: Side, link: &str) -> Place {
    Place {
        side,
        netns: record.config.jail.clone(),
        link: link.into(),
    }
}

/// The jail's addresses, of each family that it has.
fn subnets(facts: &Facts) -> impl Iterator<Item = Subnet> {
    let ipv6 = facts.ipv6.as_ref().map(|ipv6| ipv6.subnet);
    [facts.subnet].into_iter().chain(ipv6)
}

/// The ports that are published at addresses of a subnet's family.
fn published(record: &Record, subnet: Subnet) -> Vec<Publish> {
    let mut ports = record.config.publish.clone();
    ports.retain(|port| port.is_at(subnet.base));
    ports
}

/// The addresses and routes of the two ends of the veth pair, and bringing them up.
fn ends(record: &Record, name: &str, steps: &mut Steps) {
    let facts = &record.facts;
    let outer = || place(record, Side::Outer, name);
    let inner = || place(record, Side::Jail, JAIL_LINK);
    let address = |place, subnet: Subnet, n| Address {
        place,
        address: subnet.host(n),
        prefix: subnet.prefix,
    };
    if facts.ipv6.as_ref().is_some_and(|ipv6| ipv6.off) {
        steps.add(
            "IPv6 is off for new links here, but this one needs it",
            Ipv6Switch::enable(name),
        );
    }
    for subnet in subnets(facts) {
        steps.add(
            "this end's address, the jail's gateway",
            address(outer(), subnet, 1),
        );
    }
    steps.add("this end is plugged in", Up(outer()));
    for subnet in subnets(facts) {
        let mut ports = published(record, subnet).into_iter();
        if !ports.any(Publish::is_on_loopback) {
            continue;
        }
        if subnet.base.is_ipv4() {
            steps.add(
                "packets to a port published at 127.0.0.1 may leave by this link",
                RouteLocalnet(outer()),
            );
        } else {
            steps.add(
                "answers from a port published at ::1 may come by this link",
                LoopbackRoute(outer()),
            );
        }
    }
    for subnet in subnets(facts) {
        steps.add("the jail's address", address(inner(), subnet, 2));
    }
    steps.add("the jail's end is plugged in", Up(inner()));
    for subnet in subnets(facts) {
        steps.add(
            "everything else is reached through this machine",
            DefaultRoute {
                place: inner(),
                via: subnet.host(1),
            },
        );
    }
}

/// Makes the machine forward IPv6 packets.
fn forward_ipv6(ipv6: &Ipv6, steps: &mut Steps) {
    for link in &ipv6.heard {
        steps.add(
            "a machine that forwards ignores routers' announcements, but this one's way out comes from them",
            Ipv6Switch::hear(link),
        );
    }
    let routers = ipv6.routers.clone();
    steps.add(
        "the machine forwards the jail's IPv6 packets",
        Forwarding6 { routers },
    );
}

/// Notes that the machine has no default route, for one address family or for both.
fn ways_out(facts: &Facts, notes: &mut Vec<String>) {
    let ipv6 = facts.ipv6.as_ref();
    let without_ipv6 = ipv6.is_some_and(|ipv6| ipv6.uplink.is_none());
    let said = match (&facts.uplink, ipv6) {
        (None, Some(_)) if !without_ipv6 => "IPv4 ",
        (None, _) => "",
        (Some(_), _) if without_ipv6 => "IPv6 ",
        (Some(_), _) => return,
    };
    let by = if said.is_empty() { "" } else { "by " };
    notes.push(format!(
        "no {said}default route: {by}{said}only this machine is reached, until there is one"
    ));
}

/// Lets the jail's packets through a firewall that would drop them; where kak cannot, notes who can and how.
fn accept(record: &Record, link: &str, mark: &str, steps: &mut Steps, notes: &mut Vec<String>) {
    let firewall = &record.facts.firewall;
    for Dropping { place, closed } in &firewall.chains {
        if *closed {
            notes.push(format!(
                "{place} drops forwarded packets, and only its owner can change it: have it accept packets from and \
                 to {link} (firewalld: firewall-cmd --zone=trusted --add-interface={link})"
            ));
            continue;
        }
        steps.add(
            "a chain that drops forwarded packets lets the jail's through",
            Accept {
                place: place.clone(),
                link: link.into(),
                mark: mark.into(),
            },
        );
    }
    if firewall.legacy {
        notes.push(format!(
            "the FORWARD chain of iptables-legacy drops forwarded packets; run: {}",
            Firewall::legacy_cure(link)
        ));
    }
}
