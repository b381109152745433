//! nf_tables (linux/netfilter/nf_tables.h): a table of our own, made whole and dropped whole in one batch. All numbers
//! are in network byte order; the constants say so.

use std::fmt;
use std::net::Ipv4Addr;

use rustix::io::Errno;

use super::message::{Attr, Attrs, Be32, List, Message, Nest, attr};
use super::{Socket, flags};
use crate::error::Why;

/// `NFNL_SUBSYS_NFTABLES`, in the upper byte of a message's type.
const SUBSYSTEM: u16 = 10 << 8;
/// `NFNL_MSG_BATCH_BEGIN`.
const BATCH_BEGIN: u16 = 16;
/// `NFNL_MSG_BATCH_END`.
const BATCH_END: u16 = 17;
/// `NFT_MSG_NEWTABLE`.
const NEWTABLE: u16 = SUBSYSTEM;
/// `NFT_MSG_DELTABLE`.
const DELTABLE: u16 = SUBSYSTEM | 2;
/// `NFT_MSG_NEWCHAIN`.
const NEWCHAIN: u16 = SUBSYSTEM | 3;
/// `NFT_MSG_GETCHAIN`.
const GETCHAIN: u16 = SUBSYSTEM | 4;
/// `NFT_MSG_NEWRULE`.
const NEWRULE: u16 = SUBSYSTEM | 6;
/// `NFT_MSG_GETRULE`.
const GETRULE: u16 = SUBSYSTEM | 7;

/// `NFTA_TABLE_*`.
mod table {
    use super::{Attr, attr};
    /// `NFTA_TABLE_NAME`.
    pub(super) const NAME: Attr<str> = attr(1);
}

/// `NFTA_CHAIN_*` and `NFTA_HOOK_*`.
mod chain {
    use super::{Attr, Be32, Nest, attr};
    /// `NFTA_CHAIN_TABLE`.
    pub(super) const TABLE: Attr<str> = attr(1);
    /// `NFTA_CHAIN_NAME`.
    pub(super) const NAME: Attr<str> = attr(3);
    /// `NFTA_CHAIN_HOOK`.
    pub(super) const HOOK: Attr<Nest> = attr(4);
    /// `NFTA_CHAIN_POLICY`.
    pub(super) const POLICY: Attr<Be32> = attr(5);
    /// `NFTA_CHAIN_TYPE`.
    pub(super) const TYPE: Attr<str> = attr(7);
    /// `NFTA_HOOK_HOOKNUM`.
    pub(super) const HOOKNUM: Attr<Be32> = attr(1);
    /// `NFTA_HOOK_PRIORITY`.
    pub(super) const PRIORITY: Attr<Be32> = attr(2);
}

/// `NFTA_RULE_*` and `NFTA_EXPR_*`.
mod rule {
    use super::{Attr, List, Nest, attr};
    /// `NFTA_RULE_TABLE`.
    pub(super) const TABLE: Attr<str> = attr(1);
    /// `NFTA_RULE_CHAIN`.
    pub(super) const CHAIN: Attr<str> = attr(2);
    /// `NFTA_RULE_EXPRESSIONS`.
    pub(super) const EXPRESSIONS: Attr<List> = attr(4);
    /// `NFTA_EXPR_NAME`.
    pub(super) const EXPR_NAME: Attr<str> = attr(1);
    /// `NFTA_EXPR_DATA`.
    pub(super) const EXPR_DATA: Attr<Nest> = attr(2);
}

