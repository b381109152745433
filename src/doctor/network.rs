//! The network: what the kernel can do, the way out, the firewalls in its way, and which addresses are free.

use std::ffi::OsStr;
use std::os::fd::AsFd as _;

use rustix::fs::{Mode, OFlags};
use rustix::thread::UnshareFlags;

use super::kernel::configured;
use super::{Cure, Place, Report, say};
use crate::config::link_name;
use crate::config::{self, Config, Publish, Subnet};
use crate::error::{Error, Result, What as _};
use crate::facts::Firewall;
use crate::nl::{self, link, route};
use crate::record;
use crate::step::nat::Nat;
use crate::step::{Action as _, Machine};
use crate::survey::{self, Network};
use crate::sys;
use crate::text::quote;

/// The packet size that every IPv6 link has to carry (RFC 8200); a link with less is a tunnel in a tunnel.
const SMALL: u32 = 1280;

/// Runs the checks.
pub fn look(place: &Place, report: &mut Report) {
    capable(place, report);
    match nl::Socket::route() {
        Err(errno) => {
            let why = Error::reason(errno);
            let cure = configured("netlink, or make the seccomp filter allow it");
            report.fail("rtnetlink", "rtnetlink", &why, cure);
        }
        Ok(mut socket) => {
            report.ok("rtnetlink", "rtnetlink", "");
            if let Err(error) = uplink(&mut socket, report) {
                let cure = say("run as root");
                report.warn("uplink", "the way out", &error.to_string(), cure);
            }
        }
    }
    match Network::gather(&Config::new(config::DEFAULT_JAIL), &[], None) {
        Ok(network) => {
            let why = format!("{} is the first that is free", network.subnet);
            report.ok("subnet", "subnets", &why);
        }
        Err(error) => {
            let cure = say("name a network that is free: kak setup --subnet CIDR");
            report.fail("subnet", "subnets", &error.to_string(), cure);
        }
    }
    firewall(place, report);
}

/// Has a child make links and rules such as a jail's, in a network of its own.
fn capable(place: &Place, report: &mut Report) {
    let (veth, rules) = (
        ("veth", "pairs of links (veth)"),
        ("nf-tables", "nf_tables NAT"),
    );
    if !place.is_admin() || !place.is_net_admin() {
        let capability = if place.is_admin() {
            "NET_ADMIN"
        } else {
            "SYS_ADMIN"
        };
        for (name, what) in [veth, rules] {
            report.unchecked(name, what, capability);
        }
        return;
    }
    let (mut pair, mut table) = (Ok(()), Ok(()));
    let made = sys::elsewhere(|| {
        sys::unshare(UnshareFlags::NEWNET)?;
        pair = make_pair();
        table = make_table();
        Ok(())
    });
    if made.is_err() {
        let why = "not checked: no network namespace can be made";
        for (name, what) in [veth, rules] {
            report.warn(name, what, why, say("fix the namespaces first"));
        }
        return;
    }
    for ((name, what), result, cure) in [
        (veth, pair, "CONFIG_VETH, or load it: modprobe veth"),
        (
            rules,
            table,
            "nf_tables, nft_chain_nat, nft_masq and nft_ct, or load these; 'kak setup --no-nat' does without",
        ),
    ] {
        match result {
            Ok(()) => report.ok(name, what, ""),
            Err(error) => report.fail(name, what, &error.to_string(), configured(cure)),
        }
    }
}

/// A pair of links, both ends in the network that we are in.
fn make_pair() -> Result<()> {
    let what = || "ip link add type veth";
    let mut socket = nl::Socket::route().what(what)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let here = rustix::fs::open("/proc/thread-self/ns/net", flags, Mode::empty()).what(what)?;
    let veth = link::Veth {
        name: "kak-doctor",
        alias: "kak:doctor",
        peer: "eth0",
        peer_ns: here.as_fd(),
        mtu: SMALL,
    };
    link::add_veth(&mut socket, &veth).what(what)
}

