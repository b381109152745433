//! Chains of others: which of them drop forwarded packets, and our rules at their heads, which bear our mark. Nothing
//! in them without that mark is ever changed.

use std::fmt;

use rustix::io::Errno;

use super::expr::{self, CMP_DATA, CMP_OP, CODE, Expr, GOAL, IMMEDIATE_DATA, META_KEY, Meta};
use super::expr::{VALUE, VERDICT, Verdict, verdict_number};
use super::{DELRULE, Family, Found, GETCHAIN, GETTABLE, HEAD, NEWRULE};
use super::{chain, comment, comment_of, has_comment, nfgen, rule, rule_of, rules, table};
use crate::error::Why;
use crate::nl::message::{Attr, Attrs, Be32, Message, attr};
use crate::nl::{Row, Socket, flags};

/// `NFTA_MATCH_NAME` and `NFTA_TARGET_NAME`.
const EXTENSION: Attr<str> = attr(1);
/// `NFTA_MATCH_INFO`.
const EXTENSION_INFO: Attr<[u8]> = attr(3);
/// `NF_INET_FORWARD`.
const FORWARD: Be32 = Be32(2);
/// `NFT_TABLE_F_DORMANT`: the table's chains are not active.
const DORMANT: u32 = 1;
/// `NFT_TABLE_F_OWNER`: only the process that made the table can change it.
const OWNER: u32 = 2;
/// `NFT_JUMP`.
const JUMP: Be32 = Be32((-3_i32).cast_unsigned());
/// `NFT_GOTO`.
const GOTO: Be32 = Be32((-4_i32).cast_unsigned());
/// `NFT_JUMP_STACK_SIZE`: the kernel refuses deeper jumps.
const DEPTH: usize = 16;
/// The chain that Docker leaves to others, and jumps to first.
const DOCKER_USER: &str = "DOCKER-USER";

/// A chain. `Display` is how a command of nft names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// Its table's family.
    pub family: Family,
    /// Its table.
    pub table: String,
    /// Its name.
    pub chain: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.family, self.table, self.chain)
    }
}

/// A base chain at the forward hook that drops the packets for which it has no other rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dropping {
    /// The chain at whose head an accept counts: the one that drops, or `DOCKER-USER` if that jumps to it.
    pub place: Place,
    /// Only the table's owner can put one there.
    pub closed: bool,
}

/// All base chains that drop forwarded packets.
pub fn dropping(socket: &mut Socket) -> Result<Vec<Dropping>, Why> {
    let all = nfgen(0, 0);
    let tables = socket.dump(Message::new(GETTABLE, 0, &all))?;
    let flags = |place: &Place| {
        let table = tables
            .iter()
            .filter(|row| family(row) == Some(place.family));
        let mut tables = table.filter_map(rule_of);
        tables
            .find(|attrs| attrs.get(table::NAME).as_ref() == Some(&place.table))
            .and_then(|attrs| attrs.get(table::FLAGS))
            .map_or(0, |flags| flags.0)
    };
    let mut found = Vec::new();
    for row in socket.dump(Message::new(GETCHAIN, 0, &all))? {
        let Some((mut place, drops)) = forward_chain(&row) else {
            continue;
        };
        let flags = flags(&place);
        if flags & DORMANT != 0 || !(drops || ends_in_drop(socket, &place, DEPTH)?) {
            continue;
        }
        let rows = rules(socket, place.family, &place.table, &place.chain)?;
        if rows
            .iter()
            .any(|row| goal(row).as_deref() == Some(DOCKER_USER))
        {
            place.chain = DOCKER_USER.into();
        }
        let closed = flags & OWNER != 0;
        found.push(Dropping { place, closed });
    }
    Ok(found)
}

