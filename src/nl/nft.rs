//! nf_tables (linux/netfilter/nf_tables.h): a table of our own, made and dropped as a whole, each in one batch. Rules
//! in tables of others are in [`foreign`]. All numbers are in network byte order; the constants say so.

pub mod expr;
pub mod foreign;
mod notation;

use std::fmt;
use std::net::IpAddr;

use rustix::io::Errno;

use super::message::{Attr, Attrs, Be32, List, Message, Nest, attr};
use super::{Row, Socket, flags};
use crate::error::Why;
use expr::Expr;

/// `NFNL_SUBSYS_NFTABLES`, in the upper byte of a message's type.
const SUBSYSTEM: u16 = 10 << 8;
/// `NFNL_MSG_BATCH_BEGIN`.
const BATCH_BEGIN: u16 = 16;
/// `NFNL_MSG_BATCH_END`.
const BATCH_END: u16 = 17;
/// `NFT_MSG_NEWTABLE`.
const NEWTABLE: u16 = SUBSYSTEM;
/// `NFT_MSG_GETTABLE`.
const GETTABLE: u16 = SUBSYSTEM | 1;
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
/// `NFT_MSG_DELRULE`.
const DELRULE: u16 = SUBSYSTEM | 8;

/// `NFTA_TABLE_*`.
mod table {
    use super::{Attr, Be32, attr};
    /// `NFTA_TABLE_NAME`.
    pub(super) const NAME: Attr<str> = attr(1);
    /// `NFTA_TABLE_FLAGS`.
    pub(super) const FLAGS: Attr<Be32> = attr(2);
    /// `NFTA_TABLE_USERDATA`, since Linux 5.10.
    pub(super) const USERDATA: Attr<[u8]> = attr(6);
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
    /// `NFTA_RULE_HANDLE`: a number that no other rule of the table has.
    pub(super) const HANDLE: Attr<[u8]> = attr(3);
    /// `NFTA_RULE_EXPRESSIONS`.
    pub(super) const EXPRESSIONS: Attr<List> = attr(4);
    /// `NFTA_RULE_USERDATA`.
    pub(super) const USERDATA: Attr<[u8]> = attr(7);
    /// `NFTA_EXPR_NAME`.
    pub(super) const EXPR_NAME: Attr<str> = attr(1);
    /// `NFTA_EXPR_DATA`.
    pub(super) const EXPR_DATA: Attr<Nest> = attr(2);
}

/// `struct nfgenmsg` for a family: family, version, resource.
const fn nfgen(family: u8, resource: u8) -> [u8; 4] {
    [family, 0, 0, resource]
}

/// The size of that.
const HEAD: usize = 4;

/// A family of tables: which packets go through them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4's and IPv6's.
    Inet,
    /// IPv4's.
    Ipv4,
    /// IPv6's.
    Ipv6,
}

impl Family {
    /// All of them that are of interest here.
    pub const ALL: [Self; 3] = [Self::Inet, Self::Ipv4, Self::Ipv6];

    /// The family of the packets of an address, and of no others.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() {
            Self::Ipv4
        } else {
            Self::Ipv6
        }
    }

    /// `NFPROTO_*`.
    pub fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ipv4 => 2,
            Self::Ipv6 => 10,
        }
    }

    /// The fixed part of its messages.
    pub fn head(self) -> [u8; HEAD] {
        nfgen(self.number(), 0)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inet => "inet",
            Self::Ipv4 => "ip",
            Self::Ipv6 => "ip6",
        })
    }
}

/// User data with a comment, as nft gives it to a rule or a table: `NFTNL_UDATA_*_COMMENT`, length, text and NUL.
fn comment(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
    [&[COMMENT, length][..], text.as_bytes(), &[0]].concat()
}

/// `NFTNL_UDATA_RULE_COMMENT` and `NFTNL_UDATA_TABLE_COMMENT`.
const COMMENT: u8 = 0;

/// Whether user data has this comment in it.
fn has_comment(userdata: &[u8], text: &str) -> bool {
    comment_of(userdata) == Some(text.as_bytes())
}