/// The attributes of the expressions that we use, and the values of their numbers.
mod expr {
    use super::{Attr, Be32, Nest, attr};
    /// `NFTA_META_DREG`.
    pub(super) const META_DREG: Attr<Be32> = attr(1);
    /// `NFTA_META_KEY`.
    pub(super) const META_KEY: Attr<Be32> = attr(2);
    /// `NFTA_PAYLOAD_DREG`.
    pub(super) const PAYLOAD_DREG: Attr<Be32> = attr(1);
    /// `NFTA_PAYLOAD_BASE`.
    pub(super) const PAYLOAD_BASE: Attr<Be32> = attr(2);
    /// `NFTA_PAYLOAD_OFFSET`.
    pub(super) const PAYLOAD_OFFSET: Attr<Be32> = attr(3);
    /// `NFTA_PAYLOAD_LEN`.
    pub(super) const PAYLOAD_LEN: Attr<Be32> = attr(4);
    /// `NFTA_BITWISE_SREG`.
    pub(super) const BITWISE_SREG: Attr<Be32> = attr(1);
    /// `NFTA_BITWISE_DREG`.
    pub(super) const BITWISE_DREG: Attr<Be32> = attr(2);
    /// `NFTA_BITWISE_LEN`.
    pub(super) const BITWISE_LEN: Attr<Be32> = attr(3);
    /// `NFTA_BITWISE_MASK`.
    pub(super) const BITWISE_MASK: Attr<Nest> = attr(4);
    /// `NFTA_BITWISE_XOR`.
    pub(super) const BITWISE_XOR: Attr<Nest> = attr(5);
    /// `NFTA_CMP_SREG`.
    pub(super) const CMP_SREG: Attr<Be32> = attr(1);
    /// `NFTA_CMP_OP`.
    pub(super) const CMP_OP: Attr<Be32> = attr(2);
    /// `NFTA_CMP_DATA`.
    pub(super) const CMP_DATA: Attr<Nest> = attr(3);
    /// `NFTA_DATA_VALUE`.
    pub(super) const VALUE: Attr<[u8]> = attr(1);
    /// `NFT_REG_1`, the first register of 16 bytes.
    pub(super) const REG_1: Be32 = Be32(1);
    /// `NFT_META_OIFNAME`.
    pub(super) const OIFNAME: Be32 = Be32(7);
    /// `NFT_PAYLOAD_NETWORK_HEADER`.
    pub(super) const NETWORK_HEADER: Be32 = Be32(1);
}

/// `struct nfgenmsg` for a family: family, version, resource.
const fn nfgen(family: u8, resource: u8) -> [u8; 4] {
    [family, 0, 0, resource]
}

/// `NFPROTO_IPV4`.
const IPV4: [u8; 4] = nfgen(2, 0);

/// Opens a batch: its resource is the subsystem, in network order.
pub fn batch_begin() -> Message {
    Message::new(BATCH_BEGIN, 0, &nfgen(0, 10))
}

/// Closes it.
pub fn batch_end() -> Message {
    Message::new(BATCH_END, 0, &nfgen(0, 10))
}

/// An expression: what a rule is made of. `Display` is the notation of `nft --debug=netlink`.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Expr {
    /// The name of the link that a packet leaves by, into the register.
    MetaOifname,
    /// Bytes of the network header, into the register.
    Network {
        /// From where.
        offset: u8,
        /// How many.
        length: u8,
    },
    /// The register's bits under a mask.
    Mask([u8; 4]),
    /// On only if the register is this.
    Equal(Vec<u8>),
    /// On only if it is not.
    NotEqual(Vec<u8>),
    /// The packet leaves under the address of the link that it leaves by.
    Masquerade,
}

impl Expr {
    /// Its name on the wire.
    fn name(&self) -> &'static str {
        match self {
            Self::MetaOifname => "meta",
            Self::Network { .. } => "payload",
            Self::Mask(_) => "bitwise",
            Self::Equal(_) | Self::NotEqual(_) => "cmp",
            Self::Masquerade => "masq",
        }
    }

    /// Appends it, as an element of a rule's list.
    fn put(&self, message: Message) -> Message {
        use expr::REG_1;
        let length = |bytes: &[u8]| Be32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        let compare = |m: Message, op, value: &Vec<u8>| {
            m.put(expr::CMP_SREG, &REG_1)
                .put(expr::CMP_OP, &Be32(op))
                .nest(expr::CMP_DATA, |m| m.put(expr::VALUE, value.as_slice()))
        };
        message
            .put(rule::EXPR_NAME, self.name())
            .nest(rule::EXPR_DATA, |m| match self {
                Self::MetaOifname => m
                    .put(expr::META_KEY, &expr::OIFNAME)
                    .put(expr::META_DREG, &REG_1),
                Self::Network { offset, length } => m
                    .put(expr::PAYLOAD_DREG, &REG_1)
                    .put(expr::PAYLOAD_BASE, &expr::NETWORK_HEADER)
                    .put(expr::PAYLOAD_OFFSET, &Be32((*offset).into()))
                    .put(expr::PAYLOAD_LEN, &Be32((*length).into())),
                Self::Mask(mask) => m
                    .put(expr::BITWISE_SREG, &REG_1)
                    .put(expr::BITWISE_DREG, &REG_1)
                    .put(expr::BITWISE_LEN, &length(mask))
                    .nest(expr::BITWISE_MASK, |m| m.put(expr::VALUE, mask.as_slice()))
                    .nest(expr::BITWISE_XOR, |m| m.put(expr::VALUE, [0; 4].as_slice())),
                Self::Equal(value) => compare(m, 0, value),
                Self::NotEqual(value) => compare(m, 1, value),
                Self::Masquerade => m,
            })
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // nft shows registers as words of the machine.
        let words = |bytes: &[u8]| -> String {
            bytes
                .chunks(4)
                .map(|chunk| {
                    let mut word = [0; 4];
                    word.iter_mut()
                        .zip(chunk)
                        .for_each(|(to, from)| *to = *from);
                    format!("0x{:08x} ", u32::from_ne_bytes(word))
                })
                .collect()
        };
        match self {
            Self::MetaOifname => f.write_str("[ meta load oifname => reg 1 ]"),
            Self::Network { offset, length } => {
                write!(
                    f,
                    "[ payload load {length}b @ network header + {offset} => reg 1 ]"
                )
            }
            Self::Mask(mask) => write!(
                f,
                "[ bitwise reg 1 = ( reg 1 & {}) ^ 0x00000000 ]",
                words(mask)
            ),
            Self::Equal(value) => write!(f, "[ cmp eq reg 1 {}]", words(value)),
            Self::NotEqual(value) => write!(f, "[ cmp neq reg 1 {}]", words(value)),
            Self::Masquerade => f.write_str("[ masq ]"),
        }
    }
}

