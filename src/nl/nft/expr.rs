//! The expressions that a rule of nf_tables is made of, as the kernel and `nft --debug=netlink` know them. The rules
//! themselves are put together elsewhere.

use std::net::IpAddr;

use super::{Family, rule};
use crate::nl::message::{Attr, Attrs, Be32, Message, Nest, attr};

/// `NFTA_META_DREG`.
const META_DREG: Attr<Be32> = attr(1);
/// `NFTA_META_KEY`.
pub(super) const META_KEY: Attr<Be32> = attr(2);
/// `NFTA_PAYLOAD_DREG`.
const PAYLOAD_DREG: Attr<Be32> = attr(1);
/// `NFTA_PAYLOAD_BASE`.
const PAYLOAD_BASE: Attr<Be32> = attr(2);
/// `NFTA_PAYLOAD_OFFSET`.
const PAYLOAD_OFFSET: Attr<Be32> = attr(3);
/// `NFTA_PAYLOAD_LEN`.
const PAYLOAD_LEN: Attr<Be32> = attr(4);
/// `NFTA_BITWISE_SREG`.
const BITWISE_SREG: Attr<Be32> = attr(1);
/// `NFTA_BITWISE_DREG`.
const BITWISE_DREG: Attr<Be32> = attr(2);
/// `NFTA_BITWISE_LEN`.
const BITWISE_LEN: Attr<Be32> = attr(3);
/// `NFTA_BITWISE_MASK`.
const BITWISE_MASK: Attr<Nest> = attr(4);
/// `NFTA_BITWISE_XOR`.
const BITWISE_XOR: Attr<Nest> = attr(5);
/// `NFTA_CMP_SREG`.
const CMP_SREG: Attr<Be32> = attr(1);
/// `NFTA_CMP_OP`.
pub(super) const CMP_OP: Attr<Be32> = attr(2);
/// `NFTA_CMP_DATA`.
pub(super) const CMP_DATA: Attr<Nest> = attr(3);
/// `NFTA_RT_DREG`.
const RT_DREG: Attr<Be32> = attr(1);
/// `NFTA_RT_KEY`.
const RT_KEY: Attr<Be32> = attr(2);
/// `NFTA_BYTEORDER_SREG`.
const BYTEORDER_SREG: Attr<Be32> = attr(1);
/// `NFTA_BYTEORDER_DREG`.
const BYTEORDER_DREG: Attr<Be32> = attr(2);
/// `NFTA_BYTEORDER_OP`.
const BYTEORDER_OP: Attr<Be32> = attr(3);
/// `NFTA_BYTEORDER_LEN`.
const BYTEORDER_LEN: Attr<Be32> = attr(4);
/// `NFTA_BYTEORDER_SIZE`.
const BYTEORDER_SIZE: Attr<Be32> = attr(5);
/// `NFTA_EXTHDR_TYPE`.
const EXTHDR_TYPE: Attr<u8> = attr(2);
/// `NFTA_EXTHDR_OFFSET`.
const EXTHDR_OFFSET: Attr<Be32> = attr(3);
/// `NFTA_EXTHDR_LEN`.
const EXTHDR_LEN: Attr<Be32> = attr(4);
/// `NFTA_EXTHDR_OP`.
const EXTHDR_OP: Attr<Be32> = attr(6);
/// `NFTA_EXTHDR_SREG`.
const EXTHDR_SREG: Attr<Be32> = attr(7);
/// `NFTA_FIB_DREG`.
const FIB_DREG: Attr<Be32> = attr(1);
/// `NFTA_FIB_RESULT`.
const FIB_RESULT: Attr<Be32> = attr(2);
/// `NFTA_FIB_FLAGS`.
const FIB_FLAGS: Attr<Be32> = attr(3);
/// `NFTA_IMMEDIATE_DREG`.
const IMMEDIATE_DREG: Attr<Be32> = attr(1);
/// `NFTA_IMMEDIATE_DATA`.
pub(super) const IMMEDIATE_DATA: Attr<Nest> = attr(2);
/// `NFTA_NAT_TYPE`.
const NAT_TYPE: Attr<Be32> = attr(1);
/// `NFTA_NAT_FAMILY`.
const NAT_FAMILY: Attr<Be32> = attr(2);
/// `NFTA_NAT_REG_ADDR_MIN`.
const NAT_ADDRESS: Attr<Be32> = attr(3);
/// `NFTA_NAT_REG_PROTO_MIN`.
const NAT_PORT: Attr<Be32> = attr(5);
/// `NFTA_CT_DREG`.
const CT_DREG: Attr<Be32> = attr(1);
/// `NFTA_CT_KEY`.
const CT_KEY: Attr<Be32> = attr(2);
/// `NFTA_DATA_VALUE`.
pub(super) const VALUE: Attr<[u8]> = attr(1);
/// `NFTA_DATA_VERDICT`.
pub(super) const VERDICT: Attr<Nest> = attr(2);
/// `NFTA_VERDICT_CODE`.
pub(super) const CODE: Attr<Be32> = attr(1);
/// `NFTA_VERDICT_CHAIN`.
pub(super) const GOAL: Attr<str> = attr(2);