/// The comment that user data has in it.
fn comment_of(mut userdata: &[u8]) -> Option<&[u8]> {
    while let [kind, length, rest @ ..] = userdata {
        let (value, rest) = rest.split_at_checked(usize::from(*length))?;
        if *kind == COMMENT {
            return Some(value.strip_suffix(&[0]).unwrap_or(value));
        }
        userdata = rest;
    }
    None
}

/// Opens a batch: its resource is the subsystem, in network order.
pub fn batch_begin() -> Message {
    Message::new(BATCH_BEGIN, 0, &nfgen(0, 10))
}

/// Closes it.
pub fn batch_end() -> Message {
    Message::new(BATCH_END, 0, &nfgen(0, 10))
}

/// A hook of the kernel, at which a base chain is registered. `Display` is nft's line for such a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hook {
    /// Incoming packets, before connection tracking has looked at them.
    Raw,
    /// Incoming packets, whose destination may be changed.
    Prerouting,
    /// Forwarded packets.
    Forward,
    /// The machine's own packets, whose destination may be changed.
    Output,
    /// Outgoing packets, whose source may be changed.
    Postrouting,
}

impl Hook {
    /// The chain's type, `NF_INET_*`, and `NF_IP_PRI_*`.
    fn numbers(self) -> (&'static str, u32, i32) {
        match self {
            Self::Raw => ("filter", 0, -300),
            Self::Prerouting => ("nat", 0, -100),
            Self::Forward => ("filter", 2, -150),
            Self::Output => ("nat", 3, -100),
            Self::Postrouting => ("nat", 4, 100),
        }
    }

    /// nft's name for the hook, and for the priority where it has one there.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Raw => ("prerouting", "raw"),
            Self::Prerouting => ("prerouting", "dstnat"),
            Self::Forward => ("forward", "mangle"),
            Self::Output => ("output", "-100"),
            Self::Postrouting => ("postrouting", "srcnat"),
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((kind, _, _), (hook, priority)) = (self.numbers(), self.names());
        write!(
            f,
            "type {kind} hook {hook} priority {priority}; policy accept;"
        )
    }
}

/// A chain at a hook.
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// The hook.
    pub hook: Hook,
    /// Its rules.
    pub rules: Vec<Vec<Expr>>,
}

/// `NF_ACCEPT`.
const ACCEPT: Be32 = Be32(1);

/// A table of our own.
pub struct Table<'a> {
    /// Its family.
    pub family: Family,
    /// Its name.
    pub name: &'a str,
    /// Its comment, by which it is known to be ours.
    pub mark: &'a str,
    /// All that is in it.
    pub chains: Vec<Chain>,
}

/// What the kernel has of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// No table of this name.
    Absent,
    /// Exactly this table.
    Same,
    /// Our table, by its mark, with something else in it.
    Changed,
    /// A table of this name that is somebody else's.
    Other,
}

