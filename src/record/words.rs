//! Parses the words of a record that stand for other types; each function returns none for a word that is not valid.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use crate::facts::resolvers::ResolvConf;
use crate::facts::{Entry, Kind};
use crate::nl::nft::Family;
use crate::nl::nft::foreign::Place;
use crate::step::line::Was;

/// `yes` or `no`.
pub fn yes(word: &OsStr) -> Option<bool> {
    match word.to_str()? {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

/// What a file was like.
pub fn was(word: &OsStr) -> Option<Was> {
    Was::ALL.into_iter().find(|was| word == was.word())
}

/// What the machine's resolv.conf is.
pub fn outer(word: &OsStr) -> Option<ResolvConf> {
    ResolvConf::ALL
        .into_iter()
        .find(|outer| word == outer.word())
}

/// A chain of somebody else's firewall.
pub fn place(family: &OsStr, table: &OsStr, chain: &OsStr) -> Option<Place> {
    let mut families = Family::ALL.into_iter();
    Some(Place {
        family: families.find(|known| *family == *known.to_string())?,
        table: table.to_str()?.into(),
        chain: chain.to_str()?.into(),
    })
}

/// A name at the top level; a path is refused.
pub fn entry(name: OsString, kind: Kind) -> Option<Entry> {
    is_name(&name).then_some(Entry { name, kind })
}

/// A link's name.
pub fn link(name: OsString) -> Option<String> {
    name.into_string()
        .ok()
        .filter(|name| is_name(name.as_ref()))
}

/// Whether a word is one name in a directory.
fn is_name(word: &OsStr) -> bool {
    !word.is_empty() && !word.as_bytes().contains(&b'/') && word != "." && word != ".."
}