/// `NFT_REG_VERDICT`.
const REG_VERDICT: Be32 = Be32(0);
/// `NFT_REG_1`, the first register of 16 bytes. Only [`Expr::Dnat`], which takes two values, needs another.
const REG_1: Be32 = Be32(1);
/// `NFT_REG_2`.
const REG_2: Be32 = Be32(2);
/// `NFT_FIB_RESULT_ADDRTYPE`.
const ADDRTYPE: Be32 = Be32(3);
/// `NFTA_FIB_F_DADDR`.
const DADDR: Be32 = Be32(2);
/// `NFT_NAT_DNAT`.
const DNAT: Be32 = Be32(1);
/// `NFT_RT_TCPMSS`.
const TCPMSS: Be32 = Be32(3);
/// `NFT_BYTEORDER_HTON`.
const HTON: Be32 = Be32(1);
/// `NFT_EXTHDR_OP_TCPOPT`.
const TCPOPT: Be32 = Be32(1);

/// What the kernel knows of a packet besides its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meta {
    /// The link that it came by.
    Iifname,
    /// The link that it leaves by.
    Oifname,
    /// The protocol that it carries.
    L4proto,
}

impl Meta {
    /// nft's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Iifname => "iifname",
            Self::Oifname => "oifname",
            Self::L4proto => "l4proto",
        }
    }
}

/// What the kernel knows of the connection that a packet belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ct {
    /// Its state: [`ESTABLISHED`] and the like.
    State,
    /// What has been done to it: [`DNATTED`] and the like.
    Status,
}

/// `NF_CT_STATE_BIT(IP_CT_ESTABLISHED)`: packets have been seen both ways.
pub const ESTABLISHED: u32 = 1 << 1;
/// `NF_CT_STATE_BIT(IP_CT_RELATED)`: it results from another one, as an ICMP error does.
pub const RELATED: u32 = 1 << 2;
/// `IPS_DST_NAT`: its destination was changed.
pub const DNATTED: u32 = 1 << 5;

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is dropped.
    Drop,
    /// It leaves the chain, and goes on to the next base chain of the hook.
    Accept,
}

/// Where in a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Base {
    /// From the start of the IP header.
    Network,
    /// From the start of the header after that.
    Transport,
}

/// An expression. `Display` ([`super::notation`]) is the notation of `nft --debug=netlink`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expr {
    /// Loads what the kernel knows of the packet into the register.
    Meta(Meta),
    /// Loads what the kernel knows of the packet's connection into the register.
    Ct(Ct),
    /// Loads bytes of the packet into the register.
    Payload {
        /// From where.
        base: Base,
        /// How far from there.
        offset: u8,
        /// How many.
        length: u8,
    },
    /// Masks the register: a bitwise AND.
    Mask(Vec<u8>),
    /// Goes on only if the register has this value.
    Equal(Vec<u8>),
    /// Goes on only if it has not.
    NotEqual(Vec<u8>),
    /// Loads the size of the largest TCP segment that the packet's route can carry into the register.
    RouteMss,
    /// Turns the register's first two bytes into network order.
    Hton16,
    /// Writes the register's first two bytes into a TCP option of the packet, if it has that one with a larger value.
    TcpOption {
        /// The option (RFC 9293, section 3.1).
        kind: u8,
        /// Where in it.
        offset: u8,
    },
    /// Loads the type (`RTN_*`) of the packet's destination address into the register.
    DestinationType,
    /// Loads an address into the register.
    Address(IpAddr),
    /// Loads a port into the second register.
    Port(u16),
    /// Sends the packet to the address of this family in the register and the port in the second one.
    Dnat(Family),
    /// Gives the packet the address of its outgoing link as source.
    Masquerade,
    /// The end of the rule.
    Verdict(Verdict),
}