/// All tables that bear a comment: family, name and comment.
pub fn commented(socket: &mut Socket) -> Result<Vec<(Family, String, String)>, Why> {
    let tables = socket.dump(Message::new(GETTABLE, 0, &nfgen(0, 0)))?;
    let read = |row: &Row| {
        let attrs = rule_of(row)?;
        let comment = attrs.get(table::USERDATA).and_then(comment_of)?;
        let comment = String::from_utf8_lossy(comment).into_owned();
        Some((family(row)?, attrs.get(table::NAME)?, comment))
    };
    Ok(tables.iter().filter_map(read).collect())
}

/// The family that a message is about.
fn family(row: &Row) -> Option<Family> {
    let number = row.body.first()?;
    Family::ALL
        .into_iter()
        .find(|family| family.number() == *number)
}

/// The filter chain at the forward hook that a message is about, and whether its policy is to drop.
fn forward_chain(row: &Row) -> Option<(Place, bool)> {
    let attrs = Attrs(row.body.get(HEAD..)?);
    let at_hook = attrs.get(chain::HOOK)?.get(chain::HOOKNUM)? == FORWARD;
    (at_hook && attrs.get(chain::TYPE)? == "filter").then_some(())?;
    let place = Place {
        family: family(row)?,
        table: attrs.get(chain::TABLE)?,
        chain: attrs.get(chain::NAME)?,
    };
    let drops = attrs.get(chain::POLICY) == Some(verdict_number(Verdict::Drop));
    Some((place, drops))
}

/// Whether the last rule of a chain drops or rejects every packet, or leads to a chain that does.
fn ends_in_drop(socket: &mut Socket, place: &Place, depth: usize) -> Result<bool, Why> {
    let rows = rules(socket, place.family, &place.table, &place.chain)?;
    let Some(last) = rows.last() else {
        return Ok(false);
    };
    match unconditional(last) {
        Some(Told::Refusal) => Ok(true),
        Some(Told::Lead(chain)) if depth > 0 => {
            let place = Place {
                chain,
                ..place.clone()
            };
            ends_in_drop(socket, &place, depth - 1)
        }
        _ => Ok(false),
    }
}

/// The chain that a rule sends every packet to.
fn goal(row: &Row) -> Option<String> {
    match unconditional(row)? {
        Told::Lead(chain) => Some(chain),
        _ => None,
    }
}

/// An expression of a rule, as far as it matters here.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Told {
    /// It does nothing to the packet.
    Nothing,
    /// It drops or rejects.
    Refusal,
    /// It accepts.
    Accept,
    /// It leads to another chain.
    Lead(String),
    /// The link's name is loaded.
    Way(Meta),
    /// What was loaded is compared with this, without zeroes at the end.
    Is(Vec<u8>),
    /// Whatever else.
    Other,
}

/// What a rule does with every packet; none where that depends on the packet.
fn unconditional(row: &Row) -> Option<Told> {
    let mut told = expressions(row)
        .into_iter()
        .filter(|told| *told != Told::Nothing);
    told.next().filter(|_| told.next().is_none())
}

/// The expressions of a rule.
fn expressions(row: &Row) -> Vec<Told> {
    let list = rule_of(row).and_then(|rule| rule.get(rule::EXPRESSIONS));
    let tell = |(_, element)| tell(Attrs(element)).unwrap_or(Told::Other);
    list.into_iter().flatten().map(tell).collect()
}