/// The table of a jail with a port that is published.
fn make_table() -> Result<()> {
    let nat = Nat {
        table: "kak-doctor".into(),
        mark: "kak:doctor".into(),
        subnet: Subnet::LOOPBACK,
        link: "kak-doctor".into(),
        publish: vec![Publish::parse(OsStr::new("80"))?],
    };
    nat.apply(&mut Machine::new("doctor"))
}

/// The default routes, and the link that the best of them leaves by.
fn uplink(socket: &mut nl::Socket, report: &mut Report) -> Result<()> {
    let (name, what) = ("uplink", "the way out");
    let routes = route::routes(socket, route::Family::Ipv4).what(|| "ip route show")?;
    let links = link::links(socket).what(|| "ip link show")?;
    let ways: Vec<_> = routes
        .into_iter()
        .filter(|route| {
            route.prefix == 0
                && route.kind == route::RTN_UNICAST
                && route.table == route::RT_TABLE_MAIN
        })
        .collect();
    let best = ways.iter().min_by_key(|route| route.metric);
    let best = best.and_then(|way| way.oif);
    let Some(link) = links.iter().find(|link| Some(link.index) == best) else {
        let why = "there is no default route: jails reach this machine only";
        let cure = say("ip route add default via GATEWAY; in Docker leave out --network none");
        report.warn(name, what, why, cure);
        return Ok(());
    };
    let more = match ways.len() {
        1 => String::new(),
        count => format!(", the best of {count} default routes"),
    };
    let why = format!("{}{more}", link.name);
    report.ok(name, what, &why);
    let why = format!("{} bytes", link.mtu);
    if link.mtu >= SMALL {
        report.ok("mtu", "the largest packet", &why);
    } else {
        let why = format!("{why}: larger packets are lost where ICMP is blocked");
        let cure = Cure::Run(format!("ip link set {} mtu {SMALL}", quote(&link.name)));
        report.warn("mtu", "the largest packet", &why, cure);
    }
    Ok(())
}

/// Which firewalls drop forwarded packets.
fn firewall(place: &Place, report: &mut Report) {
    let (name, what) = ("firewall", "firewall");
    if !place.is_net_admin() {
        report.unchecked(name, what, "NET_ADMIN");
        return;
    }
    let mut jails = record::jails().unwrap_or_default();
    if jails.is_empty() {
        jails.extend(config::jail(None));
    }
    let before = report.0.len();
    for (at, jail) in jails.iter().enumerate() {
        let link = link_name(jail);
        let found = nl::Socket::netfilter()
            .what(|| "nft list ruleset")
            .and_then(|mut socket| survey::firewall::look(&mut socket, &link, false));
        let firewall = match found {
            Ok(Some(firewall)) => firewall,
            // In a user namespace that does not own the network, the capability is not enough.
            Ok(None) => {
                report.unchecked(name, what, "NET_ADMIN");
                return;
            }
            // Without nf_tables there are no chains of its either; `capable` has reported that.
            Err(_) => return,
        };
        for chain in firewall.chains.iter().filter(|_| at == 0) {
            let place = chain.place.to_string();
            if chain.closed {
                let why =
                    format!("{place} drops forwarded packets, and only its owner can change it");
                let cure = format!(
                    "firewall-cmd --zone=trusted --add-interface={link}, or have it accept packets from and to {link}"
                );
                report.warn(name, what, &why, Cure::Say(cure));
            } else {
                let why =
                    format!("{place} drops forwarded packets; setup has it accept those of jails");
                report.ok(name, what, &why);
            }
        }
        if firewall.legacy {
            let why = "the FORWARD chain of iptables-legacy drops forwarded packets";
            report.warn(name, what, why, Cure::Run(Firewall::legacy_cure(&link)));
        }
    }
    if report.0.len() == before {
        report.ok(name, what, "nothing drops forwarded packets");
    }
}