/// An address as it is in a packet.
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

/// A number as the kernel takes it.
fn number(n: impl Into<u32>) -> Be32 {
    Be32(n.into())
}

impl Expr {
    /// A link's name to compare the register with, which is done as a whole: IFNAMSIZ bytes, zeroes after the name.
    pub fn link_name(name: &str) -> Vec<u8> {
        let mut bytes = name.as_bytes().to_vec();
        bytes.resize(16, 0);
        bytes
    }

    /// Only packets whose connection has one of these bits.
    pub fn ct(key: Ct, bits: u32) -> [Self; 3] {
        let mask = Self::Mask(bits.to_ne_bytes().to_vec());
        [Self::Ct(key), mask, Self::NotEqual(vec![0; 4])]
    }

    /// Its name on the wire.
    fn name(&self) -> &'static str {
        match self {
            Self::Meta(_) => "meta",
            Self::Ct(_) => "ct",
            Self::Payload { .. } => "payload",
            Self::Mask(_) => "bitwise",
            Self::Equal(_) | Self::NotEqual(_) => "cmp",
            Self::RouteMss => "rt",
            Self::Hton16 => "byteorder",
            Self::TcpOption { .. } => "exthdr",
            Self::DestinationType => "fib",
            Self::Address(_) | Self::Port(_) | Self::Verdict(_) => "immediate",
            Self::Dnat(_) => "nat",
            Self::Masquerade => "masq",
        }
    }

    /// Appends it, as an element of a rule's list.
    pub fn put(&self, message: Message) -> Message {
        message
            .put(rule::EXPR_NAME, self.name())
            .nest(rule::EXPR_DATA, |m| self.data(m))
    }

    /// Its own attributes, in the order in which nft has them.
    fn data(&self, m: Message) -> Message {
        let compare = |m: Message, op, value: &Vec<u8>| {
            m.put(CMP_SREG, &REG_1)
                .put(CMP_OP, &Be32(op))
                .nest(CMP_DATA, |m| m.put(VALUE, value.as_slice()))
        };
        match self {
            Self::Meta(key) => m.put(META_KEY, &meta_number(*key)).put(META_DREG, &REG_1),
            Self::Ct(key) => m.put(CT_KEY, &ct_number(*key)).put(CT_DREG, &REG_1),
            Self::Payload {
                base,
                offset,
                length,
            } => m
                .put(PAYLOAD_DREG, &REG_1)
                .put(PAYLOAD_BASE, &base_number(*base))
                .put(PAYLOAD_OFFSET, &number(*offset))
                .put(PAYLOAD_LEN, &number(*length)),
            Self::Mask(mask) => m
                .put(BITWISE_SREG, &REG_1)
                .put(BITWISE_DREG, &REG_1)
                .put(
                    BITWISE_LEN,
                    &Be32(u32::try_from(mask.len()).unwrap_or(u32::MAX)),
                )
                .nest(BITWISE_MASK, |m| m.put(VALUE, mask.as_slice()))
                .nest(BITWISE_XOR, |m| {
                    m.put(VALUE, vec![0; mask.len()].as_slice())
                }),
            Self::Equal(value) => compare(m, 0, value),
            Self::NotEqual(value) => compare(m, 1, value),
            Self::RouteMss => m.put(RT_KEY, &TCPMSS).put(RT_DREG, &REG_1),
            Self::Hton16 => m
                .put(BYTEORDER_SREG, &REG_1)
                .put(BYTEORDER_DREG, &REG_1)
                .put(BYTEORDER_OP, &HTON)
                .put(BYTEORDER_LEN, &Be32(2))
                .put(BYTEORDER_SIZE, &Be32(2)),
            Self::TcpOption { kind, offset } => m
                .put(EXTHDR_SREG, &REG_1)
                .put(EXTHDR_TYPE, kind)
                .put(EXTHDR_OFFSET, &number(*offset))
                .put(EXTHDR_LEN, &Be32(2))
                .put(EXTHDR_OP, &TCPOPT),
            Self::DestinationType => m
                .put(FIB_DREG, &REG_1)
                .put(FIB_RESULT, &ADDRTYPE)
                .put(FIB_FLAGS, &DADDR),
            Self::Address(address) => m.put(IMMEDIATE_DREG, &REG_1).nest(IMMEDIATE_DATA, |m| {
                m.put(VALUE, octets(*address).as_slice())
            }),
            Self::Port(port) => m.put(IMMEDIATE_DREG, &REG_2).nest(IMMEDIATE_DATA, |m| {
                m.put(VALUE, port.to_be_bytes().as_slice())
            }),
            Self::Dnat(family) => m
                .put(NAT_TYPE, &DNAT)
                .put(NAT_FAMILY, &number(family.number()))
                .put(NAT_ADDRESS, &REG_1)
                .put(NAT_PORT, &REG_2),
            Self::Masquerade => m,
            Self::Verdict(verdict) => m
                .put(IMMEDIATE_DREG, &REG_VERDICT)
                .nest(IMMEDIATE_DATA, |m| {
                    m.nest(VERDICT, |m| m.put(CODE, &verdict_number(*verdict)))
                }),
        }
    }
}

