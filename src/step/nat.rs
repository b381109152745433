//! What a jail's packets go through on their way out: one nf_tables table of our own, made whole and dropped whole.

use std::fmt;
use std::net::Ipv4Addr;

use super::{Action, Machine, Seen};
use crate::config::{Publish, Subnet};
use crate::error::{Result, What as _};
use crate::nl::nft::expr::{Base, Expr, Meta};
use crate::nl::nft::{self, Chain, Hook, Table};

/// The jail's packets leave under the machine's address, and no TCP connection agrees on segments that its route cannot
/// carry.
pub struct Nat {
    /// The table's name.
    pub table: String,
    /// The jail's addresses.
    pub subnet: Subnet,
    /// The outer end of the jail's link: what goes to the jail itself keeps its address.
    pub link: String,
    /// The ports that lead to the jail.
    pub publish: Vec<Publish>,
}

/// Where the source address is in an IPv4 header (RFC 791, section 3.1).
const SOURCE: u8 = 12;
/// Where the flags are in a TCP header (RFC 9293, section 3.1), and two of them.
const TCP_FLAGS: u8 = 13;
/// The flag that begins a connection.
const SYN: u8 = 0x02;
/// The flag that ends one.
const RST: u8 = 0x04;
/// TCP's number (RFC 9293).
const TCP: u8 = 6;
/// UDP's number (RFC 768).
const UDP: u8 = 17;
/// Where the destination is in an IPv4 header (RFC 791, section 3.1).
const DESTINATION: u8 = 16;
/// The first byte of every loopback address (RFC 1122, section 3.2.1.3).
const LOOPBACK: u8 = 127;
/// Where the destination is in a header of TCP or UDP.
const PORT: u8 = 2;
/// `RTN_LOCAL`, linux/rtnetlink.h.
const LOCAL: u32 = 2;
/// The TCP option that says how large segments may be, and where in it.
const MAXSEG: Expr = Expr::TcpOption { kind: 2, offset: 2 };

impl Nat {
    /// The table as the wire has it; [`fmt::Display`] has the same as text.
    fn table(&self) -> Table<'_> {
        let postrouting = Chain {
            name: "postrouting",
            hook: Hook::Postrouting,
            rules: vec![self.masquerade()],
        };
        let forward = Chain {
            name: "forward",
            hook: Hook::Forward,
            rules: vec![self.clamp(Meta::Iifname), self.clamp(Meta::Oifname)],
        };
        let mut chains = vec![postrouting, forward];
        if !self.publish.is_empty() {
            let all = |own| {
                self.publish
                    .iter()
                    .map(|port| self.lead_in(*port, own))
                    .collect()
            };
            chains.push(Chain {
                name: "prerouting",
                hook: Hook::Prerouting,
                rules: all(false),
            });
            chains.push(Chain {
                name: "output",
                hook: Hook::Output,
                rules: all(true),
            });
        }
        let name = &self.table;
        Table { name, chains }
    }

    /// The jail's own address.
    fn inside(&self) -> Ipv4Addr {
        self.subnet.host(2)
    }

    /// `[ip daddr != 127.0.0.0/8] (ip daddr ADDR | fib daddr type local) PROTOCOL dport PORT dnat to JAIL:PORT`. Packets
    /// of the machine's `own` to a loopback address stay: nothing that has that as its source may leave.
    fn lead_in(&self, port: Publish, own: bool) -> Vec<Expr> {
        let network = |length| Expr::Payload {
            base: Base::Network,
            offset: DESTINATION,
            length,
        };
        let mut rule = Vec::new();
        if own {
            rule.extend([network(1), Expr::NotEqual(vec![LOOPBACK])]);
        }
        match port.address {
            Some(address) => rule.extend([network(4), Expr::Equal(address.octets().to_vec())]),
            None => rule.extend([
                Expr::DestinationType,
                Expr::Equal(LOCAL.to_ne_bytes().to_vec()),
            ]),
        }
        rule.extend([
            Expr::Meta(Meta::L4proto),
            Expr::Equal(vec![if port.udp { UDP } else { TCP }]),
            Expr::Payload {
                base: Base::Transport,
                offset: PORT,
                length: 2,
            },
            Expr::Equal(port.port.to_be_bytes().to_vec()),
            Expr::Address(self.inside()),
            Expr::Port(port.to),
            Expr::Dnat,
        ]);
        rule
    }

    /// The same as text.
    fn lead_in_text(&self, port: Publish) -> String {
        let at = port
            .address
            .map_or("fib daddr type local".into(), |address| {
                format!("ip daddr {address}")
            });
        let Publish {
            port: number, to, ..
        } = port;
        format!(
            "{at} {} dport {number} dnat to {}:{to}",
            port.protocol(),
            self.inside()
        )
    }

    /// `ip saddr SUBNET oifname != "LINK" masquerade`.
    fn masquerade(&self) -> Vec<Expr> {
        let Subnet { base, prefix } = self.subnet;
        let octets = base.octets();
        let load = |length| Expr::Payload {
            base: Base::Network,
            offset: SOURCE,
            length,
        };
        let mut rule = if prefix % 8 == 0 {
            // Whole bytes need no mask: fewer are loaded.
            let length = prefix / 8;
            vec![
                load(length),
                Expr::Equal(octets.iter().copied().take(length.into()).collect()),
            ]
        } else {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            vec![
                load(4),
                Expr::Mask(mask.to_be_bytes().to_vec()),
                Expr::Equal(octets.to_vec()),
            ]
        };
        rule.extend([
            Expr::Meta(Meta::Oifname),
            Expr::NotEqual(Expr::link_name(&self.link)),
            Expr::Masquerade,
        ]);
        rule
    }

    /// `WAY "LINK" tcp flags syn / syn,rst tcp option maxseg size set rt mtu`.
    fn clamp(&self, way: Meta) -> Vec<Expr> {
        vec![
            Expr::Meta(way),
            Expr::Equal(Expr::link_name(&self.link)),
            Expr::Meta(Meta::L4proto),
            Expr::Equal(vec![TCP]),
            Expr::Payload {
                base: Base::Transport,
                offset: TCP_FLAGS,
                length: 1,
            },
            Expr::Mask(vec![SYN | RST]),
            Expr::Equal(vec![SYN]),
            Expr::RouteMss,
            Expr::Hton16,
            MAXSEG,
        ]
    }
}