/// A chain at a hook of the kernel's.
struct Chain {
    /// Its name.
    name: &'static str,
    /// `filter`, `nat` or `route`.
    kind: &'static str,
    /// `NF_INET_*`.
    hook: u32,
    /// Where among the chains of the same hook.
    priority: i32,
    /// Its rules.
    rules: Vec<Vec<Expr>>,
}

/// `NF_INET_POST_ROUTING`.
const POSTROUTING: u32 = 4;
/// `NF_IP_PRI_NAT_SRC`.
const SRCNAT: i32 = 100;
/// `NF_ACCEPT`.
const ACCEPT: Be32 = Be32(1);
/// Where the source address is in an IPv4 header (RFC 791).
const SOURCE: u8 = 12;

/// The table of a jail: its packets leave under the machine's address.
pub struct Masquerade<'a> {
    /// The table's name.
    pub table: &'a str,
    /// Whose packets.
    pub source: (Ipv4Addr, u8),
    /// The link on which they keep their own address.
    pub except_oif: &'a str,
}

/// What there is of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// No table of this name.
    Absent,
    /// The very table.
    Same,
    /// A table of this name with something else in it.
    Other,
}

impl Masquerade<'_> {
    /// `ip saddr SOURCE oifname != "LINK" masquerade`, expression by expression as nft writes it.
    fn chain(&self) -> Chain {
        let (address, prefix) = self.source;
        let octets = address.octets();
        let mut rule = Vec::new();
        if prefix % 8 == 0 {
            // Whole bytes need no mask: fewer are loaded.
            let length = prefix / 8;
            rule.push(Expr::Network {
                offset: SOURCE,
                length,
            });
            rule.push(Expr::Equal(
                octets.get(..length.into()).unwrap_or_default().to_vec(),
            ));
        } else {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            rule.push(Expr::Network {
                offset: SOURCE,
                length: 4,
            });
            rule.push(Expr::Mask(mask.to_be_bytes()));
            rule.push(Expr::Equal(octets.to_vec()));
        }
        // The register is compared whole: IFNAMSIZ bytes, zeroes after the name.
        let mut name = self.except_oif.as_bytes().to_vec();
        name.resize(16, 0);
        rule.extend([Expr::MetaOifname, Expr::NotEqual(name), Expr::Masquerade]);
        Chain {
            name: "postrouting",
            kind: "nat",
            hook: POSTROUTING,
            priority: SRCNAT,
            rules: vec![rule],
        }
    }

    /// The message that makes the chain.
    fn new_chain(&self, chain: &Chain) -> Message {
        let priority = Be32(u32::from_ne_bytes(chain.priority.to_ne_bytes()));
        Message::new(NEWCHAIN, flags::CREATE | flags::EXCL, &IPV4)
            .put(chain::TABLE, self.table)
            .put(chain::NAME, chain.name)
            .nest(chain::HOOK, |m| {
                m.put(chain::HOOKNUM, &Be32(chain.hook))
                    .put(chain::PRIORITY, &priority)
            })
            .put(chain::POLICY, &ACCEPT)
            .put(chain::TYPE, chain.kind)
    }

    /// The message that appends a rule.
    fn new_rule(&self, chain: &Chain, rule: &[Expr]) -> Message {
        Message::new(NEWRULE, flags::CREATE | flags::APPEND, &IPV4)
            .put(rule::TABLE, self.table)
            .put(rule::CHAIN, chain.name)
            .list(rule::EXPRESSIONS, rule, |m, expr| expr.put(m))
    }

    /// Makes the table, or nothing.
    pub fn create(&self, socket: &mut Socket) -> Result<(), Why> {
        let chain = self.chain();
        let table =
            Message::new(NEWTABLE, flags::CREATE | flags::EXCL, &IPV4).put(table::NAME, self.table);
        let mut batch = vec![table, self.new_chain(&chain)];
        batch.extend(chain.rules.iter().map(|rule| self.new_rule(&chain, rule)));
        socket.batch(&batch)
    }

    /// Compares what the kernel has with what [`Self::create`] sends.
    pub fn observe(&self, socket: &mut Socket) -> Result<Found, Why> {
        let chain = self.chain();
        let ask = Message::new(GETCHAIN, 0, &IPV4)
            .put(chain::TABLE, self.table)
            .put(chain::NAME, chain.name);
        let there = match socket.get(&ask) {
            Err(Why::Kernel(Errno::NOENT, _)) => return self.without_chain(socket),
            other => other?,
        };
        let wanted = self.new_chain(&chain);
        let (wanted, there) = (
            wanted.after(4),
            there.map(|row| row.body).unwrap_or_default(),
        );
        let hook = |attrs: Attrs<'_>| {
            let hook = attrs.get(chain::HOOK)?;
            Some((
                hook.get(chain::HOOKNUM)?,
                hook.get(chain::PRIORITY)?,
                attrs.get(chain::TYPE)?,
            ))
        };
        if hook(wanted) != hook(Attrs(there.get(4..).unwrap_or_default())) {
            return Ok(Found::Other);
        }
        let ask = Message::new(GETRULE, 0, &IPV4)
            .put(rule::TABLE, self.table)
            .put(rule::CHAIN, chain.name);
        let rows = socket.dump(&ask)?;
        let mut rules = rows.iter().filter(|row| row.kind == NEWRULE);
        let same = chain.rules.iter().all(|wanted| {
            let wanted = self.new_rule(&chain, wanted);
            let there = rules
                .next()
                .and_then(|row| Attrs(row.body.get(4..)?).get(rule::EXPRESSIONS));
            wanted
                .after(4)
                .get(rule::EXPRESSIONS)
                .zip(there)
                .is_some_and(|(wanted, there)| same(wanted, there))
        });
        Ok(if same && rules.next().is_none() {
            Found::Same
        } else {
            Found::Other
        })
    }

    /// Whether there is a table at least.
    fn without_chain(&self, socket: &mut Socket) -> Result<Found, Why> {
        /// `NFT_MSG_GETTABLE`.
        const GETTABLE: u16 = SUBSYSTEM | 1;
        match socket.get(&Message::new(GETTABLE, 0, &IPV4).put(table::NAME, self.table)) {
            Err(Why::Kernel(Errno::NOENT, _)) => Ok(Found::Absent),
            other => other.map(|_| Found::Other),
        }
    }
}