/// `NFT_META_*`.
pub(super) fn meta_number(key: Meta) -> Be32 {
    Be32(match key {
        Meta::Iifname => 6,
        Meta::Oifname => 7,
        Meta::L4proto => 16,
    })
}

/// `NFT_CT_*`.
fn ct_number(key: Ct) -> Be32 {
    Be32(match key {
        Ct::State => 0,
        Ct::Status => 2,
    })
}

/// `NF_DROP`, `NF_ACCEPT`.
pub(super) fn verdict_number(verdict: Verdict) -> Be32 {
    Be32(match verdict {
        Verdict::Drop => 0,
        Verdict::Accept => 1,
    })
}

/// `NFT_PAYLOAD_*`.
fn base_number(base: Base) -> Be32 {
    Be32(match base {
        Base::Network => 1,
        Base::Transport => 2,
    })
}

/// Whether the kernel has every expression of a rule as we send it, and no other. It may report more attributes of each
/// than were sent.
pub fn same(wanted: Attrs<'_>, there: Attrs<'_>) -> bool {
    let (wanted, there): (Vec<_>, Vec<_>) = (wanted.collect(), there.collect());
    wanted.len() == there.len()
        && wanted.iter().zip(&there).all(|((_, wanted), (_, there))| {
            let (wanted, there) = (Attrs(wanted), Attrs(there));
            let (mut data, has) = (told(wanted), told(there));
            wanted.get(rule::EXPR_NAME) == there.get(rule::EXPR_NAME)
                && data.all(|(kind, payload)| {
                    let mut has = has;
                    has.any(|(other, value)| {
                        other == kind && (value == payload || same_value(payload, value))
                    })
                })
        })
}

/// The attributes of an expression.
fn told(expr: Attrs<'_>) -> Attrs<'_> {
    expr.get(rule::EXPR_DATA).unwrap_or(Attrs(&[]))
}

/// Whether two payloads that are nests have the same value or verdict in them, whose bytes may differ: NLA_F_NESTED is
/// the sender's choice.
fn same_value(a: &[u8], b: &[u8]) -> bool {
    let value = |bytes| Attrs(bytes).get(VALUE);
    let verdict = |bytes| Attrs(bytes).get(VERDICT)?.get(CODE);
    (value(a).is_some() && value(a) == value(b))
        || (verdict(a).is_some() && verdict(a) == verdict(b))
}
