//! The steps of the network, a jail's and that of a namespace without a jail alike.

use super::Steps;
use crate::facts::{ETHERNET_MTU, Firewall, link_name};
use crate::nl::nft::foreign::Dropping;
use crate::record::Record;
use crate::step::Side;
use crate::step::accept::Accept;
use crate::step::forwarding::Forwarding;
use crate::step::link::{Address, DefaultRoute, Place, RouteLocalnet, Up, Veth};
use crate::step::nat::Nat;
use crate::step::ping::Ping;

/// The jail's side of the link.
const JAIL_LINK: &str = "eth0";

/// The steps of the network.
pub fn network(record: &Record, steps: &mut Steps, notes: &mut Vec<String>) {
    let Record { config, facts, .. } = record;
    let name = link_name(&config.jail);
    let place = |side, link: &str| Place {
        side,
        netns: config.jail.clone(),
        link: link.into(),
    };
    let (outer, inner) = (place(Side::Outer, &name), place(Side::Jail, JAIL_LINK));
    let (subnet, gateway) = (facts.subnet, facts.subnet.host(1));
    let address = |place: &Place, n| Address {
        place: place.clone(),
        address: subnet.host(n),
        prefix: subnet.prefix,
    };

    let mark = format!("kak:{}", config.jail);

    steps.add("the jail can talk to itself", Up(place(Side::Jail, "lo")));
    if let Some(groups) = facts.ping {
        let netns = config.jail.clone();
        steps.add(
            "who may ping outside may ping in the jail",
            Ping { netns, groups },
        );
    }
    if config.nat {
        steps.add(
            "who may send what to whom is settled before there is a link to send by",
            Nat {
                table: name.clone(),
                mark: mark.clone(),
                subnet,
                link: name.clone(),
                publish: config.publish.clone(),
            },
        );
        accept(record, &name, &mark, steps, notes);
    }
    steps.add(
        "a cable: one end stays here, the other is plugged into the jail",
        Veth {
            name: name.clone(),
            alias: mark,
            peer: JAIL_LINK.into(),
            netns: config.jail.clone(),
            mtu: facts
                .uplink
                .as_ref()
                .map_or(ETHERNET_MTU, |uplink| uplink.mtu),
        },
    );
    steps.add("this end's address, the jail's gateway", address(&outer, 1));
    steps.add("this end is plugged in", Up(outer.clone()));
    if config.publish.iter().any(|port| port.is_on_loopback()) {
        steps.add(
            "what the machine asks of itself at a published port may leave by this link",
            RouteLocalnet(outer),
        );
    }
    steps.add("the jail's address", address(&inner, 2));
    steps.add("the jail's end is plugged in", Up(inner.clone()));
    steps.add(
        "everything else is reached through this machine",
        DefaultRoute {
            place: inner,
            via: gateway,
        },
    );
    if config.nat {
        let uplink = facts.uplink.iter().map(|uplink| uplink.name.clone());
        let links = [name.clone()].into_iter().chain(uplink).collect();
        steps.add(
            "the machine passes the jail's packets on",
            Forwarding {
                links,
                before: facts.single.clone(),
            },
        );
    }
    if facts.uplink.is_none() {
        notes.push("no default route: only this machine is reached, until there is one".into());
    }
}

/// What lets the jail's packets through a firewall that would drop them; where kak can do nothing, a note of who can.
fn accept(record: &Record, link: &str, mark: &str, steps: &mut Steps, notes: &mut Vec<String>) {
    let firewall = &record.facts.firewall;
    for Dropping { place, closed } in &firewall.chains {
        if *closed {
            notes.push(format!(
                "{place} drops what passes through this machine, and only its owner can change it: let it accept what \
                 comes from {link} and what goes to it (firewalld: firewall-cmd --zone=trusted --add-interface={link})"
            ));
            continue;
        }
        steps.add(
            "a chain that drops what it does not know lets the jail's packets through",
            Accept {
                place: place.clone(),
                link: link.into(),
                mark: mark.into(),
            },
        );
    }
    if firewall.legacy {
        notes.push(format!(
            "the FORWARD chain of iptables-legacy drops what passes through this machine; run: {}",
            Firewall::legacy_cure(link)
        ));
    }
}