/// An expression.
fn tell(element: Attrs<'_>) -> Option<Told> {
    let data = || element.get(rule::EXPR_DATA);
    Some(match element.get(rule::EXPR_NAME)?.as_str() {
        "counter" | "log" => Told::Nothing,
        // iptables stores a comment as a match, which every packet passes.
        "match" if data()?.get(EXTENSION)? == "comment" => Told::Nothing,
        "target" if data()?.get(EXTENSION)? == "REJECT" => Told::Refusal,
        "reject" => Told::Refusal,
        "immediate" => {
            let verdict = data()?.get(IMMEDIATE_DATA)?.get(VERDICT)?;
            match verdict.get(CODE)? {
                code if code == verdict_number(Verdict::Drop) => Told::Refusal,
                code if code == verdict_number(Verdict::Accept) => Told::Accept,
                JUMP | GOTO => Told::Lead(verdict.get(GOAL)?),
                _ => Told::Other,
            }
        }
        "meta" => {
            let key = data()?.get(META_KEY)?;
            let ways = [Meta::Iifname, Meta::Oifname];
            Told::Way(
                ways.into_iter()
                    .find(|way| expr::meta_number(*way) == key)?,
            )
        }
        "cmp" if data()?.get(CMP_OP)? == Be32(0) => {
            let value = data()?.get(CMP_DATA)?.get(VALUE)?;
            Told::Is(text(value).to_vec())
        }
        _ => Told::Other,
    })
}

/// Bytes up to the first zero.
fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Two rules at the head of a chain that accept what comes from a link and what goes to it, and bear a mark.
pub struct Accept<'a> {
    /// The chain.
    pub place: &'a Place,
    /// The link.
    pub link: &'a str,
    /// The mark, which nft shows as a comment.
    pub mark: &'a str,
}

/// The ways of a link, in the order in which their rules are put at the head.
pub const WAYS: [Meta; 2] = [Meta::Iifname, Meta::Oifname];