impl fmt::Display for Nat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            table,
            subnet,
            link,
            publish,
        } = self;
        let clamp = "tcp flags syn / syn,rst tcp option maxseg size set rt mtu";
        write!(
            f,
            "nft -f - <<'KAK'\n\
             table ip {table} {{\n\
             \tchain postrouting {{\n\
             \t\ttype nat hook postrouting priority srcnat; policy accept;\n\
             \t\tip saddr {subnet} oifname != \"{link}\" masquerade\n\
             \t}}\n\
             \tchain forward {{\n\
             \t\ttype filter hook forward priority mangle; policy accept;\n\
             \t\tiifname \"{link}\" {clamp}\n\
             \t\toifname \"{link}\" {clamp}\n\
             \t}}\n"
        )?;
        for (chain, priority, own) in [
            ("prerouting", "dstnat", ""),
            ("output", "-100", "ip daddr != 127.0.0.0/8 "),
        ] {
            if publish.is_empty() {
                break;
            }
            write!(
                f,
                "\tchain {chain} {{\n\t\ttype nat hook {chain} priority {priority}; policy accept;\n"
            )?;
            for port in publish {
                writeln!(f, "\t\t{own}{}", self.lead_in_text(*port))?;
            }
            f.write_str("\t}\n")?;
        }
        f.write_str("}\nKAK")
    }
}

impl Action for Nat {
    fn observe(&self, machine: &mut Machine) -> Result<Seen> {
        let what = || format!("nft list table ip {}", self.table);
        Ok(
            match self.table().observe(machine.netfilter()?).what(what)? {
                nft::Found::Absent => Seen::Absent,
                nft::Found::Same => Seen::Done,
                nft::Found::Other => Seen::Other("a table of this name with other rules".into()),
            },
        )
    }

    fn apply(&self, machine: &mut Machine) -> Result<()> {
        self.table()
            .create(machine.netfilter()?)
            .what(|| format!("nft add table ip {}", self.table))
    }

