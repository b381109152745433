//! /etc/passwd (passwd(5)) as bytes: looks users up, and changes one login shell with every other byte left as it is.
//! Pure and total. It reads no file, and knows nothing of the locks that an edit needs ([`crate::step::account`]).

use std::ffi::{OsStr, OsString};
use std::ops::Range;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

/// What a line says of a user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    /// The name.
    pub name: OsString,
    /// The number.
    pub uid: u32,
    /// The home directory.
    pub home: PathBuf,
}

/// The line that has this user id: the one of this name if there is one, else the first.
pub fn user(text: &[u8], uid: u32, name: Option<&OsStr>) -> Option<User> {
    let mut first = None;
    for user in text.split(|byte| *byte == b'\n').filter_map(parse) {
        if user.uid == uid {
            if name.is_none_or(|name| name == user.name) {
                return Some(user);
            }
            first.get_or_insert(user);
        }
    }
    first
}

/// Parses a line.
fn parse(line: &[u8]) -> Option<User> {
    let mut fields = line.split(|byte| *byte == b':');
    let name = fields.next()?;
    let uid = number(fields.nth(1)?)?;
    let home = fields.nth(2)?;
    Some(User {
        name: OsString::from_vec(name.to_vec()),
        uid,
        home: OsString::from_vec(home.to_vec()).into(),
    })
}

/// A user's login shell as it stands there; empty stands for /bin/sh.
pub fn shell<'a>(text: &'a [u8], name: &str) -> Option<&'a [u8]> {
    text.get(field(text, name)?)
}

/// The same text with another login shell of this user.
pub fn with_shell(text: &[u8], name: &str, shell: &[u8]) -> Option<Vec<u8>> {
    let field = field(text, name)?;
    let (before, after) = (text.get(..field.start)?, text.get(field.end..)?);
    Some([before, shell, after].concat())
}

/// Whether these bytes can be a login shell: they end neither the field nor the line.
pub fn is_field(bytes: &[u8]) -> bool {
    !bytes.iter().any(|byte| b":\n\0".contains(byte))
}

/// Where a user's login shell stands: the last field of the first line that is his. A line with other than seven
/// fields, or without numbers where they belong, is skipped, as by the C library and shadow's tools.
fn field(text: &[u8], name: &str) -> Option<Range<usize>> {
    let mut start = 0;
    for line in text.split(|byte| *byte == b'\n') {
        let end = start + line.len();
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        if let [first, _, uid, gid, _, _, shell] = fields.as_slice()
            && *first == name.as_bytes()
            && number(uid).is_some()
            && number(gid).is_some()
        {
            return Some(end - shell.len()..end);
        }
        start = end + 1;
    }
    None
}

/// A user's or a group's id.
fn number(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn users() {
        let text = b"# x\n+\nroot:x:0:0:root:/root:/bin/nssh\ntoor:x:0:0::/toor:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh";
        let found = |uid, name: Option<&str>| {
            user(text, uid, name.map(OsStr::new)).map(|user| (user.name, user.home))
        };
        let user = |name: &str, home: &str| Some((name.into(), home.into()));
        assert_eq!(found(1000, None), user("alice", "/home/alice"));
        assert_eq!(found(0, None), user("root", "/root"));
        assert_eq!(found(0, Some("toor")), user("toor", "/toor"));
        // A name whose line has another number does not count.
        assert_eq!(found(0, Some("alice")), user("root", "/root"));
        assert_eq!(found(1, None), None);
    }

    #[test]
    fn a_line_that_is_none_is_nobodys() {
        for line in [
            "#alice:x:1:1::/:/bin/sh",
            "+alice:x:1:1::/:/bin/sh",
            " alice:x:1:1::/:/bin/sh",
            "alice2:x:1:1::/:/bin/sh",
            "alice:x:1:1::/",
            "alice:x:1:1::/:/bin/sh:more",
            "alice:x::1::/:/bin/sh",
            "alice:x:1:-1::/:/bin/sh",
            "alice:x:1:4294967296::/:/bin/sh",
            "alice",
            "",
        ] {
            assert_eq!(shell(line.as_bytes(), "alice"), None, "{line}");
            let text = format!("{line}\nalice:x:1:1::/:/bin/zsh\nalice:x:1:1::/:/bin/sh\n");
            assert_eq!(shell(text.as_bytes(), "alice"), Some(&b"/bin/zsh"[..]));
        }
        assert_eq!(shell(b"alice:x:1:1::/:", "alice"), Some(&b""[..]));
        assert_eq!(shell(b":x:1:1::/:/bin/sh", ""), Some(&b"/bin/sh"[..]));
    }

    proptest! {
        #[test]
        fn any_bytes(text: Vec<u8>) {
            user(&text, 0, None);
            shell(&text, "alice");
            with_shell(&text, "alice", b"/bin/sh");
        }

        #[test]
        fn all_else_stays(before: Vec<u8>, after: Vec<u8>, old in "[^:\n\0]*", new in "[^:\n\0]*") {
            let line = |shell: &str| format!("alice:x:1000:1000:A. L.:/home/alice:{shell}");
            let text = |shell: &str| [&before[..], b"\n", line(shell).as_bytes(), b"\n", &after].concat();
            prop_assume!(shell(&before, "alice").is_none());
            let changed = with_shell(&text(&old), "alice", new.as_bytes()).unwrap();
            prop_assert_eq!(&changed, &text(&new));
            prop_assert_eq!(shell(&changed, "alice"), Some(new.as_bytes()));
            prop_assert!(is_field(new.as_bytes()));
        }
    }
}
