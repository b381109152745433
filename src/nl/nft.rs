//! nf_tables (linux/netfilter/nf_tables.h): a table of our own, made whole and dropped whole in one batch. All numbers
//! are in network byte order; the constants say so.

pub mod expr;

use rustix::io::Errno;

use super::message::{Attr, Attrs, Be32, List, Message, Nest, attr};
use super::{Socket, flags};
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

/// A hook of the kernel's, where chains begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hook {
    /// Packets that pass through: `type filter hook forward priority mangle`.
    Forward,
    /// Packets that come: `type nat hook prerouting priority dstnat`.
    Prerouting,
    /// Packets of the machine's own: `type nat hook output priority -100`.
    Output,
    /// Packets that leave: `type nat hook postrouting priority srcnat`.
    Postrouting,
}

impl Hook {
    /// The chain's type, `NF_INET_*`, and `NF_IP_PRI_*`.
    fn numbers(self) -> (&'static str, u32, i32) {
        match self {
            Self::Forward => ("filter", 2, -150),
            Self::Prerouting => ("nat", 0, -100),
            Self::Output => ("nat", 3, -100),
            Self::Postrouting => ("nat", 4, 100),
        }
    }
}

/// A chain at a hook.
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// Where it begins.
    pub hook: Hook,
    /// Its rules.
    pub rules: Vec<Vec<Expr>>,
}

/// `NF_ACCEPT`.
const ACCEPT: Be32 = Be32(1);

/// A table of family `ip`.
pub struct Table<'a> {
    /// Its name.
    pub name: &'a str,
    /// All that is in it.
    pub chains: Vec<Chain>,
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

impl Table<'_> {
    /// The message that makes a chain.
    fn new_chain(&self, chain: &Chain) -> Message {
        let (kind, hook, priority) = chain.hook.numbers();
        let priority = Be32(u32::from_ne_bytes(priority.to_ne_bytes()));
        Message::new(NEWCHAIN, flags::CREATE | flags::EXCL, &IPV4)
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
        Message::new(NEWRULE, flags::CREATE | flags::APPEND, &IPV4)
            .put(rule::TABLE, self.name)
            .put(rule::CHAIN, chain.name)
            .list(rule::EXPRESSIONS, rule, |m, expr| expr.put(m))
    }

    /// The messages that make the table.
    pub fn messages(&self) -> Vec<Message> {
        let table =
            Message::new(NEWTABLE, flags::CREATE | flags::EXCL, &IPV4).put(table::NAME, self.name);
        let mut batch = vec![table];
        for chain in &self.chains {
            batch.push(self.new_chain(chain));
            batch.extend(chain.rules.iter().map(|rule| self.new_rule(chain, rule)));
        }
        batch
    }

    /// Makes the table, or nothing.
    pub fn create(&self, socket: &mut Socket) -> Result<(), Why> {
        socket.batch(self.messages())
    }

    /// Compares what the kernel has with what [`Self::create`] sends.
    pub fn observe(&self, socket: &mut Socket) -> Result<Found, Why> {
        let table = Message::new(GETTABLE, 0, &IPV4).put(table::NAME, self.name);
        match socket.get(table) {
            Err(Why::Kernel(Errno::NOENT, _)) => return Ok(Found::Absent),
            other => drop(other?),
        }
        for chain in &self.chains {
            if !self.has_chain(socket, chain)? || !self.has_rules(socket, chain)? {
                return Ok(Found::Other);
            }
        }
        Ok(Found::Same)
    }

    /// Whether a chain is there, at its hook.
    fn has_chain(&self, socket: &mut Socket, chain: &Chain) -> Result<bool, Why> {
        let ask = Message::new(GETCHAIN, 0, &IPV4)
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
        Ok(place(wanted.after(IPV4.len()))
            == place(Attrs(there.get(IPV4.len()..).unwrap_or_default())))
    }

    /// Whether a chain has its rules, and no others.
    fn has_rules(&self, socket: &mut Socket, chain: &Chain) -> Result<bool, Why> {
        let ask = Message::new(GETRULE, 0, &IPV4)
            .put(rule::TABLE, self.name)
            .put(rule::CHAIN, chain.name);
        let rows = socket.dump(ask)?;
        let mut there = rows.iter().filter(|row| row.kind == NEWRULE);
        let all = chain.rules.iter().all(|wanted| {
            let wanted = self.new_rule(chain, wanted);
            let there = there
                .next()
                .and_then(|row| Attrs(row.body.get(IPV4.len()..)?).get(rule::EXPRESSIONS));
            let wanted = wanted.after(IPV4.len()).get(rule::EXPRESSIONS);
            wanted
                .zip(there)
                .is_some_and(|(wanted, there)| expr::same(wanted, there))
        });
        Ok(all && there.next().is_none())
    }
}

/// `nft delete table ip NAME`.
pub fn drop_table(socket: &mut Socket, name: &str) -> Result<(), Why> {
    socket.batch(vec![
        Message::new(DELTABLE, 0, &IPV4).put(table::NAME, name),
    ])
}
