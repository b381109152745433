//! The filter table of legacy iptables, before nf_tables (linux/netfilter_ipv4/ip_tables.h), as far as it decides on
//! forwarded packets. Read, never written. Pure: the bytes come from [`crate::sys::iptables_get`].
//!
//! ```text
//! struct ipt_getinfo:     name 32 | valid_hooks u32 | hook_entry u32 x 5 | underflow u32 x 5 | num_entries u32 | size u32
//! struct ipt_get_entries: name 32 | size u32 | padding to 40 | entry ...
//! struct ipt_entry:       ipt_ip 84 | nfcache u32 | target_offset u16 | next_offset u16 | comefrom u32 | counters 16
//!                         | match ... | target
//! match and target:       size u16 | name 29 | revision u8 | (a verdict's number i32, where the target has no name) ...
//! ```

/// How many bytes `struct ipt_getinfo` has.
pub const INFO: usize = 84;
/// Where the entries begin in `struct ipt_get_entries`.
pub const ENTRIES: usize = 40;
/// How many bytes the name of a table has.
pub const NAME: usize = 32;
/// `NF_INET_FORWARD`.
const FORWARD: usize = 2;
/// How many bytes an entry has before its matches.
const ENTRY: usize = 112;
/// How many of them are `struct ipt_ip`, which says which packets it is for.
const IP: usize = 84;
/// Where in that the incoming link's name is; the outgoing one's follows, then the masks of both.
const LINKS: usize = 16;
/// `IFNAMSIZ`.
const LINK: usize = 16;
/// How many bytes of header a match or a target has.
const HEAD: usize = 32;
/// `-NF_DROP - 1`.
const DROP: i32 = -1;
/// `-NF_ACCEPT - 1`.
const ACCEPT: i32 = -2;

/// How large `struct ipt_get_entries` is for the table that `info` (`struct ipt_getinfo`) describes.
pub fn size(info: &[u8]) -> Option<usize> {
    usize::try_from(word(info, INFO - 4)?)
        .ok()?
        .checked_add(ENTRIES)
}

/// Whether the table drops packets forwarded from a link, or to it: by its policy or by its last rule, unless rules
/// accept all of them, both ways, before. None where the bytes are no such table.
pub fn drops(info: &[u8], entries: &[u8], link: &str) -> Option<bool> {
    let at = |list: usize| usize::try_from(word(info, NAME + 4 + 4 * (5 * list + FORWARD))?).ok();
    let (mut at, end) = (at(0)?, at(1)?);
    let entries = entries.get(ENTRIES..)?;
    let policy = Entry::at(entries, end)?.verdict() == Some(DROP);
    let (mut last_drops, mut ways) = (false, [false; 2]);
    while at < end {
        let entry = Entry::at(entries, at)?;
        last_drops = entry.is_for_all() && entry.refuses();
        for (n, way) in ways.iter_mut().enumerate() {
            *way |= entry.accepts(n, link);
        }
        at = at.checked_add(entry.0.len())?;
    }
    Some((policy || last_drops) && ways != [true; 2])
}

/// A rule, or a chain's policy.
struct Entry<'a>(&'a [u8]);

impl<'a> Entry<'a> {
    /// The one that begins there.
    fn at(entries: &'a [u8], at: usize) -> Option<Self> {
        let rest = entries.get(at..)?;
        let length = usize::from(half(rest, IP + 6)?);
        // An entry of length 0 would be read for ever.
        (length > ENTRY).then_some(())?;
        rest.get(..length).map(Self)
    }

    /// Where its target begins.
    fn target(&self) -> Option<&'a [u8]> {
        self.0.get(usize::from(half(self.0, IP + 4)?)..)
    }

    /// Its verdict, where its target is one (and has no name).
    fn verdict(&self) -> Option<i32> {
        let target = self.target()?;
        name(target)?.is_empty().then_some(())?;
        word(target, HEAD).map(u32::cast_signed)
    }

    /// Whether it drops or rejects the packets that it is for.
    fn refuses(&self) -> bool {
        let target = self.target().and_then(name).unwrap_or_default();
        self.verdict() == Some(DROP) || target == b"REJECT"
    }

    /// Whether it has no match but comments.
    fn has_no_match(&self) -> bool {
        let Some(target) = half(self.0, IP + 4).map(usize::from) else {
            return false;
        };
        let mut at = ENTRY;
        while at < target {
            let rest = self.0.get(at..).unwrap_or_default();
            let size = half(rest, 0).map_or(0, usize::from);
            if size == 0 || name(rest) != Some(b"comment") {
                return false;
            }
            at += size;
        }
        true
    }

    /// Whether it is for every packet.
    fn is_for_all(&self) -> bool {
        let ip = self.0.get(..IP).unwrap_or_default();
        ip.iter().all(|byte| *byte == 0) && self.has_no_match()
    }

    /// Whether it accepts every packet that comes by a link (way 0), or that leaves by it (way 1).
    fn accepts(&self, way: usize, link: &str) -> bool {
        let field = |mut bytes: Vec<u8>| {
            bytes.resize(LINK, 0);
            bytes
        };
        let pair = |one| {
            let none = field(Vec::new());
            if way == 0 { [one, none] } else { [none, one] }.concat()
        };
        // The mask covers the zero after the name, too, so that no longer name matches.
        let (names, masks) = (field(link.into()), field(vec![0xff; link.len() + 1]));
        let wanted = [vec![0; LINKS], pair(names), pair(masks), vec![0; 4]].concat();
        self.0.starts_with(&wanted) && self.has_no_match() && self.verdict() == Some(ACCEPT)
    }
}

