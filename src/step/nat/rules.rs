//! The rules of a jail's table: each as nft's text and as the kernel's expressions, side by side. Which of them a jail
//! has is decided by [`super::Nat`].

use std::net::{IpAddr, SocketAddr};

use crate::config::{Publish, Subnet};
use crate::nl::nft::Family;
use crate::nl::nft::expr::{Base, Ct, DNATTED, ESTABLISHED, Expr, Meta, RELATED, Verdict, octets};

/// A rule, or a part of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// As nft prints it.
    pub text: String,
    /// As the kernel has it.
    pub exprs: Vec<Expr>,
}

impl Rule {
    /// A part.
    fn part(text: impl Into<String>, exprs: impl Into<Vec<Expr>>) -> Self {
        Self {
            text: text.into(),
            exprs: exprs.into(),
        }
    }

    /// A rule of its parts.
    pub fn of<const N: usize>(parts: [Self; N]) -> Self {
        Self {
            text: parts.each_ref().map(|part| part.text.as_str()).join(" "),
            exprs: parts.into_iter().flat_map(|part| part.exprs).collect(),
        }
    }
}

/// TCP's number (RFC 9293).
const TCP: u8 = 6;
/// UDP's number (RFC 768).
const UDP: u8 = 17;
/// ICMPv6's number (RFC 4443).
const ICMPV6: u8 = 58;
/// Its router advertisement (RFC 4861, section 4.2).
const ROUTER_ADVERTISEMENT: u8 = 134;
/// The offset of the flags in a TCP header (RFC 9293, section 3.1).
const TCP_FLAGS: u8 = 13;
/// The flag that begins a connection.
const SYN: u8 = 0x02;
/// The flag that ends one.
const RST: u8 = 0x04;
/// The TCP option for the maximum segment size, and the size's offset in it.
const MAXSEG: Expr = Expr::TcpOption { kind: 2, offset: 2 };
/// The offset of the destination port in a TCP or UDP header.
const DESTINATION_PORT: u8 = 2;
/// `RTN_LOCAL`, linux/rtnetlink.h.
const LOCAL: u32 = 2;

/// An address in a header of IPv4 (RFC 791, section 3.1) or IPv6 (RFC 8200, section 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    /// Where the packet comes from.
    Source,
    /// Where it goes.
    Destination,
}

impl Field {
    /// nft's words for it.
    fn words(self, family: Family) -> String {
        let field = match self {
            Self::Source => "saddr",
            Self::Destination => "daddr",
        };
        format!("{family} {field}")
    }

    /// Its first bytes.
    fn load(self, family: Family, length: u8) -> Expr {
        let offset = match (family, self) {
            (Family::Ipv6, Self::Source) => 8,
            (Family::Ipv6, Self::Destination) => 24,
            (_, Self::Source) => 12,
            (_, Self::Destination) => 16,
        };
        Expr::Payload {
            base: Base::Network,
            offset,
            length,
        }
    }
}

/// `FIELD SUBNET`: only packets with an address of this network.
pub fn within(field: Field, subnet: Subnet) -> Rule {
    let (mut exprs, value) = load(field, subnet);
    exprs.push(Expr::Equal(value));
    Rule::part(format!("{} {}", words(field, subnet), shown(subnet)), exprs)
}

/// `FIELD != SUBNET`: only packets with another one.
pub fn beyond(field: Field, subnet: Subnet) -> Rule {
    let (mut exprs, value) = load(field, subnet);
    exprs.push(Expr::NotEqual(value));
    Rule::part(
        format!("{} != {}", words(field, subnet), shown(subnet)),
        exprs,
    )
}

/// Loads the network part of an address into the register; also returns what it is in this subnet.
fn load(field: Field, subnet: Subnet) -> (Vec<Expr>, Vec<u8>) {
    let Subnet { base, prefix } = subnet;
    let (family, octets) = (Family::of(base), octets(base));
    if prefix.is_multiple_of(8) {
        // Whole bytes need no mask: fewer are loaded.
        let length = prefix / 8;
        let value = octets.into_iter().take(length.into()).collect();
        return (vec![field.load(family, length)], value);
    }
    let ones = Subnet::around(last(base), prefix).base;
    let mask = Expr::Mask(self::octets(ones));
    (vec![field.load(family, subnet.bits() / 8), mask], octets)
}

/// The last address of a family: all bits are set.
fn last(of: IpAddr) -> IpAddr {
    if of.is_ipv4() {
        [u8::MAX; 4].into()
    } else {
        [u8::MAX; 16].into()
    }
}

/// nft's words for a field of such addresses.
fn words(field: Field, subnet: Subnet) -> String {
    field.words(Family::of(subnet.base))
}

/// A network as nft prints it: a single address has no prefix length.
fn shown(subnet: Subnet) -> String {
    if subnet.prefix == subnet.bits() {
        subnet.base.to_string()
    } else {
        subnet.to_string()
    }
}

