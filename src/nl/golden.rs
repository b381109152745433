//! Messages as trees, so that ours can be compared with recorded ones of `ip` and `nft` (`tests/golden`, made by
//! `scripts/golden`): the order of attributes, NLA_F_NESTED and the NUL at a string's end are the sender's choice. Only
//! for tests.

use super::flags::APPEND;
use super::message::{Attrs, HEADER, Message, Messages};

/// The bytes of a recorded message.
pub fn recorded(text: &str) -> Vec<u8> {
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    rows.flat_map(str::split_whitespace)
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

/// An attribute's number and what is in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Node {
    /// Bytes, without zeroes at their end.
    Leaf(u16, Vec<u8>),
    /// Attributes, sorted, after a fixed part.
    Nest(u16, Vec<u8>, Vec<Node>),
}

/// The first message of some bytes: type, flags, fixed part and attributes.
pub fn tree(bytes: &[u8], fixed: usize) -> (u16, u16, Vec<u8>, Vec<Node>) {
    let message = Messages(bytes).next().unwrap();
    let (head, rest) = message.body.split_at(fixed);
    (
        message.kind,
        message.flags,
        head.to_vec(),
        nodes(rest).unwrap(),
    )
}

/// The messages in some bytes, each by itself.
pub fn each(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    while bytes.len() >= HEADER {
        let length = usize::try_from(u32::from_ne_bytes(bytes[..4].try_into().unwrap())).unwrap();
        let (message, rest) = bytes.split_at(length.next_multiple_of(4));
        all.push(message);
        bytes = rest;
    }
    all
}

/// Bytes as attributes, if they are nothing else.
fn nodes(bytes: &[u8]) -> Option<Vec<Node>> {
    let mut covered = 0;
    let mut nodes = Vec::new();
    for (kind, payload) in Attrs(bytes) {
        covered += (4 + payload.len()).next_multiple_of(4);
        // A link within a link (a veth's peer) has a fixed part of its own.
        let link = payload
            .split_at_checked(16)
            .filter(|(head, rest)| *head == [0; 16] && !rest.is_empty());
        nodes.push(
            match (
                nodes_of(payload),
                link.and_then(|(head, rest)| Some((head, nodes_of(rest)?))),
            ) {
                (Some(inside), _) => Node::Nest(kind, Vec::new(), inside),
                (None, Some((head, inside))) => Node::Nest(kind, head.to_vec(), inside),
                (None, None) => Node::Leaf(kind, bare(payload)),
            },
        );
    }
    // A stable sort: the elements of a list all have the same number, and their order counts.
    nodes.sort_by_key(Node::number);
    (covered == bytes.len().next_multiple_of(4)).then_some(nodes)
}

/// The attributes in a payload, if there are any and nothing else.
fn nodes_of(payload: &[u8]) -> Option<Vec<Node>> {
    nodes(payload).filter(|nodes| !nodes.is_empty() && nodes.iter().all(|node| node.number() < 64))
}

/// Bytes without the zeroes at their end.
fn bare(payload: &[u8]) -> Vec<u8> {
    let end = payload
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    payload[..end].to_vec()
}

impl Node {
    /// The attribute's number.
    fn number(&self) -> u16 {
        match self {
            Self::Leaf(number, _) | Self::Nest(number, _, _) => *number,
        }
    }
}

/// Asserts that a recorded batch of nft's has our messages in it, and no others.
pub fn say_the_same(ours: &mut [Message], text: &str) {
    let bytes = recorded(text);
    // The first and the last message begin and end the batch.
    let theirs: Vec<_> = each(&bytes).into_iter().map(|one| tree(one, 4)).collect();
    let theirs = &theirs[1..theirs.len() - 1];
    let ours: Vec<_> = ours.iter_mut().map(|one| tree(one.seal(0, 0), 4)).collect();
    assert_eq!(ours.len(), theirs.len());
    // nft makes all chains before the first rule, and sets no NLM_F_EXCL; only NLM_F_APPEND is compared.
    for ours in &ours {
        let same = |theirs: &&(u16, u16, Vec<u8>, Vec<Node>)| {
            let (kind, flags, head, nodes) = theirs;
            (*kind, flags & APPEND, head) == (ours.0, ours.1 & APPEND, &ours.2)
                && say(nodes, &ours.3)
        };
        assert!(
            theirs.iter().any(|theirs| same(&theirs)),
            "{ours:?}\nis not one of\n{theirs:?}"
        );
    }
}

/// Whether `theirs` have all of our attributes, in our order. They may have more, which are defaults, but no further
/// element of a list.
pub fn say(theirs: &[Node], ours: &[Node]) -> bool {
    let elements = |nodes: &[Node]| {
        nodes
            .iter()
            .filter(|node| matches!(node, Node::Nest(1, _, _)))
            .count()
    };
    let mut theirs_left = theirs.iter();
    elements(theirs) == elements(ours)
        && ours.iter().all(|ours| {
            theirs_left.any(|theirs| match (theirs, ours) {
                (Node::Nest(a, _, theirs), Node::Nest(b, _, ours)) => a == b && say(theirs, ours),
                (theirs, ours) => theirs == ours,
            })
        })
}
