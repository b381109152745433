//! A jail's packet filter and NAT: one nf_tables table of our own for each address family, created whole and deleted
//! whole. It isolates the jail from its neighbours, and leads published ports into it.

mod rules;

use std::fmt;
use std::net::IpAddr;

use super::{Action, Machine, Seen, Side};
use crate::config::{Publish, Subnet};
use crate::error::{Result, What as _};
use crate::nl::nft::expr::{Meta, Verdict};
use crate::nl::nft::{self, Family, Hook};
use crate::nl::{conntrack, route};
use rules::{Field, Rule};

/// The table of a jail, for one address family. The jail sends nothing from an address that is not its own, and nothing
/// to the machine's loopback addresses; only the machine itself, replies, and traffic to published ports reach it. Its
/// packets leave under the machine's address, and the MSS of TCP connections is clamped to what their route can carry.
pub struct Nat {
    /// The table's name.
    pub table: String,
    /// Its comment, by which it is known to be ours.
    pub mark: String,
    /// The jail's addresses.
    pub subnet: Subnet,
    /// The outer end of the jail's link.
    pub link: String,
    /// The published ports, as far as they are at addresses of this family.
    pub publish: Vec<Publish>,
}

/// A chain of the table.
struct Chain {
    /// Its name.
    name: &'static str,
    /// The hook that it is attached to.
    hook: Hook,
    /// Its rules.
    rules: Vec<Rule>,
}

impl Nat {
    /// The address family of its packets.
    fn family(&self) -> Family {
        Family::of(self.subnet.base)
    }

    /// The machine's loopback addresses.
    fn loopback(&self) -> Subnet {
        match self.family() {
            Family::Ipv6 => Subnet::LOOPBACK_IPV6,
            _ => Subnet::LOOPBACK,
        }
    }

    /// All that is in the table.
    fn chains(&self) -> Vec<Chain> {
        let chain = |name, hook, rules| Chain { name, hook, rules };
        let mut chains = vec![
            chain("raw", Hook::Raw, self.kept_back()),
            chain("forward", Hook::Forward, self.passed_on()),
            chain("postrouting", Hook::Postrouting, self.masked()),
            chain("prerouting", Hook::Prerouting, self.led_in(false)),
            chain("output", Hook::Output, self.led_in(true)),
        ];
        chains.retain(|chain| !chain.rules.is_empty());
        chains
    }

    /// Drops what the jail must not send, before connection tracking could take it for a reply.
    fn kept_back(&self) -> Vec<Rule> {
        let from = || rules::by(Meta::Iifname, &self.link);
        let drop = || rules::verdict(Verdict::Drop);
        let beyond = |subnet| rules::beyond(Field::Source, subnet);
        let loopback = rules::within(Field::Destination, self.loopback());
        let loopback = Rule::of([from(), loopback, drop()]);
        if self.family() != Family::Ipv6 {
            return vec![Rule::of([from(), beyond(self.subnet), drop()]), loopback];
        }
        // Neighbour discovery uses these addresses; the kernel forwards no packet that bears one.
        let found = [beyond(Subnet::LINK_LOCAL), beyond(Subnet::NOBODY)];
        let source = Rule::of([from(), beyond(self.subnet), Rule::of(found), drop()]);
        let router = Rule::of([from(), rules::router_advertisement(), drop()]);
        vec![source, loopback, router]
    }

    /// The rules for packets that the machine forwards from the jail and to it.
    fn passed_on(&self) -> Vec<Rule> {
        let to = || rules::by(Meta::Oifname, &self.link);
        let accept = || rules::verdict(Verdict::Accept);
        vec![
            Rule::of([rules::by(Meta::Iifname, &self.link), rules::clamp()]),
            Rule::of([to(), rules::clamp()]),
            Rule::of([to(), rules::established(), accept()]),
            Rule::of([to(), rules::led(), accept()]),
            Rule::of([to(), rules::verdict(Verdict::Drop)]),
        ]
    }

    /// The rules by which packets get another source address.
    fn masked(&self) -> Vec<Rule> {
        let to = || rules::by(Meta::Oifname, &self.link);
        let own = || rules::within(Field::Source, self.subnet);
        let mut all = vec![Rule::of([
            own(),
            rules::not_to(&self.link),
            rules::masquerade(),
        ])];
        if !self.publish.is_empty() {
            // Led to itself, the jail would reply to itself directly, and not recognise the reply.
            all.push(Rule::of([own(), to(), rules::led(), rules::masquerade()]));
        }
        if self.publish.iter().any(|port| port.is_on_loopback()) {
            // The jail cannot reply to a loopback address of the machine.
            let source = rules::within(Field::Source, self.loopback());
            all.push(Rule::of([source, to(), rules::masquerade()]));
        }
        all
    }

    /// The rules that lead into the jail: the machine's `own` packets, or those that arrive. A port at a loopback
    /// address is for the machine's own packets only.
    fn led_in(&self, own: bool) -> Vec<Rule> {
        let ports = self.publish.iter().filter(|port| {
            let address = port.single();
            own || !address.is_some_and(|address| address.is_loopback())
        });
        let inside = self.subnet.host(2);
        ports
            .map(|port| Rule::of([rules::published(*port), rules::lead(inside, port.to)]))
            .collect()
    }

