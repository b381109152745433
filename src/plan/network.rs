//! The steps of the network, a jail's and that of a namespace without a jail alike.

use super::Steps;
use crate::facts::{ETHERNET_MTU, link_name};
use crate::record::Record;
use crate::step::Side;
use crate::step::forwarding::Forwarding;
use crate::step::link::{Address, DefaultRoute, Place, Up, Veth};
use crate::step::nat::Nat;

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

    steps.add("the jail can talk to itself", Up(place(Side::Jail, "lo")));
    steps.add(
        "a cable: one end stays here, the other is plugged into the jail",
        Veth {
            name: name.clone(),
            alias: format!("kak:{}", config.jail),
            peer: JAIL_LINK.into(),
            netns: config.jail.clone(),
            mtu: facts
                .uplink
                .as_ref()
                .map_or(ETHERNET_MTU, |uplink| uplink.mtu),
        },
    );
    steps.add("this end's address, the jail's gateway", address(&outer, 1));
    steps.add("this end is plugged in", Up(outer));
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
            Forwarding { links },
        );
        steps.add(
            "and lends them its address on the way out",
            Nat {
                table: name.clone(),
                subnet,
                link: name,
                publish: config.publish.clone(),
            },
        );
    }
    if facts.uplink.is_none() {
        notes.push("no default route: only this machine is reached, until there is one".into());
    }
}
