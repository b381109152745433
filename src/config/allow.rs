//! `--allow USER|GROUP`: who may join a jail without being root. The word, and what it means by the lines of
//! /etc/passwd (passwd(5)) and /etc/group (group(5)): pure and total, fed with both files' bytes.

use std::ffi::OsStr;
use std::fmt;

use crate::error::{Error, Result};

/// A user or a group. One word can name both, as most users have a group of their own name: then it means both.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Allow {
    /// By name.
    Name(String),
    /// By number.
    Number(u32),
}

/// The ids of a user, as the kernel has them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ids {
    /// His user id.
    pub user: u32,
    /// The ids of his group and of his supplementary groups.
    pub groups: Vec<u32>,
}

/// The accounts of a machine.
#[derive(Clone, Copy)]
pub struct Accounts<'a> {
    /// /etc/passwd.
    pub users: &'a [u8],
    /// /etc/group.
    pub groups: &'a [u8],
}

impl Allow {
    /// Parses the option's value.
    pub fn parse(word: &OsStr) -> Result<Self> {
        let wrong = || {
            Error::usage(format!(
                "--allow {word:?}: must be a user or a group, by name or number"
            ))
        };
        let name = word.to_str().ok_or_else(wrong)?;
        if let Some(number) = number(name.as_bytes()) {
            return Ok(Self::Number(number));
        }
        let odd = |c: char| c.is_control() || c.is_whitespace() || ":/,".contains(c);
        let digits = name.bytes().all(|byte| byte.is_ascii_digit());
        if digits || name.contains(odd) || name.starts_with(['-', '+', '#']) {
            return Err(wrong());
        }
        Ok(Self::Name(name.into()))
    }

    /// Whether there is such a user or group.
    pub fn is_known(&self, accounts: Accounts<'_>) -> bool {
        [accounts.users, accounts.groups]
            .iter()
            .any(|text| match self {
                Self::Name(name) => id(text, name).is_some(),
                Self::Number(number) => lines(text).any(|(_, id)| id == *number),
            })
    }

    /// Whether somebody is this user or in this group.
    pub fn admits(&self, who: &Ids, accounts: Accounts<'_>) -> bool {
        let (user, group) = match self {
            Self::Name(name) => (id(accounts.users, name), id(accounts.groups, name)),
            Self::Number(number) => (Some(*number), Some(*number)),
        };
        user == Some(who.user) || group.is_some_and(|group| who.groups.contains(&group))
    }
}

impl fmt::Display for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

/// The id that the first line of this name gives it.
fn id(text: &[u8], name: &str) -> Option<u32> {
    lines(text)
        .find(|(other, _)| *other == name.as_bytes())
        .map(|(_, id)| id)
}

/// The names and ids of either file, which are the first and the third field. A line without both is skipped, and so
/// are comments and lines that name another source (`+`, `-`).
fn lines(text: &[u8]) -> impl Iterator<Item = (&[u8], u32)> {
    text.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next()?;
        let other = matches!(name, [] | [b'#' | b'+' | b'-', ..]);
        (!other).then_some(())?;
        Some((name, number(fields.nth(1)?)?))
    })
}

/// An id: digits and nothing else. The greatest number is no id, since the kernel takes it for "leave it as it is".
fn number(text: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|number| digits && *number != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A machine with a user, a group, and names that mean something else in the other file.
    const ACCOUNTS: Accounts<'_> = Accounts {
        users: b"# x:x:7\n+::0:0\nroot:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\nalice:x:1:1::/:\nwheel:x:55:55::/:\n",
        groups: b"root:x:0:\nalice:x:1000:\nwheel:x:10:alice,bob\nstaff:x:50",
    };

    /// The option's value.
    fn allow(word: &str) -> Allow {
        Allow::parse(OsStr::new(word)).unwrap()
    }

    #[test]
    fn words() {
        assert_eq!(allow("alice"), Allow::Name("alice".into()));
        assert_eq!(allow("007"), Allow::Number(7));
        assert_eq!(allow("7up"), Allow::Name("7up".into()));
        for bad in [
            "",
            "-1",
            "+1",
            "#x",
            "a b",
            "a\nb",
            "a:b",
            "a/b",
            "a,b",
            "4294967295",
            "99999999999",
        ] {
            assert_eq!(
                Allow::parse(OsStr::new(bad)).unwrap_err().code(),
                2,
                "{bad}"
            );
        }
    }

    #[test]
    fn known() {
        for word in ["root", "alice", "wheel", "staff", "0", "50", "55", "1000"] {
            assert!(allow(word).is_known(ACCOUNTS), "{word}");
        }
        for word in ["bob", "x", "7", "11", "al", "alice2"] {
            assert!(!allow(word).is_known(ACCOUNTS), "{word}");
        }
    }

    #[test]
    fn admitted() {
        let alice = Ids {
            user: 1000,
            groups: vec![1000, 10],
        };
        for word in ["alice", "wheel", "1000", "10"] {
            assert!(allow(word).admits(&alice, ACCOUNTS), "{word}");
        }
        for word in ["root", "staff", "0", "50", "bob", "55", "1"] {
            assert!(!allow(word).admits(&alice, ACCOUNTS), "{word}");
        }
        // The user wheel, without the group; a second line of the same name does not count.
        let others = [55, 1].map(|user| Ids {
            user,
            groups: vec![],
        });
        assert!(allow("wheel").admits(&others[0], ACCOUNTS));
        assert!(!allow("alice").admits(&others[1], ACCOUNTS));
    }

    proptest! {
        #[test]
        fn any_bytes(users: Vec<u8>, groups: Vec<u8>, user: u32) {
            let accounts = Accounts { users: &users, groups: &groups };
            let nobody = Ids { user, groups: vec![user] };
            allow("alice").is_known(accounts);
            // Whatever the files say, a number is that number.
            prop_assert_eq!(allow("1000").admits(&nobody, accounts), user == 1000);
        }

        #[test]
        fn words_come_back(word in "[a-z0-9_.$-]{1,9}") {
            if let Ok(allow) = Allow::parse(OsStr::new(&word)) {
                prop_assert_eq!(Allow::parse(OsStr::new(&allow.to_string())).unwrap(), allow);
            }
        }
    }
}