    /// Makes the kernel forget the UDP flows to published ports. Conntrack sends a whole flow where its first datagram
    /// went: one that began before the rules changed would go on past them. A kernel that does not support this is no
    /// reason to fail.
    fn forget(&self, machine: &mut Machine) -> Option<()> {
        let mut ports = self.publish.iter().filter(|port| port.udp).peekable();
        ports.peek()?;
        let family = route::Family::of(self.subnet.base);
        let addresses = route::addresses(machine.route(Side::Outer).ok()??, family).ok()?;
        let is_own =
            |to: IpAddr| to.is_loopback() || addresses.iter().any(|address| address.address == to);
        let socket = machine.netfilter().ok()?;
        for port in ports {
            let led = |to| {
                port.single()
                    .map_or_else(|| is_own(to), |address| address == to)
            };
            conntrack::forget_datagrams(socket, self.family(), port.port, led).ok()?;
        }
        Some(())
    }

    /// The table as netlink messages carry it; [`fmt::Display`] gives the same as nft's text.
    fn table(&self) -> nft::Table<'_> {
        let chain = |Chain { name, hook, rules }| nft::Chain {
            name,
            hook,
            rules: rules.into_iter().map(|rule| rule.exprs).collect(),
        };
        nft::Table {
            family: self.family(),
            name: &self.table,
            mark: &self.mark,
            chains: self.chains().into_iter().map(chain).collect(),
        }
    }
}

impl fmt::Display for Nat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, mark, .. } = self;
        let family = self.family();
        write!(
            f,
            "nft -f - <<'KAK' # {family} {table}\ntable {family} {table} {{\n\tcomment \"{mark}\"\n"
        )?;
        for Chain { name, hook, rules } in self.chains() {
            write!(f, "\tchain {name} {{\n\t\t{hook}\n")?;
            for rule in rules {
                writeln!(f, "\t\t{}", rule.text)?;
            }
            f.write_str("\t}\n")?;
        }
        f.write_str("}\nKAK")
    }
}

impl Action for Nat {
    // By its comment. If the link is not there, the table is left over from a jail whose record is lost.
    fn is_marked(&self) -> bool {
        true
    }

    fn observe(&self, machine: &mut Machine) -> Result<Seen> {
        let what = || format!("nft list table {} {}", self.family(), self.table);
        Ok(
            match self.table().observe(machine.netfilter()?).what(what)? {
                nft::Found::Absent => Seen::Absent,
                nft::Found::Same => Seen::Done,
                nft::Found::Changed => Seen::Torn,
                nft::Found::Other => Seen::Other("a table of this name with other rules".into()),
            },
        )
    }

    fn apply(&self, machine: &mut Machine) -> Result<()> {
        self.table()
            .create(machine.netfilter()?)
            .what(|| format!("nft add table {} {}", self.family(), self.table))?;
        self.forget(machine);
        Ok(())
    }

    fn undo(&self, machine: &mut Machine) -> Result<()> {
        nft::drop_table(machine.netfilter()?, self.family(), &self.table)
            .what(|| format!("nft delete table {} {}", self.family(), self.table))?;
        self.forget(machine);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the jail USER, with these ports.
    fn nat(publish: &[&str]) -> Nat {
        nat_of("10.0.0.0/24", publish)
    }

    /// The same with these addresses.
    fn nat_of(subnet: &str, publish: &[&str]) -> Nat {
        let publish = publish.iter().map(|port| Publish::parse(port.as_ref()));
        Nat {
            table: "kak-USER".into(),
            mark: "kak:USER".into(),
            subnet: Subnet::read(subnet).unwrap(),
            link: "kak-USER".into(),
            publish: publish.collect::<Result<_>>().unwrap(),
        }
    }

    #[test]
    fn a_table_without_ports_leads_nobody_in() {
        let names = |nat: &Nat| -> Vec<&str> {
            let chains = nat.chains();
            chains.iter().map(|chain| chain.name).collect()
        };
        assert_eq!(names(&nat(&[])), ["raw", "forward", "postrouting"]);
        // A packet from elsewhere to a loopback address must not be led in.
        assert_eq!(
            names(&nat(&["127.0.0.1:80"])),
            ["raw", "forward", "postrouting", "output"]
        );
        assert!(
            !nat(&["203.0.113.2:80"])
                .to_string()
                .contains("ip saddr 127")
        );
    }

    #[test]
    fn what_nft_sends() {
        use crate::nl::golden::say_the_same;
        let ipv4 = nat(&["8080:80", "203.0.113.2:53/udp", "127.0.0.1:81"]);
        let ports = ["8080:80", "[2001:db8::2]:53/udp", "[::1]:81"];
        let ipv6 = nat_of("fd12:3456:789a:bcde::/64", &ports);
        for (nat, recorded) in [
            (ipv4, include_str!("../../tests/golden/table.nl")),
            (ipv6, include_str!("../../tests/golden/table6.nl")),
        ] {
            let text = nat.to_string();
            let (_, table) = text.split_once('\n').unwrap();
            let table = table.strip_suffix("KAK").unwrap();
            assert!(
                include_str!("../../scripts/golden").contains(table),
                "{table}\nis not what was recorded"
            );
            say_the_same(&mut nat.table().messages(), recorded);
        }
    }
}
