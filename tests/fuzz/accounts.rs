//! /etc/passwd, /etc/group and /etc/shells.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use super::line;
use crate::config::{Accounts, Allow, Ids};
use crate::doctor::files;
use crate::passwd;
use crate::step::line::{Line, Was};

/// A line with a user's name, one with the login shell to set, and a passwd.
pub fn passwd(input: &[u8]) {
    let (name, rest) = line(input);
    let (new, text) = line(rest);
    files::unlisted(text, new);
    allowed(name, text);
    let Ok(name) = str::from_utf8(name) else {
        return;
    };
    let old = passwd::shell(text, name);
    let changed = passwd::with_shell(text, name, new);
    assert_eq!(old.is_some(), changed.is_some());
    let (Some(old), Some(changed), true) = (old, changed, passwd::is_field(new)) else {
        return;
    };
    assert!(passwd::is_field(old) || old.contains(&0));
    assert_eq!(passwd::shell(&changed, name), Some(new));
    // One field of one line changes,
    let lines = |text: &[u8]| {
        text.split(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect::<Vec<_>>()
    };
    let (before, after) = (lines(text), lines(&changed));
    assert_eq!(before.len(), after.len());
    let differ: Vec<_> = before.iter().zip(&after).filter(|(a, b)| a != b).collect();
    assert_eq!(differ.len(), usize::from(old != new));
    for (before, after) in differ {
        assert_eq!(before.strip_suffix(old), after.strip_suffix(new));
        assert!(before.starts_with(name.as_bytes()));
    }
    // lookups by UID give the same users,
    for uid in [0, 1000] {
        assert_eq!(
            passwd::user(text, uid, None),
            passwd::user(&changed, uid, None)
        );
        let named = Some(OsStr::new(name));
        assert_eq!(
            passwd::user(text, uid, named),
            passwd::user(&changed, uid, named)
        );
    }
    // and restoring the shell restores every byte.
    assert_eq!(
        passwd::with_shell(&changed, name, old).as_deref(),
        Some(text)
    );
}

/// Whom a word of --allow admits, given a passwd and a group file.
fn allowed(word: &[u8], text: &[u8]) {
    let Ok(allow) = Allow::parse(OsStr::from_bytes(word)) else {
        return;
    };
    let (users, groups) = text.split_at(text.len() / 2);
    let accounts = Accounts { users, groups };
    let who = |user: u32| Ids {
        user,
        groups: vec![user],
    };
    let nobody = who(4_000_000_000);
    if allow.admits(&nobody, accounts) {
        assert!(allow.is_known(accounts) || matches!(allow, Allow::Number(_)));
    }
    // Without any account a name admits nobody.
    let none = Accounts {
        users: &[],
        groups: &[],
    };
    assert!(matches!(allow, Allow::Number(_)) || !allow.admits(&who(0), none));
}

/// The text of /etc/shells before nssh is added to it, and the text that others append later, separated by a line `--`.
pub fn shells(input: &[u8]) {
    let parts = input.windows(4).position(|bytes| bytes == b"\n--\n");
    let (text, later) = parts.map_or((input, &[][..]), |at| (&input[..=at], &input[at + 4..]));
    for text in [text, text.strip_suffix(b"\n").unwrap_or(text)] {
        let was = match text.last() {
            None | Some(b'\n') => Was::Whole,
            Some(_) => Was::Unterminated,
        };
        let line = Line::login_shell(was);
        if line.is_in(text) {
            continue;
        }
        let put = [text, &line.added()].concat();
        assert!(line.is_in(&put));
        assert_eq!(line.without(&put), text);
        // Every line that others have written since stays.
        let more = [&put, later].concat();
        let left = line.without(&more);
        let lines = |text: &[u8]| {
            let mut lines: Vec<_> = text
                .split(|byte| *byte == b'\n')
                .map(<[u8]>::to_vec)
                .collect();
            lines.retain(|line| !line.is_empty());
            lines.sort();
            lines
        };
        assert_eq!(lines(&left), lines(&[text, b"\n", later].concat()));
    }
}