/// The name of a match or a target, without the zeroes at its end.
fn name(extension: &[u8]) -> Option<&[u8]> {
    let name = extension.get(2..HEAD - 1)?;
    name.split(|byte| *byte == 0).next()
}

/// The number of two bytes at a place.
fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..)?.get(..2)?;
    bytes.try_into().ok().map(u16::from_ne_bytes)
}

/// The number of four bytes at a place.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.get(..4)?;
    bytes.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An entry: what it is for, its matches' names, its target's name, and a verdict.
    fn entry(ip: &[u8], matches: &[&str], target: &str, verdict: i32) -> Vec<u8> {
        let extension = |name: &str, own: &[u8]| {
            let mut bytes = u16::try_from(HEAD + own.len())
                .unwrap()
                .to_ne_bytes()
                .to_vec();
            bytes.extend(name.bytes());
            bytes.resize(HEAD, 0);
            [bytes, own.to_vec()].concat()
        };
        let mut bytes = ip.to_vec();
        bytes.resize(ENTRY, 0);
        for name in matches {
            bytes.extend(extension(name, &[7; 8]));
        }
        let at = u16::try_from(bytes.len()).unwrap();
        bytes.extend(extension(target, &verdict.to_ne_bytes()));
        bytes.extend([0; 4]);
        let length = u16::try_from(bytes.len()).unwrap();
        bytes[IP + 4..IP + 6].copy_from_slice(&at.to_ne_bytes());
        bytes[IP + 6..IP + 8].copy_from_slice(&length.to_ne_bytes());
        bytes
    }

    /// The `struct ipt_ip` of a rule for one link.
    fn by(way: usize, link: &str) -> Vec<u8> {
        let mut ip = vec![0; IP];
        let (name, mask) = (LINKS + way * LINK, LINKS + (2 + way) * LINK);
        ip[name..name + link.len()].copy_from_slice(link.as_bytes());
        ip[mask..=mask + link.len()].fill(0xff);
        ip
    }

    /// What [`drops`] says of a FORWARD chain of these rules and this policy, after an INPUT chain.
    fn of(rules: &[Vec<u8>], policy: i32) -> Option<bool> {
        let input = entry(&[], &[], "", DROP);
        let all = [&[input.clone()][..], rules, &[entry(&[], &[], "", policy)]].concat();
        let end = all[..all.len() - 1].concat().len();
        let mut info = vec![0; INFO];
        let mut put = |at: usize, value: usize| {
            info[at..at + 4].copy_from_slice(&u32::try_from(value).unwrap().to_ne_bytes());
        };
        put(NAME + 4 + 4 * FORWARD, input.len());
        put(NAME + 4 + 4 * (5 + FORWARD), end);
        put(INFO - 4, all.concat().len());
        let entries = [vec![0; ENTRIES], all.concat()].concat();
        assert_eq!(size(&info), Some(entries.len()));
        drops(&info, &entries, "kak-USER")
    }

    #[test]
    fn by_policy() {
        assert_eq!(of(&[], ACCEPT), Some(false));
        assert_eq!(of(&[], DROP), Some(true));
    }

    #[test]
    fn by_the_last_rule() {
        let reject = entry(&[], &["comment"], "REJECT", 0);
        assert_eq!(of(std::slice::from_ref(&reject), ACCEPT), Some(true));
        assert_eq!(of(&[entry(&[], &[], "", DROP)], ACCEPT), Some(true));
        // Only a rule for every packet, and only if it is the last.
        assert_eq!(
            of(&[reject.clone(), entry(&[], &[], "LOG", 0)], ACCEPT),
            Some(false)
        );
        assert_eq!(
            of(&[entry(&[], &["state"], "REJECT", 0)], ACCEPT),
            Some(false)
        );
        assert_eq!(
            of(&[entry(&by(0, "eth0"), &[], "", DROP)], ACCEPT),
            Some(false)
        );
    }

    #[test]
    fn but_not_what_is_accepted_before() {
        let accept = |way, link| entry(&by(way, link), &["comment"], "", ACCEPT);
        let both = [accept(0, "kak-USER"), accept(1, "kak-USER")];
        assert_eq!(of(&both, DROP), Some(false));
        assert_eq!(of(&both[..1], DROP), Some(true));
        assert_eq!(
            of(&[accept(0, "kak-USE"), accept(1, "kak-USER")], DROP),
            Some(true)
        );
    }

    proptest! {
        #[test]
        fn any_bytes(info: Vec<u8>, entries: Vec<u8>) {
            size(&info);
            drops(&info, &entries, "kak-USER");
        }

        #[test]
        fn any_table(words: [u32; 13], entries in proptest::collection::vec(0_u8..4, 0..2000)) {
            let mut info = vec![0; NAME];
            info.extend(words.iter().flat_map(|word| (word % 512).to_ne_bytes()));
            drops(&info, &entries, "kak-USER");
        }
    }
}