/// `iifname "LINK"` or `oifname "LINK"`: only packets that come, or leave, by a link.
pub fn by(way: Meta, link: &str) -> Rule {
    let exprs = [Expr::Meta(way), Expr::Equal(Expr::link_name(link))];
    Rule::part(format!("{} \"{link}\"", way.word()), exprs)
}

/// `oifname != "LINK"`: only packets that leave by another one.
pub fn not_to(link: &str) -> Rule {
    let exprs = [
        Expr::Meta(Meta::Oifname),
        Expr::NotEqual(Expr::link_name(link)),
    ];
    Rule::part(format!("oifname != \"{link}\""), exprs)
}

/// Only packets of a connection that has seen packets both ways, or related to such a one.
pub fn established() -> Rule {
    let exprs = Expr::ct(Ct::State, ESTABLISHED | RELATED);
    Rule::part("ct state established,related", exprs)
}

/// Only packets of a connection whose destination was translated.
pub fn led() -> Rule {
    Rule::part("ct status dnat", Expr::ct(Ct::Status, DNATTED))
}

/// What becomes of the packet.
pub fn verdict(verdict: Verdict) -> Rule {
    let word = match verdict {
        Verdict::Drop => "drop",
        Verdict::Accept => "accept",
    };
    Rule::part(word, [Expr::Verdict(verdict)])
}

/// The packet leaves under the machine's address.
pub fn masquerade() -> Rule {
    Rule::part("masquerade", [Expr::Masquerade])
}

/// Clamps the MSS of a TCP connection that begins to what its route can carry.
pub fn clamp() -> Rule {
    let exprs = [
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
    ];
    Rule::part(
        "tcp flags syn / syn,rst tcp option maxseg size set rt mtu",
        exprs,
    )
}

/// Only router advertisements.
pub fn router_advertisement() -> Rule {
    let exprs = [
        Expr::Meta(Meta::L4proto),
        Expr::Equal(vec![ICMPV6]),
        Expr::Payload {
            base: Base::Transport,
            offset: 0,
            length: 1,
        },
        Expr::Equal(vec![ROUTER_ADVERTISEMENT]),
    ];
    Rule::part("icmpv6 type nd-router-advert", exprs)
}

/// `(FAMILY daddr ADDR | fib daddr type local) PROTOCOL dport PORT`: only packets to a published port.
pub fn published(port: Publish) -> Rule {
    let (at, mut exprs) = match port.single() {
        Some(address) => {
            let family = Family::of(address);
            let octets = octets(address);
            let length = if address.is_ipv4() { 4 } else { 16 };
            (
                format!("{} {address}", Field::Destination.words(family)),
                vec![Field::Destination.load(family, length), Expr::Equal(octets)],
            )
        }
        None => (
            "fib daddr type local".into(),
            vec![
                Expr::DestinationType,
                Expr::Equal(LOCAL.to_ne_bytes().to_vec()),
            ],
        ),
    };
    exprs.extend([
        Expr::Meta(Meta::L4proto),
        Expr::Equal(vec![if port.udp { UDP } else { TCP }]),
        Expr::Payload {
            base: Base::Transport,
            offset: DESTINATION_PORT,
            length: 2,
        },
        Expr::Equal(port.port.to_be_bytes().to_vec()),
    ]);
    Rule::part(
        format!("{at} {} dport {}", port.protocol(), port.port),
        exprs,
    )
}