impl Accept<'_> {
    /// A rule as nft has it.
    pub fn text(&self, way: Meta) -> String {
        let Self { link, mark, .. } = self;
        format!("{} \"{link}\" accept comment \"{mark}\"", way.word())
    }

    /// The message that puts a rule at the chain's head. iptables-nft refuses a table that contains a rule which it
    /// does not understand, so this is one that it does.
    fn new_rule(&self, way: Meta) -> Message {
        let rule = [
            Expr::Meta(way),
            Expr::Equal(Expr::link_name(self.link)),
            Expr::Verdict(Verdict::Accept),
        ];
        Message::new(NEWRULE, flags::CREATE, &self.place.family.head())
            .put(rule::TABLE, self.place.table.as_str())
            .put(rule::CHAIN, self.place.chain.as_str())
            .list(rule::EXPRESSIONS, &rule, |m, expr| expr.put(m))
            .put(rule::USERDATA, comment(self.mark).as_slice())
    }

    /// The message that takes a rule away.
    fn delete(&self, handle: &[u8]) -> Message {
        Message::new(DELRULE, 0, &self.place.family.head())
            .put(rule::TABLE, self.place.table.as_str())
            .put(rule::CHAIN, self.place.chain.as_str())
            .put(rule::HANDLE, handle)
    }

    /// Whether a rule bears the mark: as nft stores it, or as iptables-restore does with what iptables-save has saved.
    fn marks(&self, row: &Row) -> bool {
        let Some(rule) = rule_of(row) else {
            return false;
        };
        let by_nft = rule.get(rule::USERDATA);
        let by_iptables = |(_, element)| {
            let data = Attrs(element).get(rule::EXPR_DATA)?;
            (data.get(EXTENSION)? == "comment").then_some(data.get(EXTENSION_INFO)?)
        };
        let mut elements = rule.get(rule::EXPRESSIONS).into_iter().flatten();
        by_nft.is_some_and(|userdata| has_comment(userdata, self.mark))
            || elements
                .find_map(by_iptables)
                .is_some_and(|comment| text(comment) == self.mark.as_bytes())
    }

    /// Whether a rule is the one for a way.
    fn is_for(&self, row: &Row, way: Meta) -> bool {
        let link = Told::Is(self.link.as_bytes().to_vec());
        let told = expressions(row)
            .into_iter()
            .filter(|told| *told != Told::Nothing);
        told.eq([Told::Way(way), link, Told::Accept])
    }

    /// Which of them are there. A chain that is not there drops nothing, so then nothing is missing: [`Found::Same`].
    pub fn observe(&self, socket: &mut Socket) -> Result<Found, Why> {
        let Place {
            family,
            table,
            chain,
        } = self.place;
        let ask = Message::new(GETCHAIN, 0, &family.head())
            .put(chain::TABLE, table.as_str())
            .put(chain::NAME, chain.as_str());
        match socket.get(ask) {
            Err(Why::Kernel(Errno::NOENT, _)) => return Ok(Found::Same),
            other => drop(other?),
        }
        let mut ours = rules(socket, *family, table, chain)?;
        ours.retain(|row| self.marks(row));
        let whole = WAYS
            .iter()
            .all(|way| ours.iter().any(|row| self.is_for(row, *way)));
        Ok(match ours.len() {
            0 => Found::Absent,
            2 if whole => Found::Same,
            _ => Found::Changed,
        })
    }

    /// Inserts both, or none.
    pub fn insert(&self, socket: &mut Socket) -> Result<(), Why> {
        socket.batch(WAYS.map(|way| self.new_rule(way)).into())
    }

    /// Deletes every rule that bears the mark.
    pub fn remove(&self, socket: &mut Socket) -> Result<(), Why> {
        let Place {
            family,
            table,
            chain,
        } = self.place;
        let delete = |row: &Row| Some(self.delete(rule_of(row)?.get(rule::HANDLE)?));
        let mut ours = rules(socket, *family, table, chain)?;
        ours.retain(|row| self.marks(row));
        let batch: Vec<Message> = ours.iter().filter_map(delete).collect();
        match socket.batch(batch) {
            // The firewall was reloaded meanwhile, without our rules.
            Err(Why::Kernel(Errno::NOENT, _)) => Ok(()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nl::golden::say_the_same;
    use proptest::prelude::*;

    /// What the kernel reports of a rule that was sent like this.
    fn row(message: &mut Message) -> Row {
        let kind = NEWRULE;
        let (_, body) = message.seal(0, 0).split_at(crate::nl::message::HEADER);
        let body = body.to_vec();
        Row { kind, body }
    }

    /// Where the tests put rules.
    fn place() -> Place {
        Place {
            family: Family::Ipv4,
            table: "filter".into(),
            chain: DOCKER_USER.into(),
        }
    }

    #[test]
    fn what_nft_sends() {
        let accept = Accept {
            place: &place(),
            link: "kak-USER",
            mark: "kak:USER",
        };
        let mut insert = WAYS.map(|way| accept.new_rule(way));
        say_the_same(&mut insert, include_str!("../../../tests/golden/insert.nl"));
        let mut delete = [accept.delete(&3_u64.to_be_bytes())];
        say_the_same(&mut delete, include_str!("../../../tests/golden/delete.nl"));
    }

    #[test]
    fn a_rule_is_known_by_its_mark() {
        let place = place();
        let accept = |link, mark| Accept {
            place: &place,
            link,
            mark,
        };
        let ours = accept("kak-USER", "kak:USER");
        let row = row(&mut ours.new_rule(Meta::Iifname));
        assert!(ours.marks(&row) && ours.is_for(&row, Meta::Iifname));
        assert!(!ours.is_for(&row, Meta::Oifname));
        assert!(!accept("kak-USER", "kak:USE").marks(&row));
        assert!(!accept("kak-USE", "kak:USER").is_for(&row, Meta::Iifname));
    }

    proptest! {
        #[test]
        fn any_bytes(body: Vec<u8>) {
            let row = Row { kind: NEWRULE, body };
            forward_chain(&row);
            unconditional(&row);
            let place = place();
            let (link, mark) = ("kak-USER", "kak:USER");
            let accept = Accept { place: &place, link, mark };
            accept.marks(&row);
            accept.is_for(&row, Meta::Iifname);
        }

        #[test]
        fn any_user_data(bytes: Vec<u8>, text: String) {
            has_comment(&bytes, &text);
            prop_assert!(text.contains('\0') || text.len() > 200 || has_comment(&comment(&text), &text));
        }
    }
}