    fn undo(&self, machine: &mut Machine) -> Result<()> {
        nft::drop_table(machine.netfilter()?, &self.table)
            .what(|| format!("nft delete table ip {}", self.table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A rule in nft's notation.
    fn shown(rule: &[Expr]) -> Vec<String> {
        rule.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn in_the_notation_of_nft() {
        let subnet = Subnet::parse("10.0.0.0/24".as_ref()).unwrap();
        let nat = Nat {
            table: "kak-USER".into(),
            subnet,
            link: "kak-USER".into(),
            publish: Vec::new(),
        };
        // What `nft --debug=netlink -f -` prints for the text above.
        assert_eq!(
            shown(&nat.masquerade()),
            [
                "[ payload load 3b @ network header + 12 => reg 1 ]",
                "[ cmp eq reg 1 0x0000000a ]",
                "[ meta load oifname => reg 1 ]",
                "[ cmp neq reg 1 0x2d6b616b 0x52455355 0x00000000 0x00000000 ]",
                "[ masq ]",
            ]
        );
        assert_eq!(
            shown(&nat.clamp(Meta::Iifname)),
            [
                "[ meta load iifname => reg 1 ]",
                "[ cmp eq reg 1 0x2d6b616b 0x52455355 0x00000000 0x00000000 ]",
                "[ meta load l4proto => reg 1 ]",
                "[ cmp eq reg 1 0x00000006 ]",
                "[ payload load 1b @ transport header + 13 => reg 1 ]",
                "[ bitwise reg 1 = ( reg 1 & 0x00000006 ) ^ 0x00000000 ]",
                "[ cmp eq reg 1 0x00000002 ]",
                "[ rt load tcpmss => reg 1 ]",
                "[ byteorder reg 1 = hton(reg 1, 2, 2) ]",
                "[ exthdr write tcpopt reg 1 => 2b @ 2 + 2 ]",
            ]
        );
    }

    #[test]
    fn a_published_port_in_the_notation_of_nft() {
        let parse = |text: &str| Publish::parse(text.as_ref()).unwrap();
        let nat = Nat {
            table: "x".into(),
            subnet: Subnet::parse("10.0.0.0/24".as_ref()).unwrap(),
            link: "x".into(),
            publish: Vec::new(),
        };
        let tail = [
            "[ immediate reg 1 0x0200000a ]",
            "[ immediate reg 2 0x00005000 ]",
            "[ nat dnat ip addr_min reg 1 proto_min reg 2 flags 0x2 ]",
        ];
        let head = [
            "[ payload load 4b @ network header + 16 => reg 1 ]",
            "[ cmp eq reg 1 0x04030201 ]",
            "[ meta load l4proto => reg 1 ]",
            "[ cmp eq reg 1 0x00000006 ]",
            "[ payload load 2b @ transport header + 2 => reg 1 ]",
            "[ cmp eq reg 1 0x0000901f ]",
        ];
        assert_eq!(
            shown(&nat.lead_in(parse("1.2.3.4:8080:80"), false)),
            [&head[..], &tail].concat()
        );
        let head = [
            "[ payload load 1b @ network header + 16 => reg 1 ]",
            "[ cmp neq reg 1 0x0000007f ]",
            "[ fib daddr type => reg 1 ]",
            "[ cmp eq reg 1 0x00000002 ]",
            "[ meta load l4proto => reg 1 ]",
            "[ cmp eq reg 1 0x00000011 ]",
            "[ payload load 2b @ transport header + 2 => reg 1 ]",
            "[ cmp eq reg 1 0x00003500 ]",
        ];
        assert_eq!(
            shown(&nat.lead_in(parse("53:80/udp"), true)),
            [&head[..], &tail].concat()
        );
    }

    #[test]
    fn what_nft_sends() {
        use crate::nl::golden::{each, recorded, say, tree};
        let subnet = Subnet::parse("10.0.0.0/24".as_ref()).unwrap();
        let nat = Nat {
            table: "kak-USER".into(),
            subnet,
            link: "kak-USER".into(),
            publish: Vec::new(),
        };
        let bytes = recorded(include_str!("../../tests/golden/table.nl"));
        // The first and the last message begin and end the batch.
        let recorded: Vec<_> = each(&bytes)
            .into_iter()
            .map(|message| tree(message, 4))
            .collect();
        let (_, batch) = recorded.split_first().unwrap();
        let (_, batch) = batch.split_last().unwrap();
        let table = nat.table();
        let ours: Vec<_> = table
            .messages()
            .iter_mut()
            .map(|message| tree(message.seal(0, 0), 4))
            .collect();
        assert_eq!(ours.len(), batch.len());
        // nft makes all chains before the first rule.
        for ours in &ours {
            let same = |theirs: &&_| {
                let (kind, _, head, nodes): &(u16, u16, Vec<u8>, Vec<_>) = theirs;
                (*kind, head) == (ours.0, &ours.2) && say(nodes, &ours.3)
            };
            assert!(
                batch.iter().any(|theirs| same(&theirs)),
                "{ours:?}\nis not one of\n{batch:?}"
            );
        }
    }
}