/// `dnat to ADDR:PORT`.
pub fn lead(to: IpAddr, port: u16) -> Rule {
    let dnat = Expr::Dnat(Family::of(to));
    let exprs = [Expr::Address(to), Expr::Port(port), dnat];
    Rule::part(format!("dnat to {}", SocketAddr::new(to, port)), exprs)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asserts that a rule is, in nft's notation, what `nft --debug=netlink` says of its text.
    #[track_caller]
    fn is(rule: &Rule, text: &str, notation: &[&str]) {
        assert_eq!(rule.text, text);
        let shown: Vec<String> = rule.exprs.iter().map(ToString::to_string).collect();
        assert_eq!(shown, notation);
    }

    /// The link's name as the kernel compares it.
    const LINK: &str = "0x2d6b616b 0x52455355 0x00000000 0x00000000";

    fn net(text: &str) -> Subnet {
        Subnet::parse(text.as_ref()).unwrap()
    }

    #[test]
    fn who_may_send_what() {
        let from = by(Meta::Iifname, "kak-USER");
        is(
            &Rule::of([
                from.clone(),
                beyond(Field::Source, net("10.0.0.0/24")),
                verdict(Verdict::Drop),
            ]),
            "iifname \"kak-USER\" ip saddr != 10.0.0.0/24 drop",
            &[
                "[ meta load iifname => reg 1 ]",
                &format!("[ cmp eq reg 1 {LINK} ]"),
                "[ payload load 3b @ network header + 12 => reg 1 ]",
                "[ cmp neq reg 1 0x0000000a ]",
                "[ immediate reg 0 drop ]",
            ],
        );
        is(
            &Rule::of([
                from.clone(),
                beyond(Field::Source, net("172.30.7.16/28")),
                verdict(Verdict::Drop),
            ]),
            "iifname \"kak-USER\" ip saddr != 172.30.7.16/28 drop",
            &[
                "[ meta load iifname => reg 1 ]",
                &format!("[ cmp eq reg 1 {LINK} ]"),
                "[ payload load 4b @ network header + 12 => reg 1 ]",
                "[ bitwise reg 1 = ( reg 1 & 0xf0ffffff ) ^ 0x00000000 ]",
                "[ cmp neq reg 1 0x10071eac ]",
                "[ immediate reg 0 drop ]",
            ],
        );
        is(
            &Rule::of([
                from,
                within(Field::Destination, Subnet::LOOPBACK),
                verdict(Verdict::Drop),
            ]),
            "iifname \"kak-USER\" ip daddr 127.0.0.0/8 drop",
            &[
                "[ meta load iifname => reg 1 ]",
                &format!("[ cmp eq reg 1 {LINK} ]"),
                "[ payload load 1b @ network header + 16 => reg 1 ]",
                "[ cmp eq reg 1 0x0000007f ]",
                "[ immediate reg 0 drop ]",
            ],
        );
    }

    #[test]
    fn what_comes_in() {
        let to = by(Meta::Oifname, "kak-USER");
        is(
            &Rule::of([to.clone(), established(), verdict(Verdict::Accept)]),
            "oifname \"kak-USER\" ct state established,related accept",
            &[
                "[ meta load oifname => reg 1 ]",
                &format!("[ cmp eq reg 1 {LINK} ]"),
                "[ ct load state => reg 1 ]",
                "[ bitwise reg 1 = ( reg 1 & 0x00000006 ) ^ 0x00000000 ]",
                "[ cmp neq reg 1 0x00000000 ]",
                "[ immediate reg 0 accept ]",
            ],
        );
        is(
            &Rule::of([to, led(), verdict(Verdict::Accept)]),
            "oifname \"kak-USER\" ct status dnat accept",
            &[
                "[ meta load oifname => reg 1 ]",
                &format!("[ cmp eq reg 1 {LINK} ]"),
                "[ ct load status => reg 1 ]",
                "[ bitwise reg 1 = ( reg 1 & 0x00000020 ) ^ 0x00000000 ]",
                "[ cmp neq reg 1 0x00000000 ]",
                "[ immediate reg 0 accept ]",
            ],
        );
    }

    #[test]
    fn what_goes_out() {
        is(
            &Rule::of([
                within(Field::Source, net("10.0.0.0/24")),
                not_to("kak-USER"),
                masquerade(),
            ]),
            "ip saddr 10.0.0.0/24 oifname != \"kak-USER\" masquerade",
            &[
                "[ payload load 3b @ network header + 12 => reg 1 ]",
                "[ cmp eq reg 1 0x0000000a ]",
                "[ meta load oifname => reg 1 ]",
                &format!("[ cmp neq reg 1 {LINK} ]"),
                "[ masq ]",
            ],
        );
        is(
            &Rule::of([by(Meta::Iifname, "kak-USER"), clamp()]),
            "iifname \"kak-USER\" tcp flags syn / syn,rst tcp option maxseg size set rt mtu",
            &[
                "[ meta load iifname => reg 1 ]",
                &format!("[ cmp eq reg 1 {LINK} ]"),
                "[ meta load l4proto => reg 1 ]",
                "[ cmp eq reg 1 0x00000006 ]",
                "[ payload load 1b @ transport header + 13 => reg 1 ]",
                "[ bitwise reg 1 = ( reg 1 & 0x00000006 ) ^ 0x00000000 ]",
                "[ cmp eq reg 1 0x00000002 ]",
                "[ rt load tcpmss => reg 1 ]",
                "[ byteorder reg 1 = hton(reg 1, 2, 2) ]",
                "[ exthdr write tcpopt reg 1 => 2b @ 2 + 2 ]",
            ],
        );
    }

    #[test]
    fn what_is_published() {
        let parse = |text: &str| Publish::parse(text.as_ref()).unwrap();
        let lead = || lead([10, 0, 0, 2].into(), 80);
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
        is(
            &Rule::of([published(parse("1.2.3.4:8080:80")), lead()]),
            "ip daddr 1.2.3.4 tcp dport 8080 dnat to 10.0.0.2:80",
            &[&head[..], &tail].concat(),
        );
        let head = [
            "[ fib daddr type => reg 1 ]",
            "[ cmp eq reg 1 0x00000002 ]",
            "[ meta load l4proto => reg 1 ]",
            "[ cmp eq reg 1 0x00000011 ]",
            "[ payload load 2b @ transport header + 2 => reg 1 ]",
            "[ cmp eq reg 1 0x00003500 ]",
        ];
        is(
            &Rule::of([published(parse("53:80/udp")), lead()]),
            "fib daddr type local udp dport 53 dnat to 10.0.0.2:80",
            &[&head[..], &tail].concat(),
        );
    }
}