/// Whether the kernel has every expression of a rule as we send it, and no other. It may tell more of each than it was
/// told.
fn same(wanted: Attrs<'_>, there: Attrs<'_>) -> bool {
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

/// Whether two payloads that are nests have the same value in them: whether the nest is marked as one is the sender's
/// choice.
fn same_value(a: &[u8], b: &[u8]) -> bool {
    let value = |bytes| Attrs(bytes).get(expr::VALUE);
    value(a).is_some() && value(a) == value(b)
}

/// `nft delete table ip NAME`.
pub fn drop_table(socket: &mut Socket, name: &str) -> Result<(), Why> {
    socket.batch(&[Message::new(DELTABLE, 0, &IPV4).put(table::NAME, name)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_notation_of_nft() {
        let table = Masquerade {
            table: "t",
            source: (Ipv4Addr::new(10, 0, 0, 0), 24),
            except_oif: "kak-USER",
        };
        let shown: Vec<String> = table
            .chain()
            .rules
            .concat()
            .iter()
            .map(ToString::to_string)
            .collect();
        // nft --debug=netlink add rule ip t postrouting ip saddr 10.0.0.0/24 oifname != kak-USER masquerade
        assert_eq!(
            shown,
            [
                "[ payload load 3b @ network header + 12 => reg 1 ]",
                "[ cmp eq reg 1 0x0000000a ]",
                "[ meta load oifname => reg 1 ]",
                "[ cmp neq reg 1 0x2d6b616b 0x52455355 0x00000000 0x00000000 ]",
                "[ masq ]",
            ]
        );
    }
}