impl Table<'_> {
    /// The message that makes the table.
    fn new_table(&self) -> Message {
        Message::new(NEWTABLE, flags::CREATE | flags::EXCL, &self.family.head())
            .put(table::NAME, self.name)
            .put(table::USERDATA, comment(self.mark).as_slice())
    }

    /// The message that makes a chain.
    fn new_chain(&self, chain: &Chain) -> Message {
        let (kind, hook, priority) = chain.hook.numbers();
        let priority = Be32(u32::from_ne_bytes(priority.to_ne_bytes()));
        Message::new(NEWCHAIN, flags::CREATE | flags::EXCL, &self.family.head())
            .put(chain::TABLE, self.name)
            .put(chain::NAME, chain.name)
            .nest(chain::HOOK, |m| {
                m.put(chain::HOOKNUM, &Be32(hook))
                    .put(chain::PRIORITY, &priority)
            })
            .put(chain::POLICY, &ACCEPT)
            .put(chain::TYPE, kind)
    }

    /// The message that appends a rule.
    fn new_rule(&self, chain: &Chain, rule: &[Expr]) -> Message {
        Message::new(NEWRULE, flags::CREATE | flags::APPEND, &self.family.head())
            .put(rule::TABLE, self.name)
            .put(rule::CHAIN, chain.name)
            .list(rule::EXPRESSIONS, rule, |m, expr| expr.put(m))
    }

    /// The messages that make all of it.
    pub fn messages(&self) -> Vec<Message> {
        let mut batch = vec![self.new_table()];
        for chain in &self.chains {
            batch.push(self.new_chain(chain));
            batch.extend(chain.rules.iter().map(|rule| self.new_rule(chain, rule)));
        }
        batch
    }

    /// Makes the whole table, or nothing.
    pub fn create(&self, socket: &mut Socket) -> Result<(), Why> {
        socket.batch(self.messages())
    }

    /// Compares what the kernel has with what [`Self::create`] sends.
    pub fn observe(&self, socket: &mut Socket) -> Result<Found, Why> {
        let ask = Message::new(GETTABLE, 0, &self.family.head()).put(table::NAME, self.name);
        let there = match socket.get(ask) {
            Err(Why::Kernel(Errno::NOENT, _)) => return Ok(Found::Absent),
            other => other?.map(|row| row.body).unwrap_or_default(),
        };
        for chain in &self.chains {
            if !self.has_chain(socket, chain)? || !self.has_rules(socket, chain)? {
                let userdata = Attrs(there.get(HEAD..).unwrap_or_default()).get(table::USERDATA);
                let ours = userdata.is_some_and(|userdata| has_comment(userdata, self.mark));
                return Ok(if ours { Found::Changed } else { Found::Other });
            }
        }
        Ok(Found::Same)
    }

    /// Whether a chain is there, at its hook.
    fn has_chain(&self, socket: &mut Socket, chain: &Chain) -> Result<bool, Why> {
        let ask = Message::new(GETCHAIN, 0, &self.family.head())
            .put(chain::TABLE, self.name)
            .put(chain::NAME, chain.name);
        let there = match socket.get(ask) {
            Err(Why::Kernel(Errno::NOENT, _)) => return Ok(false),
            other => other?.map(|row| row.body).unwrap_or_default(),
        };
        let wanted = self.new_chain(chain);
        let place = |attrs: Attrs<'_>| {
            let hook = attrs.get(chain::HOOK)?;
            Some((
                hook.get(chain::HOOKNUM)?,
                hook.get(chain::PRIORITY)?,
                attrs.get(chain::TYPE)?,
            ))
        };
        Ok(place(wanted.after(HEAD)) == place(Attrs(there.get(HEAD..).unwrap_or_default())))
    }

    /// Whether a chain has its rules, and no others.
    fn has_rules(&self, socket: &mut Socket, chain: &Chain) -> Result<bool, Why> {
        let rows = rules(socket, self.family, self.name, chain.name)?;
        let mut there = rows.iter();
        let all = chain.rules.iter().all(|wanted| {
            let wanted = self.new_rule(chain, wanted);
            let there = there.next().and_then(rule_of);
            let wanted = wanted.after(HEAD).get(rule::EXPRESSIONS);
            wanted
                .zip(there.and_then(|there| there.get(rule::EXPRESSIONS)))
                .is_some_and(|(wanted, there)| expr::same(wanted, there))
        });
        Ok(all && there.next().is_none())
    }
}

/// `nft list chain FAMILY TABLE CHAIN`: its rules, in order.
fn rules(socket: &mut Socket, family: Family, table: &str, chain: &str) -> Result<Vec<Row>, Why> {
    let ask = Message::new(GETRULE, 0, &family.head())
        .put(rule::TABLE, table)
        .put(rule::CHAIN, chain);
    let mut rows = socket.dump(ask)?;
    rows.retain(|row| row.kind == NEWRULE);
    Ok(rows)
}

/// The attributes of a rule.
fn rule_of(row: &Row) -> Option<Attrs<'_>> {
    row.body.get(HEAD..).map(Attrs)
}

/// `nft delete table FAMILY NAME`.
pub fn drop_table(socket: &mut Socket, family: Family, name: &str) -> Result<(), Why> {
    socket.batch(vec![
        Message::new(DELTABLE, 0, &family.head()).put(table::NAME, name),
    ])
}
